//! The exchange itself.

use alloc::vec::Vec;
use core::{marker::PhantomData, time::Duration};

use crate::{Ack, Config, Message, Order, Packet, SeqNo, Timestamp};

/// The right, and the duty, to answer one delivered packet.
///
/// It is used up by [`SeqEx::reply`] or [`SeqEx::acknowledge`], so answering twice does not compile.
/// Dropped without either, its packet stays unanswered and keeps its room until [`SeqEx::abandon`]
/// is called with its number.
#[must_use = "a delivered packet must be answered by `reply` or `acknowledge`"]
#[derive(Debug, PartialEq, Eq)]
pub struct Token {
    seq: SeqNo,
    order: Order,
}

impl Token {
    /// The number of the packet this token answers, in the peer's sequence.
    pub fn seq(&self) -> SeqNo {
        self.seq
    }

    /// Whether the packet is an ordered one, whose critical section lasts until it is answered or released.
    pub fn order(&self) -> Order {
        self.order
    }
}

/// What comes out of an exchange for the user. Each packet comes out exactly once.
#[derive(Debug, PartialEq, Eq)]
pub enum Delivery<S, R> {
    /// A packet of ours was answered without a reply.
    Acknowledged {
        /// Its number, as [`SeqEx::send`] returned it.
        seq: SeqNo,
        /// The data it carried.
        data: S,
    },
    /// A packet of the peer that answers none of ours.
    Payload {
        /// To answer it with.
        token: Token,
        /// What it carries.
        data: R,
    },
    /// A packet of the peer that answers one of ours. It, too, is to be answered.
    Reply {
        /// To answer it with.
        token: Token,
        /// What it carries.
        data: R,
        /// The number of our packet.
        sent_seq: SeqNo,
        /// The data our packet carried.
        sent: S,
    },
}

/// What congestion control wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A packet was answered for the first time.
    Acked {
        /// Which one.
        seq: SeqNo,
        /// When it was transmitted the last time.
        sent_at: Timestamp,
        /// The measured round trip; `None` if it was sent more than once (Karn's rule).
        rtt: Option<Duration>,
        /// How many times it was transmitted.
        transmissions: u32,
    },
    /// A transmission is taken for lost; the packet waits in [`SeqEx::poll_resend`].
    Lost {
        /// Which one.
        seq: SeqNo,
        /// When it was transmitted the last time.
        sent_at: Timestamp,
    },
    /// Nothing was heard for a whole time-out. The oldest packet waits in [`SeqEx::poll_resend`] as a probe.
    TimedOut,
}

/// Why a packet cannot be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The exchange is closed.
    #[error("the exchange is closed")]
    Closed,
    /// The local application holds packets it has not answered or deliveries it has not taken.
    #[error("the local application holds unanswered packets")]
    LocalUnanswered,
    /// The remote has not acknowledged enough of what was sent.
    #[error("the remote has not acknowledged earlier packets")]
    RemoteBehind,
}

/// A refused packet, given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refused<S> {
    /// Why.
    pub reason: Refusal,
    /// The data that was to be sent.
    pub data: S,
}

/// A reply to a packet that is not open for answers: it was abandoned, or the exchange is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the packet is not open for an answer")]
pub struct NotOpen<S> {
    /// The data that was to be sent.
    pub data: S,
}

/// The peer did not answer a packet for the whole of [`Config::give_up_after`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("packet {seq} was not answered for too long")]
pub struct GaveUp {
    /// The oldest packet without an answer.
    pub seq: SeqNo,
    /// When it was transmitted first.
    pub since: Timestamp,
}

/// One end of an exchange. `S` is what it sends, `R` what it receives.
#[derive(Debug)]
pub struct SeqEx<S, R = S>(PhantomData<(S, R)>);

#[allow(unused_variables)]
impl<S, R> SeqEx<S, R> {
    /// A fresh exchange; the other end needs the same capacity and first sequence number.
    pub fn new(config: Config) -> Self {
        Self(PhantomData)
    }

    // Look.

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called, if ever. O(1).
    pub fn next_deadline(&self) -> Option<Timestamp> {
        None
    }

