//! The packets of PROTOCOL 8.1, as values.

use crate::SeqNo;

/// Whether a packet waits for those sent before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

/// What [`Ack`] says about its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AckKind {
    /// They were answered, without a reply: PROTOCOL's `Ack`, for each of them.
    Answered,
    /// They arrived and their answers are still to come. A hint that saves resending; losing or
    /// ignoring it is harmless, and a foreign encoding need not carry it.
    Holding,
}

/// A run of consecutive packets of the peer that were answered, or are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
pub enum Packet<D> {
    /// Acknowledgements.
    Ack(Ack),
    /// A payload or a reply.
    Message(Message<D>),
}
