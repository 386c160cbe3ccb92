//! What the faces take from `std`, or from loom under `--cfg loom`.
//!
//! Loom's primitives work inside `loom::model` only, so a `--cfg loom` build runs nothing but the models.

use std::sync::{Arc, PoisonError};
use std::task::{Wake, Waker};
use std::time::Duration;

#[cfg(loom)]
use loom::sync;
#[cfg(loom)]
pub(crate) use loom::sync::MutexGuard;
#[cfg(not(loom))]
use std::sync;
#[cfg(not(loom))]
pub(crate) use std::sync::MutexGuard;

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

/// How a thread waits for its waker.
#[derive(Debug)]
pub(crate) struct Parker(Arc<Signal>);

#[cfg(not(loom))]
#[derive(Debug)]
struct Signal(std::thread::Thread);

#[cfg(not(loom))]
impl Parker {
    /// For the calling thread.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Signal(std::thread::current())))
    }

    /// Waits until the waker was called, or for no reason at all, or at most this long. To be called by the thread
    /// that the parker is for.
    pub(crate) fn park(&self, at_most: Option<Duration>) {
        match at_most {
            None => std::thread::park(),
            Some(time) => std::thread::park_timeout(time),
        }
    }
}

#[cfg(not(loom))]
impl Signal {
    fn notify(&self) {
        self.0.unpark();
    }
}

/// Loom forgets that a thread was unparked when it then blocks on a mutex, which `std` does not.
#[cfg(loom)]
#[derive(Debug)]
struct Signal {
    notified: sync::Mutex<bool>,
    condition: sync::Condvar,
}

#[cfg(loom)]
impl Parker {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Signal { notified: sync::Mutex::new(false), condition: sync::Condvar::new() }))
    }

    /// Loom knows no time: a wait with an end is one that may end at once.
    pub(crate) fn park(&self, at_most: Option<Duration>) {
        if at_most.is_some() {
            return loom::thread::yield_now();
        }
        let mut notified = self.0.notified.lock().unwrap_or_else(PoisonError::into_inner);
        while !std::mem::take(&mut *notified) {
            notified = self.0.condition.wait(notified).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(loom)]
impl Signal {
    fn notify(&self) {
        *self.notified.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.condition.notify_one();
    }
}

impl Parker {
    pub(crate) fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.0))
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.notify();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.notify();
    }
}
