//! Small messages that leave together.

use super::*;

fn numbers(received: &[Bytes]) -> Vec<u8> {
    received.iter().map(|data| data[0]).collect()
}

//= ZSSP-BUN-02  in the order in which they were sent, and few datagrams
#[test]
fn small_messages_share_datagrams() {
    let mut pair = Pair::new();
    let now = pair.now;
    for number in 0..50 {
        pair.ends[0].send(now, Order::Ordered, &[number; 64]).unwrap();
    }
    let [_, there] = pair.settle();
    assert_eq!(numbers(&there), (0..50).collect::<Vec<_>>());
    assert_eq!(pair.sent[0], 3, "eighteen in each");
    let [here, there] = pair.ends.map(|end| end.state.stats());
    assert_eq!((here.payloads_sent, here.messages_sent), (3, 50));
    assert_eq!((here.payloads_sent, here.bytes_sent), (there.payloads_received, there.bytes_received));
}

#[test]
fn a_large_message_goes_alone_between_small_ones() {
    let mut pair = Pair::new();
    let now = pair.now;
    for (number, len) in [(0, 10), (1, 10), (2, 5000), (3, 10), (4, 10)] {
        pair.ends[0].send(now, Order::Ordered, &vec![number; len]).unwrap();
    }
    let [_, there] = pair.settle();
    assert_eq!(numbers(&there), [0, 1, 2, 3, 4]);
    assert_eq!(pair.sent[0], 3);
}

/// The first of four datagrams arrives a millisecond after so many of the others, and those that are left with it.
//= ZSSP-BUN-02  many messages in one that overtakes are one sign of loss
#[test]
fn a_datagram_that_is_overtaken_once_is_not_lost() {
    for (by, expected) in [(1, 0), (3, 18)] {
        let mut pair = Pair::new();
        // The round trip is known, and the window large.
        for number in 0..60 {
            let now = pair.now;
            pair.ends[0].send(now, Order::Unordered, &[number; 1300]).unwrap();
        }
        pair.settle();
        let now = pair.now;
        for number in 0..60 {
            pair.ends[0].send(now, Order::Unordered, &[number; 64]).unwrap();
        }
        pair.step(0);
        let inbound = &mut pair.ends[1].inbound;
        assert_eq!(inbound.len(), 4);
        let late = inbound.pop_front().unwrap();
        inbound.insert(by, late);
        inbound.range_mut(by..).for_each(|(at, _)| *at += MS);
        let [_, there] = pair.settle();
        assert_eq!(there.len(), 60);
        assert_eq!(pair.ends[0].state.stats().messages_lost, expected, "overtaken by {by}");
    }
}

/// All that is in it is sent again, of whichever channel.
#[test]
fn a_bundle_that_is_lost_is_sent_again() {
    let mut pair = Pair::new();
    pair.lost = Box::new(|side, turn| side == 0 && turn == 0);
    for number in 0..100 {
        let (now, channel) = (pair.now, u16::from(number % 2));
        let message = Sending::new(Bytes::copy_from_slice(&[number; 20]), 20);
        let sent = pair.ends[0].with(now, |state, effects| {
            assert!(state.channel(channel).is_ok() && state.admit(channel, message.cost, None, effects));
            state.send(channel, Order::Ordered, message, effects)
        });
        sent.unwrap();
    }
    let mut there = [vec![], vec![]];
    pair.drive_with(Duration::from_secs(60), |pair, side| {
        for (channel, there) in (0..).zip(&mut there).filter(|_| side == 1) {
            let (now, end) = (pair.now, &mut pair.ends[1]);
            while let Some(arrived) =
                end.with(now, |state, effects| state.take_message(now, channel, effects))
            {
                let answering = answering(arrived.token, &arrived.data, None);
                end.with(now, |state, effects| {
                    state.acknowledge(now, Answering { channel, ..answering }, effects);
                });
                there.push(arrived.data);
            }
        }
    });
    assert_eq!(numbers(&there[0]), (0..100).step_by(2).collect::<Vec<_>>());
    assert_eq!(numbers(&there[1]), (1..100).step_by(2).collect::<Vec<_>>());
    let stats = pair.ends[0].state.stats();
    assert_eq!((stats.bytes_in_flight, stats.messages_resent), (0, 32));
}

//= ZSSP-BUN-01  the connection of a peer that sends anything else ends
#[test]
fn what_is_no_bundle_ends_the_connection() {
    for payload in [&[0xD9][..], &[0xD9, 0, 0], &[0xD9, 0, 2, 0xD0, 1]] {
        let (now, mut end) = (Instant::now(), End::new(Instant::now(), settings(), Role::Initiator));
        end.handle_payload(now, payload);
        assert!(matches!(end.state.ended(), Some(CloseReason::Protocol(_))), "{payload:?}");
    }
}

/// The road has become narrower than it was found to be. Nobody would suspect that of small messages.
#[test]
fn small_messages_get_through_where_large_datagrams_no_longer_do() {
    let mut pair = Pair::with(Settings { mtu: 1232, max_mtu: 1472, ..settings() });
    let now = pair.now;
    pair.ends[0].send(now, Order::Unordered, &[0; 3000]).unwrap();
    pair.settle();
    assert_eq!(pair.ends[0].state.stats().mtu, 1472);
    pair.lost_by_content = Some(Box::new(|payload| payload.len() > 1232 - 32));
    let start = pair.now;
    for number in 0..200 {
        pair.ends[0].send(start, Order::Ordered, &[number; 100]).unwrap();
    }
    let [_, there] = pair.settle();
    assert_eq!(numbers(&there), (0..200).collect::<Vec<_>>());
    let stats = pair.ends[0].state.stats();
    assert_eq!((stats.messages_lost, stats.timeouts), (0, 0), "{:?}", pair.now - start);
}

#[test]
fn a_round_counts_datagrams_and_not_what_is_in_them() {
    let (now, mut end) = (Instant::now(), End::new(Instant::now(), settings(), Role::Initiator));
    for number in 0..50 {
        end.send(now, Order::Ordered, &[number; 64]).unwrap();
    }
    let (mut budget, mut out) = (Budget::new(50_000, 2), Vec::new());
    let step = end.with(now, |state, effects| state.poll_transmit(now, &mut budget, &mut out, effects));
    assert!(matches!(step, Step::Again) && budget.is_spent());
    assert_eq!(bundles(&out).map(<[_]>::len).collect::<Vec<_>>(), [18, 1]);
}

/// For the size of messages it is one that was lost, as the datagram it was.
#[test]
fn a_lost_bundle_does_not_make_large_messages_small() {
    let mut pair = Pair::new();
    for (number, len) in [(60, 1300), (72, 64)] {
        let now = pair.now;
        let turn = pair.sent[0];
        pair.lost = Box::new(move |side, sent| (side, len) == (0, 64) && sent == turn + 1);
        for _ in 0..number {
            pair.ends[0].send(now, Order::Unordered, &vec![0; len]).unwrap();
        }
        pair.settle();
    }
    let state = &pair.ends[0].state;
    assert_eq!(state.stats().messages_lost, 18);
    let limit = state.flight.payload_limit(60_000);
    assert!(limit > 3 * 1368, "{limit}");
}
