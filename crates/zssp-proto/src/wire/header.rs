use core::fmt;
use core::num::NonZeroU32;

use super::{HEADER_LEN, MAX_FRAGMENTS, MIN_FRAGMENT_LEN, Malformed};

/// A key id: four opaque non-zero bytes chosen by the receiver of the packets that carry it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(NonZeroU32);

impl KeyId {
    /// `None` for zero, which stands for "no key id" on the wire.
    //= ZSSP-HDR-02  four bytes, not all zero
    pub fn new(bytes: [u8; 4]) -> Option<Self> {
        NonZeroU32::new(u32::from_be_bytes(bytes)).map(Self)
    }

    /// The bytes as they travel.
    pub const fn to_bytes(self) -> [u8; 4] {
        self.0.get().to_be_bytes()
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kid:{:08x}", self.0)
    }
}

/// What a packet is (PROTOCOL 5.1); the comments give the names of the protocol's state tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PacketType {
    /// X1
    Hello = 0,
    /// X2
    Response = 1,
    /// X3
    Completion = 2,
    /// C1
    Confirmation = 3,
    /// C2
    Acknowledgement = 4,
    /// K1
    RekeyStart = 5,
    /// K2
    RekeyFinish = 6,
    /// D
    Rejection = 7,
    /// P
    Payload = 8,
    /// The ZCP challenge (PROTOCOL 4)
    Challenge = 9,
}

impl PacketType {
    /// `None` for a type the protocol does not have.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Hello,
            1 => Self::Response,
            2 => Self::Completion,
            3 => Self::Confirmation,
            4 => Self::Acknowledgement,
            5 => Self::RekeyStart,
            6 => Self::RekeyFinish,
            7 => Self::Rejection,
            8 => Self::Payload,
            9 => Self::Challenge,
            _ => return None,
        })
    }
}

/// The packet nonce, header bytes 6..16: a reserved byte, the packet type and the counter.
///
/// All fragments of a packet carry the same one, so it also names the packet being reassembled.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PacketNonce([u8; 10]);

impl PacketNonce {
    /// The nonce of a packet to be sent: the reserved byte is 0.
    //= ZSSP-HDR-01  integers are big-endian
    //= ZSSP-HDR-07  the reserved byte is sent as 0
    pub const fn new(packet_type: PacketType, counter: u64) -> Self {
        let c = counter.to_be_bytes();
        Self([0, packet_type as u8, c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]])
    }

    /// The bytes as they travel.
    pub const fn to_bytes(self) -> [u8; 10] {
        self.0
    }

    /// `None` for a type the protocol does not have.
    pub const fn packet_type(self) -> Option<PacketType> {
        PacketType::from_byte(self.0[1])
    }

    /// The counter.
    pub const fn counter(self) -> u64 {
        let [_, _, a, b, c, d, e, f, g, h] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// The AEAD nonce: `00 00 || packet nonce`. A reserved byte that was changed on the way is part of it,
    /// so such a packet fails authentication by itself.
    //= ZSSP-HDR-10  the AEAD nonce is two zero bytes and the packet nonce
    pub const fn aead(self) -> crate::crypto::Nonce {
        let [a, b, c, d, e, f, g, h, i, j] = self.0;
        [0, 0, a, b, c, d, e, f, g, h, i, j]
    }
}

impl fmt::Debug for PacketNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}||{}", self.0[1], self.counter())
    }
}

/// The header of one fragment, unprotected (PROTOCOL 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentHeader {
    /// The receiver's key id; `None` for a hello and for a challenge.
    pub kid: Option<KeyId>,
    /// The fragment number, from 0, always below `count`.
    pub number: u8,
    /// The fragment count, 1 to [`MAX_FRAGMENTS`].
    pub count: u8,
    /// The packet nonce.
    pub nonce: PacketNonce,
}

impl FragmentHeader {
    /// The key id of a datagram, the only part of a header that is never protected. It names the key that
    /// unprotects the rest; `None` is a hello or a challenge, which nothing protects.
    ///
    /// # Errors
    /// When the datagram is shorter than [`MIN_FRAGMENT_LEN`], too short to be read at all.
    pub fn peek_kid(datagram: &[u8]) -> Result<Option<KeyId>, Malformed> {
        let start: &[u8; MIN_FRAGMENT_LEN] = datagram.first_chunk().ok_or(Malformed)?;
        let [a, b, c, d, ..] = *start;
        Ok(KeyId::new([a, b, c, d]))
    }

    /// Splits an unprotected datagram into its header and its piece of the packet.
    ///
    /// # Errors
    /// When the datagram is shorter than [`MIN_FRAGMENT_LEN`], or as for [`parse`](Self::parse).
    //= ZSSP-HP-04  a fragment shorter than 32 bytes is not read
    pub fn split_off(datagram: &mut [u8]) -> Result<(Self, &mut [u8]), Malformed> {
        if datagram.len() < MIN_FRAGMENT_LEN {
            return Err(Malformed);
        }
        let (header, chunk) = datagram.split_first_chunk_mut().ok_or(Malformed)?;
        Ok((Self::parse(header)?, chunk))
    }

    /// Reads an unprotected header.
    ///
    /// # Errors
    /// When the count is 0 or above [`MAX_FRAGMENTS`], or the number not below it.
    //= ZSSP-HDR-05  the number is below the count
    //= ZSSP-HDR-06  the count is 1 to 48
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, Malformed> {
        let [k0, k1, k2, k3, number, count, nonce @ ..] = *bytes;
        if count == 0 || usize::from(count) > MAX_FRAGMENTS || number >= count {
            return Err(Malformed);
        }
        Ok(Self { kid: KeyId::new([k0, k1, k2, k3]), number, count, nonce: PacketNonce(nonce) })
    }

    /// The header's bytes, unprotected.
    //= ZSSP-HDR-03  sixteen bytes, laid out as follows
    //= ZSSP-HDR-04  the key id, or zero
    //= ZSSP-HDR-08  the packet type, in the nonce
    //= ZSSP-HDR-09  the counter, in the nonce
    pub fn emit(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..4].copy_from_slice(&self.kid.map_or([0; 4], KeyId::to_bytes));
        bytes[4] = self.number;
        bytes[5] = self.count;
        bytes[6..].copy_from_slice(&self.nonce.0);
        bytes
    }
}
