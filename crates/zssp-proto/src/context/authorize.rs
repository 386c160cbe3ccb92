use std::sync::Arc;
use std::time::Instant;

use super::handshake::{Handshake, Work};
use super::pending::{AwaitCompletion, Pending};
use super::{Context, Inner};
use crate::address::Address;
use crate::identity::PublicKey;
use crate::policy::{Policy, Rejection};
use crate::ratchet::PeerName;
use crate::suite::Suite;
use crate::zke::xk;

/// A peer that has proven its static key and wants a session: the application's decision, to be made when it likes.
///
/// The peer waits ten seconds before it starts over; an answer after that leads nowhere. Dropping the value, like
/// [`ignore`](Self::ignore), leaves the peer without an answer.
///
/// It holds the handshake and the peer's identity, up to 8 KiB, for as long as it lives, even if the handshake had to make
/// room for others meanwhile and [`Limits::pending_bytes`](super::Limits::pending_bytes) does not count it any more. Do
/// not keep more of them than you would keep handshakes.
#[must_use = "dropping it ignores the peer"]
pub struct Authorize {
    inner: Arc<Inner>,
    request: Box<Request>,
}

/// What an answer needs.
pub(super) struct Request {
    pub(super) pending: Arc<Pending>,
    pub(super) state: Box<AwaitCompletion>,
    pub(super) completion: xk::Completion,
    /// Where X3 came from.
    pub(super) from: Address,
}

/// What the application decided.
pub(super) enum Decision {
    Accept { name: PeerName, policy: Option<Policy> },
    Refuse(Option<Rejection>),
}

impl Authorize {
    pub(super) fn new(inner: Arc<Inner>, request: Request) -> Self {
        Self { inner, request: Box::new(request) }
    }

    /// The peer's static key. That the peer holds its secret half is proven.
    pub fn peer_key(&self) -> PublicKey {
        self.request.completion.initiator
    }

    /// What the peer says about itself: anything it likes, up to 4096 bytes.
    pub fn identity(&self) -> &[u8] {
        &self.request.completion.identity
    }

    /// Where its hello came from, and was answered.
    pub fn address(&self) -> Address {
        self.request.state.address
    }

    /// Whether the peer still waits, as far as this side can know: an answer leads nowhere once ten seconds have passed, or
    /// the handshake had to make room for others.
    pub fn is_waiting(&self, now: Instant) -> bool {
        !self.request.pending.is_over(now)
    }

    /// What it opened with.
    pub fn suite(&self) -> Suite {
        self.request.state.suite
    }

    //= ZSSP-ONE-01  the application says who a peer is
    /// Accepts the session. `name` is the peer as this application knows it, under which its ratchet is stored:
    /// usually its key.
    ///
    /// Run the handshake that this returns: it checks and writes the ratchet and confirms the session to the peer. Only
    /// there is the ratchet of that name known, so a peer that is welcome may get nothing all the same: the ratchet state
    /// that it used is not one of that name, both sides opened at once, the context has as many sessions as its limits
    /// allow, or an attempt of this side that was cut off is not settled yet. The
    /// [`Fault`](crate::Fault) that the handshake returns says which; there is no event, and the peer tries again by
    /// itself.
    pub fn accept(self, name: impl Into<PeerName>) -> Handshake {
        self.decide(Decision::Accept { name: name.into(), policy: None })
    }

    /// [`accept`](Self::accept)s the session with security flags for this peer, of which flags 3 and 4 are the
    /// responder's.
    //= ZSSP-FLG-06  per peer, for the responder
    pub fn accept_with(self, name: impl Into<PeerName>, policy: Policy) -> Handshake {
        self.decide(Decision::Accept { name: name.into(), policy: Some(policy) })
    }

    /// Refuses the session and tells the peer so, in an authenticated packet; unless the context's policy rejects
    /// silently.
    pub fn refuse(self) -> Handshake {
        self.decide(Decision::Refuse(None))
    }

    /// [`refuse`](Self::refuse)s the session aloud or silently, whatever the context's policy says.
    //= ZSSP-FLG-06  per peer, for one that is refused
    pub fn refuse_with(self, rejection: Rejection) -> Handshake {
        self.decide(Decision::Refuse(Some(rejection)))
    }

    /// Leaves the peer without an answer.
    pub fn ignore(self) {
        drop(self);
    }

    fn decide(self, decision: Decision) -> Handshake {
        Handshake { context: Context(self.inner), work: Work::Decide { request: self.request, decision } }
    }
}

impl core::fmt::Debug for Authorize {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Authorize")
            .field("peer_key", &self.peer_key())
            .field("address", &self.address())
            .field("suite", &self.suite())
            .finish_non_exhaustive()
    }
}
