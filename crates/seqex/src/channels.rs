//! Several exchanges side by side on one link, told apart by channel ids.

use alloc::collections::VecDeque;

use crate::{
    Answer, Config, Delivery, Event, Packet, Received, Remains, SeqEx, Timestamp,
    encoding::ChannelId,
    table::{Origin, Table},
};

/// How many channels there may be. Each one takes the memory of its two windows, whether it is used or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelLimits {
    /// Open channels, whoever opened them.
    pub channels: usize,
    /// Those among them that the peer opened, by being the first to use their id. With zero, only ids opened at this
    /// end are served.
    pub opened_by_peer: usize,
}

/// Why a channel cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// All channels are closed for good.
    #[error("all channels are closed")]
    Closed,
    /// There are as many channels as there may be.
    #[error("there are as many channels as there may be")]
    Full,
    /// The channel was never opened, and what came from the peer for it is an acknowledgement, which opens none.
    #[error("an acknowledgement opens no channel")]
    NeverOpened,
    /// The channel is open already.
    #[error("the channel is open already")]
    Open,
    /// The channel was closed. Its id stays closed, for late packets of the old channel would pass for those of
    /// a new one.
    #[error("the channel was closed")]
    Retired,
}

/// A packet for a channel that is not open and was not opened by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unopened<R> {
    /// Why the channel was not opened. [`OpenError::Retired`] is natural, when a channel was closed.
    pub reason: OpenError,
    /// The packet, given back.
    pub packet: Packet<R>,
}

//= ZSSP-SEQ-01  each channel has windows, numbers and sections of its own
/// Several exchanges side by side. They share a link and nothing else, so that none holds up another: a packet that
/// waits for a lost one, a full window, or a critical section that takes its time concern their own channel only.
///
/// A channel is opened at either end by [`open`](Self::open), or by the peer's first message with its id as far as
/// [`ChannelLimits`] permit. Both ends may open the same id; it is the same channel.
///
/// ```
/// use seqex::{ChannelLimits, Channels, Config, Delivery, Order};
/// # let now = core::time::Duration::ZERO;
///
/// let mut alice = Channels::<&str>::new(Config::default(), ChannelLimits { channels: 8, opened_by_peer: 0 });
/// let mut bob = Channels::<&str>::new(Config::default(), ChannelLimits { channels: 8, opened_by_peer: 4 });
///
/// alice.open(7)?.send(now, Order::Ordered, "hello")?;
/// while let Some((channel, packet)) = alice.poll_transmit(now) {
///     bob.receive(now, channel, packet.map(|data| *data))?;
/// }
/// assert_eq!(bob.poll_opened(), Some(7));
/// let Some((7, Delivery::Payload { token, data: "hello" })) = bob.poll_deliver() else { panic!("no hello") };
/// bob.get_mut(7).expect("an open channel").acknowledge(token);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Channels<S, R = S> {
    config: Config,
    table: Table<SeqEx<S, R>>,
    opened: VecDeque<ChannelId>,
    /// The channel whose exchange was lent out last, and so may have been closed.
    lent: Option<ChannelId>,
    /// Where the next turn begins.
    turn: usize,
}

impl<S, R> Channels<S, R> {
    /// No channels yet. All will have this configuration, which both ends must share as those of a single exchange do.
    pub fn new(config: Config, limits: ChannelLimits) -> Self {
        Self { config, table: Table::new(limits), opened: VecDeque::new(), lent: None, turn: 0 }
    }

    /// Opens a channel. One whose exchange was closed gives up its place, but not its id.
    ///
    /// # Errors
    /// [`OpenError`]; among others when the peer was faster, and then the channel is there.
    pub fn open(&mut self, channel: ChannelId) -> Result<&mut SeqEx<S, R>, OpenError> {
        self.retire_closed();
        let place = self.table.admit(channel, Origin::Local)?;
        self.lent = Some(channel);
        Ok(self.table.insert(place, SeqEx::new(self.config)))
    }

