//! The values an exchange hands to its user.

use alloc::vec::Vec;
use core::time::Duration;

use crate::{Order, SeqNo, Timestamp, send_window::Taker};

/// The right, and the duty, to answer one delivered packet.
///
/// [`SeqEx::reply`](crate::SeqEx::reply) and [`SeqEx::acknowledge`](crate::SeqEx::acknowledge) use it
/// up, so answering twice does not compile. Dropped without either, its packet stays unanswered and
/// keeps its room (and an ordered one its critical section) until
/// [`SeqEx::abandon`](crate::SeqEx::abandon) is called with its number; nothing else is affected.
///
/// A token belongs to the exchange that made it. Another exchange refuses it, unless it happens to
/// wait for an answer to a packet of the same number.
///
/// ```compile_fail
/// # use seqex::{SeqEx, Token};
/// fn twice(exchange: &mut SeqEx<u32>, token: Token) {
///     exchange.acknowledge(token);
///     exchange.acknowledge(token); // use of moved value
/// }
/// ```
#[must_use = "a delivered packet must be answered by `reply` or `acknowledge`"]
#[derive(Debug, PartialEq, Eq)]
pub struct Token {
    pub(crate) seq: SeqNo,
    pub(crate) order: Order,
    pub(crate) taker: Taker,
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
///
/// `T` is what a packet is answered with: a [`Token`] of the core, or a guard of the faces.
#[derive(Debug, PartialEq, Eq)]
pub enum Delivery<S, R, T = Token> {
    /// A packet of ours was answered without a reply.
    Acknowledged {
        /// Its number, as [`SeqEx::send`](crate::SeqEx::send) or [`SeqEx::reply`](crate::SeqEx::reply) returned it.
        seq: SeqNo,
        /// The very data it carried.
        data: S,
    },
    /// A packet of the peer that answers none of ours.
    Payload {
        /// To answer it with.
        token: T,
        /// What it carries.
        data: R,
    },
    /// A packet of the peer that answers one of ours. It, too, is to be answered.
    Reply {
        /// To answer it with.
        token: T,
        /// What it carries.
        data: R,
        /// The number of our packet.
        sent_seq: SeqNo,
        /// The very data our packet carried.
        sent: S,
    },
}

/// The answer to a packet of ours that was [claimed](crate::SeqEx::claim).
///
/// `T` is what a reply is answered with: a [`Token`] of the core, or a guard of the faces.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer<S, R, T = Token> {
    /// It was acknowledged.
    Acknowledged {
        /// The number of our packet.
        sent_seq: SeqNo,
        /// The very data our packet carried.
        sent: S,
    },
    /// It was replied to. The reply is to be answered in turn.
    Reply {
        /// To answer the reply with.
        token: T,
        /// What the reply carries.
        data: R,
        /// The number of our packet.
        sent_seq: SeqNo,
        /// The very data our packet carried.
        sent: S,
    },
}

/// What became of a packet given to [`SeqEx::receive`](crate::SeqEx::receive).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received<R> {
    /// It was not stored; its data is given back.
    Dropped {
        /// Why.
        reason: DropReason,
        /// What it carried.
        data: R,
    },
    /// It was stored, or it was an acknowledgement.
    Taken,
}

/// Why a packet was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// The exchange is closed.
    Closed,
    /// It came before, and is acknowledged again if its sender may be waiting for that. Natural on any lossy link.
    Duplicate,
    /// Its number is outside the window. A peer that keeps to the agreed capacity causes this only by
    /// a duplicate that was under way for very long.
    OutsideWindow,
    /// It replies to a packet that is not waiting for an answer. A correct peer never causes this.
    Unmatched,
}

impl DropReason {
    /// Whether a correct peer and a bad link alone can cause it.
    pub fn natural(self) -> bool {
        !matches!(self, Self::Unmatched)
    }
}

/// What congestion control wants to know. A transmission counts as in flight until one of
/// `Acked`, `Held`, `Lost` and `TimedOut` says that it no longer does, or until it is
/// [entrusted](crate::SeqEx::entrust) to somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A packet was answered.
    Acked {
        /// Which one.
        seq: SeqNo,
        /// When it was transmitted the last time.
        sent_at: Timestamp,
        /// The measured round trip, the peer's application included; `None` if it was transmitted
        /// more than once (Karn's rule) or held.
        rtt: Option<Duration>,
        /// How many times it was transmitted.
        transmissions: u32,
        /// Whether it counted as in flight until now.
        in_flight: bool,
    },
    /// A packet arrived, and its answer is still to come.
    Held {
        /// Which one.
        seq: SeqNo,
        /// When it was transmitted the last time.
        sent_at: Timestamp,
    },
    /// A transmission that was told to be [`Lost`](Self::Lost) was not: its packet was heard of before it was transmitted again,
    /// or sooner after that than an answer can come. What congestion control has concluded from it was wrong (as in RFC
    /// 4015). Comes before the event that tells what was heard, and changes nothing about what is in flight.
    Late {
        /// Of which packet.
        seq: SeqNo,
        /// When that transmission was made.
        sent_at: Timestamp,
        /// How long the packet had been transmitted again, if it had: less than the shortest round trip that this exchange
        /// has measured. Who has measured a shorter one elsewhere on the same path can tell better.
        resent_for: Option<Duration>,
    },
    /// A transmission is taken for lost. The packet waits in [`SeqEx::poll_resend`](crate::SeqEx::poll_resend).
    Lost {
        /// Which one.
        seq: SeqNo,
        /// When it was transmitted the last time.
        sent_at: Timestamp,
    },
    /// Nothing was heard for a whole time-out. Its oldest packet waits in
    /// [`SeqEx::poll_resend`](crate::SeqEx::poll_resend) to probe the path; by itself this is no sign
    /// of congestion, for the peer's application may just be slow.
    TimedOut {
        /// Which one.
        seq: SeqNo,
        /// When it was transmitted the last time.
        sent_at: Timestamp,
    },
}

/// What [`SeqEx::close`](crate::SeqEx::close) hands back.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the packets in here were not delivered, or nobody knows whether they were"]
pub struct Remains<S, R> {
    /// What was sent and not answered, oldest first. Whether the peer got it is unknown.
    pub unanswered: Vec<(SeqNo, S)>,
    /// What was acknowledged and not yet drained.
    pub acknowledged: Vec<(SeqNo, S)>,
    /// What had arrived and was not yet delivered, in sequence; replies with what they reply to.
    pub undelivered: Vec<(R, Option<(SeqNo, S)>)>,
}

/// Why a packet cannot be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The exchange is closed.
    #[error("the exchange is closed")]
    Closed,
    /// The local application holds packets it has not answered, or has not drained its deliveries.
    #[error("the local application holds unanswered packets")]
    LocalUnanswered,
    /// The remote has not answered enough of what was sent.
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

/// The peer left a packet unanswered and was silent for the whole of
/// [`Config::give_up_after`](crate::Config::give_up_after).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("packet {seq} was not answered, and the peer is silent")]
pub struct GaveUp {
    /// The oldest packet without an answer.
    pub seq: SeqNo,
    /// When it was sent.
    pub since: Timestamp,
}
