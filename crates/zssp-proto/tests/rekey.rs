//! Another key every hour, under load, on request, on any network, while payloads flow (PROTOCOL 5.3, 5.4, 5.5).
#![cfg(any(feature = "aws-lc", feature = "rust-crypto"))]
#![allow(clippy::unwrap_used, reason = "in a test it is the assertion")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use zssp_harness::pair::{Forgery, Happening, Pair, Peer, Pool, Setup};
use zssp_proto::crypto::Secret;
use zssp_proto::{EndReason, Fault, Fingerprint, Open, RatchetPair, RatchetState, Suite};
use zssp_sim::{Conditions, seeds};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const MS: Duration = Duration::from_millis(1);

/// The packets of an undisturbed rekeying, in order; at the default MTU, one datagram each. The starter sends the first.
const PACKETS: [&str; 4] = ["K1", "K2", "C1", "C2"];

/// How many keys the two have agreed on so far, if they agree about that.
fn agreed(pair: &Pair) -> Option<u64> {
    let remembered = |peer: &Peer, other: &Peer| peer.store.remembered(other.public_key()).first;
    let (alice, bob) = (remembered(&pair.alice, &pair.bob), remembered(&pair.bob, &pair.alice));
    (alice.fingerprint() == bob.fingerprint()).then(|| alice.chain_length())
}

fn start(pair: &mut Pair, alice_starts: bool) {
    if alice_starts {
        pair.alice.rekey();
    } else {
        pair.bob.rekey();
    }
}

/// The starter and the answerer.
fn sides(pair: &mut Pair, alice_starts: bool) -> (&mut Peer, &mut Peer) {
    let Pair { alice, bob, .. } = pair;
    if alice_starts { (alice, bob) } else { (bob, alice) }
}

/// Delivers the next `count` datagrams.
fn deliver(pair: &mut Pair, count: usize) {
    for _ in 0..count {
        pair.pump();
        assert!(pair.deliver(None));
    }
}

/// Both have agreed on a key for the `keys`th time, nobody was told anything, and nothing is left of it.
fn assert_rekeyed(pair: &mut Pair, keys: u64, what: &str) {
    assert_eq!(agreed(pair), Some(keys), "{what}");
    for peer in [&mut pair.alice, &mut pair.bob] {
        peer.keys_per_session = if keys > 1 { 2 } else { 1 };
        assert_eq!(peer.take_happenings(), [], "{what}: node {}", peer.node);
    }
    pair.assert_steady(what);
    let stored = pair.alice.store.remembered(pair.bob.public_key());
    assert!(stored.second.is_none(), "{what}: the one before is not needed any more");
}

//= ZSSP-ST-13  after a uniformly random 50..60 min
#[test]
fn a_key_lasts_for_50_to_60_minutes() {
    let all = RefCell::new(Vec::new());
    seeds::run(10, |seed| {
        let mut pair = Pair::established(seed, &Setup::default());
        for keys in 1..30 {
            assert_eq!(agreed(&pair), Some(keys));
            let left = [&pair.alice, &pair.bob].map(|peer| peer.next_deadline().unwrap() - pair.now());
            all.borrow_mut().extend(left);
            let sent = pair.wire.len();
            pair.drive_for(left[0].min(left[1]) - MS);
            assert_eq!(pair.wire.len(), sent, "before that, nothing is sent");
            pair.drive_for(100 * MS);
            assert_eq!(pair.wire.len(), sent + PACKETS.len());
        }
        assert_rekeyed(&mut pair, 30, "a day later");
    });
    let all = all.into_inner();
    assert!(all.iter().all(|left| (50 * MINUTE - SECOND..60 * MINUTE).contains(left)));
    // Every minute of the ten has its share, which with one seed alone would be chance.
    for minute in 50..60 {
        let here = all.iter().filter(|left| left.as_secs() / 60 == minute).count();
        assert!(all.len() < 100 || here * 20 > all.len(), "{here} of {} in minute {minute}", all.len());
    }
}

