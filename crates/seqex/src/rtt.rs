//! The measured round trip and the resend time-out that follows from it (RFC 6298).

use crate::{Resend, nanos::Nanos};

/// Round-trip estimation and exponential back-off.
#[derive(Debug)]
pub(crate) struct RoundTrip {
    bounds: Bounds,
    estimate: Option<Estimate>,
    backoff: u32,
}

#[derive(Clone, Copy, Debug)]
enum Bounds {
    Adaptive { initial: Nanos, min: Nanos, max: Nanos },
    Fixed(Nanos),
}

#[derive(Clone, Copy, Debug)]
struct Estimate {
    smoothed: Nanos,
    variation: Nanos,
    latest: Nanos,
    min: Nanos,
}

/// The granularity `G` of RFC 6298, and the least reordering delay that loss detection allows for.
const GRANULARITY: Nanos = Nanos::MILLISECOND;

/// How many time-outs pass before a packet that the peer holds is asked about.
const HELD_TIMEOUTS: u64 = 4;

/// Beyond this, doubling reaches any sensible maximum.
const MAX_BACKOFF: u32 = 20;

impl RoundTrip {
    pub(crate) fn new(resend: Resend) -> Self {
        // A time-out of nothing would be due again as soon as it is handled.
        let bound = |duration| Nanos::from(duration).max(GRANULARITY);
        let bounds = match resend {
            Resend::Adaptive(bounds) => Bounds::Adaptive {
                initial: bound(bounds.initial),
                min: bound(bounds.min),
                max: bound(bounds.max),
            },
            Resend::Fixed(interval) => Bounds::Fixed(bound(interval)),
        };
        Self { bounds, estimate: None, backoff: 0 }
    }

    /// Takes a measurement of a packet that was transmitted once.
    pub(crate) fn sample(&mut self, latest: Nanos) {
        self.backoff = 0;
        self.estimate = Some(match self.estimate {
            None => Estimate { smoothed: latest, variation: latest.part(2), latest, min: latest },
            Some(e) => Estimate {
                // The deviation is taken from the old mean.
                variation: e.variation.since(e.variation.part(4)).plus(e.smoothed.abs_diff(latest).part(4)),
                smoothed: e.smoothed.since(e.smoothed.part(8)).plus(latest.part(8)),
                latest,
                min: e.min.min(latest),
            },
        });
    }

    /// What was measured before was wrong.
    pub(crate) fn restart(&mut self, latest: Nanos) {
        self.estimate = None;
        self.sample(latest);
    }

    pub(crate) fn smoothed(&self) -> Option<Nanos> {
        self.estimate.map(|e| e.smoothed)
    }

    pub(crate) fn variation(&self) -> Option<Nanos> {
        self.estimate.map(|e| e.variation)
    }

    pub(crate) fn min(&self) -> Option<Nanos> {
        self.estimate.map(|e| e.min)
    }

    //= ZSSP-SEQ-19  by the measured round trip, RFC 6298
    /// The resend time-out, back-off included.
    pub(crate) fn timeout(&self) -> Nanos {
        match self.bounds {
            Bounds::Fixed(interval) => interval,
            Bounds::Adaptive { initial, min, max } => {
                let base = self.estimate.map_or(initial, |e| {
                    let margin = e.variation.times(4).max(GRANULARITY);
                    e.smoothed.plus(margin)
                });
                base.max(min).times(1 << self.backoff).min(max)
            }
        }
    }

    /// After how long a packet that the peer holds is asked about for the `n`th time, counted from 0: some time-outs, and
    /// each time twice as long as before, up to the longest time-out. With the bare protocol's fixed interval always the same.
    pub(crate) fn held_timeout(&self, n: u32) -> Nanos {
        let first = self.timeout().times(HELD_TIMEOUTS);
        match self.bounds {
            Bounds::Fixed(_) => first,
            Bounds::Adaptive { max, .. } => first.times(1 << n.min(MAX_BACKOFF)).min(max).max(first),
        }
    }

    /// How long a round trip takes, as far as is known.
    pub(crate) fn expected(&self) -> Nanos {
        self.estimate.map_or(self.assumed(), |e| e.smoothed).max(GRANULARITY)
    }

