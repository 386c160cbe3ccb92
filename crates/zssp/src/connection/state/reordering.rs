//! How much the road reorders: which parts were given up, and that some of them come after all.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use super::arrivals::REACH;
use super::transfers::Sent;
use crate::connection::rtt::Rtt;

/// How many later parts must have arrived for one to count as lost (RFC 9002, 6.1.1).
const OVERTAKEN: u64 = 3;

/// At the last level a part may be a whole round trip late (as in RFC 8985, 6.2).
const MAX_LEVEL: u32 = 3;

/// How many rounds of losses, none of them false, it takes to go back by one level (as in RFC 8985, 7.1).
const PATIENCE: u32 = 16;

/// Parts given up that are remembered, at most; and the peer does not tell of more.
const GIVEN_UP: usize = REACH as usize;

/// What counts as evidence of loss: at first, that three others have overtaken a part, or that it is an eighth of a round
/// trip late. Once a part comes that was taken for lost, only lateness counts, and twice as much of it each time.
#[derive(Debug, Default)]
pub(super) struct Reordering {
    /// How often it was widened.
    level: u32,
    /// The first part that was sent after that: those before say nothing new.
    widened: u64,
    /// The first part that was sent after the last round of losses began.
    round: u64,
    /// Rounds since a loss was false.
    rounds: u32,
    /// In the order of their numbers.
    given_up: VecDeque<(u64, GivenUp)>,
}

/// A part that was given up.
#[derive(Debug)]
pub(super) struct GivenUp {
    pub(super) sent: Sent,
    pub(super) why: Why,
}

/// Why a part was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Others have overtaken it.
    Evidence,
    /// Nothing was heard.
    TimeOut,
}

impl Reordering {
    /// When a part sent at `sent` counts as lost that so many others are known to have overtaken.
    pub(super) fn lost_from(&self, rtt: &Rtt, sent: Instant, overtaken_by: u64) -> Instant {
        let by_number = self.level == 0 && overtaken_by >= OVERTAKEN;
        sent + if by_number { Duration::ZERO } else { rtt.reordering_delay(1 << self.level) }
    }

    /// The part of a number is given up. `newest` is known to have arrived, and `next` will be the number of the next to be sent.
    pub(super) fn give_up(&mut self, (number, part): (u64, GivenUp), newest: Option<u64>, next: u64) {
        if part.why == Why::Evidence && number >= self.round {
            self.round = next;
            self.rounds += 1;
            if self.rounds > PATIENCE {
                self.level = self.level.saturating_sub(1);
                self.rounds = 1;
            }
        }
        let told_from = newest.map_or(0, |newest| newest.saturating_sub(REACH));
        while self.given_up.len() >= GIVEN_UP
            || self.given_up.front().is_some_and(|&(oldest, _)| oldest < told_from)
        {
            self.given_up.pop_front();
        }
        self.given_up.push_back((number, part));
    }

    /// Takes out the oldest part with one of these numbers: it was only late. `next` will be the number of the next to be
    /// sent.
    pub(super) fn arrived(&mut self, numbers: &RangeInclusive<u64>, next: u64) -> Option<(u64, GivenUp)> {
        let place = self.given_up.partition_point(|(number, _)| number < numbers.start());
        if !numbers.contains(&self.given_up.get(place)?.0) {
            return None;
        }
        let (number, part) = self.given_up.remove(place)?;
        if part.why == Why::Evidence {
            self.rounds = 0;
            if number >= self.widened {
                self.widened = next;
                self.level = (self.level + 1).min(MAX_LEVEL);
            }
        }
        Some((number, part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::LaneId;

    const MS: Duration = Duration::from_millis(1);

    fn part(sent: Instant, why: Why) -> GivenUp {
        let key = (LaneId::Channel(0), 0.into());
        GivenUp { sent: Sent { key, at: sent, len: 100, range: 0..100 }, why }
    }

    /// How much of a round trip of 80 ms a part is late when it counts as lost, and whether three others suffice.
    fn threshold(reordering: &Reordering) -> (u32, bool) {
        let (mut rtt, sent) = (Rtt::default(), Instant::now());
        rtt.sample(80 * MS);
        let late = reordering.lost_from(&rtt, sent, 1) - sent - 80 * MS;
        ((late.as_millis() / 10) as u32, reordering.lost_from(&rtt, sent, OVERTAKEN) == sent)
    }

    #[test]
    fn what_comes_late_widens_and_rounds_of_true_losses_narrow() {
        let (mut reordering, now) = (Reordering::default(), Instant::now());
        assert_eq!(threshold(&reordering), (1, true));
        let mut next = 0;
        for expected in [2, 4, 8, 8] {
            // Those of one round say the same.
            for number in next..next + 10 {
                reordering.give_up((number, part(now, Why::Evidence)), None, next + 10);
            }
            for number in next..next + 10 {
                assert!(reordering.arrived(&(number..=number), next + 10).is_some());
            }
            next += 10;
            assert_eq!(threshold(&reordering), (expected, false));
        }
        let mut lose = || {
            for number in next..next + 10 {
                reordering.give_up((number, part(now, Why::Evidence)), None, next + 10);
            }
            next += 10;
            threshold(&reordering)
        };
        let mut before = lose();
        for expected in [(4, false), (2, false), (1, true)] {
            for _ in 1..PATIENCE {
                assert_eq!(lose(), before);
            }
            before = lose();
            assert_eq!(before, expected);
        }
        (0..2 * PATIENCE).for_each(|_| assert_eq!(lose(), (1, true)));
    }

    #[test]
    fn a_time_out_that_was_too_short_says_nothing_of_order() {
        let (mut reordering, now) = (Reordering::default(), Instant::now());
        reordering.give_up((0, part(now, Why::TimeOut)), None, 1);
        assert!(reordering.arrived(&(0..=0), 1).is_some());
        assert_eq!(threshold(&reordering), (1, true));
    }

    #[test]
    fn what_the_peer_does_not_tell_of_any_more_is_forgotten() {
        let (mut reordering, now) = (Reordering::default(), Instant::now());
        for number in 0..3 * REACH {
            reordering.give_up((number, part(now, Why::TimeOut)), None, number + 1);
            assert!(reordering.given_up.len() <= GIVEN_UP);
        }
        let newest = 3 * REACH + 10;
        reordering.give_up((newest - 1, part(now, Why::Evidence)), Some(newest), newest + 1);
        assert_eq!(reordering.given_up.front().unwrap().0, newest - REACH);
        assert!(reordering.arrived(&(0..=newest - REACH - 1), newest).is_none());
        let all = std::iter::from_fn(|| reordering.arrived(&(0..=u64::MAX), newest)).count();
        assert_eq!((all, reordering.given_up.len()), (REACH as usize - 9, 0));
    }
}
