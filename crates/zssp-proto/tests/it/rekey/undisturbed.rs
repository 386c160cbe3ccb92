//! When a session rekeys, what it sends, and what both remember after each packet.
use std::cell::RefCell;

use super::*;

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
//= ZSSP-PKT-06  K1
//= ZSSP-PKT-07  K2
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

/// Their hellos look the same, so that the two meet, and part when they rekey.
//= ZSSP-KK-07  the two suites mix different secrets
#[test]
fn zssp04_and_kyber1024_part_at_the_first_rekeying() {
    let mut pair = Pair::with(1, &Setup { suites: vec![Suite::Zssp04], ..Setup::default() });
    let open = Open::to(pair.bob.public_key(), pair.bob.address()).suite(Suite::Kyber1024);
    pair.alice.open_with(open).unwrap();
    pair.settle();
    for peer in [&mut pair.alice, &mut pair.bob] {
        peer.take_happenings();
    }
    pair.alice.rekey();
    deliver(&mut pair, 2);
    assert_eq!(pair.alice.take_faults(), [Fault::RatchetMismatch]);
    assert_eq!(pair.alice.take_happenings(), [Happening::Ended(EndReason::Expired)]);
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
