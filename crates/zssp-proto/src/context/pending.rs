//! Responder handshakes between X2 and the application's decision (state B2), bounded in number and in bytes.

use std::sync::Arc;
use std::time::Instant;

use super::peers::Moment;
use super::routes::Ingress;
use super::storage::Doubt;
use crate::address::Address;
use crate::suite::Suite;
use crate::sync::{RankedMutex, rank};
use crate::wire::KeyId;
use crate::zke::state::{ATTEMPT, HeaderKeys};
use crate::zke::xk;

/// One responder handshake.
pub(crate) struct Pending {
    /// The key id under which X3 will come, and the session's later.
    pub(crate) kid: KeyId,
    pub(crate) ingress: Ingress,
    /// When X1 was answered, among what else happened.
    pub(super) since: Moment,
    /// When X1 was answered.
    pub(super) answered: Instant,
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
    /// Where X1 came from and X2 went: Alice has got it there, so that is where she is, wherever X3 comes from.
    //= ZSSP-ST-34  where X1 came from
    pub(crate) address: Address,
    pub(crate) header: HeaderKeys,
    /// What a write of this handshake that failed has left open.
    pub(crate) doubt: Option<Box<Doubt>>,
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
    /// What a handshake is counted as before its X3 is read; the tests of memory compare it with what it takes.
    pub(crate) const BYTES: usize = 4 << 10;

    pub(super) fn new(kid: KeyId, (since, answered): (Moment, Instant), state: AwaitCompletion) -> Self {
        Self {
            kid,
            since,
            answered,
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

    /// Whether X3 is being read, or the application is being asked: a copy of it leads nowhere.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(*self.state.lock(), State::Busy)
    }

    /// Whether the handshake was forgotten, or should have been.
    //= ZSSP-ST-05  after 10 s, also where its timer is met late
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.answered + ATTEMPT <= now || matches!(*self.state.lock(), State::Gone)
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
    max_bytes: usize,
    bytes: usize,
    entries: Vec<Entry>,
}

struct Entry {
    pending: Arc<Pending>,
    /// That of the handshake, here to be looked through quickly.
    source: [u8; 32],
    bytes: usize,
}

impl PendingTable {
    pub(crate) fn new(capacity: usize, max_bytes: usize) -> Self {
        Self { capacity: capacity.max(1), max_bytes, bytes: 0, entries: Vec::new() }
    }

    /// Adds a handshake, and returns those that had to make room for it. Which ones they are is for `random` to say
    /// and cannot be aimed at; a source that has more than its share already makes room for itself.
    #[must_use = "the handshakes that had to go must be ended"]
    //= ZSSP-DEF-13  random ones
    pub(crate) fn insert(&mut self, pending: Arc<Pending>, random: u64) -> Vec<Arc<Pending>> {
        let (source, bytes) = (pending.source, Pending::BYTES);
        let evicted = self.make_room((source, 1, bytes), random);
        self.bytes += bytes;
        self.entries.push(Entry { pending, source, bytes });
        evicted
    }

    /// The handshake of `kid` holds an identity of so many bytes now. Returns those that had to make room for it, which
    /// may be the handshake itself.
    #[must_use = "the handshakes that had to go must be ended"]
    pub(crate) fn identified(&mut self, kid: KeyId, identity_len: usize, random: u64) -> Vec<Arc<Pending>> {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.pending.kid == kid) else {
            return Vec::new();
        };
        self.bytes -= entry.bytes;
        entry.bytes = Pending::BYTES + identity_len;
        self.bytes += entry.bytes;
        let source = entry.source;
        self.make_room((source, 0, 0), random)
    }

    /// Takes handshakes out until so many more, of so many bytes, fit in.
    fn make_room(
        &mut self,
        (source, count, bytes): ([u8; 32], usize, usize),
        mut random: u64,
    ) -> Vec<Arc<Pending>> {
        let mut evicted = Vec::new();
        while let Some(place) = self.victim((source, count, bytes), random) {
            evicted.push(self.take_out(place));
            // Any step will do from a place that nobody knows.
            random = random.rotate_left(17).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        evicted
    }

    /// Which handshake has to go before so many more, of so many bytes, fit in.
    fn victim(&self, (source, count, bytes): ([u8; 32], usize, usize), random: u64) -> Option<usize> {
        let own = || self.entries.iter().enumerate().filter(|(_, entry)| entry.source == source);
        let (mut own_count, mut own_bytes) = (0, 0);
        for (_, entry) in own() {
            own_count += 1;
            own_bytes += entry.bytes;
        }
        let is_above_share = own_count + count > (self.capacity / SHARES).max(1)
            || own_bytes + bytes > self.max_bytes / SHARES;
        if is_above_share && own_count > 0 && own_count + count > 1 {
            return own().nth(random as usize % own_count).map(|(place, _)| place);
        }
        let all = self.entries.len() + count;
        let is_full = all > self.capacity || self.bytes + bytes > self.max_bytes;
        // One always has room.
        //= ZSSP-DEF-13  not always one and the same slot
        (is_full && all > 1).then(|| random as usize % self.entries.len())
    }

    /// Whether there is not much room left.
    pub(crate) fn is_filling(&self) -> bool {
        // Bounds may be as large as a number can be.
        self.entries.len().saturating_mul(4) > self.capacity.saturating_mul(3)
            || self.bytes > self.max_bytes / 4 * 3
    }

    /// Removes the handshake of `kid`.
    pub(crate) fn remove(&mut self, kid: KeyId) -> Option<Arc<Pending>> {
        let place = self.entries.iter().position(|entry| entry.pending.kid == kid)?;
        Some(self.take_out(place))
    }

    fn take_out(&mut self, place: usize) -> Arc<Pending> {
        let Entry { pending, bytes, .. } = self.entries.swap_remove(place);
        self.bytes -= bytes;
        pending
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes held for all of them.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}