    /// How old a packet may be, after a later one arrived, before it counts as lost: a round trip and some eighths of
    /// one (RFC 9002, 6.1.2).
    pub(crate) fn reordering_delay(&self, eighths: u64) -> Nanos {
        let rtt = self.estimate.map_or(self.assumed(), |e| e.smoothed.max(e.latest));
        rtt.plus(rtt.part(8).times(eighths)).max(GRANULARITY)
    }

    /// The least time in which an answer can have come. Before the first measurement, what is taken for a round trip is the
    /// first time-out: were it nothing, every packet would be late, be transmitted again, and so measure nothing, for ever.
    pub(crate) fn least(&self) -> Nanos {
        self.estimate.map_or(self.assumed(), |e| e.min)
    }

    fn assumed(&self) -> Nanos {
        match self.bounds {
            Bounds::Adaptive { initial, .. } => initial,
            Bounds::Fixed(interval) => interval,
        }
    }

    /// An answer came that may be one to the latest transmission. That ends the back-off, once there was a measurement. Before,
    /// only a measurement does (Karn's algorithm, RFC 6298, 5.7): a time-out shorter than the round trip would have every
    /// packet transmitted twice, so that none measured anything.
    #[inline]
    pub(crate) fn on_plausible_answer(&mut self) {
        if self.estimate.is_some() {
            self.backoff = 0;
        }
    }

    /// Doubles the time-out.
    pub(crate) fn back_off(&mut self) {
        self.backoff = (self.backoff + 1).min(MAX_BACKOFF);
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::Adaptive;

    fn millis(ms: u64) -> Nanos {
        Nanos::MILLISECOND.times(ms)
    }

    fn adaptive() -> RoundTrip {
        let [initial, min, max] = [250, 10, 4000].map(Duration::from_millis);
        RoundTrip::new(Resend::Adaptive(Adaptive { initial, min, max }))
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
        assert_eq!(rtt.reordering_delay(1), millis(180));
    }

    #[test]
    fn before_the_first_measurement_a_round_trip_is_no_shorter_than_the_first_time_out() {
        let mut rtt = adaptive();
        assert_eq!(
            (rtt.least(), rtt.reordering_delay(2)),
            (millis(250), millis(250).plus(millis(250).part(4)))
        );
        rtt.sample(millis(80));
        assert_eq!((rtt.least(), rtt.reordering_delay(2)), (millis(80), millis(100)));
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
        rtt.sample(millis(80));
        assert_eq!(rtt.timeout(), millis(240));
    }

    #[test]
    fn what_is_held_is_asked_about_ever_more_rarely() {
        let mut rtt = adaptive();
        rtt.sample(millis(80));
        let waits: alloc::vec::Vec<_> = [0, 1, 2, 3, u32::MAX].map(|n| rtt.held_timeout(n)).into();
        assert_eq!(waits, [960, 1920, 3840, 4000, 4000].map(millis));
        (0..4).for_each(|_| rtt.back_off());
        assert_eq!(rtt.held_timeout(1), millis(15_360), "some time-outs at the least");
        assert_eq!(RoundTrip::new(Resend::BARE).held_timeout(5), millis(1000));
    }

    #[test]
    fn extreme_samples_saturate() {
        let mut rtt = adaptive();
        rtt.sample(Duration::MAX.into());
        rtt.sample(Nanos::ZERO);
        rtt.sample(Duration::MAX.into());
        assert_eq!(rtt.timeout(), millis(4000));
        assert!(rtt.reordering_delay(1) > millis(4000));
    }

    #[test]
    fn no_policy_makes_time_outs_of_nothing() {
        let zero = Adaptive { initial: Duration::ZERO, min: Duration::ZERO, max: Duration::ZERO };
        for resend in [Resend::Adaptive(zero), Resend::Fixed(Duration::ZERO)] {
            assert_eq!(RoundTrip::new(resend).timeout(), millis(1));
        }
    }

    #[test]
    fn fixed_interval_ignores_everything() {
        let mut rtt = RoundTrip::new(Resend::BARE);
        rtt.sample(millis(1));
        rtt.back_off();
        assert_eq!(rtt.timeout(), millis(250));
    }
}
