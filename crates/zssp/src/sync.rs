//! The mutex that knows its place in the lock order, and what those parts share without one whose races are model-checked:
//! they take it from here, and in `testing/races` from a module of the same name.
//!
//! The crate's locks, in the only order in which one thread may hold several:
//!
//! | rank | what it guards |
//! |---|---|
//! | [`rank::ENDPOINT`] | attempts under way, how many connections there are, whose handshakes wait |
//! | [`rank::CONNECTION`] | everything of one connection |
//! | [`rank::LINK`] | what is under way in a network in memory, its timers |
//! | [`rank::WAKERS`] | who waits for a link |
//!
//! Nothing foreign (socket, store, waker, a user's `Drop`) runs while one is held, but a
//! [`Controller`](crate::congestion::Controller), which computes and does nothing else.

use std::ops::{Deref, DerefMut};
pub(crate) use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) use crossbeam_queue::SegQueue;

/// The places in the lock order.
pub(crate) mod rank {
    /// The endpoint's own bookkeeping.
    pub(crate) const ENDPOINT: u8 = 1;
    /// One connection's state.
    pub(crate) const CONNECTION: u8 = 2;
    /// A network in memory.
    pub(crate) const LINK: u8 = 3;
    /// Who waits for a link.
    pub(crate) const WAKERS: u8 = 4;
}

/// A mutex of a fixed rank. With debug assertions, taking one while the same thread holds one of equal or
/// higher rank panics: a lock order that was only written down would not be an order.
#[derive(Debug, Default)]
pub(crate) struct RankedMutex<const RANK: u8, T>(Mutex<T>);

impl<const RANK: u8, T> RankedMutex<RANK, T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// A poisoned lock is taken all the same: whoever panicked under it left a state that was valid before
    /// each step, and one broken connection must not take others down.
    pub(crate) fn lock(&self) -> RankedGuard<'_, RANK, T> {
        let held = order::Held::enter(RANK);
        RankedGuard { guard: self.0.lock().unwrap_or_else(PoisonError::into_inner), _held: held }
    }
}

/// Holds a [`RankedMutex`].
pub(crate) struct RankedGuard<'a, const RANK: u8, T> {
    guard: MutexGuard<'a, T>,
    _held: order::Held,
}

impl<const RANK: u8, T> Deref for RankedGuard<'_, RANK, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<const RANK: u8, T> DerefMut for RankedGuard<'_, RANK, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

#[cfg(debug_assertions)]
mod order {
    use std::cell::Cell;

    thread_local! {
        /// One bit per rank this thread holds.
        static HELD: Cell<u32> = const { Cell::new(0) };
    }

    pub(super) struct Held(u8);

    impl Held {
        pub(super) fn enter(rank: u8) -> Self {
            HELD.with(|held| {
                assert!(held.get() >> rank == 0, "lock of rank {rank} taken out of order");
                held.set(held.get() | 1 << rank);
            });
            Self(rank)
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            HELD.with(|held| held.set(held.get() & !(1 << self.0)));
        }
    }
}

#[cfg(not(debug_assertions))]
mod order {
    pub(super) struct Held;

    impl Held {
        pub(super) fn enter(_rank: u8) -> Self {
            Self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_taken_in_order() {
        let low = RankedMutex::<1, _>::new(1);
        let high = RankedMutex::<2, _>::new(2);
        {
            let a = low.lock();
            let b = high.lock();
            assert_eq!(*a + *b, 3);
        }
        assert_eq!(*low.lock(), 1, "released locks may be taken again");
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "out of order")]
    fn the_wrong_order_panics() {
        let low = RankedMutex::<1, _>::new(());
        let high = RankedMutex::<2, _>::new(());
        let _high = high.lock();
        let _low = low.lock();
    }
}
