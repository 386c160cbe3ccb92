//! How large a datagram the road carries: path MTU discovery by probes (RFC 8899), and what to do when that is no longer
//! true.
//!
//! ```text
//! Resting --something large is to be sent, and it is time--> Searching --largest found--> Resting
//!   either --large payloads get lost, or nobody would tell--> Verifying --a large probe arrives--> Resting
//!                                       Verifying --small probes arrive, and large ones do not--> Searching, from the base
//! ```
//!
//! While it is verifying, payloads are sent in datagrams of the base, which are known to pass: a suspicion costs next to
//! nothing, and so may be raised by chance losses. What decides is how unlikely it is that only the large ones are lost.

use std::time::{Duration, Instant};

use super::flight::{FRAGMENT_OVERHEAD, PAYLOAD_OVERHEAD};
use crate::frame::Token;

/// Probes of one size that are lost before it counts as too large (RFC 8899, `MAX_PROBES`).
const ATTEMPTS: u32 = 3;

/// What is left to be found is not worth a probe.
const PRECISION: usize = 16;

/// When a road that was found to be narrow is tried again (RFC 8899, `PMTU_RAISE_TIMER`).
const AGAIN: Duration = Duration::from_secs(600);

/// How often a road is verified for the sake of payloads that nobody acknowledges (RFC 8899, `CONFIRMATION_TIMER`).
const CONFIRMATION: Duration = Duration::from_secs(5);

/// Large payloads that are lost in a row before the road is verified. A whole time-out says as much by itself.
const SUSPICIOUS: u32 = 3;

/// Chance is ruled out when it is less likely than this.
const CHANCE: f64 = 1e-5;

/// Rounds of verification: a road on which nothing at all gets through says nothing about sizes.
const ROUNDS: u32 = 64;

/// The search for the largest datagram.
#[derive(Debug)]
pub(super) struct Mtu {
    /// What every road carries.
    base: usize,
    /// What is tried at most.
    max: usize,
    /// What this road carries.
    proven: usize,
    phase: Phase,
    /// Since when payloads go in datagrams larger than the base.
    large_since: Option<Instant>,
    /// Such payloads lost in a row.
    losses: u32,
    /// When one of these datagrams was last known to arrive.
    confirmed: Option<Instant>,
    fallbacks: u64,
}

#[derive(Debug)]
enum Phase {
    /// Not to be disturbed before then.
    Resting {
        until: Option<Instant>,
    },
    /// `too_large` is known not to pass; at first nothing is.
    Searching {
        too_large: Option<usize>,
        attempts: u32,
        probe: Option<Probe>,
    },
    Verifying(Verifying),
}

/// Rounds of one large and one small probe.
#[derive(Debug)]
struct Verifying {
    next: Next,
    large: Option<Probe>,
    small: Option<Probe>,
    rounds: u32,
    small_lost: u32,
    /// What is gone on with if all is well.
    after: After,
}

/// What a suspicion has interrupted.
#[derive(Debug, Clone, Copy)]
enum After {
    Resting {
        until: Option<Instant>,
    },
    /// A search, in which so much is known not to pass: were that forgotten, chance losses would have it begin again and
    /// again.
    Searching {
        too_large: Option<usize>,
    },
}

/// What is to be sent next in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Large,
    Small,
    Nothing,
}

/// A probe under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Probe {
    pub(super) token: Token,
    /// Bytes of its datagram.
    pub(super) size: usize,
    pub(super) sent_at: Instant,
    /// When it counts as lost.
    pub(super) deadline: Instant,
}

/// Look.
impl Mtu {
    pub(super) fn new(base: usize, max: usize) -> Self {
        Self {
            base,
            max: max.max(base),
            proven: base,
            phase: Phase::Resting { until: None },
            large_since: None,
            losses: 0,
            confirmed: None,
            fallbacks: 0,
        }
    }

    /// Bytes that datagrams should have at most.
    pub(super) fn current(&self) -> usize {
        if matches!(self.phase, Phase::Verifying(_)) { self.base } else { self.proven }
    }

    /// Bytes of a payload that takes a single datagram of the base.
    pub(super) fn sure_payload(&self) -> usize {
        self.base.saturating_sub((FRAGMENT_OVERHEAD + PAYLOAD_OVERHEAD) as usize)
    }

