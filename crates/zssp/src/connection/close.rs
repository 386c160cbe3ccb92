//! How a connection ends: drained, told, confirmed.
//!
//! ```text
//! Open --close()--> Draining --all answered, or none for long--> Closing --confirmed, or repeated in vain--> Over
//! Open --the peer breaks the rules--> Closing
//!   any of these --the peer's close--> Lingering --its repeats have ceased--> Over
//!   any of these --the session ends, the peer is silent--> Over
//! ```

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::outgoing::Outgoing;
use crate::frame;

/// How often a close is said before its confirmation is done without.
const ATTEMPTS: u32 = 8;

/// Where a connection stands.
#[derive(Debug)]
pub(super) enum Phase {
    /// Everything goes.
    Open,
    /// Nothing new is accepted; what was accepted goes out and waits for its answers.
    Draining { frame: Bytes, give_up: Instant },
    /// The close is repeated until the peer confirms it.
    Closing(Closing),
    /// The peer has closed, and may repeat itself if the confirmation is lost.
    Lingering { until: Instant, confirm: bool },
    /// Nothing more is sent.
    Over,
}

/// What time has brought.
#[derive(Debug)]
pub(super) enum Pulse {
    /// Everything is answered: the close frame may go.
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
}

impl Phase {
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Open | Self::Over => None,
            Self::Draining { give_up, .. } => Some(*give_up),
            Self::Closing(closing) => Some(closing.next),
            Self::Lingering { until, .. } => Some(*until),
        }
    }

    /// The peer answered something: it is worth waiting for the rest, until `give_up`.
    pub(super) fn progress(&mut self, until: Instant) {
        if let Self::Draining { give_up, .. } = self {
            *give_up = until;
        }
    }

    /// The peer has closed. It repeats itself after about `interval` if the confirmation is lost.
    pub(super) fn answer_close(&mut self, now: Instant, interval: Duration) {
        *self = Self::Lingering { until: now + interval * 3, confirm: true };
    }

    /// What time has brought. `drained`: everything accepted has been answered.
    pub(super) fn pulse(&mut self, now: Instant, drained: bool) -> Pulse {
        match self {
            Self::Draining { frame, .. } if drained => Pulse::Drained(frame.clone()),
            Self::Draining { frame, give_up } if *give_up <= now => Pulse::Stalled(frame.clone()),
            Self::Closing(closing) if closing.attempts == ATTEMPTS && closing.next <= now => {
                Pulse::Unconfirmed
            }
            Self::Lingering { until, confirm: false } if *until <= now => {
                *self = Self::Over;
                Pulse::Steady
            }
            _ => Pulse::Steady,
        }
    }

    /// The frames this phase sends. `interval` is how long an answer takes at most, usually.
    pub(super) fn put_frames(&mut self, now: Instant, interval: Duration, out: &mut Vec<Outgoing>) {
        match self {
            Self::Closing(closing) if closing.next <= now && closing.attempts < ATTEMPTS => {
                closing.next = now + interval * (1 << closing.attempts.min(2));
                closing.attempts += 1;
                out.push(Outgoing::new(closing.frame.clone()));
            }
            Self::Lingering { confirm: confirm @ true, .. } => {
                *confirm = false;
                out.push(Outgoing::new(Bytes::from_static(&frame::CLOSE_READ_FRAME)));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_close_is_repeated_ever_more_slowly_and_then_given_up() {
        let start = Instant::now();
        let mut phase = Phase::Closing(Closing::new(start, Bytes::from_static(b"close")));
        let (mut now, mut out, mut gaps) = (start, Vec::new(), Vec::new());
        while let Pulse::Steady = phase.pulse(now, true) {
            phase.put_frames(now, 10 * MS, &mut out);
            let next = phase.deadline().unwrap();
            gaps.push((next - now).as_millis());
            now = next;
        }
        assert_eq!(out.len(), ATTEMPTS as usize);
        assert_eq!(gaps, [10, 20, 40, 40, 40, 40, 40, 40]);
    }

    #[test]
    fn draining_ends_when_drained_and_not_before() {
        let now = Instant::now();
        let mut phase = Phase::Draining { frame: Bytes::new(), give_up: now + 10 * MS };
        assert!(matches!(phase.pulse(now, false), Pulse::Steady));
        phase.progress(now + 20 * MS);
        assert!(matches!(phase.pulse(now + 10 * MS, false), Pulse::Steady), "an answer buys time");
        assert!(matches!(phase.pulse(now + 20 * MS, false), Pulse::Stalled(_)));
        assert!(matches!(phase.pulse(now, true), Pulse::Drained(_)));
    }

    #[test]
    fn every_repeat_of_the_peers_close_is_confirmed() {
        let (now, mut out) = (Instant::now(), Vec::new());
        let mut phase = Phase::Open;
        for repeat in 1..=3 {
            phase.answer_close(now, 10 * MS);
            phase.put_frames(now, 10 * MS, &mut out);
            phase.put_frames(now, 10 * MS, &mut out);
            assert_eq!(out.len(), repeat);
        }
        assert!(matches!(phase.pulse(now + 30 * MS, true), Pulse::Steady));
        assert!(matches!(phase, Phase::Over));
    }
}
