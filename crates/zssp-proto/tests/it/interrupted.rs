//! Whoever dies, closes or gives up in the middle of a handshake leaves packets on their way, which may arrive when the
//! next handshake has begun (PROTOCOL 5.3, 5.5).

use std::time::Duration;

use zssp_harness::pair::{Happening, Pair, Peer, Setup};
use zssp_proto::crypto::Secret;
use zssp_proto::{EndReason, Fingerprint, Open, Policy, RatchetPair, RatchetState};

const SECOND: Duration = Duration::from_secs(1);
/// Less than what an attempt was cut off in can have an effect for.
const GIVE_UP: Duration = Duration::from_secs(5);

/// What Alice was doing when she broke off; the last packet of it is still under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    /// She had read X2: X3 is under way.
    Opening,
    /// She had read K1: K2 is under way.
    Rekeying,
}

/// How she broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Closing,
    Dying,
    GivingUp,
}

const INTERRUPTED: [(Doing, By); 5] = [
    (Doing::Opening, By::Closing),
    (Doing::Opening, By::Dying),
    (Doing::Opening, By::GivingUp),
    (Doing::Rekeying, By::Closing),
    (Doing::Rekeying, By::Dying),
];

/// Who opens a session as soon as she is back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opener {
    Alice,
    Bob,
    Both,
}

/// Two who share a state and have been there for a while; Alice has broken off, and what she sent last has not arrived.
fn interrupted(seed: u64, policy: Policy, (doing, by): (Doing, By)) -> (Pair, Vec<u8>) {
    let mut pair = two_who_share_a_state(seed, policy);
    let id = pair.alice.open_with(Open::to(pair.bob.public_key(), pair.bob.address()).give_up_after(GIVE_UP));
    match doing {
        Doing::Opening => {
            for _ in 0..2 {
                pair.pump();
                assert!(pair.deliver(None));
            }
        }
        Doing::Rekeying => {
            pair.settle();
            pair.bob.rekey();
            pair.pump();
            assert!(pair.deliver(None));
        }
    }
    let sent = pair.alice.take_outgoing();
    let [(_, last)] = &sent[..] else { panic!("one packet") };
    let last = last.clone();
    assert!(pair.alice.store.remembered(pair.bob.public_key()).second.is_some(), "{doing:?}");
    match by {
        By::Closing => assert!(pair.alice.context.close(id.unwrap()).is_some()),
        By::Dying => pair.alice.restart(),
        By::GivingUp => {
            pair.network.partition(1, 2);
            pair.drive_for(GIVE_UP);
            pair.network.heal(1, 2);
            assert_eq!(pair.alice.take_happenings(), [Happening::Ended(EndReason::TimedOut)]);
        }
    }
    for peer in [&mut pair.alice, &mut pair.bob] {
        peer.take_happenings();
    }
    (pair, last)
}

/// Both processes have been there for longer than anything of their predecessors can matter.
fn two_who_share_a_state(seed: u64, policy: Policy) -> Pair {
    let mut pair = Pair::with(seed, &Setup { policy, ..Setup::default() });
    let first = RatchetState::new(Secret::new([7; 32]), Fingerprint::new([8; 32]), 3);
    let shared = RatchetPair { first, second: None };
    pair.alice.store.preset(pair.bob.public_key(), shared.duplicate());
    pair.bob.store.preset(pair.alice.public_key(), shared);
    for _ in 0..2 {
        open(&mut pair.alice, &pair.bob);
        pair.settle();
        pair.stand_still_for(20 * SECOND);
    }
    for peer in [&mut pair.alice, &mut pair.bob] {
        peer.sessions.drain(..).for_each(|session| drop(peer.context.close(session.id())));
        peer.take_happenings();
    }
    pair
}

fn open(from: &mut Peer, to: &Peer) {
    from.open_with(Open::to(to.public_key(), to.address()).give_up_after(None)).unwrap();
}

/// Whenever the old packet arrives, both end up with the same state and a session.
//= ZSSP-RAT-23  state 2 is not used before the old packet can have no effect any more
//= ZSSP-RAT-24  by neither side
//= ZSSP-FLG-07  persistent mode holds out
#[test]
fn what_was_left_under_way_does_no_harm() {
    for (number, how) in INTERRUPTED.into_iter().enumerate() {
        for opener in [Opener::Alice, Opener::Bob, Opener::Both] {
            for (policy, deliveries) in [Policy::OPPORTUNISTIC, Policy::PERSISTENT]
                .iter()
                .flat_map(|it| (0..7).map(move |n| (*it, n)))
            {
                // Of two seeds in a row, one gives Alice the larger key.
                for seed in [0, 1, 2, 3].map(|seed| seed + 4 * number as u64) {
                    let what = format!("{how:?}, opened by {opener:?} {deliveries} {seed} {policy:?}");
                    let (mut pair, old) = interrupted(seed, policy, how);
                    if opener != Opener::Bob {
                        open(&mut pair.alice, &pair.bob);
                    }
                    if opener != Opener::Alice {
                        open(&mut pair.bob, &pair.alice);
                    }
                    for _ in 0..deliveries {
                        pair.pump();
                        pair.deliver(None);
                    }
                    pair.bob.receive(1, old);
                    meet(&mut pair);
                    pair.assert_steady(&what);
                    for peer in [&mut pair.alice, &mut pair.bob] {
                        let happenings = peer.take_happenings();
                        let harmless = |it: &Happening| {
                            matches!(it, Happening::Asked | Happening::Established(_) | Happening::Ended(_))
                        };
                        assert!(happenings.iter().all(harmless), "{what}: {happenings:?}");
                    }
                    let [alice, bob] = [
                        pair.alice.store.remembered(pair.bob.public_key()),
                        pair.bob.store.remembered(pair.alice.public_key()),
                    ];
                    assert!(alice.same(&bob), "{what}");
                }
            }
        }
    }
}

