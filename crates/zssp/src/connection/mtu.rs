//! How large a datagram the road carries: path MTU discovery by probes (RFC 8899), and what to do when that is no longer
//! true.
//!
//! ```text
//! Resting --something large is to be sent, and it is time--> Searching --largest found--> Resting
//!   either --large payloads get lost, or nobody would tell--> Verifying --a large probe arrives--> Resting
//!                                       Verifying --small probes arrive, and large ones do not--> Searching, from the base
//! ```
//!
//! A probe that is lost says something about sizes only where something else is not: if nothing was heard meanwhile, a small
//! one asks first whether the road carries anything.
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

/// Rounds of verification, or small probes lost on end: a road on which nothing at all gets through says nothing about sizes.
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
        /// A probe was lost, and perhaps with everything else: which small probe, of those that ask for that, is next or
        /// under way.
        doubts: u32,
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

    /// Bytes of the datagram that is tried where so much is known not to pass.
    fn size_after(&self, too_large: Option<usize>) -> usize {
        too_large.map_or(self.max, |too_large| usize::midpoint(self.proven, too_large))
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
            Phase::Searching { probe, doubts: doubts @ 1.., .. } => {
                let probe = is_it(probe)?;
                *doubts = 0;
                self.attempted(now);
                probe
            }
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
            Phase::Searching { too_large, attempts: 0, probe: None, doubts: 0 }
        };
    }

    /// A probe was lost, which others were not.
    fn attempted(&mut self, now: Instant) {
        let Phase::Searching { too_large, attempts, .. } = &mut self.phase else { return };
        *attempts += 1;
        let (too_large, is_enough) = (*too_large, *attempts == ATTEMPTS);
        if is_enough {
            self.search(now, Some(self.size_after(too_large)));
        }
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
    /// Bytes of the datagram that is to be sent as a probe now. [`sent`](Self::sent) is to follow. At `arrived`, something
    /// that was sent was last heard to have arrived.
    pub(super) fn next_probe(&mut self, now: Instant, arrived: Option<Instant>) -> Option<usize> {
        self.handle_timeout(now, arrived);
        match self.phase {
            Phase::Searching { probe: None, doubts: 1.., .. } => Some(self.base),
            Phase::Searching { too_large, probe: None, .. } => Some(self.size_after(too_large)),
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

    fn handle_timeout(&mut self, now: Instant, arrived: Option<Instant>) {
        let is_late = |probe: &mut Option<Probe>| probe.take_if(|probe| probe.deadline <= now);
        match &mut self.phase {
            Phase::Resting { .. } => {}
            //= ZSSP-LIV-07  a probe that is lost says nothing about the load
            Phase::Searching { probe, doubts, .. } => match is_late(probe) {
                None => {}
                Some(probe) if *doubts == 0 && arrived > Some(probe.sent_at) => self.attempted(now),
                Some(_) if *doubts == ROUNDS => self.phase = Phase::Resting { until: now.checked_add(AGAIN) },
                Some(_) => *doubts += 1,
            },
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
mod tests;
