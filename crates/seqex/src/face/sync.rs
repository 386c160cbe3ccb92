//! What the faces take from `std`, or from loom under `--cfg loom`.
//!
//! Loom's primitives work inside `loom::model` only, so a `--cfg loom` build runs nothing but the models.

use std::sync::{Arc, PoisonError};
use std::task::{Wake, Waker};
use std::time::Duration;

#[cfg(loom)]
pub(crate) use loom::sync::MutexGuard;
#[cfg(loom)]
use loom::{sync, thread};
#[cfg(not(loom))]
pub(crate) use std::sync::MutexGuard;
#[cfg(not(loom))]
use std::{sync, thread};

/// A mutex without poisoning. Under the locks of this crate only its own code runs, which changes a state in
/// steps that do not panic; so a panic elsewhere says nothing about what is guarded.
#[derive(Debug)]
pub(crate) struct Mutex<T>(sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes one thread.
struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// A waker of the calling thread, for [`park`] to be ended with.
pub(crate) fn thread_waker() -> Waker {
    Waker::from(Arc::new(Unpark(thread::current())))
}

/// Waits until the thread's waker was called, or for no reason at all, or at most this long.
#[cfg(not(loom))]
pub(crate) fn park(at_most: Option<Duration>) {
    match at_most {
        None => thread::park(),
        Some(time) => thread::park_timeout(time),
    }
}

/// Loom knows no time: a wait with an end is one that may end at once.
#[cfg(loom)]
pub(crate) fn park(at_most: Option<Duration>) {
    match at_most {
        None => thread::park(),
        Some(_) => thread::yield_now(),
    }
}
