use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Something else that happens in the middle of what runs, at a moment that the test has chosen.
#[derive(Default)]
pub(super) struct Meanwhile(Mutex<Option<(u32, Action)>>);

type Action = Box<dyn FnOnce() + Send>;

impl Meanwhile {
    /// Has it happen at the moment that comes after `moments` others.
    pub(super) fn set(&self, moments: u32, action: impl FnOnce() + Send + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((moments, Box::new(action)));
    }

    /// A moment has come.
    pub(super) fn pass(&self) {
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match next.take() {
            Some((0, action)) => {
                drop(next);
                action();
            }
            Some((moments, action)) => *next = Some((moments - 1, action)),
            None => {}
        }
    }
}

impl fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meanwhile")
    }
}
