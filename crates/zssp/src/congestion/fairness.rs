//! Two flows that share a bottleneck, for a minute on a paused clock: two of ours, and one of ours beside a flow of another
//! make, as simple as the RFCs describe it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::NewReno;
use crate::link::memory::{Bottleneck, Conditions, MemoryLink, Network};
use crate::link::{Link, ReceiveBatch};
use crate::{Builder, Endpoint, SecretKey};

const MS: Duration = Duration::from_millis(1);

/// Ten megabits a second, 40 ms there and back, and a queue of as much as is under way on it.
const ROAD: Conditions = Conditions {
    delay: Duration::from_millis(20),
    duplication: 0.0,
    loss: 0.0,
    mtu: None,
    bottleneck: Some(Bottleneck { rate: 1_250_000, queue: 50_000 }),
    reordering: 0.0,
};

/// What is shared is the way to this host, so both flows go there.
const HOST: u8 = 9;

fn address(host: u8, port: u16) -> SocketAddr {
    ([10, 0, 0, host], port).into()
}

fn endpoint(network: &Network, host: u8, set: &impl Fn(Builder) -> Builder) -> Endpoint {
    let link = network.attach(address(host, 1)).unwrap();
    let builder = Endpoint::builder(SecretKey::generate().unwrap()).handshakes(1, 128).max_mtu(1400);
    set(builder).bind_link(link).unwrap()
}

