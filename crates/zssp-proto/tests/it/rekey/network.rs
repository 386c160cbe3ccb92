//! Packets lost, repeated and late, both sides at once, and payloads on the way.
use std::collections::BTreeMap;
use std::ops::Range;

use super::*;

//= ZSSP-ST-14  K1 is sent again
//= ZSSP-ST-16  K2 is sent again
//= ZSSP-ST-22  and C1 always answered
#[test]
fn any_packet_may_be_lost() {
    for alice_starts in [true, false] {
        for (place, name) in PACKETS.into_iter().enumerate() {
            for copies in 1..=3 {
                let mut pair = Pair::established(1, &Setup::default());
                start(&mut pair, alice_starts);
                deliver(&mut pair, place);
                let starter_sends = place % 2 == 0;
                let sender = if starter_sends == alice_starts { 1 } else { 2 };
                pair.network.drop_next_on(sender, 3 - sender, copies);
                pair.drive_for(6 * SECOND);
                assert_rekeyed(&mut pair, 2, &format!("{name} lost {copies} times"));
            }
        }
    }
}

/// A copy of a packet comes right behind it, or later in the same rekeying, or when that is over.
//= ZSSP-SEC-03  no replay is accepted
#[test]
fn any_packet_may_come_again() {
    for alice_starts in [true, false] {
        for (place, name) in PACKETS.into_iter().enumerate() {
            for later in 0..PACKETS.len() - place {
                let mut pair = Pair::established(1, &Setup::default());
                start(&mut pair, alice_starts);
                deliver(&mut pair, place);
                let copy = copy_next(&mut pair, place, alice_starts);
                deliver(&mut pair, 1 + later);
                let sent = pair.wire.len();
                receive(&mut pair, place, alice_starts, copy);
                pair.settle();
                let what = format!("{name} again, {later} packets later, Alice starts: {alice_starts}");
                let left = PACKETS.len() - (place + 1 + later);
                assert_eq!(pair.wire.len() - sent, left, "{what}: nothing answers it");
                assert_rekeyed(&mut pair, 2, &what);
            }
        }
    }
}

#[test]
fn every_packet_may_come_twice() {
    let mut pair = Pair::established(1, &Setup::default());
    pair.network.set_conditions(Conditions { duplication: 1.0, ..Conditions::default() });
    for (keys, alice_starts) in [(2, true), (3, false), (4, true)] {
        start(&mut pair, alice_starts);
        pair.drive_for(5 * SECOND);
        assert_eq!(agreed(&pair), Some(keys));
    }
    pair.network.set_conditions(Conditions::default());
    assert_rekeyed(&mut pair, 4, "everything twice");
}

/// A packet is held up and its next copy arrives, or it arrives and is recorded; then it comes in the middle of a
/// later rekeying.
//= ZSSP-SEC-03  no replay is accepted
#[test]
fn any_packet_may_be_delayed_past_the_next_rekeying() {
    for (alice_starts, held_up) in [(true, true), (true, false), (false, true), (false, false)] {
        for (place, name) in PACKETS.into_iter().enumerate() {
            for (same_starter, keys_later) in [(true, 0), (true, 1), (false, 0), (false, 1), (true, 2)] {
                for arrives_after in 0..=PACKETS.len() {
                    let mut pair = Pair::established(1, &Setup::default());
                    start(&mut pair, alice_starts);
                    deliver(&mut pair, place);
                    let late = copy_next(&mut pair, place, alice_starts);
                    if held_up {
                        sender(&mut pair, place, alice_starts).take_outgoing();
                    }
                    pair.drive_for(2 * SECOND);
                    let alice_starts_next = alice_starts == same_starter;
                    for _ in 0..keys_later {
                        start(&mut pair, alice_starts_next);
                        pair.settle();
                    }
                    start(&mut pair, alice_starts_next);
                    deliver(&mut pair, arrives_after);
                    receive(&mut pair, place, alice_starts, late);
                    pair.drive_for(5 * SECOND);
                    let what = format!(
                        "{name} late by {keys_later} keys and {arrives_after} packets, held up: {held_up}, \
                         Alice starts: {alice_starts}, then the same: {same_starter}"
                    );
                    assert_rekeyed(&mut pair, 3 + keys_later, &what);
                }
            }
        }
    }
}

/// Who sends the packet at `place`.
fn sender(pair: &mut Pair, place: usize, alice_starts: bool) -> &mut Peer {
    let (x, y) = sides(pair, alice_starts);
    if place.is_multiple_of(2) { x } else { y }
}

/// A copy of the packet at `place`, which is about to leave.
fn copy_next(pair: &mut Pair, place: usize, alice_starts: bool) -> Vec<u8> {
    let sender = sender(pair, place, alice_starts);
    let [(to, datagram)] = &sender.take_outgoing()[..] else { panic!("one datagram") };
    sender.put_back(*to, datagram.clone());
    datagram.clone()
}

/// Has the other side read a copy of the packet at `place`.
fn receive(pair: &mut Pair, place: usize, alice_starts: bool, copy: Vec<u8>) {
    let from = sender(pair, place, alice_starts).node;
    sender(pair, place + 1, alice_starts).receive(from, copy);
}

