//! Atomics, mutexes, swapped pointers and maps: the real ones, or loom's under `--cfg loom`, and a mutex that knows its rank.
//!
//! Code whose races are model-checked takes its atomics from here. Loom's work inside `loom::model` only, so a
//! `--cfg loom` build runs nothing but the models; their command is in the documentation of each model.

#[cfg(loom)]
mod map;
#[cfg(loom)]
mod published;

use core::fmt;
use core::ops::{Deref, DerefMut};
use std::sync::PoisonError;
#[cfg(not(loom))]
use std::sync::{Mutex, MutexGuard};

#[cfg(loom)]
use loom::sync::{Mutex, MutexGuard};

#[cfg(not(loom))]
pub(crate) use arc_swap::ArcSwapOption;
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
#[cfg(loom)]
pub(crate) use map::{Guard, HashMap};
#[cfg(not(loom))]
pub(crate) use papaya::{Guard, HashMap};
#[cfg(loom)]
pub(crate) use published::ArcSwapOption;
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// The lock order of this crate, from the lock that may be held longest to the innermost (see `ARCHITECTURE.md`).
pub(crate) mod rank {
    /// One responder handshake's state.
    pub(crate) const PENDING: u8 = 10;
    /// One session's state.
    pub(crate) const PHASE: u8 = 20;
    /// What one session has tried to store.
    pub(crate) const DOUBT: u8 = 21;
    /// The table of responder handshakes.
    pub(crate) const PENDING_TABLE: u8 = 30;
    /// Who has which session with whom.
    pub(crate) const PEERS: u8 = 31;
    /// The table of sessions.
    pub(crate) const SESSIONS: u8 = 32;
    /// The deadlines of a context.
    pub(crate) const TIMERS: u8 = 40;
    /// How fast hellos come.
    pub(crate) const LOAD: u8 = 47;
    /// The salts of challenges.
    pub(crate) const SALTS: u8 = 48;
    /// Incomplete hellos.
    pub(crate) const HELLOS: u8 = 49;
    /// One session's incomplete packets.
    pub(crate) const REASSEMBLY: u8 = 50;
    /// One session's remote address.
    pub(crate) const ADDRESS: u8 = 51;
    /// The in-memory ratchet store, which is called with nothing else locked.
    pub(crate) const STORE: u8 = 60;
}

/// A mutex with a place in the lock order: a thread may take it only while every lock it holds has a lower rank.
///
/// Following the order makes a deadlock between ranked locks impossible. Builds with debug assertions panic at the
/// first lock taken out of order, whether or not another thread is there to deadlock with, so a single-threaded
/// test finds the mistake. Other builds hold a plain mutex. Ranks are below 64.
///
/// # Poisoning
/// [`lock`](Self::lock) succeeds although an earlier holder panicked. With poisoning, one panic under a lock that
/// all sessions share would end all sessions: whoever finds a packet that makes us panic once would silence
/// everyone. Recovery is right here because of what is guarded and how it is changed: a change is computed first and
/// assigned last, so a panic in between leaves the old value, and the worst that a half-written timer or table
/// entry costs is a resend or a timeout. Recovery would be **wrong** for a value whose half-written form could
/// reuse a nonce or accept a replay; those are single atomics and never sit in a mutex.
pub(crate) struct RankedMutex<const RANK: u8, T> {
    mutex: Mutex<T>,
}

impl<const RANK: u8, T> RankedMutex<RANK, T> {
    const IN_RANGE: () = assert!(RANK < 64, "ranks are below 64");

    /// An unlocked mutex around `value`.
    pub(crate) fn new(value: T) -> Self {
        const { Self::IN_RANGE };
        Self { mutex: Mutex::new(value) }
    }

    /// Waits until the lock is free and takes it.
    ///
    /// # Panics
    /// With debug assertions, when this thread holds a lock of the same or a higher rank.
    pub(crate) fn lock(&self) -> RankedGuard<'_, RANK, T> {
        // Before waiting: out of order, the wait itself may be the deadlock.
        let held = HeldRank::take(RANK);
        RankedGuard { guard: self.mutex.lock().unwrap_or_else(PoisonError::into_inner), _held: held }
    }
}

