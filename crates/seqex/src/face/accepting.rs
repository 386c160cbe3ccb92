//! Waiting for a channel that the peer opens.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::face::{
    Accepted, Closed,
    block::{block_on, block_on_until, end_of},
    multiplexer::Inner,
    waiters::Place,
};

/// The next channel that the peer opens; made by [`Multiplexer::accept`](crate::Multiplexer::accept).
///
/// Resolves to the channel's id and its exchange, or to [`Closed`].
/// Polled again after that, it waits for the next one.
///
/// # Cancel safety
/// Dropped before it resolves, it has taken nothing: the channel goes to the next who asks.
#[must_use = "nothing is accepted until it is waited for"]
pub struct Accepting<'a, S, R> {
    inner: &'a Inner<S, R>,
    place: Option<Place>,
}

impl<'a, S, R> Accepting<'a, S, R> {
    pub(crate) fn new(inner: &'a Inner<S, R>) -> Self {
        Self { inner, place: None }
    }

    /// Blocks the thread until the peer opens a channel.
    ///
    /// # Errors
    /// [`Closed`], when everything is closed.
    pub fn wait(mut self) -> Result<Accepted<S, R>, Closed> {
        block_on(&mut self)
    }

    /// Blocks the thread until the peer opens a channel, but not for longer than this; `None` if it opened none.
    ///
    /// # Errors
    /// [`Closed`], when everything is closed.
    pub fn wait_timeout(mut self, at_most: Duration) -> Result<Option<Accepted<S, R>>, Closed> {
        block_on_until(&mut self, end_of(at_most)).transpose()
    }
}

impl<S, R> Future for Accepting<'_, S, R> {
    type Output = Result<Accepted<S, R>, Closed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { inner, place } = &mut *self;
        // Cloning and dropping wakers is foreign code; none of it happens under the lock.
        let waker = context.waker().clone();
        let (mut state, gone) = inner.lock_and_retire();
        let (poll, spent) = match state.accept().transpose() {
            None => (Poll::Pending, [state.acceptors.join(place, waker), None]),
            Some(accepted) => (Poll::Ready(accepted), [state.acceptors.leave(place), Some(waker)]),
        };
        inner.unlock(state);
        drop((spent, gone));
        poll
    }
}

impl<S, R> Drop for Accepting<'_, S, R> {
    fn drop(&mut self) {
        if self.place.is_some() {
            let mut state = self.inner.lock();
            let waker = state.acceptors.leave(&mut self.place);
            // Whoever was called but did not come leaves its turn to the next one.
            self.inner.unlock(state);
            drop(waker);
        }
    }
}

impl<S, R> fmt::Debug for Accepting<'_, S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepting").finish_non_exhaustive()
    }
}
