//! Messages on the reliable channel.

use std::collections::HashSet;

use zssp::{Bytes, Channel, CloseReason, RequestError, SendError, TooManyChannels};

use crate::common::{builder, content, endpoint, pair, pair_of, run};

#[test]
fn bulk_arrives_whole_in_order_and_once() {
    run(async {
        let pair = pair().await;
        let (sender, receiver) = (pair.here.channel(0).unwrap(), pair.there.channel(0).unwrap());
        let sent = Bytes::from(content(1, 64 << 20));
        let mut rest = sent.clone();
        let sending = tokio::spawn(async move {
            while !rest.is_empty() {
                let chunk = rest.split_to(rest.len().min(58_000));
                sender.send_ordered(chunk).await.unwrap();
            }
            sender.flush().await.unwrap();
            sender.connection().stats()
        });
        let mut received = Vec::with_capacity(sent.len());
        while received.len() < sent.len() {
            received.extend_from_slice(receiver.receive().await.unwrap().data());
        }
        assert!(received == sent, "the content differs");
        let stats = sending.await.unwrap();
        assert!(stats.rtt.is_some());
        assert_eq!(stats.bytes_in_flight, 0);
    });
}

#[test]
fn several_tasks_may_receive_from_the_socket() {
    run(async {
        let receivers = || builder().receive_tasks(3).bind("127.0.0.1:0");
        let pair = pair_of(receivers().await.unwrap(), receivers().await.unwrap()).await;
        let (sender, receiver) = (pair.here.channel(0).unwrap(), pair.there.channel(0).unwrap());
        let sent = Bytes::from(content(9, 16 << 20));
        let mut rest = sent.clone();
        tokio::spawn(async move {
            while !rest.is_empty() {
                sender.send_ordered(rest.split_to(rest.len().min(45_000))).await.unwrap();
            }
            sender.flush().await.unwrap();
        });
        let mut received = Vec::new();
        while received.len() < sent.len() {
            received.extend_from_slice(receiver.receive().await.unwrap().data());
        }
        assert!(received == sent, "the content differs");
    });
}

#[test]
fn both_directions_at_once() {
    run(async {
        let pair = pair().await;
        let transfer = |seed, from: zssp::Channel, to: zssp::Channel| async move {
            let sent = Bytes::from(content(seed, 8 << 20));
            let mut rest = sent.clone();
            let sending = tokio::spawn(async move {
                while !rest.is_empty() {
                    from.send_ordered(rest.split_to(rest.len().min(20_000))).await.unwrap();
                }
                from.flush().await.unwrap();
            });
            let mut received = Vec::new();
            while received.len() < sent.len() {
                received.extend_from_slice(to.receive().await.unwrap().data());
            }
            assert!(received == sent, "the content differs");
            sending.await.unwrap();
        };
        tokio::join!(
            transfer(1, pair.here.channel(0).unwrap(), pair.there.channel(0).unwrap()),
            transfer(2, pair.there.channel(0).unwrap(), pair.here.channel(0).unwrap()),
        );
    });
}

#[test]
fn unordered_messages_arrive_each_once() {
    run(async {
        let pair = pair().await;
        let sender = pair.here.channel(0).unwrap();
        tokio::spawn(async move {
            for number in 0..5_000u32 {
                sender.send(number.to_be_bytes().to_vec()).await.unwrap();
            }
            sender.flush().await.unwrap();
        });
        let (receiver, mut seen) = (pair.there.channel(0).unwrap(), HashSet::new());
        while seen.len() < 5_000 {
            let message = receiver.receive().await.unwrap();
            assert!(!message.is_ordered());
            assert!(seen.insert(message.into_data()), "received twice");
        }
    });
}

//= ZSSP-SEQ-08  a critical section, until it is released
#[test]
fn the_next_ordered_message_waits_for_the_one_before() {
    run(async {
        let pair = pair().await;
        let (sender, receiver) = (pair.here.channel(0).unwrap(), pair.there.channel(0).unwrap());
        sender.send_ordered("first").await.unwrap();
        sender.send_ordered("second").await.unwrap();
        sender.send("between").await.unwrap();
        let first = receiver.receive().await.unwrap();
        assert_eq!(first.data(), "first");
        assert!(first.is_ordered());
        let between = receiver.receive().await.unwrap();
        assert_eq!(between.data(), "between", "an unordered one does not wait");
        {
            let mut second = std::pin::pin!(receiver.receive());
            let now = futures_poll(second.as_mut()).await;
            assert!(now.is_none(), "the first is still held");
            first.release();
            assert_eq!(second.await.unwrap().data(), "second");
        }
        drop((first, between));
        sender.flush().await.unwrap();
    });
}

