//! What connects an exchange to its link.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::{
    Event, GaveUp, Packet, Received, Timestamp,
    encoding::ChannelId,
    face::{
        Clock, Exchange,
        bell::Bell,
        block::{block_on_until, end_of},
        state::{Shared, State},
        sync::MutexGuard,
        waiters::Place,
    },
};

/// What connects an [`Exchange`] to its link: packets go in and out here, and time passes here.
///
/// There is one for each exchange, and whoever owns the link owns it: a thread or two, a task or two. A
/// thread that does the transmitting and the time is this loop:
///
/// ```
/// use seqex::{Driver, Ended, Link};
/// # fn encode(_: &seqex::Packet<&String>) -> Vec<u8> { vec![] }
///
/// fn transmit(driver: &Driver<String>, socket: &std::net::UdpSocket) -> Ended {
///     loop {
///         if let Err(ended) = driver.wait() {
///             return ended;
///         }
///         while let Some(datagram) = driver.transmit(|packet| encode(&packet)) {
///             let _ = socket.send(&datagram); // lost like any other
///         }
///     }
/// }
/// ```
///
/// A task does the same with [`transmittable`](Link::transmittable), beside one that keeps the time, for instance
/// `seqex::tokio::keep_time` (feature `tokio`).
///
/// Dropping the driver closes the exchange, for without it nobody could get an answer any more. What was not answered or
/// delivered is dropped with it; [`Exchange::close`], called before, hands it back.
pub struct Driver<S, R = S> {
    exchange: Exchange<S, R>,
}

/// Why there is nothing more to do on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Ended {
    /// The exchange was closed.
    #[error("the exchange is closed")]
    Closed,
    /// The peer is silent. Nothing has ended by that: whoever is told decides whether to go on, or to close the exchange,
    /// which ends the waits of everybody else.
    #[error(transparent)]
    GaveUp(GaveUp),
    /// The same on one channel of a [`Multiplexer`](crate::Multiplexer).
    #[error("on channel {channel}: {gave_up}")]
    Silent {
        /// The channel whose exchange is to be closed, if any.
        channel: ChannelId,
        /// What is not answered.
        gave_up: GaveUp,
    },
}

impl<S, R> Driver<S, R> {
    pub(crate) fn new(exchange: Exchange<S, R>) -> Self {
        Self { exchange }
    }

    /// A handle of the exchange.
    pub fn exchange(&self) -> Exchange<S, R> {
        self.exchange.clone()
    }

    /// Takes a packet from the link. What does not fit is given back. All packets of one datagram belong in before anything
    /// is drained here: see [`SeqEx::receive`](crate::SeqEx::receive). Where another thread drains in between, some may be
    /// transmitted again that only were about to be acknowledged.
    pub fn receive(&self, packet: Packet<R>) -> Received<R> {
        let now = self.shared().clock.now();
        self.shared().with(|state| state.receive_packet(now, packet))
    }

    /// Lends the next packet there is to transmit to `encode`, and returns what that makes of it. The packet counts as
    /// transmitted.
    ///
    /// `encode` runs under the lock of the exchange, so that data can be lent instead of cloned: it must not use the
    /// exchange, or it would wait for itself. What it returns is used with nothing locked.
    pub fn transmit<T>(&self, encode: impl FnOnce(Packet<&S>) -> T) -> Option<T> {
        self.transmits().next_packet().map(encode)
    }

