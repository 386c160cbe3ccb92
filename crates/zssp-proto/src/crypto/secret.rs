use subtle::ConstantTimeEq;
use zeroize::{ZeroizeOnDrop, Zeroizing};

/// `N` secret bytes: wiped when dropped, never printed, never compared with `==`, never cloned in passing.
///
/// ```
/// use zssp_proto::crypto::Secret;
/// let secret = Secret::new([7u8; 32]);
/// assert!(secret.ct_eq(&Secret::new([7u8; 32])));
/// ```
/// ```compile_fail,E0277
/// # use zssp_proto::crypto::Secret;
/// println!("{:?}", Secret::new([7u8; 32]));
/// ```
//= ZSSP-SEC-07  `Zeroizing` writes zeros over all bytes when it is dropped
//= ZSSP-SEC-09  no `Debug`
pub struct Secret<const N: usize>(Zeroizing<[u8; N]>);

impl<const N: usize> Secret<N> {
    /// Takes ownership of `bytes`. Wipe any copy you keep.
    pub fn new(bytes: [u8; N]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// All zero bytes, to be filled.
    pub fn zero() -> Self {
        Self::new([0; N])
    }

    /// A copy of `bytes`, if there are `N` of them: for taking over what a library keeps in a buffer of its own.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let mut secret = Self::zero();
        (bytes.len() == N).then(|| secret.0.copy_from_slice(bytes))?;
        Some(secret)
    }

    /// The bytes, for as long as somebody computes with them.
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }

    /// The bytes, to be written.
    pub fn expose_mut(&mut self) -> &mut [u8; N] {
        &mut self.0
    }

    /// A second copy, where the protocol really needs one: a key that is both stored and used.
    pub fn duplicate(&self) -> Self {
        Self(self.0.clone())
    }

    /// Whether both hold the same bytes, in constant time.
    pub fn ct_eq(&self, other: &Self) -> bool {
        self.expose().ct_eq(other.expose()).into()
    }
}

impl Secret<64> {
    /// The first 32 bytes: "a 64-byte output assigned to a 32-byte variable is cut" (PROTOCOL 2.1).
    //= ZSSP-KDF-03  cut to the first 32 bytes
    pub(crate) fn cut(&self) -> Secret<32> {
        let mut cut = Secret::zero();
        cut.0.copy_from_slice(&self.0[..32]);
        cut
    }
}

/// Compiles only where `T` wipes itself when it is dropped, which the types of other crates do by features of theirs that
/// nothing else would miss.
//= ZSSP-SEC-07  secrets are zeroed when dropped
pub(super) const fn wiped<T: ZeroizeOnDrop>() {}

const _: () = wiped::<Zeroizing<[u8; 32]>>();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_counts_in_a_comparison() {
        let secret = Secret::new([0xA5; 48]);
        assert!(secret.ct_eq(&secret.duplicate()));
        for i in 0..48 {
            let mut other = secret.duplicate();
            other.expose_mut()[i] ^= 1;
            assert!(!secret.ct_eq(&other), "byte {i}");
        }
    }

    /// What was freed cannot be looked at without unsafe code; that the bytes are where wiping is somebody's purpose can.
    //= ZSSP-SEC-07  secrets are zeroed when dropped
    #[test]
    fn the_bytes_are_where_they_are_wiped() {
        let Secret(bytes): Secret<32> = Secret::new([7; 32]);
        let bytes: Zeroizing<[u8; 32]> = bytes;
        assert_eq!(*bytes, [7; 32]);
    }

    #[test]
    fn a_slice_of_another_length_is_no_secret() {
        let bytes: [u8; 33] = core::array::from_fn(|i| i as u8);
        assert!(Secret::<32>::from_slice(&bytes).is_none());
        assert!(Secret::<32>::from_slice(&bytes[..31]).is_none());
        assert_eq!(Secret::<32>::from_slice(&bytes[1..]).unwrap().expose(), &bytes[1..]);
    }

    //= ZSSP-KDF-03  the first half stays
    #[test]
    fn cutting_keeps_the_first_half() {
        let bytes: [u8; 64] = core::array::from_fn(|i| i as u8);
        assert_eq!(Secret::new(bytes).cut().expose(), &bytes[..32]);
    }
}
