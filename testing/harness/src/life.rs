//! Two peers on a bad network for a long time: a key every hour, and processes that die at any moment and come back
//! with what their stores hold. They must always meet again, and lose no payload that has an excuse to arrive.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use zssp_proto::crypto::Secret;
use zssp_proto::{EndReason, Fingerprint, Open, Policy, RatchetPair, RatchetState, SessionId};
use zssp_sim::{Address, Conditions};

use crate::pair::{FlakyStore, Happening, Pair, Peer, Setup, Tally, ToyCurve};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// What a scenario is like.
#[derive(Debug, Clone)]
pub struct World {
    /// The security flags of both.
    pub policy: Policy,
    /// The largest datagram of both.
    pub mtu: usize,
    /// What the network does, but for the good moments.
    pub conditions: Conditions,
    /// How long it all lasts.
    pub lasts: Duration,
    /// Between the beginning of a process and its death.
    pub lifetime: Range<Duration>,
    /// Between one look of the applications at their sessions and the next.
    pub step: Range<Duration>,
    /// The same while a handshake or a rekeying is under way.
    pub busy_step: Range<Duration>,
    /// Between one good moment, when everything works, and the next.
    pub bad_times: Range<Duration>,
    /// Whether nothing gets through while a process is dead.
    pub loses_what_is_under_way: bool,
    /// How applications treat their sessions.
    pub habits: Habits,
    /// How long payloads are, from 8 bytes on.
    pub payloads: Range<usize>,
}

impl World {
    /// A week of two persistent peers between whom a third is lost and the rest is late and out of order. Every other
    /// seed has payloads in many fragments, on a network that changes no datagram.
    pub fn week(seed: u64) -> Self {
        let is_fragmented = seed % 2 == 1;
        Self {
            policy: Policy::PERSISTENT,
            mtu: 1500,
            conditions: Conditions {
                loss: 0.3,
                jitter: Duration::from_millis(400),
                duplication: 0.05,
                // A changed fragment spoils its packet, and there is no telling whose it was.
                corruption: if is_fragmented { 0.0 } else { 0.01 },
                ..Conditions::default()
            },
            lasts: 7 * 24 * HOUR,
            lifetime: SECOND..10 * HOUR,
            step: 5 * SECOND..20 * SECOND,
            busy_step: Duration::from_millis(20)..Duration::from_millis(300),
            bad_times: HOUR..12 * HOUR,
            loses_what_is_under_way: true,
            habits: Habits::Patient,
            payloads: 8..if is_fragmented { 5000 } else { 1400 },
        }
    }
}

/// How applications treat their sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habits {
    /// They open one when they have none, and wait for it.
    Patient,
    /// They give up after a while, close what is open or is being opened, and open another beside it.
    Restless,
}

/// Where ratchets are when their process is dead.
pub trait Storage {
    /// The process on this node is killed, whatever it was doing: `store` is still open.
    fn die(&mut self, node: Address, store: Arc<FlakyStore>, random: &mut Xoshiro256PlusPlus);

    /// What a new process on this node finds.
    fn open(&mut self, node: Address, random: &mut Xoshiro256PlusPlus) -> FlakyStore;
}

/// Memory that outlives processes.
#[derive(Debug, Default)]
pub struct Memory {
    dead: [Option<Arc<FlakyStore>>; 2],
}

impl Storage for Memory {
    fn die(&mut self, node: Address, store: Arc<FlakyStore>, _random: &mut Xoshiro256PlusPlus) {
        self.dead[usize::from(node - 1)] = Some(store);
    }

    fn open(&mut self, node: Address, _random: &mut Xoshiro256PlusPlus) -> FlakyStore {
        self.dead[usize::from(node - 1)].take().map_or_else(FlakyStore::new, |dead| dead.successor())
    }
}

/// What has happened.
#[derive(Debug, Clone, Copy)]
pub struct Life {
    /// How often a process has died.
    pub deaths: u32,
    /// How many keys the two have agreed on.
    pub keys: u64,
    /// What became of the payloads.
    pub payloads: Tally,
}