//= ZSSP-ST-14  R1 is entered when the application asks, and sends K1
//= ZSSP-ST-16  R2 is entered when K1 was read, and sends K2
//= ZSSP-ST-11  S1 is entered when K2 was read, and sends C1
//= ZSSP-ST-24  C1 in R2 moves to S2
//= ZSSP-KK-01  both sides hash the same beginning
//= ZSSP-KK-02  K1
//= ZSSP-KK-03  K2
//= ZSSP-KK-04  the keys are derived as after the first handshake
//= ZSSP-KK-07  Zssp04 mixes the other secret; both sides do
//= ZSSP-SUI-17  one rekey name for all suites
//= ZSSP-ST-29  the send counter does not restart
#[test]
fn either_side_rekeys_in_every_suite() {
    for suite in [Suite::MlKem1024, Suite::Kyber1024, Suite::Zssp04] {
        let mut pair = Pair::with(1, &Setup { suites: vec![suite], ..Setup::default() });
        let open = Open::to(pair.bob.public_key(), pair.bob.address()).suite(suite);
        pair.alice.open_with(open).unwrap();
        pair.settle();
        for peer in [&mut pair.alice, &mut pair.bob] {
            peer.take_happenings();
        }
        let roles = [pair.alice.session().role(), pair.bob.session().role()];
        for (keys, alice_starts) in [(2, true), (3, false), (4, false), (5, true)] {
            let (sent, sealed) = (pair.wire.len(), pair.alice.session().packets_sealed());
            start(&mut pair, alice_starts);
            pair.settle();
            assert_eq!(pair.wire.len() - sent, PACKETS.len());
            assert_eq!(pair.alice.session().packets_sealed(), sealed + 2);
            assert_rekeyed(&mut pair, keys, &format!("{suite:?}, key {keys}"));
        }
        assert_eq!([pair.alice.session().role(), pair.bob.session().role()], roles);
    }
}

#[test]
fn a_rekeying_that_is_under_way_is_not_started_again() {
    let mut pair = Pair::established(1, &Setup::default());
    pair.alice.rekey();
    pair.alice.rekey();
    assert_eq!(pair.alice.take_faults(), [Fault::Stale]);
    pair.settle();
    assert_rekeyed(&mut pair, 2, "asked twice");
    let id = pair.alice.session().id();
    pair.alice.context.close(id);
    assert!(pair.alice.context.rekey(id).is_none());
}

/// The table of PROTOCOL 5.5, row by row.
//= ZSSP-RAT-11  y reads K1: new, old state 1
//= ZSSP-RAT-12  x reads K2: new, none
//= ZSSP-RAT-13  C1 read: unchanged, none
//= ZSSP-RAT-14  the copy equals what was stored: the next rekeying would end in a conflict otherwise
#[test]
fn the_pair_after_every_packet() {
    for alice_starts in [true, false] {
        let mut pair = Pair::established(1, &Setup::default());
        for keys in 2..5 {
            let states = |peer: &Peer, other: &Peer| {
                let stored = peer.store.remembered(other.public_key());
                stored.states().map(|it| (it.chain_length(), *it.fingerprint())).collect::<Vec<_>>()
            };
            let [old] = states(&pair.alice, &pair.bob)[..] else { panic!("one state") };
            start(&mut pair, alice_starts);
            let mut after = || {
                deliver(&mut pair, 1);
                let (x, y) = sides(&mut pair, alice_starts);
                (states(x, y), states(y, x))
            };
            let (x, y) = after();
            let new = y[0];
            assert_eq!((new.0, &x, &y), (keys, &vec![old], &vec![new, old]), "y read K1");
            assert_ne!(new.1, old.1);
            assert_eq!(after(), (vec![new], vec![new, old]), "x read K2");
            assert_eq!(after(), (vec![new], vec![new]), "y read C1");
            assert_eq!(after(), (vec![new], vec![new]), "x read C2");
        }
    }
}

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

