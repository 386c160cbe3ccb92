//! Datagrams: sealed, and otherwise as unreliable as the network.

use zssp::link::memory::{Conditions, Network};
use zssp::{Bytes, CloseReason, Overflow, SendError, TrySendError};

use crate::common::{Pair, builder, content, pair, pair_of, run};

#[test]
fn datagrams_arrive_as_they_were_sent() {
    run(async {
        let pair = pair().await;
        let max = pair.here.max_datagram_size();
        for (number, len) in [0, 1, 1000, 1400, 30_000, max].into_iter().enumerate() {
            let sent = Bytes::from(content(number as u64, len));
            pair.here.send_datagram(sent.clone()).await.unwrap();
            assert!(pair.there.read_datagram().await.unwrap() == sent, "{len} bytes");
            pair.there.try_send_datagram(sent.clone()).unwrap();
            assert!(pair.here.read_datagram().await.unwrap() == sent, "{len} bytes");
        }
        let refusal = SendError::TooLarge { len: max + 1, max };
        let larger = Bytes::from(vec![0; max + 1]);
        assert_eq!(pair.here.send_datagram(larger.clone()).await, Err(refusal.clone()));
        assert_eq!(pair.here.try_send_datagram(larger), Err(TrySendError::Send(refusal)));
    });
}

#[test]
fn datagrams_nobody_reads_are_bounded_and_counted() {
    run(async {
        let sender = builder().bind("127.0.0.1:0").await.unwrap();
        let receiver = builder().mtu(500).datagram_buffer(1).bind("127.0.0.1:0").await.unwrap();
        let pair = pair_of(sender, receiver).await;
        // The least buffer there is holds one payload of the largest size at this MTU, and a little more.
        while pair.there.stats().datagrams_dropped < 10 {
            pair.here.send_datagram(vec![0; 1000]).await.unwrap();
            tokio::task::yield_now().await;
        }
        pair.here.close(0, b"").await;
        let mut kept = 0;
        while let Ok(datagram) = pair.there.read_datagram().await {
            assert_eq!(datagram.len(), 1000);
            kept += 1;
        }
        assert!((10..40).contains(&kept), "{kept} datagrams of 1 kB were kept");
    });
}

#[test]
fn a_full_queue_is_told_apart_from_a_closed_connection() {
    run(async {
        let pair = pair().await;
        let datagram = Bytes::from(vec![1; 50_000]);
        let full = (0..100_000).map(|_| pair.here.try_send_datagram(datagram.clone())).find(Result::is_err);
        assert_eq!(full, Some(Err(TrySendError::Full)), "a queue without end");
        pair.here.send_datagram(datagram.clone()).await.unwrap();
        pair.here.close(0, b"").await;
        let closed = SendError::Closed(CloseReason::Local);
        assert_eq!(pair.here.send_datagram(datagram.clone()).await, Err(closed.clone()));
        assert_eq!(pair.here.try_send_datagram(datagram), Err(TrySendError::Send(closed)));
    });
}

#[test]
fn datagrams_and_messages_share_a_connection() {
    run(async {
        let pair = pair().await;
        let datagrams = tokio::spawn({
            let there = pair.there.clone();
            async move {
                let mut count = 0;
                while let Ok(datagram) = there.read_datagram().await {
                    assert_eq!(datagram, "perhaps");
                    count += 1;
                }
                count
            }
        });
        let messages = tokio::spawn({
            let channel = pair.there.channel(0).unwrap();
            async move {
                let mut count = 0;
                while let Some(message) = channel.receive().await {
                    assert_eq!(message.data(), "surely");
                    count += 1;
                }
                count
            }
        });
        for _ in 0..1_000 {
            pair.here.send_datagram("perhaps").await.unwrap();
            pair.here.channel(0).unwrap().send("surely").await.unwrap();
        }
        pair.here.close(0, b"").await;
        assert_eq!(messages.await.unwrap(), 1_000);
        assert!(datagrams.await.unwrap() > 0);
    });
}

/// Two endpoints on a network in memory that loses nothing, with several tasks each way.
async fn parallel_pair() -> Pair {
    let network = Network::new(1, Conditions::default());
    let endpoint = |address: &str| {
        let link = network.attach(address.parse().unwrap()).unwrap();
        let builder = builder().receive_tasks(4).send_tasks(4).datagram_buffer(64 << 20);
        builder.bind_link(link).unwrap()
    };
    pair_of(endpoint("10.0.0.1:1"), endpoint("10.0.0.2:1")).await
}

