//! Spreads what may be under way over the round trip (RFC 9002 section 7.7), so that it does not arrive at a short queue
//! all at once.

use std::time::{Duration, Instant};

use crate::congestion::INITIAL_DATAGRAMS;

/// What may go at once, in datagrams, at the least (RFC 9002 section 7.7).
const BURST_DATAGRAMS: u64 = INITIAL_DATAGRAMS;

/// What may always be one payload, in datagrams.
const PAYLOAD_DATAGRAMS: u64 = 2;

/// What may go at once, in time: timers have a resolution of a millisecond and tend to be late, and what that costs must
/// be made good. On roads whose round trip is not longer, nothing is ever held back.
const BURST_TIME: Duration = Duration::from_millis(2);

/// So many bytes in so long a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    pub(super) bytes: u64,
    pub(super) time: Duration,
}

impl Rate {
    /// How long so many bytes take.
    fn time_of(self, bytes: u64) -> Duration {
        let nanos = self.time.as_nanos() * u128::from(bytes) / u128::from(self.bytes.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How long what may go at once takes, in datagrams of `mtu` bytes.
    fn tolerance(self, mtu: u64) -> Duration {
        self.time_of(BURST_DATAGRAMS * mtu).max(BURST_TIME)
    }

    /// Bytes that one payload may have, in datagrams of `mtu` bytes: all of them go at once, each time.
    pub(super) fn payload(self, mtu: u64) -> u64 {
        let nanos = self.time.as_nanos().max(1);
        let bytes = u128::from(self.bytes) * BURST_TIME.as_nanos() / nanos;
        u64::try_from(bytes).unwrap_or(u64::MAX).max(PAYLOAD_DATAGRAMS * mtu)
    }
}

/// A bucket of tokens, kept as the time at which it will be full again: a debt of time is one of bytes, and needs no
/// account that is brought up to date.
#[derive(Debug, Default)]
pub(super) struct Pacer {
    /// When everything that was sent will have had its time.
    settled: Option<Instant>,
}

impl Pacer {
    /// When the next payload may go, in datagrams of `mtu` bytes; `None`: at any time. A large one may leave a debt.
    pub(super) fn next(&self, rate: Rate, mtu: u64) -> Option<Instant> {
        self.settled?.checked_sub(rate.tolerance(mtu))
    }

    /// So many bytes go out.
    pub(super) fn sent(&mut self, now: Instant, rate: Rate, bytes: u64) {
        let from = self.settled.map_or(now, |settled| settled.max(now));
        self.settled = from.checked_add(rate.time_of(bytes));
    }

    /// On another road nothing is owed.
    pub(super) fn forgive(&mut self) {
        self.settled = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const MTU: u64 = 1000;

    /// How many payloads of `len` bytes go in `time` when as many are sent as may be, looking every millisecond.
    fn count(pacer: &mut Pacer, start: Instant, rate: Rate, len: u64, time: Duration) -> u64 {
        let (mut now, mut sent) = (start, 0);
        while now < start + time {
            while pacer.next(rate, MTU).is_none_or(|next| next <= now) {
                pacer.sent(now, rate, len);
                sent += 1;
            }
            now += MS;
        }
        sent
    }

    #[test]
    fn a_burst_goes_and_then_the_rate_holds() {
        let rate = Rate { bytes: 100_000, time: 100 * MS };
        let (mut pacer, start) = (Pacer::default(), Instant::now());
        assert_eq!(count(&mut pacer, start, rate, MTU, MS), 11, "ten and the one that is owed");
        let more = count(&mut pacer, start + MS, rate, MTU, 1000 * MS);
        assert!((998..=1001).contains(&more), "{more} in a second");
        assert_eq!(
            count(&mut pacer, start + 5000 * MS, rate, MTU, MS),
            11,
            "silence saves no more than a burst"
        );
    }

    #[test]
    fn a_payload_larger_than_a_burst_goes_and_is_paid_for() {
        let rate = Rate { bytes: 100_000, time: 100 * MS };
        let (mut pacer, start) = (Pacer::default(), Instant::now());
        let sent = count(&mut pacer, start, rate, 60_000, 1000 * MS);
        assert!((17..=18).contains(&sent), "{sent} of 60 kB at a megabyte a second");
    }

    #[test]
    fn short_round_trips_are_not_held_back() {
        let rate = Rate { bytes: 1_250_000, time: MS };
        let (mut pacer, start) = (Pacer::default(), Instant::now());
        let sent = count(&mut pacer, start, rate, 60_000, MS);
        assert!(sent * 60_000 > 2_000_000, "more than the window at once: {sent}");
        assert_eq!(rate.payload(MTU), 2_500_000);
        assert_eq!(Rate { bytes: 100_000, time: 100 * MS }.payload(MTU), 2_000);
    }
}
