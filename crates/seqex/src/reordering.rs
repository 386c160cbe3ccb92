//! How much reordering is taken for loss.

use crate::nanos::Nanos;

/// What counts as evidence of loss: that a packet is late, and at first also by how many later ones it was overtaken
/// (RFC 9002, 6.1). On a link that reorders more than that, packets taken for lost arrive after all. When this shows twice on
/// end, only lateness counts any more (as in RFC 8985, 6.2), and more of it each time; after some losses that were true it
/// is less again. Once is not enough: it may also mean that the first answer was lost, and another packet fetched it. But
/// where answers get lost, so do packets.
#[derive(Debug)]
pub(crate) struct Reordering {
    /// How often it was widened.
    level: u32,
    /// How often losses turned out to be false since one was true.
    false_losses: u32,
    /// Transmissions before this time say nothing new.
    since: Nanos,
    true_losses: u32,
}

/// How many later packets must have been heard of for one to count as lost (RFC 9002, 6.1.1).
const PACKET_THRESHOLD: u64 = 3;

/// At the last level a packet may be three round trips old.
const MAX_LEVEL: u32 = 4;

/// How many times on end losses must turn out to be false for the level to rise.
const FALSE_LOSSES: u32 = 2;

/// How many true losses it takes to go back by one level (as in RFC 8985, 7.1).
const TRUE_LOSSES: u32 = 16;

impl Reordering {
    pub(crate) fn new() -> Self {
        Self { level: 0, false_losses: 0, since: Nanos::ZERO, true_losses: 0 }
    }

    /// By how many later packets one is overtaken when it counts as lost, however late it is.
    pub(crate) fn packets(&self) -> Option<u64> {
        (self.level == 0).then_some(PACKET_THRESHOLD)
    }

    /// How many eighths of a round trip late a packet is when it counts as lost.
    pub(crate) fn eighths(&self) -> u64 {
        1 << self.level
    }

    /// A packet that had been taken for lost was answered too soon after it was transmitted at `sent_at`: an earlier
    /// transmission had arrived. Counts once for all that is transmitted before `next`, the time by which it shows
    /// whether others were lost.
    pub(crate) fn on_false_loss(&mut self, sent_at: Nanos, next: Nanos) {
        if sent_at < self.since {
            return;
        }
        self.since = next;
        self.false_losses += 1;
        if self.false_losses == FALSE_LOSSES {
            self.level = (self.level + 1).min(MAX_LEVEL);
            (self.false_losses, self.true_losses) = (0, 0);
        }
    }

    /// A packet that had been taken for lost arrived by being transmitted again.
    pub(crate) fn on_true_loss(&mut self) {
        self.false_losses = 0;
        self.true_losses += 1;
        if self.true_losses == TRUE_LOSSES {
            self.level = self.level.saturating_sub(1);
            self.true_losses = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn false_losses_widen_and_true_ones_narrow() {
        let ms = |at| Nanos::MILLISECOND.times(at);
        let mut reordering = Reordering::new();
        assert_eq!((reordering.packets(), reordering.eighths()), (Some(3), 1));
        for at in 0..10 {
            reordering.on_false_loss(ms(at), ms(10)); // all at once
        }
        assert_eq!(reordering.packets(), Some(3), "once is not enough");
        reordering.on_true_loss();
        reordering.on_false_loss(ms(10), ms(11));
        assert_eq!(reordering.packets(), Some(3), "nor is twice with a true loss in between");
        reordering.on_false_loss(ms(11), ms(12));
        assert_eq!((reordering.packets(), reordering.eighths()), (None, 2));
        for at in 12..30 {
            reordering.on_false_loss(ms(at), ms(at + 1));
        }
        assert_eq!((reordering.packets(), reordering.eighths()), (None, 16));
        for _ in 0..15 {
            reordering.on_true_loss();
        }
        assert_eq!(reordering.eighths(), 16);
        reordering.on_true_loss();
        assert_eq!(reordering.eighths(), 8);
        for _ in 0..1000 {
            reordering.on_true_loss();
        }
        assert_eq!((reordering.packets(), reordering.eighths()), (Some(3), 1));
    }
}
