//! Several shared exchanges on one link.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::vec::Vec;

use crate::{
    ChannelLimits, Config, OpenError, Packet, Received, Timestamp, Unopened,
    channels::{Origin, Table},
    encoding::ChannelId,
    face::{
        Clock, Closed, Driver, Ended, Exchange, Link,
        bell::Bell,
        block::block_on,
        driver::sealed::Wakes,
        sync::{Mutex, MutexGuard},
        waiters::{Place, Waiters},
    },
};

/// Several [`Exchange`]s side by side on one link, told apart by channel ids. Nothing that happens in one holds up
/// another; each has a lock of its own.
///
/// This is [`Channels`](crate::Channels) for threads and tasks, with the same rules for opening. Clones are handles of
/// the same channels.
///
/// ```
/// use seqex::{ChannelLimits, Clock, Config, Multiplexer, Order};
///
/// let limits = ChannelLimits { channels: 8, opened_by_peer: 4 };
/// let (alice, alice_driver) = Multiplexer::<&str>::new(Config::default(), limits, Clock::default());
/// let (bob, bob_driver) = Multiplexer::<&str>::new(Config::default(), limits, Clock::default());
///
/// alice.open(7)?.send(Order::Ordered, "hello").wait()?;
/// while let Some((channel, driver)) = alice_driver.next_channel() {
///     while let Some(packet) = driver.transmit(|packet| packet.map(|data| *data)) {
///         bob_driver.receive(channel, packet)?;
///     }
/// }
/// let (channel, exchange) = bob.accept().wait()?;
/// assert_eq!(channel, 7);
/// assert!(exchange.try_receive()?.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Multiplexer<S, R = S> {
    inner: Arc<Inner<S, R>>,
}

/// What connects a [`Multiplexer`] to its link.
///
/// Its waiting is that of [`Link`]: [`wait`](Link::wait) for a thread, [`transmittable`](Link::transmittable) for a
/// task. Then [`next_channel`](Self::next_channel) says which channel may transmit. It ends with
/// [`Ended::GaveUp`] when the peer is silent on any one channel, until that is closed. Dropping it closes all channels.
pub struct MultiplexerDriver<S, R = S> {
    inner: Arc<Inner<S, R>>,
}

#[derive(Debug)]
struct Inner<S, R> {
    config: Config,
    clock: Clock,
    /// Rung by every channel.
    bell: Arc<Bell>,
    state: Mutex<State<S, R>>,
}

/// The exchanges are locked after this, never before.
#[derive(Debug)]
struct State<S, R> {
    /// `None` when everything is closed.
    channels: Option<Table<Arc<Driver<S, R>>>>,
    /// Channels that the peer opened and nobody has accepted; as many as the peer may open at most.
    opened: VecDeque<(ChannelId, Exchange<S, R>)>,
    acceptors: Waiters,
}

impl<S, R> Multiplexer<S, R> {
    /// No channels yet. All will have this configuration and this clock.
    pub fn new(config: Config, limits: ChannelLimits, clock: Clock) -> (Self, MultiplexerDriver<S, R>) {
        let state = State {
            channels: Some(Table::new(limits)),
            opened: VecDeque::new(),
            acceptors: Waiters::default(),
        };
        let bell = Arc::new(Bell::new());
        let inner = Arc::new(Inner { config, clock, bell, state: Mutex::new(state) });
        (Self { inner: Arc::clone(&inner) }, MultiplexerDriver { inner })
    }

    /// Opens a channel.
    ///
    /// # Errors
    /// [`OpenError`]; among others when the peer was faster, and then the channel comes out of
    /// [`accept`](Self::accept).
    pub fn open(&self, channel: ChannelId) -> Result<Exchange<S, R>, OpenError> {
        self.inner.open(channel, None)
    }

    /// Waits for a channel that the peer opens.
    pub fn accept(&self) -> Accepting<'_, S, R> {
        Accepting { inner: &self.inner, place: None }
    }

    /// Closes all channels for good. To get back what was not acknowledged, [close](Exchange::close) each exchange
    /// before.
    pub fn close(&self) {
        self.inner.close();
    }
}

impl<S, R> MultiplexerDriver<S, R> {
    /// Takes a packet from the link. A message with the id of no open channel opens it, if it may; an
    /// acknowledgement never does.
    ///
    /// # Errors
    /// [`Unopened`], with the packet.
    pub fn receive(&self, channel: ChannelId, packet: Packet<R>) -> Result<Received<R>, Unopened<R>> {
        if let Some(driver) = self.inner.driver(channel) {
            return Ok(driver.receive(packet));
        }
        match self.inner.open(channel, Some(&packet)) {
            // Somebody opened it at this end at the same time.
            Ok(_) | Err(OpenError::Open) => {}
            Err(reason) => return Err(Unopened { reason, packet }),
        }
        match self.inner.driver(channel) {
            Some(driver) => Ok(driver.receive(packet)),
            None => Err(Unopened { reason: OpenError::Closed, packet }),
        }
    }

    /// The next channel with something to transmit, and what to [take it from](Driver::transmit). Channels take
    /// turns.
    pub fn next_channel(&self) -> Option<(ChannelId, Arc<Driver<S, R>>)> {
        let mut state = self.inner.state.lock();
        let (channel, driver) =
            state.channels.as_mut()?.in_turn(|driver| driver.can_transmit().unwrap_or(false))?;
        Some((channel, Arc::clone(driver)))
    }
}

