use super::reader::Reader;
use super::{Challenge, KeyId, Malformed};
use crate::crypto::{KEM_PUBLIC_LEN, P384_PUBLIC_LEN, TAG_LEN};

/// X1, the packet that opens a session (PROTOCOL 5.1, 5.2). Nothing in it is authenticated to Bob yet.
///
/// Sealed fields are given as the Noise `EncryptAndHash` leaves them: ciphertext with its tag last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The key id under which Alice wants her answers.
    pub kid: KeyId,
    /// Alice's ephemeral public key.
    pub e: &'a [u8; P384_PUBLIC_LEN],
    /// Alice's KEM public key, sealed.
    pub e1: &'a [u8; KEM_PUBLIC_LEN + TAG_LEN],
    /// Her two ratchet fingerprints, sealed.
    pub fingerprints: &'a [u8; 64 + TAG_LEN],
    /// Her response to a challenge, or the first one with a random `pow`. The handshake hash does not cover it.
    pub response: Challenge,
}

impl<'a> Hello<'a> {
    /// Bytes of the packet.
    pub const LEN: usize = 4 + P384_PUBLIC_LEN + KEM_PUBLIC_LEN + TAG_LEN + 64 + TAG_LEN + Challenge::LEN;

    /// Reads a whole, reassembled packet.
    ///
    /// # Errors
    /// When the length is not [`LEN`](Self::LEN), or the key id zero.
    //= ZSSP-PKT-01  the fields of X1, and nothing after them
    pub fn parse(packet: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Reader::new(packet);
        let hello = Self {
            kid: KeyId::new(*fields.array()?).ok_or(Malformed)?,
            e: fields.array()?,
            e1: fields.array()?,
            fingerprints: fields.array()?,
            response: Challenge::from_bytes(fields.array()?),
        };
        fields.end()?;
        Ok(hello)
    }

    /// Appends the packet to `out`.
    //= ZSSP-ZCP-01  every hello ends with a response
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.kid.to_bytes());
        out.extend_from_slice(self.e);
        out.extend_from_slice(self.e1);
        out.extend_from_slice(self.fingerprints);
        out.extend_from_slice(&self.response.to_bytes());
    }

    /// What the counter in the header must be: the last 8 bytes of the fingerprints' tag (PROTOCOL 5.1).
    //= ZSSP-PKT-11  the last 8 bytes of the fingerprint tag
    pub const fn header_counter(&self) -> u64 {
        let [.., a, b, c, d, e, f, g, h] = *self.fingerprints;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}
