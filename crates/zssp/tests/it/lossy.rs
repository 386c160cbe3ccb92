//! A relay between the two endpoints that delays, loses, doubles and reorders what passes. The seed repeats its
//! decisions; what the scheduler does in between is its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::Instant;
use zssp::{Bytes, CloseReason, Connection, Endpoint};

use crate::common::{Random, builder, content, endpoint, run};

/// How a relay treats datagrams: each of the others happens once in so many, on average.
#[derive(Clone, Copy)]
struct Road {
    delay: Duration,
    lost: u64,
    doubled: u64,
    overtaken: u64,
}

/// Relays both ways between the first to speak and `server`; its address is the server's, for the client.
async fn relay(server: SocketAddr, road: Road, seed: u64) -> SocketAddr {
    println!("seed {seed}");
    let outside = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let inside = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    inside.connect(server).await.unwrap();
    let address = outside.local_addr().unwrap();
    let (there, back) = ((outside.clone(), inside.clone()), (inside, outside));
    let (client, known) = tokio::sync::watch::channel(None);
    let (in_there, in_back) = (later(there.1), later(back.1));
    tokio::spawn(async move {
        let mut traffic = Traffic::new(road, seed);
        let mut buffer = [0; 65_536];
        while let Ok((len, from)) = there.0.recv_from(&mut buffer).await {
            client.send_replace(Some(from));
            for datagram in traffic.pass(&buffer[..len]) {
                let _ = in_there.send((Instant::now() + road.delay, server, datagram));
            }
        }
    });
    tokio::spawn(async move {
        let mut traffic = Traffic::new(road, !seed);
        let mut buffer = [0; 65_536];
        while let Ok(len) = back.0.recv(&mut buffer).await {
            let client = *known.borrow();
            if let Some(client) = client {
                for datagram in traffic.pass(&buffer[..len]) {
                    let _ = in_back.send((Instant::now() + road.delay, client, datagram));
                }
            }
        }
    });
    address
}

/// A datagram on its way: when it arrives, and where.
type Delayed = (Instant, SocketAddr, Vec<u8>);

/// Sends datagrams when it is time for each.
fn later(socket: Arc<UdpSocket>) -> mpsc::UnboundedSender<Delayed> {
    let (entry, mut exit) = mpsc::unbounded_channel::<Delayed>();
    tokio::spawn(async move {
        while let Some((due, to, datagram)) = exit.recv().await {
            tokio::time::sleep_until(due).await;
            let _ = socket.send_to(&datagram, to).await;
        }
    });
    entry
}

struct Traffic {
    road: Road,
    random: Random,
    /// Datagrams that others overtake.
    slow: Option<Vec<u8>>,
}

impl Traffic {
    fn new(road: Road, seed: u64) -> Self {
        Self { road, random: Random::new(seed), slow: None }
    }

    /// What comes out when `datagram` goes in.
    fn pass(&mut self, datagram: &[u8]) -> Vec<Vec<u8>> {
        if self.random.one_in(self.road.lost) {
            return Vec::new();
        }
        let mut out = vec![datagram.to_vec()];
        if self.random.one_in(self.road.doubled) {
            out.push(datagram.to_vec());
        }
        if self.slow.is_none() && self.random.one_in(self.road.overtaken) {
            self.slow = out.pop();
        } else {
            out.extend(self.slow.take());
        }
        out
    }
}

async fn connect(road: Road, seed: u64, client: &Endpoint, server: &Endpoint) -> (Connection, Connection) {
    let address = relay(server.local_addr(), road, seed).await;
    let accept = async {
        loop {
            // A handshake may be lost half way; the next attempt comes as another peer at the door.
            if let Ok(connection) = server.accept().await.unwrap().accept().await {
                return connection;
            }
        }
    };
    let (here, there) = tokio::join!(client.connect(address, server.public_key()), accept);
    (here.unwrap(), there)
}

const TENTH: Road = Road { delay: Duration::from_millis(5), lost: 10, doubled: 20, overtaken: 20 };

