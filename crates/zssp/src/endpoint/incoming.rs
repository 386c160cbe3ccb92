//! A peer at the door.

use std::net::SocketAddr;
use std::sync::Arc;

use zssp_proto::{Authorize, Fault, Handshake, PeerName, Policy, PublicKey, Rejection, Suite};

use super::{Hold, Shared};
use crate::connection::Connection;
use crate::error::ConnectError;

/// A peer that wants to connect and has proven its key: the application's decision.
///
/// The peer waits ten seconds before it starts over; an answer after that leads nowhere. Dropping this ignores the
/// peer, which then keeps trying until its own time is up: refuse those whom you do not want.
///
/// ```
/// # async fn example(endpoint: zssp::Endpoint, friends: Vec<zssp::PublicKey>) {
/// while let Some(incoming) = endpoint.accept().await {
///     if !friends.contains(&incoming.peer_key()) {
///         incoming.refuse();
///         continue;
///     }
///     tokio::spawn(async move {
///         let Ok(connection) = incoming.accept().await else { return };
///         let Ok(channel) = connection.channel(0) else { return };
///         while let Some(message) = channel.receive().await {
///             let echo = message.data().clone();
///             let _ = message.reply(echo);
///         }
///     });
/// }
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping it ignores the peer"]
pub struct Incoming {
    peer: Authorize,
    endpoint: Arc<Shared>,
}

impl Incoming {
    pub(super) fn new(peer: Authorize, endpoint: Arc<Shared>) -> Self {
        Self { peer, endpoint }
    }

    /// The peer's static key. That it holds the secret half is proven.
    pub fn peer_key(&self) -> PublicKey {
        self.peer.peer_key()
    }

    /// What the peer says about itself, whatever that is worth: up to 4096 bytes.
    pub fn identity(&self) -> &[u8] {
        self.peer.identity()
    }

    /// Where its first packet came from. Whoever saw that one on its way may have sent it on from elsewhere.
    pub fn remote_address(&self) -> SocketAddr {
        // The endpoint hands only socket addresses to the context.
        self.peer.address().socket_addr().unwrap_or_else(|| SocketAddr::from(([0; 4], 0)))
    }

    /// The cryptography it wants to use.
    pub fn suite(&self) -> Suite {
        self.peer.suite()
    }

    /// Accepts the peer, known by its key. There is one connection per peer: this ends the one before it.
    ///
    /// # Errors
    /// - [`ConnectError::EndpointClosed`];
    /// - [`ConnectError::DowngradeRefused`] when the policy refuses a peer that has lost its ratchet;
    /// - [`ConnectError::Replaced`] when another connection with the peer lives: one that this side opened at the same time, or
    ///   one that the peer opened again meanwhile;
    /// - [`ConnectError::OtherName`] when the peer's ratchet is that of another name;
    /// - [`ConnectError::TooManySessions`] when there are as many as the [limits](crate::Limits) allow;
    /// - [`ConnectError::Local`] when the cryptographic library failed;
    /// - [`ConnectError::Unsettled`] when an attempt of this side that was cut off may still come to its end;
    /// - [`ConnectError::Store`] when the ratchet store failed;
    /// - [`ConnectError::TooLate`] when the decision came too late.
    ///
    /// After the last three the peer, which repeats its packets, comes as another [`Incoming`] if it still waits.
    ///
    /// # Cancel safety
    /// Dropped before its turn on the handshake pool has come, the peer is ignored; dropped later, the connection is
    /// closed as soon as it is there.
    pub async fn accept(self) -> Result<Connection, ConnectError> {
        let name = PeerName::from(self.peer_key());
        self.accept_as(name).await
    }

    /// Accepts the peer under a name of the application's own, where its key alone does not say who it is: one machine
    /// that is several peers, told apart by their [`identity`](Self::identity).
    ///
    /// There is one connection per name: accepting this one ends the one before it. The peer's ratchet is stored under
    /// the name, too.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    ///
    /// # Cancel safety
    /// As [`accept`](Self::accept).
    pub async fn accept_as(self, name: PeerName) -> Result<Connection, ConnectError> {
        self.decide(|peer| peer.accept(name)).await
    }

    /// Accepts the peer under a name, as [`accept_as`](Self::accept_as) does, with a policy for this one peer in place of
    /// the endpoint's. Whether it must know a ratchet to be answered at all ([`Policy::hellos`]) was decided before.
    ///
    /// ```
    /// # async fn example(incoming: zssp::Incoming, trusted: Vec<zssp::PublicKey>) -> Result<(), zssp::ConnectError> {
    /// use zssp::{PeerName, Policy};
    ///
    /// let key = incoming.peer_key();
    /// let policy = if trusted.contains(&key) { Policy::PERSISTENT } else { Policy::OPPORTUNISTIC };
    /// let connection = incoming.accept_with(PeerName::from(key), policy).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    ///
    /// # Cancel safety
    /// As [`accept`](Self::accept).
    pub async fn accept_with(self, name: PeerName, policy: Policy) -> Result<Connection, ConnectError> {
        self.decide(|peer| peer.accept_with(name, policy)).await
    }

    async fn decide(self, accept: impl FnOnce(Authorize) -> Handshake) -> Result<Connection, ConnectError> {
        let Self { peer, endpoint } = self;
        if endpoint.book.lock().is_closed() {
            return Err(ConnectError::EndpointClosed);
        }
        // An accepted peer has a connection or there is an error that says why not.
        endpoint.submit(accept(peer)).await?.ok_or(ConnectError::TooLate)
    }

    /// Refuses the peer and tells it so, in an authenticated packet; unless the endpoint's policy rejects silently. An
    /// endpoint that is closed after that still tells it.
    pub fn refuse(self) {
        let Self { peer, endpoint } = self;
        send_refusal(&endpoint, peer.refuse());
    }

    /// [`refuse`](Self::refuse)s the peer aloud or silently, whatever the endpoint's policy says.
    pub fn refuse_with(self, rejection: Rejection) {
        let Self { peer, endpoint } = self;
        send_refusal(&endpoint, peer.refuse_with(rejection));
    }

    /// Leaves the peer without an answer, like dropping this does.
    pub fn ignore(self) {
        self.peer.ignore();
    }
}

/// Sends what refuses a peer when its turn comes, whoever waits.
fn send_refusal(endpoint: &Arc<Shared>, refusal: Handshake) {
    endpoint.book.lock().refuse();
    let refusing = Refusing(endpoint.hold());
    endpoint.runtime.spawn(async move { drop(refusing.0.submit(refusal).await) });
}

/// A peer that is yet to be told that it is refused: an endpoint that closes waits for that.
struct Refusing(Hold);

impl Drop for Refusing {
    fn drop(&mut self) {
        let is_over = {
            let mut book = self.0.book.lock();
            book.refused();
            book.is_over()
        };
        if is_over {
            self.0.halt();
        }
    }
}

/// Why there is no connection with a peer that was accepted.
pub(super) fn explain(fault: Fault) -> ConnectError {
    match fault {
        Fault::RatchetMismatch => ConnectError::OtherName,
        Fault::TooManySessions => ConnectError::TooManySessions,
        Fault::Provider => ConnectError::Local(fault.to_string().into()),
        Fault::Superseded => ConnectError::Replaced,
        Fault::Unsettled => ConnectError::Unsettled,
        // What else a decision can end in: its handshake is over.
        _ => ConnectError::TooLate,
    }
}
