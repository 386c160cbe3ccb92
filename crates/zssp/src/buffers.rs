//! Memory for what is received, used again: allocating tens of kilobytes for each message would cost more than
//! opening it, since the allocator gives such blocks back to the system and takes them anew.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use crossbeam_queue::ArrayQueue;

/// What is smaller than this is left to the allocator, which is good at it.
const SMALL: usize = 4096;

/// Buffers kept for the next message, at most.
const KEPT: usize = 64;

/// Larger buffers are not kept.
const LARGEST: usize = 128 * 1024;

/// A pool of buffers. A buffer that the application keeps is simply not there to be used again.
#[derive(Debug)]
pub(crate) struct Buffers(ArrayQueue<Vec<u8>>);

impl Default for Buffers {
    fn default() -> Self {
        Self(ArrayQueue::new(KEPT))
    }
}

impl Buffers {
    /// A buffer with whatever was in it.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.0.pop().unwrap_or_default()
    }

    /// A copy of `data`, whose memory comes back when the last handle of it is dropped.
    pub(crate) fn copy(self: &Arc<Self>, data: &[u8]) -> Bytes {
        if data.len() < SMALL {
            return Bytes::copy_from_slice(data);
        }
        let mut memory = self.take();
        memory.clear();
        memory.extend_from_slice(data);
        Bytes::from_owner(Lent { memory, pool: Arc::downgrade(self) })
    }

    /// `memory` itself as bytes, if little of it would lie idle: it comes back when the last handle is dropped, and
    /// another is left in its place. Otherwise nothing, and copies of what is wanted are cheaper.
    pub(crate) fn lend(self: &Arc<Self>, memory: &mut Vec<u8>) -> Option<Bytes> {
        if memory.len() < SMALL || memory.len() < memory.capacity() / 2 {
            return None;
        }
        let memory = std::mem::replace(memory, self.take());
        Some(Bytes::from_owner(Lent { memory, pool: Arc::downgrade(self) }))
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
        if memory.capacity() <= LARGEST {
            // A full pool keeps what it has.
            let _ = pool.0.push(memory);
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
        while buffers.0.pop().is_some() {}
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
        assert_eq!(buffers.0.len(), KEPT);
        let large = buffers.copy(&vec![0; LARGEST + 1]);
        drop(large);
        while let Some(memory) = buffers.0.pop() {
            assert!(memory.capacity() <= LARGEST);
        }
    }

    #[test]
    fn memory_is_lent_unless_much_of_it_would_lie_idle() {
        let buffers = Arc::new(Buffers::default());
        let mut memory = vec![7; 10_000];
        let place = memory.as_ptr();
        let lent = buffers.lend(&mut memory).unwrap();
        assert_eq!((lent.as_ptr(), lent.len(), memory.len()), (place, 10_000, 0));
        drop(lent);
        let again = buffers.take();
        assert_eq!(again.as_ptr(), place);
        assert!(buffers.lend(&mut vec![7; SMALL - 1]).is_none());
        let mut idle = Vec::with_capacity(100_000);
        idle.resize(10_000, 7);
        assert!(buffers.lend(&mut idle).is_none());
        assert_eq!(idle.len(), 10_000);
    }
}
