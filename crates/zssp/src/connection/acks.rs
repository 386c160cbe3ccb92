//! When acknowledgements go out by themselves.

use std::time::{Duration, Instant};

/// Answers that wait at most for one more before they are sent.
const AT_ONCE: u32 = 2;

/// How long an acknowledgement may wait for company, or for a message to ride with.
pub(super) const MAX_DELAY: Duration = Duration::from_millis(2);

/// Holds acknowledgements back for a moment, so that several travel in one payload and with data.
#[derive(Debug, Default)]
pub(super) struct AckTimer {
    waiting: u32,
    due: Option<Instant>,
}

impl AckTimer {
    /// Something arrived or was answered, and the peer should hear of it.
    pub(super) fn add(&mut self, now: Instant, urgency: Urgency) {
        self.waiting += match urgency {
            Urgency::Answered => 1,
            Urgency::Arrived => 0,
            Urgency::Now => AT_ONCE,
        };
        let due = if self.waiting >= AT_ONCE { now } else { now + MAX_DELAY };
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
    }

    /// Whether messages arrived and none was answered since.
    pub(super) fn only_arrivals(&self) -> bool {
        self.due.is_some() && self.waiting == 0
    }

    /// When acknowledgements are to be sent.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Everything there was has been sent.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// How much the peer waits for an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// A message was answered: two of them are worth a payload.
    Answered,
    /// A message arrived as expected. Its answer may follow at once, so this alone can wait.
    Arrived,
    /// A message arrived out of order or again, or one that took many datagrams: the peer may be waiting.
    Now,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_waits_two_do_not() {
        let (mut timer, now) = (AckTimer::default(), Instant::now());
        timer.add(now, Urgency::Arrived);
        timer.add(now, Urgency::Answered);
        assert_eq!(timer.due(), Some(now + MAX_DELAY));
        let later = now + MAX_DELAY / 2;
        timer.add(later, Urgency::Answered);
        assert_eq!(timer.due(), Some(later));
        timer.clear();
        assert_eq!(timer.due(), None);
    }

    #[test]
    fn what_arrived_is_told_apart_from_what_is_answered() {
        let (mut timer, now) = (AckTimer::default(), Instant::now());
        assert!(!timer.only_arrivals());
        timer.add(now, Urgency::Arrived);
        assert!(timer.only_arrivals());
        timer.add(now, Urgency::Answered);
        assert!(!timer.only_arrivals());
    }

    #[test]
    fn disorder_is_reported_at_once() {
        let (mut timer, now) = (AckTimer::default(), Instant::now());
        timer.add(now, Urgency::Now);
        assert_eq!(timer.due(), Some(now));
    }
}
