use super::Malformed;
use super::reader::Reader;
use crate::crypto::{P384_PUBLIC_LEN, TAG_LEN};

/// K1 or K2 as it travels: a [`RekeyBody`] sealed under the current key-exchange key (PROTOCOL 5.1, 5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rekey<'a> {
    /// The body, sealed, tag last.
    pub body: &'a [u8; RekeyBody::LEN + TAG_LEN],
}

impl<'a> Rekey<'a> {
    /// Bytes of the packet.
    pub const LEN: usize = RekeyBody::LEN + TAG_LEN;

    /// Reads a whole, reassembled packet.
    ///
    /// # Errors
    /// When the length is not [`LEN`](Self::LEN).
    //= ZSSP-PKT-06  K1 is a sealed message
    //= ZSSP-PKT-07  and so is K2
    pub fn parse(packet: &'a [u8]) -> Result<Self, Malformed> {
        packet.try_into().map(|body| Self { body }).map_err(|_| Malformed)
    }

    /// Appends the packet to `out`.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.body);
    }
}

/// What K1 and K2 hold: one message of the Noise KK handshake (PROTOCOL 5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RekeyBody<'a> {
    /// The sender's ephemeral public key.
    pub e: &'a [u8; P384_PUBLIC_LEN],
    /// The sender's new key id, sealed, tag last.
    pub kid: &'a [u8; 4 + TAG_LEN],
}

impl<'a> RekeyBody<'a> {
    /// Bytes of the body.
    pub const LEN: usize = P384_PUBLIC_LEN + 4 + TAG_LEN;

    /// Reads an opened body.
    ///
    /// # Errors
    /// When the length is not [`LEN`](Self::LEN).
    pub fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Reader::new(body);
        let body = Self { e: fields.array()?, kid: fields.array()? };
        fields.end()?;
        Ok(body)
    }

    /// Appends the body to `out`.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.e);
        out.extend_from_slice(self.kid);
    }
}
