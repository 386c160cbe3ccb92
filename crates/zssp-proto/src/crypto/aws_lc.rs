//! The default provider: AWS-LC. Fast everywhere, needs a C compiler to build.

use core::ops::Range;

use aws_lc_rs::aead::{self, Aad, LessSafeKey, UnboundKey};
use aws_lc_rs::agreement::{self, ECDH_P384, ParsedPublicKey, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::encoding::{AsBigEndian, EcPrivateKeyBin, EcPublicKeyCompressedBin};
use aws_lc_rs::kem::{Ciphertext, DecapsulationKey, EncapsulationKey, ML_KEM_1024};
use aws_lc_rs::{digest, hmac, rand};
use zeroize::Zeroizing;

use super::{
    Encapsulation, Forged, InvalidKey, KEM_CIPHERTEXT_LEN, KEM_PUBLIC_LEN, KEM_SECRET_LEN, KemKeyPair, Nonce,
    OpenKey, P384_PUBLIC_LEN, P384_SECRET_LEN, P384KeyPair, Provider, ProviderError, SealKey, Secret,
    TAG_LEN, gather,
};

/// AWS-LC, the default.
///
/// ```
/// use zssp_proto::crypto::{AwsLc, Provider};
///
/// let alice = AwsLc.p384_generate()?;
/// let bob = AwsLc.p384_generate()?;
/// let shared = alice.agree(bob.public())?;
/// assert!(shared.ct_eq(&bob.agree(alice.public())?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct AwsLc;

impl Provider for AwsLc {
    fn name(&self) -> &'static str {
        "aws-lc"
    }

    fn random(&self, out: &mut [u8]) -> Result<(), ProviderError> {
        rand::fill(out).map_err(|_| ProviderError)
    }

    fn sha512(&self, parts: &[&[u8]]) -> [u8; 64] {
        let mut context = digest::Context::new(&digest::SHA512);
        for part in parts {
            context.update(part);
        }
        let mut hash = [0; 64];
        hash.copy_from_slice(context.finish().as_ref());
        hash
    }

    fn hmac_sha512(&self, key: &[u8], parts: &[&[u8]]) -> Secret<64> {
        let key = hmac::Key::new(hmac::HMAC_SHA512, key);
        // The library's incremental interface leaves its result on the stack; this one writes into ours.
        let message = Zeroizing::new(parts.concat());
        let mut tag = Secret::zero();
        hmac::sign_to_buffer(&key, &message, tag.expose_mut())
            // The buffer is as long as the tag, and nothing else is refused.
            .expect("HMAC-SHA-512 yields 64 bytes");
        tag
    }

    fn p384_generate(&self) -> Result<Box<dyn P384KeyPair>, ProviderError> {
        let private = PrivateKey::generate(&ECDH_P384).map_err(|_| ProviderError)?;
        Ok(Box::new(P384::new(private)?))
    }

    fn p384_from_secret(&self, secret: &Secret<P384_SECRET_LEN>) -> Result<Box<dyn P384KeyPair>, InvalidKey> {
        let private = PrivateKey::from_private_key(&ECDH_P384, secret.expose()).map_err(|_| InvalidKey)?;
        Ok(Box::new(P384::new(private).map_err(|_| InvalidKey)?))
    }

    fn p384_is_valid(&self, public: &[u8; P384_PUBLIC_LEN]) -> bool {
        ParsedPublicKey::try_from(UnparsedPublicKey::new(&ECDH_P384, public)).is_ok()
    }

    fn kem_generate(&self) -> Result<Box<dyn KemKeyPair>, ProviderError> {
        let private = DecapsulationKey::generate(&ML_KEM_1024).map_err(|_| ProviderError)?;
        let public =
            private.encapsulation_key().and_then(|key| key.key_bytes()).map_err(|_| ProviderError)?;
        let public = boxed(public.as_ref()).ok_or(ProviderError)?;
        Ok(Box::new(Kem { private, public }))
    }

    fn kem_from_secret(&self, secret: &Secret<KEM_SECRET_LEN>) -> Result<Box<dyn KemKeyPair>, InvalidKey> {
        let secret = secret.expose();
        // The library takes any bytes of the right length; the check of FIPS 203 7.3 is ours to make.
        let (public, hash) = (&secret[KEM_PUBLIC], &secret[KEM_PUBLIC_HASH]);
        if digest::digest(&digest::SHA3_256, public).as_ref() != hash {
            return Err(InvalidKey);
        }
        let private = DecapsulationKey::new(&ML_KEM_1024, secret).map_err(|_| InvalidKey)?;
        let public = boxed(public).ok_or(InvalidKey)?;
        Ok(Box::new(Kem { private, public }))
    }

    fn kem_encapsulate(&self, public: &[u8; KEM_PUBLIC_LEN]) -> Result<Encapsulation, InvalidKey> {
        let public = EncapsulationKey::new(&ML_KEM_1024, public).map_err(|_| InvalidKey)?;
        let (ciphertext, secret) = public.encapsulate().map_err(|_| InvalidKey)?;
        Ok(Encapsulation {
            ciphertext: boxed(ciphertext.as_ref()).ok_or(InvalidKey)?,
            secret: Secret::from_slice(secret.as_ref()).ok_or(InvalidKey)?,
        })
    }

    fn seal_key(&self, key: &Secret<32>) -> Box<dyn SealKey> {
        Box::new(Gcm::new(key))
    }

    fn open_key(&self, key: &Secret<32>) -> Box<dyn OpenKey> {
        Box::new(Gcm::new(key))
    }
}

