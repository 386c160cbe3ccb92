//! What is over leaves nothing: two endpoints do a bit of everything on a bad road, again and again, and come to rest in
//! between.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use zssp::link::memory::{Conditions, Network};
use zssp::{CloseReason, Connection, Endpoint, SecretKey};

use crate::common::content;
use crate::common::simulation::{BAD, SECOND, address, builder, connect, leaves_nothing, network};
use crate::{alone, held, runtime};

/// Until the last timer of what is over has come.
const REST: Duration = Duration::from_secs(300);

struct World {
    network: Network,
    client: Endpoint,
    server: Endpoint,
}

impl World {
    fn new(seed: u64) -> Self {
        let network = network(seed, BAD);
        let [client, server] = [1, 2].map(|number| {
            let link = network.attach(address(number)).unwrap();
            builder(&SecretKey::generate().unwrap()).bind_link(link).unwrap()
        });
        Self { network, client, server }
    }

    /// Connections that are made and end in every way, each in the middle of something.
    async fn round(&self) {
        let Self { network, client, server } = self;
        // Closed from the side that made it, and from the other.
        let (here, there) = connect(client, server).await;
        self.everything(&here, &there).await;
        assert_eq!(here.close(1, b"done").await, CloseReason::Local);
        there.closed().await;
        drop((here, there));
        let (there, here) = connect(server, client).await;
        self.everything(&here, &there).await;
        begun(&here, &there).await;
        here.abort(2, b"no time left");
        there.closed().await;
        drop((here, there));
        // Nobody holds it any more.
        let (here, there) = connect(client, server).await;
        begun(&here, &there).await;
        drop((here, there));
        sleep(REST).await;
        // Attempts that are given up on either side.
        for patience in [30, 60, 90, 150] {
            let attempt = client.connect(server.local_addr(), server.public_key());
            let _ = timeout(Duration::from_millis(patience), attempt).await;
        }
        sleep(REST).await;
        let refuse = async {
            while let Some(incoming) = server.accept().await {
                incoming.refuse();
            }
        };
        tokio::select! {
            refused = client.connect(server.local_addr(), server.public_key()) => drop(refused.unwrap_err()),
            () = refuse => unreachable!("the server is open"),
        }
        sleep(REST).await;
        // One is replaced by the next; the peer of that one vanishes.
        let old = connect(client, server).await;
        begun(&old.0, &old.1).await;
        let (here, there) = connect(client, server).await;
        begun(&here, &there).await;
        network.set_conditions(Conditions { loss: 1.0, ..BAD });
        assert_eq!(here.closed().await, CloseReason::TimedOut);
        assert_eq!(there.closed().await, CloseReason::TimedOut);
        network.set_conditions(BAD);
    }

    /// Everything that a connection does, to its end or given up half way.
    async fn everything(&self, here: &Connection, there: &Connection) {
        let mut tasks = JoinSet::new();
        for (from, to) in [(here, there), (there, here)] {
            let accepting = to.clone();
            let accepting = tokio::spawn(async move { accept_streams(accepting).await });
            let answering = to.clone();
            let answering = tokio::spawn(async move { answer(answering).await });
            let datagrams = to.clone();
            let datagrams = tokio::spawn(async move { while datagrams.read_datagram().await.is_ok() {} });
            let (from, to) = (from.clone(), to.clone());
            tasks.spawn(async move {
                tokio::join!(
                    streams(&from),
                    messages(&from),
                    requests(&from),
                    send_datagrams(&from),
                    async {
                        for _ in 0..3 {
                            from.rekey().await;
                            sleep(SECOND).await;
                        }
                    }
                );
                // What was given up is told to the peer as well.
                sleep(30 * SECOND).await;
                for task in [accepting, answering, datagrams] {
                    task.abort();
                    let _ = task.await;
                }
                while let Ok(Some(_)) = to.try_read_datagram() {}
            });
        }
        let moving = async {
            // Elsewhere, and home again.
            for place in [([10, 0, 0, 8], 1000).into(), address(1)] {
                sleep(SECOND).await;
                self.network.translate(address(1), place);
                // Only who sends something can be found.
                let _ = here.try_send_datagram("here");
            }
        };
        tokio::join!(moving, async {
            while let Some(task) = tasks.join_next().await {
                task.unwrap();
            }
        });
    }
}

/// A stream and a request in the middle of their way.
async fn begun(here: &Connection, there: &Connection) {
    for (from, to) in [(here, there), (there, here)] {
        let (mut send, receive) = from.open_stream().await.unwrap();
        let _ = timeout(SECOND, send.write_chunk(content(1, 50_000))).await;
        let _ = timeout(SECOND / 10, from.channel(1).unwrap().request(content(2, 20_000))).await;
        let _ = from.try_send_datagram(content(3, from.max_datagram_size()));
        let _ = timeout(SECOND, to.accept_stream()).await;
        drop((send, receive));
    }
}

