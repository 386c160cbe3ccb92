//! Which state the packets of a key id belong to. Looking one up takes no lock.

use core::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use papaya::Guard;

use super::pending::Pending;
use crate::crypto::{Provider, ProviderError};
use crate::session::Shared;
use crate::sync::{RankedMutex, rank};
use crate::wire::KeyId;
use crate::zfp::{self, Reassembly};
use crate::zke::state::{Cell, HeaderKeys};

/// What every state that receives fragments under a key id has.
pub(crate) struct Ingress {
    pub(crate) header: Arc<HeaderKeys>,
    /// Only fragments of one packet that came in different batches meet here.
    pub(crate) reassembly: RankedMutex<{ rank::REASSEMBLY }, Reassembly>,
}

impl Ingress {
    pub(crate) fn new(header: Arc<HeaderKeys>) -> Self {
        Self { header, reassembly: RankedMutex::new(Reassembly::default()) }
    }
}

/// Where a key id leads.
#[derive(Clone)]
pub(crate) enum Route {
    /// A1, waiting for X2.
    AwaitResponse { ingress: Arc<Ingress>, cell: Arc<Cell> },
    /// B2, waiting for X3.
    Pending(Arc<Pending>),
    /// Chosen, and nothing can be read under it yet.
    Reserved,
    /// A session with keys: A3, S1, S2.
    Session { shared: Arc<Shared>, cell: Arc<Cell> },
}

impl Route {
    pub(crate) fn ingress(&self) -> Option<&Ingress> {
        match self {
            Self::AwaitResponse { ingress, .. } => Some(ingress),
            Self::Pending(pending) => Some(&pending.ingress),
            Self::Reserved => None,
            Self::Session { shared, .. } => Some(&shared.ingress),
        }
    }

    /// The kind of state, for deciding which packets it reads.
    pub(crate) fn kind(&self) -> Option<zfp::Route> {
        match self {
            Self::AwaitResponse { .. } => Some(zfp::Route::AwaitResponse),
            Self::Pending(_) => Some(zfp::Route::AwaitCompletion),
            Self::Reserved => None,
            Self::Session { .. } => Some(zfp::Route::Session),
        }
    }
}

/// All key ids of a context.
pub(crate) struct Routes(papaya::HashMap<KeyId, Route, SpreadKeyIds>);

impl Routes {
    pub(crate) fn new() -> Self {
        Self(papaya::HashMap::with_hasher(SpreadKeyIds))
    }

    /// Calls `read` with the route of `kid`. Nothing is locked, and no count shared with other threads is touched.
    pub(crate) fn with<T>(&self, kid: KeyId, read: impl FnOnce(&Route) -> T) -> Option<T> {
        self.0.pin().get(&kid).map(read)
    }

    /// Takes a key id that nothing else in the context has, neither a session nor a handshake.
    pub(crate) fn reserve(&self, provider: &dyn Provider) -> Result<KeyId, ProviderError> {
        loop {
            let mut bytes = [0; 4];
            provider.random(&mut bytes)?;
            let Some(kid) = KeyId::new(bytes) else { continue };
            if self.0.pin().try_insert(kid, Route::Reserved).is_ok() {
                return Ok(kid);
            }
        }
    }

    /// Leads `kid` to `route` from now on.
    pub(crate) fn set(&self, kid: KeyId, route: Route) {
        let guard = self.0.guard();
        self.0.insert(kid, route, &guard);
        guard.flush();
    }

    /// Frees `kid` for others.
    ///
    /// What is taken out of the map dies when the last reader has left, but only a batch of many at a time unless it
    /// is flushed: until then a state that is over would keep its keys and its incomplete packets.
    //= ZSSP-REA-07  memory is given back
    //= ZSSP-SEC-07  secrets are dropped, and so wiped, when their state is over
    pub(crate) fn remove(&self, kid: KeyId) {
        let guard = self.0.guard();
        self.0.remove(&kid, &guard);
        guard.flush();
    }

    /// How many key ids are in use.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Key ids are random and chosen by this side, so nobody can aim at a bucket; they only need spreading.
#[derive(Clone)]
struct SpreadKeyIds;

impl BuildHasher for SpreadKeyIds {
    type Hasher = Spread;
    fn build_hasher(&self) -> Spread {
        Spread(0)
    }
}

struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        // Fibonacci hashing: the odd multiplier of 2^64 over the golden ratio moves every bit upwards.
        self.0 = (self.0 ^ u64::from(value)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 32;
    }
}
