//! How a thread waits: it polls the very futures of the async face, and parks in between.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::face::sync;

/// Waits for `future`.
pub(crate) fn block_on<F: Future + Unpin>(future: &mut F) -> F::Output {
    loop {
        if let Some(output) = block_on_until(future, None) {
            return output;
        }
    }
}

/// Waits for `future`, at most until `end`.
pub(crate) fn block_on_until<F: Future + Unpin>(future: &mut F, end: Option<Instant>) -> Option<F::Output> {
    with_waker(|context| {
        loop {
            if let Poll::Ready(output) = Pin::new(&mut *future).poll(context) {
                return Some(output);
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return None;
            }
            sync::park(left);
        }
    })
}

/// The end of a wait of this length; `None`, for ever, if the clock does not reach that far.
pub(crate) fn end_of(wait: Duration) -> Option<Instant> {
    Instant::now().checked_add(wait)
}

/// Each thread makes its waker once.
#[cfg(not(loom))]
fn with_waker<T>(act: impl FnOnce(&mut Context<'_>) -> T) -> T {
    std::thread_local! {
        static WAKER: std::task::Waker = sync::thread_waker();
    }
    // A thread that is ending has no more locals.
    let waker = WAKER.try_with(Clone::clone).unwrap_or_else(|_| sync::thread_waker());
    act(&mut Context::from_waker(&waker))
}

#[cfg(loom)]
fn with_waker<T>(act: impl FnOnce(&mut Context<'_>) -> T) -> T {
    act(&mut Context::from_waker(&sync::thread_waker()))
}
