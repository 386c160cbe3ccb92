//! What the table "What it costs in memory" of the crate's documentation says, where it can be counted.

use std::sync::Arc;

use tokio::time::sleep;
use zssp::link::memory::Network;
use zssp::{Bytes, Connection, Endpoint, SecretKey};

use crate::common::simulation::{GOOD, Gate, Gated, SECOND, address, builder, connect, endpoint, network};
use crate::{alone, held, runtime};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// So many messages of a channel, or chunks of a stream, are under way each way at a time.
const MANY: usize = 100;

/// How much more is held after `work`.
async fn more(work: impl Future) -> usize {
    let before = held();
    let kept = work.await;
    sleep(SECOND).await;
    let more = held().saturating_sub(before);
    drop(kept);
    more
}

/// What endpoints take when they are first used does not count.
async fn use_once(here: &Connection, there: &Connection) {
    for (from, to) in [(here, there), (there, here)] {
        from.channel(1000).unwrap().send("x").await.unwrap();
        drop(to.channel(1000).unwrap().receive().await.unwrap());
    }
    sleep(SECOND).await;
}

/// One end of an open stream over which so many chunks went each way, all of them at a time.
async fn stream_end(here: &Connection, there: &Connection, chunks: usize) -> usize {
    const STREAMS: usize = 100;
    let mut streams = Vec::with_capacity(2 * STREAMS);
    more(async {
        for _ in 0..STREAMS {
            let (mut send, receive) = here.open_stream().await.unwrap();
            send.write_chunk("x").await.unwrap();
            streams.push((send, receive));
            streams.push(there.accept_stream().await.unwrap());
        }
        for (send, _) in &mut streams {
            for _ in 1..chunks {
                send.write_chunk("x").await.unwrap();
            }
        }
        sleep(SECOND).await;
        for (number, (_, receive)) in streams.iter_mut().enumerate() {
            let chunks = if number % 2 == 0 { chunks - 1 } else { chunks };
            for _ in 0..chunks {
                receive.read_chunk().await.unwrap();
            }
        }
        streams
    })
    .await
        / (2 * STREAMS)
}

#[test]
fn an_open_stream() {
    let _alone = alone();
    runtime().block_on(async {
        let network = network(1, GOOD);
        let (client, server) = (endpoint(&network, 1), endpoint(&network, 2));
        for (chunks, bound) in [(1, 3 * KIB), (MANY, 40 * KIB)] {
            let (here, there) = connect(&client, &server).await;
            use_once(&here, &there).await;
            let each = stream_end(&here, &there, chunks).await;
            println!("{each} bytes for an end of a stream with {chunks} chunks at a time");
            assert!(each <= bound);
        }
    });
}

/// One end of a channel over which so many messages went each way, all of them at a time.
async fn channel_end(here: &Connection, there: &Connection, messages: usize) -> usize {
    const CHANNELS: u16 = 60;
    more(async {
        for id in 0..CHANNELS {
            let ends = [here, there].map(|end| end.channel(id).unwrap());
            for end in &ends {
                for _ in 0..messages {
                    end.send("x").await.unwrap();
                }
            }
            sleep(SECOND).await;
            for end in &ends {
                for _ in 0..messages {
                    drop(end.receive().await.unwrap());
                }
            }
        }
    })
    .await
        / (2 * usize::from(CHANNELS))
}

#[test]
fn a_channel_in_use() {
    let _alone = alone();
    runtime().block_on(async {
        let network = network(1, GOOD);
        let (client, server) = (endpoint(&network, 1), endpoint(&network, 2));
        for (messages, bound) in [(1, 4 * KIB), (MANY, 68 * KIB)] {
            let (here, there) = connect(&client, &server).await;
            use_once(&here, &there).await;
            let each = channel_end(&here, &there, messages).await;
            println!("{each} bytes for an end of a channel with {messages} messages at a time");
            assert!(each <= bound);
        }
    });
}

/// A server that can be kept from sending, and clients that are connected to it.
struct Hub {
    gate: Arc<Gate>,
    server: Endpoint,
    clients: Vec<(Endpoint, Connection)>,
    connections: Vec<Connection>,
}

