//! A stand-in for `arc_swap::ArcSwapOption` in models: the same interface and the same ordering, made of an index that
//! loom knows of. That the crate itself is right is not what is modelled; what we build on its ordering is.

use core::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use loom::sync::atomic::{AtomicUsize, Ordering};

/// A pointer that is read by many and replaced by few.
pub(crate) struct ArcSwapOption<T> {
    current: AtomicUsize,
    /// Every value there has been. Nothing yields while this lock is held, so loom need not know of it.
    values: Mutex<Vec<Option<Arc<T>>>>,
}

/// What was loaded.
pub(crate) struct Loaded<T>(Option<Arc<T>>);

impl<T> Deref for Loaded<T> {
    type Target = Option<Arc<T>>;
    fn deref(&self) -> &Option<Arc<T>> {
        &self.0
    }
}

impl<T> ArcSwapOption<T> {
    pub(crate) fn from_pointee(value: T) -> Self {
        Self { current: AtomicUsize::new(0), values: Mutex::new(vec![Some(Arc::new(value))]) }
    }

    pub(crate) fn load(&self) -> Loaded<T> {
        Loaded(self.load_full())
    }

    pub(crate) fn load_full(&self) -> Option<Arc<T>> {
        self.at(self.current.load(Ordering::Acquire))
    }

    pub(crate) fn store(&self, value: Option<Arc<T>>) {
        self.swap(value);
    }

    pub(crate) fn compare_and_swap(&self, current: &Option<Arc<T>>, new: Option<Arc<T>>) -> Loaded<T> {
        let before = self.current.load(Ordering::Acquire);
        let found = self.at(before);
        if found.as_ref().map(Arc::as_ptr) != current.as_ref().map(Arc::as_ptr) {
            return Loaded(found);
        }
        let index = self.add(new);
        match self.current.compare_exchange(before, index, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Loaded(found),
            Err(other) => Loaded(self.at(other)),
        }
    }

    pub(crate) fn swap(&self, value: Option<Arc<T>>) -> Option<Arc<T>> {
        let index = self.add(value);
        self.at(self.current.swap(index, Ordering::AcqRel))
    }

    fn add(&self, value: Option<Arc<T>>) -> usize {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        values.push(value);
        values.len() - 1
    }

    fn at(&self, index: usize) -> Option<Arc<T>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)[index].clone()
    }
}