#[test]
fn requests_get_their_own_replies() {
    run(async {
        let pair = pair().await;
        let server = pair.there.channel(0).unwrap();
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Some(message) = server.receive().await {
                held.push(message);
                if held.len() == 16 {
                    // Answered in the reverse order, so that a mix-up would show.
                    for message in held.drain(..).rev() {
                        let reply = [b"re: ", &message.data()[..]].concat();
                        message.reply(reply).unwrap();
                    }
                }
            }
        });
        let tasks: Vec<_> = (0..160)
            .map(|number| {
                let channel = pair.here.channel(0).unwrap();
                tokio::spawn(async move { (number, channel.request(format!("{number}")).await) })
            })
            .collect();
        for task in tasks {
            let (number, reply) = task.await.unwrap();
            assert_eq!(reply.unwrap(), format!("re: {number}"));
        }
    });
}

#[test]
fn a_request_that_is_dropped_unanswered_says_so() {
    run(async {
        let pair = pair().await;
        let server = pair.there.channel(0).unwrap();
        tokio::spawn(async move {
            while let Some(message) = server.receive().await {
                drop(message);
            }
        });
        assert_eq!(pair.here.channel(0).unwrap().request("anybody?").await, Err(RequestError::NoReply));
    });
}

//= ZSSP-SEQ-10  the data that was sent comes back with the reply
#[test]
fn a_reply_to_a_plain_message_arrives_with_what_it_answers() {
    run(async {
        let pair = pair().await;
        pair.here.channel(0).unwrap().send("ping").await.unwrap();
        pair.there.channel(0).unwrap().receive().await.unwrap().reply("pong").unwrap();
        let pong = pair.here.channel(0).unwrap().receive().await.unwrap();
        assert_eq!(pong.data(), "pong");
        assert_eq!(pong.in_reply_to().unwrap(), "ping");
        // The exchange goes on as long as somebody replies.
        pong.reply("pung").unwrap();
        let pung = pair.there.channel(0).unwrap().receive().await.unwrap();
        assert_eq!(pung.in_reply_to().unwrap(), "pong");
    });
}

#[test]
fn a_request_given_up_leaves_nothing_behind() {
    run(async {
        let pair = pair().await;
        let (here, there) = (pair.here.channel(0).unwrap(), pair.there.channel(0).unwrap());
        for _ in 0..1_000 {
            // Polled until the message is there, for once may not be enough: a task that has done much must yield first.
            let message = tokio::select! {
                biased;
                answer = here.request("never mind") => panic!("nobody has answered: {answer:?}"),
                message = there.receive() => message.unwrap(),
            };
            message.reply("too late").unwrap();
        }
        // More than a window of replies nobody waited for: were they kept, nothing would go any more.
        let asked = tokio::spawn({
            let here = here.clone();
            async move { here.request("still there?").await }
        });
        there.receive().await.unwrap().reply("yes").unwrap();
        assert_eq!(asked.await.unwrap().unwrap(), "yes");
        here.flush().await.unwrap();
        there.flush().await.unwrap();
    });
}

#[test]
fn a_receiver_that_does_not_receive_stops_the_sender() {
    run(async {
        let pair =
            pair_of(builder().send_buffer(100_000).bind("127.0.0.1:0").await.unwrap(), endpoint().await)
                .await;
        let (sender, receiver) = (pair.here.channel(0).unwrap(), pair.there.channel(0).unwrap());
        let message = Bytes::from(vec![7; 10_000]);
        let mut accepted = 0;
        loop {
            let mut sending = std::pin::pin!(sender.send(message.clone()));
            match futures_poll(sending.as_mut()).await {
                Some(sent) => sent.unwrap(),
                None => break,
            }
            accepted += 1;
        }
        assert!((4..=5).contains(&accepted), "{accepted} messages of 10 kB fit half of a buffer of 100 kB");
        // Receiving lets it go on.
        drop(receiver.receive().await.unwrap());
        sender.send(message).await.unwrap();
    });
}

#[test]
fn a_message_of_the_largest_size_fits_and_one_byte_more_does_not() {
    run(async {
        let pair = pair().await;
        let (sender, receiver) = (pair.here.channel(0).unwrap(), pair.there.channel(0).unwrap());
        let max = sender.max_message_size();
        assert!(max > 58_000, "{max}");
        let largest = Bytes::from(content(3, max));
        sender.send(largest.clone()).await.unwrap();
        assert!(receiver.receive().await.unwrap().into_data() == largest);
        let larger = Bytes::from(vec![0; max + 1]);
        let refusal = SendError::TooLarge { len: max + 1, max };
        assert_eq!(sender.send(larger.clone()).await, Err(refusal.clone()));
        assert_eq!(sender.request(larger.clone()).await, Err(RequestError::Send(refusal.clone())));
        sender.send("a question").await.unwrap();
        let question = receiver.receive().await.unwrap();
        assert_eq!(question.reply(larger), Err(refusal));
        sender.flush().await.unwrap();
        sender.send(Bytes::new()).await.unwrap();
        assert!(receiver.receive().await.unwrap().data().is_empty(), "nothing is a message too");
    });
}