/// A packet is held up, its next copy arrives, and it comes in the middle of a later rekeying.
//= ZSSP-SEC-03  no replay is accepted
#[test]
fn any_packet_may_be_delayed_past_the_next_rekeying() {
    for (place, name) in PACKETS.into_iter().enumerate() {
        for (same_starter, keys_later) in [(true, 0), (true, 1), (false, 0), (false, 1), (true, 2)] {
            for arrives_after in 0..PACKETS.len() {
                let mut pair = Pair::established(1, &Setup::default());
                pair.alice.rekey();
                deliver(&mut pair, place);
                let (sender, from, to) =
                    if place % 2 == 0 { (&mut pair.alice, 1, 2) } else { (&mut pair.bob, 2, 1) };
                let [(_, late)] = &sender.take_outgoing()[..] else { panic!("one datagram") };
                let late = late.clone();
                pair.drive_for(2 * SECOND);
                for _ in 0..keys_later {
                    start(&mut pair, same_starter);
                    pair.settle();
                }
                start(&mut pair, same_starter);
                deliver(&mut pair, arrives_after);
                let receiver = if to == 1 { &mut pair.alice } else { &mut pair.bob };
                receiver.receive(from, late);
                pair.drive_for(5 * SECOND);
                let what = format!("{name} delayed by {keys_later} and {arrives_after} packets");
                assert_rekeyed(&mut pair, 3 + keys_later, &what);
            }
        }
    }
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
        pair.network.set_conditions(Conditions { jitter, ..Conditions::default() });
        let mut sent = 0u32;
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
            }
        }
        pair.drive_for(SECOND);
        for peer in [&mut pair.alice, &mut pair.bob] {
            let mut seen = BTreeMap::new();
            for payload in peer.take_payloads() {
                *seen.entry(u32::from_be_bytes(*payload.first_chunk().unwrap())).or_insert(0) += 1;
            }
            assert_eq!(seen.len() as u32, sent, "node {}", peer.node);
            assert!(seen.values().all(|times| *times == 1));
            assert_eq!(peer.take_faults(), []);
        }
        assert_rekeyed(&mut pair, 21, "under way all the time");
    });
}

//= ZSSP-ST-27  the two newest keys stay readable
#[test]
fn late_payloads_survive_one_rekeying_and_not_two() {
    let mut pair = Pair::established(1, &Setup::default());
    let mut late = Vec::new();
    for _ in 0..2 {
        pair.alice.send(b"late");
        late.extend(pair.alice.take_outgoing());
    }
    for (_, datagram) in late {
        pair.bob.rekey();
        pair.settle();
        pair.bob.receive(1, datagram);
    }
    assert_eq!(pair.bob.take_payloads(), [b"late"]);
    assert_eq!(pair.bob.take_faults(), [Fault::UnknownKeyId]);
    assert_rekeyed(&mut pair, 3, "after late payloads");
}

/// Under which key, so with which key id, payloads leave at each step.
//= ZSSP-ST-28  sending switches to a new key when that key is confirmed
//= ZSSP-ST-24  C1 makes it current
#[test]
fn sending_switches_when_the_key_is_confirmed() {
    let mut pair = Pair::established(1, &Setup::default());
    let kids = |pair: &mut Pair| {
        [&mut pair.alice, &mut pair.bob].map(|peer| {
            let before = peer.take_outgoing();
            peer.send(b"under which key");
            let [(_, datagram)] = &peer.take_outgoing()[..] else { panic!("one datagram") };
            for (to, datagram) in before {
                peer.put_back(to, datagram);
            }
            let kid: [u8; 4] = *datagram.first_chunk().unwrap();
            kid
        })
    };
    let old = kids(&mut pair);
    pair.alice.rekey();
    assert_eq!(kids(&mut pair), old, "R1, S2");
    deliver(&mut pair, 1);
    assert_eq!(kids(&mut pair), old, "R1, R2");
    deliver(&mut pair, 1);
    let [alice, bob] = kids(&mut pair);
    assert!(alice != old[0] && bob == old[1], "S1, R2: Alice knows that Bob has it");
    deliver(&mut pair, 1);
    let new = kids(&mut pair);
    assert!(new[0] == alice && new[1] != old[1], "S1, S2: and Bob that she has");
    deliver(&mut pair, 1);
    assert_eq!(kids(&mut pair), new);
}

//= ZSSP-KK-06  header keys are kept
#[test]
fn header_keys_are_kept() {
    let mut pair = Pair::established(1, &Setup::default());
    let forge = |pair: &Pair| {
        let forgery = Forgery::whole([1; 4], 8, 5);
        (pair.alice.keys.forge(&forgery), pair.bob.keys.forge(&forgery))
    };
    let before = forge(&pair);
    pair.alice.rekey();
    pair.settle();
    assert_rekeyed(&mut pair, 2, "for the headers");
    assert_eq!(forge(&pair), before);
}

