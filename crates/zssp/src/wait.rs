//! Waiting for something to become true, without missing the moment.

use std::pin::pin;
use std::task::Poll;

use tokio::sync::Notify;

/// Waits until `check` finds something. Whoever changes what it looks at notifies `notify` afterwards.
///
/// Cancel safe: between two looks it only waits, and a notification it got and did not use goes to the next waiter.
pub(crate) async fn until<T>(notify: &Notify, mut check: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(found) = check() {
            return found;
        }
        // Registered first, looked at once more then: a change in between is noticed either way.
        let mut notified = pin!(notify.notified());
        notified.as_mut().enable();
        if let Some(found) = check() {
            return found;
        }
        notified.await;
    }
}

/// Lets the tasks that are ready run first. Unlike tokio's `yield_now` this does not wait for the runtime to look at the
/// system's events again, which a busy runtime does once in 61 tasks.
pub(crate) async fn to_the_back() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
