//! Time that moves when the test says so.

use std::time::{Duration, Instant};

/// A virtual clock.
///
/// Its start is read from the system, because an [`Instant`] cannot be had otherwise, and means nothing;
/// only [`elapsed`](Self::elapsed) is the same in every run.
///
/// ```
/// # use std::time::Duration;
/// let mut clock = zssp_sim::Clock::new();
/// let resend = clock.now() + Duration::from_secs(1);
/// clock.advance_to(resend);
/// assert_eq!(clock.elapsed(), Duration::from_secs(1));
/// ```
#[derive(Debug, Clone)]
pub struct Clock {
    start: Instant,
    now: Instant,
}

impl Clock {
    /// A clock that stands.
    pub fn new() -> Self {
        let start = Instant::now();
        Self { start, now: start }
    }

    /// The present.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// How far the clock has moved since it was made.
    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Moves on by `time`.
    pub fn advance(&mut self, time: Duration) {
        self.now += time;
    }

    /// Moves on to `instant`; stays where it is when that has passed already.
    pub fn advance_to(&mut self, instant: Instant) {
        self.now = self.now.max(instant);
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_moves_only_when_told_and_never_back() {
        let mut clock = Clock::new();
        let start = clock.now();
        assert_eq!((clock.now(), clock.elapsed()), (start, Duration::ZERO));
        clock.advance(Duration::from_secs(5));
        clock.advance_to(start + Duration::from_secs(2));
        assert_eq!(clock.now(), start + Duration::from_secs(5));
        clock.advance_to(start + Duration::from_secs(7));
        assert_eq!(clock.elapsed(), Duration::from_secs(7));
    }
}
