use std::sync::Arc;

use crate::sync::{AtomicUsize, Ordering};

/// How many bytes all sessions together may hold for packets that are not complete (PROTOCOL 3.5).
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    held: AtomicUsize,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, held: AtomicUsize::new(0) }
    }

    /// Takes `bytes` out of the budget until the reservation is dropped; `None` when there is not so much left.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: usize) -> Option<Reservation> {
        // Only the number itself is shared, no memory is published by it: relaxed is enough.
        self.held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                held.checked_add(bytes).filter(|sum| *sum <= self.limit)
            })
            .is_ok()
            .then(|| Reservation { budget: Arc::clone(self), bytes })
    }

    /// Bytes reserved now.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Bytes that nobody has reserved now; in a moment it may be less.
    pub(crate) fn left(&self) -> usize {
        self.limit.saturating_sub(self.held())
    }
}

/// A part of a [`Budget`], given back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Reservation {
    /// Bytes reserved by it.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_never_overdrawn_and_comes_back() {
        let budget = Arc::new(Budget::new(100));
        let first = budget.reserve(60).unwrap();
        assert!(budget.reserve(41).is_none());
        assert!(budget.reserve(usize::MAX).is_none());
        let second = budget.reserve(40).unwrap();
        assert_eq!(budget.left(), 0);
        assert_eq!((budget.held(), first.bytes(), second.bytes()), (100, 60, 40));
        drop(first);
        assert_eq!(budget.held(), 40);
        drop(second);
        assert_eq!(budget.held(), 0);
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use loom::thread;

    use super::*;

    #[test]
    fn loom_a_budget_is_never_overdrawn() {
        loom::model(|| {
            let budget = Arc::new(Budget::new(100));
            let other = {
                let budget = budget.clone();
                thread::spawn(move || budget.reserve(60))
            };
            let here = budget.reserve(60);
            assert!(budget.held() <= 100);
            let there = other.join().expect("the thread does not panic");
            assert!(here.is_some() != there.is_some());
            drop((here, there));
            assert_eq!(budget.held(), 0);
        });
    }
}
