//! A context: one static key, its sessions, and everything that packets arrive at.
//!
//! The walk of a datagram: [`receive`] finds the state of its key id (*parallel*, no lock), unprotects the header,
//! checks the packet nonce, joins fragments in the thread's own [`Scratch`], and opens payloads in place. Anything
//! else that is whole becomes a [`Handshake`], a value that somebody runs elsewhere (*sequential* per session).
//!
//! [`receive`]: Context::receive

mod authorize;
mod builder;
mod confirm;
mod control;
mod handshake;
mod initiator;
mod inner;
mod load;
mod open;
mod outbox;
mod peers;
mod pending;
mod receive;
mod rekey;
mod responder;
mod routes;
mod scratch;
mod sessions;
mod stats;
mod storage;

use std::sync::Arc;
use std::time::Instant;

pub use authorize::Authorize;
pub use builder::{BuildError, ContextBuilder, Limits};
pub use handshake::{Handshake, Origin};
pub(crate) use inner::Inner;
pub use open::{Open, OpenError};
pub use outbox::{EndReason, Event, Outbox, Transmit};
pub use receive::{Datagram, Received};
pub(crate) use routes::Ingress;
pub use scratch::Scratch;
pub use stats::Stats;
pub(crate) use storage::Doubt;

use crate::crypto::Provider;
use crate::identity::{PublicKey, StaticKey};
use crate::session::SessionId;
use handshake::Work;

/// One static key and all its sessions. A cheap handle: clones are the same context.
///
/// It owns no socket, clock or thread. Datagrams go in through [`receive`](Self::receive), deadlines through
/// [`expired`](Self::expired), and both give [`Handshake`]s to run.
///
/// ```
/// # #[cfg(feature = "aws-lc")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{sync::Arc, time::Instant};
/// use zssp_proto::{Address, Context, LinkAddress, MemoryStore, Open, Outbox, StaticKey, crypto::AwsLc};
///
/// let provider = Arc::new(AwsLc);
/// let (alice, bob) = (StaticKey::generate(&*provider)?, StaticKey::generate(&*provider)?);
/// let bob_key = bob.public();
/// let context = Context::builder(alice, provider).build()?;
///
/// let bob_address = Address::Link(LinkAddress::new(b"bob").ok_or("too long")?);
/// let now = Instant::now();
/// let (id, handshake) = context.open(now, Open::to(bob_key, bob_address))?;
/// let (store, mut outbox) = (MemoryStore::new(), Outbox::default());
/// handshake.run(now, &store, &mut outbox)?;
/// for datagram in outbox.transmits.iter().flat_map(|transmit| transmit.datagrams()) {
///     assert!(datagram.len() <= 1280); // to be sent to `bob_address`
/// }
/// context.close(id);
/// # Ok(()) }
/// # #[cfg(not(feature = "aws-lc"))]
/// # fn main() {}
/// ```
#[derive(Clone)]
pub struct Context(pub(crate) Arc<Inner>);

impl Context {
    /// Settings for a context of the owner of `key`, whose cryptography `provider` does.
    pub fn builder(key: StaticKey, provider: Arc<dyn Provider>) -> ContextBuilder {
        ContextBuilder::new(key, provider)
    }

    /// This side's public key.
    pub fn public_key(&self) -> PublicKey {
        self.0.key.public()
    }

    /// What the context holds for others now, and what it had to drop so far.
    pub fn stats(&self) -> Stats {
        self.0.stats()
    }

    /// Begins to open a session (state A1). The id is the session's from now on; an
    /// [`Event::Established`] brings the handle, or an [`Event::Ended`] says why there is none.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(&self, now: Instant, open: Open) -> Result<(SessionId, Handshake), OpenError> {
        let cell = self.0.open(now, open)?;
        let id = cell.id;
        Ok((id, Handshake { context: self.clone(), work: Work::Timer { cell } }))
    }

    /// Ends a session, or the attempt to open one. The peer is not told: the protocol has no packet for it, so say
    /// goodbye in a payload before.
    ///
    /// Returns the [`Event::Ended`] of the session, for those who handle all events in one place; `None` when it is over
    /// already.
    pub fn close(&self, id: SessionId) -> Option<Event> {
        self.0.close(id)
    }

    /// Agrees with the peer on another key now, instead of after 50 to 60 minutes or when the key's bounds are reached.
    /// Payloads flow meanwhile. `None` when there is no such session; running the handshake leads nowhere when the
    /// session is not open, and adds nothing when it is rekeying already. While the peer has yet to confirm a key, or another
    /// handshake of the session runs, the request waits until that is over: see [`next_deadline`](Self::next_deadline).
    pub fn rekey(&self, id: SessionId) -> Option<Handshake> {
        let cell = self.0.sessions.lock().find(id)?;
        Some(Handshake { context: self.clone(), work: Work::Rekey { cell } })
    }

    /// Says that handshake work had to be dropped because there is too much of it. Hellos are challenged for the next
    /// seconds, if challenges are automatic.
    pub fn report_overload(&self, now: Instant) {
        self.0.load.lock().overloaded(now);
    }

    /// When [`expired`](Self::expired) next has something to do. Changes when handshakes are run: with several threads that
    /// run them, have the one that sleeps until then look again after each.
    //= ZSSP-ST-32  checked against the caller's clock
    pub fn next_deadline(&self) -> Option<Instant> {
        self.0.timers.lock().next_deadline()
    }

    /// The next piece of work whose time has come: resends, attempts to start over, ends. Call it until it returns
    /// `None`. A handshake that is dropped comes back a second later.
    pub fn expired(&self, now: Instant) -> Option<Handshake> {
        let cell = self.0.expired(now)?;
        Some(Handshake { context: self.clone(), work: Work::Timer { cell } })
    }
}

impl core::fmt::Debug for Context {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Context").field("public_key", &self.public_key()).finish_non_exhaustive()
    }
}
