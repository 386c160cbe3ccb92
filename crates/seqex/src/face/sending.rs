//! Waiting for room to send.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::{
    Order, Refusal, Refused, SeqNo,
    face::{
        Exchange,
        block::{block_on, block_on_until, end_of},
        state::senders,
        waiters::Place,
    },
};

/// A packet to be sent as soon as there is room; made by [`Exchange::send`].
///
/// Resolves to the packet's number, or to [`Refused`] with [`Refusal::Closed`] when the exchange is closed.
///
/// # Cancel safety
/// Dropped before it resolves, the packet is not sent and never will be; its data is dropped. If it had been called
/// to go on, the next one who waits for room is called in its stead. So drop it or go on polling it: one that is kept
/// without being polled may hold others up until the next packet comes or goes.
///
/// # Panics
/// When it is polled after it has resolved.
#[must_use = "nothing is sent until it is waited for"]
pub struct Sending<'a, S, R> {
    exchange: &'a Exchange<S, R>,
    order: Order,
    /// There until it is sent.
    data: Option<S>,
    place: Option<Place>,
}

impl<'a, S, R> Sending<'a, S, R> {
    pub(crate) fn new(exchange: &'a Exchange<S, R>, order: Order, data: S) -> Self {
        Self { exchange, order, data: Some(data), place: None }
    }

    /// Blocks the thread until the packet is sent.
    ///
    /// # Errors
    /// [`Refused`], with the data, when the exchange is closed.
    pub fn wait(mut self) -> Result<SeqNo, Refused<S>> {
        block_on(&mut self)
    }

    /// Blocks the thread until the packet is sent, but not for longer than this.
    ///
    /// # Errors
    /// [`Refused`], with the data, when the exchange is closed or there is still no room; it says why.
    pub fn wait_timeout(mut self, at_most: Duration) -> Result<SeqNo, Refused<S>> {
        let sent = block_on_until(&mut self, end_of(at_most));
        // One more try gives the reason. The data is still there, for the packet was not sent.
        sent.unwrap_or_else(|| self.exchange.try_send(self.order, self.data.take().expect("not sent")))
    }
}

impl<S, R> Unpin for Sending<'_, S, R> {}

impl<S, R> Future for Sending<'_, S, R> {
    type Output = Result<SeqNo, Refused<S>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { exchange, order, data, place } = &mut *self;
        assert!(data.is_some(), "a packet is sent once: this was polled after it had resolved");
        let now = exchange.shared.clock.now();
        exchange.shared.poll_until(context, (senders, place), |state| match state.core.can_send() {
            Err(Refusal::LocalUnanswered | Refusal::RemoteBehind) => None,
            Ok(()) | Err(Refusal::Closed) => Some(state.send(now, *order, data.take()?)),
        })
    }
}

impl<S, R> Drop for Sending<'_, S, R> {
    fn drop(&mut self) {
        self.exchange.shared.leave(senders, &mut self.place);
    }
}

impl<S, R> fmt::Debug for Sending<'_, S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending").field("order", &self.order).finish_non_exhaustive()
    }
}
