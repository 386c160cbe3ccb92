use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use zssp_proto::{
    Fingerprint, MemoryStore, PeerName, RatchetPair, RatchetState, RatchetStore, StoreError, Swap,
};

/// A store that fails when the test says so, and counts what it is asked.
#[derive(Debug, Default)]
pub struct FlakyStore {
    store: MemoryStore,
    calls: AtomicU32,
    /// The numbers of the calls that fail.
    failing: Mutex<Vec<u32>>,
}

impl FlakyStore {
    /// An empty one that does not fail.
    pub fn new() -> Self {
        Self::default()
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
    pub fn remembered(&self, peer: impl Into<PeerName>) -> RatchetPair {
        self.store.load(&peer.into()).unwrap_or_else(|error| panic!("a store in memory failed: {error}"))
    }

    /// Puts `pair` in place of what is remembered of `peer`, behind everybody's back.
    pub fn preset(&self, peer: impl Into<PeerName>, pair: RatchetPair) {
        self.store.preset(peer.into(), pair);
    }

    fn call(&self) -> Result<&MemoryStore, StoreError> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let failing = self.failing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if failing.contains(&call) { Err(StoreError::new("the disk is full")) } else { Ok(&self.store) }
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
