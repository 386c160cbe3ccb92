//! Several shared exchanges on one link.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::Waker;
use std::vec::Vec;

use crate::{
    ChannelLimits, Config, OpenError, Packet, Received, Timestamp, Unopened,
    encoding::ChannelId,
    face::{
        Accepting, Clock, Closed, Driver, Ended, Exchange, Link,
        bell::Bell,
        driver::sealed::Wakes,
        foreign::Foreign,
        sync::{Mutex, MutexGuard},
        waiters::Waiters,
    },
    table::{Origin, Table},
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
/// [`Ended::Silent`] once for each channel on which the peer falls silent; of several at once, each
/// further one is told when it waits again. Dropping it closes all channels.
pub struct MultiplexerDriver<S, R = S> {
    inner: Arc<Inner<S, R>>,
}

/// A channel that the peer opened, and its exchange.
pub type Accepted<S, R = S> = (ChannelId, Exchange<S, R>);

#[derive(Debug)]
pub(crate) struct Inner<S, R> {
    config: Config,
    clock: Clock,
    /// Rung by every channel.
    bell: Arc<Bell>,
    state: Mutex<State<S, R>>,
}

/// No exchange is locked while this is, for whoever encodes a packet has locked one and may open a channel. What uses
/// the exchanges goes over a [list](Inner::drivers) of them.
#[derive(Debug)]
pub(crate) struct State<S, R> {
    /// `None` when everything is closed.
    channels: Option<Table<Arc<Driver<S, R>>>>,
    /// The same as a list, made anew when it is asked for after a change.
    list: Option<List<S, R>>,
    /// Where the next turn begins.
    turn: usize,
    /// Channels that the peer opened and nobody has accepted; as many as the peer may open at most.
    opened: VecDeque<Accepted<S, R>>,
    pub(crate) acceptors: Waiters,
}

/// The open channels at one moment.
type List<S, R> = Arc<[(ChannelId, Arc<Driver<S, R>>)]>;

/// What is dropped when nothing is locked any more, for it may hold data of users.
pub(crate) struct Gone<S, R> {
    _list: Option<List<S, R>>,
    _drivers: Vec<Arc<Driver<S, R>>>,
    _exchanges: Vec<Accepted<S, R>>,
}

impl<S, R> Multiplexer<S, R> {
    /// No channels yet. All will have this configuration and this clock.
    pub fn new(config: Config, limits: ChannelLimits, clock: Clock) -> (Self, MultiplexerDriver<S, R>) {
        let state = State {
            channels: Some(Table::new(limits)),
            list: None,
            turn: 0,
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
        Accepting::new(&self.inner)
    }

    /// The next channel that the peer has opened, if there is one.
    ///
    /// # Errors
    /// [`Closed`], when everything is closed.
    pub fn try_accept(&self) -> Result<Option<Accepted<S, R>>, Closed> {
        let (mut state, gone) = self.inner.lock_and_retire();
        let accepted = state.accept();
        self.inner.unlock(state);
        drop(gone);
        accepted
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
    /// turns. O(channels).
    pub fn next_channel(&self) -> Option<(ChannelId, Arc<Driver<S, R>>)> {
        let list = self.inner.drivers()?;
        let start = self.inner.lock().turn.checked_rem(list.len())?;
        let in_turn = (start..list.len()).chain(0..start);
        let index = in_turn.into_iter().find(|&index| list[index].1.can_transmit().unwrap_or(false))?;
        self.inner.lock().turn = index + 1;
        Some(list[index].clone())
    }
}

impl<S, R> Inner<S, R> {
    /// Opens a channel, for this end or for the peer's packet.
    fn open(&self, channel: ChannelId, packet: Option<&Packet<R>>) -> Result<Exchange<S, R>, OpenError> {
        let (mut state, gone) = self.lock_and_retire();
        let opened = self.open_in(&mut state, channel, packet);
        let list = if opened.is_ok() { state.list.take() } else { None };
        self.unlock(state);
        drop((gone, list));
        opened
    }

    fn open_in(
        &self,
        state: &mut State<S, R>,
        channel: ChannelId,
        packet: Option<&Packet<R>>,
    ) -> Result<Exchange<S, R>, OpenError> {
        let table = state.channels.as_mut().ok_or(OpenError::Closed)?;
        let place = match packet {
            None => table.admit(channel, Origin::Local)?,
            Some(packet) => table.admit_peer(channel, packet)?,
        };
        let bell = Arc::clone(&self.bell);
        let (exchange, driver) = Exchange::on_channel(channel, self.config, self.clock.clone(), bell);
        table.insert(place, Arc::new(driver));
        if packet.is_some() {
            state.opened.push_back((channel, exchange.clone()));
        }
        Ok(exchange)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State<S, R>> {
        self.state.lock()
    }

    /// The lock, when the channels whose exchange was closed have given up their places: each costs something once, and
    /// nobody else anything.
    pub(crate) fn lock_and_retire(&self) -> (MutexGuard<'_, State<S, R>>, Gone<S, R>) {
        let mut guard = self.lock();
        let State { channels, list, opened, .. } = &mut *guard;
        let mut gone = Gone { _list: None, _drivers: Vec::new(), _exchanges: Vec::new() };
        for channel in self.bell.take_closed() {
            gone._drivers.extend(channels.as_mut().and_then(|table| table.retire(channel)));
            let unaccepted = opened.iter().position(|&(opened, _)| opened == channel);
            gone._exchanges.extend(unaccepted.and_then(|index| opened.remove(index)));
            gone._list = gone._list.or(list.take());
        }
        (guard, gone)
    }

    /// Ends an operation: calls the next one who waits for a channel if there is one.
    pub(crate) fn unlock(&self, mut state: MutexGuard<'_, State<S, R>>) {
        let acceptor = if state.opened.is_empty() { None } else { state.acceptors.call_one() };
        drop(state);
        if let Some(acceptor) = acceptor {
            acceptor.wake();
        }
    }

    fn driver(&self, channel: ChannelId) -> Option<Arc<Driver<S, R>>> {
        let state = self.lock();
        state.channels.as_ref()?.get(channel).map(Arc::clone)
    }

    /// The open channels; `None` when everything is closed.
    fn drivers(&self) -> Option<List<S, R>> {
        let (mut state, gone) = self.lock_and_retire();
        let State { channels, list, .. } = &mut *state;
        let drivers = channels.as_ref().map(|table| {
            let made = || table.iter().map(|(channel, driver)| (channel, Arc::clone(driver))).collect();
            Arc::clone(list.get_or_insert_with(made))
        });
        drop(state);
        drop(gone);
        drivers
    }

    //= ZSSP-SEQ-20  on every channel, and those who wait for one
    fn close(&self) {
        let (channels, _list, _opened, acceptors): (_, _, _, Vec<Waker>) = {
            let mut guard = self.lock();
            let State { channels, list, opened, acceptors, .. } = &mut *guard;
            let acceptors = std::iter::from_fn(|| acceptors.call_one()).collect();
            (channels.take(), list.take(), std::mem::take(opened), acceptors)
        };
        let mut foreign = Foreign::default();
        for (_, driver) in channels.iter().flat_map(Table::iter) {
            foreign.run(|| drop(driver.exchange().close()));
        }
        foreign.run(|| self.bell.ring(None));
        for acceptor in acceptors {
            foreign.run(|| acceptor.wake());
        }
        foreign.finish();
    }
}

impl<S, R> State<S, R> {
    /// The next channel that the peer has opened.
    pub(crate) fn accept(&mut self) -> Result<Option<Accepted<S, R>>, Closed> {
        match self.opened.pop_front() {
            None if self.channels.is_none() => Err(Closed),
            opened => Ok(opened),
        }
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
        let drivers = self.inner.drivers().ok_or(Ended::Closed)?;
        Ok(drivers.iter().any(|(_, driver)| driver.can_transmit().unwrap_or(false)))
    }

    fn listen(&self, seen: Option<Timestamp>) -> Option<Timestamp> {
        let drivers = self.inner.drivers()?;
        drivers.iter().filter_map(|(_, driver)| driver.listen(seen)).min()
    }
}

impl<S, R> Link for MultiplexerDriver<S, R> {
    fn next_deadline(&self) -> Option<Timestamp> {
        let drivers = self.inner.drivers()?;
        drivers.iter().filter_map(|(_, driver)| driver.next_deadline()).min()
    }

    fn handle_timeout(&self) -> Result<(), Ended> {
        //= ZSSP-SEQ-01  a channel that ended, or is silent, holds up no other
        let mut silent = None;
        for (channel, driver) in self.inner.drivers().ok_or(Ended::Closed)?.iter() {
            if silent.is_some() {
                // Whether this one is silent too is told by the next call.
                driver.pass_time();
            } else if let Err(Ended::GaveUp(gave_up)) = driver.handle_timeout() {
                silent = Some(Ended::Silent { channel: *channel, gave_up });
            }
        }
        silent.map_or(Ok(()), Err)
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
