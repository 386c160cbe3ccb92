//! What one connection over loopback carries, both ends in this process.
//!
//! ```sh
//! cargo run --release -p zssp --example throughput -- [message bytes] [MiB] [MTU] [threads] [tasks each way]
//! ```

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zssp::{Bytes, Connection, Endpoint, SecretKey};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const MIB: f64 = 1024.0 * 1024.0;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
    let (size, mib, mtu, threads) = (number(60_000)?, number(1024)?, number(1400)?, number(2)?);
    let tasks = number(1)?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()?
        .block_on(async move { tokio::spawn(measure(size, mib << 20, mtu, tasks)).await? })
}

async fn measure(size: usize, total: usize, mtu: usize, tasks: usize) -> Result<(), Failure> {
    let (client, server) = (endpoint(mtu, tasks).await?, endpoint(mtu, tasks).await?);
    let (address, key) = (server.local_addr(), server.public_key());
    let start = Instant::now();
    let accepting = {
        let server = server.clone();
        tokio::spawn(async move {
            let incoming = server.accept().await.ok_or("the endpoint closed")?;
            Ok::<_, Failure>(incoming.accept().await?)
        })
    };
    let here = client.connect(address, key).await?;
    let there = accepting.await??;
    println!("handshake: {:.2} ms, {:?}", start.elapsed().as_secs_f64() * 1e3, here.suite());

    let message = Bytes::from(vec![0x5a; size]);
    bulk(&here, &there, &message, total).await?;
    println!("sender:   {:?}\nreceiver: {:?}", here.stats(), there.stats());
    stream(&here, &there, size, total).await?;
    datagrams(&here, &there, &message, total).await?;
    requests(&here, &there).await?;
    println!("sender:   {:?}\nreceiver: {:?}", here.stats(), there.stats());
    println!("client:   {:?}\nserver:   {:?}", client.stats(), server.stats());
    here.close(0, b"measured").await;
    Ok(())
}

async fn endpoint(mtu: usize, tasks: usize) -> Result<Endpoint, Failure> {
    Ok(Endpoint::builder(SecretKey::generate()?)
        .mtu(mtu)
        .send_tasks(tasks)
        .receive_tasks(tasks)
        .bind("127.0.0.1:0")
        .await?)
}

/// One way, reliable, unordered.
async fn bulk(here: &Connection, there: &Connection, message: &Bytes, total: usize) -> Result<(), Failure> {
    let count = total.div_ceil(message.len());
    let (start, cpu) = (Instant::now(), cpu_time());
    let receiver = there.channel(0)?;
    let receiving = tokio::spawn(async move {
        for _ in 0..count {
            drop(receiver.receive().await?);
        }
        Some(())
    });
    let sender = here.channel(0)?;
    for _ in 0..count {
        sender.send(message.clone()).await?;
    }
    sender.flush().await?;
    receiving.await?.ok_or("the connection ended")?;
    report("messages", count * message.len(), count, start.elapsed(), cpu_time() - cpu);
    Ok(())
}

/// One way, a stream of bytes, written and read in pieces of `size`.
async fn stream(here: &Connection, there: &Connection, size: usize, total: usize) -> Result<(), Failure> {
    let (start, cpu) = (Instant::now(), cpu_time());
    let (mut send, _) = here.open_stream().await?;
    let there = there.clone();
    let receiving = tokio::spawn(async move {
        let (_, mut receive) = there.accept_stream().await?;
        let (mut buffer, mut bytes) = (vec![0; size], 0);
        loop {
            match receive.read(&mut buffer).await? {
                0 => return Ok::<_, Failure>(bytes),
                read => bytes += read,
            }
        }
    });
    let piece = vec![0x5a; size];
    let count = total.div_ceil(size);
    for _ in 0..count {
        send.write_all(&piece).await?;
    }
    send.finish()?;
    let bytes = receiving.await??;
    assert_eq!(bytes, count * size);
    report("stream", bytes, count, start.elapsed(), cpu_time() - cpu);
    Ok(())
}

/// One way, unreliable: counts what arrives until a marker that is repeated until it does.
async fn datagrams(
    here: &Connection,
    there: &Connection,
    message: &Bytes,
    total: usize,
) -> Result<(), Failure> {
    let count = total.div_ceil(message.len());
    let (start, cpu) = (Instant::now(), cpu_time());
    let receiver = there.clone();
    let receiving = tokio::spawn(async move {
        let (mut bytes, mut datagrams, mut last) = (0, 0, Instant::now());
        loop {
            let datagram = receiver.read_datagram().await?;
            if datagram.is_empty() {
                return Ok::<_, Failure>((bytes, datagrams, last));
            }
            bytes += datagram.len();
            datagrams += 1;
            last = Instant::now();
        }
    });
    for _ in 0..count {
        here.send_datagram(message.clone()).await?;
    }
    while !receiving.is_finished() {
        here.send_datagram(Bytes::new()).await?;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (bytes, arrived, last) = receiving.await??;
    report("datagrams", bytes, arrived, last - start, cpu_time() - cpu);
    println!("  of {count} datagrams {:.2} % arrived", 100.0 * arrived as f64 / count as f64);
    Ok(())
}

/// 64 bytes there and back, 1 and 64 at a time.
async fn requests(here: &Connection, there: &Connection) -> Result<(), Failure> {
    let server = there.channel(0)?;
    let serving = tokio::spawn(async move {
        while let Some(message) = server.receive().await {
            let data = message.data().clone();
            if message.reply(data).is_err() {
                break;
            }
        }
    });
    for at_once in [1, 64] {
        let (start, cpu, count) = (Instant::now(), cpu_time(), 20_000 * at_once.min(8));
        let channel = here.channel(0)?;
        let tasks: Vec<_> = (0..at_once)
            .map(|_| {
                let channel = channel.clone();
                tokio::spawn(async move {
                    for _ in 0..count / at_once {
                        channel.request(Bytes::from_static(&[7; 64])).await?;
                    }
                    Ok::<_, Failure>(())
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        report(&format!("requests, {at_once} at once"), count * 64, count, start.elapsed(), cpu_time() - cpu);
    }
    serving.abort();
    Ok(())
}

fn report(what: &str, bytes: usize, count: usize, time: Duration, cpu: Duration) {
    let (seconds, cpu) = (time.as_secs_f64(), cpu.as_secs_f64());
    println!(
        "{what}: {:.0} MiB/s, {:.0}/s, {:.0} MiB per CPU-second",
        bytes as f64 / MIB / seconds,
        count as f64 / seconds,
        bytes as f64 / MIB / cpu.max(1e-9),
    );
}

/// CPU time of this process, user and system; zero where the system does not tell.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<u64> = stat
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .filter_map(|field| field.parse().ok())
        .collect();
    // After the name come the state (no number) and ten numbers before utime and stime, in hundredths of a second.
    let ticks: u64 = fields.iter().skip(10).take(2).sum();
    Duration::from_millis(ticks * 10)
}
