use super::Malformed;
use crate::crypto::TAG_LEN;

/// C1, C2 or D: nothing but the tag of an empty plaintext; the header's type and counter say it all
/// (PROTOCOL 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Control<'a> {
    /// The tag.
    pub tag: &'a [u8; TAG_LEN],
}

impl<'a> Control<'a> {
    /// Bytes of the packet.
    pub const LEN: usize = TAG_LEN;

    /// Reads a whole packet.
    ///
    /// # Errors
    /// When the length is not [`LEN`](Self::LEN).
    //= ZSSP-PKT-04  C1 is a tag
    //= ZSSP-PKT-05  C2 is a tag
    //= ZSSP-PKT-08  D is a tag
    pub fn parse(packet: &'a [u8]) -> Result<Self, Malformed> {
        packet.try_into().map(|tag| Self { tag }).map_err(|_| Malformed)
    }

    /// Appends the packet to `out`.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.tag);
    }
}
