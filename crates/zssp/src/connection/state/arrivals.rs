//! Which parts have come, and when the peer is told.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Instant;

use crate::connection::acks::{AckTimer, Urgency};
use crate::connection::outgoing::Outgoing;
use crate::frame::{self, MAX_RANGES};

/// How far behind the newest part one is when the peer has been told of it often enough.
pub(super) const REACH: u64 = 256;

/// The numbers of the newest parts that have come. The peer is told of all of them each time, so that it does not matter
/// if that is lost now and then.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// The newest first, with gaps between them.
    ranges: VecDeque<RangeInclusive<u64>>,
    timer: AckTimer,
}

impl Arrivals {
    /// A part has come, and is not needed again. What is too old for the ranges there may be is forgotten.
    pub(super) fn add(&mut self, now: Instant, number: u64, urgency: Urgency) {
        let newest = self.ranges.front().map(|range| *range.end());
        let in_order = newest.is_none_or(|newest| number.checked_sub(1) == Some(newest));
        self.timer.add(now, if in_order { urgency } else { Urgency::Now });
        self.insert(number);
        self.ranges.truncate(MAX_RANGES);
        if let Some(newest) = self.ranges.front().map(|range| *range.end()) {
            while self.ranges.back().is_some_and(|range| *range.end() < newest.saturating_sub(REACH)) {
                self.ranges.pop_back();
            }
        }
    }

    fn insert(&mut self, number: u64) {
        // Those before this place are newer, and do not even adjoin it.
        let place = self.ranges.partition_point(|range| range.start().checked_sub(1) > Some(number));
        let (mut start, mut end) = (number, number);
        while let Some(range) = self.ranges.get(place)
            && range.end().saturating_add(1) >= start
        {
            (start, end) = (start.min(*range.start()), end.max(*range.end()));
            self.ranges.remove(place);
        }
        self.ranges.insert(place, start..=end);
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.timer.due()
    }

    /// What the peer is to be told, if it is time.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Outgoing> {
        self.due().filter(|&due| due <= now)?;
        self.timer.sent();
        Some(Outgoing::new(frame::arrivals(self.ranges.iter()).into()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::connection::acks::MAX_DELAY;

    proptest! {
        /// Whatever the order and the repeats: the newest runs of what has come, and nothing else.
        #[test]
        fn ranges_are_those_of_what_has_come(numbers in proptest::collection::vec(0u64..60, 1..100)) {
            let (mut arrivals, now, mut seen) = (Arrivals::default(), Instant::now(), BTreeSet::new());
            for number in numbers {
                arrivals.add(now, number, Urgency::Answered);
                seen.insert(number);
                let mut runs: Vec<RangeInclusive<u64>> = Vec::new();
                for &number in seen.iter().rev() {
                    match runs.last_mut() {
                        Some(run) if *run.start() == number + 1 => *run = number..=*run.end(),
                        _ => runs.push(number..=number),
                    }
                }
                // What was forgotten once may come back as less than it was.
                prop_assert!(arrivals.ranges.len() <= MAX_RANGES);
                if runs.len() <= MAX_RANGES {
                    prop_assert_eq!(arrivals.ranges.iter().collect::<Vec<_>>(), runs.iter().collect::<Vec<_>>());
                } else {
                    seen = arrivals.ranges.iter().flat_map(Clone::clone).collect();
                }
            }
        }
    }

    //= ZSSP-PRT-06  two at once, one that is out of order at once, a single one soon
    #[test]
    fn gaps_are_told_at_once() {
        let (mut arrivals, now) = (Arrivals::default(), Instant::now());
        arrivals.add(now, 0, Urgency::Answered);
        assert_eq!(arrivals.due(), Some(now + MAX_DELAY));
        assert!(arrivals.poll(now).is_none());
        assert!(arrivals.poll(now + MAX_DELAY).is_some());
        arrivals.add(now, 2, Urgency::Answered);
        assert_eq!(arrivals.due(), Some(now));
        assert!(arrivals.poll(now).is_some());
        arrivals.add(now, 3, Urgency::Answered);
        assert_eq!(arrivals.due(), Some(now + MAX_DELAY));
        arrivals.add(now, 4, Urgency::Answered);
        assert_eq!(arrivals.due(), Some(now));
    }

    #[test]
    fn what_is_far_behind_is_forgotten_and_the_ends_of_the_numbers_are_numbers() {
        let (mut arrivals, now) = (Arrivals::default(), Instant::now());
        for number in [0, 1, REACH + 1, REACH + 2, u64::MAX, u64::MAX - 1, 0] {
            arrivals.add(now, number, Urgency::Answered);
            assert!(arrivals.ranges.len() <= 2, "{:?}", arrivals.ranges);
        }
        assert_eq!(arrivals.ranges, [u64::MAX - 1..=u64::MAX]);
    }
}
