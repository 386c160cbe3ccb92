//! A ratchet store that tells what is written to it.

use zssp_proto::crypto::Secret;
use zssp_proto::{
    Fingerprint, MemoryStore, PeerName, RatchetPair, RatchetState, RatchetStore, StoreError, Swap,
};
use zssp_sim::vectors::{self, Op, RatchetChange};

use crate::trace::Trace;

/// Delegates to a [`MemoryStore`]. Every compare-and-swap is put into a [`Trace`].
#[derive(Debug)]
pub struct TracedStore {
    inner: MemoryStore,
    trace: Trace,
}

impl TracedStore {
    /// A store that remembers `pair` of `peer`.
    pub fn new(peer: &PeerName, pair: &vectors::RatchetPair, trace: Trace) -> Self {
        let (inner, pair) = (MemoryStore::new(), from_recorded(pair));
        if !pair.is_never_met() {
            inner.preset(peer.clone(), pair);
        }
        Self { inner, trace }
    }

    /// What is remembered of `peer`, as a recording has it.
    ///
    /// # Panics
    /// When the store fails, which one in memory does not.
    pub fn remembered(&self, peer: &PeerName) -> vectors::RatchetPair {
        let pair = self.inner.load(peer).expect("a store in memory does not fail");
        vectors::RatchetPair {
            state1: to_recorded(&pair.first),
            state2: pair.second.as_ref().map(to_recorded),
        }
    }
}

impl RatchetStore for TracedStore {
    fn load(&self, peer: &PeerName) -> Result<RatchetPair, StoreError> {
        self.inner.load(peer)
    }

    fn find(&self, fingerprint: &Fingerprint) -> Result<Option<RatchetState>, StoreError> {
        self.inner.find(fingerprint)
    }

    fn compare_and_swap(
        &self,
        peer: &PeerName,
        old: &RatchetPair,
        new: &RatchetPair,
    ) -> Result<Swap, StoreError> {
        let swap = self.inner.compare_and_swap(peer, old, new)?;
        self.trace.push(Op::SaveRatchet(Box::new(RatchetChange {
            new_state1: to_recorded(&new.first),
            new_state2: new.second.as_ref().map(to_recorded),
            ok: swap == Swap::Stored,
            old_state1: to_recorded(&old.first),
            old_state2: old.second.as_ref().map(to_recorded),
        })));
        Ok(swap)
    }
}

fn to_recorded(state: &RatchetState) -> vectors::RatchetState {
    vectors::RatchetState {
        chain_len: state.chain_length(),
        fingerprint: *state.fingerprint().as_bytes(),
        key: *state.key().expose(),
    }
}

fn from_recorded(pair: &vectors::RatchetPair) -> RatchetPair {
    let state = |state: &vectors::RatchetState| {
        RatchetState::new(Secret::new(state.key), Fingerprint::new(state.fingerprint), state.chain_len)
    };
    RatchetPair { first: state(&pair.state1), second: pair.state2.as_ref().map(state) }
}
