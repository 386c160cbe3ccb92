//! What is needed for sending, shared by all connections: only those that are sending hold it.

use crossbeam_queue::ArrayQueue;

use crate::connection::Outgoing;
use crate::link::SendBatch;

/// Bytes of payloads that a connection gathers before it seals and sends.
pub(crate) const SEND_BATCH: usize = 160 * 1024;

/// Desks kept for the next to come.
const KEPT: usize = 16;

/// What one who sends works with.
pub(crate) struct Desk {
    /// What goes next.
    pub(crate) payloads: Vec<Outgoing>,
    /// The same, sealed.
    pub(crate) batch: SendBatch,
}

/// A pool of empty desks.
///
/// How many are lent is not bounded but by who may send, which is every connection with its helpers while the link is full:
/// whoever waits for it has sealed already. Were they bounded, connections on a road that is blocked would have all of them,
/// and hold up those on another road of the same link.
pub(crate) struct Desks {
    capacity: usize,
    pool: ArrayQueue<Desk>,
}

impl Desks {
    /// For payloads of up to `max_payload` bytes.
    pub(crate) fn new(max_payload: usize) -> Self {
        // What is gathered ends with the payload that reaches `SEND_BATCH`; headers and tags come on top. Where small
        // payloads make that too little, the buffer is sent in between.
        let capacity = SEND_BATCH + max_payload * 9 / 8 + 16 * 1024;
        Self { capacity, pool: ArrayQueue::new(KEPT) }
    }

    pub(crate) fn take(&self) -> Desk {
        let new = || Desk { payloads: Vec::new(), batch: SendBatch::new(self.capacity) };
        self.pool.pop().unwrap_or_else(new)
    }

    /// Takes an empty desk back.
    pub(crate) fn put(&self, desk: Desk) {
        // A full pool keeps what it has.
        let _ = self.pool.push(desk);
    }
}
