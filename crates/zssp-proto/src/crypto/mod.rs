//! What the protocol needs of a cryptographic library, as values (PROTOCOL 2).
//!
//! A [`Provider`] is handed to the context explicitly; there is no process-wide default. Each key is an
//! object of its own that can do one thing in one direction, so keys cannot be mixed up or used twice.
//!
//! # Choosing a provider
//! Both are plain values, so a reference to either lives as long as the program:
//! ```
//! use zssp_proto::crypto::Provider;
//! # #[cfg(feature = "aws-lc")] {
//! let provider: &'static dyn Provider = &zssp_proto::crypto::AwsLc;
//! assert_eq!(provider.name(), "aws-lc");
//! # }
//! ```
//! The default feature `aws-lc` brings `AwsLc`; `rust-crypto` brings `RustCrypto`, which needs no C compiler and
//! is several times slower. With both features both are there, and nothing else changes: peers cannot tell them
//! apart. A program that lets its user choose looks in [`PROVIDERS`]:
//! ```
//! use zssp_proto::crypto::{PROVIDERS, Provider};
//! fn by_name(wanted: &str) -> Option<&'static dyn Provider> {
//!     PROVIDERS.iter().copied().find(|provider| provider.name() == wanted)
//! }
//! assert!(by_name("rot13").is_none());
//! ```

mod header;
mod kdf;
mod round3;
mod secret;

#[cfg(feature = "aws-lc")]
mod aws_lc;
#[cfg(feature = "rust-crypto")]
mod rust_crypto;

use core::fmt;

#[cfg(feature = "aws-lc")]
pub use aws_lc::AwsLc;
pub(crate) use kdf::kbkdf;
pub(crate) use round3::round3_secret;
#[cfg(feature = "rust-crypto")]
pub use rust_crypto::RustCrypto;
pub use secret::Secret;

/// Every provider that this build contains, the fastest first.
pub const PROVIDERS: &[&dyn Provider] = &[
    #[cfg(feature = "aws-lc")]
    &AwsLc,
    #[cfg(feature = "rust-crypto")]
    &RustCrypto,
];

/// Bytes of a compressed SEC1 P-384 point.
pub const P384_PUBLIC_LEN: usize = 49;
/// Bytes of a P-384 secret scalar, and of the x-coordinate that Diffie-Hellman yields.
pub const P384_SECRET_LEN: usize = 48;
/// Bytes of an ML-KEM-1024 encapsulation key.
pub const KEM_PUBLIC_LEN: usize = 1568;
/// Bytes of an ML-KEM-1024 decapsulation key in the form of FIPS 203: `dk_pke || ek || H(ek) || z`.
pub const KEM_SECRET_LEN: usize = 3168;
/// Bytes of an ML-KEM-1024 ciphertext.
pub const KEM_CIPHERTEXT_LEN: usize = 1568;
//= ZSSP-SUI-03  the AEAD is AES-256-GCM
/// Bytes of an AES-GCM authentication tag.
pub const TAG_LEN: usize = 16;

/// The nonce of one AES-256-GCM operation: `00 00 || packet nonce` (PROTOCOL 3.1).
pub type Nonce = [u8; 12];

/// One AES block: the protected part of a fragment (PROTOCOL 3.3).
pub type Block = [u8; 16];

