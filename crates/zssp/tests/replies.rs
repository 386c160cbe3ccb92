//! Replies are bounded by bytes, and nobody waits for ever because of it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use common::simulation::*;
use tokio::time::{sleep, timeout};
use zssp::link::memory::{Conditions, Network};
use zssp::{Channel, Connection, Endpoint, SecretKey};

const LEN: usize = 58_000;
const SEND_BUFFER: usize = 4 << 20;

fn endpoint_of(network: &Network, number: u16) -> Endpoint {
    let builder = builder(&SecretKey::generate().unwrap()).channels(64).send_buffer(SEND_BUFFER);
    builder.bind_link(network.attach(address(number)).unwrap()).unwrap()
}

/// Replies to every message, and counts how many bytes of replies were accepted.
fn reply_to_all(channel: Channel, accepted: Arc<AtomicUsize>) {
    tokio::spawn(async move {
        while let Some(message) = channel.receive().await {
            let accepted = accepted.clone();
            // Each in a task of its own, as a server would.
            tokio::spawn(async move {
                if message.reply(vec![9; LEN]).await.is_ok() {
                    accepted.fetch_add(LEN, Relaxed);
                }
            });
        }
    });
}

/// Replies that pile up: bytes accepted while the peer takes none of them, on 16 channels.
async fn pile_up(here: &Connection, there: &Connection) -> Arc<AtomicUsize> {
    let accepted = Arc::new(AtomicUsize::new(0));
    for id in 0..16 {
        reply_to_all(there.channel(id).unwrap(), accepted.clone());
        let channel = here.channel(id).unwrap();
        for _ in 0..Channel::MAX_MESSAGES {
            channel.send("x").await.unwrap();
        }
    }
    sleep(20 * SECOND).await;
    accepted
}

#[tokio::test(start_paused = true)]
async fn replies_that_the_peer_does_not_take_wait() {
    let network = network(1, GOOD);
    let (client, server) = (endpoint_of(&network, 1), endpoint_of(&network, 2));
    let (here, there) = connect(&client, &server).await;
    let accepted = pile_up(&here, &there).await;
    let held = accepted.load(Relaxed);
    assert!((SEND_BUFFER / 2..=SEND_BUFFER).contains(&held), "{held} bytes of replies");
    assert_eq!(here.close_reason(), None);

    // Another channel gets its reply, since nobody has all the room.
    reply_to_all(there.channel(40).unwrap(), Arc::default());
    let asking = here.channel(40).unwrap();
    assert_eq!(timeout(10 * SECOND, asking.request("?")).await.expect("held up").unwrap().len(), LEN);

    // Once they are taken, all arrive.
    let mut taken = 0;
    for id in 0..16 {
        let channel = here.channel(id).unwrap();
        for _ in 0..Channel::MAX_MESSAGES {
            let reply = timeout(60 * SECOND, channel.receive()).await.expect("a reply is lost").unwrap();
            assert_eq!(reply.in_reply_to().map(|asked| &asked[..]), Some(&b"x"[..]));
            taken += reply.data().len();
        }
    }
    assert_eq!(taken, 16 * Channel::MAX_MESSAGES as usize * LEN);
}

#[tokio::test(start_paused = true)]
async fn replies_to_a_peer_that_is_gone_are_bounded_and_end() {
    let network = network(2, GOOD);
    let (client, server) = (endpoint_of(&network, 1), endpoint_of(&network, 2));
    let (here, there) = connect(&client, &server).await;
    let mut held = Vec::new();
    for id in 0..16 {
        let (asking, answering) = (here.channel(id).unwrap(), there.channel(id).unwrap());
        for number in 0..100 {
            asking.send("x").await.unwrap();
            let message = timeout(60 * SECOND, answering.receive()).await;
            held.push(message.unwrap_or_else(|_| panic!("{number} of channel {id}")).unwrap());
        }
    }
    network.set_conditions(Conditions { loss: 1.0, ..GOOD });
    let mut replying = tokio::task::JoinSet::new();
    for message in held {
        replying.spawn(message.reply(vec![9; LEN]));
    }
    let outcomes = timeout(300 * SECOND, replying.join_all()).await.expect("some wait for ever");
    let accepted = outcomes.iter().filter(|outcome| outcome.is_ok()).count() * LEN;
    assert!(accepted <= SEND_BUFFER, "{accepted} bytes of replies");
    assert!(there.close_reason().is_some(), "those that waited hear of the end");
}

/// Fills all that one side may send, with messages of both sizes, and replies to all it gets and to some replies.
fn busy_side(connection: &Connection) -> Vec<tokio::task::JoinHandle<()>> {
    let mut tasks = Vec::new();
    for id in 0..8 {
        let (sender, receiver) = (connection.channel(id).unwrap(), connection.channel(id).unwrap());
        tasks.push(tokio::spawn(async move {
            for number in 0..200_u32 {
                let len = if number.is_multiple_of(3) { 100 } else { LEN };
                if number.is_multiple_of(2) {
                    sender.send(vec![1; len]).await.unwrap();
                } else {
                    // Asked on other tasks, so that many are open at a time.
                    let sender = sender.clone();
                    tokio::spawn(async move { sender.request(vec![2; len]).await.unwrap() });
                }
            }
            sender.flush().await.unwrap();
        }));
        tokio::spawn(async move {
            while let Some(message) = receiver.receive().await {
                // Both what was asked and what was only sent; and replies once more, if they are to the point.
                let again = message.in_reply_to().is_none_or(|asked| asked.len() == 100);
                if again {
                    // Not here: the peer's replies have to be received meanwhile.
                    tokio::spawn(async move { message.reply(vec![3; LEN]).await.unwrap() });
                }
            }
        });
    }
    tasks
}

#[tokio::test(start_paused = true)]
async fn full_buffers_of_messages_and_replies_on_both_sides_get_on() {
    let network = network(3, GOOD);
    let (client, server) = (endpoint_of(&network, 1), endpoint_of(&network, 2));
    let (here, there) = connect(&client, &server).await;
    let tasks: Vec<_> = [&here, &there].into_iter().flat_map(busy_side).collect();
    for task in tasks {
        timeout(600 * SECOND, task).await.expect("both wait for each other").unwrap();
    }
    assert_eq!([here.close_reason(), there.close_reason()], [None, None]);
}
