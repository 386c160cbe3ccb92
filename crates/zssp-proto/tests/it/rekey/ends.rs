//! No answer, no disk, another session, a session closed in the middle of it.
use super::*;

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
