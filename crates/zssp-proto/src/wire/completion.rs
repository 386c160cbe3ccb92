use super::Malformed;
use super::reader::Reader;
use crate::crypto::{P384_PUBLIC_LEN, TAG_LEN};

/// X3, with which Alice says who she is (PROTOCOL 5.1, 5.2). The counter in its header is 0.
///
/// Sealed fields are given as the Noise `EncryptAndHash` leaves them: ciphertext with its tag last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion<'a> {
    /// Alice's static public key, sealed.
    pub s: &'a [u8; P384_PUBLIC_LEN + TAG_LEN],
    /// What Alice says about herself to Bob's application, sealed.
    pub identity: SealedIdentity<'a>,
}

impl<'a> Completion<'a> {
    /// Bytes of a packet with an empty identity.
    pub const MIN_LEN: usize = P384_PUBLIC_LEN + TAG_LEN + TAG_LEN;
    /// Bytes of a packet with the largest identity.
    pub const MAX_LEN: usize = Self::MIN_LEN + SealedIdentity::MAX_PLAINTEXT_LEN;
    /// The counter in the header (PROTOCOL 5.1).
    //= ZSSP-PKT-13  the counter of X3 is 0
    pub const HEADER_COUNTER: u64 = 0;

    /// Reads a whole, reassembled packet.
    ///
    /// # Errors
    /// When the length is not between [`MIN_LEN`](Self::MIN_LEN) and [`MAX_LEN`](Self::MAX_LEN).
    //= ZSSP-PKT-03  the fields of X3
    pub fn parse(packet: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Reader::new(packet);
        Ok(Self { s: fields.array()?, identity: SealedIdentity::new(fields.rest())? })
    }

    /// Appends the packet to `out`.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.s);
        out.extend_from_slice(self.identity.0);
    }
}

/// A sealed identity: 0 to 4096 bytes of the application's, and the tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedIdentity<'a>(&'a [u8]);

impl<'a> SealedIdentity<'a> {
    /// The largest identity, before sealing.
    pub const MAX_PLAINTEXT_LEN: usize = 4096;

    /// Takes ciphertext and tag.
    ///
    /// # Errors
    /// When there is no room for a tag, or the identity would be larger than
    /// [`MAX_PLAINTEXT_LEN`](Self::MAX_PLAINTEXT_LEN).
    pub const fn new(sealed: &'a [u8]) -> Result<Self, Malformed> {
        if sealed.len() < TAG_LEN || sealed.len() > Self::MAX_PLAINTEXT_LEN + TAG_LEN {
            return Err(Malformed);
        }
        Ok(Self(sealed))
    }

    /// Ciphertext and tag.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.0
    }
}
