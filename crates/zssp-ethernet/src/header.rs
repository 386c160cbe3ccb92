//! What stands before and after a datagram in a frame (PROTOCOL 9).

use crate::MacAddress;

/// Which protocol a frame belongs to: the number behind the two MAC addresses.
///
/// All peers of a segment must use the same one. Numbers below 0x0600 are lengths, not protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EtherType(u16);

impl EtherType {
    /// 0x88B5, which IEEE 802 gives to local experiments; the default.
    //= ZSSP-ETH-01  0x88B5 unless the operator says otherwise
    pub const LOCAL_EXPERIMENT: Self = Self(0x88b5);

    /// `None` below 0x0600.
    pub const fn new(number: u16) -> Option<Self> {
        if number < 0x0600 { None } else { Some(Self(number)) }
    }

    /// The number.
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// Two MAC addresses and the EtherType.
pub(crate) const ETHERNET_LEN: usize = 14;
/// The datagram's length and its spread number.
pub(crate) const LINK_LEN: usize = 4;
/// Where the spread number is, behind the Ethernet header.
pub(crate) const SPREAD_OFFSET: u32 = 2;
/// The shortest frame, without the checksum that the card adds.
const MIN_FRAME_LEN: usize = 60;

static ZEROS: [u8; MIN_FRAME_LEN] = [0; MIN_FRAME_LEN];

/// All that comes before a datagram.
pub(crate) struct Header {
    pub(crate) to: MacAddress,
    pub(crate) from: MacAddress,
    pub(crate) ether_type: EtherType,
    pub(crate) len: u16,
    pub(crate) spread: u16,
}

impl Header {
    pub(crate) const LEN: usize = ETHERNET_LEN + LINK_LEN;

    //= ZSSP-ETH-01  addresses, EtherType, length, spread number
    pub(crate) fn emit(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..6].copy_from_slice(&self.to.0);
        bytes[6..12].copy_from_slice(&self.from.0);
        bytes[12..14].copy_from_slice(&self.ether_type.0.to_be_bytes());
        bytes[14..16].copy_from_slice(&self.len.to_be_bytes());
        bytes[16..].copy_from_slice(&self.spread.to_be_bytes());
        bytes
    }
}

/// What follows a datagram so that its frame is long enough.
//= ZSSP-ETH-02  zeros, and not what the driver's buffer held before
pub(crate) fn padding(datagram_len: usize) -> &'static [u8] {
    &ZEROS[..MIN_FRAME_LEN.saturating_sub(Header::LEN + datagram_len)]
}

/// A datagram, and who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The card that the frame says it is from. Nothing proves it.
    pub source: MacAddress,
    /// The datagram, without headers and padding.
    pub bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// `None` when there is less than the frame says.
    pub(crate) fn parse(frame: &'a [u8]) -> Option<Self> {
        let (header, rest) = frame.split_first_chunk::<{ Header::LEN }>()?;
        let [_, _, _, _, _, _, a, b, c, d, e, f, _, _, high, low, _, _] = *header;
        //= ZSSP-ETH-02  what follows the datagram is not looked at
        //= ZSSP-ETH-03  nothing is made of a frame that is too short
        let bytes = rest.get(..usize::from(u16::from_be_bytes([high, low])))?;
        Some(Self { source: MacAddress([a, b, c, d, e, f]), bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(len: usize) -> Header {
        Header {
            to: MacAddress([1; 6]),
            from: MacAddress([2; 6]),
            ether_type: EtherType::LOCAL_EXPERIMENT,
            len: u16::try_from(len).unwrap(),
            spread: 0x0708,
        }
    }

    #[test]
    //= ZSSP-ETH-01  byte by byte
    //= ZSSP-ETH-02  padded with zeros to 60
    fn a_short_frame_byte_by_byte() {
        let mut frame = header(3).emit().to_vec();
        frame.extend_from_slice(b"abc");
        frame.extend_from_slice(padding(3));
        let mut expected = vec![1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 0x88, 0xb5, 0, 3, 7, 8, b'a', b'b', b'c'];
        expected.resize(60, 0);
        assert_eq!(frame, expected);
    }

    proptest! {
        #[test]
        //= ZSSP-ETH-02  the true length is found again
        fn a_frame_brings_its_datagram_back(datagram in prop::collection::vec(any::<u8>(), 0..200)) {
            let frame = [&header(datagram.len()).emit()[..], &datagram, padding(datagram.len())].concat();
            prop_assert!(frame.len() >= MIN_FRAME_LEN);
            let parsed = Frame { source: MacAddress([2; 6]), bytes: &datagram };
            prop_assert_eq!(Frame::parse(&frame), Some(parsed));
        }

        #[test]
        //= ZSSP-ETH-03  cut anywhere
        fn a_frame_that_was_cut_is_refused(datagram in prop::collection::vec(any::<u8>(), 42..200), cut: prop::sample::Index) {
            let frame = [&header(datagram.len()).emit()[..], &datagram].concat();
            prop_assert_eq!(Frame::parse(&frame[..cut.index(frame.len())]), None);
        }
    }

    #[test]
    fn lengths_are_not_ether_types() {
        assert_eq!(EtherType::new(0x05ff), None);
        assert_eq!(EtherType::new(0x88b5), Some(EtherType::LOCAL_EXPERIMENT));
    }
}
