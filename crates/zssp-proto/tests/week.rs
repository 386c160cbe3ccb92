//! A week in the life of two peers in persistent mode: a network that loses a third, a key every hour, and processes that
//! die at any moment and come back with what their stores hold. A seed that fails is printed; `ZSSP_SEED` runs it alone.
#![cfg(any(feature = "aws-lc", feature = "rust-crypto"))]
#![allow(clippy::unwrap_used, reason = "in a test it is the assertion")]

use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use zssp_harness::pair::{Happening, Pair, Peer, Setup};
use zssp_proto::crypto::Secret;
use zssp_proto::{EndReason, Fingerprint, Open, Policy, RatchetPair, RatchetState};
use zssp_sim::{Conditions, seeds};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// What both remember before they first meet; the chain is as long as one that a one-time password has preset.
fn preset() -> RatchetPair {
    let first = RatchetState::new(Secret::new([7; 32]), Fingerprint::new([8; 32]), 1);
    RatchetPair { first, second: None }
}

/// A third is lost, the rest is late and out of order.
fn bad() -> Conditions {
    Conditions { loss: 0.3, jitter: 400 * MS, duplication: 0.05, corruption: 0.01, ..Conditions::default() }
}

/// When a process dies next, and until when it is dead.
struct Fate {
    dies: Duration,
    back: Option<Duration>,
}

/// A process that opens a session whenever it has none, and dies now and then.
struct Application {
    fate: Fate,
    restarts: u32,
}

impl Application {
    fn new(random: &mut Xoshiro256PlusPlus) -> Self {
        Self { fate: Fate { dies: random.random_range(SECOND..10 * HOUR), back: None }, restarts: 0 }
    }

    /// Lives on until `now`.
    fn live(&mut self, now: Duration, (peer, other): (&mut Peer, &Peer), random: &mut Xoshiro256PlusPlus) {
        match self.fate.back {
            Some(back) if back > now => return,
            Some(_) => self.fate = Fate { dies: now + random.random_range(SECOND..10 * HOUR), back: None },
            None if self.fate.dies <= now => {
                peer.restart();
                self.fate.back = Some(now + random.random_range(Duration::ZERO..30 * SECOND));
                self.restarts += 1;
                return;
            }
            None => {}
        }
        for happening in peer.take_happenings() {
            let is_expected = match happening {
                Happening::Asked | Happening::Established(_) | Happening::StoreFailed => true,
                Happening::Ended(reason) => {
                    matches!(reason, EndReason::Expired | EndReason::Replaced { .. })
                }
                _ => false,
            };
            assert!(is_expected, "{happening:?} after {} hours", now.as_secs() / 3600);
        }
        if peer.stats().sessions == 0 {
            let open = Open::to(other.public_key(), other.address()).give_up_after(None);
            peer.open_with(open).unwrap();
        }
        if random.random_bool(0.001) {
            peer.store.fail_after(random.random_range(0..3));
        }
    }
}

//= ZSSP-ST-13  every 50..60 min
//= ZSSP-RAT-14  the copy always equals what was stored, so no rekeying is a conflict
//= ZSSP-FLG-07  persistent mode holds out
//= ZSSP-SEC-06  no stuck state
#[test]
fn two_persistent_peers_never_lose_each_other() {
    seeds::run(24, |seed| {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut pair = Pair::with(seed, &Setup { policy: Policy::PERSISTENT, ..Setup::default() });
        pair.alice.store.preset(pair.bob.public_key(), preset());
        pair.bob.store.preset(pair.alice.public_key(), preset());
        let mut alice = Application::new(&mut random);
        let mut bob = Application::new(&mut random);
        let mut clear_sky = random.random_range(HOUR..12 * HOUR);
        pair.network.set_conditions(bad());
        while pair.elapsed() < WEEK {
            let now = pair.elapsed();
            let Pair { alice: a, bob: b, network, .. } = &mut pair;
            // Nothing reaches the dead, and the dead say nothing.
            if alice.fate.back.or(bob.fate.back).is_some() {
                network.partition(1, 2);
            } else {
                network.heal(1, 2);
            }
            alice.live(now, (a, b), &mut random);
            bob.live(now, (b, a), &mut random);
            pair.wire.clear();
            pair.drive_for(random.random_range(5 * SECOND..20 * SECOND));

            if pair.elapsed() > clear_sky && alice.fate.back.or(bob.fate.back).is_none() {
                // A good moment, long enough for whatever is going on to end; then everything works.
                clear_sky = pair.elapsed() + random.random_range(HOUR..12 * HOUR);
                for application in [&mut alice, &mut bob] {
                    application.fate.dies = application.fate.dies.max(pair.elapsed() + 400 * SECOND);
                }
                pair.network.heal(1, 2);
                pair.network.set_conditions(Conditions::default());
                for _ in 0..20 {
                    pair.drive_for(10 * SECOND);
                    let now = pair.elapsed();
                    let Pair { alice: a, bob: b, .. } = &mut pair;
                    alice.live(now, (a, b), &mut random);
                    bob.live(now, (b, a), &mut random);
                }
                assert!(pair.talk(), "after {} hours", pair.elapsed().as_secs() / 3600);
                pair.network.set_conditions(bad());
            }
        }
        let keys = pair.alice.store.remembered(pair.bob.public_key()).first.chain_length();
        assert!(keys > 150 && alice.restarts + bob.restarts > 20, "{keys} keys");
    });
}
