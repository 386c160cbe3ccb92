//! Messages that are sent again in parts.

use super::*;
use crate::frame::PART_OVERHEAD;

/// The start of the first part of all, and of its message.
const PREFIX: [u8; 13] = [0xD7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Loses so many fragments of a hundred, in payloads as in acknowledgements; a payload has as many as its length says.
fn lose(pair: &mut Pair, percent: u64, seed: u64) {
    let mut random = seed;
    pair.lost_by_content = Some(Box::new(move |payload| {
        (0..payload.len().div_ceil(1368)).fold(false, |lost, _| {
            // A linear congruential step (Knuth's MMIX); its high bits are random enough.
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            lost | ((random >> 33) % 100 < percent)
        })
    }));
}

/// Whole, not one in a thousand or a million of them would get through.
#[test]
fn large_messages_arrive_in_parts_whatever_is_lost() {
    for (percent, seed) in [(20, 1), (20, 2), (30, 3), (30, 4)] {
        println!("seed {seed}");
        let mut pair = Pair::new();
        lose(&mut pair, percent, seed);
        let start = pair.now;
        let sent: Vec<Vec<u8>> =
            (0..20u8).map(|number| (0..59_000).map(|at| (at as u8) ^ number).collect()).collect();
        for data in &sent {
            pair.ends[0].send(start, Order::Ordered, data).unwrap();
        }
        let [_, there] = pair.settle();
        assert!(there == sent, "every message once and in order: {}", there.len());
        let state = &pair.ends[0].state;
        println!("{percent} % lost: {:?}, {:?}", pair.now - start, state.stats());
        assert_eq!((state.flight.bytes(), pair.ends[0].freed), (0, 20 * 59_000));
        assert_eq!((pair.ends[1].state.assemblies.bytes(), pair.ends[1].state.received), (0, 0));
        assert!(pair.now - start < Duration::from_secs(120));
    }
}

/// Both ways: chunks of streams, replies and messages go through the same.
#[test]
fn a_part_of_what_has_arrived_is_acknowledged_again() {
    let mut pair = Pair::new();
    let now = pair.now;
    pair.ends[0].handle_payload(now, b"\x10\x00\x00\x00\x00\x00\x00whole");
    assert_eq!(pair.ends[0].receive(now).unwrap(), b"whole"[..]);
    pair.drive(Duration::from_secs(1), [false, false], &mut [Vec::new(), Vec::new()]);
    let sent = pair.sent[0];
    let now = pair.now;
    pair.ends[0]
        .handle_payload(now, b"\xD7\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\x10\x00\x00\x00\x00\x00\x00who");
    pair.drive(Duration::from_secs(1), [false, false], &mut [Vec::new(), Vec::new()]);
    assert_eq!(pair.sent[0], sent + 1, "the acknowledgement was lost, it seems");
    assert_eq!(pair.ends[0].state.assemblies.bytes(), 0);
}

//= ZSSP-PRT-05  beyond the window, or in reply to nothing, they are not kept
#[test]
fn parts_of_what_would_not_be_taken_are_dropped() {
    let mut pair = Pair::new();
    let now = pair.now;
    for payload in [
        &b"\xD7\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\x10\x00\x00\x00\x00\x00\xFFfar"[..],
        b"\xD7\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\x11\x00\x00\x00\x00\x00\x00\0\0\0\x07unasked"[..31].as_ref(),
    ] {
        pair.ends[0].handle_payload(now, payload);
        assert_eq!(pair.ends[0].state.ended(), None);
    }
    pair.ends[0]
        .handle_payload(now, b"\xD7\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\x10\x00\x00\x00\x00\x00\x00who");
    assert_eq!(pair.ends[0].state.assemblies.bytes(), 5);
    pair.ends[0].handle_payload(now, b"\x10\x00\x00\x00\x00\x00\x00whole");
    assert_eq!(pair.ends[0].state.assemblies.bytes(), 0, "it has arrived by itself");
    assert_eq!(pair.ends[0].receive(now).unwrap(), b"whole"[..]);
}

//= ZSSP-PRT-04  as a whole, as soon as a part is there
#[test]
fn parts_of_more_than_was_allowed_end_the_connection() {
    let mut pair = Pair::new();
    let now = pair.now;
    let half = (CREDIT as u32 / 2 + 1).to_be_bytes();
    for seq in 0..2 {
        assert_eq!(pair.ends[0].state.ended(), None);
        let header = [&PREFIX[..], &half, &[0x10, 0, 0, 0, 0, 0, seq], b"x"].concat();
        pair.ends[0].handle_payload(now, &header);
    }
    assert!(matches!(pair.ends[0].state.ended(), Some(CloseReason::Protocol(_))));
}

//= ZSSP-PRT-04  the flags of a chunk are no data
#[test]
fn parts_of_all_that_was_allowed_are_taken() {
    for (more, may) in [(0, true), (1, false)] {
        let mut pair = Pair::new();
        let now = pair.now;
        let total = (CREDIT as u32 + 1 + more).to_be_bytes();
        let chunk = [&PREFIX[..], &total, &[0xD3, 0, 0, 0, 0, 0x12, 0, 2, 0, 0, 0, 0], &[0; 9]].concat();
        // The even streams are the initiator's.
        pair.ends[1].handle_payload(now, &chunk);
        assert_eq!(pair.ends[1].state.ended().is_none(), may, "{more} more");
        if may {
            assert_eq!(pair.ends[1].state.assemblies.bytes(), CREDIT);
        }
    }
}

/// Makes whole messages of 20 kB and more not arrive, nor the parts with these numbers.
fn lose_parts(pair: &mut Pair, numbers: &'static [u64]) {
    pair.lost_by_content = Some(Box::new(move |payload| {
        let number = payload.strip_prefix(&[0xD7]).and_then(|rest| rest.first_chunk());
        payload.len() > 20_000 || number.is_some_and(|number| numbers.contains(&u64::from_be_bytes(*number)))
    }));
}

//= ZSSP-PRT-06  and all others are told of
#[test]
fn only_the_parts_that_are_lost_are_sent_again() {
    let mut pair = Pair::new();
    lose_parts(&mut pair, &[0, 7, 8, 20]);
    let start = pair.now;
    pair.ends[0].send(start, Order::Ordered, &[1; 50_000]).unwrap();
    let mut arrived = None;
    pair.drive_with(Duration::from_secs(60), |pair, side| {
        if let Some(data) = pair.ends[side].receive(pair.now) {
            assert!(data == vec![1; 50_000]);
            arrived = Some(pair.now);
        }
    });
    let parts = 50_000usize.div_ceil(1368 - 16 - PART_OVERHEAD);
    assert_eq!(pair.sent[0], 1 + parts + 4, "the whole, each part once, and four again");
    let stats = pair.ends[0].state.stats();
    assert_eq!((stats.timeouts, stats.parts_lost), (1, 4), "time is lost only for the whole: {stats:?}");
    assert_eq!((stats.bytes_in_flight, pair.ends[0].freed), (0, 50_000));
    // The time-out before anything is known, then some round trips in which the window grows.
    let time = arrived.unwrap() - start;
    assert!(time < 250 * MS + 10 * 2 * LATENCY, "{time:?}");
}

/// Each news tells of what those before it told of; and what the exchange says of the whole message is as good as them.
#[test]
fn news_of_parts_may_be_lost() {
    let mut pair = Pair::new();
    let mut news = 0;
    pair.lost_by_content = Some(Box::new(move |payload| {
        news += usize::from(payload[0] == 0xD8);
        payload.len() > 20_000 || (payload[0] == 0xD8 && news % 4 != 1)
    }));
    let start = pair.now;
    for number in 0..5 {
        pair.ends[0].send(start, Order::Ordered, &[number; 30_000]).unwrap();
    }
    let [_, there] = pair.settle();
    assert!(there.iter().map(|data| data[0]).eq(0..5));
    let state = &pair.ends[0].state;
    assert_eq!((state.flight.bytes(), pair.ends[0].freed), (0, 5 * 30_000));
    assert_eq!(state.stats().parts_lost, 0, "{:?}", state.stats());
    assert_eq!(pair.ends[0].deadline, None, "a timer is left");
}

//= ZSSP-PRT-06  of a part that was never sent
#[test]
fn news_of_what_was_never_sent_end_the_connection() {
    for last in [0, u64::MAX] {
        let mut pair = Pair::new();
        let now = pair.now;
        pair.ends[0].handle_payload(now, &[&[0xD8], &last.to_be_bytes()[..], &[0, 0, 0, 1]].concat());
        assert!(matches!(pair.ends[0].state.ended(), Some(CloseReason::Protocol(_))));
    }
}

/// While parts wait for their turn, what is more urgent does not.
#[test]
fn a_message_of_higher_priority_overtakes_the_parts_of_another() {
    let mut pair = Pair::new();
    lose_parts(&mut pair, &[]);
    let urgent = LaneId::Channel(1);
    for end in &mut pair.ends {
        end.state.channel(1).unwrap();
    }
    pair.ends[0].state.set_priority(urgent, 1);
    let start = pair.now;
    pair.ends[0].send(start, Order::Ordered, &[1; 59_000]).unwrap();
    // Until the first parts are out, and the window is full of them.
    pair.drive(250 * MS, [true; 2], &mut [Vec::new(), Vec::new()]);
    assert!(pair.ends[0].state.transfers.wait());
    let asked = pair.now;
    pair.ends[0]
        .with(asked, |state, effects| {
            state.send(1, Order::Ordered, Sending::new(Bytes::from_static(b"now"), 0), effects)
        })
        .unwrap();
    let (mut overtook, mut rest) = (None, Vec::new());
    pair.drive_with(Duration::from_secs(10), |pair, side| {
        if side == 1 {
            let now = pair.now;
            let first = pair.ends[1].with(now, |state, effects| state.take_message(now, 1, effects));
            overtook = overtook.or(first.map(|_| now));
            rest.extend(pair.ends[1].receive(pair.now).map(|_| pair.now));
        }
    });
    let [large] = rest[..] else { panic!("{} large messages arrived", rest.len()) };
    let overtook = overtook.unwrap();
    assert!(overtook <= asked + 3 * LATENCY, "as soon as there was room: {:?}", overtook - asked);
    assert!(large > overtook + LATENCY, "{:?} later", large - overtook);
}

/// Loses all of these, and nothing else: large payloads and parts.
fn lose_what_is_large(payload: &[u8]) -> bool {
    payload.len() > 20_000 || payload[0] == 0xD7
}

/// The exchange fails while others are answered, and has no timer of its own after that.
#[test]
fn a_peer_that_falls_silent_after_others_were_answered_is_given_up() {
    let mut pair = Pair::new();
    for end in &mut pair.ends {
        end.state.channel(1).unwrap();
    }
    pair.lost_by_content = Some(Box::new(lose_what_is_large));
    pair.lost = Box::new(|_, _| true);
    let start = pair.now;
    pair.ends[0].send(start, Order::Ordered, b"anybody there?").unwrap();
    let large = Sending::new(vec![1; 50_000].into(), 0);
    pair.ends[0].with(start, |state, effects| state.send(1, Order::Ordered, large, effects)).unwrap();
    pair.drive(Duration::from_secs(25), [true; 2], &mut [Vec::new(), Vec::new()]);
    pair.lost = Box::new(|_, _| false);
    let mut received = [Vec::new(), Vec::new()];
    pair.drive(Duration::from_secs(3), [true; 2], &mut received);
    assert_eq!((received[1].len(), pair.ends[0].freed), (1, b"anybody there?".len()));
    let silent = pair.now;
    pair.lost = Box::new(|_, _| true);
    pair.settle();
    assert_eq!(pair.ends[0].state.ended(), Some(&CloseReason::TimedOut));
    let (time, give_up_after) = (pair.now - start, settings().give_up_after);
    assert!(time > give_up_after + LONGEST_TIMEOUT, "it has had no turn: {time:?}");
    assert!(pair.now <= silent + give_up_after + LONGEST_TIMEOUT, "{time:?}");
}

#[test]
fn a_close_waits_while_parts_arrive() {
    let mut pair = Pair::new();
    lose_parts(&mut pair, &[]);
    let start = pair.now;
    pair.ends[0].send(start, Order::Ordered, &[1; 59_000]).unwrap();
    // Until the first parts are out. From here on they take longer than the peer may be silent.
    pair.drive(250 * MS, [true; 2], &mut [Vec::new(), Vec::new()]);
    assert!(pair.ends[0].state.transfers.wait());
    let (now, patience) = (pair.now, 2 * LATENCY + 6 * MS);
    pair.ends[0].state.settings.give_up_after = patience;
    pair.ends[0].with(now, |state, effects| state.close(now, 0, b"", effects));
    let [_, there] = pair.settle();
    assert_eq!(pair.ends[0].state.ended(), Some(&CloseReason::Local));
    assert_eq!(there.len(), 1);
}

/// Whether the peer is there must show, however much goes before.
#[test]
fn a_part_goes_before_all_priorities_when_a_time_out_lets_it_out() {
    let mut pair = Pair::new();
    for end in &mut pair.ends {
        end.state.channel(1).unwrap();
    }
    pair.ends[0].state.set_priority(LaneId::Channel(CHANNEL), 1);
    let parts = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = parts.clone();
    pair.lost_by_content = Some(Box::new(move |payload| {
        if payload[0] == 0xD7 {
            seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        lose_what_is_large(payload)
    }));
    // So many that the congestion window stays below what one channel may have under way.
    pair.lost = Box::new(|side, turn| side == 0 && turn % 10 == 9);
    let start = pair.now;
    let large = Sending::new(vec![1; 50_000].into(), 0);
    pair.ends[0].with(start, |state, effects| state.send(1, Order::Ordered, large, effects)).unwrap();
    pair.drive(2 * MS, [true; 2], &mut [Vec::new(), Vec::new()]);
    pair.drive_with(Duration::from_secs(5), |pair, side| {
        let now = pair.now;
        while side == 1 && pair.ends[1].receive(now).is_some() {}
        while side == 0
            && pair.ends[0].state.find_channel(LaneId::Channel(CHANNEL)).unwrap().queue.len() < 100
        {
            pair.ends[0].send(now, Order::Unordered, &[2; 1000]).unwrap();
        }
    });
    let (parts, stats) = (parts.load(std::sync::atomic::Ordering::Relaxed), pair.ends[0].state.stats());
    assert!(stats.messages_sent > 500, "the other channel always has something to send: {stats:?}");
    assert!((2..20).contains(&parts), "one for each time-out, with back-off: {parts}");
}

/// Many messages are held by the peer's application, and asked about now and then: short ones by being sent again. All that is
/// under way gets lost for a while, so that the window is full for nothing. Then each time-out lets out a part, or a message,
/// and questions beside it.
#[test]
fn what_a_time_out_lets_out_is_not_kept_back_by_questions() {
    for (held, (count, len)) in [(100, (1, 59_000)), (10, (1, 59_000)), (10, (50, 1200)), (100, (50, 1200))] {
        let mut pair = Pair::with(Settings { channels: 33, ..settings() });
        if count == 1 {
            lose_parts(&mut pair, &[]);
        }
        let now = pair.now;
        for channel in 1..=32 {
            let held = Sending::new(vec![1; held].into(), 0);
            let sent = pair.ends[0].with(now, |state, effects| {
                state.channel(channel).unwrap();
                state.send(channel, Order::Unordered, held, effects)
            });
            sent.unwrap();
        }
        pair.drive(Duration::from_secs(1), [true; 2], &mut Default::default());
        let now = pair.now;
        for _ in 0..count {
            pair.ends[0].send(now, Order::Unordered, &vec![1; len]).unwrap();
        }
        if count == 1 {
            pair.drive(250 * MS, [true; 2], &mut Default::default());
            assert!(pair.ends[0].state.transfers.wait(), "the window is full of parts");
        }
        pair.lost = Box::new(|_, _| true);
        pair.drive(Duration::from_secs(5), [true; 2], &mut Default::default());
        pair.lost = Box::new(|_, _| false);
        let (again, mut arrived) = (pair.now, None);
        pair.drive_with(Duration::from_secs(60), |pair, side| {
            if side == 1 && pair.ends[1].receive(pair.now).is_some() {
                arrived = Some(pair.now - again);
            }
        });
        assert!(arrived.is_some_and(|time| time < Duration::from_secs(3)), "{held}, {len}: {arrived:?}");
    }
}

/// As well as many messages of other exchanges, one of each, whose time-outs have let out only the first of them. A part
/// tells of all other parts, a message of none of them.
#[test]
fn what_a_time_out_lets_out_is_not_kept_back_by_other_exchanges() {
    let mut pair = Pair::with(Settings { channels: 33, ..settings() });
    lose_parts(&mut pair, &[]);
    let now = pair.now;
    pair.ends[0].send(now, Order::Unordered, &[1; 59_000]).unwrap();
    pair.drive(255 * MS, [true; 2], &mut Default::default());
    let now = pair.now;
    for channel in 1..=32 {
        let sent = pair.ends[0].with(now, |state, effects| {
            state.channel(channel).unwrap();
            state.set_priority(LaneId::Channel(channel), 1);
            state.send(channel, Order::Unordered, Sending::new(Bytes::from_static(&[2; 100]), 0), effects)
        });
        sent.unwrap();
    }
    // They go when the first parts have arrived, and then nothing comes back.
    pair.drive(11 * MS, [true; 2], &mut Default::default());
    for end in &mut pair.ends {
        end.inbound.clear();
    }
    pair.lost = Box::new(|_, _| true);
    pair.drive(Duration::from_secs(5), [true; 2], &mut Default::default());
    assert!(pair.ends[0].state.stats().timeouts > 32, "each of them was lost");
    pair.lost = Box::new(|_, _| false);
    let (again, mut arrived) = (pair.now, None);
    pair.drive_with(Duration::from_secs(60), |pair, side| {
        if side == 1 && pair.ends[1].receive(pair.now).is_some() {
            arrived = Some(pair.now - again);
        }
    });
    assert!(arrived.is_some_and(|time| time < Duration::from_secs(3)), "{arrived:?}");
}