/// Also those whose fragments came in different batches: what is overtaken looks lost to the reliability layer.
#[test]
fn datagrams_of_several_tasks_keep_their_order() {
    run(async {
        let pair = parallel_pair().await;
        let sending = tokio::spawn({
            let here = pair.here.clone();
            async move {
                for number in 0..20_000_u32 {
                    // Three fragments, which the end of a batch may part.
                    here.send_datagram(number.to_be_bytes().repeat(1_000)).await.unwrap();
                }
                here.close(0, b"").await;
            }
        });
        let (mut last, mut count) = (None, 0);
        while let Ok(datagram) = pair.there.read_datagram().await {
            let number = u32::from_be_bytes(datagram[..4].try_into().unwrap());
            assert!(datagram.chunks(4).all(|chunk| chunk == number.to_be_bytes()));
            assert!(last < Some(number), "{number} after {last:?}");
            (last, count) = (Some(number), count + 1);
        }
        sending.await.unwrap();
        assert!(count > 1_000, "{count}");
    });
}

/// Whoever seals first and sends last, or receives first and opens last, falls behind the others.
#[test]
fn tiny_datagrams_of_several_tasks_stay_within_the_replay_window() {
    run(async {
        let pair = parallel_pair().await;
        let reading = tokio::spawn({
            let there = pair.there.clone();
            async move {
                let mut count = 0;
                while there.read_datagram().await.is_ok() {
                    count += 1;
                }
                count
            }
        });
        for _ in 0..200_000 {
            pair.here.send_datagram("!").await.unwrap();
        }
        pair.here.close(0, b"").await;
        let count = reading.await.unwrap();
        assert_eq!(count + pair.there.stats().datagrams_dropped, 200_000);
    });
}

/// Messages that overtook each other would look lost.
#[test]
fn messages_of_several_tasks_leave_in_the_order_of_their_choice() {
    run(async {
        let pair = parallel_pair().await;
        let sending = tokio::spawn({
            let here = pair.here.clone();
            async move {
                let channel = here.channel(0).unwrap();
                for number in 0..8_000_u32 {
                    channel.send(number.to_be_bytes().repeat(2_500)).await.unwrap();
                    if number % 10 == 0 {
                        here.send_datagram("beside").await.unwrap();
                    }
                }
            }
        });
        let channel = pair.there.channel(0).unwrap();
        // None is lost, and so they are received in the order in which they arrive.
        for number in 0..8_000_u32 {
            let message = channel.receive().await.unwrap();
            assert!(message.data().chunks(4).all(|chunk| chunk == number.to_be_bytes()), "not {number}");
        }
        sending.await.unwrap();
    });
}

#[test]
fn a_close_waits_for_every_task_that_sends() {
    run(async {
        for _ in 0..20 {
            let pair = parallel_pair().await;
            let there = pair.there.clone();
            let reading = tokio::spawn(async move {
                let mut count = 0;
                while there.read_datagram().await.is_ok() {
                    count += 1;
                }
                count
            });
            for _ in 0..1_000 {
                pair.here.send_datagram(vec![7; 2_000]).await.unwrap();
            }
            pair.here.close(0, b"").await;
            assert_eq!(reading.await.unwrap(), 1_000);
            assert_eq!(pair.there.stats().datagrams_dropped, 0);
        }
    });
}

/// The driver finds the queue of datagrams empty in the same look in which it finds the close: the close must not wait for
/// the next one, which is when everything has been silent for long.
#[test]
fn a_close_follows_the_last_datagram_at_once() {
    run(async {
        for _ in 0..20 {
            let pair = pair().await;
            pair.here.send_datagram("last").await.unwrap();
            let closed = tokio::time::timeout(std::time::Duration::from_secs(10), pair.here.close(0, b""));
            assert_eq!(closed.await.expect("nobody told the driver"), CloseReason::Local);
            assert_eq!(pair.there.read_datagram().await.unwrap(), "last");
        }
    });
}

#[test]
fn the_oldest_are_dropped_unless_the_newest_are_to_be() {
    for (overflow, first_is_kept) in [(Overflow::DropOldest, false), (Overflow::DropNewest, true)] {
        run(async {
            let receiver = builder().mtu(500).datagram_buffer(1).datagram_overflow(overflow);
            let receiver = receiver.bind("127.0.0.1:0").await.unwrap();
            let pair = pair_of(builder().bind("127.0.0.1:0").await.unwrap(), receiver).await;
            let mut number = 0_u32;
            while pair.there.stats().datagrams_dropped == 0 {
                let mut data = vec![0; 1_000];
                data[..4].copy_from_slice(&number.to_be_bytes());
                pair.here.send_datagram(data).await.unwrap();
                number += 1;
                tokio::task::yield_now().await;
            }
            let first = pair.there.read_datagram().await.unwrap();
            assert_eq!(first[..4] == [0; 4], first_is_kept, "{overflow:?}");
        });
    }
}
