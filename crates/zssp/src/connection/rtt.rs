//! The round trip of a connection, over all its exchanges (RFC 9002 section 5).

use std::time::Duration;

use super::acks::MAX_DELAY;

/// The time-out before there was a measurement.
const INITIAL: Duration = Duration::from_millis(250);

/// What timers can tell apart.
const GRANULARITY: Duration = Duration::from_millis(1);

/// The shortest time-out.
const SHORTEST: Duration = Duration::from_millis(10);

/// The estimate.
#[derive(Debug, Default)]
pub(super) struct Rtt {
    smoothed: Option<Duration>,
    variation: Duration,
    latest: Duration,
    min: Option<Duration>,
}

impl Rtt {
    /// Takes in a measurement.
    pub(super) fn sample(&mut self, rtt: Duration) {
        self.latest = rtt;
        self.min = Some(self.min.map_or(rtt, |min| min.min(rtt)));
        match self.smoothed {
            None => {
                self.smoothed = Some(rtt);
                self.variation = rtt / 2;
            }
            Some(smoothed) => {
                self.variation = (self.variation * 3 + smoothed.abs_diff(rtt)) / 4;
                self.smoothed = Some((smoothed * 7 + rtt) / 8);
            }
        }
    }

    pub(super) fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    pub(super) fn min(&self) -> Option<Duration> {
        self.min
    }

    /// Whether an answer may have come after that time: sooner than the shortest measured by as much as that may have waited
    /// for company, or at any time before one was measured.
    pub(super) fn is_possible(&self, time: Duration) -> bool {
        self.min.is_none_or(|min| time + MAX_DELAY >= min)
    }

    /// How old something may be, after something later arrived, before it counts as lost: a round trip and some eighths of
    /// one (RFC 9002, 6.1.2).
    pub(super) fn reordering_delay(&self, eighths: u32) -> Duration {
        let delay = |smoothed: Duration| smoothed.max(self.latest) * (8 + eighths) / 8;
        self.smoothed.map_or(INITIAL, delay).max(GRANULARITY)
    }

    /// After how long an answer is late, though it may have waited for company (RFC 9002, 6.2.1).
    pub(super) fn timeout(&self) -> Duration {
        let late = |smoothed| smoothed + (self.variation * 4).max(GRANULARITY) + MAX_DELAY;
        self.smoothed.map_or(INITIAL, |smoothed| late(smoothed).max(SHORTEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_estimate_follows_the_road() {
        let mut rtt = Rtt::default();
        assert_eq!((rtt.smoothed(), rtt.timeout(), rtt.reordering_delay(1)), (None, INITIAL, INITIAL));
        assert!(rtt.is_possible(Duration::ZERO));
        rtt.sample(100 * MS);
        assert_eq!((rtt.smoothed(), rtt.timeout()), (Some(100 * MS), 302 * MS));
        assert!(rtt.is_possible(98 * MS) && !rtt.is_possible(97 * MS));
        rtt.sample(200 * MS);
        assert_eq!(rtt.reordering_delay(1), 225 * MS, "it has just become longer");
        assert_eq!(rtt.reordering_delay(8), 400 * MS, "a whole round trip late");
        for _ in 0..100 {
            rtt.sample(40 * MS);
        }
        assert_eq!(rtt.smoothed().map(|rtt| rtt.as_millis()), Some(40));
        assert!(rtt.timeout() < 60 * MS, "{:?}", rtt.timeout());
        for _ in 0..100 {
            rtt.sample(40 * MS);
        }
        assert_eq!(rtt.timeout().as_millis(), 43, "on the steadiest road an answer may wait for another");
        assert_eq!(rtt.min(), Some(40 * MS));
        for _ in 0..100 {
            rtt.sample(MS / 10);
        }
        assert_eq!((rtt.timeout(), rtt.reordering_delay(1)), (SHORTEST, GRANULARITY));
    }
}
