//! What a context holds for others, and what it dropped because its bounds were reached.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A look at a context: memory held now, and drops counted since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Sessions, opening ones included.
    pub sessions: usize,
    /// Responder handshakes that wait for X3 or for the application.
    pub pending_handshakes: usize,
    /// Bytes held for them.
    pub pending_bytes: usize,
    /// Key ids in use.
    pub key_ids: usize,
    /// Bytes held for incomplete hellos of strangers: constant.
    pub hello_bytes: usize,
    /// Bytes held for incomplete packets of sessions and handshakes.
    pub reassembly_bytes: usize,
    /// Responder handshakes that made room for others.
    pub pending_evicted: u64,
    /// Incomplete hellos that made room for others.
    pub hellos_evicted: u64,
    /// Incomplete packets that made room for others.
    pub incomplete_evicted: u64,
    /// Incomplete packets whose time was over.
    pub incomplete_expired: u64,
}

/// The counters behind [`Stats`]; nothing that happens in ordinary traffic touches them. Each is a number that only grows
/// and that nothing is decided by: whatever threads interleave, each addition counts once, and there is nothing to model.
#[derive(Debug, Default)]
pub(super) struct Drops {
    pub(super) pending_evicted: Count,
    pub(super) hellos_evicted: Count,
    pub(super) incomplete_evicted: Count,
    pub(super) incomplete_expired: Count,
}

#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, count: usize) {
        if count > 0 {
            self.0.fetch_add(count as u64, Relaxed);
        }
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
