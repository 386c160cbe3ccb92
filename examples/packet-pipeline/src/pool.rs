//! Buffers that are used again.

use std::sync::{Arc, Mutex, PoisonError};

/// Buffers for whoever needs one next. It keeps a bounded number; the rest is freed.
pub(crate) struct Pool<T>(Mutex<Vec<T>>);

/// A buffer that its exchange and the thread that seals it share.
pub(crate) type Shared = Arc<Vec<u8>>;

impl<T: Default> Pool<T> {
    /// More than the windows of both channels hold.
    const KEPT: usize = 8192;

    pub(crate) fn new() -> Self {
        Self(Mutex::default())
    }

    pub(crate) fn take(&self) -> T {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    pub(crate) fn put(&self, buffer: T) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < Self::KEPT {
            kept.push(buffer);
        }
    }
}
