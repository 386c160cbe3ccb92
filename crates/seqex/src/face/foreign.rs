//! Running code of others, which may panic.

use std::any::Any;
use std::boxed::Box;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Runs wakers and destructors of users one after the other, all of them although one panics: behind each there is
/// somebody who waits. The first panic goes on when all have run.
#[derive(Debug, Default)]
#[must_use = "a panic goes on with `finish`"]
pub(crate) struct Foreign {
    panic: Option<Box<dyn Any + Send>>,
}

impl Foreign {
    pub(crate) fn run(&mut self, code: impl FnOnce()) {
        // What the code leaves behind when it panics is its owner's: nothing of ours is locked or half changed here.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(code)) {
            self.panic.get_or_insert(panic);
        }
    }

    /// Goes on with the panic, if there was one; not within another one, where it would end the process.
    pub(crate) fn finish(self) {
        if let Some(panic) = self.panic
            && !std::thread::panicking()
        {
            resume_unwind(panic);
        }
    }
}