impl<S, R> Inner<S, R> {
    /// Opens a channel, for this end or for the peer's packet. Channels whose exchange was closed give up their places
    /// before.
    fn open(&self, channel: ChannelId, packet: Option<&Packet<R>>) -> Result<Exchange<S, R>, OpenError> {
        // Dropped when nothing is locked any more, for data of users may be in there.
        let _closed: Vec<Arc<Driver<S, R>>>;
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let table = state.channels.as_mut().ok_or(OpenError::Closed)?;
        _closed = table.retire_where(|driver| driver.can_transmit().is_err());
        let place = match packet {
            None => table.admit(channel, Origin::Local)?,
            Some(packet) => table.admit_peer(channel, packet)?,
        };
        let (exchange, driver) = Exchange::with_bell(self.config, self.clock.clone(), Arc::clone(&self.bell));
        if packet.is_some() {
            state.opened.push_back((channel, exchange.clone()));
        }
        table.insert(place, Arc::new(driver));
        self.unlock(guard);
        Ok(exchange)
    }

    /// Ends an operation: calls the next one who waits for a channel if there is one.
    fn unlock(&self, mut state: MutexGuard<'_, State<S, R>>) {
        let acceptor = if state.opened.is_empty() { None } else { state.acceptors.call_one() };
        drop(state);
        if let Some(acceptor) = acceptor {
            acceptor.wake();
        }
    }

    fn driver(&self, channel: ChannelId) -> Option<Arc<Driver<S, R>>> {
        let state = self.state.lock();
        state.channels.as_ref()?.get(channel).map(Arc::clone)
    }

    /// Each driver once, with nothing locked in between; those that come or go meanwhile may be missed.
    fn drivers(&self) -> impl Iterator<Item = Arc<Driver<S, R>>> {
        let nth = |index| {
            let state = self.state.lock();
            state.channels.as_ref()?.iter().nth(index).map(|(_, driver)| Arc::clone(driver))
        };
        (0..).map_while(nth)
    }

    //= ZSSP-SEQ-20  on every channel, and those who wait for one
    fn close(&self) {
        let (channels, _opened, acceptors): (_, _, Vec<Waker>) = {
            let mut guard = self.state.lock();
            let State { channels, opened, acceptors } = &mut *guard;
            let acceptors = std::iter::from_fn(|| acceptors.call_one()).collect();
            (channels.take(), std::mem::take(opened), acceptors)
        };
        for (_, driver) in channels.iter().flat_map(Table::iter) {
            let _remains = driver.exchange().close();
        }
        self.bell.ring();
        acceptors.into_iter().for_each(Waker::wake);
    }
}

impl<S, R> Wakes for MultiplexerDriver<S, R> {
    fn bell(&self) -> &Bell {
        &self.inner.bell
    }

    fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    fn can_transmit(&self) -> Result<bool, Ended> {
        let state = self.inner.state.lock();
        let table = state.channels.as_ref().ok_or(Ended::Closed)?;
        Ok(table.iter().any(|(_, driver)| driver.can_transmit().unwrap_or(false)))
    }

    fn deadline(&self) -> Option<Timestamp> {
        let state = self.inner.state.lock();
        state.channels.as_ref()?.iter().filter_map(|(_, driver)| driver.deadline()).min()
    }
}

impl<S, R> Link for MultiplexerDriver<S, R> {
    fn next_deadline(&self) -> Option<Timestamp> {
        let state = self.inner.state.lock();
        state.channels.as_ref()?.iter().filter_map(|(_, driver)| driver.next_deadline()).min()
    }

    fn handle_timeout(&self) -> Result<(), Ended> {
        self.can_transmit()?;
        for driver in self.inner.drivers() {
            match driver.handle_timeout() {
                // A channel that ended by itself ends no other.
                Ok(()) | Err(Ended::Closed) => {}
                Err(silent @ Ended::GaveUp(_)) => return Err(silent),
            }
        }
        Ok(())
    }
}

impl<S, R> Drop for MultiplexerDriver<S, R> {
    fn drop(&mut self) {
        self.inner.close();
    }
}

impl<S, R> Clone for Multiplexer<S, R> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<S, R> fmt::Debug for Multiplexer<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Multiplexer").finish_non_exhaustive()
    }
}

impl<S, R> fmt::Debug for MultiplexerDriver<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MultiplexerDriver").finish_non_exhaustive()
    }
}

/// The next channel that the peer opens; made by [`Multiplexer::accept`].
///
/// Resolves to the channel's id and its exchange, or to [`Closed`].
///
/// # Cancel safety
/// Dropped before it resolves, it has taken nothing: the channel goes to the next who asks.
#[must_use = "nothing is accepted until it is waited for"]
pub struct Accepting<'a, S, R> {
    inner: &'a Inner<S, R>,
    place: Option<Place>,
}

impl<S, R> Accepting<'_, S, R> {
    /// Blocks the thread until the peer opens a channel.
    ///
    /// # Errors
    /// [`Closed`], when everything is closed.
    pub fn wait(mut self) -> Result<(ChannelId, Exchange<S, R>), Closed> {
        block_on(&mut self)
    }
}

impl<S, R> Future for Accepting<'_, S, R> {
    type Output = Result<(ChannelId, Exchange<S, R>), Closed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { inner, place } = &mut *self;
        // Cloning and dropping wakers is foreign code; none of it happens under the lock.
        let waker = context.waker().clone();
        let mut state = inner.state.lock();
        let (poll, spent) = match state.opened.pop_front() {
            None if state.channels.is_some() => (Poll::Pending, [state.acceptors.join(place, waker), None]),
            opened => (Poll::Ready(opened.ok_or(Closed)), [state.acceptors.leave(place), Some(waker)]),
        };
        inner.unlock(state);
        drop(spent);
        poll
    }
}

impl<S, R> Drop for Accepting<'_, S, R> {
    fn drop(&mut self) {
        if self.place.is_some() {
            let mut state = self.inner.state.lock();
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
