//! How much of a file travels in one message.
//!
//! A message is lost when one of its fragments is, and is then repeated whole. On a clean road large messages cost
//! the least; where one datagram in a hundred is lost, every third message of 48 fragments is, and small ones
//! carry far more. Nobody configures that: the size begins small, doubles until something is lost, and from then on
//! follows the losses, down quickly and up slowly.

/// Bytes of a message at most: with the usual MTU its fragments are sent in one system call, and more would gain
/// nothing.
pub(crate) const MAX: usize = 62 * 1024;
/// A handful of fragments; smaller would pay more for each message than it saves.
const MIN: usize = 8 * 1024;
/// What one good round adds.
const STEP: usize = 4 * 1024;
/// Messages between two decisions.
const ROUND: u64 = 64;

/// The size of the next messages.
#[derive(Debug)]
pub(crate) struct Portion {
    largest: usize,
    size: usize,
    /// Nothing was lost yet.
    starting: bool,
    sent: u64,
    lost: u64,
}

impl Portion {
    /// For a channel whose messages have at most `largest` bytes.
    pub(crate) fn new(largest: usize) -> Self {
        let largest = largest.min(MAX);
        Self { largest, size: MIN.min(largest), starting: true, sent: 0, lost: 0 }
    }

    /// Bytes of the next message.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Takes in how many messages were sent and lost since the connection began.
    pub(crate) fn observe(&mut self, sent: u64, lost: u64) {
        let round = sent.saturating_sub(self.sent);
        if round < ROUND {
            return;
        }
        let lost_in_round = lost.saturating_sub(self.lost);
        (self.sent, self.lost) = (sent, lost);
        if lost_in_round * 10 > round {
            self.starting = false;
            self.size = (self.size / 2).max(MIN.min(self.largest));
        } else if lost_in_round * 50 < round {
            let more = if self.starting { self.size } else { STEP };
            self.size = (self.size + more).min(self.largest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds on a road that loses one fragment in `one_in`; what the size comes to.
    fn settled(one_in: f64) -> usize {
        let mut portion = Portion::new(1 << 20);
        let (mut sent, mut lost) = (0, 0.0);
        for _ in 0..200 {
            let fragments = portion.size().div_ceil(1384) as f64;
            sent += ROUND;
            lost += ROUND as f64 * (1.0 - (1.0 - 1.0 / one_in).powf(fragments));
            portion.observe(sent, lost as u64);
        }
        portion.size()
    }

    #[test]
    fn the_worse_the_road_the_smaller_the_messages() {
        assert_eq!(settled(1e9), MAX);
        assert_eq!(settled(1e4), MAX, "a rare loss is no reason");
        assert!((MIN..MAX / 2).contains(&settled(100.0)), "{}", settled(100.0));
        assert_eq!(settled(10.0), MIN);
    }

    #[test]
    fn a_road_that_has_become_good_is_used() {
        let mut portion = Portion::new(MAX);
        for round in 1..=10 {
            portion.observe(round * ROUND, round * ROUND / 2);
        }
        assert_eq!(portion.size(), MIN);
        portion.observe(11 * ROUND, 5 * ROUND);
        assert_eq!(portion.size(), MIN + STEP, "slowly");
        for round in 12..=30 {
            portion.observe(round * ROUND, 5 * ROUND);
        }
        assert_eq!(portion.size(), MAX);
    }

    #[test]
    fn a_few_messages_decide_nothing() {
        let mut portion = Portion::new(MAX);
        portion.observe(ROUND - 1, 0);
        assert_eq!(portion.size(), MIN);
        portion.observe(ROUND, 0);
        assert_eq!(portion.size(), 2 * MIN);
    }
}
