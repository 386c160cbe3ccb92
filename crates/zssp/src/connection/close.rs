//! How a connection ends: drained, told, confirmed. Or not drained: aborted.
//!
//! ```text
//! Open --close()--> Draining --all answered, on both sides--> Closing --confirmed, or repeated in vain--> Over
//!   any of these --abort(), the peer breaks the rules or answers nothing for long--> ended, and Closing
//!   any of these --the peer's close--> ended, and Lingering --its repeats have ceased--> Over
//!   any of these --the session ends, the peer is silent--> ended, and Over
//! ```

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::outgoing::Outgoing;
use crate::error::CloseReason;
use crate::frame;

/// How often a close is said before its confirmation is done without.
const ATTEMPTS: u32 = 8;

/// For how many intervals the peer's close is confirmed: its third time falls into it, should both confirmations before
/// be lost.
const LINGER: u32 = 4;

/// Where a connection stands.
#[derive(Debug)]
pub(super) enum Phase {
    /// Everything goes.
    Open,
    /// Nothing new is accepted; what was accepted goes out and waits for its answers.
    Draining { frame: Bytes, give_up: Instant },
    /// All is answered, and the close is repeated until the peer confirms it.
    Closing(Closing),
    /// The application has been told why. What is left is between the two ends.
    Ended(CloseReason, Farewell),
}

/// What is still said when a connection has ended.
#[derive(Debug)]
pub(super) enum Farewell {
    /// The close is repeated until the peer confirms it.
    Closing(Closing),
    /// The peer has closed, and may repeat itself if the confirmation is lost.
    Lingering { until: Instant, confirm: bool },
    /// Nothing.
    Over,
}

/// What of the connection a close waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pending {
    /// Nothing.
    Nothing,
    /// Messages of the peer that the application holds, or replies that the peer has not taken.
    Replies,
    /// Answers to what the application sent by itself, and perhaps the others.
    Answers,
}

/// What time has brought.
#[derive(Debug)]
pub(super) enum Pulse {
    /// Everything this side asked for is answered, and the rest has had its time: the close frame may go.
    Drained(Bytes),
    /// The peer has answered nothing for too long: the close frame goes all the same.
    Stalled(Bytes),
    /// Nothing.
    Steady,
    /// The close was repeated often enough.
    Unconfirmed,
}

/// A close on its way.
#[derive(Debug)]
pub(super) struct Closing {
    frame: Bytes,
    attempts: u32,
    next: Instant,
}

impl Closing {
    pub(super) fn new(now: Instant, frame: Bytes) -> Self {
        Self { frame, attempts: 0, next: now }
    }

    fn is_given_up(&self, now: Instant) -> bool {
        self.attempts == ATTEMPTS && self.next <= now
    }

    fn put_frame(&mut self, now: Instant, interval: Duration, out: &mut Vec<Outgoing>) {
        if self.next <= now && self.attempts < ATTEMPTS {
            self.next = now + interval * (1 << self.attempts.min(2));
            self.attempts += 1;
            out.push(Outgoing::new(self.frame.clone()));
        }
    }
}

impl Farewell {
    /// The peer has closed. It repeats itself after about `interval` if the confirmation is lost.
    pub(super) fn to_close(now: Instant, interval: Duration) -> Self {
        Self::Lingering { until: now + interval * LINGER, confirm: true }
    }

    /// The same, when the connection had ended before.
    fn answer_close(&mut self, now: Instant, interval: Duration) {
        match self {
            Self::Closing(_) => *self = Self::to_close(now, interval),
            // Not for longer, or a peer that never ceases would never be over with.
            Self::Lingering { confirm, .. } => *confirm = true,
            Self::Over => {}
        }
    }
}

impl Phase {
    /// Why the connection has ended, if it has.
    pub(super) fn ended(&self) -> Option<&CloseReason> {
        match self {
            Self::Open | Self::Draining { .. } | Self::Closing(_) => None,
            Self::Ended(reason, _) => Some(reason),
        }
    }

    /// Why nothing new is accepted, if it is not.
    pub(super) fn may_send(&self) -> Result<(), CloseReason> {
        match self {
            Self::Open => Ok(()),
            Self::Draining { .. } | Self::Closing(_) => Err(CloseReason::Local),
            Self::Ended(reason, _) => Err(reason.clone()),
        }
    }

    /// Why messages of the peer cannot be answered any more, if they cannot.
    pub(super) fn may_answer(&self) -> Result<(), CloseReason> {
        match self {
            Self::Open | Self::Draining { .. } => Ok(()),
            Self::Closing(_) => Err(CloseReason::Local),
            Self::Ended(reason, _) => Err(reason.clone()),
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        matches!(self, Self::Draining { .. })
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Open | Self::Ended(_, Farewell::Over) => None,
            Self::Draining { give_up, .. } => Some(*give_up),
            Self::Closing(closing) | Self::Ended(_, Farewell::Closing(closing)) => Some(closing.next),
            Self::Ended(_, Farewell::Lingering { until, .. }) => Some(*until),
        }
    }

    /// The peer answered, or has got more of, something this side sent by itself: it is worth waiting for the rest. Not so
    /// with replies, of which a peer that asks on makes ever more. Or this side could not hear of it until now.
    pub(super) fn progress(&mut self, until: Instant) {
        if let Self::Draining { give_up, .. } = self {
            *give_up = until.max(*give_up);
        }
    }

