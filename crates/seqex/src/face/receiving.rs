//! Waiting for a delivery.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::face::{
    Closed, Delivered, Exchange,
    block::{block_on, block_on_until, end_of},
    state::receivers,
    waiters::Place,
};

/// The next delivery; made by [`Exchange::receive`].
///
/// Resolves to a packet with the [`Guard`](crate::Guard) to answer it with, or to an acknowledgement, or to [`Closed`].
/// Polled again after that, it waits for the next one.
///
/// # Cancel safety
/// Dropped before it resolves, it has taken nothing: whatever is there to deliver is delivered to the next who asks.
/// If it had been called to go on, the next one who waits is called in its stead. So drop it or go on polling it.
#[must_use = "nothing is received until it is waited for"]
pub struct Receiving<'a, S, R> {
    exchange: &'a Exchange<S, R>,
    place: Option<Place>,
}

impl<'a, S, R> Receiving<'a, S, R> {
    pub(crate) fn new(exchange: &'a Exchange<S, R>) -> Self {
        Self { exchange, place: None }
    }

    /// Blocks the thread until there is a delivery.
    ///
    /// # Errors
    /// [`Closed`], when the exchange is closed.
    pub fn wait(mut self) -> Result<Delivered<S, R>, Closed> {
        block_on(&mut self)
    }

    /// Blocks the thread until there is a delivery, but not for longer than this; `None` if none came.
    ///
    /// # Errors
    /// [`Closed`], when the exchange is closed.
    pub fn wait_timeout(mut self, at_most: Duration) -> Result<Option<Delivered<S, R>>, Closed> {
        block_on_until(&mut self, end_of(at_most)).transpose()
    }
}

impl<S, R> Future for Receiving<'_, S, R> {
    type Output = Result<Delivered<S, R>, Closed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { exchange, place } = &mut *self;
        let delivery =
            exchange.shared.poll_until(context, (receivers, place), |state| state.receive().transpose());
        delivery.map_ok(|delivery| exchange.open(delivery))
    }
}

impl<S, R> Drop for Receiving<'_, S, R> {
    fn drop(&mut self) {
        self.exchange.shared.leave(receivers, &mut self.place);
    }
}

impl<S, R> fmt::Debug for Receiving<'_, S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiving").finish_non_exhaustive()
    }
}
