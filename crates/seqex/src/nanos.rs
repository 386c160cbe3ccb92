//! Time as the core keeps it.

use core::time::Duration;

/// A time or a span in nanoseconds: half the size of a `Duration`, and compared in one instruction.
/// It holds 584 years and saturates beyond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Nanos(u64);

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
        let whole = duration.as_secs().saturating_mul(1_000_000_000);
        Self(whole.saturating_add(duration.subsec_nanos().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_survive_up_to_the_largest() {
        for duration in [Duration::ZERO, Duration::new(3, 999_999_999), Duration::from_nanos(u64::MAX)] {
            assert_eq!(Nanos::from(duration).duration(), duration);
        }
        assert_eq!(Nanos::from(Duration::MAX).duration(), Duration::from_nanos(u64::MAX));
    }
}
