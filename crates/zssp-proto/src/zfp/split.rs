use core::ops::Range;

use crate::crypto::TAG_LEN;
use crate::wire::{FragmentHeader, HEADER_LEN, KeyId, MAX_FRAGMENTS, MIN_MTU, PacketNonce};

/// How a packet falls into fragments (PROTOCOL 3.2): there is exactly one way for a packet and an MTU.
///
/// The fragments lie one after the other in a buffer of [`buffer_len`](Self::buffer_len) bytes, headers
/// included, the longer ones first. They differ by one byte at most, so they go out as at most two runs of
/// equal size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Split {
    count: usize,
    /// Bytes of the packet in a short fragment: `floor(|P| / C)`.
    short: usize,
    /// How many fragments, the first ones, carry one byte more: `|P| mod C`.
    longer: usize,
}

impl Split {
    /// The split of a packet (tag included) for datagrams of at most `mtu` bytes.
    ///
    /// # Errors
    /// See [`SplitError`]; nothing of the packet may be sent then.
    //= ZSSP-SPL-01  the MTU is at least 128
    //= ZSSP-SPL-02  the number of fragments
    //= ZSSP-SPL-04  no more than 48 fragments
    pub(crate) const fn new(packet_len: usize, mtu: usize) -> Result<Self, SplitError> {
        if mtu < MIN_MTU {
            return Err(SplitError::MtuTooSmall { mtu });
        }
        // A fragment of less than a header and a tag would be dropped unread. Only a lone one could be so
        // short: with several, each carries more than half of what this MTU allows.
        if packet_len < TAG_LEN {
            return Err(SplitError::TooShort { packet_len });
        }
        let count = packet_len.div_ceil(mtu - HEADER_LEN);
        if count > MAX_FRAGMENTS {
            return Err(SplitError::TooLarge { packet_len, limit: MAX_FRAGMENTS * (mtu - HEADER_LEN) });
        }
        Ok(Self::into_pieces(packet_len, count))
    }

    /// The split of a packet into `count` pieces, at least one.
    pub(super) const fn into_pieces(packet_len: usize, count: usize) -> Self {
        Self { count, short: packet_len / count, longer: packet_len % count }
    }

    /// The largest payload that can be sealed into one packet at this MTU; 0 below the smallest MTU.
    pub(crate) const fn max_payload(mtu: usize) -> usize {
        if mtu < MIN_MTU {
            return 0;
        }
        (mtu - HEADER_LEN).saturating_mul(MAX_FRAGMENTS) - TAG_LEN
    }

    /// How many fragments.
    pub(crate) const fn count(&self) -> usize {
        self.count
    }

    /// Bytes of the packet.
    pub(crate) const fn packet_len(&self) -> usize {
        self.short * self.count + self.longer
    }

    /// Bytes of all fragments with their headers.
    pub(crate) const fn buffer_len(&self) -> usize {
        self.packet_len() + self.headers_len()
    }

    /// Bytes of all headers: where the packet begins before [`spread`].
    pub(crate) const fn headers_len(&self) -> usize {
        HEADER_LEN * self.count
    }

    /// Which part of the packet a fragment carries.
    //= ZSSP-SPL-03  the first ones are one byte longer
    pub(super) const fn chunk(&self, number: usize) -> Range<usize> {
        let start = number * self.short + min(number, self.longer);
        start..start + self.short + (number < self.longer) as usize
    }

    /// Where each fragment lies in the buffer, header included, in order.
    pub(crate) fn fragments(self) -> impl ExactSizeIterator<Item = Range<usize>> {
        (0..self.count).map(move |number| {
            let chunk = self.chunk(number);
            chunk.start + number * HEADER_LEN..chunk.end + (number + 1) * HEADER_LEN
        })
    }

    /// The buffer as runs of equal datagrams, for segmented sends: at most two, in the buffer's order.
    pub(crate) fn runs(self) -> impl Iterator<Item = Run> {
        let short = HEADER_LEN + self.short;
        let runs = [
            Run { datagram_len: short + 1, count: self.longer },
            Run { datagram_len: short, count: self.count - self.longer },
        ];
        runs.into_iter().filter(|run| run.count > 0)
    }
}

/// Equal datagrams that lie one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// Bytes of each, header included.
    pub(crate) datagram_len: usize,
    /// How many.
    pub(crate) count: usize,
}

/// Why a packet cannot be split. Nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum SplitError {
    /// The MTU is below [`MIN_MTU`].
    #[error("an MTU of {mtu} is below the smallest, {MIN_MTU}")]
    MtuTooSmall {
        /// What was asked for.
        mtu: usize,
    },
    /// More than [`MAX_FRAGMENTS`] fragments.
    #[error("a packet of {packet_len} bytes is above the {limit} that this MTU allows")]
    TooLarge {
        /// The packet, tag included.
        packet_len: usize,
        /// The largest packet at this MTU, tag included.
        limit: usize,
    },
    /// Shorter than its own tag, so not a packet.
    #[error("a packet of {packet_len} bytes has no room for its tag")]
    TooShort {
        /// The packet.
        packet_len: usize,
    },
}

/// Turns the packet at the end of `buffer` into its fragments, in place and unprotected.
///
/// `buffer` is [`Split::buffer_len`] bytes: [`Split::headers_len`] of any content, then the packet.
///
/// # Panics
/// When the buffer has another length. The caller sized it by the same split.
pub(crate) fn spread(buffer: &mut [u8], split: &Split, kid: Option<KeyId>, nonce: PacketNonce) {
    assert_eq!(buffer.len(), split.buffer_len(), "the buffer is sized by its split");
    let packet = split.headers_len();
    // `into_pieces` is given at most MAX_FRAGMENTS pieces, which fit a byte.
    let mut header = FragmentHeader { kid, number: 0, count: split.count as u8, nonce };
    // First to last: a piece moves towards the front, never over one that has yet to move.
    for (number, fragment) in split.fragments().enumerate() {
        let chunk = split.chunk(number);
        buffer.copy_within(packet + chunk.start..packet + chunk.end, fragment.start + HEADER_LEN);
        header.number = number as u8;
        buffer[fragment.start..][..HEADER_LEN].copy_from_slice(&header.emit());
    }
}

