//! What endpoints and connections hold of memory: bytes that are allocated, by whichever thread.
//!
//! What AWS-LC allocates in C is not seen.
//!
//! A binary of its own: the allocator that counts would be that of every other test.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

#[allow(dead_code, reason = "of what tests share, these need a part")]
#[path = "../it/common/mod.rs"]
mod common;
mod documented;
mod idle;
mod rounds;

use std::sync::{Mutex, MutexGuard, PoisonError};

use peak_alloc::PeakAlloc;
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// Bytes that are allocated.
fn held() -> usize {
    HEAP.current_usage()
}

/// Each test counts what all of the process allocates, so one runs at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One thread, and a clock that does not wait.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}
