//! Memory for what is received, used again: allocating tens of kilobytes for each message would cost more than
//! opening it, since the allocator gives such blocks back to the system and takes them anew.

use std::sync::{Arc, Weak};

use bytes::Bytes;

use crate::sync::{RankedMutex, rank};

/// What is smaller than this is left to the allocator, which is good at it.
const SMALL: usize = 4096;

/// Buffers kept for the next message, at most.
const KEPT: usize = 64;

/// Larger buffers are not kept.
const LARGEST: usize = 128 * 1024;

/// A pool of receive buffers. A buffer that the application keeps is simply not there to be used again.
#[derive(Debug, Default)]
pub(crate) struct Buffers(RankedMutex<{ rank::POOL }, Vec<Vec<u8>>>);

impl Buffers {
    /// A copy of `data`, whose memory comes back when the last handle of it is dropped.
    pub(crate) fn copy(self: &Arc<Self>, data: &[u8]) -> Bytes {
        if data.len() < SMALL {
            return Bytes::copy_from_slice(data);
        }
        let mut memory = self.0.lock().pop().unwrap_or_default();
        memory.clear();
        memory.extend_from_slice(data);
        Bytes::from_owner(Lent { memory, pool: Arc::downgrade(self) })
    }
}

/// A buffer on loan.
struct Lent {
    memory: Vec<u8>,
    pool: Weak<Buffers>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.memory
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(pool) = self.pool.upgrade() else { return };
        let memory = std::mem::take(&mut self.memory);
        let mut kept = pool.0.lock();
        if kept.len() < KEPT && memory.capacity() <= LARGEST {
            kept.push(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_and_content_does_not() {
        let buffers = Arc::new(Buffers::default());
        let first = buffers.copy(&[1; 10_000]);
        let place = first.as_ptr();
        let clone = first.clone();
        drop(first);
        assert_ne!(buffers.copy(&[3; 10_000]).as_ptr(), place, "a clone still holds it");
        assert!(clone.iter().all(|&byte| byte == 1));
        buffers.0.lock().clear();
        drop(clone);
        let second = buffers.copy(&[2; 5_000]);
        assert_eq!(second.as_ptr(), place);
        assert_eq!(second, vec![2; 5_000]);
    }

    #[test]
    fn the_pool_is_bounded() {
        let buffers = Arc::new(Buffers::default());
        let lent: Vec<_> = (0..2 * KEPT).map(|_| buffers.copy(&[0; SMALL])).collect();
        drop(lent);
        assert_eq!(buffers.0.lock().len(), KEPT);
        let large = buffers.copy(&vec![0; LARGEST + 1]);
        drop(large);
        assert!(buffers.0.lock().iter().all(|memory| memory.capacity() <= LARGEST));
    }
}