/// Lives through it all. Everything random comes from `seed`.
///
/// # Panics
/// When an application is told of something that must not happen, a downgrade above all; when the two do not meet in
/// a good moment; and when a payload is lost for which [`Ledger`](crate::pair::Ledger) has no excuse.
pub fn live(world: &World, storage: &mut dyn Storage, seed: u64) -> Life {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let beneath = Some(ToyCurve::fastest() as _);
    let setup = Setup { policy: world.policy, mtu: world.mtu, beneath, ..Setup::default() };
    let mut pair = Pair::with(seed, &setup);
    for peer in [&mut pair.alice, &mut pair.bob] {
        peer.store = Arc::new(storage.open(peer.node, &mut random));
    }
    pair.alice.store.preset(pair.bob.public_key(), preset());
    pair.bob.store.preset(pair.alice.public_key(), preset());
    let applications = [(); 2].map(|()| Application::new(world, &mut random));
    let mut live = Live { world, storage, random, pair, applications };
    live.pair.network.set_conditions(world.conditions.clone());
    let mut good_moment = live.draw(&world.bad_times);
    while live.pair.elapsed() < world.lasts {
        live.step();
        if live.pair.elapsed() > good_moment && live.applications.iter().all(|it| it.back.is_none()) {
            live.good_moment();
            good_moment = live.pair.elapsed() + live.draw(&world.bad_times);
        }
    }
    // Who is dead is back for this one.
    for back in live.applications.iter_mut().filter_map(|application| application.back.as_mut()) {
        *back = Duration::ZERO;
    }
    live.good_moment();
    let Live { pair, applications, .. } = live;
    Life {
        deaths: applications.iter().map(|application| application.deaths).sum(),
        keys: pair.alice.store.remembered(pair.bob.public_key()).first.chain_length(),
        payloads: pair.ledger.tally(),
    }
}

/// What both remember before they first meet; the chain is as long as one that a one-time password has preset.
fn preset() -> RatchetPair {
    let first = RatchetState::new(Secret::new([7; 32]), Fingerprint::new([8; 32]), 1);
    RatchetPair { first, second: None }
}

struct Live<'w> {
    world: &'w World,
    storage: &'w mut dyn Storage,
    random: Xoshiro256PlusPlus,
    pair: Pair,
    applications: [Application; 2],
}

