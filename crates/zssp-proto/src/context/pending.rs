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
    /// Who could have sent it: see [`Address::source`].
    source: [u8; 32],
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
    pub(crate) header: HeaderKeys,
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
            source: state.address.source(),
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

/// How many sources it takes to fill the table.
const SHARES: usize = 8;

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
    /// one that is cannot be aimed at. A source that has more than its share already makes room for itself.
    #[must_use = "the handshake that had to go must be ended"]
    //= ZSSP-DEF-13  a random one
    pub(crate) fn insert(&mut self, pending: Arc<Pending>, random: u64) -> Option<Arc<Pending>> {
        let is_same = |other: &&Arc<Pending>| other.source == pending.source;
        let share = (self.capacity / SHARES).max(1);
        // Nobody can have more than a share before there are as many handshakes.
        let own = if self.entries.len() < share { 0 } else { self.entries.iter().filter(is_same).count() };
        let victim = if own >= share {
            let chosen = (random % own as u64) as usize;
            self.entries
                .iter()
                .enumerate()
                .filter(|(_, other)| is_same(other))
                .nth(chosen)
                .map(|(place, _)| place)
        } else if self.entries.len() >= self.capacity {
            Some((random % self.entries.len() as u64) as usize)
        } else {
            None
        };
        //= ZSSP-DEF-13  not always one and the same slot
        match victim {
            Some(victim) => Some(core::mem::replace(&mut self.entries[victim], pending)),
            None => {
                self.entries.push(pending);
                None
            }
        }
    }

    /// Whether there is not much room left.
    pub(crate) fn is_filling(&self) -> bool {
        self.entries.len() * 4 > self.capacity * 3
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
