//! Bytes and their checksum in base32 (RFC 4648, without padding): what the text forms of keys and passwords share.

use data_encoding::{BASE32_NOPAD, BASE32_NOPAD_NOCASE};
use shake::{ExtendableOutput, Shake256, Update, XofReader};
use zeroize::Zeroizing;

/// How one kind of bytes is written: followed by `SUM` bytes of SHAKE256 over a label of that kind and the bytes.
///
/// Choose `SUM` such that both together fill whole digits; where bytes of another length do not, the bits of the last digit
/// that are left over are zero, and nothing else is read. Whatever was a secret is wiped on every path.
pub(crate) struct Checked<const SUM: usize>(pub(crate) &'static [u8]);

impl<const SUM: usize> Checked<SUM> {
    /// The digits of `bytes` and checksum, in lower case.
    pub(crate) fn encode(&self, bytes: &[u8]) -> Zeroizing<String> {
        // Large enough at once: growing would leave a copy behind.
        let mut all = Zeroizing::new(Vec::with_capacity(bytes.len() + SUM));
        all.extend_from_slice(bytes);
        all.extend_from_slice(&self.checksum(bytes));
        let mut digits = Zeroizing::new(BASE32_NOPAD.encode(&all));
        digits.make_ascii_lowercase();
        digits
    }

    /// The bytes that were [encoded](Self::encode) as these digits, in either case, unless something was changed since.
    pub(crate) fn decode(&self, digits: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut bytes = Zeroizing::new(vec![0; BASE32_NOPAD_NOCASE.decode_len(digits.len()).ok()?]);
        BASE32_NOPAD_NOCASE.decode_mut(digits, &mut bytes).ok()?;
        let (content, sum) = bytes.split_last_chunk()?;
        if *sum != self.checksum(content) {
            return None;
        }
        let len = content.len();
        bytes.truncate(len);
        Some(bytes)
    }

    /// How many digits there are for so many bytes.
    pub(crate) const fn encoded_len(&self, bytes: usize) -> usize {
        (8 * (bytes + SUM)).div_ceil(5)
    }

    fn checksum(&self, bytes: &[u8]) -> [u8; SUM] {
        let mut sum = [0; SUM];
        Shake256::default().chain(self.0).chain(bytes).finalize_xof().read(&mut sum);
        sum
    }
}

/// The first character that base32 does not have.
pub(crate) fn foreign(digits: &str) -> Option<char> {
    digits.chars().find(|c| !matches!(c, 'a'..='z' | 'A'..='Z' | '2'..='7'))
}
