//! What time it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::Timestamp;

/// The clock of an exchange that is shared through an [`Exchange`](crate::Exchange).
///
/// `Clock::default()` is the monotonic clock of the system. [`Clock::manual`] stands still until it is
/// told to [advance](Self::advance), for simulations and tests. Clones show the same time.
///
/// ```
/// # use std::time::Duration;
/// let clock = seqex::Clock::manual();
/// clock.advance(Duration::from_millis(3));
/// assert_eq!(clock.now(), Duration::from_millis(3));
/// ```
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    Manual(Arc<AtomicU64>),
    System(Instant),
}

impl Clock {
    /// A clock that begins at zero and moves only by [`advance`](Self::advance).
    pub fn manual() -> Self {
        Self(Source::Manual(Arc::default()))
    }

    /// The time since the clock was made.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::Manual(nanos) => Duration::from_nanos(nanos.load(Ordering::Acquire)),
            Source::System(epoch) => epoch.elapsed(),
        }
    }

    /// Moves a manual clock forwards; without effect on that of the system. Whoever waits does not notice by
    /// itself: what follows from the new time happens when the link is told to handle its time-outs.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(nanos) = &self.0 {
            nanos.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX), Ordering::AcqRel);
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self(Source::System(Instant::now()))
    }
}
