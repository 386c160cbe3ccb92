//! Two peers on a bad network for a long time: a key every hour, and processes that die at any moment and come back
//! with what their stores hold. They always meet again, in persistent mode too, where a lost ratchet would lock them out.
//!
//! A seed that fails is printed; `ZSSP_SEED` runs it alone. Thousands of them, in a quarter of an hour:
//! `ZSSP_SEEDS=4000 cargo test --release -p zssp-proto --test week restarts`. A week takes a second, and so thousands
//! of weeks an hour or more: `ZSSP_SEEDS=4000 cargo test --release -p zssp-proto --test week persistent`.
#![cfg(any(feature = "aws-lc", feature = "rust-crypto"))]
#![allow(clippy::unwrap_used, reason = "in a test it is the assertion")]

use std::ops::Range;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use zssp_harness::pair::{Happening, Pair, Peer, Setup};
use zssp_proto::crypto::Secret;
use zssp_proto::{EndReason, Fingerprint, Open, Policy, RatchetPair, RatchetState, SessionId};
use zssp_sim::{Conditions, seeds};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// What both remember before they first meet; the chain is as long as one that a one-time password has preset.
fn preset() -> RatchetPair {
    let first = RatchetState::new(Secret::new([7; 32]), Fingerprint::new([8; 32]), 1);
    RatchetPair { first, second: None }
}

/// What a scenario is like.
struct World {
    policy: Policy,
    conditions: Conditions,
    lasts: Duration,
    /// Between one death of a process and the next.
    lifetime: Range<Duration>,
    /// Between one look of the applications at their sessions and the next.
    step: Range<Duration>,
    /// Between one time when everything works and the next.
    bad_times: Range<Duration>,
    /// Whether what was under way when a process died is lost.
    loses_what_is_under_way: bool,
    /// How applications treat their sessions.
    habits: Habits,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Habits {
    /// They open one when they have none, and wait for it.
    Patient,
    /// They give up after a while, close what is open or is being opened, and open another beside it.
    Restless,
}

/// When a process dies next, and until when it is dead.
struct Fate {
    dies: Duration,
    back: Option<Duration>,
}

/// A process that opens a session whenever it has none, and dies now and then.
struct Application {
    fate: Fate,
    lifetime: Range<Duration>,
    habits: Habits,
    restarts: u32,
    /// What it opened last.
    attempt: Option<SessionId>,
}

impl Application {
    fn new(world: &World, random: &mut Xoshiro256PlusPlus) -> Self {
        let lifetime = world.lifetime.clone();
        let fate = Fate { dies: random.random_range(lifetime.clone()), back: None };
        Self { fate, lifetime, habits: world.habits, restarts: 0, attempt: None }
    }

    /// Lives on until `now`.
    fn live(
        &mut self,
        (now, is_bad): (Duration, bool),
        (peer, other): (&mut Peer, &Peer),
        random: &mut Xoshiro256PlusPlus,
    ) {
        match self.fate.back {
            Some(back) if back > now => return,
            Some(_) => {
                self.fate = Fate { dies: now + random.random_range(self.lifetime.clone()), back: None };
            }
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
                        || self.habits == Habits::Restless
                            && matches!(reason, EndReason::Conflict | EndReason::TimedOut)
                }
                _ => false,
            };
            assert!(is_expected, "{happening:?} after {now:?}");
        }
        if self.habits == Habits::Restless && is_bad {
            let session = peer.sessions.last().map(|session| session.id());
            for id in self.attempt.into_iter().chain(session) {
                if random.random_bool(0.1) {
                    peer.context.close(id);
                }
            }
        }
        let another = self.habits == Habits::Restless && is_bad && random.random_bool(0.1);
        if peer.stats().sessions == 0 || another {
            let patience = match self.habits {
                Habits::Patient => None,
                Habits::Restless => Some(random.random_range(SECOND..20 * SECOND)),
            };
            let open = Open::to(other.public_key(), other.address()).give_up_after(patience);
            // There may be an attempt already.
            self.attempt = peer.open_with(open).ok().or(self.attempt);
        }
        if random.random_bool(0.001) {
            peer.store.fail_after(random.random_range(0..3));
        }
    }
}

