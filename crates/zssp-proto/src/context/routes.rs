//! Which state the packets of a key id belong to. Looking one up takes no lock.

use core::fmt;
use core::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::Instant;

use super::pending::Pending;
use crate::crypto::{OpenKey, Provider, ProviderError, UnprotectKey};
use crate::session::{KeyEpoch, Shared};
use crate::sync::{AtomicU64, AtomicUsize, Guard, HashMap, Ordering, RankedMutex, rank};
use crate::wire::{FragmentHeader, KeyId};
use crate::zfp::{self, Outcome, Reassembly};
use crate::zke::state::{Cell, HeaderKeys};

/// What every state that receives fragments under a key id has.
pub(crate) struct Ingress {
    pub(crate) header: HeaderKeys,
    /// Only fragments of one packet that came in different batches meet here.
    reassembly: RankedMutex<{ rank::REASSEMBLY }, Reassembly>,
    /// Packets in there: a thread need not look where none is.
    begun: AtomicUsize,
}

impl Ingress {
    pub(crate) fn new(header: HeaderKeys) -> Self {
        Self { header, reassembly: RankedMutex::new(Reassembly::default()), begun: AtomicUsize::new(0) }
    }

    /// Works on the packets whose fragments came in different batches.
    pub(super) fn with_reassembly<T>(&self, work: impl FnOnce(&mut Reassembly) -> T) -> T {
        let mut table = self.reassembly.lock();
        let result = work(&mut table);
        // Only a hint, which no model need prove: whoever decides by it looks again under the lock, or stores what another
        // thread then finds. When nobody is in here, it is right.
        self.begun.store(table.len(), Ordering::Relaxed);
        result
    }

    /// Adds a fragment to what earlier batches brought of its packet, if they brought anything.
    pub(super) fn go_on(&self, now: Instant, header: &FragmentHeader, chunk: [&[u8]; 2]) -> Option<Outcome> {
        let is_worth_a_look = self.begun.load(Ordering::Relaxed) > 0;
        is_worth_a_look.then(|| self.with_reassembly(|table| table.go_on(now, header, chunk)))?
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
    /// A session with keys: A3, S1, S2, R1, R2.
    Session(Inbound),
}

/// What the packets of a session under one key id are read with. Each is one step away from here: with many sessions
/// nothing of it is in the cache, and what hangs off one pointer after the other has to be waited for one after the
/// other.
#[derive(Clone)]
pub(crate) struct Inbound {
    unprotect: Arc<dyn UnprotectKey>,
    /// Opens the payloads of the epoch that the key id belongs to.
    pub(crate) open: Arc<dyn OpenKey>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) cell: Arc<Cell>,
}

impl Inbound {
    /// The way to `shared` under the key id of `epoch`.
    pub(crate) fn new(shared: &Arc<Shared>, epoch: &KeyEpoch, cell: &Arc<Cell>) -> Self {
        Self {
            unprotect: shared.ingress.header.unprotect.clone(),
            open: epoch.open.clone(),
            shared: shared.clone(),
            cell: cell.clone(),
        }
    }
}

impl Route {
    /// Where fragments of different batches meet.
    pub(crate) fn ingress(&self) -> Option<&Ingress> {
        match self {
            Self::AwaitResponse { ingress, .. } => Some(ingress),
            Self::Pending(pending) => Some(&pending.ingress),
            Self::Reserved => None,
            Self::Session(inbound) => Some(&inbound.shared.ingress),
        }
    }

    /// What takes off the header protection.
    pub(crate) fn unprotect(&self) -> Option<&dyn UnprotectKey> {
        match self {
            Self::AwaitResponse { ingress, .. } => Some(&*ingress.header.unprotect),
            Self::Pending(pending) => Some(&*pending.ingress.header.unprotect),
            Self::Reserved => None,
            Self::Session(inbound) => Some(&*inbound.unprotect),
        }
    }

    /// The kind of state, for deciding which packets it reads.
    pub(crate) fn kind(&self) -> Option<zfp::Route> {
        match self {
            Self::AwaitResponse { .. } => Some(zfp::Route::AwaitResponse),
            Self::Pending(_) => Some(zfp::Route::AwaitCompletion),
            Self::Reserved => None,
            Self::Session(_) => Some(zfp::Route::Session),
        }
    }
}

/// A route in the table.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) route: Route,
    /// The same for threads that keep it for a while, if it is worth keeping. Its count is the only thing that they
    /// write: a count beside a key would take the key out of the other threads' caches.
    lasting: Option<Arc<Route>>,
}

impl Entry {
    fn new(route: Route) -> Self {
        let lasting = matches!(route, Route::Session(_)).then(|| Arc::new(route.clone()));
        Self { route, lasting }
    }
}

