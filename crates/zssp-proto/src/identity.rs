//! Static keys: who a peer is.

mod secret_text;
mod text;

use core::fmt;
use std::sync::Arc;

pub use secret_text::SecretKeyError;
pub use text::PublicKeyError;

use crate::crypto::{
    InvalidKey, P384_PUBLIC_LEN, P384_SECRET_LEN, P384KeyPair, Provider, ProviderError, Secret,
};

/// A peer's static public key: a valid compressed P-384 point.
///
/// Ordered as PROTOCOL 5.7 compares keys: numerically by bytes.
///
/// # Text form
/// `zssp1`, then the 49 bytes and six bytes of checksum in base32 (RFC 4648, lower case, no padding): 93 letters and
/// digits, nothing that a shell or a mail program would touch, and one double click selects all of it. It is written by
/// [`Display`](fmt::Display) and read by [`from_text`](Self::from_text), or by [`str::parse`] in a build with a provider.
///
/// ```
/// # #[cfg(any(feature = "aws-lc", feature = "rust-crypto"))] {
/// # use zssp_proto::{StaticKey, crypto::PROVIDERS};
/// use zssp_proto::PublicKey;
/// # let key = StaticKey::generate(PROVIDERS[0])?.public();
/// let text = key.to_string();
/// assert!(text.starts_with("zssp1"));
/// assert_eq!(text.parse::<PublicKey>()?, key);
/// assert!(text[..60].parse::<PublicKey>().is_err(), "not the whole line");
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; P384_PUBLIC_LEN]);

impl PublicKey {
    /// Checks that `bytes` are a compressed point on the curve.
    ///
    /// # Errors
    /// [`InvalidKey`] when they are not.
    pub fn from_bytes(bytes: [u8; P384_PUBLIC_LEN], provider: &dyn Provider) -> Result<Self, InvalidKey> {
        if provider.p384_is_valid(&bytes) { Ok(Self(bytes)) } else { Err(InvalidKey) }
    }

    /// A key that Diffie-Hellman has just accepted, which checks the point anyway.
    pub(crate) const fn agreed_with(bytes: [u8; P384_PUBLIC_LEN]) -> Self {
        Self(bytes)
    }

    /// The compressed SEC1 encoding.
    pub const fn as_bytes(&self) -> &[u8; P384_PUBLIC_LEN] {
        &self.0
    }
}

impl fmt::Debug for PublicKey {
    /// The beginning of the text form, so that a log and a list of peers agree.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({:.18}..)", self.to_string())
    }
}

/// This side's static key pair. Clones share the one secret, which is wiped with the last of them.
///
/// # Text form
/// What key files have, one line: `zssp-secret-key-v1:`, then the 48 bytes of the secret scalar and seven bytes of checksum
/// in base32 (RFC 4648, lower case, no padding), 107 characters in all. It is written by [`to_text`](Self::to_text) and
/// read by [`from_text`](Self::from_text).
///
/// ```
/// # #[cfg(feature = "aws-lc")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use zssp_proto::{StaticKey, crypto::AwsLc};
/// let key = StaticKey::generate(&AwsLc)?;
/// let again = StaticKey::from_secret(&key.secret(), &AwsLc)?;
/// assert_eq!(key.public(), again.public());
/// let again = StaticKey::from_text(&key.to_text(), &AwsLc)?;
/// assert_eq!(key.public(), again.public());
/// # Ok(()) }
/// # #[cfg(not(feature = "aws-lc"))]
/// # fn main() {}
/// ```
#[derive(Clone)]
pub struct StaticKey(Arc<dyn P384KeyPair>);

impl StaticKey {
    /// A fresh key pair.
    ///
    /// # Errors
    /// [`ProviderError`] when the random generator fails.
    pub fn generate(provider: &dyn Provider) -> Result<Self, ProviderError> {
        Ok(Self(Arc::from(provider.p384_generate()?)))
    }

    /// The key pair of a stored secret scalar.
    ///
    /// # Errors
    /// [`InvalidKey`] when the scalar is out of range.
    pub fn from_secret(
        secret: &Secret<P384_SECRET_LEN>,
        provider: &dyn Provider,
    ) -> Result<Self, InvalidKey> {
        Ok(Self(Arc::from(provider.p384_from_secret(secret)?)))
    }

    /// The public half, to be given to peers.
    pub fn public(&self) -> PublicKey {
        PublicKey(*self.0.public())
    }

    /// The secret scalar, to be stored. Whoever reads it can impersonate this side.
    pub fn secret(&self) -> Secret<P384_SECRET_LEN> {
        self.0.secret()
    }

    /// Diffie-Hellman with this key.
    pub(crate) fn agree(&self, peer: &[u8; P384_PUBLIC_LEN]) -> Result<Secret<P384_SECRET_LEN>, InvalidKey> {
        self.0.agree(peer)
    }
}

impl fmt::Debug for StaticKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StaticKey").field(&self.public()).finish()
    }
}
