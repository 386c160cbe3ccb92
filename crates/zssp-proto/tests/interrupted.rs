//! A process that dies in the middle of a handshake leaves packets on their way, which may arrive when the next
//! handshake has begun (PROTOCOL 5.3, 5.5).
#![cfg(any(feature = "aws-lc", feature = "rust-crypto"))]
#![allow(clippy::unwrap_used, reason = "in a test it is the assertion")]

use std::time::Duration;

use zssp_harness::pair::{Happening, Pair, Peer, Setup};
use zssp_proto::crypto::Secret;
use zssp_proto::{Fingerprint, Open, Policy, RatchetPair, RatchetState};

const SECOND: Duration = Duration::from_secs(1);

/// What Alice was doing when she died; the last packet of it is still under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interrupted {
    /// She had read X2: X3 is under way.
    Opening,
    /// She had read K1: K2 is under way.
    Rekeying,
}

/// Who opens a session as soon as she is back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opener {
    Alice,
    Bob,
    Both,
}

/// Two who share a state; Alice has died and is back, and what she sent last has not arrived.
fn interrupted(seed: u64, policy: Policy, by: Interrupted) -> (Pair, Vec<u8>) {
    let mut pair = Pair::with(seed, &Setup { policy, ..Setup::default() });
    let first = RatchetState::new(Secret::new([7; 32]), Fingerprint::new([8; 32]), 3);
    let shared = RatchetPair { first, second: None };
    pair.alice.store.preset(pair.bob.public_key(), shared.duplicate());
    pair.bob.store.preset(pair.alice.public_key(), shared);
    match by {
        Interrupted::Opening => {
            pair.alice.open(&pair.bob);
            for _ in 0..2 {
                pair.pump();
                assert!(pair.deliver(None));
            }
        }
        Interrupted::Rekeying => {
            pair.alice.open(&pair.bob);
            pair.settle();
            pair.bob.rekey();
            pair.pump();
            assert!(pair.deliver(None));
        }
    }
    let sent = pair.alice.take_outgoing();
    let [(_, last)] = &sent[..] else { panic!("one packet") };
    let last = last.clone();
    assert!(pair.alice.store.remembered(pair.bob.public_key()).second.is_some(), "{by:?}");
    pair.alice.restart();
    for peer in [&mut pair.alice, &mut pair.bob] {
        peer.take_happenings();
    }
    (pair, last)
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
    for (number, by) in [Interrupted::Opening, Interrupted::Rekeying].into_iter().enumerate() {
        for opener in [Opener::Alice, Opener::Bob, Opener::Both] {
            for (policy, deliveries) in [Policy::OPPORTUNISTIC, Policy::PERSISTENT]
                .iter()
                .flat_map(|it| (0..7).map(move |n| (*it, n)))
            {
                // Of two seeds in a row, one gives Alice the larger key.
                for seed in [0, 1, 2, 3].map(|seed| seed + 4 * number as u64) {
                    let what = format!("{by:?}, opened by {opener:?} {deliveries} {seed} {policy:?}");
                    let (mut pair, old) = interrupted(seed, policy, by);
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
                    for _ in 0..10 {
                        pair.drive_for(10 * SECOND);
                        if pair.alice.stats().sessions + pair.bob.stats().sessions == 0 {
                            open(&mut pair.alice, &pair.bob);
                        }
                    }
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