/// Streams that are finished, reset and dropped.
async fn streams(from: &Connection) {
    for number in 0..24 {
        let (mut send, mut receive) = from.open_stream().await.unwrap();
        for _ in 0..4 {
            // Fails where the peer stops it.
            if send.write_chunk(content(number, 20_000)).await.is_err() {
                break;
            }
        }
        match number % 4 {
            0 => drop(send.reset(7)),
            1 => receive.stop(7),
            2 => drop(send.finish()),
            _ => {}
        }
    }
}

/// Reads some to the end, stops some in the middle, drops some.
async fn accept_streams(connection: Connection) {
    let mut number = 0;
    while let Ok((send, mut receive)) = connection.accept_stream().await {
        number += 1;
        match number % 3 {
            0 => drop(receive.read_to_end(1 << 20).await),
            1 => {
                let _ = receive.read_chunk().await;
                receive.stop(1);
            }
            _ => drop(send),
        }
    }
}

async fn messages(from: &Connection) {
    for number in 0..100 {
        let small = from.channel(2).unwrap();
        small.send_ordered(content(number, 100)).await.unwrap();
        small.send(content(number, 100)).await.unwrap();
        if number % 10 == 0 {
            from.channel(3).unwrap().send(content(number, 50_000)).await.unwrap();
        }
    }
}

/// Half of them are given up before there can be an answer.
async fn requests(from: &Connection) {
    for number in 0..60 {
        let patience = if number % 2 == 0 { Duration::from_millis(number) } else { 60 * SECOND };
        let channel = from.channel(1).unwrap();
        let _ = timeout(patience, channel.request(content(number, 1000))).await;
        let _ = channel.request_within(patience, content(number, 1000)).await;
    }
}

async fn send_datagrams(from: &Connection) {
    for number in 0..30 {
        from.send_datagram(content(number, from.max_datagram_size())).await.unwrap();
        sleep(SECOND / 20).await;
    }
}

/// Replies to some, and takes others without an answer.
async fn answer(connection: Connection) {
    let receive = async |id: u16| {
        let channel = connection.channel(id).unwrap();
        let mut number = 0;
        while let Some(message) = channel.receive().await {
            number += 1;
            if number % 3 > 0 {
                let data = message.data().clone();
                let _ = message.reply(data);
            }
        }
    };
    tokio::join!(receive(1), receive(2), receive(3));
}

const ROUNDS: usize = 10;

/// Buffers that were used once wait to be used again, and how many of which length varies from round to round: between two
/// halves by up to 150 KiB.
const SLACK: usize = 384 << 10;

/// What is held after each round, and when all is over.
fn rounds(seed: u64) -> ([usize; ROUNDS], usize) {
    let mut after = [0; ROUNDS];
    let runtime = runtime();
    runtime.block_on(async {
        let world = World::new(seed);
        for after in &mut after {
            world.round().await;
            sleep(REST).await;
            *after = held();
        }
        let World { network, client, server } = world;
        leaves_nothing([client, server], &network).await;
    });
    drop(runtime);
    (after, held())
}

#[test]
fn what_is_over_leaves_nothing() {
    let _alone = alone();
    // What is allocated once for the process is there after the first.
    let [(_, first), (after, second)] = [1, 2].map(rounds);
    println!("{after:?} bytes after each round; {first} and {second} when all is over");
    let [early, late] =
        [&after[..ROUNDS / 2], &after[ROUNDS / 2..]].map(|some| some.iter().sum::<usize>() / some.len());
    assert!(late <= early + SLACK, "endpoints hold more from round to round: {early}, {late}");
    assert!(second <= first + 1024, "endpoints that are gone have left something");
}

/// All it has is that of three channels that were in use; see `documented`.
#[test]
fn a_connection_that_lives_on_holds_what_its_channels_take() {
    let _alone = alone();
    let freed = runtime().block_on(async {
        let world = World::new(3);
        let (here, there) = connect(&world.client, &world.server).await;
        for _ in 0..3 {
            world.everything(&here, &there).await;
        }
        let before = held();
        here.close(0, b"").await;
        there.closed().await;
        drop((here, there));
        sleep(REST).await;
        before.saturating_sub(held())
    });
    println!("{freed} bytes for both ends of a connection that did everything");
    assert!(freed <= (2 * (8 + 3 * 68)) << 10);
}
