use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zssp_proto::{
    Fingerprint, MemoryStore, PeerName, RatchetPair, RatchetState, RatchetStore, StoreError, Swap,
};

use super::meanwhile::Meanwhile;

/// A store that fails when the test says so, or takes its process with it, and counts what it is asked.
///
/// A failure of the store beneath it is the death of the process too: that is how a disk that crashes is noticed.
pub struct FlakyStore {
    store: Arc<dyn RatchetStore>,
    calls: AtomicU32,
    /// The numbers of the calls that fail.
    failing: Mutex<Vec<u32>>,
    /// The number of the call from which on all fail.
    failing_from: Mutex<Option<u32>>,
    /// The numbers of the calls that do what they are to, and say that they failed.
    doubtful: Mutex<Vec<u32>>,
    /// The number of the call whose answer nobody hears.
    last: Mutex<Option<u32>>,
    killed: AtomicBool,
    /// What else happens in the middle of a write.
    meanwhile: Meanwhile,
}

impl FlakyStore {
    /// An empty one in memory that does not fail.
    pub fn new() -> Self {
        Self::over(MemoryStore::new())
    }

    /// `store`, not failing by itself so far.
    pub fn over(store: impl RatchetStore + 'static) -> Self {
        Self::with(Arc::new(store))
    }

    /// What the next process finds where this one was killed: the same store beneath, and nothing that is to come.
    pub fn successor(&self) -> Self {
        Self::with(self.store.clone())
    }

    fn with(store: Arc<dyn RatchetStore>) -> Self {
        Self {
            store,
            calls: AtomicU32::new(0),
            failing: Mutex::default(),
            failing_from: Mutex::default(),
            doubtful: Mutex::default(),
            last: Mutex::default(),
            killed: AtomicBool::new(false),
            meanwhile: Meanwhile::default(),
        }
    }

    /// Has the call that comes after `calls` others fail.
    pub fn fail_after(&self, calls: u32) {
        lock(&self.failing).push(self.calls() + calls);
    }

    /// Has all calls fail that come after `calls` others.
    pub fn break_after(&self, calls: u32) {
        *lock(&self.failing_from) = Some(self.calls() + calls);
    }

    /// Has the call that comes after `calls` others say that it failed, when it has done all of it.
    pub fn doubt_after(&self, calls: u32) {
        lock(&self.doubtful).push(self.calls() + calls);
    }

    /// Has the process be killed when the call that comes after `calls` others is done, before it has the answer.
    pub fn kill_after(&self, calls: u32) {
        *lock(&self.last) = Some(self.calls() + calls);
    }

    /// Has something else happen in the middle of the write that comes after `writes` others.
    pub fn during_write(&self, writes: u32, meanwhile: impl FnOnce() + Send + 'static) {
        self.meanwhile.set(writes, meanwhile);
    }

    /// Whether the process was killed in a call: the test is to have it come back with another store.
    pub fn has_killed(&self) -> bool {
        self.killed.load(Ordering::Relaxed)
    }

    /// No call fails any more.
    pub fn heal(&self) {
        lock(&self.failing).clear();
        *lock(&self.failing_from) = None;
        *lock(&self.last) = None;
    }

    /// Calls so far, failed ones too.
    pub fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    /// What is remembered of `peer`, read without counting; `None` when it cannot be read.
    pub fn look(&self, peer: impl Into<PeerName>) -> Option<RatchetPair> {
        self.hear(self.store.load(&peer.into())).ok()
    }

    /// What is remembered of `peer`, read without counting.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn remembered(&self, peer: impl Into<PeerName>) -> RatchetPair {
        self.look(peer).unwrap_or_else(|| panic!("the store beneath has failed"))
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

    fn call<T>(
        &self,
        operation: impl FnOnce(&dyn RatchetStore) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let is_failing = lock(&self.failing).contains(&call)
            || lock(&self.failing_from).is_some_and(|first| first <= call);
        if self.has_killed() || is_failing {
            return Err(StoreError::new("the disk is full"));
        }
        let answer = operation(&*self.store);
        if lock(&self.doubtful).contains(&call) {
            return Err(StoreError::new("the disk does not say whether it has it"));
        }
        if lock(&self.last).is_some_and(|last| last <= call) {
            return self.hear(Err(StoreError::new("killed in the middle of it")));
        }
        self.hear(answer)
    }

    /// An answer of the store beneath.
    fn hear<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        if answer.is_err() {
            self.killed.store(true, Ordering::Relaxed);
        }
        answer
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.call(|store| store.load(peer))
    }

    fn find(&self, fingerprint: &Fingerprint) -> Result<Option<RatchetState>, StoreError> {
        self.call(|store| store.find(fingerprint))
    }

    fn compare_and_swap(
        &self,
        peer: &PeerName,
        old: &RatchetPair,
        new: &RatchetPair,
    ) -> Result<Swap, StoreError> {
        self.meanwhile.pass();
        self.call(|store| store.compare_and_swap(peer, old, new))
    }
}