#[test]
fn a_small_mtu_and_a_large_one_understand_each_other() {
    run(async {
        for mtu in [200, 1232, 9000, 60_000] {
            let client = builder().mtu(mtu).bind("127.0.0.1:0").await.unwrap();
            let pair = pair_of(client, endpoint().await).await;
            let (here, there) = (pair.here.channel(0).unwrap(), pair.there.channel(0).unwrap());
            let sent = Bytes::from(content(4, here.max_message_size().min(there.max_message_size())));
            for (from, to) in [(&here, &there), (&there, &here)] {
                from.send(sent.clone()).await.unwrap();
                assert!(to.receive().await.unwrap().into_data() == sent, "MTU {mtu}");
            }
        }
    });
}

#[test]
fn clones_share_what_arrives() {
    run(async {
        let pair = pair().await;
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let channel = pair.there.channel(0).unwrap();
                tokio::spawn(async move {
                    let mut count = 0;
                    while let Some(message) = channel.receive().await {
                        drop(message);
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        let sender = pair.here.channel(0).unwrap();
        for _ in 0..2_000 {
            sender.send("one for somebody").await.unwrap();
        }
        assert_eq!(pair.here.close(0, b"").await, CloseReason::Local);
        let mut total = 0;
        for task in tasks {
            total += task.await.unwrap();
        }
        assert_eq!(total, 2_000);
    });
}

/// Polls once: what the future yields, if it is ready.
async fn futures_poll<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match future.as_mut().poll(cx) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

//= ZSSP-SEQ-01  a channel nobody receives on stops none of the others
#[test]
fn channels_do_not_hold_each_other_up() {
    run(async {
        let pair = pair().await;
        let full = pair.here.channel(1).unwrap();
        let large = |number: u32| Bytes::from([&number.to_be_bytes()[..], &[0; 58_000]].concat());
        // More than there is room for, of the window and of the send buffer.
        let filling = tokio::spawn(async move {
            for number in 0..2 * Channel::MAX_MESSAGES {
                full.send_ordered(large(number)).await.unwrap();
            }
            full.flush().await.unwrap();
        });
        let (here, there) = (pair.here.channel(2).unwrap(), pair.there.channel(2).unwrap());
        assert_eq!((here.id(), there.id()), (2, 2));
        for number in 0..500_u32 {
            here.send_ordered(large(number)).await.unwrap();
            assert_eq!(there.receive().await.unwrap().data()[..4], number.to_be_bytes());
        }
        assert!(!filling.is_finished());
        here.flush().await.unwrap();
        let late = pair.there.channel(1).unwrap();
        for number in 0..2 * Channel::MAX_MESSAGES {
            assert_eq!(late.receive().await.unwrap().data()[..4], number.to_be_bytes());
        }
        filling.await.unwrap();
    });
}

#[test]
fn there_are_as_many_channels_as_the_endpoint_allows() {
    run(async {
        let pair = pair_of(builder().channels(2).bind("127.0.0.1:0").await.unwrap(), endpoint().await).await;
        let first = pair.here.channel(1000).unwrap();
        let _second = pair.here.channel(7).unwrap();
        assert_eq!(pair.here.channel(8).unwrap_err(), TooManyChannels);
        assert_eq!(pair.here.channel(1000).unwrap().id(), first.id(), "one in use is always there");
        pair.there.channel(8).unwrap().send("too many").await.unwrap();
        assert!(matches!(pair.here.closed().await, CloseReason::Protocol(_)));
    });
}

#[test]
fn a_request_that_is_not_answered_in_time_is_given_up() {
    run(async {
        let pair = pair().await;
        let (here, there) = (pair.here.channel(0).unwrap(), pair.there.channel(0).unwrap());
        let asked = here.request_within(std::time::Duration::from_millis(50), "too slow?").await;
        assert_eq!(asked, Err(RequestError::TimedOut));
        there.receive().await.unwrap().reply("yes").unwrap();
        // The late reply is taken and thrown away, and the channel goes on.
        let serve = async { there.receive().await.unwrap().reply("pong").unwrap() };
        let asking = here.request_within(std::time::Duration::from_secs(50), "ping");
        assert_eq!(tokio::join!(asking, serve).0.unwrap(), "pong");
        there.flush().await.unwrap();
    });
}
