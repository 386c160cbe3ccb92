//! Which channels are open, and the rules by which they open, whatever stands for an exchange.

use alloc::{collections::BTreeSet, vec::Vec};

use crate::{ChannelLimits, OpenError, Packet, encoding::ChannelId};

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
    /// How many of them the peer opened.
    of_peer: usize,
    /// Channels that were closed; 65536 at most.
    retired: BTreeSet<ChannelId>,
}

impl<E> Table<E> {
    pub(crate) fn new(limits: ChannelLimits) -> Self {
        Self { limits, open: Vec::new(), of_peer: 0, retired: BTreeSet::new() }
    }

    /// Whether a channel may be opened, and where it goes.
    pub(crate) fn admit(&self, channel: ChannelId, origin: Origin) -> Result<Admitted, OpenError> {
        let Err(index) = self.find(channel) else { return Err(OpenError::Open) };
        if self.retired.contains(&channel) {
            Err(OpenError::Retired)
        } else if self.open.len() >= self.limits.channels
            || origin == Origin::Peer && self.of_peer >= self.limits.opened_by_peer
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
        match (packet, self.admit(channel, Origin::Peer)) {
            (Packet::Ack(_), Ok(_) | Err(OpenError::Full)) => Err(OpenError::NeverOpened),
            (_, admitted) => admitted,
        }
    }

    /// Opens a channel that was admitted just now.
    pub(crate) fn insert(&mut self, Admitted { index, channel, origin }: Admitted, exchange: E) -> &mut E {
        self.of_peer += usize::from(origin == Origin::Peer);
        self.open.insert(index, Entry { channel, origin, exchange });
        &mut self.open[index].exchange
    }

    /// Takes out a channel and never opens it again.
    pub(crate) fn retire(&mut self, channel: ChannelId) -> Option<E> {
        let index = self.find(channel).ok()?;
        self.retired.insert(channel);
        let Entry { origin, exchange, .. } = self.open.remove(index);
        self.of_peer -= usize::from(origin == Origin::Peer);
        Some(exchange)
    }

    pub(crate) fn get(&self, channel: ChannelId) -> Option<&E> {
        Some(&self.open[self.find(channel).ok()?].exchange)
    }

    pub(crate) fn get_mut(&mut self, channel: ChannelId) -> Option<&mut E> {
        let index = self.find(channel).ok()?;
        Some(&mut self.open[index].exchange)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ChannelId, &E)> {
        self.open.iter().map(|entry| (entry.channel, &entry.exchange))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (ChannelId, &mut E)> {
        self.open.iter_mut().map(|entry| (entry.channel, &mut entry.exchange))
    }

    /// What the first channel that has something gives, counted from `start` and around, and the index of that channel.
    pub(crate) fn first_from<T>(
        &mut self,
        start: usize,
        mut take: impl FnMut(&mut E) -> Option<T>,
    ) -> Option<(usize, (ChannelId, T))> {
        let count = self.open.len();
        (0..count).map(|offset| (start + offset) % count).find_map(|index| {
            let Entry { channel, exchange, .. } = &mut self.open[index];
            Some((index, (*channel, take(exchange)?)))
        })
    }

    fn find(&self, channel: ChannelId) -> Result<usize, usize> {
        self.open.binary_search_by_key(&channel, |entry| entry.channel)
    }
}