impl Live<'_> {
    /// A while in the bad times.
    fn step(&mut self) {
        // Nothing reaches the dead, and the dead say nothing; here, nor do the living.
        if self.world.loses_what_is_under_way && self.applications.iter().any(|it| it.back.is_some()) {
            self.pair.network.partition(1, 2);
        } else {
            self.pair.network.heal(1, 2);
        }
        self.applications_live(Times::Bad);
        let next = self.pair.alice.next_deadline().into_iter().chain(self.pair.bob.next_deadline()).min();
        let until = next.map(|next| next.saturating_duration_since(self.pair.now()));
        let is_busy = until.is_some_and(|until| until <= SECOND);
        let step = self.draw(if is_busy { &self.world.busy_step } else { &self.world.step });
        for node in [1, 2] {
            if self.random.random_bool(if is_busy { 0.5 } else { 0.2 }) {
                let len = self.random.random_range(self.world.payloads.clone());
                self.pair.send_numbered(node, len);
            }
        }
        self.pass(if is_busy { step } else { step.min(until.unwrap_or(step)) });
    }

    /// Long enough for whatever is going on to end; then everything works.
    fn good_moment(&mut self) {
        self.pair.network.heal(1, 2);
        self.pair.network.set_conditions(Conditions::default());
        for peer in [&mut self.pair.alice, &mut self.pair.bob] {
            peer.store.heal();
        }
        let mut calm = 0;
        while calm < 20 {
            let deaths = self.deaths();
            self.applications_live(Times::Good);
            self.pass(10 * SECOND);
            // A disk may crash by itself even now.
            let nobody_died =
                self.deaths() == deaths && self.pair.alice.is_alive() && self.pair.bob.is_alive();
            calm = if nobody_died { calm + 1 } else { 0 };
        }
        assert!(self.pair.talk(), "after {:?}", self.pair.elapsed());
        self.pair.network.set_conditions(self.world.conditions.clone());
    }

    fn deaths(&self) -> u32 {
        self.applications.iter().map(|application| application.deaths).sum()
    }

    fn applications_live(&mut self, times: Times) {
        let now = self.pair.elapsed();
        let (Pair { alice, bob, .. }, [of_alice, of_bob]) = (&mut self.pair, &mut self.applications);
        of_alice.live((now, times), (alice, bob), self.storage, &mut self.random);
        of_bob.live((now, times), (bob, alice), self.storage, &mut self.random);
    }

    fn pass(&mut self, time: Duration) {
        self.pair.wire.clear();
        self.pair.drive_for(time);
        self.pair.account();
    }

    fn draw(&mut self, range: &Range<Duration>) -> Duration {
        self.random.random_range(range.clone())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Times {
    Bad,
    Good,
}

/// A process that opens a session whenever it has none, and dies now and then.
struct Application {
    /// When it dies next.
    dies: Duration,
    /// While it is dead, when it comes back.
    back: Option<Duration>,
    lifetime: Range<Duration>,
    habits: Habits,
    deaths: u32,
    /// What it opened last.
    attempt: Option<SessionId>,
    /// The session that it had when it last looked.
    bond: Option<Fingerprint>,
}

impl Application {
    fn new(world: &World, random: &mut Xoshiro256PlusPlus) -> Self {
        let lifetime = world.lifetime.clone();
        let dies = random.random_range(lifetime.clone());
        Self { dies, back: None, lifetime, habits: world.habits, deaths: 0, attempt: None, bond: None }
    }

    /// Lives on until `now`.
    fn live(
        &mut self,
        (now, times): (Duration, Times),
        (peer, other): (&mut Peer, &Peer),
        storage: &mut dyn Storage,
        random: &mut Xoshiro256PlusPlus,
    ) {
        // In good times nobody dies, not even who has just come back to a short life.
        let is_time = times == Times::Bad && self.dies <= now;
        if self.back.is_none() && (is_time || !peer.is_alive()) {
            peer.kill();
            storage.die(peer.node, core::mem::take(&mut peer.store), random);
            // Many are back before what they had sent arrives.
            let dead = if random.random_bool(0.5) { Duration::ZERO } else { 30 * SECOND };
            self.back = Some(now + random.random_range(Duration::ZERO..=dead));
            self.deaths += 1;
        }
        if let Some(back) = self.back {
            if back > now {
                return;
            }
            peer.store = Arc::new(storage.open(peer.node, random));
            peer.restart();
            self.back = None;
            self.dies = now + random.random_range(self.lifetime.clone());
        }
        self.listen(now, peer, other);
        self.open(times, (peer, other), random);
        if times == Times::Bad && random.random_bool(0.002) {
            let calls = random.random_range(0..3);
            if random.random_bool(0.5) { peer.store.fail_after(calls) } else { peer.store.kill_after(calls) }
        }
    }

    /// Hears what has happened.
    fn listen(&mut self, now: Duration, peer: &mut Peer, other: &Peer) {
        for happening in peer.take_happenings() {
            let is_expected = match happening {
                Happening::Asked | Happening::Established(_) | Happening::StoreFailed => true,
                // Not as long as the other side has it: then a minute of packets was not lost by chance.
                Happening::Ended(EndReason::Expired) => {
                    self.habits == Habits::Restless || self.bond.is_none() || self.bond != other.bond()
                }
                Happening::Ended(EndReason::Replaced { .. }) => true,
                Happening::Ended(EndReason::Conflict | EndReason::TimedOut) => {
                    self.habits == Habits::Restless
                }
                _ => false,
            };
            assert!(is_expected, "node {}: {happening:?} after {now:?}", peer.node);
        }
        self.bond = peer.bond();
    }

    /// Opens and closes sessions.
    fn open(&mut self, times: Times, (peer, other): (&mut Peer, &Peer), random: &mut Xoshiro256PlusPlus) {
        let is_restless = self.habits == Habits::Restless && times == Times::Bad;
        if is_restless {
            let session = peer.sessions.last().map(|session| session.id());
            for id in self.attempt.into_iter().chain(session) {
                if random.random_bool(0.1) {
                    peer.close(id);
                }
            }
        }
        if peer.stats().sessions == 0 || is_restless && random.random_bool(0.1) {
            let patience = match self.habits {
                Habits::Patient => None,
                Habits::Restless => Some(random.random_range(SECOND..20 * SECOND)),
            };
            let open = Open::to(other.public_key(), other.address()).give_up_after(patience);
            // There may be an attempt already.
            self.attempt = peer.open_with(open).ok().or(self.attempt);
        }
    }
}
