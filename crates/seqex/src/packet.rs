//! The packets of PROTOCOL 8.1, as values.

use crate::SeqNo;

/// Whether a packet waits for those sent before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Order {
    /// Delivered after every packet sent before it, of either kind, and processed in a critical
    /// section: the next ordered packet is handed out once this one's token is answered or released.
    /// PROTOCOL calls this `SeqCst`.
    Ordered,
    /// Delivered as soon as it arrives; it may overtake and be overtaken.
    Unordered,
}

/// A packet that carries data and asks for an answer.
///
/// With `reply_to` it is PROTOCOL's `Reply` or `SeqCstReply`, without it `Payload` or `SeqCstPayload`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Message<D> {
    /// Its place in the sender's sequence.
    pub seq: SeqNo,
    /// What it answers, in the receiver's sequence.
    pub reply_to: Option<SeqNo>,
    /// Whether it waits for those sent before it.
    pub order: Order,
    /// The user's data.
    pub data: D,
}

impl<D> Message<D> {
    /// The same message with other data, for instance what an encoding makes of it.
    pub fn map<E>(self, change: impl FnOnce(D) -> E) -> Message<E> {
        let Self { seq, reply_to, order, data } = self;
        Message { seq, reply_to, order, data: change(data) }
    }
}

/// What [`Ack`] says about its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum AckKind {
    /// They were answered, without a reply: PROTOCOL's `Ack`, for each of them.
    Answered,
    /// They arrived and their answers are still to be made or transmitted. A hint that saves resending; losing or
    /// ignoring it is harmless, and a foreign encoding need not carry it.
    Holding,
}

/// A run of consecutive packets of the peer that were answered, or are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Ack {
    /// What happened to them.
    pub kind: AckKind,
    /// The first of them.
    pub first: SeqNo,
    /// How many they are, at least one.
    pub count: u32,
}

//= ZSSP-SEQ-02  what goes from one end to the other
/// Anything that goes from one exchange to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Packet<D> {
    /// Acknowledgements.
    Ack(Ack),
    /// A payload or a reply.
    Message(Message<D>),
}

impl<D> Packet<D> {
    /// The same packet with other data, if it has any.
    ///
    /// ```
    /// # use seqex::{Config, Order, Packet, SeqEx};
    /// # let now = core::time::Duration::ZERO;
    /// # let mut exchange: SeqEx<String> = SeqEx::new(Config::default());
    /// # exchange.send(now, Order::Unordered, String::from("hello"))?;
    /// let packet: Option<Packet<&String>> = exchange.poll_transmit(now);
    /// let packet: Option<Packet<Vec<u8>>> = packet.map(|packet| packet.map(|data| data.as_bytes().to_vec()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn map<E>(self, change: impl FnOnce(D) -> E) -> Packet<E> {
        match self {
            Self::Ack(ack) => Packet::Ack(ack),
            Self::Message(message) => Packet::Message(message.map(change)),
        }
    }
}
