//! A block of the ring as bytes: a chain of frames, each behind what the kernel notes about it (TPACKET_V3).

use core::mem::offset_of;

use libc::tpacket3_hdr as Note;

use crate::header::Frame;

/// The first fields of a block, as they lie in memory.
#[repr(C)]
pub(crate) struct BlockHeader {
    version: u32,
    offset_to_private: u32,
    pub(crate) status: u32,
    frames: u32,
    offset_to_first: u32,
}

/// The frames of a block in the order they came. One that is not what it says it is comes as `None`.
///
/// The kernel wrote all offsets; each is checked nevertheless, since that costs next to nothing.
#[derive(Debug, Clone)]
pub(crate) struct Entries<'a> {
    block: &'a [u8],
    next: usize,
    left: u32,
}

impl<'a> Entries<'a> {
    pub(crate) fn new(block: &'a [u8]) -> Self {
        let left = u32_at(block, offset_of!(BlockHeader, frames)).unwrap_or(0);
        let first = u32_at(block, offset_of!(BlockHeader, offset_to_first)).unwrap_or(0);
        Self { block, next: first as usize, left }
    }

    /// How many are still to come.
    pub(crate) fn left(&self) -> usize {
        self.left as usize
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Option<Frame<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let entry = self.block.get(self.next..);
        let step = entry.and_then(|entry| u32_at(entry, offset_of!(Note, tp_next_offset)));
        // Without an offset this is the last one.
        match step.unwrap_or(0) {
            0 => self.left = 0,
            step => self.next = self.next.saturating_add(step as usize),
        }
        Some(entry.and_then(frame))
    }
}

fn frame(entry: &[u8]) -> Option<Frame<'_>> {
    let start = usize::from(u16_at(entry, offset_of!(Note, tp_mac))?);
    let kept = u32_at(entry, offset_of!(Note, tp_snaplen))?;
    let whole = u32_at(entry, offset_of!(Note, tp_len))?;
    let bytes = entry.get(start..)?.get(..kept as usize)?;
    if kept < whole { None } else { Frame::parse(bytes) }
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::Header;
    use crate::{EtherType, MacAddress};
    use proptest::prelude::*;

    fn put(bytes: &mut [u8], offset: usize, value: u32) {
        #[expect(clippy::host_endian_bytes, reason = "as the kernel writes them")]
        bytes[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
    }

    /// A block as the kernel fills it. Frames of which only a part was kept say so.
    fn block(datagrams: &[(Vec<u8>, bool)]) -> Vec<u8> {
        const FIRST: usize = 48;
        const FRAME: usize = 82;
        let mut block = vec![0; FIRST];
        put(&mut block, offset_of!(BlockHeader, frames), datagrams.len() as u32);
        put(&mut block, offset_of!(BlockHeader, offset_to_first), FIRST as u32);
        for (index, (datagram, cut)) in datagrams.iter().enumerate() {
            let header = Header {
                to: MacAddress([1; 6]),
                from: MacAddress([index as u8; 6]),
                ether_type: EtherType::LOCAL_EXPERIMENT,
                len: datagram.len() as u16,
                spread: 0,
            };
            let frame = [&header.emit()[..], datagram].concat();
            let mut entry = vec![0; (FRAME + frame.len()).next_multiple_of(16)];
            entry[FRAME..FRAME + frame.len()].copy_from_slice(&frame);
            let last = index + 1 == datagrams.len();
            let step = if last { 0 } else { entry.len() as u32 };
            put(&mut entry, offset_of!(Note, tp_next_offset), step);
            put(&mut entry, offset_of!(Note, tp_snaplen), frame.len() as u32);
            put(&mut entry, offset_of!(Note, tp_len), frame.len() as u32 + u32::from(*cut));
            #[expect(clippy::host_endian_bytes, reason = "as the kernel writes them")]
            entry[offset_of!(Note, tp_mac)..][..2].copy_from_slice(&(FRAME as u16).to_ne_bytes());
            block.extend_from_slice(&entry);
        }
        block
    }

    proptest! {
        #[test]
        fn all_frames_of_a_block_are_found(
            datagrams in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..300), any::<bool>()), 0..20)
        ) {
            let block = block(&datagrams);
            let found: Vec<_> = Entries::new(&block).map(|frame| frame.map(|frame| frame.bytes.to_vec())).collect();
            let expected: Vec<_> = datagrams.into_iter().map(|(datagram, cut)| (!cut).then_some(datagram)).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn no_bytes_take_it_outside_the_block(mut bytes in prop::collection::vec(any::<u8>(), 0..400), small: [u8; 8]) {
            // Offsets that point into the block, more often than not.
            for (offset, value) in [(12, small[0]), (16, small[1]), (48, small[2]), (60, small[3]), (64, small[4])] {
                if bytes.len() > offset + 4 {
                    put(&mut bytes, offset, u32::from(value));
                }
            }
            prop_assert!(Entries::new(&bytes).count() <= u32::MAX as usize);
        }
    }
}
