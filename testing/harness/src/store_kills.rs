//! What every ratchet store must do whose pairs outlive its process, when that is killed or the medium fails at any point
//! of a write (PROTOCOL 5.5): afterwards there is the old pair or the new one, never a mixture, never nothing.
//!
//! No test can stop a foreign store in the middle of what it does. So its author brings a [`Medium`]: what the store keeps
//! its pairs in, be it a disk, a database or a connection, with a way to have its operations fail. The suite does the rest:
//! [`survives_kills`] and [`survives_failures`] try every operation of every write.
#![allow(clippy::unwrap_used, reason = "in a test it is the assertion")]

use zssp_proto::{PeerName, RatchetPair, RatchetStore, Swap};

use crate::store_suite::{identical, pair};

/// What a store keeps its pairs in.
pub trait Medium {
    /// The store.
    type Store: RatchetStore;

    /// Opens the store that the medium holds, an empty one if it holds none; `None` when the medium has failed.
    fn open(&self) -> Option<Self::Store>;

    /// Has its operations fail, whoever asks for them. The more of them there are, the finer: each read, write and sync.
    fn fail(&self, failure: Failure);

    /// Whether an operation has failed since [`fail`](Self::fail).
    fn has_failed(&self) -> bool;

    /// What the next process finds when everything stops at this moment. What the medium was not asked to make durable
    /// may be lost: with a `loss` of 0 all of it is, with another number what that stands for. May be called again.
    #[must_use]
    fn after_a_kill(&self, loss: u64) -> Self;
}

/// Which operations fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The one that comes after so many others, and all after it: the process was killed.
    From(usize),
    /// The one that comes after so many others alone: the disk was full for a moment.
    Once(usize),
}

/// Kinds of losses that are tried.
const LOSSES: u64 = 10;

/// The peer that the writes are about.
fn peer() -> PeerName {
    PeerName::new(b"peer")
}

/// The peers that they are not about have states from this one on.
const OTHERS: std::ops::Range<u64> = 100..120;

/// A write.
struct Write {
    before: RatchetPair,
    /// What the writer takes for what is stored.
    old: RatchetPair,
    new: RatchetPair,
}

impl Write {
    /// Every write that a handshake makes, and one that comes too late.
    fn all() -> [Self; 4] {
        let write =
            |before: &RatchetPair, old: RatchetPair, new| Self { before: before.duplicate(), old, new };
        let met = |before: RatchetPair, new| write(&before, before.duplicate(), new);
        [
            met(RatchetPair::never_met(), pair(1, None)),
            met(pair(1, None), pair(2, Some(1))),
            met(pair(2, Some(1)), pair(2, None)),
            write(&pair(2, None), pair(1, None), pair(3, None)),
        ]
    }

    fn is_in_time(&self) -> bool {
        self.before.same(&self.old)
    }

    /// What there is after it.
    fn after(&self) -> &RatchetPair {
        if self.is_in_time() { &self.new } else { &self.before }
    }

    /// A medium that holds what is there before it, and others.
    fn prepare<M: Medium>(&self, empty: &M) -> M {
        let store = empty.open().expect("an empty store");
        for other in OTHERS {
            let name = PeerName::new(&other.to_be_bytes());
            store.compare_and_swap(&name, &RatchetPair::never_met(), &pair(other, None)).unwrap();
        }
        if !self.before.is_never_met() {
            store.compare_and_swap(&peer(), &RatchetPair::never_met(), &self.before).unwrap();
        }
        drop(store);
        empty.after_a_kill(0)
    }

    /// Whether it was reported as done.
    fn run(&self, store: &dyn RatchetStore) -> bool {
        let swap = store.compare_and_swap(&peer(), &self.old, &self.new);
        swap.is_ok_and(|swap| (swap == Swap::Stored) == self.is_in_time())
    }

