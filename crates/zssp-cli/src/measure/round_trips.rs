//! Round trips in numbers.

use std::{fmt, time::Duration};

/// The round trips of all answers so far. It takes no memory for each.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RoundTrips {
    count: u64,
    min: Duration,
    max: Duration,
    /// In milliseconds, as Welford's method keeps them: no difference of large sums.
    mean: f64,
    squares: f64,
}

impl RoundTrips {
    pub(crate) fn add(&mut self, time: Duration) {
        self.min = if self.count == 0 { time } else { self.min.min(time) };
        self.max = self.max.max(time);
        self.count += 1;
        let (time, before) = (milliseconds(time), self.mean);
        self.mean += (time - before) / self.count as f64;
        self.squares += (time - before) * (time - self.mean);
    }

    /// Answers so far.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The longest round trip.
    pub(crate) fn max(&self) -> Duration {
        self.max
    }
}

/// `min/avg/max/stddev = 1.000/2.000/3.000/0.816 ms`
impl fmt::Display for RoundTrips {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (min, max) = (milliseconds(self.min), milliseconds(self.max));
        let deviation = (self.squares / self.count.max(1) as f64).sqrt();
        write!(f, "min/avg/max/stddev = {min:.3}/{:.3}/{max:.3}/{deviation:.3} ms", self.mean)
    }
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_that_of_the_numbers() {
        let mut trips = RoundTrips::default();
        for time in [3, 1, 2] {
            trips.add(Duration::from_millis(time));
        }
        assert_eq!(trips.to_string(), "min/avg/max/stddev = 1.000/2.000/3.000/0.816 ms");
        assert_eq!((trips.count(), trips.max()), (3, Duration::from_millis(3)));
    }
}