    /// How often the road has turned out to be narrower than it was.
    pub(super) fn fallbacks(&self) -> u64 {
        self.fallbacks
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let probes = match &self.phase {
            Phase::Resting { .. } => [None, None],
            Phase::Searching { probe, .. } => [probe.as_ref(), None],
            Phase::Verifying(verifying) => [verifying.large.as_ref(), verifying.small.as_ref()],
        };
        probes.into_iter().flatten().map(|probe| probe.deadline).min()
    }

    /// Bytes of the largest datagram of a payload.
    fn datagram(&self, payload: usize) -> usize {
        let sealed = payload + PAYLOAD_OVERHEAD as usize;
        let fragments = sealed.div_ceil(self.proven - FRAGMENT_OVERHEAD as usize);
        sealed.div_ceil(fragments) + FRAGMENT_OVERHEAD as usize
    }

    fn is_large(&self, sent: Instant, payload: usize) -> bool {
        self.large_since.is_some_and(|since| sent > since) && self.datagram(payload) > self.base
    }
}

/// Feed.
impl Mtu {
    /// There is something to send that takes more than one datagram: larger ones would be of use.
    pub(super) fn demand(&mut self, now: Instant) {
        if let Phase::Resting { until } = self.phase
            && until.is_none_or(|until| until <= now)
        {
            self.search(now, None);
        }
    }

    /// A payload sent at `sent` has arrived.
    pub(super) fn arrived(&mut self, now: Instant, sent: Instant, payload: usize) {
        if self.is_large(sent, payload) {
            self.large_passes(now);
        }
    }

    /// A payload sent at `sent` was lost.
    pub(super) fn lost(&mut self, sent: Instant, payload: usize) {
        if self.is_large(sent, payload) {
            self.losses += 1;
            if self.losses >= SUSPICIOUS {
                self.verify();
            }
        }
    }

    /// Nothing has come back for a whole time-out since a payload was sent.
    pub(super) fn timed_out(&mut self, sent: Instant, payload: usize) {
        if self.is_large(sent, payload) {
            self.verify();
        }
    }

    /// A payload goes out whose loss nobody will hear of.
    pub(super) fn unacknowledged(&mut self, now: Instant, payload: usize) {
        let is_due = self.confirmed.and_then(|at| at.checked_add(CONFIRMATION)).is_some_and(|due| due <= now);
        // A search ends by itself, and begins again from where it was only if it is let.
        if is_due && matches!(self.phase, Phase::Resting { .. }) && self.is_large(now, payload) {
            self.verify();
        }
    }

    /// A token has come back. Yields the round trip if it is a probe's that was waited for.
    pub(super) fn answered(&mut self, now: Instant, token: Token) -> Option<Duration> {
        let is_it = |probe: &mut Option<Probe>| probe.take_if(|probe| probe.token == token);
        let probe = match &mut self.phase {
            Phase::Resting { .. } => return None,
            Phase::Searching { too_large, probe, .. } => {
                let (probe, too_large) = (is_it(probe)?, *too_large);
                self.proven = probe.size;
                self.large_since = Some(now);
                self.large_passes(now);
                self.search(now, too_large);
                probe
            }
            Phase::Verifying(verifying) => {
                if let Some(probe) = is_it(&mut verifying.large) {
                    self.large_passes(now);
                    probe
                } else {
                    let probe = is_it(&mut verifying.small)?;
                    self.end_round(now);
                    probe
                }
            }
        };
        Some(now.saturating_duration_since(probe.sent_at))
    }

    /// The payloads travel on another road from now on: nothing is known of it.
    pub(super) fn moved(&mut self) {
        *self = Self { fallbacks: self.fallbacks, ..Self::new(self.base, self.max) };
    }

    /// Looks for the largest that passes, if there is one to be found that is worth it.
    fn search(&mut self, now: Instant, too_large: Option<usize>) {
        let found = match too_large {
            Some(too_large) => too_large - self.proven <= PRECISION,
            None => self.proven >= self.max,
        };
        self.phase = if found {
            Phase::Resting { until: now.checked_add(AGAIN) }
        } else {
            Phase::Searching { too_large, attempts: 0, probe: None }
        };
    }

