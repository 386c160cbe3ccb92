//! A slot of the ring as bytes: a frame behind what the kernel notes about it (TPACKET_V2).

use core::mem::offset_of;

pub(crate) use libc::tpacket2_hdr as Note;

use crate::header::Frame;

/// The frame in a slot; `None` when it is not what it says it is, or was too long for the slot.
///
/// The kernel wrote all offsets; each is checked nevertheless, since that costs next to nothing.
pub(crate) fn frame(slot: &[u8]) -> Option<Frame<'_>> {
    let start = usize::from(u16_at(slot, offset_of!(Note, tp_mac))?);
    let kept = u32_at(slot, offset_of!(Note, tp_snaplen))?;
    let whole = u32_at(slot, offset_of!(Note, tp_len))?;
    let bytes = slot.get(start..)?.get(..kept as usize)?;
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

    /// A slot as the kernel fills it, with the frame of a datagram of which the last bytes may be cut.
    #[expect(clippy::host_endian_bytes, reason = "as the kernel writes them")]
    fn slot(datagram: &[u8], cut: usize) -> Vec<u8> {
        const START: usize = 66;
        let header = Header {
            to: MacAddress([1; 6]),
            from: MacAddress([2; 6]),
            ether_type: EtherType::LOCAL_EXPERIMENT,
            len: datagram.len() as u16,
            spread: 0,
        };
        let frame = [&header.emit()[..], datagram].concat();
        let mut slot = vec![0; 512];
        let mut put = |offset: usize, bytes: &[u8]| slot[offset..][..bytes.len()].copy_from_slice(bytes);
        put(offset_of!(Note, tp_len), &(frame.len() as u32).to_ne_bytes());
        put(offset_of!(Note, tp_snaplen), &((frame.len() - cut) as u32).to_ne_bytes());
        put(offset_of!(Note, tp_mac), &(START as u16).to_ne_bytes());
        put(START, &frame);
        slot
    }

    proptest! {
        #[test]
        fn a_frame_is_found_unless_it_was_cut(datagram in prop::collection::vec(any::<u8>(), 0..300), cut in 0..2usize) {
            let slot = slot(&datagram, cut);
            let found = frame(&slot).map(|frame| (frame.source, frame.bytes));
            prop_assert_eq!(found, (cut == 0).then_some((MacAddress([2; 6]), &datagram[..])));
        }

        #[test]
        fn no_bytes_take_it_outside_the_slot(mut bytes in prop::collection::vec(any::<u8>(), 0..400), start: u8, len: u8) {
            // Numbers that point into the slot, more often than not.
            for (offset, low) in [(4, len), (8, len), (12, start)] {
                if let Some(number) = bytes.get_mut(offset..offset + if offset == 12 { 2 } else { 4 }) {
                    number.fill(0);
                    number[if cfg!(target_endian = "big") { number.len() - 1 } else { 0 }] = low;
                }
            }
            if let Some(frame) = frame(&bytes) {
                prop_assert!(bytes.as_ptr_range().contains(&frame.bytes.as_ptr()) || frame.bytes.is_empty());
            }
        }
    }
}