/// A stream of ours that always has something to send, to a server at `HOST`. Counts what arrives.
async fn ours(
    network: &Network,
    host: u8,
    server: &Endpoint,
    set: &impl Fn(Builder) -> Builder,
) -> Arc<AtomicU64> {
    let client = endpoint(network, host, set);
    let accept = async { server.accept().await.unwrap().accept().await.unwrap() };
    let connect = async { client.connect(server.local_addr(), server.public_key()).await.unwrap() };
    let (here, there) = tokio::join!(connect, accept);
    let received = Arc::new(AtomicU64::new(0));
    let count = received.clone();
    tokio::spawn(async move {
        let (mut send, _receive) = here.open_stream().await.unwrap();
        while send.write_chunk(vec![0; 60_000]).await.is_ok() {}
        drop(client);
    });
    tokio::spawn(async move {
        let (_send, mut receive) = there.accept_stream().await.unwrap();
        while let Ok(Some(chunk)) = receive.read_chunk().await {
            count.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
    });
    received
}

/// A window in datagrams, as the textbook has it.
#[derive(Debug, Clone, Copy)]
enum Textbook {
    /// RFC 9438: the window before the last loss, and when that was.
    Cubic { max: f64, lost: Option<Instant> },
    /// RFC 5681.
    Reno,
}

#[derive(Debug)]
struct Window {
    size: f64,
    threshold: f64,
    rule: Textbook,
}

impl Window {
    fn new(rule: Textbook) -> Self {
        Self { size: 10.0, threshold: f64::INFINITY, rule }
    }

    fn acknowledged(&mut self, now: Instant, rtt: Duration) {
        if self.size < self.threshold {
            self.size += 1.0;
            return;
        }
        match self.rule {
            Textbook::Reno => self.size += 1.0 / self.size,
            Textbook::Cubic { max, lost } => {
                let (since, rtt) = (lost.map_or(0.0, |lost| (now - lost).as_secs_f64()), rtt.as_secs_f64());
                let k = (max * 0.3 / 0.4).cbrt();
                let target = 0.4 * (since + rtt - k).powi(3) + max;
                let friendly = max * 0.7 + 3.0 * 0.3 / 1.7 * since / rtt;
                if target.max(friendly) > self.size {
                    self.size += (target.max(friendly) - self.size).min(self.size / 2.0) / self.size;
                }
            }
        }
    }

    fn lost(&mut self, now: Instant) {
        let keep = match &mut self.rule {
            Textbook::Reno => 0.5,
            Textbook::Cubic { max, lost } => {
                (*max, *lost) = (if self.size < *max { self.size * 0.85 } else { self.size }, Some(now));
                0.7
            }
        };
        self.size = (self.size * keep).max(2.0);
        self.threshold = self.size;
    }

    fn timed_out(&mut self) {
        self.threshold = (self.size / 2.0).max(2.0);
        self.size = 2.0;
    }
}

async fn receive(link: &MemoryLink, batch: &mut ReceiveBatch) -> Vec<(SocketAddr, Vec<u8>)> {
    (link as &dyn Link).receive(batch).await.unwrap();
    batch.datagrams().map(|(from, bytes)| (from, bytes.to_vec())).collect()
}

/// A flow of datagrams of 1400 bytes, each acknowledged by itself: one that was overtaken by three is lost, and all are
/// after a silence. It has nothing in common with ours, and paces nothing.
fn reference(network: &Network, host: u8, rule: Textbook) -> Arc<AtomicU64> {
    const LEN: usize = 1400;
    let received = Arc::new(AtomicU64::new(0));
    let sink = network.attach(address(HOST, 1000 + u16::from(host))).unwrap();
    let (link, to) = (network.attach(address(host, 1)).unwrap(), sink.local_addr());
    let count = received.clone();
    tokio::spawn(async move {
        let mut batch = ReceiveBatch::new();
        loop {
            for (from, bytes) in receive(&sink, &mut batch).await {
                count.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                sink.try_send(from, &bytes[..8], 8).unwrap();
            }
        }
    });
    tokio::spawn(async move {
        let (mut batch, mut window) = (ReceiveBatch::new(), Window::new(rule));
        let (mut number, mut rtt) = (0u64, 50 * MS);
        // Losses of what was sent before the last reduction belong to it.
        let mut recovered = 0;
        let mut under_way: BTreeMap<u64, Instant> = BTreeMap::new();
        loop {
            let now = Instant::now();
            while (under_way.len() as f64) < window.size {
                let mut datagram = [0; LEN];
                datagram[..8].copy_from_slice(&number.to_be_bytes());
                link.try_send(to, &datagram, LEN).unwrap();
                under_way.insert(number, now);
                number += 1;
            }
            let Ok(acks) = tokio::time::timeout(250 * MS, receive(&link, &mut batch)).await else {
                under_way.clear();
                window.timed_out();
                continue;
            };
            let now = Instant::now();
            for (_, ack) in acks {
                let acked = u64::from_be_bytes(ack[..8].try_into().unwrap());
                let Some(sent) = under_way.remove(&acked) else { continue };
                rtt = (rtt * 7 + (now - sent)) / 8;
                if acked >= recovered {
                    window.acknowledged(now, rtt);
                }
                while let Some((&oldest, _)) =
                    under_way.first_key_value().filter(|&(&oldest, _)| oldest + 3 <= acked)
                {
                    under_way.remove(&oldest);
                    if oldest >= recovered {
                        recovered = number;
                        window.lost(now);
                    }
                }
            }
        }
    });
    received
}

/// The parts of the road that two flows get in a minute, after ten seconds to find their places.
async fn shares(flows: [&AtomicU64; 2]) -> [f64; 2] {
    let read = || flows.map(|flow| flow.load(Ordering::Relaxed) as f64);
    sleep(Duration::from_secs(10)).await;
    let before = read();
    sleep(Duration::from_secs(60)).await;
    let after = read();
    [0, 1].map(|flow| (after[flow] - before[flow]) / 75e6)
}

/// Jain's index of the parts of the road that two flows get.
fn index(name: &str, [a, b]: [f64; 2]) -> f64 {
    let index = (a + b).powi(2) / (2.0 * (a * a + b * b));
    println!("{name}: {:.1} % and {:.1} % of the road, Jain's index {index:.3}", a * 100.0, b * 100.0);
    assert!(a + b > 0.8, "the road is not used");
    index
}

#[tokio::test(start_paused = true)]
async fn two_flows_of_ours_share_a_bottleneck() {
    for (name, reno) in [("CUBIC and CUBIC", false), ("NewReno and NewReno", true)] {
        let network = Network::new(1, ROAD);
        let set = |builder: Builder| match reno {
            true => builder.congestion(|datagram| Box::new(NewReno::new(datagram))),
            false => builder,
        };
        let server = endpoint(&network, HOST, &set);
        let first = ours(&network, 1, &server, &set).await;
        // The second comes when the first has taken everything.
        sleep(Duration::from_secs(5)).await;
        let second = ours(&network, 2, &server, &set).await;
        let index = index(name, shares([&first, &second]).await);
        assert!(index >= 0.9, "{name}: {index}");
    }
}

/// When the other flow comes after ours, in milliseconds. Who loses when the queue is full is a matter of a millisecond, and the same one
/// may lose each time: what counts is the mean.
const STARTS: [u64; 3] = [3000, 4031, 6011];

/// The textbook's flow paces nothing, and a paced flow gets somewhat less than one that is not.
#[tokio::test(start_paused = true)]
async fn a_flow_of_ours_shares_a_bottleneck_with_others() {
    for (name, rule, least) in [
        ("CUBIC and a textbook CUBIC", Textbook::Cubic { max: 0.0, lost: None }, 0.87),
        ("CUBIC and a textbook Reno", Textbook::Reno, 0.95),
    ] {
        let mut mean = [0.0; 2];
        for start in STARTS {
            let network = Network::new(1, ROAD);
            let server = endpoint(&network, HOST, &|builder| builder);
            let own = ours(&network, 1, &server, &|builder| builder).await;
            sleep(Duration::from_millis(start)).await;
            let other = reference(&network, 2, rule);
            let shares = shares([&own, &other]).await;
            index(name, shares);
            mean = [0, 1].map(|flow| mean[flow] + shares[flow] / STARTS.len() as f64);
        }
        let index = index(name, mean);
        assert!(index >= least, "{name}: {index}");
    }
}
