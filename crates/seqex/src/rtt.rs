//! The measured round trip and the resend time-out that follows from it (RFC 6298).

use core::time::Duration;

use crate::Resend;

/// Round-trip estimation and exponential back-off. Works in nanoseconds, which hold 584 years.
#[derive(Debug)]
pub(crate) struct RoundTrip {
    policy: Resend,
    estimate: Option<Estimate>,
    backoff: u32,
}

#[derive(Clone, Copy, Debug)]
struct Estimate {
    smoothed: u64,
    variation: u64,
    latest: u64,
    min: u64,
}

/// The granularity `G` of RFC 6298, and the least reordering delay that loss detection allows for.
const GRANULARITY: u64 = 1_000_000;

/// Beyond this, doubling reaches any sensible maximum.
const MAX_BACKOFF: u32 = 20;

impl RoundTrip {
    pub(crate) fn new(policy: Resend) -> Self {
        Self { policy, estimate: None, backoff: 0 }
    }

    /// Takes a measurement of a packet that was transmitted once.
    pub(crate) fn sample(&mut self, rtt: Duration) {
        let latest = nanos(rtt);
        self.estimate = Some(match self.estimate {
            None => Estimate { smoothed: latest, variation: latest / 2, latest, min: latest },
            Some(e) => Estimate {
                // The deviation is taken from the old mean, so it comes first.
                variation: e.variation - e.variation / 4 + e.smoothed.abs_diff(latest) / 4,
                smoothed: e.smoothed - e.smoothed / 8 + latest / 8,
                latest,
                min: e.min.min(latest),
            },
        });
    }

    pub(crate) fn smoothed(&self) -> Option<Duration> {
        self.estimate.map(|e| Duration::from_nanos(e.smoothed))
    }

    pub(crate) fn variation(&self) -> Option<Duration> {
        self.estimate.map(|e| Duration::from_nanos(e.variation))
    }

    pub(crate) fn min(&self) -> Option<Duration> {
        self.estimate.map(|e| Duration::from_nanos(e.min))
    }

    /// The resend time-out, back-off included.
    pub(crate) fn timeout(&self) -> Duration {
        match self.policy {
            Resend::Fixed(interval) => interval,
            Resend::Adaptive(bounds) => {
                let base = match self.estimate {
                    None => bounds.initial,
                    Some(e) => {
                        let margin = e.variation.saturating_mul(4).max(GRANULARITY);
                        Duration::from_nanos(e.smoothed.saturating_add(margin))
                    }
                };
                base.max(bounds.min).saturating_mul(1 << self.backoff).min(bounds.max)
            }
        }
    }

    /// How late a packet may be, after a later one arrived, before it counts as lost:
    /// nine eighths of the round trip (RFC 9002, 6.1.2).
    pub(crate) fn reordering_delay(&self) -> Duration {
        let rtt = self.estimate.map_or(0, |e| e.smoothed.max(e.latest));
        Duration::from_nanos(rtt.saturating_add(rtt / 8).max(GRANULARITY))
    }

    /// Doubles the time-out.
    pub(crate) fn back_off(&mut self) {
        self.backoff = (self.backoff + 1).min(MAX_BACKOFF);
    }

    /// The peer is heard again.
    pub(crate) fn reset_backoff(&mut self) {
        self.backoff = 0;
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Adaptive;

    fn millis(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn adaptive() -> RoundTrip {
        RoundTrip::new(Resend::Adaptive(Adaptive {
            initial: millis(250),
            min: millis(10),
            max: millis(4000),
        }))
    }

    #[test]
    fn first_sample_sets_the_mean_and_half_of_it_as_deviation() {
        let mut rtt = adaptive();
        assert_eq!(rtt.timeout(), millis(250));
        rtt.sample(millis(80));
        assert_eq!(rtt.smoothed(), Some(millis(80)));
        assert_eq!(rtt.variation(), Some(millis(40)));
        assert_eq!(rtt.timeout(), millis(240));
    }

    #[test]
    fn later_samples_are_weighed_as_in_rfc_6298() {
        let mut rtt = adaptive();
        rtt.sample(millis(80));
        rtt.sample(millis(160));
        assert_eq!(rtt.smoothed(), Some(millis(90)));
        assert_eq!(rtt.variation(), Some(millis(50)));
        assert_eq!(rtt.min(), Some(millis(80)));
        assert_eq!(rtt.reordering_delay(), millis(180));
    }

    #[test]
    fn backs_off_to_the_maximum_and_returns() {
        let mut rtt = adaptive();
        let timeouts: alloc::vec::Vec<_> = (0..6)
            .map(|_| {
                let timeout = rtt.timeout();
                rtt.back_off();
                timeout
            })
            .collect();
        assert_eq!(timeouts, [250, 500, 1000, 2000, 4000, 4000].map(millis));
        (0..1000).for_each(|_| rtt.back_off());
        assert_eq!(rtt.timeout(), millis(4000));
        rtt.reset_backoff();
        assert_eq!(rtt.timeout(), millis(250));
    }

    #[test]
    fn extreme_samples_saturate() {
        let mut rtt = adaptive();
        rtt.sample(Duration::MAX);
        rtt.sample(Duration::ZERO);
        rtt.sample(Duration::MAX);
        assert_eq!(rtt.timeout(), millis(4000));
        assert!(rtt.reordering_delay() > millis(4000));
    }

    #[test]
    fn fixed_interval_ignores_everything() {
        let mut rtt = RoundTrip::new(Resend::Fixed(millis(250)));
        rtt.sample(millis(1));
        rtt.back_off();
        assert_eq!(rtt.timeout(), millis(250));
    }
}
