//! Send buffers, shared by all connections: only those that are sending hold one.

use crossbeam_queue::ArrayQueue;

use crate::link::SendBatch;

/// Bytes of payloads that a connection gathers before it seals and sends.
pub(crate) const SEND_BATCH: usize = 160 * 1024;

/// Buffers kept for the next to come.
const KEPT: usize = 16;

/// A pool of send buffers.
pub(crate) struct Batches {
    capacity: usize,
    pool: ArrayQueue<SendBatch>,
}

impl Batches {
    /// For payloads of up to `max_payload` bytes.
    pub(crate) fn new(max_payload: usize) -> Self {
        // What is gathered ends with the payload that reaches `SEND_BATCH`; headers and tags come on top. Where small
        // payloads make that too little, the buffer is sent in between.
        let capacity = SEND_BATCH + max_payload * 9 / 8 + 16 * 1024;
        Self { capacity, pool: ArrayQueue::new(KEPT) }
    }

    pub(crate) fn take(&self) -> SendBatch {
        self.pool.pop().unwrap_or_else(|| SendBatch::new(self.capacity))
    }

    /// Takes an empty buffer back.
    pub(crate) fn put(&self, batch: SendBatch) {
        // A full pool keeps what it has.
        let _ = self.pool.push(batch);
    }
}
