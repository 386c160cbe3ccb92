use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// `N` secret bytes: wiped when dropped, never printed, never compared with `==`, never cloned in passing.
///
/// ```
/// use zssp_proto::crypto::Secret;
/// let secret = Secret::new([7u8; 32]);
/// assert!(secret.ct_eq(&Secret::new([7u8; 32])));
/// ```
pub struct Secret<const N: usize>([u8; N]);

impl<const N: usize> Secret<N> {
    /// Takes ownership of `bytes`. Wipe any copy you keep.
    pub const fn new(bytes: [u8; N]) -> Self {
        Self(bytes)
    }

    /// All zero bytes, to be filled.
    pub const fn zero() -> Self {
        Self([0; N])
    }

    /// A copy of `bytes`, if there are `N`. Goes straight to its place, unlike an array passed to [`new`](Self::new).
    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        let mut secret = Self::zero();
        (bytes.len() == N).then(|| secret.0.copy_from_slice(bytes))?;
        Some(secret)
    }

    /// The bytes, for as long as somebody computes with them.
    pub const fn expose(&self) -> &[u8; N] {
        &self.0
    }

    /// The bytes, to be written.
    pub const fn expose_mut(&mut self) -> &mut [u8; N] {
        &mut self.0
    }

    /// A second copy, where the protocol really needs one: a key that is both stored and used.
    pub const fn duplicate(&self) -> Self {
        Self(self.0)
    }

    /// Whether both hold the same bytes, in constant time.
    pub fn ct_eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Secret<64> {
    /// The first 32 bytes: "a 64-byte output assigned to a 32-byte variable is cut" (PROTOCOL 2.1).
    pub(crate) fn cut(&self) -> Secret<32> {
        let mut cut = Secret::zero();
        cut.0.copy_from_slice(&self.0[..32]);
        cut
    }
}