//= ZSSP-SEQ-06  in order, though much is sent again
#[test]
fn bulk_survives_a_tenth_lost() {
    run(async {
        let (client, server) = (endpoint().await, endpoint().await);
        let (here, there) = connect(TENTH, 11, &client, &server).await;
        let sent = Bytes::from(content(8, 2 << 20));
        let mut rest = sent.clone();
        let closing = tokio::spawn(async move {
            let sender = here.channel(0).unwrap();
            while !rest.is_empty() {
                // Small messages: one lost fragment costs its message.
                sender.send_ordered(rest.split_to(rest.len().min(2_500))).await.unwrap();
            }
            (here.close(3, b"sent").await, here.stats())
        });
        let (receiver, mut received) = (there.channel(0).unwrap(), Vec::new());
        while let Some(message) = receiver.receive().await {
            received.extend_from_slice(message.data());
        }
        assert!(received == sent, "the content differs");
        let (reason, stats) = closing.await.unwrap();
        assert_eq!(reason, CloseReason::Local);
        assert!(stats.messages_lost + stats.parts_lost > 100, "the road was too good: {stats:?}");
        assert_eq!(there.closed().await, CloseReason::Peer { code: 3, reason: b"sent"[..].into() });
    });
}

#[test]
fn requests_survive_a_tenth_lost() {
    run(async {
        let (client, server) = (endpoint().await, endpoint().await);
        let (here, there) = connect(TENTH, 12, &client, &server).await;
        tokio::spawn(async move {
            while let Some(message) = there.channel(0).unwrap().receive().await {
                let reply = message.data().clone();
                message.reply(reply).unwrap();
            }
        });
        let tasks: Vec<_> = (0..200)
            .map(|number| {
                let channel = here.channel(0).unwrap();
                tokio::spawn(async move {
                    let question = format!("question {number}");
                    assert_eq!(channel.request(question.clone()).await.unwrap(), question);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

//= ZSSP-SEQ-05  exactly once
#[test]
fn unordered_messages_arrive_once_though_doubled_and_shuffled() {
    run(async {
        let (client, server) = (endpoint().await, endpoint().await);
        let road = Road { delay: Duration::from_millis(30), lost: 50, doubled: 2, overtaken: 3 };
        let (here, there) = connect(road, 13, &client, &server).await;
        let sending = tokio::spawn(async move {
            for number in 0..3_000u32 {
                here.channel(0).unwrap().send(number.to_be_bytes().to_vec()).await.unwrap();
            }
            here.close(0, b"").await
        });
        let mut seen = std::collections::HashSet::new();
        while let Some(message) = there.channel(0).unwrap().receive().await {
            assert!(seen.insert(message.into_data()), "received twice");
        }
        assert_eq!(seen.len(), 3_000);
        assert_eq!(sending.await.unwrap(), CloseReason::Local);
    });
}

#[test]
fn two_may_meet_on_a_terrible_road() {
    run(async {
        let client =
            builder().connect_timeout(std::time::Duration::from_secs(50)).bind("127.0.0.1:0").await.unwrap();
        let server = endpoint().await;
        let road = Road { delay: Duration::ZERO, lost: 4, doubled: 4, overtaken: 4 };
        let (here, there) = connect(road, 14, &client, &server).await;
        let asked = tokio::spawn(async move { here.channel(0).unwrap().request("still there?").await });
        there.channel(0).unwrap().receive().await.unwrap().reply("barely").unwrap();
        assert_eq!(asked.await.unwrap().unwrap(), "barely");
    });
}

/// Of a payload with as many fragments as there may be, not one in forty thousand would get through.
#[test]
fn a_stream_survives_a_fifth_lost() {
    run(async {
        let client =
            builder().connect_timeout(std::time::Duration::from_secs(50)).bind("127.0.0.1:0").await.unwrap();
        let server = endpoint().await;
        let road = Road { delay: Duration::from_millis(10), lost: 5, doubled: 20, overtaken: 20 };
        let (here, there) = connect(road, 15, &client, &server).await;
        let sent = Bytes::from(content(9, 256 << 10));
        let (mut send, _receive) = here.open_stream().await.unwrap();
        let sending = {
            let sent = sent.clone();
            tokio::spawn(async move {
                send.write_chunk(sent).await.unwrap();
                send.finish().unwrap();
                send.stopped().await
            })
        };
        let (_send, mut receive) = there.accept_stream().await.unwrap();
        assert!(receive.read_to_end(1 << 20).await.unwrap() == sent, "the content differs");
        sending.await.unwrap().unwrap();
        let stats = here.stats();
        println!("{stats:?}");
        assert!(stats.messages_sent - stats.messages_resent > 60, "chunks were large: {stats:?}");
    });
}
