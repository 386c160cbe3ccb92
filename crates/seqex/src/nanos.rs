//! Time as the core keeps it.

use core::time::Duration;

/// A time or a span in nanoseconds: half the size of a `Duration`, and compared in one instruction.
/// It holds 584 years and saturates in the last second of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Nanos(u64);

const NANOS_PER_SEC: u64 = 1_000_000_000;

impl Nanos {
    pub(crate) const ZERO: Self = Self(0);
    pub(crate) const MILLISECOND: Self = Self(1_000_000);

    pub(crate) const fn duration(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    pub(crate) const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    pub(crate) const fn times(self, factor: u64) -> Self {
        Self(self.0.saturating_mul(factor))
    }

    pub(crate) const fn part(self, divisor: u64) -> Self {
        Self(self.0 / divisor)
    }

    /// The span since `earlier`, zero if that is later.
    pub(crate) const fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }

    pub(crate) const fn abs_diff(self, other: Self) -> Self {
        Self(self.0.abs_diff(other.0))
    }
}

impl From<Duration> for Nanos {
    fn from(duration: Duration) -> Self {
        let (secs, nanos) = (duration.as_secs(), u64::from(duration.subsec_nanos()));
        // One comparison instead of two saturating steps: each packet is converted for several times.
        if secs < u64::MAX / NANOS_PER_SEC { Self(secs * NANOS_PER_SEC + nanos) } else { Self(u64::MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_survive_up_to_the_largest() {
        let last = Duration::from_secs(u64::MAX / NANOS_PER_SEC) - Duration::from_nanos(1);
        for duration in [Duration::ZERO, Duration::new(3, 999_999_999), last, Duration::from_nanos(u64::MAX)]
        {
            assert_eq!(Nanos::from(duration).duration(), duration);
        }
        assert_eq!(Nanos::from(Duration::MAX).duration(), Duration::from_nanos(u64::MAX));
    }
}