/// All key ids of a context.
pub(crate) struct Routes {
    map: HashMap<KeyId, Entry, SpreadKeyIds>,
    /// A number that no other table of the process has.
    number: u64,
    changes: AtomicU64,
}

/// A table, and how often a key id was led elsewhere in it: as long as this is the same, so are all routes that were there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    table: u64,
    changes: u64,
}

/// The route of the session whose datagrams a thread is reading, so that it need not look it up for each of them: a
/// lookup ends with an atomic swap, which waits until the bytes just written have left for the cache. Held for one batch
/// of datagrams, so that it does not keep alive for long what is over.
#[derive(Default)]
pub(crate) struct Recent {
    /// Whose datagram was looked up last, and how many times in a row before.
    looked_up: Option<(KeyId, u32)>,
    remembered: Option<Remembered>,
}

/// So many datagrams in a row are looked up before it is a run.
#[cfg(not(loom))]
const RUN: u32 = 4;
#[cfg(loom)]
const RUN: u32 = 1;

struct Remembered {
    kid: KeyId,
    /// That of the table before the route was looked up.
    version: Version,
    route: Arc<Route>,
}

impl Recent {
    /// The route of `kid`, if it is the one remembered and still right.
    pub(crate) fn route(&self, kid: KeyId, version: Version) -> Option<&Route> {
        let remembered = self.remembered.as_ref().filter(|it| it.kid == kid && it.version == version)?;
        Some(&remembered.route)
    }

    /// Remembers where a datagram belonged, in the middle of a run of datagrams under one key id: to keep a route is to
    /// touch a count that other threads share, which does not pay for less. Handshakes have no runs.
    //= ZSSP-DEF-12  once for a run, not for a packet
    pub(crate) fn remember(&mut self, kid: KeyId, version: Version, entry: &Entry) {
        let before = self.looked_up.filter(|(last, _)| *last == kid).map_or(0, |(_, before)| before + 1);
        self.looked_up = Some((kid, before));
        if before >= RUN
            && let Some(route) = &entry.lasting
        {
            self.remembered = Some(Remembered { kid, version, route: route.clone() });
            self.looked_up = None;
        }
    }

    /// Ends the batch.
    //= ZSSP-SEC-07  secrets are dropped, and so wiped, when their state is over
    pub(crate) fn forget(&mut self) {
        self.remembered = None;
    }
}

impl fmt::Debug for Recent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Recent").field(&self.remembered.as_ref().map(|it| it.kid)).finish()
    }
}

impl Routes {
    pub(crate) fn new() -> Self {
        // Not one of the models' own: it decides nothing between threads.
        static TABLES: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = TABLES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Self { map: HashMap::with_hasher(SpreadKeyIds), number, changes: AtomicU64::new(0) }
    }

    /// Calls `read` with what there is of `kid`. Nothing is locked, and no count shared with other threads is touched.
    //= ZSSP-DEF-12  no lock and no shared count for a packet
    pub(crate) fn with<T>(&self, kid: KeyId, read: impl FnOnce(&Entry) -> T) -> Option<T> {
        self.map.pin().get(&kid).map(read)
    }

    /// Which version of which table this is.
    pub(crate) fn version(&self) -> Version {
        Version { table: self.number, changes: self.changes.load(Ordering::Acquire) }
    }

    /// Takes a key id that nothing else in the context has, neither a session nor a handshake.
    //= ZSSP-DEF-14  reserved for handshakes too
    pub(crate) fn reserve(&self, provider: &dyn Provider) -> Result<KeyId, ProviderError> {
        loop {
            let mut bytes = [0; 4];
            provider.random(&mut bytes)?;
            let Some(kid) = KeyId::new(bytes) else { continue };
            if self.map.pin().try_insert(kid, Entry::new(Route::Reserved)).is_ok() {
                return Ok(kid);
            }
        }
    }

    /// Leads `kid` to `route` from now on.
    pub(crate) fn set(&self, kid: KeyId, route: Route) {
        let guard = self.map.guard();
        self.map.insert(kid, Entry::new(route), &guard);
        self.changes.fetch_add(1, Ordering::Release);
        guard.flush();
    }

    /// Frees `kid` for others.
    ///
    /// What is taken out of the map dies when the last reader has left, but only a batch of many at a time unless it
    /// is flushed: until then a state that is over would keep its keys and its incomplete packets.
    //= ZSSP-REA-07  memory is given back
    //= ZSSP-SEC-07  secrets are dropped, and so wiped, when their state is over
    pub(crate) fn remove(&self, kid: KeyId) {
        let guard = self.map.guard();
        self.map.remove(&kid, &guard);
        self.changes.fetch_add(1, Ordering::Release);
        guard.flush();
    }

    /// How many key ids are in use.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }
}

#[cfg(all(test, loom))]
mod loom_models;

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