struct P384 {
    private: PrivateKey,
    /// The library could export it later, but that may fail and [`P384KeyPair::secret`] may not.
    secret: Secret<P384_SECRET_LEN>,
    public: [u8; P384_PUBLIC_LEN],
}

impl P384 {
    fn new(private: PrivateKey) -> Result<Self, ProviderError> {
        let secret: EcPrivateKeyBin<'_> = private.as_be_bytes().map_err(|_| ProviderError)?;
        let public: EcPublicKeyCompressedBin<'_> = private
            .compute_public_key()
            .and_then(|public| public.as_be_bytes())
            .map_err(|_| ProviderError)?;
        Ok(Self {
            secret: Secret::from_slice(secret.as_ref()).ok_or(ProviderError)?,
            public: public.as_ref().try_into().map_err(|_| ProviderError)?,
            private,
        })
    }
}

impl P384KeyPair for P384 {
    fn public(&self) -> &[u8; P384_PUBLIC_LEN] {
        &self.public
    }

    fn agree(&self, peer: &[u8; P384_PUBLIC_LEN]) -> Result<Secret<P384_SECRET_LEN>, InvalidKey> {
        agreement::agree(&self.private, UnparsedPublicKey::new(&ECDH_P384, peer), InvalidKey, |shared| {
            Secret::from_slice(shared).ok_or(InvalidKey)
        })
    }

    fn secret(&self) -> Secret<P384_SECRET_LEN> {
        self.secret.duplicate()
    }
}

/// Where in a decapsulation key the encapsulation key is, after 1536 bytes of secret polynomials.
const KEM_PUBLIC: Range<usize> = 1536..1536 + KEM_PUBLIC_LEN;
/// Where in a decapsulation key the hash of the encapsulation key is.
const KEM_PUBLIC_HASH: Range<usize> = KEM_PUBLIC.end..KEM_PUBLIC.end + 32;

struct Kem {
    private: DecapsulationKey,
    public: Box<[u8; KEM_PUBLIC_LEN]>,
}

impl KemKeyPair for Kem {
    fn public(&self) -> &[u8; KEM_PUBLIC_LEN] {
        &self.public
    }

    fn decapsulate(&self, ciphertext: &[u8; KEM_CIPHERTEXT_LEN]) -> Result<Secret<32>, ProviderError> {
        let ciphertext = Ciphertext::from(ciphertext.as_slice());
        let secret = self.private.decapsulate(ciphertext).map_err(|_| ProviderError)?;
        Secret::from_slice(secret.as_ref()).ok_or(ProviderError)
    }
}

const EMPTY: &[u8] = &[];

struct Gcm(LessSafeKey);

impl Gcm {
    fn new(key: &Secret<32>) -> Self {
        let key = UnboundKey::new(&aead::AES_256_GCM, key.expose())
            // The library refuses a key by its length alone, and the type fixes that.
            .expect("AES-256 takes 32 bytes");
        Self(LessSafeKey::new(key))
    }
}

impl SealKey for Gcm {
    fn seal(
        &self,
        nonce: &Nonce,
        aad: &[u8],
        plaintext: &[&[u8]],
        output: &mut [u8],
    ) -> Result<(), ProviderError> {
        let nonce = aead::Nonce::assume_unique_for_key(*nonce);
        // The last part is read where it is.
        let (last, first) = plaintext.split_last().unwrap_or((&EMPTY, &[]));
        let (first, rest) = gather(first, output, last.len() + TAG_LEN)?;
        self.0.seal_in_place_scatter(nonce, Aad::from(aad), first, last, rest).map_err(|_| ProviderError)
    }
}

impl OpenKey for Gcm {
    fn open(&self, nonce: &Nonce, aad: &[u8], ciphertext: &[u8], output: &mut [u8]) -> Result<(), Forged> {
        let (ciphertext, tag) = ciphertext.split_last_chunk::<TAG_LEN>().ok_or(Forged)?;
        let nonce = aead::Nonce::assume_unique_for_key(*nonce);
        self.0.open_separate_gather(nonce, Aad::from(aad), ciphertext, tag, output).map_err(|_| Forged)
    }

    fn open_in_place<'a>(
        &self,
        nonce: &Nonce,
        aad: &[u8],
        ciphertext: &'a mut [u8],
    ) -> Result<&'a mut [u8], Forged> {
        let (text, tag) = ciphertext.split_last_chunk_mut::<TAG_LEN>().ok_or(Forged)?;
        let nonce = aead::Nonce::assume_unique_for_key(*nonce);
        // Not `open_in_place`: that ends with moving the plaintext onto itself.
        self.0.open_in_place_separate_tag(nonce, Aad::from(aad), tag, text).map_err(|_| Forged)
    }
}

/// A copy of `bytes` with its length in the type, if it has that length.
fn boxed<const N: usize>(bytes: &[u8]) -> Option<Box<[u8; N]>> {
    Box::<[u8]>::from(bytes).try_into().ok()
}
