//! What the peer has received and its application does not take costs next to nothing, however large it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{sleep, timeout};
use zssp::Connection;

use crate::common::simulation::*;

const CHANNELS: u16 = 8;
/// What one channel sends, and what all of them do, is accepted without anybody taking it.
const MESSAGES: usize = 4;
const LEN: usize = 58_000;
const REPLY_LEN: usize = 3000;
/// How many messages of a channel may be without an answer.
const WINDOW: usize = 128;

/// Bytes that `connection`, which has nothing new to send, sends in a minute.
async fn bytes_in_a_minute(connection: &Connection) -> u64 {
    let before = connection.stats().bytes_sent;
    sleep(60 * SECOND).await;
    assert!(connection.close_reason().is_none());
    connection.stats().bytes_sent - before
}

#[tokio::test(start_paused = true)]
async fn unread_messages_are_not_sent_again_whole() {
    let network = network(1, GOOD);
    let (client, server) = (endpoint(&network, 1), endpoint(&network, 2));
    let (here, there) = connect(&client, &server).await;
    for id in 0..CHANNELS {
        let channel = here.channel(id).unwrap();
        for _ in 0..MESSAGES {
            channel.send(vec![1; LEN]).await.unwrap();
        }
    }
    sleep(10 * SECOND).await;
    let bytes = bytes_in_a_minute(&here).await;
    let stats = here.stats();
    assert!(bytes < 64 << 10, "{bytes} bytes: {stats:?}");
    assert_eq!(stats.messages_lost, 0);
    // And then they are there.
    for id in 0..CHANNELS {
        let channel = there.channel(id).unwrap();
        for _ in 0..MESSAGES {
            assert_eq!(channel.receive().await.unwrap().data().len(), LEN);
        }
        timeout(10 * SECOND, here.channel(id).unwrap().flush()).await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn unread_replies_are_not_sent_again_whole() {
    let network = network(1, GOOD);
    let (client, server) = (endpoint(&network, 1), endpoint(&network, 2));
    let (here, there) = connect(&client, &server).await;
    let replied = Arc::new(AtomicUsize::new(0));
    for id in 0..CHANNELS {
        let channel = there.channel(id).unwrap();
        let replied = replied.clone();
        tokio::spawn(async move {
            while let Some(message) = channel.receive().await {
                message.reply(vec![2; REPLY_LEN]).unwrap();
                replied.fetch_add(1, Ordering::Relaxed);
            }
        });
        let channel = here.channel(id).unwrap();
        for _ in 0..2 * WINDOW {
            channel.send("a question").await.unwrap();
        }
    }
    sleep(Duration::from_secs(60)).await;
    let replies = replied.load(Ordering::Relaxed);
    let in_a_window = WINDOW - WINDOW / 8 - 1;
    assert_eq!(replies, usize::from(CHANNELS) * in_a_window, "the other places are for answers");
    let bytes = bytes_in_a_minute(&there).await;
    assert!(bytes < 64 << 10, "{bytes} bytes: {:?}", there.stats());
    assert_eq!(network.stats().lost, 0);
    for stats in [here.stats(), there.stats()] {
        assert_eq!((stats.messages_lost, stats.timeouts), (0, 0), "{stats:?}");
    }
}
