//! Several exchanges side by side on one link, told apart by channel ids.

use alloc::{
    collections::{BTreeSet, VecDeque},
    vec::Vec,
};

use crate::{Config, Delivery, Packet, Received, Remains, SeqEx, Timestamp, encoding::ChannelId};

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
}

impl<S, R> Channels<S, R> {
    /// No channels yet. All will have this configuration, which both ends must share as those of a single exchange do.
    pub fn new(config: Config, limits: ChannelLimits) -> Self {
        Self { config, table: Table::new(limits), opened: VecDeque::new() }
    }

    /// Opens a channel. One whose exchange was closed gives up its place, but not its id.
    ///
    /// # Errors
    /// [`OpenError`]; among others when the peer was faster, and then the channel is there.
    pub fn open(&mut self, channel: ChannelId) -> Result<&mut SeqEx<S, R>, OpenError> {
        self.table.retire_where(SeqEx::is_closed);
        let place = self.table.admit(channel, Origin::Local)?;
        Ok(self.table.insert(place, SeqEx::new(self.config)))
    }

    /// The exchange of an open channel.
    pub fn get(&self, channel: ChannelId) -> Option<&SeqEx<S, R>> {
        self.table.get(channel)
    }

    /// The exchange of an open channel.
    pub fn get_mut(&mut self, channel: ChannelId) -> Option<&mut SeqEx<S, R>> {
        self.table.get_mut(channel)
    }

    /// Closes a channel for good; its id cannot be opened again. `None` if it is not open.
    pub fn close(&mut self, channel: ChannelId) -> Option<Remains<S, R>> {
        let mut exchange = self.table.retire(channel)?;
        self.opened.retain(|&opened| opened != channel);
        Some(exchange.close())
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
        if self.table.get(channel).is_none() {
            self.table.retire_where(SeqEx::is_closed);
            match self.table.admit_peer(channel, &packet) {
                Ok(place) => {
                    self.table.insert(place, SeqEx::new(self.config));
                    self.opened.push_back(channel);
                }
                Err(reason) => return Err(Unopened { reason, packet }),
            }
        }
        match self.table.get_mut(channel) {
            Some(exchange) => Ok(exchange.receive(now, packet)),
            None => Err(Unopened { reason: OpenError::Full, packet }),
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

    /// The next channel that the peer opened.
    pub fn poll_opened(&mut self) -> Option<ChannelId> {
        self.opened.pop_front()
    }

    /// What the user must see next. Channels take turns.
    pub fn poll_deliver(&mut self) -> Option<(ChannelId, Delivery<S, R>)> {
        let (channel, exchange) = self.table.in_turn(|exchange| exchange.can_deliver())?;
        Some((channel, exchange.poll_deliver()?))
    }

    /// What there is to transmit. Channels take turns.
    pub fn poll_transmit(&mut self, now: Timestamp) -> Option<(ChannelId, Packet<&S>)> {
        let (channel, exchange) = self.table.in_turn(SeqEx::can_transmit)?;
        Some((channel, exchange.poll_transmit(now)?))
    }
}

/// Who opened a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Local,
    Peer,
}

/// Where a channel that may be opened goes.
#[derive(Debug)]
pub(crate) struct Admitted {
    index: usize,
    channel: ChannelId,
    origin: Origin,
}

#[derive(Debug)]
struct Entry<E> {
    channel: ChannelId,
    origin: Origin,
    exchange: E,
}

/// The open channels and the rules by which they open, whatever stands for an exchange.
#[derive(Debug)]
pub(crate) struct Table<E> {
    limits: ChannelLimits,
    /// Ascending by channel.
    open: Vec<Entry<E>>,
    /// Channels that were closed; 65536 at most.
    retired: BTreeSet<ChannelId>,
    /// Where the next turn begins.
    turn: usize,
}

impl<E> Table<E> {
    pub(crate) fn new(limits: ChannelLimits) -> Self {
        Self { limits, open: Vec::new(), retired: BTreeSet::new(), turn: 0 }
    }

    /// Whether a channel may be opened, and where it goes.
    pub(crate) fn admit(&self, channel: ChannelId, origin: Origin) -> Result<Admitted, OpenError> {
        let Err(index) = self.find(channel) else { return Err(OpenError::Open) };
        let of_peer = self.open.iter().filter(|entry| entry.origin == Origin::Peer).count();
        if self.retired.contains(&channel) {
            Err(OpenError::Retired)
        } else if self.open.len() >= self.limits.channels
            || origin == Origin::Peer && of_peer >= self.limits.opened_by_peer
        {
            Err(OpenError::Full)
        } else {
            Ok(Admitted { index, channel, origin })
        }
    }

    /// Whether this packet of the peer may open its channel. An acknowledgement has nothing to do in a new channel.
    pub(crate) fn admit_peer<R>(
        &self,
        channel: ChannelId,
        packet: &Packet<R>,
    ) -> Result<Admitted, OpenError> {
        match packet {
            Packet::Ack(_) => Err(OpenError::Retired),
            Packet::Message(_) => self.admit(channel, Origin::Peer),
        }
    }

    /// Opens a channel that was admitted just now.
    pub(crate) fn insert(&mut self, Admitted { index, channel, origin }: Admitted, exchange: E) -> &mut E {
        self.open.insert(index, Entry { channel, origin, exchange });
        &mut self.open[index].exchange
    }

    /// Takes out a channel and never opens it again.
    pub(crate) fn retire(&mut self, channel: ChannelId) -> Option<E> {
        let index = self.find(channel).ok()?;
        self.retired.insert(channel);
        Some(self.open.remove(index).exchange)
    }

    /// Retires the channels of which this is so, and returns them.
    pub(crate) fn retire_where(&mut self, mut is_so: impl FnMut(&E) -> bool) -> Vec<E> {
        let mut gone = Vec::new();
        while let Some(entry) = self.open.iter().find(|entry| is_so(&entry.exchange)) {
            let channel = entry.channel;
            gone.extend(self.retire(channel));
        }
        gone
    }

    pub(crate) fn get(&self, channel: ChannelId) -> Option<&E> {
        Some(&self.open[self.find(channel).ok()?].exchange)
    }

    fn get_mut(&mut self, channel: ChannelId) -> Option<&mut E> {
        let index = self.find(channel).ok()?;
        Some(&mut self.open[index].exchange)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ChannelId, &E)> {
        self.open.iter().map(|entry| (entry.channel, &entry.exchange))
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = (ChannelId, &mut E)> {
        self.open.iter_mut().map(|entry| (entry.channel, &mut entry.exchange))
    }

    /// The first channel with something to give, counted from the one after the last that this returned.
    pub(crate) fn in_turn(&mut self, mut has: impl FnMut(&mut E) -> bool) -> Option<(ChannelId, &mut E)> {
        let count = self.open.len();
        let candidates = (0..count).map(|offset| (self.turn + offset) % count);
        let index = candidates.into_iter().find(|&index| has(&mut self.open[index].exchange))?;
        self.turn = index + 1;
        let entry = &mut self.open[index];
        Some((entry.channel, &mut entry.exchange))
    }

    fn find(&self, channel: ChannelId) -> Result<usize, usize> {
        self.open.binary_search_by_key(&channel, |entry| entry.channel)
    }
}
