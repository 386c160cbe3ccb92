use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use zssp_proto::{
    Fingerprint, MemoryStore, PeerName, RatchetPair, RatchetState, RatchetStore, StoreError, Swap,
};

/// A store that fails when the test says so, and counts what it is asked.
pub struct FlakyStore {
    store: Box<dyn RatchetStore>,
    calls: AtomicU32,
    /// The numbers of the calls that fail.
    failing: Mutex<Vec<u32>>,
}

impl FlakyStore {
    /// An empty one in memory that does not fail.
    pub fn new() -> Self {
        Self::over(MemoryStore::new())
    }

    /// `store`, not failing by itself so far.
    pub fn over(store: impl RatchetStore + 'static) -> Self {
        Self { store: Box::new(store), calls: AtomicU32::new(0), failing: Mutex::default() }
    }

    /// Has the call that comes after `calls` others fail.
    pub fn fail_after(&self, calls: u32) {
        let call = self.calls.load(Ordering::Relaxed) + calls;
        self.failing.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(call);
    }

    /// No call fails any more.
    pub fn heal(&self) {
        self.failing.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
    }

    /// Calls so far, failed ones too.
    pub fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    /// What is remembered of `peer`, read without counting.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn remembered(&self, peer: impl Into<PeerName>) -> RatchetPair {
        self.store.load(&peer.into()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Puts `pair` in place of what is remembered of `peer`, behind everybody's back.
    ///
    /// # Panics
    /// When it cannot.
    pub fn preset(&self, peer: impl Into<PeerName>, pair: RatchetPair) {
        let peer = peer.into();
        let old = self.remembered(peer.clone());
        let swap = self.store.compare_and_swap(&peer, &old, &pair);
        assert!(matches!(swap, Ok(Swap::Stored)), "not preset: {swap:?}");
    }

    fn call(&self) -> Result<&dyn RatchetStore, StoreError> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let failing = self.failing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if failing.contains(&call) { Err(StoreError::new("the disk is full")) } else { Ok(&*self.store) }
    }
}

impl Default for FlakyStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for FlakyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FlakyStore({} calls)", self.calls())
    }
}

impl RatchetStore for FlakyStore {
    fn load(&self, peer: &PeerName) -> Result<RatchetPair, StoreError> {
        self.call()?.load(peer)
    }

    fn find(&self, fingerprint: &Fingerprint) -> Result<Option<RatchetState>, StoreError> {
        self.call()?.find(fingerprint)
    }

    fn compare_and_swap(
        &self,
        peer: &PeerName,
        old: &RatchetPair,
        new: &RatchetPair,
    ) -> Result<Swap, StoreError> {
        self.call()?.compare_and_swap(peer, old, new)
    }
}