    /// The exchange of an open channel.
    pub fn get(&self, channel: ChannelId) -> Option<&SeqEx<S, R>> {
        self.table.get(channel).filter(|exchange| !exchange.is_closed())
    }

    /// The exchange of an open channel. Closing it closes the channel.
    pub fn get_mut(&mut self, channel: ChannelId) -> Option<&mut SeqEx<S, R>> {
        self.retire_closed();
        self.lent = Some(channel);
        self.table.get_mut(channel)
    }

    /// Closes a channel for good; its id cannot be opened again. `None` if it is not open.
    pub fn close(&mut self, channel: ChannelId) -> Option<Remains<S, R>> {
        self.retire_closed();
        Some(self.retire(channel)?.close())
    }

    /// Takes a packet of the peer. A message with the id of no open channel opens it, if it may;
    /// an acknowledgement never does.
    ///
    /// # Errors
    /// [`Unopened`], with the packet. Nothing has changed.
    pub fn receive(
        &mut self,
        now: Timestamp,
        channel: ChannelId,
        packet: Packet<R>,
    ) -> Result<Received<R>, Unopened<R>> {
        self.retire_closed();
        if let Some(exchange) = self.table.get_mut(channel) {
            return Ok(exchange.receive(now, packet));
        }
        match self.table.admit_peer(channel, &packet) {
            Ok(place) => {
                self.opened.push_back(channel);
                Ok(self.table.insert(place, SeqEx::new(self.config)).receive(now, packet))
            }
            Err(reason) => Err(Unopened { reason, packet }),
        }
    }

    /// Lets time pass on all channels.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.table.iter_mut().for_each(|(_, exchange)| exchange.handle_timeout(now));
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called, if ever. O(channels).
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.table.iter().filter_map(|(_, exchange)| exchange.next_deadline()).min()
    }

    /// The next channel that the peer opened, unless it was closed again meanwhile.
    pub fn poll_opened(&mut self) -> Option<ChannelId> {
        self.retire_closed();
        self.opened.pop_front()
    }

    /// What the user must see next. Channels take turns. O(channels).
    pub fn poll_deliver(&mut self) -> Option<(ChannelId, Delivery<S, R>)> {
        self.in_turn(SeqEx::poll_deliver)
    }

    /// The next answer to a packet whose answer was [claimed](SeqEx::claim). Channels take turns. O(channels).
    pub fn poll_answer(&mut self) -> Option<(ChannelId, Answer<S, R>)> {
        self.in_turn(SeqEx::poll_answer)
    }

    /// What congestion control wants to know: see [`SeqEx::poll_event`]. O(channels).
    pub fn poll_event(&mut self) -> Option<(ChannelId, Event)> {
        self.in_turn(SeqEx::poll_event)
    }

    /// What there is to transmit. Channels take turns. O(channels).
    pub fn poll_transmit(&mut self, now: Timestamp) -> Option<(ChannelId, Packet<&S>)> {
        let (channel, ()) = self.in_turn(|exchange| exchange.can_transmit().then_some(()))?;
        Some((channel, self.table.get_mut(channel)?.poll_transmit(now)?))
    }

    /// What the first channel with something to give gives, counted from the one after the last that this returned.
    fn in_turn<T>(&mut self, take: impl FnMut(&mut SeqEx<S, R>) -> Option<T>) -> Option<(ChannelId, T)> {
        let (index, taken) = self.table.first_from(self.turn, take)?;
        self.turn = index + 1;
        Some(taken)
    }

    /// Retires the channel that was lent out, if its exchange was closed.
    fn retire_closed(&mut self) {
        if let Some(channel) = self.lent.take()
            && self.table.get(channel).is_some_and(SeqEx::is_closed)
        {
            self.retire(channel);
        }
    }

    fn retire(&mut self, channel: ChannelId) -> Option<SeqEx<S, R>> {
        let exchange = self.table.retire(channel)?;
        self.opened.retain(|&opened| opened != channel);
        Some(exchange)
    }
}
