//! The right to answer a packet, for every face.

use std::fmt;

use crate::{
    NotOpen, Order, SeqNo, Token,
    face::{Exchange, Request, state::Letter},
};

//= ZSSP-DEF-25  one guard for threads and tasks
/// The right to answer one received packet, and the duty: dropped, it acknowledges.
///
/// While the guard of an [ordered](Order::Ordered) packet lives, the next ordered packet is not handed out; that is
/// how whoever handles it is alone. [`release`](Self::release) ends this early.
///
/// ```
/// # use seqex::{Exchange, Delivery, Order};
/// # fn handle(_: &str) -> String { String::new() }
/// fn serve(exchange: &Exchange<String>) -> Result<(), seqex::Closed> {
///     loop {
///         match exchange.receive().wait()? {
///             Delivery::Payload { token, data } | Delivery::Reply { token, data, .. } => {
///                 // Should `handle` panic, the guard acknowledges, so that the peer does not wait for ever.
///                 // Not open any more: the exchange was closed, and `receive` will say so.
///                 let _ = token.reply(Order::Unordered, handle(&data));
///             }
///             Delivery::Acknowledged { .. } => {}
///         }
///     }
/// }
/// ```
pub struct Guard<S, R> {
    exchange: Exchange<S, R>,
    /// There until the packet is answered.
    token: Option<Token>,
    seq: SeqNo,
    order: Order,
}

impl<S, R> Guard<S, R> {
    pub(crate) fn new(exchange: Exchange<S, R>, token: Token) -> Self {
        Self { exchange, seq: token.seq(), order: token.order(), token: Some(token) }
    }

    /// The number of the packet this guard answers, in the peer's sequence.
    pub fn seq(&self) -> SeqNo {
        self.seq
    }

    /// Whether the packet is an ordered one.
    pub fn order(&self) -> Order {
        self.order
    }

    /// Ends the critical section of an ordered packet ahead of its answer, so that the next ordered packet can be
    /// handed out. Without effect on others, and the second time.
    pub fn release(&self) {
        if let Some(token) = &self.token {
            self.exchange.shared.with(|state| state.core.release(token));
        }
    }

    /// Answers the packet with `data`, for which there is always room. The answer to the reply comes out of
    /// [`Exchange::receive`].
    ///
    /// # Errors
    /// [`NotOpen`], with the data, when the exchange was closed meanwhile.
    pub fn reply(mut self, order: Order, data: S) -> Result<SeqNo, NotOpen<S>> {
        let Some(token) = self.token.take() else { return Err(NotOpen { data }) };
        let now = self.exchange.shared.clock.now();
        let letter = Letter { data, request: None };
        let sent = self.exchange.shared.with(|state| state.core.reply(now, token, order, letter));
        sent.map_err(|NotOpen { data }| NotOpen { data: data.data })
    }

    /// Answers the packet with `data`, at once, and gives a request for the answer to that: the next step of a
    /// conversation. When the exchange was closed meanwhile, the request says so and gives the data back.
    ///
    /// Whoever receives may wait for an unordered one before it receives more, though the peer does the same and both windows
    /// are full, if both ask by requests alone ("Applications that wait" in the [crate's documentation](crate)); of steps in
    /// answer to answers, this allows [so many](Exchange::keep_for_answers). An ordered one may then wait for ever.
    pub fn request(mut self, order: Order, data: S) -> Request<S, R> {
        Request::replying(self.exchange.clone(), self.token.take(), order, data)
    }

    /// Answers the packet without data, as dropping the guard does.
    pub fn acknowledge(self) {}
}

impl<S, R> Drop for Guard<S, R> {
    fn drop(&mut self) {
        if let Some(token) = self.token.take() {
            self.exchange.shared.with(|state| state.core.acknowledge(token));
        }
    }
}

impl<S, R> fmt::Debug for Guard<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("seq", &self.seq).field("order", &self.order).finish_non_exhaustive()
    }
}
