//! How large a chunk of a stream should be: one lost fragment costs the whole payload.

/// How much of what was known counts beside a new payload: about the last fifty decide.
const MEMORY: f64 = 0.98;

/// The share of payloads that may be lost for their size.
const WASTE: f64 = 0.125;

/// Losses that count as some: one payload of the last hundred.
const NOTICEABLE: f64 = 0.13;

/// How often fragments are lost.
#[derive(Debug, Default)]
pub(super) struct Loss {
    fragments: f64,
    losses: f64,
}

impl Loss {
    /// A payload of so many fragments has arrived.
    pub(super) fn arrived(&mut self, fragments: u64) {
        self.add(fragments, 0.0);
    }

    /// A payload of so many fragments was lost, one of them at least.
    pub(super) fn lost(&mut self, fragments: u64) {
        self.add(fragments, 1.0);
    }

    fn add(&mut self, fragments: u64, losses: f64) {
        self.fragments = self.fragments * MEMORY + fragments as f64;
        self.losses = self.losses * MEMORY + losses;
    }

    /// Whether some payload was lost of late.
    pub(super) fn is_noticeable(&self) -> bool {
        self.losses > NOTICEABLE
    }

    /// The fragments that a payload should have, at most `max`.
    pub(super) fn best_fragments(&self, max: u64) -> u64 {
        if self.losses == 0.0 {
            return max;
        }
        ((WASTE * self.fragments / self.losses) as u64).clamp(1, max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_is_lost_the_smaller_and_back_again() {
        let mut loss = Loss::default();
        assert_eq!(loss.best_fragments(48), 48);
        for _ in 0..100 {
            loss.arrived(48);
        }
        assert!(!loss.is_noticeable());
        loss.lost(48);
        assert_eq!(loss.best_fragments(48), 48, "one is chance");
        for _ in 0..100 {
            assert!(loss.is_noticeable());
            loss.arrived(48);
        }
        for _ in 0..2 {
            loss.arrived(48);
        }
        assert!(!loss.is_noticeable(), "it is long ago");
        // A fifth of all fragments: hardly a payload of two gets through.
        for round in 0..300 {
            if round % 5 == 0 { loss.lost(1) } else { loss.arrived(1) }
        }
        assert_eq!(loss.best_fragments(48), 1);
        for _ in 0..400 {
            loss.arrived(loss.best_fragments(48));
        }
        assert_eq!(loss.best_fragments(48), 48);
    }
}
