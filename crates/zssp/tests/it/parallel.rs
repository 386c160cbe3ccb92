//! Connections whose two ends have four tasks each to send and four to receive: with the clock paused, where the tasks take
//! turns, and on threads, where they do not. And connections of which two threads seal, or open, at the same time.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use zssp::link::memory::{Conditions, Network};
use zssp::{Builder, Bytes, CloseReason, Connection, Endpoint, RequestError, SecretKey};

use crate::common::meeting::{Meeting, Place};
use crate::common::provider::Rigged;
use crate::common::simulation::{
    BAD, GOOD, SECOND, address, answer, builder, connect, leaves_nothing, network, transfer,
};
use crate::common::{content, run};

fn endpoint(network: &Network, number: u16) -> Endpoint {
    let builder = builder(&SecretKey::generate().unwrap()).send_tasks(4).receive_tasks(4);
    builder.bind_link(network.attach(address(number)).unwrap()).unwrap()
}

/// How much is to be done, in each direction.
#[derive(Clone, Copy)]
struct Load {
    streams: u64,
    stream_bytes: usize,
    requests: u32,
    datagrams: u32,
    /// How long a request may take.
    deadline: Duration,
}

/// From one or many fragments to the most.
const DATAGRAM_LENS: [usize; 4] = [100, 1_000, 5_000, 40_000];