    /// The peer has closed a connection that has ended.
    pub(super) fn answer_close(&mut self, now: Instant, interval: Duration) {
        if let Self::Ended(_, farewell) = self {
            farewell.answer_close(now, interval);
        }
    }

    /// What time has brought to a close that waits for what is `pending`.
    pub(super) fn pulse(&mut self, now: Instant, pending: Pending) -> Pulse {
        match self {
            Self::Draining { frame, give_up } => match pending {
                Pending::Nothing => Pulse::Drained(frame.clone()),
                Pending::Replies if *give_up <= now => Pulse::Drained(frame.clone()),
                Pending::Answers if *give_up <= now => Pulse::Stalled(frame.clone()),
                Pending::Answers | Pending::Replies => Pulse::Steady,
            },
            Self::Closing(closing) if closing.is_given_up(now) => Pulse::Unconfirmed,
            Self::Ended(_, farewell) => {
                let is_over = match farewell {
                    Farewell::Closing(closing) => closing.is_given_up(now),
                    Farewell::Lingering { until, confirm } => *until <= now && !*confirm,
                    Farewell::Over => false,
                };
                if is_over {
                    *farewell = Farewell::Over;
                }
                Pulse::Steady
            }
            Self::Open | Self::Closing(_) => Pulse::Steady,
        }
    }

    /// The frames this phase sends. `interval` is how long an answer takes at most, usually.
    pub(super) fn put_frames(&mut self, now: Instant, interval: Duration, out: &mut Vec<Outgoing>) {
        match self {
            Self::Closing(closing) | Self::Ended(_, Farewell::Closing(closing)) => {
                closing.put_frame(now, interval, out);
            }
            Self::Ended(_, Farewell::Lingering { confirm: confirm @ true, .. }) => {
                *confirm = false;
                out.push(Outgoing::new(Bytes::from_static(&frame::CLOSE_READ_FRAME)));
            }
            Self::Open | Self::Draining { .. } | Self::Ended(..) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// One that the peer has closed at `now`.
    fn closed_by_peer(now: Instant) -> Phase {
        let reason = CloseReason::Peer { code: 0, reason: [].into() };
        Phase::Ended(reason, Farewell::to_close(now, 10 * MS))
    }

    #[test]
    fn a_close_is_repeated_ever_more_slowly_and_then_given_up() {
        let start = Instant::now();
        let closing = || Closing::new(start, Bytes::from_static(b"close"));
        let ended = Phase::Ended(CloseReason::TimedOut, Farewell::Closing(closing()));
        for mut phase in [Phase::Closing(closing()), ended] {
            let (mut now, mut out, mut gaps) = (start, Vec::new(), Vec::new());
            while let Pulse::Steady = phase.pulse(now, Pending::Nothing)
                && phase.deadline().is_some()
            {
                phase.put_frames(now, 10 * MS, &mut out);
                let next = phase.deadline().unwrap();
                gaps.push((next - now).as_millis());
                now = next;
            }
            assert_eq!(out.len(), ATTEMPTS as usize);
            assert_eq!(gaps, [10, 20, 40, 40, 40, 40, 40, 40]);
        }
    }

    #[test]
    fn draining_ends_when_drained_and_not_before() {
        let now = Instant::now();
        let mut phase = Phase::Draining { frame: Bytes::new(), give_up: now + 10 * MS };
        assert!(matches!(phase.pulse(now, Pending::Answers), Pulse::Steady));
        assert!(matches!(phase.pulse(now, Pending::Replies), Pulse::Steady));
        phase.progress(now + 20 * MS);
        assert!(matches!(phase.pulse(now + 10 * MS, Pending::Answers), Pulse::Steady), "an answer buys time");
        assert!(matches!(phase.pulse(now + 20 * MS, Pending::Answers), Pulse::Stalled(_)));
        assert!(
            matches!(phase.pulse(now + 20 * MS, Pending::Replies), Pulse::Drained(_)),
            "the peer is not to blame"
        );
        assert!(matches!(phase.pulse(now, Pending::Nothing), Pulse::Drained(_)));
    }

    #[test]
    fn a_peer_that_repeats_its_close_for_ever_is_not_waited_for() {
        let (start, mut out) = (Instant::now(), Vec::new());
        let mut phase = closed_by_peer(start);
        for repeat in 0..100 {
            let now = start + 10 * MS * repeat;
            phase.answer_close(now, 10 * MS);
            phase.put_frames(now, 10 * MS, &mut out);
            phase.pulse(now, Pending::Nothing);
        }
        assert!(matches!(phase, Phase::Ended(_, Farewell::Over)), "{phase:?}");
        assert!(out.len() < 10, "{} confirmations", out.len());
    }

    #[test]
    fn every_repeat_of_the_peers_close_is_confirmed() {
        let (now, mut out) = (Instant::now(), Vec::new());
        let mut phase = closed_by_peer(now);
        for repeat in 1..=3 {
            phase.answer_close(now, 10 * MS);
            phase.put_frames(now, 10 * MS, &mut out);
            phase.put_frames(now, 10 * MS, &mut out);
            assert_eq!(out.len(), repeat);
        }
        phase.pulse(now + 39 * MS, Pending::Nothing);
        assert_eq!(phase.deadline(), Some(now + 40 * MS));
        phase.pulse(now + 40 * MS, Pending::Nothing);
        assert!(matches!(phase, Phase::Ended(_, Farewell::Over)));
    }
}
