//! Memory for what is received and written, used again: allocating tens of kilobytes for each message would cost more
//! than opening it, since the allocator gives such blocks back to the system and takes them anew.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use crossbeam_queue::ArrayQueue;

/// What is smaller than this is left to the allocator, which is good at it.
const SMALL: usize = 4096;

/// Buffers kept for the next message, at most.
const KEPT: usize = 64;

/// Larger buffers are not kept.
const LARGEST: usize = 128 * 1024;

/// A pool of buffers, each of which is with the pool or with one owner. A buffer that the application keeps is simply not
/// there to be used again.
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

    /// Appends `data` to `block`, which gets memory of the pool once it is large.
    pub(crate) fn append(self: &Arc<Self>, block: &mut Block, data: &[u8]) {
        let len = block.len() + data.len();
        if len >= SMALL && len > block.memory.capacity() {
            let mut memory = self.take();
            memory.clear();
            memory.reserve(len);
            memory.extend_from_slice(&block.memory);
            *block = self.block(memory);
        }
        block.memory.extend_from_slice(data);
    }

    /// `memory` itself, if little of it would lie idle: it comes back when nobody has a part of it any more, and another is
    /// left in its place. Otherwise nothing, and copies of what is wanted are cheaper.
    pub(crate) fn lend(self: &Arc<Self>, memory: &mut Vec<u8>) -> Option<LentBuffer> {
        if memory.len() < SMALL || memory.len() < memory.capacity() / 2 {
            return None;
        }
        let memory = std::mem::replace(memory, self.take());
        let capacity = memory.capacity();
        Some(LentBuffer { bytes: Bytes::from_owner(self.block(memory)), capacity })
    }

    fn block(self: &Arc<Self>, memory: Vec<u8>) -> Block {
        Block { memory, pool: Arc::downgrade(self) }
    }
}

/// A buffer that goes back to its pool when the last part of it is dropped.
#[derive(Debug)]
pub(crate) struct LentBuffer {
    bytes: Bytes,
    capacity: usize,
}

impl LentBuffer {
    /// `part` of its bytes, to be kept: copied where much of the buffer would lie idle otherwise. So what is kept takes no
    /// more than twice its length, whatever came along with it.
    pub(crate) fn keep(&self, part: &[u8]) -> Bytes {
        if part.len() < self.capacity / 2 { Bytes::copy_from_slice(part) } else { self.bytes.slice_ref(part) }
    }
}

impl AsRef<[u8]> for LentBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Bytes in a buffer that goes back to its pool when it is dropped, or in memory of their own while they are few.
#[derive(Debug, Default)]
pub(crate) struct Block {
    memory: Vec<u8>,
    pool: Weak<Buffers>,
}

impl Block {
    pub(crate) fn len(&self) -> usize {
        self.memory.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.memory.is_empty()
    }

    /// Its bytes, copied only where much of a buffer would lie idle otherwise.
    pub(crate) fn into_bytes(mut self) -> Bytes {
        if self.pool.strong_count() == 0 {
            Bytes::from(std::mem::take(&mut self.memory))
        } else if self.memory.len() < self.memory.capacity() / 2 {
            Bytes::copy_from_slice(&self.memory)
        } else {
            Bytes::from_owner(self)
        }
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.memory
    }
}

impl Drop for Block {
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

    fn copy(buffers: &Arc<Buffers>, data: &[u8]) -> Bytes {
        let mut block = Block::default();
        buffers.append(&mut block, data);
        block.into_bytes()
    }

    #[test]
    fn memory_comes_back_and_content_does_not() {
        let buffers = Arc::new(Buffers::default());
        let first = copy(&buffers, &[1; 10_000]);
        let place = first.as_ptr();
        let clone = first.clone();
        drop(first);
        assert_ne!(copy(&buffers, &[3; 10_000]).as_ptr(), place, "a clone still holds it");
        assert!(clone.iter().all(|&byte| byte == 1));
        while buffers.0.pop().is_some() {}
        drop(clone);
        let second = copy(&buffers, &[2; 6_000]);
        assert_eq!(second.as_ptr(), place);
        assert_eq!(second, vec![2; 6_000]);
    }

    #[test]
    fn the_pool_is_bounded() {
        let buffers = Arc::new(Buffers::default());
        let lent: Vec<_> = (0..2 * KEPT).map(|_| copy(&buffers, &[0; SMALL])).collect();
        drop(lent);
        assert_eq!(buffers.0.len(), KEPT);
        let large = copy(&buffers, &vec![0; LARGEST + 1]);
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
        let kept = lent.keep(&lent.as_ref()[5000..]);
        assert_eq!((kept.as_ptr(), kept.len(), memory.len()), (place.wrapping_add(5000), 5000, 0));
        drop(lent);
        assert_eq!(buffers.0.len(), 0, "a part is kept");
        drop(kept);
        let again = buffers.take();
        assert_eq!(again.as_ptr(), place);
        assert!(buffers.lend(&mut vec![7; SMALL - 1]).is_none());
        let mut idle = Vec::with_capacity(100_000);
        idle.resize(10_000, 7);
        assert!(buffers.lend(&mut idle).is_none());
        assert_eq!(idle.len(), 10_000);
    }

    #[test]
    fn a_block_grows_into_memory_of_the_pool() {
        let buffers = Arc::new(Buffers::default());
        let mut block = Block::default();
        for at in 0..SMALL {
            buffers.append(&mut block, &[at as u8]);
        }
        assert_eq!(block.len(), SMALL);
        let written: Vec<u8> = (0..SMALL).map(|at| at as u8).collect();
        drop(copy(&buffers, &[0; 60_000]));
        assert_eq!(buffers.0.len(), 1, "what held 60,000 bytes");
        buffers.append(&mut block, &[1; 60_000]);
        assert_eq!(buffers.0.len(), 0, "it has that now");
        let bytes = block.into_bytes();
        assert_eq!(bytes[..SMALL], written);
        assert_eq!(bytes[SMALL..], [1; 60_000]);
        drop(bytes);
        assert_eq!(buffers.0.len(), 1);
    }

    #[test]
    fn little_in_a_large_buffer_is_copied_out_of_it() {
        let buffers = Arc::new(Buffers::default());
        drop(copy(&buffers, &[0; 60_000]));
        let few = copy(&buffers, &[1; 2 * SMALL]);
        assert_eq!(few, vec![1; 2 * SMALL]);
        assert_eq!(buffers.0.len(), 1, "it is back");
    }
}