    /// What is found is whole, the way to it by fingerprint included, and the store goes on from there. Whether it is
    /// new.
    fn check(&self, store: &dyn RatchetStore, context: &str) -> bool {
        let found = store.load(&peer()).expect(context);
        let is_new = identical(&found, self.after());
        assert!(is_new || identical(&found, &self.before), "{context}: neither old nor new: {found:?}");
        for state in [&self.before, &self.new].into_iter().flat_map(RatchetPair::states) {
            if state.fingerprint().is_zero() {
                continue;
            }
            let by_fingerprint = store.find(state.fingerprint()).expect(context);
            assert_eq!(by_fingerprint.is_some(), found.contains(state.fingerprint()), "{context}: {state:?}");
            assert!(
                by_fingerprint.is_none_or(|found| found.key().ct_eq(state.key())),
                "{context}: {state:?}"
            );
        }
        for other in OTHERS {
            let stored = store.load(&PeerName::new(&other.to_be_bytes())).expect(context);
            assert!(identical(&stored, &pair(other, None)), "{context}: the others");
        }
        let next = pair(9, Some(8));
        assert_eq!(store.compare_and_swap(&peer(), &found, &next).expect(context), Swap::Stored, "{context}");
        assert!(identical(&store.load(&peer()).expect(context), &next), "{context}");
        is_new
    }
}

/// Kills the process at each operation of each write, that of opening the store included, and has the next one look, with
/// several kinds of losses. `empty` makes media that hold nothing yet.
///
/// # Panics
/// When what was stored is gone, or anything else than the old pair or the new one is found.
//= ZSSP-RAT-02  what was reported as stored is there after a kill
//= ZSSP-RAT-03  a write is old or new, never a mixture, never nothing
pub fn survives_kills<M: Medium>(empty: impl Fn() -> M) {
    for (number, write) in Write::all().iter().enumerate() {
        let prepared = write.prepare(&empty());
        let (mut were_old, mut were_new) = (0, 0);
        for operation in 0.. {
            let medium = prepared.after_a_kill(0);
            medium.fail(Failure::From(operation));
            let stored = medium.open().is_some_and(|store| write.run(&store));
            let is_done = !medium.has_failed();
            for loss in 0..LOSSES {
                let context = format!("write {number}, killed at operation {operation}, loss {loss}");
                let store = medium.after_a_kill(loss).open();
                let is_new = write.check(&store.expect("a kill leaves a store that opens"), &context);
                assert!(is_new || !stored, "{context}: what was stored is gone");
                *(if is_new { &mut were_new } else { &mut were_old }) += 1;
            }
            if is_done {
                break;
            }
        }
        assert!(were_new > 0, "write {number} never came about");
        assert!(were_old > 0 || !write.is_in_time(), "the kills missed write {number}");
    }
}

