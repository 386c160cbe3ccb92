//! What the sources take from `zssp::sync`, with loom's primitives below.

use std::collections::VecDeque;

use loom::sync::Mutex;
pub(crate) use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// For `crossbeam_queue::SegQueue`, which loom cannot look into. The mutex orders more than that promises, each access after
/// all before it, where `SegQueue` has only what is taken out happen after it was put in: code that relies on more passes
/// here.
#[derive(Debug)]
pub(crate) struct SegQueue<T>(Mutex<VecDeque<T>>);

impl<T> SegQueue<T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(VecDeque::new()))
    }

    pub(crate) fn push(&self, value: T) {
        self.0.lock().unwrap().push_back(value);
    }

    pub(crate) fn pop(&self) -> Option<T> {
        self.0.lock().unwrap().pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }
}
