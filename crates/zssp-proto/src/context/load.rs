//! Whether hellos come faster than they can be answered (PROTOCOL 4).

use std::time::{Duration, Instant};

use crate::zcp::Challenging;

/// How long challenges go on after the last sign of overload.
const CALM: Duration = Duration::from_secs(5);

/// Counts hellos by the second.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// When the second began that is being counted.
    second: Option<Instant>,
    arrived: u32,
    challenge_until: Option<Instant>,
}

impl Load {
    /// A hello has arrived; whether it must prove itself.
    //= ZSSP-ZCP-04  under load or by configuration
    pub(super) fn demands_response(&mut self, now: Instant, challenging: Challenging) -> bool {
        let limit = match challenging {
            Challenging::Always => return true,
            Challenging::Automatic { hellos_per_second } => hellos_per_second,
            Challenging::Off => return false,
        };
        if self.second.is_none_or(|second| now.saturating_duration_since(second) >= Duration::from_secs(1)) {
            self.second = Some(now);
            self.arrived = 0;
        }
        self.arrived = self.arrived.saturating_add(1);
        if self.arrived > limit {
            self.overloaded(now);
        }
        self.challenge_until.is_some_and(|until| now < until)
    }

    /// There is more work than can be done.
    pub(super) fn overloaded(&mut self, now: Instant) {
        self.challenge_until = Some(now + CALM);
    }
}

#[cfg(test)]
mod tests {
    use zssp_sim::Clock;

    use super::*;

    const AUTOMATIC: Challenging = Challenging::Automatic { hellos_per_second: 10 };

    //= ZSSP-ZCP-04  begins above the limit, ends by itself
    #[test]
    fn challenges_begin_above_the_limit_and_end_by_themselves() {
        let (mut load, now) = (Load::default(), Clock::new().now());
        let demands: Vec<bool> = (0..12).map(|_| load.demands_response(now, AUTOMATIC)).collect();
        assert_eq!(demands.iter().position(|demands| *demands), Some(10));
        assert!(load.demands_response(now + Duration::from_secs(4), AUTOMATIC));
        assert!(!load.demands_response(now + Duration::from_secs(6), AUTOMATIC));
    }

    #[test]
    fn overload_elsewhere_begins_them_too() {
        let (mut load, now) = (Load::default(), Clock::new().now());
        load.overloaded(now);
        assert!(load.demands_response(now, AUTOMATIC));
        assert!(!load.demands_response(now, Challenging::Off));
    }

    #[test]
    fn a_slow_stream_is_never_challenged() {
        let (mut load, now) = (Load::default(), Clock::new().now());
        let slow = |n: u32| now + n * Duration::from_millis(101);
        assert!((0..1000).all(|n| !load.demands_response(slow(n), AUTOMATIC)));
        assert!(load.demands_response(slow(1001), Challenging::Always));
    }
}
