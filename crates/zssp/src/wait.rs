//! Waiting for something to become true, without missing the moment.

use std::pin::pin;

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
