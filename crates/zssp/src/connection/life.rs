//! Whether the peer is still there, on a connection on which nothing may be under way.

use std::time::{Duration, Instant};

use crate::frame::Token;

/// How often a peer that does not answer is asked until it is given up. Where a third of everything is lost, more than half
/// of the questions go without an answer, but all of them once in a hundred million times.
const QUESTIONS: u32 = 32;

/// Not more often than that.
const SHORTEST: Duration = Duration::from_millis(100);

/// How long after this side was stopped the peer is still listened for: what it has sent meanwhile is yet to be read.
const GRACE: Duration = Duration::from_secs(1);

/// How often in a row that is done: a machine may be stopped again as soon as it goes on, and one that is always too slow
/// must still notice that the peer is gone.
const STOPS: u32 = 8;

/// When the peer was heard, and what follows from its silence.
#[derive(Debug)]
pub(super) struct Life {
    heard: Instant,
    asked: Option<Instant>,
    /// How often the peer was asked: the last ping's token.
    pings: u64,
    /// When the last ping went out, if it was not answered.
    pinged: Option<Instant>,
    keep_alive: Option<Duration>,
    idle_timeout: Option<Duration>,
    /// When this side last went on after it was stopped for long, if it was.
    woke: Option<Instant>,
    /// How often it was since the peer was heard.
    stops: u32,
}

impl Life {
    pub(super) fn new(now: Instant, keep_alive: Option<Duration>, idle_timeout: Option<Duration>) -> Self {
        let (asked, pinged, woke) = (None, None, None);
        Self { heard: now, asked, pings: 0, pinged, keep_alive, idle_timeout, woke, stops: 0 }
    }

    /// An authentic payload has come.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.asked = None;
        self.stops = 0;
    }

    /// This side was to look at the clock at `due`. If it was stopped, with its machine or by itself, that says nothing of the
    /// peer. Yields until when it is to be listened for then.
    pub(super) fn looks(&mut self, now: Instant, due: Instant) -> Option<Instant> {
        let late = now.saturating_duration_since(due);
        if late <= GRACE || self.stops == STOPS {
            return None;
        }
        (self.woke, self.asked) = (Some(now), None);
        self.stops += 1;
        Some(now + GRACE)
    }

    /// Whether this side has been listening for long enough to call the peer silent.
    pub(super) fn has_listened(&self, now: Instant) -> bool {
        self.woke.is_none_or(|woke| now.saturating_duration_since(woke) >= GRACE)
    }

    /// The token of the ping that is to be sent now, if one is. It counts as sent.
    pub(super) fn asks(&mut self, now: Instant) -> Option<Token> {
        self.ask_at().filter(|&at| at <= now)?;
        (self.asked, self.pinged) = (Some(now), Some(now));
        self.pings += 1;
        Some(self.pings.to_be_bytes())
    }

    /// A token has come back. Yields the round trip if it is the last ping's.
    pub(super) fn answered(&mut self, now: Instant, token: Token) -> Option<Duration> {
        let pinged = if token == self.pings.to_be_bytes() { self.pinged.take() } else { None };
        pinged.map(|pinged| now.saturating_duration_since(pinged))
    }

    /// Whether the peer has been silent for too long.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.over_at().is_some_and(|at| at <= now)
    }

    /// Whether it has been silent for `time`.
    pub(super) fn is_silent(&self, now: Instant, time: Duration) -> bool {
        now.saturating_duration_since(self.heard) >= time
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.ask_at(), self.over_at()].into_iter().flatten().min()
    }

    fn ask_at(&self) -> Option<Instant> {
        let keep_alive = self.keep_alive?;
        let Some(asked) = self.asked else { return self.heard.checked_add(keep_alive) };
        let left = self.idle_timeout.map(|time| time.saturating_sub(keep_alive) / QUESTIONS);
        asked.checked_add(left.map_or(keep_alive, |left| left.max(SHORTEST).min(keep_alive)))
    }

    fn over_at(&self) -> Option<Instant> {
        let silent = self.heard.checked_add(self.idle_timeout?)?;
        Some(self.woke.map_or(silent, |woke| silent.max(woke + GRACE)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_silent_peer_is_asked_again_and_again_and_then_given_up() {
        let start = Instant::now();
        let mut life = Life::new(start, Some(10 * SECOND), Some(25 * SECOND));
        assert_eq!(life.asks(start + 9 * SECOND), None);
        let first = life.asks(start + 10 * SECOND).unwrap();
        assert_eq!(life.asks(start + 10 * SECOND), None);
        let (mut last, mut asked, mut questions) = (first, start, 1);
        while let Some(next) = life.deadline().filter(|&next| !life.is_over(next)) {
            (last, asked, questions) = (life.asks(next).unwrap(), next, questions + 1);
        }
        assert_eq!(questions, QUESTIONS, "spread over the time that is left");
        assert_eq!(life.deadline(), Some(start + 25 * SECOND));
        life.heard(asked + SECOND / 10);
        assert_eq!(life.answered(asked + SECOND, first), None, "an answer to which of them?");
        assert_eq!(life.answered(asked + SECOND, last), Some(SECOND));
        assert_eq!(life.answered(asked + SECOND, last), None, "once");
        assert_eq!(life.deadline(), Some(asked + SECOND / 10 + 10 * SECOND));
        assert!(!life.is_over(start + 25 * SECOND));
    }

    #[test]
    fn a_side_that_was_stopped_listens_first() {
        let start = Instant::now();
        let mut life = Life::new(start, Some(10 * SECOND), Some(25 * SECOND));
        let due = life.deadline().unwrap();
        assert_eq!(life.looks(due, due), None);
        assert!(life.has_listened(due), "in time");
        life.asks(due).unwrap();
        let now = start + 3600 * SECOND;
        assert_eq!(life.looks(now, life.deadline().unwrap()), Some(now + SECOND));
        assert!(!life.is_over(now) && !life.has_listened(now));
        assert!(life.asks(now).is_some(), "at once");
        life.heard(now + SECOND / 10);
        assert!(!life.is_over(now + SECOND));
        // The next time, nothing comes.
        let later = now + 3600 * SECOND;
        assert_eq!(life.looks(later, life.deadline().unwrap()), Some(later + SECOND));
        assert!(!life.is_over(later + SECOND - Duration::from_nanos(1)));
        let over = later + SECOND;
        assert!(life.is_over(over) && life.has_listened(over));
    }

    #[test]
    fn a_side_that_is_always_too_slow_notices_that_the_peer_is_gone() {
        let start = Instant::now();
        let mut life = Life::new(start, Some(10 * SECOND), Some(25 * SECOND));
        let (mut now, mut stops) = (start, 0);
        while !life.is_over(now) {
            let due = life.deadline().unwrap();
            now = due.max(now) + 3 * SECOND;
            stops += u32::from(life.looks(now, due).is_some());
            life.asks(now);
        }
        assert_eq!(stops, STOPS);
        life.heard(now);
        assert!(life.looks(now + 3 * SECOND, now).is_some(), "it was there after all");
    }

    #[test]
    fn without_settings_there_is_no_deadline() {
        let life = Life::new(Instant::now(), None, None);
        assert_eq!(life.deadline(), None);
        assert!(!life.is_over(Instant::now() + 1000 * SECOND));
    }
}