/// A cryptographic library, as the protocol sees it.
///
/// Implementations are stateless apart from their random generator, and safe to share. A test that needs
/// particular keys wraps a provider and hands out its own.
pub trait Provider: fmt::Debug + Send + Sync + 'static {
    /// The library's name, for reports: `"aws-lc"`.
    fn name(&self) -> &'static str;

    /// Fills `out` from a cryptographically secure generator.
    ///
    /// # Errors
    /// When the operating system's generator fails.
    fn random(&self, out: &mut [u8]) -> Result<(), ProviderError>;

    //= ZSSP-SUI-04  the hash is SHA-512
    /// SHA-512 over the concatenation of `parts`.
    fn sha512(&self, parts: &[&[u8]]) -> [u8; 64];

    /// HMAC-SHA-512 over the concatenation of `parts`; `key` may be empty or of any length.
    fn hmac_sha512(&self, key: &[u8], parts: &[&[u8]]) -> Secret<64>;

    /// A fresh P-384 key pair.
    ///
    /// # Errors
    /// When the generator fails.
    fn p384_generate(&self) -> Result<Box<dyn P384KeyPair>, ProviderError>;

    /// The P-384 key pair of a stored secret scalar (big-endian).
    ///
    /// # Errors
    /// When the scalar is zero or not below the group order.
    fn p384_from_secret(&self, secret: &Secret<P384_SECRET_LEN>) -> Result<Box<dyn P384KeyPair>, InvalidKey>;

    /// Whether `public` is a valid compressed point: a key from outside that is not agreed with at once.
    ///
    /// It costs a fifth of an agreement, which does the same check by itself.
    fn p384_is_valid(&self, public: &[u8; P384_PUBLIC_LEN]) -> bool;

    /// A fresh ML-KEM-1024 key pair (the decapsulating side).
    ///
    /// # Errors
    /// When the generator fails.
    fn kem_generate(&self) -> Result<Box<dyn KemKeyPair>, ProviderError>;

    /// The ML-KEM-1024 key pair of a stored decapsulation key, for replaying recorded sessions.
    ///
    /// Key pairs of round-3 Kyber1024 have the same form. Only keys that a library once generated belong here:
    /// nobody can tell whether the secret part fits the public one.
    ///
    /// # Errors
    /// When the encapsulation key inside does not have the hash that is stored beside it.
    fn kem_from_secret(&self, secret: &Secret<KEM_SECRET_LEN>) -> Result<Box<dyn KemKeyPair>, InvalidKey>;

    /// Encapsulates to `public` with fresh randomness (FIPS 203; the round-3 secret is derived above).
    ///
    /// # Errors
    /// When `public` is not a valid encapsulation key, or the generator fails.
    fn kem_encapsulate(&self, public: &[u8; KEM_PUBLIC_LEN]) -> Result<Encapsulation, InvalidKey>;

    /// Prepares an AES-256-GCM key for sealing.
    fn seal_key(&self, key: &Secret<32>) -> Box<dyn SealKey>;

    /// Prepares an AES-256-GCM key for opening.
    fn open_key(&self, key: &Secret<32>) -> Box<dyn OpenKey>;

    /// Prepares an AES-256 key for protecting headers. The crate `aes` does it unless a provider knows better:
    /// no other library was measured as fast at single blocks.
    fn protect_key(&self, key: &Secret<32>) -> Box<dyn ProtectKey> {
        header::protect_key(key)
    }

    /// Prepares an AES-256 key for unprotecting headers, likewise.
    fn unprotect_key(&self, key: &Secret<32>) -> Box<dyn UnprotectKey> {
        header::unprotect_key(key)
    }
}

//= ZSSP-SUI-01  P-384, compressed points, the x-coordinate is shared
/// A P-384 key pair: the secret stays inside.
pub trait P384KeyPair: Send + Sync {
    /// The public key as a compressed SEC1 point.
    fn public(&self) -> &[u8; P384_PUBLIC_LEN];

    /// The x-coordinate of the shared point.
    ///
    /// # Errors
    /// When `peer` is not a point on the curve.
    fn agree(&self, peer: &[u8; P384_PUBLIC_LEN]) -> Result<Secret<P384_SECRET_LEN>, InvalidKey>;

    /// The secret scalar, for storing it in a key file.
    fn secret(&self) -> Secret<P384_SECRET_LEN>;
}

//= ZSSP-SUI-02  the KEM is ML-KEM-1024
/// An ML-KEM-1024 key pair: the secret stays inside.
pub trait KemKeyPair: Send + Sync {
    /// The encapsulation key.
    fn public(&self) -> &[u8; KEM_PUBLIC_LEN];

