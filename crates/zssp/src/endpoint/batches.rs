//! Send buffers, shared by all connections: only those that are sending hold one.

use crate::link::SendBatch;
use crate::sync::{RankedMutex, rank};

/// Bytes of payloads that a connection gathers before it seals and sends.
pub(crate) const SEND_BATCH: usize = 160 * 1024;

/// Room for the gathered payloads with headers and tags; what does not fit is sent in between.
const CAPACITY: usize = SEND_BATCH + 96 * 1024;

/// Buffers kept for the next to come.
const KEPT: usize = 16;

/// A pool of send buffers.
#[derive(Default)]
pub(crate) struct Batches(RankedMutex<{ rank::POOL }, Vec<SendBatch>>);

impl Batches {
    pub(crate) fn take(&self) -> SendBatch {
        let pooled = self.0.lock().pop();
        pooled.unwrap_or_else(|| SendBatch::new(CAPACITY))
    }

    /// Takes an empty buffer back.
    pub(crate) fn put(&self, batch: SendBatch) {
        let mut pool = self.0.lock();
        if pool.len() < KEPT {
            pool.push(batch);
        }
    }
}
