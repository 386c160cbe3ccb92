//! How a thread waits: it polls the very futures of the async face, and parks in between.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::face::sync::Parker;

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
    with_parker(|parker| {
        let waker = parker.waker();
        loop {
            if let Poll::Ready(output) = Pin::new(&mut *future).poll(&mut Context::from_waker(&waker)) {
                return Some(output);
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return None;
            }
            parker.park(left);
        }
    })
}

/// The end of a wait of this length; `None`, for ever, if the clock does not reach that far.
pub(crate) fn end_of(wait: Duration) -> Option<Instant> {
    Instant::now().checked_add(wait)
}

/// Each thread makes its parker once.
#[cfg(not(loom))]
fn with_parker<T>(act: impl FnOnce(&Parker) -> T) -> T {
    std::thread_local! {
        static PARKER: std::rc::Rc<Parker> = std::rc::Rc::new(Parker::new());
    }
    // A thread that is ending has no more locals.
    let parker = PARKER.try_with(std::rc::Rc::clone).unwrap_or_else(|_| Parker::new().into());
    act(&parker)
}

#[cfg(loom)]
fn with_parker<T>(act: impl FnOnce(&Parker) -> T) -> T {
    act(&Parker::new())
}