    /// The secret of `ciphertext`. A wrong ciphertext yields a wrong secret, not an error (implicit rejection).
    ///
    /// # Errors
    /// When the library fails internally.
    fn decapsulate(&self, ciphertext: &[u8; KEM_CIPHERTEXT_LEN]) -> Result<Secret<32>, ProviderError>;
}

/// What encapsulating yields: the ciphertext for the peer and the secret both will share.
pub struct Encapsulation {
    /// To be sent to the owner of the encapsulation key.
    pub ciphertext: Box<[u8; KEM_CIPHERTEXT_LEN]>,
    /// The FIPS 203 shared secret.
    pub secret: Secret<32>,
}

/// An AES-256-GCM key that only seals. The associated data is a parameter because handshakes bind `h`.
pub trait SealKey: Send + Sync {
    /// Encrypts the parts of a plaintext, one after the other, into `output`, which is [`TAG_LEN`] bytes longer than all of
    /// them; the tag goes last. The longest part should be the last: a provider may have to copy the others first.
    ///
    /// # Errors
    /// When the lengths do not fit, with `output` as it was; or the library fails: what is in `output` must not be sent then.
    fn seal(
        &self,
        nonce: &Nonce,
        aad: &[u8],
        plaintext: &[&[u8]],
        output: &mut [u8],
    ) -> Result<(), ProviderError>;
}

/// Copies the parts of a plaintext to the start of `output`, and yields what is left of it, if that has `left` bytes.
fn gather<'o>(
    plaintext: &[&[u8]],
    output: &'o mut [u8],
    left: usize,
) -> Result<(&'o mut [u8], &'o mut [u8]), ProviderError> {
    let len = output.len().checked_sub(left).ok_or(ProviderError)?;
    if plaintext.iter().fold(0usize, |sum, part| sum.saturating_add(part.len())) != len {
        return Err(ProviderError);
    }
    let (gathered, left) = output.split_at_mut(len);
    let mut rest = &mut *gathered;
    for part in plaintext {
        let (to, after) = rest.split_at_mut(part.len());
        to.copy_from_slice(part);
        rest = after;
    }
    Ok((gathered, left))
}

/// An AES-256-GCM key that only opens.
pub trait OpenKey: Send + Sync {
    /// Decrypts `ciphertext`, tag last, into `output`, which is [`TAG_LEN`] bytes shorter.
    ///
    /// # Errors
    /// [`Forged`] when the tag does not match or the lengths do not fit; `output` then holds no plaintext.
    fn open(&self, nonce: &Nonce, aad: &[u8], ciphertext: &[u8], output: &mut [u8]) -> Result<(), Forged>;

    /// Decrypts in place; the plaintext is the first `ciphertext.len() - TAG_LEN` bytes, which are returned.
    ///
    /// # Errors
    /// [`Forged`] when the tag does not match; the buffer's content is then unspecified and holds no plaintext.
    fn open_in_place<'a>(
        &self,
        nonce: &Nonce,
        aad: &[u8],
        ciphertext: &'a mut [u8],
    ) -> Result<&'a mut [u8], Forged>;
}

/// An AES-256 key that encrypts header blocks (PROTOCOL 3.3).
pub trait ProtectKey: Send + Sync {
    /// Encrypts each block by itself.
    fn protect(&self, blocks: &mut [Block]);
}

/// An AES-256 key that decrypts header blocks (PROTOCOL 3.3).
pub trait UnprotectKey: Send + Sync {
    /// Decrypts each block by itself.
    fn unprotect(&self, blocks: &mut [Block]);
}

/// The library failed where it should not: no randomness, no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cryptographic library failed")]
pub struct ProviderError;

/// A key that is not one: a scalar out of range, a point off the curve, an encapsulation key out of form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a valid key")]
pub struct InvalidKey;

/// Authentication failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("authentication failed")]
pub struct Forged;
