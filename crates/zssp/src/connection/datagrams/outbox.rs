//! Datagrams on their way to the link.
//!
//! Its races are model-checked in `testing/races`, which has the command.

use bytes::Bytes;

use crate::sync::{AtomicUsize, Relaxed, SegQueue};

/// In the count of those that are pending: it does not grow any more.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// Those that were accepted and are not yet on the link.
#[derive(Debug)]
pub(super) struct Outbox {
    waiting: SegQueue<Bytes>,
    /// How many there are, those taken out to be sent among them; with [`CLOSED`]. One value, so that whatever is accepted
    /// counts for whoever closes; and nothing is read on the strength of this number, so relaxed is enough.
    pending: AtomicUsize,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self { waiting: SegQueue::new(), pending: AtomicUsize::new(0) }
    }

    /// Accepts a datagram, or hands it back once closed.
    pub(super) fn push(&self, data: Bytes) -> Result<(), Bytes> {
        let accept = |pending| (pending & CLOSED == 0).then_some(pending + 1);
        if self.pending.fetch_update(Relaxed, Relaxed, accept).is_err() {
            return Err(data);
        }
        self.waiting.push(data);
        Ok(())
    }

    /// The next to be sent. It is pending until it is [sent](Self::sent).
    pub(super) fn pop(&self) -> Option<Bytes> {
        self.waiting.pop()
    }

    /// So many of those taken out are on the link.
    pub(super) fn sent(&self, count: usize) {
        self.pending.fetch_sub(count, Relaxed);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Accepts nothing any more.
    pub(super) fn close(&self) {
        self.pending.fetch_or(CLOSED, Relaxed);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.pending.load(Relaxed) & CLOSED != 0
    }

    /// Whether all there ever will be is on the link.
    pub(super) fn is_over(&self) -> bool {
        self.pending.load(Relaxed) == CLOSED
    }
}