/// Alice's attempt goes on after ten seconds in A3, which is no reason to take an attempt of Bob's for a later one: her
/// X3 may have been read at the last moment, and he has given way to it.
//= ZSSP-RAT-24  also while the attempt goes on
#[test]
fn an_attempt_that_starts_over_is_not_settled_before_its_last_completion_is() {
    for seed in 0..4 {
        let mut pair = two_who_share_a_state(seed, Policy::PERSISTENT);
        open(&mut pair.alice, &pair.bob);
        let old = completion_of(&mut pair, Side::Alice);
        pair.network.partition(1, 2);
        pair.drive_for(9 * SECOND);
        pair.network.heal(1, 2);
        pair.alice.take_outgoing();
        open(&mut pair.bob, &pair.alice);
        let other = completion_of(&mut pair, Side::Bob);
        pair.network.partition(1, 2);
        pair.bob.receive(1, old);
        pair.drive_for(SECOND + SECOND / 100);
        pair.network.heal(1, 2);
        pair.alice.receive(2, other);
        meet(&mut pair);
        pair.assert_steady(&format!("{seed}"));
    }
}

/// Attempts that are given up after less than the ten seconds for which the peer may come to the state of an earlier
/// one: they connect when those are over.
//= ZSSP-RAT-23  not before, and not much later
#[test]
fn short_attempts_connect_too() {
    for (doing, by) in INTERRUPTED {
        for (patience, pause) in [(5, 20), (5, 0), (2, 0), (2, 3), (9, 1)] {
            let what = format!("{doing:?} {by:?}, {patience} s of attempt, {pause} s of pause");
            // The old packet is lost.
            let (mut pair, _) = interrupted(1, Policy::PERSISTENT, (doing, by));
            let begun = pair.elapsed();
            let is_open = |pair: &Pair| pair.alice.has_session() && pair.alice.session().packets_sealed() > 0;
            pair.alice.sessions.clear();
            while !is_open(&pair) {
                let open = Open::to(pair.bob.public_key(), pair.bob.address());
                let opened = pair.alice.open_with(open.give_up_after(patience * SECOND));
                pair.drive_for(patience * SECOND);
                assert!(opened.is_ok() && pair.elapsed() - begun < 40 * SECOND, "{what}");
                pair.drive_for(pause * SECOND);
            }
            assert!(pair.talk(), "{what}");
        }
    }
}

/// Somebody holds K2 up for as long as it can be read at all, and lets it through at the worst moment: when Alice, whose
/// session is over, has read the next X2; and perhaps he holds that X3 up as well.
//= ZSSP-RAT-25  K2 is of no use any more
#[test]
fn a_second_rekey_packet_that_is_held_up_does_no_harm() {
    for seed in 0..4 {
        for by in [By::Closing, By::Dying] {
            for (wait, held) in [(0, 0), (0, 12), (15, 0), (15, 12), (40, 0)] {
                let what = format!("{by:?}, seed {seed}, {wait} s until X1, X3 held for {held} s");
                let (mut pair, old) = interrupted(seed, Policy::PERSISTENT, (Doing::Rekeying, by));
                let shared = pair.bob.store.remembered(pair.alice.public_key()).first;
                pair.drive_for(wait * SECOND);
                open(&mut pair.alice, &pair.bob);
                let mine = |pair: &Pair| pair.alice.store.remembered(pair.bob.public_key());
                let before = mine(&pair).first;
                while mine(&pair).first.fingerprint() == before.fingerprint() {
                    pair.alice.meet_deadlines();
                    pair.bob.meet_deadlines();
                    pair.pump();
                    if !pair.deliver(Some(pair.now())) {
                        pair.stand_still_for(SECOND / 200);
                    }
                }
                if held > 0 {
                    pair.alice.take_outgoing();
                    pair.network.partition(1, 2);
                    pair.drive_for(held * SECOND);
                    pair.network.heal(1, 2);
                }
                pair.bob.receive(1, old);
                let his = pair.bob.store.remembered(pair.alice.public_key());
                assert_eq!(his.first.fingerprint(), shared.fingerprint(), "{what}: K2 was not read");
                meet(&mut pair);
                pair.assert_steady(&what);
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Alice,
    Bob,
}

/// Delivers until one side has read X2, and takes the X3 that it would send.
fn completion_of(pair: &mut Pair, side: Side) -> Vec<u8> {
    for _ in 0..2 {
        pair.pump();
        assert!(pair.deliver(None));
    }
    let peer = if side == Side::Alice { &mut pair.alice } else { &mut pair.bob };
    let mut sent = peer.take_outgoing();
    assert_eq!(sent.len(), 1);
    sent.remove(0).1
}

/// Alice opens until there is a session.
fn meet(pair: &mut Pair) {
    for _ in 0..10 {
        pair.drive_for(10 * SECOND);
        if pair.alice.stats().sessions + pair.bob.stats().sessions == 0 {
            open(&mut pair.alice, &pair.bob);
        }
    }
}