//= ZSSP-ST-20  Bob of the first handshake gives way, Alice ignores K1
#[test]
fn when_both_start_at_once_one_rekeying_results() {
    let mut pair = Pair::established(1, &Setup::default());
    for keys in 2..5 {
        let sent = pair.wire.len();
        pair.alice.rekey();
        pair.bob.rekey();
        pair.settle();
        assert_eq!(pair.wire.len() - sent, 5, "two K1, then K2, C1, C2");
        assert_eq!(pair.alice.take_faults(), [Fault::Unexpected]);
        assert_rekeyed(&mut pair, keys, "both at once");
    }
}

//= ZSSP-ST-20  whatever the network does to it
#[test]
fn both_start_at_about_the_same_time_on_a_bad_network() {
    seeds::run(150, |seed| {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut pair = Pair::established(seed, &Setup::default());
        for _ in 0..5 {
            let before = agreed(&pair).unwrap();
            let loss = if random.random_bool(0.5) { 0.0 } else { random.random_range(0.0..0.5) };
            let jitter = random.random_range(0..1500) * MS;
            pair.network.set_conditions(Conditions {
                loss,
                jitter,
                duplication: 0.1,
                ..Conditions::default()
            });
            let alice_first = random.random_bool(0.5);
            start(&mut pair, alice_first);
            pair.drive_for(random.random_range(0..300) * MS);
            start(&mut pair, !alice_first);
            pair.drive_for(55 * SECOND);
            pair.network.set_conditions(Conditions::default());
            pair.drive_for(5 * SECOND);
            let after = agreed(&pair).expect("both have the same ratchet");
            assert!((before + 1..=before + 2).contains(&after), "{before} {after}");
            assert_rekeyed(&mut pair, after, "both at about the same time");
        }
    });
}

/// Payloads under way at every moment, in both directions, on a network that reorders and loses nothing.
//= ZSSP-ST-25  payloads are sent in S1, S2, R1 and R2
//= ZSSP-ST-26  and received
//= ZSSP-ST-27  late ones under the key before
#[test]
fn no_payload_is_lost_or_delayed_by_rekeying() {
    seeds::run(20, |seed| {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut pair = Pair::established(seed, &Setup::default());
        let jitter = random.random_range(0..80) * MS;
        let conditions = Conditions { jitter, ..Conditions::default() };
        let longest = conditions.latency + jitter;
        pair.network.set_conditions(conditions);
        let (mut sent, mut seen) = (0u32, [BTreeMap::new(), BTreeMap::new()]);
        // Each must be there, once, when it has been on its way for as long as any datagram is.
        let mut look = |pair: &mut Pair, due: Range<u32>| {
            for (peer, seen) in [&mut pair.alice, &mut pair.bob].into_iter().zip(&mut seen) {
                for payload in peer.take_payloads() {
                    *seen.entry(u32::from_be_bytes(*payload.first_chunk().unwrap())).or_insert(0) += 1;
                }
                let wrong = due.clone().find(|number| seen.get(number) != Some(&1));
                assert_eq!(wrong, None, "node {}", peer.node);
            }
        };
        for rekeying in 0..20 {
            let starts = random.random_range(0..20);
            for step in 0..100 {
                if step == starts {
                    start(&mut pair, rekeying % 3 == 0);
                }
                for peer in [&mut pair.alice, &mut pair.bob] {
                    peer.send(&[&sent.to_be_bytes()[..], &vec![0; random.random_range(0..1000)]].concat());
                }
                sent += 1;
                pair.drive_for(5 * MS);
                let due = sent.saturating_sub(longest.as_millis() as u32 / 5 + 1);
                look(&mut pair, due.saturating_sub(1)..due);
            }
        }
        pair.drive_for(SECOND);
        look(&mut pair, 0..sent);
        for peer in [&mut pair.alice, &mut pair.bob] {
            assert_eq!(peer.take_faults(), []);
        }
        assert_rekeyed(&mut pair, 21, "under way all the time");
    });
}

/// Work that is done late or lost, on a network that loses half, while applications ask for keys at random.
#[test]
fn whatever_happens_both_have_the_same_keys() {
    seeds::run(60, |seed| {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut pair = Pair::established(seed, &Setup::default());
        for _ in 0..30 {
            let conditions = Conditions {
                loss: random.random_range(0.0..0.4),
                jitter: random.random_range(0..3000) * MS,
                duplication: 0.2,
                corruption: 0.1,
                ..Conditions::default()
            };
            pair.network.set_conditions(conditions);
            let pool = Pool::Losing(random.random_range(0.0..0.2));
            (pair.alice.pool, pair.bob.pool) = (pool, pool);
            if random.random_bool(0.3) {
                let store = if random.random_bool(0.5) { &pair.alice.store } else { &pair.bob.store };
                store.fail_after(random.random_range(0..2));
            }
            start(&mut pair, random.random_bool(0.5));
            pair.drive_for(random.random_range(0..10_000) * MS);
            pair.alice.send(b"from Alice");
            pair.bob.send(b"from Bob");
        }
        (pair.alice.pool, pair.bob.pool) = (Pool::AtOnce, Pool::AtOnce);
        pair.network.set_conditions(Conditions::default());
        pair.alice.store.heal();
        pair.bob.store.heal();
        pair.drive_for(20 * SECOND);
        let keys = agreed(&pair).expect("the same ratchet");
        assert!(keys > 10, "{keys}");
        for peer in [&mut pair.alice, &mut pair.bob] {
            assert!(peer.take_happenings().iter().all(|it| *it == Happening::StoreFailed));
        }
        assert_rekeyed(&mut pair, keys, "in the end");
    });
}
