//! A store of ratchets that tells how often keys were agreed on: each time, the ratchet has a state that is new.

use tokio::sync::watch;
use zssp::MemoryStore;
use zssp::proto::{Fingerprint, PeerName, RatchetPair, RatchetState, RatchetStore, StoreError, Swap};

/// A store in memory. Those that are made with the same sender count together.
pub(crate) struct CountingStore {
    memory: MemoryStore,
    keys: watch::Sender<u64>,
}

impl CountingStore {
    pub(crate) fn new(keys: watch::Sender<u64>) -> Self {
        Self { memory: MemoryStore::new(), keys }
    }
}

impl RatchetStore for CountingStore {
    fn load(&self, peer: &PeerName) -> Result<RatchetPair, StoreError> {
        self.memory.load(peer)
    }

    fn find(&self, fingerprint: &Fingerprint) -> Result<Option<RatchetState>, StoreError> {
        self.memory.find(fingerprint)
    }

    fn compare_and_swap(
        &self,
        peer: &PeerName,
        old: &RatchetPair,
        new: &RatchetPair,
    ) -> Result<Swap, StoreError> {
        let swap = self.memory.compare_and_swap(peer, old, new)?;
        if swap == Swap::Stored && !old.contains(new.first.fingerprint()) {
            self.keys.send_modify(|keys| *keys += 1);
        }
        Ok(swap)
    }
}
