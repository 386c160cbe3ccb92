//! Responder handshakes between X2 and the application's decision (state B2), bounded.

use std::sync::Arc;

use super::peers::Moment;
use super::routes::Ingress;
use crate::address::Address;
use crate::suite::Suite;
use crate::sync::{RankedMutex, rank};
use crate::wire::KeyId;
use crate::zke::state::HeaderKeys;
use crate::zke::xk;

/// One responder handshake.
pub(crate) struct Pending {
    /// The key id under which X3 will come, and the session's later.
    pub(crate) kid: KeyId,
    pub(crate) ingress: Ingress,
    /// When X1 was answered.
    pub(super) since: Moment,
    state: RankedMutex<{ rank::PENDING }, State>,
}

/// What Bob needs to go on after X2.
pub(crate) struct AwaitCompletion {
    pub(crate) xk: xk::AwaitCompletion,
    /// Alice's key id.
    pub(crate) remote_kid: KeyId,
    pub(crate) suite: Suite,
    /// Where X2 went.
    pub(crate) address: Address,
    pub(crate) header: Arc<HeaderKeys>,
}

enum State {
    /// B2.
    AwaitCompletion(Box<AwaitCompletion>),
    /// X3 is being read, or the application is being asked.
    Busy,
    /// Forgotten.
    Gone,
}

impl Pending {
    pub(super) fn new(kid: KeyId, since: Moment, state: AwaitCompletion) -> Self {
        Self {
            kid,
            since,
            ingress: Ingress::new(state.header.clone()),
            state: RankedMutex::new(State::AwaitCompletion(Box::new(state))),
        }
    }

    /// Takes the state out, to read X3 with it. Further copies of X3 are as if lost.
    pub(crate) fn take(&self) -> Option<Box<AwaitCompletion>> {
        let mut state = self.state.lock();
        match core::mem::replace(&mut *state, State::Busy) {
            State::AwaitCompletion(taken) => Some(taken),
            other => {
                *state = other;
                None
            }
        }
    }

    /// Puts the state back, so that the next copy of X3 is read again.
    pub(crate) fn put_back(&self, taken: Box<AwaitCompletion>) {
        let mut state = self.state.lock();
        if matches!(*state, State::Busy) {
            *state = State::AwaitCompletion(taken);
        }
    }

    /// Whether the handshake was forgotten.
    pub(crate) fn is_over(&self) -> bool {
        matches!(*self.state.lock(), State::Gone)
    }

    /// Ends the handshake; `true` for the one caller who ended it.
    pub(crate) fn end(&self) -> bool {
        let old = core::mem::replace(&mut *self.state.lock(), State::Gone);
        !matches!(old, State::Gone)
    }
}

/// All responder handshakes of a context.
pub(crate) struct PendingTable {
    capacity: usize,
    entries: Vec<Arc<Pending>>,
}

impl PendingTable {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), entries: Vec::new() }
    }

    /// Adds a handshake. When the table is full, the one that `random` points at has to go and is returned: which
    /// one that is cannot be aimed at.
    #[must_use = "the handshake that had to go must be ended"]
    pub(crate) fn insert(&mut self, pending: Arc<Pending>, random: u64) -> Option<Arc<Pending>> {
        if self.entries.len() < self.capacity {
            self.entries.push(pending);
            return None;
        }
        let victim = (random % self.entries.len() as u64) as usize;
        Some(core::mem::replace(&mut self.entries[victim], pending))
    }

    /// Removes the handshake of `kid`.
    pub(crate) fn remove(&mut self, kid: KeyId) -> Option<Arc<Pending>> {
        let place = self.entries.iter().position(|pending| pending.kid == kid)?;
        Some(self.entries.swap_remove(place))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}
