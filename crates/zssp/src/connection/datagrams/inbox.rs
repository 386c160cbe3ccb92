//! Datagrams that the application has yet to read.
//!
//! Its races are model-checked in `testing/races`, which has the command.

use bytes::Bytes;

use crate::sync::{AtomicUsize, Relaxed, SegQueue};

/// What a datagram costs of its buffers besides its bytes.
const OVERHEAD: usize = 64;

/// What a datagram of `len` bytes costs of its buffers.
pub(crate) const fn cost(len: usize) -> usize {
    len + OVERHEAD
}

/// Those that have arrived, in the order in which they did, up to a limit.
#[derive(Debug)]
pub(super) struct Inbox {
    waiting: SegQueue<Bytes>,
    /// What they cost. Each is counted before it goes in and until after it is out. Nothing is read on the strength of
    /// this number, so relaxed is enough.
    held: AtomicUsize,
    limit: usize,
}

impl Inbox {
    /// For datagrams that cost up to `limit` together.
    pub(super) fn new(limit: usize) -> Self {
        Self { waiting: SegQueue::new(), held: AtomicUsize::new(0), limit }
    }

    /// Puts a datagram in, unless there is no room for it. The first always finds room.
    pub(super) fn push_if_room(&self, data: Bytes) -> bool {
        let cost = cost(data.len());
        let add = |held| (held == 0 || held + cost <= self.limit).then_some(held + cost);
        let has_room = self.held.fetch_update(Relaxed, Relaxed, add).is_ok();
        if has_room {
            self.waiting.push(data);
        }
        has_room
    }

    /// Puts a datagram in, and the oldest out until there is room. Yields how many these were. Of several tasks that do so at
    /// once, none can take out what another has counted and not yet put in: the limit may be exceeded by a datagram of each.
    pub(super) fn push_for_oldest(&self, data: Bytes) -> u64 {
        self.held.fetch_add(cost(data.len()), Relaxed);
        let mut displaced = 0;
        while self.held.load(Relaxed) > self.limit && self.pop().is_some() {
            displaced += 1;
        }
        self.waiting.push(data);
        displaced
    }

    /// The next for the application.
    pub(super) fn pop(&self) -> Option<Bytes> {
        let data = self.waiting.pop()?;
        self.held.fetch_sub(cost(data.len()), Relaxed);
        Some(data)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What is in it costs.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.held.load(Relaxed)
    }
}
