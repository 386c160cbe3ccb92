use super::Split;
use crate::crypto::{Block, ProtectKey, UnprotectKey};
use crate::wire::{HEADER_LEN, MIN_FRAGMENT_LEN};

/// Blocks given to the cipher at once: enough to keep its pipeline full, and little to clear for a lone
/// fragment.
const BATCH: usize = 16;

/// Protects the headers of all fragments of a packet, as [`spread`](super::spread) laid them out
/// (PROTOCOL 3.3).
///
/// Gathers the blocks, has the cipher transform many at once, and puts them back: its pipeline works on eight
/// blocks in the time of one.
//= ZSSP-HP-02  bytes 4..20 of each fragment, in place
pub(crate) fn protect(key: &dyn ProtectKey, buffer: &mut [u8], split: &Split) {
    let mut rest = buffer;
    let mut places = split.fragments().map_while(|fragment| {
        let (datagram, after) = core::mem::take(&mut rest).split_at_mut_checked(fragment.len())?;
        rest = after;
        protected_block(datagram)
    });
    let mut blocks = [[0; 16]; BATCH];
    let mut homes = [const { None }; BATCH];
    loop {
        let mut filled = 0;
        for ((block, home), place) in blocks.iter_mut().zip(&mut homes).zip(&mut places) {
            *block = *place;
            *home = Some(place);
            filled += 1;
        }
        if filled == 0 {
            return;
        }
        key.protect(&mut blocks[..filled]);
        for (home, block) in homes[..filled].iter_mut().zip(&blocks) {
            if let Some(place) = home.take() {
                *place = *block;
            }
        }
    }
}

/// Unprotects the header of a datagram (PROTOCOL 3.3).
///
/// A datagram that is too short to be read is left as it is; reading its header then fails.
pub(crate) fn unprotect(key: &dyn UnprotectKey, datagram: &mut [u8]) {
    if let Some(block) = protected_block(datagram) {
        key.unprotect(core::slice::from_mut(block));
    }
}

/// The header of a datagram that stays as it is (PROTOCOL 3.3), and its piece of the packet: four bytes that were under
/// the protection, and the others. `None` when it is too short to be read.
//= ZSSP-HP-04  a fragment shorter than 32 bytes is not read
pub(crate) fn unprotected<'d>(
    key: &dyn UnprotectKey,
    datagram: &'d [u8],
) -> Option<([u8; HEADER_LEN], [u8; 4], &'d [u8])> {
    if datagram.len() < MIN_FRAGMENT_LEN {
        return None;
    }
    let (kid, rest) = datagram.split_first_chunk::<4>()?;
    let (block, tail) = rest.split_first_chunk::<16>()?;
    let mut block: Block = *block;
    key.unprotect(core::slice::from_mut(&mut block));
    let mut header = [0; HEADER_LEN];
    let (start, fields) = header.split_first_chunk_mut::<4>()?;
    let (nonce_end, head) = block.split_last_chunk::<4>()?;
    *start = *kid;
    fields.copy_from_slice(nonce_end);
    Some((header, *head, tail))
}

/// Bytes 4..20 of a fragment; `None` when it is too short to be read at all.
//= ZSSP-HP-04  a fragment shorter than 32 bytes is not read
fn protected_block(datagram: &mut [u8]) -> Option<&mut Block> {
    if datagram.len() < MIN_FRAGMENT_LEN {
        return None;
    }
    let (_kid, rest) = datagram.split_first_chunk_mut::<4>()?;
    rest.first_chunk_mut()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{FragmentHeader, KeyId, PacketNonce, PacketType};
    use crate::zfp::spread;

    /// Not a cipher: adds to or takes from each byte its place in the block, so that a block that was shifted,
    /// missed or treated twice shows.
    struct Shift;

    impl ProtectKey for Shift {
        fn protect(&self, blocks: &mut [Block]) {
            assert!(!blocks.is_empty() && blocks.len() <= BATCH);
            blocks.iter_mut().for_each(|b| b.iter_mut().zip(1..).for_each(|(x, i)| *x = x.wrapping_add(i)));
        }
    }

    impl UnprotectKey for Shift {
        fn unprotect(&self, blocks: &mut [Block]) {
            assert_eq!(blocks.len(), 1);
            blocks.iter_mut().for_each(|b| b.iter_mut().zip(1..).for_each(|(x, i)| *x = x.wrapping_sub(i)));
        }
    }

    //= ZSSP-HP-02  bytes 4..20 of each fragment, in place
    #[test]
    fn only_bytes_4_to_20_change() {
        let mut datagram = [0; 32];
        unprotect(&Shift, &mut datagram);
        let changed: Vec<usize> = (0..32).filter(|i| datagram[*i] != 0).collect();
        assert_eq!(changed, (4..20).collect::<Vec<_>>());
    }

    //= ZSSP-HP-04  a fragment shorter than 32 bytes is not read
    #[test]
    fn a_short_datagram_is_left_alone_and_its_neighbours_are_not() {
        let mut datagrams = [vec![0; 32], vec![0; 31], vec![], vec![0; 40]];
        datagrams.iter_mut().for_each(|datagram| unprotect(&Shift, datagram));
        let touched = datagrams.map(|datagram| datagram.iter().any(|byte| *byte != 0));
        assert_eq!(touched, [true, false, false, true]);
    }

    proptest! {
        #[test]
        fn unprotecting_undoes_protecting(mtu in 128..=1500_usize, part in 0.0..=1.0_f64) {
            let packet_len = 16 + ((48 * (mtu - 16) - 16) as f64 * part) as usize;
            let split = Split::new(packet_len, mtu).unwrap();
            let nonce = PacketNonce::new(PacketType::Payload, 7);
            let mut plain = vec![0x55; split.buffer_len()];
            spread(&mut plain, &split, KeyId::new([1; 4]), nonce);

            let mut buffer = plain.clone();
            protect(&Shift, &mut buffer, &split);
            for fragment in split.fragments() {
                let mut lone = plain[fragment.clone()].to_vec();
                Shift.protect(core::slice::from_mut(protected_block(&mut lone).unwrap()));
                prop_assert_eq!(&lone, &buffer[fragment]);
            }
            for fragment in split.fragments() {
                unprotect(&Shift, &mut buffer[fragment]);
            }
            prop_assert_eq!(&buffer, &plain);
            prop_assert!(FragmentHeader::split_off(&mut buffer).is_ok());
        }
    }
}
