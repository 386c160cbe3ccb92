use core::fmt;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::{Fingerprint, PeerName, RatchetPair, RatchetState, RatchetStore, StoreError, Swap};
use crate::sync::{RankedMutex, rank};

/// A store that forgets everything when the process ends.
///
/// Every start begins with peers never met, so a stolen static key is not held off by the ratchet. For tests,
/// and for programs whose peers are short-lived anyway. It grows with the number of peers met.
pub struct MemoryStore {
    tables: RankedMutex<{ rank::STORE }, Tables>,
}

#[derive(Default)]
struct Tables {
    pairs: HashMap<PeerName, RatchetPair>,
    /// Whose state a fingerprint names: one peer's, unless a one-time password was used twice. Hashed with a key of
    /// its own, so the time a look-up takes tells nothing.
    owners: HashMap<[u8; Fingerprint::LEN], Vec<PeerName>>,
}

impl Tables {
    fn put(&mut self, peer: &PeerName, pair: RatchetPair) {
        if let Some(replaced) = self.pairs.remove(peer) {
            for state in replaced.states() {
                self.disown(state.fingerprint(), peer);
            }
        }
        for state in pair.states().filter(|state| !state.fingerprint().is_zero()) {
            self.owners.entry(*state.fingerprint().as_bytes()).or_default().push(peer.clone());
        }
        self.pairs.insert(peer.clone(), pair);
    }

    fn disown(&mut self, fingerprint: &Fingerprint, peer: &PeerName) {
        let Entry::Occupied(mut owners) = self.owners.entry(*fingerprint.as_bytes()) else { return };
        owners.get_mut().retain(|owner| owner != peer);
        if owners.get().is_empty() {
            owners.remove();
        }
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self { tables: RankedMutex::new(Tables::default()) }
    }

    /// Puts `pair` in place of whatever is remembered of `peer`.
    pub fn preset(&self, peer: PeerName, pair: RatchetPair) {
        self.tables.lock().put(&peer, pair);
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl RatchetStore for MemoryStore {
    fn load(&self, peer: &PeerName) -> Result<RatchetPair, StoreError> {
        Ok(self.tables.lock().pairs.get(peer).map_or_else(RatchetPair::never_met, RatchetPair::duplicate))
    }

    fn find(&self, fingerprint: &Fingerprint) -> Result<Option<RatchetState>, StoreError> {
        let tables = self.tables.lock();
        let owner = tables.owners.get(fingerprint.as_bytes()).and_then(|owners| owners.first());
        let pair = owner.and_then(|peer| tables.pairs.get(peer));
        Ok(pair
            .and_then(|pair| pair.states().find(|state| state.fingerprint() == fingerprint))
            .map(RatchetState::duplicate))
    }

    fn compare_and_swap(
        &self,
        peer: &PeerName,
        old: &RatchetPair,
        new: &RatchetPair,
    ) -> Result<Swap, StoreError> {
        let mut tables = self.tables.lock();
        let unchanged = match tables.pairs.get(peer) {
            Some(stored) => stored.same(old),
            None => old.is_never_met(),
        };
        if !unchanged {
            return Ok(Swap::Conflict);
        }
        tables.put(peer, new.duplicate());
        Ok(Swap::Stored)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryStore({} peers)", self.tables.lock().pairs.len())
    }
}