    fn verify(&mut self) {
        let after = match self.phase {
            Phase::Resting { until } => After::Resting { until },
            Phase::Searching { too_large, .. } => After::Searching { too_large },
            Phase::Verifying(_) => return,
        };
        self.losses = 0;
        // Payloads are small from now on, and those before are what is in doubt.
        self.large_since = None;
        self.phase = Phase::Verifying(Verifying {
            next: Next::Large,
            large: None,
            small: None,
            rounds: 0,
            small_lost: 0,
            after,
        });
    }

    /// All is well with large datagrams.
    fn large_passes(&mut self, now: Instant) {
        self.losses = 0;
        self.confirmed = Some(now);
        if let Phase::Verifying(Verifying { after, .. }) = self.phase {
            self.large_since = Some(now);
            match after {
                After::Resting { until } => self.phase = Phase::Resting { until },
                After::Searching { too_large } => self.search(now, too_large),
            }
        }
    }

    /// Draws the conclusion of a round whose probes are both answered or lost, the large one lost.
    fn end_round(&mut self, now: Instant) {
        let Phase::Verifying(verifying) = &mut self.phase else { return };
        if verifying.next != Next::Nothing || verifying.large.is_some() || verifying.small.is_some() {
            return;
        }
        verifying.next = Next::Large;
        verifying.rounds += 1;
        let Verifying { rounds, small_lost, .. } = *verifying;
        // How often a probe is lost whatever its size, judging by the small ones (Laplace's rule of succession).
        let loss = f64::from(small_lost + 1) / f64::from(rounds + 2);
        if f64::from(rounds) * loss.ln() < CHANCE.ln() {
            let failed = std::mem::replace(&mut self.proven, self.base);
            self.large_since = None;
            self.fallbacks += 1;
            self.search(now, Some(failed));
        } else if rounds >= ROUNDS {
            self.large_passes(now);
        }
    }
}

/// Drain.
impl Mtu {
    /// Bytes of the datagram that is to be sent as a probe now. [`sent`](Self::sent) is to follow.
    pub(super) fn next_probe(&mut self, now: Instant) -> Option<usize> {
        self.handle_timeout(now);
        match &self.phase {
            Phase::Searching { too_large, probe: None, .. } => {
                Some(too_large.map_or(self.max, |too_large| usize::midpoint(self.proven, too_large)))
            }
            Phase::Verifying(Verifying { next: Next::Large, .. }) => Some(self.proven),
            Phase::Verifying(Verifying { next: Next::Small, .. }) => Some(self.base),
            _ => None,
        }
    }