    /// Lends out all there is to transmit, one packet after the other, under one lock: for links that send in batches.
    pub fn transmits(&self) -> Transmits<'_, S, R> {
        let now = self.shared().clock.now();
        Transmits { shared: self.shared(), state: Some(self.shared().lock()), now }
    }

    /// What congestion control wants to know, if [`Config::feedback`](crate::Config::feedback) collects it: see
    /// [`SeqEx::poll_event`](crate::SeqEx::poll_event). To be drained whenever all packets of a datagram were received, or
    /// time-outs were handled.
    ///
    /// ```
    /// use seqex::{Driver, Event};
    /// # struct Controller;
    /// # impl Controller {
    /// #     fn grow(&mut self, _: Option<std::time::Duration>) {}
    /// #     fn shrink(&mut self) {}
    /// # }
    /// fn learn(driver: &Driver<String>, controller: &mut Controller) {
    ///     while let Some(event) = driver.poll_event() {
    ///         match event {
    ///             Event::Acked { rtt, .. } => controller.grow(rtt),
    ///             Event::Lost { .. } => controller.shrink(),
    ///             Event::Held { .. } | Event::Late { .. } | Event::TimedOut { .. } => {}
    ///         }
    ///     }
    /// }
    /// ```
    pub fn poll_event(&self) -> Option<Event> {
        self.shared().lock().core.poll_event()
    }

    /// Packets transmitted that are neither answered, nor held by the peer, nor taken for lost.
    pub fn in_flight(&self) -> u32 {
        self.shared().lock().core.in_flight()
    }

    /// The smoothed round trip, after the first measurement. It includes the time that the peer's application takes
    /// to answer.
    pub fn smoothed_rtt(&self) -> Option<Duration> {
        self.shared().lock().core.smoothed_rtt()
    }

    /// Lets time pass, and leaves it to the next [`handle_timeout`](Link::handle_timeout) to tell that the peer is silent.
    pub(crate) fn pass_time(&self) {
        let now = self.shared().clock.now();
        self.shared().with(|state| state.handle_timeout(now));
    }

    fn shared(&self) -> &Shared<S, R> {
        &self.exchange.shared
    }
}

impl<S, R> Drop for Driver<S, R> {
    fn drop(&mut self) {
        let _remains = self.exchange.close();
    }
}

impl<S, R> fmt::Debug for Driver<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

/// The packets there are to transmit; made by [`Driver::transmits`].
///
/// **It holds the lock of the exchange**, so that data can be lent instead of cloned: as long as it lives, every
/// other operation on this exchange waits, and so does what looks at all channels of the multiplexer that it belongs to
/// (for something to transmit, or the time); one of the same thread waits for ever. Channels are opened, accepted and
/// received on as before. Encode the packet, and let go.
pub struct Transmits<'a, S, R> {
    shared: &'a Shared<S, R>,
    /// There until dropped.
    state: Option<MutexGuard<'a, State<S, R>>>,
    now: Timestamp,
}

impl<S, R> Transmits<'_, S, R> {
    /// The next packet: acknowledgements, then resends, then fresh ones. It counts as transmitted.
    pub fn next_packet(&mut self) -> Option<Packet<&S>> {
        let packet = self.state.as_mut()?.core.poll_transmit(self.now)?;
        Some(packet.map(|letter| &letter.data))
    }
}

impl<S, R> Drop for Transmits<'_, S, R> {
    fn drop(&mut self) {
        if let Some(mut state) = self.state.take() {
            state.drained();
            self.shared.unlock(state);
        }
    }
}

impl<S, R> fmt::Debug for Transmits<'_, S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transmits").finish_non_exhaustive()
    }
}

/// Waiting, for whoever owns a link: a [`Driver`], or a [`MultiplexerDriver`](crate::MultiplexerDriver).
pub trait Link: sealed::Wakes + Sized {
    /// When [`handle_timeout`](Self::handle_timeout) wants to be called, if ever.
    fn next_deadline(&self) -> Option<Timestamp>;

    /// Lets time pass. Calling it early is harmless.
    ///
    /// # Errors
    /// [`Ended::Closed`]; and, once, when the peer has been silent for
    /// [`Config::give_up_after`](crate::Config::give_up_after): [`Ended::GaveUp`] from a [`Driver`], and from a
    /// [`MultiplexerDriver`](crate::MultiplexerDriver) [`Ended::Silent`], once for each silent channel and one in each
    /// call. Whoever is told closes the exchange, or goes on: time passes as before, and when the peer is heard and
    /// falls silent again, that is told again.
    fn handle_timeout(&self) -> Result<(), Ended>;

    /// Waits until there is something to transmit.
    fn transmittable(&self) -> Transmittable<'_, Self> {
        Transmittable { link: self, place: None }
    }

    /// Waits until the [next deadline](Self::next_deadline) is nearer than `seen`, for whoever waits for that one.
    fn deadline_moved(&self, seen: Option<Timestamp>) -> DeadlineMoved<'_, Self> {
        DeadlineMoved { link: self, seen, place: None }
    }

    /// Blocks the thread until there is something to transmit, and handles the time-outs that are due meanwhile.
    ///
    /// # Errors
    /// [`Ended`], with the meaning it has for [`handle_timeout`](Self::handle_timeout).
    fn wait(&self) -> Result<(), Ended> {
        loop {
            self.handle_timeout()?;
            let deadline = self.next_deadline();
            let mut transmittable = pin!(self.transmittable());
            let mut moved = pin!(self.deadline_moved(deadline));
            let mut either = std::future::poll_fn(|context| {
                if let Poll::Ready(result) = transmittable.as_mut().poll(context) {
                    return Poll::Ready(result.map(Some));
                }
                moved.as_mut().poll(context).map_ok(|()| None)
            });
            let end = deadline.and_then(|deadline| end_of(deadline.saturating_sub(self.clock().now())));
            if let Some(Some(())) = block_on_until(&mut either, end).transpose()? {
                return Ok(());
            }
        }
    }
}

