//! Datagrams: sealed, and otherwise as unreliable as the network.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use common::{builder, content, pair, pair_of, run};
use zssp::{Bytes, CloseReason, SendError, TrySendError};

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