/// Lives through it all, and gives back the pair and how often a process has died.
fn live_in(world: &World, seed: u64, random: &mut Xoshiro256PlusPlus) -> (Pair, u32) {
    let mut pair = Pair::with(seed, &Setup { policy: world.policy, ..Setup::default() });
    pair.alice.store.preset(pair.bob.public_key(), preset());
    pair.bob.store.preset(pair.alice.public_key(), preset());
    let mut alice = Application::new(world, random);
    let mut bob = Application::new(world, random);
    let mut clear_sky = random.random_range(world.bad_times.clone());
    pair.network.set_conditions(world.conditions.clone());
    while pair.elapsed() < world.lasts {
        let now = pair.elapsed();
        let Pair { alice: a, bob: b, network, .. } = &mut pair;
        // Nothing reaches the dead, and the dead say nothing.
        if alice.fate.back.or(bob.fate.back).is_some() && world.loses_what_is_under_way {
            network.partition(1, 2);
        } else {
            network.heal(1, 2);
        }
        alice.live((now, true), (a, b), random);
        bob.live((now, true), (b, a), random);
        pair.wire.clear();
        pair.drive_for(random.random_range(world.step.clone()));

        if pair.elapsed() > clear_sky && alice.fate.back.or(bob.fate.back).is_none() {
            // A good moment, long enough for whatever is going on to end; then everything works.
            clear_sky = pair.elapsed() + random.random_range(world.bad_times.clone());
            for application in [&mut alice, &mut bob] {
                application.fate.dies = application.fate.dies.max(pair.elapsed() + 400 * SECOND);
            }
            pair.network.heal(1, 2);
            pair.network.set_conditions(Conditions::default());
            for _ in 0..20 {
                pair.drive_for(10 * SECOND);
                let now = pair.elapsed();
                let Pair { alice: a, bob: b, .. } = &mut pair;
                alice.live((now, false), (a, b), random);
                bob.live((now, false), (b, a), random);
            }
            assert!(pair.talk(), "after {:?}", pair.elapsed());
            pair.network.set_conditions(world.conditions.clone());
        }
    }
    (pair, alice.restarts + bob.restarts)
}

/// A third is lost, the rest is late and out of order.
//= ZSSP-ST-13  every 50..60 min
//= ZSSP-RAT-14  the copy always equals what was stored, so no rekeying is a conflict
//= ZSSP-FLG-07  persistent mode holds out
//= ZSSP-SEC-06  no stuck state
#[test]
fn two_persistent_peers_never_lose_each_other() {
    let world = World {
        policy: Policy::PERSISTENT,
        conditions: Conditions {
            loss: 0.3,
            jitter: 400 * MS,
            duplication: 0.05,
            corruption: 0.01,
            ..Conditions::default()
        },
        lasts: WEEK,
        lifetime: SECOND..10 * HOUR,
        step: 5 * SECOND..20 * SECOND,
        bad_times: HOUR..12 * HOUR,
        loses_what_is_under_way: true,
        habits: Habits::Patient,
    };
    seeds::run(16, |seed| {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let (pair, restarts) = live_in(&world, seed, &mut random);
        let keys = pair.alice.store.remembered(pair.bob.public_key()).first.chain_length();
        assert!(keys > 150 && restarts > 20, "{keys} keys, {restarts} restarts");
    });
}

/// A bad day: processes die every few minutes, often in the middle of a handshake, and what they had sent arrives
/// seconds later, when they are back and have begun another. So do applications that close, give up and open again.
//= ZSSP-RAT-23  an old X3 does no harm
//= ZSSP-RAT-24  whoever opens then
//= ZSSP-FLG-07  persistent mode holds out
#[test]
fn restarts_in_the_middle_of_handshakes_lose_nobody() {
    seeds::run(16, |seed| {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let policy = if random.random_bool(0.8) { Policy::PERSISTENT } else { Policy::OPPORTUNISTIC };
        let conditions = Conditions {
            loss: random.random_range(0.0..0.4),
            latency: random.random_range(1..300) * MS,
            jitter: random.random_range(0..8000) * MS,
            duplication: 0.1,
            corruption: 0.01,
            ..Conditions::default()
        };
        let world = World {
            policy,
            conditions,
            lasts: 2 * HOUR,
            lifetime: Duration::ZERO..4 * MINUTE,
            step: 50 * MS..5 * SECOND,
            bad_times: MINUTE..30 * MINUTE,
            loses_what_is_under_way: random.random_bool(0.3),
            habits: if random.random_bool(0.5) { Habits::Patient } else { Habits::Restless },
        };
        let (_, restarts) = live_in(&world, seed, &mut random);
        assert!(restarts > 20, "{restarts} restarts");
    });
}