const fn min(a: usize, b: usize) -> usize {
    if a < b { a } else { b }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzzing;
    use crate::wire::{MIN_FRAGMENT_LEN, PacketType};

    //= ZSSP-SPL-02  the number of fragments
    //= ZSSP-SPL-03  the first ones are one byte longer
    #[test]
    fn table() {
        let runs = |packet_len, mtu| -> Vec<(usize, usize)> {
            Split::new(packet_len, mtu).unwrap().runs().map(|run| (run.datagram_len, run.count)).collect()
        };
        assert_eq!(runs(16, 128), [(32, 1)]);
        assert_eq!(runs(112, 128), [(128, 1)]);
        assert_eq!(runs(113, 128), [(73, 1), (72, 1)]);
        assert_eq!(runs(114, 128), [(73, 2)]);
        assert_eq!(runs(1749, 1500), [(891, 1), (890, 1)]);
        assert_eq!(runs(1653, 1500), [(843, 1), (842, 1)]);
        assert_eq!(runs(48 * 112, 128), [(128, 48)]);
        assert_eq!(runs(48 * 112 - 1, 128), [(128, 47), (127, 1)]);
    }

    //= ZSSP-SPL-01  the MTU is at least 128
    //= ZSSP-SPL-04  no more than 48 fragments
    #[test]
    fn what_cannot_be_split() {
        assert_eq!(Split::new(16, 127), Err(SplitError::MtuTooSmall { mtu: 127 }));
        assert_eq!(Split::new(16, 0), Err(SplitError::MtuTooSmall { mtu: 0 }));
        assert_eq!(Split::new(15, 1500), Err(SplitError::TooShort { packet_len: 15 }));
        assert_eq!(Split::new(5377, 128), Err(SplitError::TooLarge { packet_len: 5377, limit: 5376 }));
        assert!(Split::new(usize::MAX, 9000).is_err());
        assert_eq!(Split::new(usize::MAX, usize::MAX).map(|split| split.count()), Ok(2));
    }

    #[test]
    fn the_largest_payload_is_the_largest() {
        assert_eq!(Split::max_payload(127), 0);
        for mtu in [128, 1280, 1500, 9000] {
            let largest = Split::max_payload(mtu) + TAG_LEN;
            assert_eq!(Split::new(largest, mtu).unwrap().count(), MAX_FRAGMENTS);
            assert!(Split::new(largest + 1, mtu).is_err());
        }
    }

    proptest! {
        //= ZSSP-SPL-02  the number of fragments
        //= ZSSP-SPL-03  the first ones are one byte longer
        #[test]
        fn the_split_is_the_canonical_one((mtu, packet_len) in packet_and_mtu()) {
            let split = Split::new(packet_len, mtu).unwrap();
            let count = packet_len.div_ceil(mtu - 16);
            prop_assert_eq!(split.count(), count);
            prop_assert_eq!(split.packet_len(), packet_len);
            prop_assert_eq!(split.buffer_len(), packet_len + 16 * count);
            let mut end = 0;
            for (number, fragment) in split.fragments().enumerate() {
                let chunk = packet_len / count + usize::from(number < packet_len % count);
                prop_assert_eq!(fragment.start, end);
                prop_assert_eq!(fragment.len(), 16 + chunk);
                prop_assert!((MIN_FRAGMENT_LEN..=mtu).contains(&fragment.len()));
                end = fragment.end;
            }
            prop_assert_eq!(end, split.buffer_len());
            let lens = split.runs().flat_map(|run| core::iter::repeat_n(run.datagram_len, run.count));
            prop_assert!(lens.eq(split.fragments().map(|fragment| fragment.len())));
            prop_assert!(split.runs().count() <= 2);
        }

        #[test]
        fn spreading_loses_nothing((mtu, packet_len) in packet_and_mtu(), kid: [u8; 4], c: u64, seed: u8) {
            let split = Split::new(packet_len, mtu).unwrap();
            let (kid, nonce) = (KeyId::new(kid), PacketNonce::new(PacketType::Payload, c));
            let packet: Vec<u8> = (0..packet_len).map(|i| (i % 251) as u8 ^ seed).collect();
            let mut buffer = vec![0xee; split.headers_len()];
            buffer.extend_from_slice(&packet);
            spread(&mut buffer, &split, kid, nonce);
            let mut collected = Vec::new();
            for (number, fragment) in split.fragments().enumerate() {
                let (header, chunk) = FragmentHeader::split_off(&mut buffer[fragment]).unwrap();
                let (number, count) = (number as u8, split.count() as u8);
                prop_assert_eq!(header, FragmentHeader { kid, number, count, nonce });
                collected.extend_from_slice(chunk);
            }
            prop_assert_eq!(collected, packet);
        }
    }

    proptest! {
        #[test]
        fn any_numbers_are_refused_or_split(packet_len: u32, mtu: u32, shift in 0..32_u32) {
            fuzzing::split(&[(packet_len >> shift).to_be_bytes(), (mtu >> shift).to_be_bytes()].concat());
        }
    }

    fn packet_and_mtu() -> impl Strategy<Value = (usize, usize)> {
        (128..=9000_usize).prop_flat_map(|mtu| (Just(mtu), 16..=48 * (mtu - 16)))
    }
}
