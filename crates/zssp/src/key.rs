//! Keys as applications hold them.

mod file;

use std::fmt;
use std::sync::Arc;

pub use file::KeyFileError;
use zssp_proto::crypto::{P384_PUBLIC_LEN, P384_SECRET_LEN, Provider, Secret};
use zssp_proto::{PublicKey, StaticKey};

#[cfg(not(any(feature = "aws-lc", feature = "rust-crypto")))]
compile_error!("zssp needs one of its features `aws-lc` (default) and `rust-crypto`");

/// The cryptography that is used where the application names [no other](crate::Builder::provider): AWS-LC, or the pure Rust
/// one when only that feature is enabled. For what asks for a provider, such as one-time passwords:
///
/// ```
/// use zssp::store::Overwrite;
/// use zssp::{OneTimePassword, PeerName, Redb, SecretKey, default_provider};
///
/// # let folder = tempfile::tempdir()?;
/// # let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
/// # let (alice, bob) = (SecretKey::generate()?.public_key(), SecretKey::generate()?.public_key());
/// let provider = default_provider();
/// // One side makes it, and passes its text on to the other in some safe way.
/// let password = OneTimePassword::generate(&*provider)?;
/// let text = password.to_text();
/// Redb::open(&ours)?.preset(&PeerName::from(bob), password.into_ratchet(&*provider), Overwrite::Refuse)?;
/// // The other side.
/// let password = OneTimePassword::from_text(&text)?;
/// Redb::open(&theirs)?.preset(&PeerName::from(alice), password.into_ratchet(&*provider), Overwrite::Refuse)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn default_provider() -> Arc<dyn Provider> {
    #[cfg(feature = "aws-lc")]
    return Arc::new(zssp_proto::crypto::AwsLc);
    #[cfg(all(feature = "rust-crypto", not(feature = "aws-lc")))]
    return Arc::new(zssp_proto::crypto::RustCrypto);
}

/// Who an endpoint is: a static P-384 key pair.
///
/// Whoever knows the secret can impersonate the endpoint, so it belongs into a [file](Self::create_file) only its owner can
/// read, and nowhere else. Clones share one secret, which is wiped from memory with the last of them; it never
/// appears in `Debug` output.
///
/// The public half is what peers are given, as a line of [text](PublicKey#text-form):
///
/// ```
/// use zssp::SecretKey;
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("key");
/// let key = SecretKey::create_file(&path)?;
/// println!("{}", key.public_key());
///
/// // When the program is started again.
/// assert_eq!(SecretKey::read_file(&path)?.public_key(), key.public_key());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct SecretKey(StaticKey);

impl SecretKey {
    /// A fresh key.
    ///
    /// # Errors
    /// [`KeyError::Random`] when the operating system's generator fails.
    pub fn generate() -> Result<Self, KeyError> {
        StaticKey::generate(&*default_provider()).map(Self).map_err(|_| KeyError::Random)
    }

    /// The key stored by [`SecretKey::to_bytes`]: a P-384 scalar, big-endian.
    ///
    /// # Errors
    /// [`KeyError::Invalid`] when the bytes are not a key: damaged, or of another kind.
    pub fn from_bytes(secret: &Secret<P384_SECRET_LEN>) -> Result<Self, KeyError> {
        StaticKey::from_secret(secret, &*default_provider()).map(Self).map_err(|_| KeyError::Invalid)
    }

    /// The secret itself, to be stored elsewhere than in a [file](Self::create_file). It is wiped when dropped.
    pub fn to_bytes(&self) -> Secret<P384_SECRET_LEN> {
        self.0.secret()
    }

    /// The public half, by which peers know this endpoint.
    pub fn public_key(&self) -> PublicKey {
        self.0.public()
    }

    pub(crate) fn into_static(self) -> StaticKey {
        self.0
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretKey").field("public", &self.public_key()).finish_non_exhaustive()
    }
}

impl From<StaticKey> for SecretKey {
    fn from(key: StaticKey) -> Self {
        Self(key)
    }
}

/// The public key that a peer gave as 49 bytes (a compressed point), checked.
///
/// ```
/// let key = zssp::SecretKey::generate()?.public_key();
/// assert_eq!(zssp::public_key(*key.as_bytes())?, key);
/// assert!(zssp::public_key([7; 49]).is_err());
/// # Ok::<(), zssp::KeyError>(())
/// ```
///
/// # Errors
/// [`KeyError::Invalid`] when the bytes are not a point on the curve.
pub fn public_key(bytes: [u8; P384_PUBLIC_LEN]) -> Result<PublicKey, KeyError> {
    PublicKey::from_bytes(bytes, &*default_provider()).map_err(|_| KeyError::Invalid)
}

/// Why there is no key.
///
/// ```
/// use zssp::{KeyError, Secret, SecretKey};
///
/// // What was never written to its end.
/// assert_eq!(SecretKey::from_bytes(&Secret::zero()).err(), Some(KeyError::Invalid));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The bytes are not a key: damaged, truncated and padded, or of another kind.
    #[error("these bytes are not a valid P-384 key")]
    Invalid,
    /// The operating system's random generator failed.
    #[error("the operating system's random generator failed")]
    Random,
}
