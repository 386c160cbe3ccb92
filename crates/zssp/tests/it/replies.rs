//! Replies are bounded by bytes, and nobody waits for ever because of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use zssp::link::memory::{Conditions, Network};
use zssp::{Channel, CloseReason, Connection, Endpoint, SecretKey, SendError};

use crate::common::simulation::*;

const LEN: usize = 58_000;
const SEND_BUFFER: usize = 4 << 20;

fn endpoint_of(network: &Network, number: u16) -> Endpoint {
    let builder = builder(&SecretKey::generate().unwrap()).channels(64).send_buffer(SEND_BUFFER);
    builder.bind_link(network.attach(address(number)).unwrap()).unwrap()
}

/// Replies to every message in the task that receives, and counts the bytes of replies.
fn reply_to_all(channel: Channel, replied: Arc<AtomicUsize>) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(message) = channel.receive().await {
            if message.in_reply_to().is_none() {
                message.reply(vec![9; LEN]).unwrap();
                replied.fetch_add(LEN, Relaxed);
            }
        }
    })
}

#[tokio::test(start_paused = true)]
async fn what_the_peer_does_not_take_of_replies_is_bounded_and_holds_up_nothing_else() {
    const CHANNELS: u16 = 16;
    let network = network(1, GOOD);
    let (client, server) = (endpoint_of(&network, 1), endpoint_of(&network, 2));
    let (here, there) = connect(&client, &server).await;
    let replied = Arc::new(AtomicUsize::new(0));
    for id in 0..CHANNELS {
        reply_to_all(there.channel(id).unwrap(), replied.clone());
        let channel = here.channel(id).unwrap();
        for _ in 0..Channel::MAX_MESSAGES {
            channel.send("x").await.unwrap();
        }
    }
    sleep(20 * SECOND).await;
    let held = replied.load(Relaxed);
    // Beyond the buffer, one on each channel.
    let bound = SEND_BUFFER + usize::from(CHANNELS) * LEN;
    assert!((SEND_BUFFER / 2..=bound).contains(&held), "{held} bytes of replies");
    assert_eq!([here.close_reason(), there.close_reason()], [None, None]);

    // The other way, and on another channel, everything goes on.
    let asking = there.channel(0).unwrap();
    let asked = tokio::spawn(async move { asking.request("?").await });
    let answering = here.channel(0).unwrap();
    let mut kept = Vec::new();
    loop {
        let message = timeout(10 * SECOND, answering.receive()).await.expect("held up").unwrap();
        if message.in_reply_to().is_none() {
            message.reply("!").unwrap();
            break;
        }
        kept.push(message);
    }
    assert_eq!(timeout(10 * SECOND, asked).await.expect("held up").unwrap().unwrap(), "!");
    reply_to_all(there.channel(40).unwrap(), Arc::default());
    let asking = here.channel(40).unwrap();
    assert_eq!(timeout(10 * SECOND, asking.request("?")).await.expect("held up").unwrap().len(), LEN);

    // Once they are taken, all arrive.
    let mut taken = kept.iter().map(|reply| reply.data().len()).sum::<usize>();
    let expected = usize::from(CHANNELS) * Channel::MAX_MESSAGES as usize * LEN;
    let mut ahead = kept.len();
    drop(kept);
    for id in 0..CHANNELS {
        let channel = here.channel(id).unwrap();
        for _ in std::mem::take(&mut ahead)..Channel::MAX_MESSAGES as usize {
            let reply = timeout(60 * SECOND, channel.receive()).await.expect("a reply is lost").unwrap();
            assert_eq!(reply.in_reply_to().map(|asked| &asked[..]), Some(&b"x"[..]));
            taken += reply.data().len();
        }
    }
    assert_eq!(taken, expected);
}

#[tokio::test(start_paused = true)]
async fn replies_to_a_peer_that_is_gone_end_with_the_connection() {
    let network = network(2, GOOD);
    let (client, server) = (endpoint_of(&network, 1), endpoint_of(&network, 2));
    let (here, there) = connect(&client, &server).await;
    let (asking, answering) = (here.channel(0).unwrap(), there.channel(0).unwrap());
    let mut held = Vec::new();
    for _ in 0..100 {
        asking.send("x").await.unwrap();
        held.push(answering.receive().await.unwrap());
    }
    network.set_conditions(Conditions { loss: 1.0, ..GOOD });
    // More than the buffer holds: whoever has the messages has room for their replies.
    let last = held.pop().unwrap();
    for message in held {
        message.reply(vec![9; LEN]).unwrap();
    }
    assert_eq!(timeout(300 * SECOND, answering.receive()).await.expect("it waits for ever").map(drop), None);
    assert!(matches!(last.reply(vec![9; LEN]), Err(SendError::Closed(CloseReason::TimedOut))));
}

/// Sends `count` messages on a channel and replies to the peer's in the task that receives. Resolves when all of its own
/// were answered; it goes on serving.
async fn ask_and_serve(channel: Channel, count: usize, replies: Arc<AtomicUsize>) {
    reply_to_all(channel.clone(), replies);
    for _ in 0..count {
        channel.send("x").await.unwrap();
    }
    channel.flush().await.unwrap();
}

/// Both windows are full, and so are both buffers for replies.
#[tokio::test(start_paused = true)]
async fn two_that_reply_where_they_receive_get_on() {
    for (seed, count, conditions) in [(5, 1500, GOOD), (6, 300, Conditions { loss: 0.01, ..BAD })] {
        let network = network(seed, conditions);
        let (client, server) = (endpoint_of(&network, 1), endpoint_of(&network, 2));
        let (here, there) = connect(&client, &server).await;
        let replied = Arc::new(AtomicUsize::new(0));
        let asking = [&here, &there]
            .map(|end| tokio::spawn(ask_and_serve(end.channel(0).unwrap(), count, replied.clone())));
        for asking in asking {
            timeout(600 * SECOND, asking).await.expect("both wait for each other").unwrap();
        }
        assert_eq!(replied.load(Relaxed), 2 * count * LEN);
        assert_eq!([here.close_reason(), there.close_reason()], [None, None]);
    }
}

/// Those that wait for a message while none may be given out hear of it when one may.
#[tokio::test(start_paused = true)]
async fn every_receiver_is_woken_when_replies_have_room_again() {
    let network = network(7, GOOD);
    let (client, server) = (endpoint_of(&network, 1), endpoint_of(&network, 2));
    let (here, there) = connect(&client, &server).await;
    let (asking, replied) = (here.channel(0).unwrap(), Arc::new(AtomicUsize::new(0)));
    let receivers: Vec<_> =
        (0..8).map(|_| reply_to_all(there.channel(0).unwrap(), replied.clone())).collect();
    for _ in 0..200 {
        asking.send("x").await.unwrap();
    }
    sleep(10 * SECOND).await;
    let before = replied.load(Relaxed);
    assert!(before < SEND_BUFFER, "{before} bytes of replies");
    for _ in 0..200 {
        drop(timeout(10 * SECOND, asking.receive()).await.expect("nobody was woken").unwrap());
    }
    assert_eq!(replied.load(Relaxed), 200 * LEN);
    here.close(0, b"").await;
    for receiver in receivers {
        timeout(10 * SECOND, receiver).await.expect("one was not woken").unwrap();
    }
}

/// Fills all that one side may send, with messages of both sizes, and replies to all it gets and to some replies.
fn busy_side(connection: &Connection) -> Vec<JoinHandle<()>> {
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
                    message.reply(vec![3; LEN]).unwrap();
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
