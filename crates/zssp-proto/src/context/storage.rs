//! The ratchet store as handshake work sees it (PROTOCOL 5.5). Every failure is told, and is as if the packet had been lost.
//!
//! A store that fails in the middle of a write may have done it all the same, and may fail once more when it is asked. So
//! what a failed write leaves open is kept with the session until its next write, which finds out first: what the session
//! has written itself is no conflict.

use super::handshake::Task;
use super::outbox::Event;
use crate::error::Fault;
use crate::identity::PublicKey;
use crate::ratchet::{Fingerprint, PeerName, RatchetPair, RatchetState, StoreError, Swap};
use crate::zke::state::Cell;

/// What a write that failed has left open: unless another session has written since, the store holds one of the two.
pub(crate) struct Doubt {
    old: RatchetPair,
    new: RatchetPair,
}

impl Doubt {
    /// What `stored` counts as for whoever tried to write: a write that is not done has changed nothing.
    pub(super) fn undo(&self, stored: RatchetPair) -> RatchetPair {
        if stored.same(&self.new) { self.old.duplicate() } else { stored }
    }

    fn permits(&self, stored: &RatchetPair) -> bool {
        stored.same(&self.old) || stored.same(&self.new)
    }
}

impl Task<'_> {
    /// The pair stored under `name`, that of `peer`.
    //= ZSSP-RAT-05  a storage error drops the packet with nothing changed
    pub(super) fn load(&mut self, (peer, name): (PublicKey, &PeerName)) -> Result<RatchetPair, Fault> {
        let result = self.store.load(name);
        self.told(Some(peer), result)
    }

    /// The state of this fingerprint, of a peer that is not known yet.
    pub(super) fn find(&mut self, fingerprint: &Fingerprint) -> Result<Option<RatchetState>, Fault> {
        let result = self.store.find(fingerprint);
        self.told(None, result)
    }

    /// Writes `new` in the place of a session's own copy; nothing when they are the same.
    pub(super) fn replace(
        &mut self,
        cell: &Cell,
        own: &RatchetPair,
        new: &RatchetPair,
    ) -> Result<Swap, Fault> {
        // C1 after a downgrade finds no state 2 to drop: a durable write that changes nothing is spared.
        if own.same(new) {
            return Ok(Swap::Stored);
        }
        // Nobody else writes for this session meanwhile: its state is taken out.
        let mut doubt = cell.doubt.lock().take();
        let swap = self.compare_and_swap(cell.who(), (own, &mut doubt), new);
        *cell.doubt.lock() = doubt;
        swap
    }

    /// Writes `new` in the place of `own`, which is what the store holds, or else what it holds is in doubt.
    //= ZSSP-RAT-03  every write is a compare-and-swap against the session's own copy
    pub(super) fn compare_and_swap(
        &mut self,
        who: (PublicKey, &PeerName),
        (own, doubt): (&RatchetPair, &mut Option<Box<Doubt>>),
        new: &RatchetPair,
    ) -> Result<Swap, Fault> {
        let stored = match doubt {
            Some(doubt) => Some(self.load(who)?).filter(|stored| doubt.permits(stored)),
            None => None,
        };
        let old = stored.as_ref().unwrap_or(own);
        // Also where `new` is there already: written once more, it is as durable as any other.
        let result = self.store.compare_and_swap(who.1, old, new);
        if result.is_ok() {
            *doubt = None;
        } else if !old.same(new) {
            *doubt = Some(Box::new(Doubt { old: old.duplicate(), new: new.duplicate() }));
        }
        self.told(Some(who.0), result)
    }

    fn told<T>(&mut self, peer: Option<PublicKey>, result: Result<T, StoreError>) -> Result<T, Fault> {
        result.map_err(|error| {
            self.outbox.events.push(Event::StoreFailed { peer, error });
            Fault::Store
        })
    }
}
