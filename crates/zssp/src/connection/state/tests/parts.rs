//! Messages that are sent again in parts.

use super::*;

/// Loses so many fragments of a hundred, in payloads as in acknowledgements; a payload has as many as its length says.
fn lose(pair: &mut Pair, percent: u64, seed: u64) {
    let mut random = seed;
    pair.lost_by_len = Some(Box::new(move |len| {
        (0..len.div_ceil(1368)).fold(false, |lost, _| {
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
    pair.ends[0].handle_payload(now, b"\xD7\0\0\0\0\0\0\0\x05\x10\x00\x00\x00\x00\x00\x00who");
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
        &b"\xD7\0\0\0\0\0\0\0\x05\x10\x00\x00\x00\x00\x00\xFFfar"[..],
        b"\xD7\0\0\0\0\0\0\0\x05\x11\x00\x00\x00\x00\x00\x00\0\0\0\x07unasked"[..23].as_ref(),
    ] {
        pair.ends[0].handle_payload(now, payload);
        assert_eq!(pair.ends[0].state.ended(), None);
    }
    pair.ends[0].handle_payload(now, b"\xD7\0\0\0\0\0\0\0\x05\x10\x00\x00\x00\x00\x00\x00who");
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
        let header = [&[0xD7, 0, 0, 0, 0][..], &half, &[0x10, 0, 0, 0, 0, 0, seq], b"x"].concat();
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
        let chunk =
            [&[0xD7, 0, 0, 0, 0][..], &total, &[0xD3, 0, 0, 0, 0, 0x12, 0, 2, 0, 0, 0, 0], &[0; 9]].concat();
        // The even streams are the initiator's.
        pair.ends[1].handle_payload(now, &chunk);
        assert_eq!(pair.ends[1].state.ended().is_none(), may, "{more} more");
        if may {
            assert_eq!(pair.ends[1].state.assemblies.bytes(), CREDIT);
        }
    }
}