//= ZSSP-ST-14  K1 every second, the outer layer resealed
//= ZSSP-ST-15  R1 ends the session after 60 s
//= ZSSP-KK-05  each with a fresh counter
#[test]
fn a_rekeying_that_is_never_answered_ends_the_session() {
    let mut pair = Pair::established(1, &Setup::default());
    pair.network.partition(1, 2);
    let before = pair.sent_by(1).len();
    pair.alice.rekey();
    pair.drive_for(59_900 * MS);
    let sent = &pair.sent_by(1)[before..];
    assert_eq!(sent.len(), 60);
    for (place, packet) in sent.iter().enumerate() {
        assert!(!sent[..place].contains(packet), "each is sealed anew");
        assert_eq!(packet.len(), 16 + 85);
    }
    assert!(pair.alice.try_send(b"until then it is a session"));
    pair.drive_for(200 * MS);
    assert_eq!(pair.alice.take_happenings(), [Happening::Ended(EndReason::Expired)]);
    assert!(!pair.alice.try_send(b"not any more"));
    assert_eq!((pair.alice.stats().sessions, pair.alice.stats().key_ids), (0, 0));

    // Bob finds out when he rekeys himself.
    pair.drive_for(61 * MINUTE);
    assert_eq!(pair.bob.take_happenings(), [Happening::Ended(EndReason::Expired)]);
    pair.assert_nothing_left();
}

//= ZSSP-ST-16  K2 every second, the outer layer resealed
//= ZSSP-ST-17  R2 ends the session after 60 s
//= ZSSP-KK-05  each with a fresh counter
#[test]
fn an_answer_that_is_never_confirmed_ends_the_session() {
    let mut pair = Pair::established(1, &Setup::default());
    let before = pair.sent_by(2).len();
    pair.alice.rekey();
    pair.pump();
    pair.network.partition(1, 2);
    assert!(pair.deliver(None));
    pair.drive_for(59_900 * MS);
    let sent = &pair.sent_by(2)[before..];
    assert_eq!(sent.len(), 60);
    for (place, packet) in sent.iter().enumerate() {
        assert!(!sent[..place].contains(packet), "each is sealed anew");
        assert_eq!(packet.len(), 16 + 85);
    }
    pair.drive_for(200 * MS);
    for peer in [&mut pair.alice, &mut pair.bob] {
        assert_eq!(peer.take_happenings(), [Happening::Ended(EndReason::Expired)]);
    }
    pair.assert_nothing_left();

    // What they remember differs by one step, and they meet again.
    pair.network.heal(1, 2);
    for alice_opens in [true, false] {
        if alice_opens {
            pair.alice.open(&pair.bob)
        } else {
            pair.bob.open(&pair.alice)
        };
        pair.settle();
        assert!(pair.talk());
        for peer in [&mut pair.alice, &mut pair.bob] {
            assert!(!peer.take_happenings().contains(&Happening::Downgraded));
        }
    }
}

//= ZSSP-RAT-05  a storage error drops the packet with nothing changed
#[test]
fn the_store_may_fail_at_any_packet() {
    // y writes at K1, x at K2, y at C1.
    for (starter_fails, call) in [(false, 0), (true, 0), (false, 1)] {
        for alice_starts in [true, false] {
            let mut pair = Pair::established(1, &Setup::default());
            let (x, y) = sides(&mut pair, alice_starts);
            let failing = if starter_fails { x } else { y };
            failing.store.fail_after(call);
            start(&mut pair, alice_starts);
            pair.settle();
            let (x, y) = sides(&mut pair, alice_starts);
            let failing = if starter_fails { x } else { y };
            assert_eq!(failing.take_happenings(), [Happening::StoreFailed]);
            assert_eq!(failing.take_faults(), [Fault::Store]);
            assert!(pair.talk(), "meanwhile");
            pair.drive_for(3 * SECOND);
            assert_rekeyed(&mut pair, 2, "the next copy succeeded");
        }
    }
}