    /// Whether, and why not, [`send`](Self::send) would accept a packet.
    ///
    /// # Errors
    /// The reason that `send` would give.
    pub fn can_send(&self) -> Result<(), Refusal> {
        Ok(())
    }

    /// How many packets `send` would accept one after the other.
    pub fn room(&self) -> u32 {
        0
    }

    /// Packets transmitted, neither answered nor taken for lost.
    pub fn in_flight(&self) -> u32 {
        0
    }

    /// Packets sent and not answered, transmitted or not.
    pub fn unanswered(&self) -> u32 {
        0
    }

    /// Whether the peer has answered everything, and we have answered everything of the peer.
    pub fn is_idle(&self) -> bool {
        true
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        false
    }

    /// The data of a packet that was sent and is not answered.
    pub fn sent(&self, seq: SeqNo) -> Option<&S> {
        None
    }

    /// Set once the peer has been silent for [`Config::give_up_after`].
    pub fn failure(&self) -> Option<GaveUp> {
        None
    }

    /// The smoothed round trip, after the first measurement.
    pub fn smoothed_rtt(&self) -> Option<Duration> {
        None
    }

    /// The mean deviation of the round trip, after the first measurement.
    pub fn rtt_variation(&self) -> Option<Duration> {
        None
    }

    /// The shortest round trip seen.
    pub fn min_rtt(&self) -> Option<Duration> {
        None
    }

    /// The present resend time-out, back-off included.
    pub fn resend_timeout(&self) -> Duration {
        Duration::ZERO
    }

    // Feed.

    /// Takes a packet of the peer. Anything unfitting is dropped; nothing a peer sends can panic.
    pub fn receive(&mut self, now: Timestamp, packet: Packet<R>) {}

    /// Lets time pass. Calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Timestamp) {}

    // Command.

    /// Sends `data`, to be drained by [`poll_fresh`](Self::poll_fresh) or [`poll_transmit`](Self::poll_transmit).
    ///
    /// # Errors
    /// [`Refused`], with the data, when there is no room now; after the next delivery or `acknowledge` there may be.
    pub fn send(&mut self, now: Timestamp, order: Order, data: S) -> Result<SeqNo, Refused<S>> {
        Err(Refused { reason: Refusal::Closed, data })
    }

    /// Answers a delivered packet with data. There is always room for it.
    ///
    /// # Errors
    /// [`NotOpen`], with the data, after [`abandon`](Self::abandon) or [`close`](Self::close).
    pub fn reply(
        &mut self,
        now: Timestamp,
        token: Token,
        order: Order,
        data: S,
    ) -> Result<SeqNo, NotOpen<S>> {
        Err(NotOpen { data })
    }

    /// Answers a delivered packet without data.
    pub fn acknowledge(&mut self, token: Token) {}

    /// Ends the critical section of an ordered packet; its answer may come later.
    pub fn release(&mut self, token: &Token) {}

    /// Acknowledges a packet whose token was lost. Returns whether it was open.
    pub fn abandon(&mut self, seq: SeqNo) -> bool {
        false
    }

    /// Ends the exchange for good and hands back what was sent and not answered, oldest first.
    pub fn close(&mut self) -> Vec<(SeqNo, S)> {
        Vec::new()
    }

    // Drain.

    /// What the user must see next.
    pub fn poll_deliver(&mut self) -> Option<Delivery<S, R>> {
        None
    }

    /// Everything there is to transmit: acknowledgements, then resends, then fresh packets.
    pub fn poll_transmit(&mut self, now: Timestamp) -> Option<Packet<&S>> {
        None
    }

    /// Acknowledgements to transmit, as many as possible in each run. Not subject to congestion control.
    pub fn poll_acks(&mut self) -> Option<Ack> {
        None
    }

    /// A packet to transmit again.
    pub fn poll_resend(&mut self, now: Timestamp) -> Option<Message<&S>> {
        None
    }

    /// A packet to transmit for the first time.
    pub fn poll_fresh(&mut self, now: Timestamp) -> Option<Message<&S>> {
        None
    }

    /// What congestion control wants to know, if [`Config::feedback`] collects it.
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }
}