impl<const RANK: u8, T> fmt::Debug for RankedMutex<RANK, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The value is not shown: it may hold secrets, and showing it would take the lock out of order.
        f.debug_struct("RankedMutex").field("rank", &RANK).finish_non_exhaustive()
    }
}

/// Access to the value of a [`RankedMutex`] until dropped; guards may be dropped in any order.
#[must_use = "the lock is released at once"]
pub(crate) struct RankedGuard<'a, const RANK: u8, T> {
    // Declared first, so released first: the rank counts as held for as long as the lock is.
    guard: MutexGuard<'a, T>,
    _held: HeldRank,
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

/// The entry of one guard in its thread's set of held ranks; given back on drop.
///
/// Not kept under loom: its threads share one thread of the system, and with it this set.
#[cfg(all(debug_assertions, not(loom)))]
struct HeldRank(u8);

#[cfg(all(debug_assertions, not(loom)))]
impl HeldRank {
    fn take(rank: u8) -> Self {
        HELD.with(|held| {
            //= ZSSP-DEF-05  one order for all locks
            // Any bit from `rank` upwards is a lock of the same or a higher rank.
            let (mask, conflict) = (held.get(), held.get() >> rank);
            assert!(
                conflict == 0,
                "lock of rank {rank} taken while holding rank {}",
                63 - mask.leading_zeros()
            );
            held.set(mask | 1 << rank);
        });
        Self(rank)
    }
}

#[cfg(all(debug_assertions, not(loom)))]
impl Drop for HeldRank {
    fn drop(&mut self) {
        // A guard cannot leave its thread, and a rank is held at most once, so the bit is this guard's own.
        HELD.with(|held| held.set(held.get() & !(1 << self.0)));
    }
}

#[cfg(all(debug_assertions, not(loom)))]
std::thread_local! {
    /// The ranks this thread holds, as bits.
    static HELD: core::cell::Cell<u64> = const { core::cell::Cell::new(0) };
}

#[cfg(not(all(debug_assertions, not(loom))))]
struct HeldRank;

#[cfg(not(all(debug_assertions, not(loom))))]
impl HeldRank {
    fn take(_rank: u8) -> Self {
        Self
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn ascending_ranks_may_be_nested_and_dropped_in_any_order() {
        let (low, high) = (RankedMutex::<1, _>::new(1), RankedMutex::<63, _>::new(2));
        let first = low.lock();
        let second = high.lock();
        assert_eq!(*first + *second, 3);
        drop(first);
        drop(second);
        *low.lock() = 5;
        drop(high.lock());
        assert_eq!(*low.lock(), 5);
    }

    //= ZSSP-DEF-05  the other order panics
    #[test]
    #[cfg(debug_assertions)]
    fn a_lock_out_of_order_panics_and_leaves_the_thread_usable() {
        let (low, high) = (RankedMutex::<1, _>::new(()), RankedMutex::<2, _>::new(()));
        let guard = high.lock();
        let lower = catch_unwind(AssertUnwindSafe(|| drop(low.lock())));
        let same = catch_unwind(AssertUnwindSafe(|| drop(RankedMutex::<2, _>::new(()).lock())));
        assert!(lower.is_err() && same.is_err());
        drop(guard);
        drop(low.lock());
    }

    #[test]
    fn a_panicking_holder_does_not_lock_others_out() {
        let mutex = RankedMutex::<7, _>::new(1);
        let result = catch_unwind(AssertUnwindSafe(|| {
            let mut guard = mutex.lock();
            *guard = 2;
            panic!("on purpose");
        }));
        assert!(result.is_err());
        assert_eq!(*mutex.lock(), 2);
    }

    #[test]
    fn other_threads_have_their_own_order() {
        let (low, high) = (RankedMutex::<1, _>::new(0), RankedMutex::<2, _>::new(0));
        let _held = high.lock();
        std::thread::scope(|scope| scope.spawn(|| *low.lock() += 1).join())
            .expect("rank 2 is held elsewhere");
    }
}