pub(crate) mod sealed {
    use super::*;

    /// How a link learns that there is something to do.
    pub trait Wakes {
        #[doc(hidden)]
        fn bell(&self) -> &Bell;
        #[doc(hidden)]
        fn clock(&self) -> &Clock;
        /// Whether there is something to transmit.
        #[doc(hidden)]
        fn can_transmit(&self) -> Result<bool, Ended>;
        /// The next deadline, for somebody who waits for it to come nearer than `seen`.
        #[doc(hidden)]
        fn listen(&self, seen: Option<Timestamp>) -> Option<Timestamp>;
    }
}

impl<S, R> sealed::Wakes for Driver<S, R> {
    fn bell(&self) -> &Bell {
        &self.shared().bell
    }

    fn clock(&self) -> &Clock {
        &self.shared().clock
    }

    fn can_transmit(&self) -> Result<bool, Ended> {
        let mut state = self.shared().lock();
        if state.core.is_closed() { Err(Ended::Closed) } else { Ok(state.core.can_transmit()) }
    }

    fn listen(&self, seen: Option<Timestamp>) -> Option<Timestamp> {
        self.shared().lock().listen(seen)
    }
}

impl<S, R> Link for Driver<S, R> {
    fn next_deadline(&self) -> Option<Timestamp> {
        self.shared().lock().arm()
    }

    fn handle_timeout(&self) -> Result<(), Ended> {
        let now = self.shared().clock.now();
        self.shared().with(|state| {
            state.handle_timeout(now);
            if state.core.is_closed() {
                return Err(Ended::Closed);
            }
            state.newly_silent().map_or(Ok(()), |failure| Err(Ended::GaveUp(failure)))
        })
    }
}

/// Something to transmit; made by [`Link::transmittable`].
///
/// Resolves when there is, or to [`Ended::Closed`].
///
/// # Cancel safety
/// It takes nothing, so nothing is lost when it is dropped.
#[must_use = "it waits only when polled"]
#[derive(Debug)]
pub struct Transmittable<'a, L: Link> {
    link: &'a L,
    place: Option<Place>,
}

impl<L: Link> Future for Transmittable<'_, L> {
    type Output = Result<(), Ended>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { link, place } = &mut *self;
        poll_bell(link.bell(), place, context, || link.can_transmit())
    }
}

impl<L: Link> Drop for Transmittable<'_, L> {
    fn drop(&mut self) {
        self.link.bell().leave(&mut self.place);
    }
}

/// A deadline that comes nearer; made by [`Link::deadline_moved`].
///
/// Resolves when it does, or to [`Ended::Closed`].
///
/// # Cancel safety
/// It takes nothing, so nothing is lost when it is dropped.
#[must_use = "it waits only when polled"]
#[derive(Debug)]
pub struct DeadlineMoved<'a, L: Link> {
    link: &'a L,
    seen: Option<Timestamp>,
    place: Option<Place>,
}

impl<L: Link> Future for DeadlineMoved<'_, L> {
    type Output = Result<(), Ended>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { link, seen, place } = &mut *self;
        poll_bell(link.bell(), place, context, || {
            link.can_transmit()?;
            Ok(link.listen(*seen).is_some_and(|next| seen.is_none_or(|seen| next < seen)))
        })
    }
}

impl<L: Link> Drop for DeadlineMoved<'_, L> {
    fn drop(&mut self) {
        self.link.bell().leave(&mut self.place);
    }
}

/// Waits until `holds`, looking whenever the bell rings.
fn poll_bell(
    bell: &Bell,
    place: &mut Option<Place>,
    context: &mut Context<'_>,
    holds: impl Fn() -> Result<bool, Ended>,
) -> Poll<Result<(), Ended>> {
    loop {
        let count = bell.count();
        if holds()? {
            return Poll::Ready(Ok(()));
        }
        if bell.poll_since(count, place, context).is_pending() {
            return Poll::Pending;
        }
    }
}