/// What a datagram of that number has in it.
fn datagram(number: u32) -> Vec<u8> {
    let mut bytes = content(number.into(), DATAGRAM_LENS[number as usize % DATAGRAM_LENS.len()]);
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// Sends from one end all that `load` says, and sees that it arrives at the other.
fn spawn_one_way(tasks: &mut JoinSet<()>, from: &Connection, to: &Connection, load: Load) {
    for number in 0..load.streams {
        let (from, to) = (from.clone(), to.clone());
        // They are accepted in any order, and the end that one arrives at may be another's: all have the same bytes.
        tasks.spawn(async move {
            let bytes = content(17, load.stream_bytes);
            assert!(transfer(from, to, bytes.clone()).await == bytes, "stream {number} differs");
        });
    }
    let channel = from.channel(0).unwrap();
    tasks.spawn(async move {
        let mut requests = JoinSet::new();
        for number in 0..load.requests {
            let channel = channel.clone();
            requests.spawn(async move {
                let question = Bytes::from(number.to_be_bytes().to_vec());
                match channel.request_within(load.deadline, question.clone()).await {
                    Ok(reply) => assert!(reply == question),
                    Err(RequestError::NoReply) => assert!(question[3].is_multiple_of(5)),
                    Err(error) => {
                        assert_eq!(error, RequestError::TimedOut);
                        return false;
                    }
                }
                true
            });
        }
        let answered = requests.join_all().await.into_iter().filter(|answered| *answered).count();
        assert!(answered * 20 >= load.requests as usize * 19, "{answered} of {}", load.requests);
    });
    let sender = from.clone();
    tasks.spawn(async move {
        for number in 0..load.datagrams {
            sender.send_datagram(datagram(number)).await.unwrap();
            if number.is_multiple_of(16) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        // Comes after all of them or not at all: what is after it is late, and counts as lost.
        for _ in 0..20 {
            sender.send_datagram(Bytes::new()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let receiver = to.clone();
    tasks.spawn(async move {
        let mut seen = HashSet::new();
        loop {
            let data = receiver.read_datagram().await.unwrap();
            let Some(number) = data.first_chunk() else { break };
            let number = u32::from_be_bytes(*number);
            assert!(data == datagram(number), "datagram {number} is damaged");
            assert!(seen.insert(number), "datagram {number} came twice");
        }
        println!("{} of {} datagrams", seen.len(), load.datagrams);
        assert!(seen.len() > load.datagrams as usize / 4, "only {} datagrams", seen.len());
    });
}

/// Everything both ways at once, to the end; then a close that leaves nothing behind.
async fn everything_both_ways(network: Network, load: Load) {
    let (client, server) = (endpoint(&network, 1), endpoint(&network, 2));
    let (here, there) = connect(&client, &server).await;
    let answering = [&here, &there].map(|end| tokio::spawn(answer(end.clone())));
    let mut tasks = JoinSet::new();
    spawn_one_way(&mut tasks, &here, &there, load);
    spawn_one_way(&mut tasks, &there, &here, load);
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    assert!(here.stats().messages_resent > 0, "the road was too good: {:?}", here.stats());
    assert_eq!(here.close(5, b"done").await, CloseReason::Local);
    assert_eq!(there.closed().await, CloseReason::Peer { code: 5, reason: b"done"[..].into() });
    for task in answering {
        task.await.unwrap();
    }
    drop((here, there));
    leaves_nothing([client, server], &network).await;
}

#[tokio::test(start_paused = true)]
async fn everything_at_once_on_a_bad_road() {
    for seed in [20, 21] {
        let load =
            Load { streams: 3, stream_bytes: 400_000, requests: 300, datagrams: 400, deadline: 20 * SECOND };
        everything_both_ways(network(seed, BAD), load).await;
    }
}

#[test]
fn everything_at_once_on_threads() {
    for seed in [22, 23] {
        let road = Conditions {
            delay: Duration::from_millis(1),
            duplication: 0.02,
            loss: 0.01,
            reordering: 0.02,
            ..GOOD
        };
        let load = Load {
            streams: 3,
            stream_bytes: 512 << 10,
            requests: 500,
            datagrams: 500,
            deadline: 20 * SECOND,
        };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
        runtime.block_on(async {
            let test = everything_both_ways(network(seed, road), load);
            tokio::time::timeout(60 * SECOND, test).await.expect("the test hangs");
        });
    }
}

/// Several rounds of a sender, and more than two batches of a receiver: a thousand bytes each.
const NUMBERED: u32 = 3_000;

fn numbered(number: u32) -> Vec<u8> {
    let mut bytes = vec![0; 1_000];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// Sends from `client` to `server` such that two threads must be at `place` at once, of one connection, and sees that
/// everything arrives in order. They may be so as soon as `under_way` bytes are between the two.
async fn two_meet(place: &Place, (client, server): (Builder, Builder), under_way: usize) {
    let network = network(24, Conditions::default());
    let [client, server] = [(client, 1), (server, 2)].map(|(builder, number)| {
        // Without looking for a larger MTU: a probe is as long as a datagram. And with room for all of them.
        let builder = builder.mtu(1_400).max_mtu(1_400).datagram_buffer(16 << 20);
        builder.bind_link(network.attach(address(number)).unwrap()).unwrap()
    });
    let (here, there) = connect(&client, &server).await;
    // While the first is held, everything else comes to wait behind it: then there is work for two.
    let meeting = Meeting::hold(place);
    here.send_datagram(numbered(0)).await.unwrap();
    meeting.holds().await;
    for number in 1..NUMBERED {
        here.send_datagram(numbered(number)).await.unwrap();
    }
    while network.stats().bytes_under_way < under_way {
        tokio::task::yield_now().await;
    }
    meeting.begin();
    meeting.over().await;
    for number in 0..NUMBERED {
        assert!(there.read_datagram().await.unwrap() == numbered(number), "another one in place of {number}");
    }
    drop((here, there));
    leaves_nothing([client, server], &network).await;
}

fn plain() -> Builder {
    builder(&SecretKey::generate().unwrap()).send_tasks(1).receive_tasks(1)
}

#[test]
fn two_threads_seal_for_one_connection_at_once() {
    let library = Rigged::default();
    let sender = plain().provider(Arc::new(library.clone())).send_tasks(2);
    run(two_meet(&library.sealing, (sender, plain()), 0));
}

#[test]
fn two_threads_open_for_one_connection_at_once() {
    let library = Rigged::default();
    let receiver = plain().provider(Arc::new(library.clone())).receive_tasks(2);
    // A batch has a mebibyte at most, so there is another behind it.
    run(two_meet(&library.opening, (plain(), receiver), 2 << 20));
}
