//! The ratchet: what two peers remember of each other between handshakes (PROTOCOL 5.5).

mod memory;
mod password;
mod store;

use core::fmt;
use std::sync::Arc;

use subtle::ConstantTimeEq;

pub use memory::MemoryStore;
pub use password::{OneTimePassword, PasswordError};
pub use store::{RatchetStore, StoreError, Swap};

use crate::crypto::Secret;
use crate::identity::PublicKey;

/// The name under which the application knows a peer, and under which its ratchet is stored (PROTOCOL 5.7).
///
/// Usually the static key; a key and an identity where one machine is many peers.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
//= ZSSP-ONE-01  what a peer is, the application says
pub struct PeerName(Arc<[u8]>);

impl PeerName {
    /// A name of the application's own.
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The bytes of the name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<PublicKey> for PeerName {
    fn from(key: PublicKey) -> Self {
        Self::new(key.as_bytes())
    }
}

impl fmt::Debug for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerName({} bytes)", self.0.len())
    }
}

/// Names a ratchet key without telling it. Compared in constant time, sent encrypted, never printed.
#[derive(Clone, Copy)]
pub struct Fingerprint([u8; Self::LEN]);

impl Fingerprint {
    /// Bytes of a fingerprint.
    pub const LEN: usize = 32;
    /// Stands for the zero ratchet key: no shared history.
    //= ZSSP-XK-12  the zero fingerprint stands for the zero key
    pub const ZERO: Self = Self([0; Self::LEN]);

    /// The fingerprint with these bytes, as a store kept them.
    pub const fn new(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes, for storing.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// Whether this is the zero fingerprint.
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }
}

//= ZSSP-RAT-06  fingerprints are compared in constant time
//= ZSSP-SEC-08  and so are all secrets that are compared
impl PartialEq for Fingerprint {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Fingerprint {}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_zero() { "Fingerprint(zero)" } else { "Fingerprint(..)" })
    }
}

/// One ratchet state: a key that goes into the next handshake, its fingerprint, and how many came before it.
pub struct RatchetState {
    key: Secret<32>,
    fingerprint: Fingerprint,
    chain_length: u64,
}

impl RatchetState {
    /// The state of a handshake that ended in `key`, or one read back from a store.
    pub const fn new(key: Secret<32>, fingerprint: Fingerprint, chain_length: u64) -> Self {
        Self { key, fingerprint, chain_length }
    }

    /// No shared history: zero key, zero fingerprint, chain length 0.
    //= ZSSP-XK-12  the zero fingerprint stands for the zero key
    pub fn zero() -> Self {
        Self::new(Secret::zero(), Fingerprint::ZERO, 0)
    }

    /// The key. Secret.
    pub const fn key(&self) -> &Secret<32> {
        &self.key
    }

    /// What names the key in a hello.
    pub const fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Handshakes and rekeyings since the two peers first met or were given a one-time password.
    pub const fn chain_length(&self) -> u64 {
        self.chain_length
    }

    /// A second copy: one goes to the store, one stays with the session.
    pub fn duplicate(&self) -> Self {
        Self::new(self.key.duplicate(), self.fingerprint, self.chain_length)
    }
}

impl fmt::Debug for RatchetState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RatchetState").field("chain_length", &self.chain_length).finish_non_exhaustive()
    }
}

/// The one or two states kept for a peer. Two while it is not certain that the peer stored the newer one.
#[derive(Debug)]
//= ZSSP-RAT-01  one or two states
pub struct RatchetPair {
    /// State 1, the newest.
    pub first: RatchetState,
    /// State 2, the one before it, until the peer confirmed the first.
    pub second: Option<RatchetState>,
}

impl RatchetPair {
    /// What is remembered of a peer never met.
    //= ZSSP-RAT-07  zero, none
    pub fn never_met() -> Self {
        Self { first: RatchetState::zero(), second: None }
    }

    /// Whether there is no history at all.
    pub fn is_never_met(&self) -> bool {
        self.first.fingerprint.is_zero() && self.second.is_none()
    }

    /// Whether both pairs hold the same states, by fingerprint.
    pub fn same(&self, other: &Self) -> bool {
        self.first.fingerprint == other.first.fingerprint
            && match (&self.second, &other.second) {
                (None, None) => true,
                (Some(a), Some(b)) => a.fingerprint == b.fingerprint,
                _ => false,
            }
    }

    /// Whether `fingerprint` names one of the states.
    pub fn contains(&self, fingerprint: &Fingerprint) -> bool {
        self.states().any(|state| state.fingerprint == *fingerprint)
    }

    /// Whether `fingerprint` names the older of two states: state 2, and not state 1.
    pub(crate) fn is_older(&self, fingerprint: &Fingerprint) -> bool {
        let second = self.second.as_ref().map(RatchetState::fingerprint);
        second == Some(fingerprint) && self.first.fingerprint != *fingerprint
    }

    /// State 1, then state 2 where there is one.
    pub fn states(&self) -> impl Iterator<Item = &RatchetState> {
        core::iter::once(&self.first).chain(&self.second)
    }

    /// A second copy: one goes to the store, one stays with the session.
    pub fn duplicate(&self) -> Self {
        Self { first: self.first.duplicate(), second: self.second.as_ref().map(RatchetState::duplicate) }
    }
}