    /// The probe that was asked for goes out.
    pub(super) fn sent(&mut self, sent: Probe) {
        match &mut self.phase {
            Phase::Resting { .. } => {}
            Phase::Searching { probe, .. } => *probe = Some(sent),
            Phase::Verifying(verifying) => {
                let (place, next) = match verifying.next {
                    Next::Large => (&mut verifying.large, Next::Small),
                    Next::Small | Next::Nothing => (&mut verifying.small, Next::Nothing),
                };
                *place = Some(sent);
                verifying.next = next;
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        let is_late = |probe: &mut Option<Probe>| probe.take_if(|probe| probe.deadline <= now);
        match &mut self.phase {
            Phase::Resting { .. } => {}
            //= ZSSP-LIV-07  a probe that is lost says nothing about the load
            Phase::Searching { attempts, probe, .. } => {
                if let Some(Probe { size, .. }) = is_late(probe) {
                    *attempts += 1;
                    if *attempts == ATTEMPTS {
                        self.search(now, Some(size));
                    }
                }
            }
            Phase::Verifying(verifying) => {
                let small_lost = is_late(&mut verifying.small).is_some();
                verifying.small_lost += u32::from(small_lost);
                if is_late(&mut verifying.large).is_some() || small_lost {
                    self.end_round(now);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const RTT: Duration = Duration::from_millis(20);
    const TIMEOUT: Duration = Duration::from_millis(50);

    /// A road that carries datagrams of up to `width` bytes, `percent` of which it loses each way.
    struct Road {
        now: Instant,
        width: usize,
        percent: u64,
        random: u64,
        probes: usize,
        number: u64,
    }

    impl Road {
        fn new(width: usize, percent: u64, seed: u64) -> Self {
            Self { now: Instant::now(), width, percent, random: seed, probes: 0, number: 0 }
        }

        fn loses(&mut self) -> bool {
            // A linear congruential step (Knuth's MMIX); its high bits are random enough.
            self.random =
                self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.random >> 33) % 100 < self.percent
        }

        fn passes(&mut self, size: usize) -> bool {
            !self.loses() && size <= self.width
        }

        /// Lets probes go to and fro until there are none any more.
        fn settle(&mut self, mtu: &mut Mtu) {
            let mut answers: Vec<(Instant, Token)> = Vec::new();
            loop {
                while let Some(size) = mtu.next_probe(self.now) {
                    self.number += 1;
                    let token = self.number.to_be_bytes();
                    mtu.sent(Probe { token, size, sent_at: self.now, deadline: self.now + TIMEOUT });
                    self.probes += 1;
                    if self.passes(size) && !self.loses() {
                        answers.push((self.now + RTT, token));
                    }
                }
                let next = answers.first().map(|(at, _)| *at);
                match next.into_iter().chain(mtu.deadline()).min() {
                    None => return,
                    Some(at) => self.now = at,
                }
                while answers.first().is_some_and(|(at, _)| *at <= self.now) {
                    let (_, token) = answers.remove(0);
                    mtu.answered(self.now, token);
                }
            }
        }

        /// Sends payloads of a single datagram, as large as it may be.
        fn carry(&mut self, mtu: &mut Mtu, count: usize) {
            for _ in 0..count {
                self.now += MS;
                let payload = mtu.current() - 32;
                mtu.demand(self.now);
                let sent = self.now;
                self.now += MS;
                if self.passes(mtu.current()) {
                    mtu.arrived(self.now, sent, payload);
                } else {
                    mtu.lost(sent, payload);
                }
                self.settle(mtu);
            }
        }
    }

    #[test]
    fn the_largest_is_found_with_few_probes() {
        for width in [1200, 1300, 1452, 1472, 4000, 8951, 8952, 9000] {
            let (mut mtu, mut road) = (Mtu::new(1200, 8952), Road::new(width, 0, 1));
            road.settle(&mut mtu);
            assert_eq!(road.probes, 0, "without demand nothing is asked");
            mtu.demand(road.now);
            road.settle(&mut mtu);
            let found = mtu.current();
            assert!(found <= width && found + PRECISION >= width.min(8952), "{found} of {width}");
            assert!(road.probes <= 30, "{} probes", road.probes);
        }
    }

    #[test]
    fn the_road_is_tried_again_later_and_not_before() {
        let (mut mtu, mut road) = (Mtu::new(1200, 1472), Road::new(1300, 0, 1));
        road.carry(&mut mtu, 100);
        let (narrow, probes) = (mtu.current(), road.probes);
        assert!((1284..=1300).contains(&narrow), "{narrow}");
        road.width = 1472;
        road.carry(&mut mtu, 100);
        assert_eq!((mtu.current(), road.probes), (narrow, probes));
        road.now += AGAIN;
        road.carry(&mut mtu, 1);
        assert_eq!((mtu.current(), road.probes), (1472, probes + 1));
        mtu.moved();
        assert_eq!(mtu.current(), 1200, "nothing is known of another road");
    }

    #[test]
    fn a_road_that_narrows_is_noticed() {
        for percent in [0, 5, 30] {
            let (mut mtu, mut road) = (Mtu::new(1200, 1472), Road::new(1472, percent, 7));
            road.carry(&mut mtu, 100);
            assert_eq!(mtu.current(), 1472);
            road.width = 1300;
            let start = road.now;
            road.carry(&mut mtu, 100);
            assert_eq!(mtu.fallbacks(), 1, "{percent} % lost");
            assert!((1200..=1300).contains(&mtu.current()), "{}", mtu.current());
            println!("noticed with {percent} % lost, and settled after {:?}", road.now - start);
        }
    }

    #[test]
    fn a_whole_time_out_is_enough_of_a_suspicion_and_payloads_are_small_at_once() {
        let (mut mtu, mut road) = (Mtu::new(1200, 1472), Road::new(1472, 0, 1));
        road.carry(&mut mtu, 1);
        let sent = road.now + MS;
        mtu.timed_out(sent, 1168);
        assert_eq!(mtu.current(), 1472, "a payload in datagrams of the base says nothing");
        mtu.timed_out(sent, 60_000);
        assert_eq!(mtu.current(), 1200);
        road.settle(&mut mtu);
        assert_eq!((mtu.current(), mtu.fallbacks()), (1472, 0), "the road is as it was");
    }

    #[test]
    fn what_nobody_acknowledges_is_verified_now_and_then() {
        let (mut mtu, mut road) = (Mtu::new(1200, 1472), Road::new(1472, 0, 1));
        mtu.unacknowledged(road.now, 60_000);
        road.carry(&mut mtu, 1);
        let (start, probes) = (road.now, road.probes);
        for _ in 0..100 {
            road.now += CONFIRMATION / 10;
            mtu.unacknowledged(road.now, 1168);
            assert_eq!(road.probes, probes, "datagrams of the base need no proof");
        }
        while road.now < start + 20 * CONFIRMATION {
            road.now += CONFIRMATION / 10;
            mtu.unacknowledged(road.now, 60_000);
            road.settle(&mut mtu);
            assert_eq!(mtu.current(), 1472);
        }
        // One large probe and one small each time.
        assert!((18..=22).contains(&(road.probes - probes)), "{}", road.probes - probes);
        road.width = 1300;
        road.now += CONFIRMATION;
        mtu.unacknowledged(road.now, 60_000);
        assert_eq!(mtu.current(), 1200);
        road.settle(&mut mtu);
        assert_eq!(mtu.fallbacks(), 1);
        assert!((1284..=1300).contains(&mtu.current()), "{}", mtu.current());
    }

    #[test]
    fn random_loss_is_no_black_hole() {
        let mut fallbacks = 0;
        for seed in 0..200 {
            let (mut mtu, mut road) = (Mtu::new(1200, 1472), Road::new(1472, 30, seed));
            road.carry(&mut mtu, 1000);
            fallbacks += mtu.fallbacks();
        }
        println!("{fallbacks} in 200 roads of 1000 payloads");
        assert_eq!(fallbacks, 0);
    }

    #[test]
    fn a_search_goes_on_where_a_suspicion_interrupted_it() {
        let (mut mtu, mut road) = (Mtu::new(1200, 8952), Road::new(8952, 0, 1));
        let mut answer = |mtu: &mut Mtu, passes: bool| {
            let size = mtu.next_probe(road.now).unwrap();
            road.number += 1;
            let token = road.number.to_be_bytes();
            mtu.sent(Probe { token, size, sent_at: road.now, deadline: road.now + TIMEOUT });
            road.now += TIMEOUT;
            if passes {
                assert_eq!(mtu.answered(road.now, token), Some(TIMEOUT));
            }
            (size, road.now)
        };
        mtu.demand(Instant::now());
        for _ in 0..ATTEMPTS {
            assert_eq!(answer(&mut mtu, false).0, 8952);
        }
        let (size, now) = answer(&mut mtu, true);
        assert_eq!((size, mtu.current()), (5076, 5076));
        // One more is asked for when all large payloads seem to be lost, and nothing is the matter.
        mtu.timed_out(now + MS, 60_000);
        assert_eq!(answer(&mut mtu, true).0, 5076);
        assert_eq!(mtu.next_probe(now + 10 * TIMEOUT), Some(7014), "and not the largest again");
    }

    #[test]
    fn a_road_that_carries_nothing_is_not_asked_for_ever() {
        let (mut mtu, mut road) = (Mtu::new(1200, 1472), Road::new(1472, 0, 1));
        road.carry(&mut mtu, 1);
        road.percent = 100;
        mtu.timed_out(road.now + MS, 60_000);
        let before = road.probes;
        road.settle(&mut mtu);
        assert_eq!((mtu.fallbacks(), mtu.current()), (0, 1472));
        assert_eq!(road.probes - before, 2 * ROUNDS as usize);
    }
}