//= ZSSP-RAT-04  a mismatch ends the session that lost
//= ZSSP-RAT-03  every write is a compare-and-swap against the session's own copy
#[test]
fn who_finds_another_pair_in_the_store_ends() {
    let other = || {
        let first = RatchetState::new(Secret::new([9; 32]), Fingerprint::new([10; 32]), 99);
        RatchetPair { first, second: None }
    };
    for (delivered, starter_loses) in [(0, false), (1, true), (2, false)] {
        for alice_starts in [true, false] {
            let mut pair = Pair::established(1, &Setup::default());
            start(&mut pair, alice_starts);
            deliver(&mut pair, delivered);
            let (x, y) = sides(&mut pair, alice_starts);
            let (loser, winner) = if starter_loses { (x, y) } else { (y, x) };
            loser.store.preset(winner.public_key(), other());
            pair.settle();
            let (x, y) = sides(&mut pair, alice_starts);
            let (loser, winner) = if starter_loses { (x, y) } else { (y, x) };
            assert_eq!(loser.take_happenings(), [Happening::Ended(EndReason::Conflict)]);
            assert_eq!((loser.stats().sessions, loser.stats().key_ids), (0, 0));
            assert!(loser.store.remembered(winner.public_key()).same(&other()), "nothing was written");
            pair.drive_for(62 * MINUTE);
            pair.assert_nothing_left();
        }
    }
}

//= ZSSP-SEC-06  no stuck state
#[test]
fn closing_is_possible_at_every_moment() {
    for alice_starts in [true, false] {
        for delivered in 0..=PACKETS.len() {
            for starter_closes in [true, false] {
                let mut pair = Pair::established(1, &Setup::default());
                start(&mut pair, alice_starts);
                deliver(&mut pair, delivered);
                let (x, y) = sides(&mut pair, alice_starts);
                let closing = if starter_closes { x } else { y };
                closing.context.close(closing.session().id());
                assert_eq!((closing.stats().sessions, closing.stats().key_ids), (0, 0));
                pair.drive_for(62 * MINUTE);
                pair.assert_nothing_left();
            }
        }
    }
}

/// The work is done, or lost, when the session it is for is over.
#[test]
fn work_for_a_closed_session_leaves_nothing_behind() {
    for step in 0..PACKETS.len() {
        for lost in [true, false] {
            let mut pair = Pair::established(1, &Setup::default());
            if step == 0 {
                pair.alice.pool = Pool::Held;
            }
            pair.alice.rekey();
            for delivered in 1..=step {
                pair.pump();
                if delivered == step {
                    (pair.alice.pool, pair.bob.pool) = (Pool::Held, Pool::Held);
                }
                pair.deliver(None);
            }
            for peer in [&mut pair.alice, &mut pair.bob] {
                peer.context.close(peer.session().id());
                if lost {
                    peer.drop_held();
                } else {
                    peer.run_held();
                }
                assert_eq!(peer.take_outgoing(), [], "after {step} packets");
            }
            pair.assert_nothing_left();
        }
    }
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

/// The rest of a packet never comes, and its key is replaced twice in the meantime.
//= ZSSP-REA-04  an incomplete packet is forgotten after 5 s
//= ZSSP-REA-07  its memory is given back
#[test]
fn fragments_are_forgotten_though_their_key_is_gone() {
    let mut pair = Pair::with(1, &Setup { mtu: 1280, ..Setup::default() });
    pair.alice.open(&pair.bob);
    pair.settle();
    pair.alice.send(&[1; 3000]);
    let (_, fragment) = pair.alice.take_outgoing().swap_remove(0);
    pair.bob.receive(1, fragment);
    pair.bob.flush();
    let held = pair.bob.stats().reassembly_bytes;
    assert!(held > 0);
    for _ in 0..2 {
        pair.drive_for(SECOND);
        pair.alice.rekey();
        pair.settle();
    }
    assert_eq!(pair.bob.stats().reassembly_bytes, held);
    pair.drive_for(4 * SECOND);
    assert_eq!((pair.bob.stats().reassembly_bytes, pair.bob.stats().incomplete_expired), (0, 1));
}