impl Hub {
    async fn new(network: &Network, clients: u16) -> Self {
        let gate = Arc::<Gate>::default();
        let link = Gated { link: network.attach(address(0)).unwrap(), gate: gate.clone() };
        let server = builder(&SecretKey::generate().unwrap()).send_tasks(1).bind_link(link).unwrap();
        let mut hub = Self { gate, server, clients: Vec::new(), connections: Vec::new() };
        for number in 1..=clients {
            let client = endpoint(network, number);
            let (here, there) = connect(&client, &hub.server).await;
            hub.clients.push((client, here));
            hub.connections.push(there);
        }
        sleep(SECOND).await;
        hub
    }
}

#[test]
fn a_task_that_sends() {
    const CLIENTS: u16 = 24;
    let _alone = alone();
    runtime().block_on(async {
        let network = network(1, GOOD);
        let hub = Hub::new(&network, CLIENTS).await;
        hub.gate.set_shut(true);
        let more = more(async {
            for connection in &hub.connections {
                connection.send_datagram("x").await.unwrap();
            }
        })
        .await;
        let each = more / usize::from(CLIENTS);
        println!("{each} bytes for each task that sends");
        assert!((160 * KIB..=244 * KIB).contains(&each));
    });
}

/// What a server gives back when it is dropped after so many clients did `work` with it.
fn endpoint_after(work: impl AsyncFn(&Hub)) -> usize {
    let runtime = runtime();
    let (server, before) = runtime.block_on(async {
        let network = network(1, GOOD);
        let hub = Hub::new(&network, 20).await;
        work(&hub).await;
        let Hub { server, clients, connections, .. } = hub;
        for connection in &connections {
            connection.close(0, b"").await;
        }
        drop((clients, connections));
        sleep(600 * SECOND).await;
        (server, held())
    });
    drop(server);
    drop(runtime);
    before - held()
}

#[test]
fn an_endpoint_that_was_used() {
    let _alone = alone();
    let little = endpoint_after(async |_| ());
    println!("{little} bytes for an endpoint that was used little");

    let large = endpoint_after(async |hub| {
        for (_, client) in &hub.clients {
            for _ in 0..8 {
                client.channel(0).unwrap().send(vec![1; 58_000]).await.unwrap();
            }
        }
        sleep(SECOND).await;
        hub.gate.set_shut(true);
        for connection in &hub.connections {
            connection.channel(1).unwrap().send(vec![1; 50_000]).await.unwrap();
        }
        sleep(SECOND).await;
        hub.gate.set_shut(false);
        for connection in &hub.connections {
            for _ in 0..8 {
                drop(connection.channel(0).unwrap().receive().await.unwrap());
            }
        }
    });
    println!("{large} bytes for an endpoint that was used much");
    assert!(large <= (1 + 2 + 12) * MIB);

    let small = endpoint_after(async |hub| {
        hub.gate.set_shut(true);
        let datagram = Bytes::from_static(b"x");
        for connection in &hub.connections {
            while connection.try_send_datagram(datagram.clone()).is_ok() {}
        }
        sleep(SECOND).await;
        hub.gate.set_shut(false);
        sleep(SECOND).await;
    });
    println!("{small} bytes for an endpoint that sent small datagrams");
    assert!(small <= (1 + 2 + 28) * MIB);
}

#[test]
fn an_endpoint_and_its_receive_tasks() {
    const TASKS: usize = 9;
    let _alone = alone();
    let [one, many] = [1, TASKS].map(|tasks| {
        runtime().block_on(async {
            let network = network(1, GOOD);
            more(async {
                let builder = builder(&SecretKey::generate().unwrap()).receive_tasks(tasks);
                let endpoint = builder.bind_link(network.attach(address(1)).unwrap()).unwrap();
                sleep(SECOND).await;
                endpoint
            })
            .await
        })
    });
    let each = (many - one) / (TASKS - 1);
    println!("{} bytes for an endpoint, {each} for each of its receive tasks", one - each);
    assert!(one - each <= 2 * MIB + 64 * KIB);
    assert!(each <= MIB + 4 * KIB);
}