/// Has each operation of each write fail once; the store is used further as it is.
///
/// # Panics
/// When it does not go on, what was stored is gone, or anything else than the old pair or the new one is found.
//= ZSSP-RAT-05  an error of the medium passes; the next attempt works
pub fn survives_failures<M: Medium>(empty: impl Fn() -> M) {
    for (number, write) in Write::all().iter().enumerate() {
        let prepared = write.prepare(&empty());
        for operation in 0.. {
            let medium = prepared.after_a_kill(0);
            let store = medium.open().expect("nothing has failed yet");
            medium.fail(Failure::Once(operation));
            let stored = write.run(&store);
            if !medium.has_failed() {
                assert!(operation > 0, "the failures missed write {number}");
                break;
            }
            let context = format!("write {number}, operation {operation} failed");
            let is_new = write.check(&store, &context);
            assert!(is_new || !stored, "{context}: what was stored is gone");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::{Arc, Mutex};

    use zssp_proto::{Fingerprint, RatchetState, StoreError};

    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Flaw {
        ForgetsWhatItStored,
        None,
        StoresOneStateAfterTheOther,
        StumblesForGood,
    }

    /// Pairs in a table, each write of which is an operation.
    #[derive(Clone)]
    struct Table(Arc<Mutex<Content>>);

    struct Content {
        flaw: Flaw,
        pairs: HashMap<PeerName, RatchetPair>,
        unsynced: Option<PeerName>,
        operations: usize,
        failure: Option<Failure>,
    }

    impl Table {
        fn new(flaw: Flaw) -> Self {
            let (pairs, unsynced) = (HashMap::new(), None);
            Self(Arc::new(Mutex::new(Content { flaw, pairs, unsynced, operations: 0, failure: None })))
        }
    }

    impl Content {
        fn operation(&mut self) -> Result<(), StoreError> {
            let (this, stays) = (self.operations, self.flaw == Flaw::StumblesForGood);
            self.operations += 1;
            match self.failure {
                Some(Failure::From(n)) if this >= n => Err(StoreError::new("killed")),
                Some(Failure::Once(n)) if this == n || stays && this > n => Err(StoreError::new("full")),
                _ => Ok(()),
            }
        }
    }

    impl Medium for Table {
        type Store = Self;

        fn open(&self) -> Option<Self> {
            Some(self.clone())
        }

        fn fail(&self, failure: Failure) {
            let mut content = self.0.lock().unwrap();
            (content.operations, content.failure) = (0, Some(failure));
        }

        fn has_failed(&self) -> bool {
            let content = self.0.lock().unwrap();
            content.failure.is_some_and(|(Failure::From(n) | Failure::Once(n))| content.operations > n)
        }

        fn after_a_kill(&self, loss: u64) -> Self {
            let content = self.0.lock().unwrap();
            let next = Self::new(content.flaw);
            let kept = |name: &PeerName| loss != 1 || content.unsynced.as_ref() != Some(name);
            let pairs = content.pairs.iter().filter(|(name, _)| kept(name));
            next.0.lock().unwrap().pairs =
                pairs.map(|(name, pair)| (name.clone(), pair.duplicate())).collect();
            next
        }
    }

    impl RatchetStore for Table {
        fn load(&self, peer: &PeerName) -> Result<RatchetPair, StoreError> {
            let pair = self.0.lock().unwrap().pairs.get(peer).map(RatchetPair::duplicate);
            Ok(pair.unwrap_or_else(RatchetPair::never_met))
        }

        fn find(&self, fingerprint: &Fingerprint) -> Result<Option<RatchetState>, StoreError> {
            let content = self.0.lock().unwrap();
            let mut states = content.pairs.values().flat_map(RatchetPair::states);
            Ok(states.find(|state| state.fingerprint() == fingerprint).map(RatchetState::duplicate))
        }

        fn compare_and_swap(
            &self,
            peer: &PeerName,
            old: &RatchetPair,
            new: &RatchetPair,
        ) -> Result<Swap, StoreError> {
            let stored = self.load(peer)?;
            let mut content = self.0.lock().unwrap();
            content.operation()?;
            if !stored.same(old) {
                return Ok(Swap::Conflict);
            }
            if content.flaw == Flaw::StoresOneStateAfterTheOther {
                let half = RatchetPair { first: new.first.duplicate(), second: stored.second };
                content.pairs.insert(peer.clone(), half);
                content.operation()?;
            }
            content.pairs.insert(peer.clone(), new.duplicate());
            content.unsynced = (content.flaw == Flaw::ForgetsWhatItStored).then(|| peer.clone());
            Ok(Swap::Stored)
        }
    }

    #[test]
    fn whatever_is_wrong_is_found() {
        for (flaw, kills, failures) in [
            (Flaw::ForgetsWhatItStored, false, true),
            (Flaw::None, true, true),
            (Flaw::StoresOneStateAfterTheOther, false, false),
            (Flaw::StumblesForGood, true, false),
        ] {
            let passes = |test: fn(fn(Flaw) -> Table, Flaw)| {
                catch_unwind(AssertUnwindSafe(|| test(Table::new, flaw))).is_ok()
            };
            assert_eq!(passes(|new, flaw| survives_kills(|| new(flaw))), kills, "{flaw:?}");
            assert_eq!(passes(|new, flaw| survives_failures(|| new(flaw))), failures, "{flaw:?}");
        }
    }
}
