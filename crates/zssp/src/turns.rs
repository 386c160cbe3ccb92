//! Work that several tasks do at the same time, and whose results leave in the order in which it was handed out.
//!
//! Nothing is shared but channels, each with one owner at either end: a line itself is under a lock of its owner's.

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

/// Tasks that take packets, or send them, at the same time: no more.
pub(crate) const MAX_TASKS: usize = 16;

/// By how many packets those of one session may overtake each other on the way out, and again on the way in. The replay
/// window reaches back 2048 (PROTOCOL 3.4). The network needs some of that, as do rounds in which a large message is
/// sent again in parts, and counters that are taken at the same time are up to 64 apart to begin with.
const OVERTAKE: usize = 768;

/// How many packets a task may have opened before its turn.
pub(crate) const fn opened_early(tasks: usize) -> usize {
    OVERTAKE / tasks
}

/// How many packets a task may seal at a time. While one does, each of the others seals for the turn before and for the
/// turn after.
pub(crate) const fn sealed_at_once(tasks: usize) -> usize {
    if tasks == 1 { usize::MAX } else { OVERTAKE / (2 * tasks) }
}

/// Where the next piece of work stands in line.
#[derive(Debug, Default)]
pub(crate) struct Line {
    last: Option<Before>,
}

impl Line {
    /// The place behind everybody, which nobody will stand behind: for whoever keeps the line until the work is done.
    pub(crate) fn leave(&mut self) -> Turn {
        Turn { before: self.last.take(), over: None }
    }

    /// The place behind everybody.
    pub(crate) fn join(&mut self) -> Turn {
        let (over, next) = oneshot::channel();
        Turn { before: self.last.replace(Before(next)), over: Some(over) }
    }
}

/// Whom one waits for: it is done, which is told by the other end being dropped, or has left the line, and tells whom it
/// was waiting for.
#[derive(Debug)]
struct Before(oneshot::Receiver<Before>);

/// A place in the line. It is left by being dropped, before or after it is one's turn.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// `None`: it is our turn.
    before: Option<Before>,
    /// Tells the next.
    over: Option<oneshot::Sender<Before>>,
}

impl Turn {
    /// Whether everybody before is done.
    pub(crate) fn has_come(&mut self) -> bool {
        while let Some(Before(before)) = &mut self.before {
            match before.try_recv() {
                Ok(earlier) => self.before = Some(earlier),
                Err(TryRecvError::Closed) => self.before = None,
                Err(TryRecvError::Empty) => return false,
            }
        }
        true
    }

    /// Waits until everybody before is done.
    ///
    /// Cancel safe.
    pub(crate) async fn come(&mut self) {
        while let Some(Before(before)) = &mut self.before {
            self.before = before.await.ok();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let (Some(before), Some(over)) = (self.before.take(), self.over.take()) {
            // Nobody may stand behind yet, and nobody ever will behind the last.
            let _ = over.send(before);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn is_waiting(turn: &mut Turn) -> bool {
        std::pin::pin!(turn.come()).poll(&mut Context::from_waker(Waker::noop())) == Poll::Pending
    }

    #[test]
    fn turns_come_in_the_order_of_joining() {
        let mut line = Line::default();
        let [mut first, mut second, mut third] = [(); 3].map(|()| line.join());
        assert!(first.has_come() && !is_waiting(&mut first));
        assert!(!second.has_come() && is_waiting(&mut third));
        drop(first);
        assert!(second.has_come() && !is_waiting(&mut second) && is_waiting(&mut third));
        drop(second);
        assert!(!is_waiting(&mut third));
        drop(third);
        assert!(line.leave().has_come() && Turn::default().has_come());
    }

    #[test]
    fn whoever_gives_up_neither_holds_up_nor_lets_by() {
        let mut line = Line::default();
        let (first, second, third, mut last) = (line.join(), line.join(), line.join(), line.leave());
        drop(third);
        assert!(!last.has_come() && is_waiting(&mut last));
        drop(second);
        assert!(!last.has_come() && is_waiting(&mut last));
        drop(first);
        assert!(last.has_come());
    }

    #[test]
    fn tasks_stay_within_the_replay_window() {
        for tasks in 2..=MAX_TASKS {
            assert!((2 * tasks - 1) * sealed_at_once(tasks) + tasks * opened_early(tasks) <= 1536, "{tasks}");
            assert!(sealed_at_once(tasks) > 0);
        }
    }
}
