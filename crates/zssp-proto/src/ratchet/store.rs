use core::fmt;
use std::sync::Arc;

use super::{Fingerprint, PeerName, RatchetPair, RatchetState};

/// Where ratchet pairs live, so that they survive the process.
///
/// The protocol calls it while it runs a [`Handshake`](crate::Handshake), with nothing locked: it may block.
/// Every write is one atomic compare-and-swap, and must be durable when it returns. After a crash the pair found
/// must be the old or the new one, never a mixture, never nothing. In the repository, `testing/harness` has what every
/// store is tested with, those that outlive the process by killing it in the middle of everything.
///
/// # Security
/// The keys in here decide whether an attacker who stole a static key can impersonate a peer. Wipe what is
/// read from them, and keep the medium unreadable to others.
pub trait RatchetStore: Send + Sync {
    /// The pair of `peer`, [`RatchetPair::never_met`] when there is none.
    ///
    /// # Errors
    /// When the store could not be read. The handshake is then tried again by the peer's resend.
    fn load(&self, peer: &PeerName) -> Result<RatchetPair, StoreError>;

    /// The state named by `fingerprint`, whosever it is. Never called with the zero fingerprint.
    ///
    /// # Errors
    /// When the store could not be read.
    fn find(&self, fingerprint: &Fingerprint) -> Result<Option<RatchetState>, StoreError>;

    /// Replaces the pair of `peer` by `new`, if what is stored is [`RatchetPair::same`] as `old`.
    ///
    /// # Errors
    /// When the store could not be read or written. Nothing has changed then, unless the medium failed while it made
    /// the change durable: then all of it may be there after all, which the next [`load`](Self::load) tells. The protocol
    /// asks before it writes again, and does not take its own write for a conflict.
    fn compare_and_swap(
        &self,
        peer: &PeerName,
        old: &RatchetPair,
        new: &RatchetPair,
    ) -> Result<Swap, StoreError>;
}

/// The same store, for several contexts, or for those who look at it from outside.
impl<T: RatchetStore + ?Sized> RatchetStore for Arc<T> {
    fn load(&self, peer: &PeerName) -> Result<RatchetPair, StoreError> {
        (**self).load(peer)
    }

    fn find(&self, fingerprint: &Fingerprint) -> Result<Option<RatchetState>, StoreError> {
        (**self).find(fingerprint)
    }

    fn compare_and_swap(
        &self,
        peer: &PeerName,
        old: &RatchetPair,
        new: &RatchetPair,
    ) -> Result<Swap, StoreError> {
        (**self).compare_and_swap(peer, old, new)
    }
}

/// How a compare-and-swap ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swap {
    /// Another session with the peer has written since: this one has lost and ends.
    Conflict,
    /// The new pair is stored.
    Stored,
}

/// The store could not do it. Nothing has changed, but for the one case that
/// [`compare_and_swap`](RatchetStore::compare_and_swap) names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ratchet store: {reason}")]
pub struct StoreError {
    reason: Box<str>,
}

impl StoreError {
    /// A failure with a reason that an operator can act on. It must not contain key material.
    pub fn new(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string().into() }
    }
}
