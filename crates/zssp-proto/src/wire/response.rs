use super::Malformed;
use super::reader::Reader;
use crate::crypto::{KEM_CIPHERTEXT_LEN, P384_PUBLIC_LEN, TAG_LEN};

/// X2, Bob's answer to a hello (PROTOCOL 5.1, 5.2).
///
/// Sealed fields are given as the Noise `EncryptAndHash` leaves them: ciphertext with its tag last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response<'a> {
    /// Bob's ephemeral public key.
    pub e: &'a [u8; P384_PUBLIC_LEN],
    /// The KEM ciphertext, sealed.
    pub ekem1: &'a [u8; KEM_CIPHERTEXT_LEN + TAG_LEN],
    /// The key id under which Bob wants his packets, sealed.
    pub kid: &'a [u8; 4 + TAG_LEN],
}

impl<'a> Response<'a> {
    /// Bytes of the packet.
    pub const LEN: usize = P384_PUBLIC_LEN + KEM_CIPHERTEXT_LEN + TAG_LEN + 4 + TAG_LEN;

    /// Reads a whole, reassembled packet.
    ///
    /// # Errors
    /// When the length is not [`LEN`](Self::LEN).
    //= ZSSP-PKT-02  the fields of X2, and nothing after them
    pub fn parse(packet: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Reader::new(packet);
        let response = Self { e: fields.array()?, ekem1: fields.array()?, kid: fields.array()? };
        fields.end()?;
        Ok(response)
    }

    /// Appends the packet to `out`.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.e);
        out.extend_from_slice(self.ekem1);
        out.extend_from_slice(self.kid);
    }

    /// What the counter in the header must be: the last 3 bytes of the key id's tag, so below 2^24
    /// (PROTOCOL 5.1).
    //= ZSSP-PKT-12  the last 3 bytes of the kid tag
    pub const fn header_counter(&self) -> u64 {
        let [.., a, b, c] = *self.kid;
        u64::from_be_bytes([0, 0, 0, 0, 0, a, b, c])
    }
}
