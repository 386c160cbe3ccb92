//! When acknowledgements go out by themselves.

use std::time::{Duration, Instant};

/// Answers that wait at most for one more before they are sent.
const AT_ONCE: u32 = 2;

/// How long an acknowledgement may wait for company, or for a message to ride with; and what arrived, for its answer.
pub(super) const MAX_DELAY: Duration = Duration::from_millis(2);

/// Holds acknowledgements back for a moment, so that several travel in one payload and with data.
#[derive(Debug, Default)]
pub(super) struct AckTimer {
    waiting: u32,
    due: Option<Instant>,
    /// By itself, since what goes out meanwhile says nothing of what is not answered yet.
    held_due: Option<Instant>,
}

impl AckTimer {
    /// Something was answered, or the peer should hear what became of it for another reason.
    pub(super) fn add(&mut self, now: Instant, urgency: Urgency) {
        self.waiting += match urgency {
            Urgency::Answered => 1,
            Urgency::Now => AT_ONCE,
        };
        let due = if self.waiting >= AT_ONCE { now } else { now + MAX_DELAY };
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
    }

    /// A message arrived. If it is not answered soon, the peer should hear that it is held.
    pub(super) fn arrived(&mut self, now: Instant) {
        self.held_due.get_or_insert(now + MAX_DELAY);
    }

    /// Whether it is time to tell what is held; then all that arrived before is told.
    pub(super) fn tells_held(&mut self, now: Instant) -> bool {
        self.held_due.take_if(|due| *due <= now).is_some()
    }

    /// When acknowledgements are to be sent.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// When there is something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due.into_iter().chain(self.held_due).min()
    }

    /// All acknowledgements there were have been sent.
    pub(super) fn sent(&mut self) {
        (self.waiting, self.due) = (0, None);
    }

    /// There is nobody to tell anything any more.
    pub(super) fn stop(&mut self) {
        *self = Self::default();
    }
}

/// How much the peer waits for an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// A message was answered: two of them are worth a payload.
    Answered,
    /// A message arrived out of order or again, or one that took several datagrams: the peer may be waiting.
    Now,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_waits_two_do_not() {
        let (mut timer, now) = (AckTimer::default(), Instant::now());
        timer.add(now, Urgency::Answered);
        assert_eq!(timer.due(), Some(now + MAX_DELAY));
        let later = now + MAX_DELAY / 2;
        timer.add(later, Urgency::Answered);
        assert_eq!(timer.due(), Some(later));
        timer.sent();
        assert_eq!(timer.due(), None);
    }

    #[test]
    fn what_arrived_is_told_once_and_whatever_is_sent_before() {
        let (mut timer, now) = (AckTimer::default(), Instant::now());
        timer.arrived(now);
        timer.arrived(now + MAX_DELAY / 2);
        timer.add(now, Urgency::Now);
        assert_eq!((timer.due(), timer.deadline()), (Some(now), Some(now)));
        timer.sent();
        assert_eq!((timer.due(), timer.deadline()), (None, Some(now + MAX_DELAY)));
        assert!(!timer.tells_held(now + MAX_DELAY / 2));
        assert!(timer.tells_held(now + MAX_DELAY) && !timer.tells_held(now + MAX_DELAY));
        assert_eq!(timer.deadline(), None);
    }

    #[test]
    fn disorder_is_reported_at_once() {
        let (mut timer, now) = (AckTimer::default(), Instant::now());
        timer.add(now, Urgency::Now);
        assert_eq!(timer.due(), Some(now));
    }
}
