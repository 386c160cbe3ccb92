//! The provider without C: the RustCrypto crates. Builds wherever Rust does, several times slower.

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Aes256Gcm};
use getrandom::SysRng;
use hmac::digest::FixedOutput;
use hmac::{Hmac, KeyInit, Mac};
use ml_kem::array::Array;
use ml_kem::kem::{Decapsulate, Generate, KeyExport};
use ml_kem::{DecapsulationKey1024, EncapsulationKey1024};
use p384::{CompressedPoint, PublicKey, SecretKey};
use sha2::{Digest, Sha512};
use zeroize::{Zeroize, Zeroizing};

use super::secret::wiped;
use super::{
    Encapsulation, Forged, InvalidKey, KEM_CIPHERTEXT_LEN, KEM_PUBLIC_LEN, KEM_SECRET_LEN, KemKeyPair, Nonce,
    OpenKey, P384_PUBLIC_LEN, P384_SECRET_LEN, P384KeyPair, Provider, ProviderError, SealKey, Secret,
    TAG_LEN, gather,
};

/// The RustCrypto crates: no C compiler needed.
///
/// ```
/// use zssp_proto::crypto::{Provider, RustCrypto};
///
/// let owner = RustCrypto.kem_generate()?;
/// let sent = RustCrypto.kem_encapsulate(owner.public())?;
/// assert!(sent.secret.ct_eq(&owner.decapsulate(&sent.ciphertext)?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct RustCrypto;

impl Provider for RustCrypto {
    fn name(&self) -> &'static str {
        "rust-crypto"
    }

    fn random(&self, out: &mut [u8]) -> Result<(), ProviderError> {
        getrandom::fill(out).map_err(|_| ProviderError)
    }

    fn sha512(&self, parts: &[&[u8]]) -> [u8; 64] {
        parts.iter().fold(Sha512::new(), |hash, part| hash.chain_update(part)).finalize().into()
    }

    fn hmac_sha512(&self, key: &[u8], parts: &[&[u8]]) -> Secret<64> {
        // HMAC hashes or pads its key to a block, so every length is taken.
        let mut mac = Hmac::<Sha512>::new_from_slice(key).expect("HMAC takes a key of any length");
        for part in parts {
            mac.update(part);
        }
        let mut tag = Secret::zero();
        mac.finalize_into(Array::cast_from_core_mut(tag.expose_mut()));
        tag
    }

    fn p384_generate(&self) -> Result<Box<dyn P384KeyPair>, ProviderError> {
        let secret = SecretKey::try_generate_from_rng(&mut SysRng).map_err(|_| ProviderError)?;
        Ok(Box::new(P384::new(secret)))
    }

    fn p384_from_secret(&self, secret: &Secret<P384_SECRET_LEN>) -> Result<Box<dyn P384KeyPair>, InvalidKey> {
        let secret = SecretKey::from_bytes(Array::cast_from_core(secret.expose())).map_err(|_| InvalidKey)?;
        Ok(Box::new(P384::new(secret)))
    }

    fn p384_is_valid(&self, public: &[u8; P384_PUBLIC_LEN]) -> bool {
        decompress(public).is_ok()
    }

    fn kem_generate(&self) -> Result<Box<dyn KemKeyPair>, ProviderError> {
        let private = DecapsulationKey1024::try_generate_from_rng(&mut SysRng).map_err(|_| ProviderError)?;
        Ok(Box::new(Kem::new(private)))
    }

    fn kem_from_secret(&self, secret: &Secret<KEM_SECRET_LEN>) -> Result<Box<dyn KemKeyPair>, InvalidKey> {
        #[expect(deprecated, reason = "a round-3 key pair has no seed, only this form")]
        let private = DecapsulationKey1024::from_expanded(Array::cast_from_core(secret.expose()));
        Ok(Box::new(Kem::new(private.map_err(|_| InvalidKey)?)))
    }

    fn kem_encapsulate(&self, public: &[u8; KEM_PUBLIC_LEN]) -> Result<Encapsulation, InvalidKey> {
        let public = EncapsulationKey1024::new(Array::cast_from_core(public)).map_err(|_| InvalidKey)?;
        // The library's own way to draw `m` panics when the generator fails.
        let mut m = Zeroizing::new([0; 32]);
        self.random(m.as_mut_slice()).map_err(|_| InvalidKey)?;
        let (ciphertext, mut shared) = public.encapsulate_deterministic(Array::cast_from_core(&m));
        let secret = take(&mut shared.0);
        Ok(Encapsulation { ciphertext: Box::new(ciphertext.into()), secret })
    }

    fn seal_key(&self, key: &Secret<32>) -> Box<dyn SealKey> {
        Box::new(Gcm::new(key))
    }

    fn open_key(&self, key: &Secret<32>) -> Box<dyn OpenKey> {
        Box::new(Gcm::new(key))
    }
}

// Of HMAC, which does not say so itself, the hash is what holds the key.
const _: () = wiped::<Sha512>();
const _: () = wiped::<Aes256Gcm>();
const _: () = wiped::<SecretKey>();
const _: () = wiped::<DecapsulationKey1024>();

struct P384 {
    secret: SecretKey,
    public: [u8; P384_PUBLIC_LEN],
}

impl P384 {
    fn new(secret: SecretKey) -> Self {
        let public = CompressedPoint::from(secret.public_key()).into();
        Self { secret, public }
    }
}

impl P384KeyPair for P384 {
    fn public(&self) -> &[u8; P384_PUBLIC_LEN] {
        &self.public
    }

    fn agree(&self, peer: &[u8; P384_PUBLIC_LEN]) -> Result<Secret<P384_SECRET_LEN>, InvalidKey> {
        let shared = self.secret.diffie_hellman(&decompress(peer)?);
        Secret::from_slice(shared.raw_secret_bytes()).ok_or(InvalidKey)
    }

    fn secret(&self) -> Secret<P384_SECRET_LEN> {
        take(&mut self.secret.to_bytes().0)
    }
}

/// The point on the curve that `public` names.
fn decompress(public: &[u8; P384_PUBLIC_LEN]) -> Result<PublicKey, InvalidKey> {
    // The library knows another form of this length, which has the prefix 5 and is not ours.
    if !matches!(public[0], 2 | 3) {
        return Err(InvalidKey);
    }
    PublicKey::from_sec1_bytes(public).map_err(|_| InvalidKey)
}

struct Kem {
    private: DecapsulationKey1024,
    public: Box<[u8; KEM_PUBLIC_LEN]>,
}

impl Kem {
    fn new(private: DecapsulationKey1024) -> Self {
        let public = Box::new(private.encapsulation_key().to_bytes().into());
        Self { private, public }
    }
}

impl KemKeyPair for Kem {
    fn public(&self) -> &[u8; KEM_PUBLIC_LEN] {
        &self.public
    }

    fn decapsulate(&self, ciphertext: &[u8; KEM_CIPHERTEXT_LEN]) -> Result<Secret<32>, ProviderError> {
        let mut shared = self.private.decapsulate(Array::cast_from_core(ciphertext));
        Ok(take(&mut shared.0))
    }
}

struct Gcm(Aes256Gcm);

impl Gcm {
    fn new(key: &Secret<32>) -> Self {
        Self(Aes256Gcm::new(Array::cast_from_core(key.expose())))
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
        let (text, tag) = gather(plaintext, output, TAG_LEN)?;
        let tag: &mut [u8; TAG_LEN] = tag.try_into().map_err(|_| ProviderError)?;
        *tag = self
            .0
            .encrypt_inout_detached(Array::cast_from_core(nonce), aad, text.into())
            .map_err(|_| ProviderError)?
            .into();
        Ok(())
    }
}

impl OpenKey for Gcm {
    fn open(&self, nonce: &Nonce, aad: &[u8], ciphertext: &[u8], output: &mut [u8]) -> Result<(), Forged> {
        let (ciphertext, tag) = ciphertext.split_last_chunk::<TAG_LEN>().ok_or(Forged)?;
        let text = InOutBuf::new(ciphertext, output).map_err(|_| Forged)?;
        self.0
            .decrypt_inout_detached(Array::cast_from_core(nonce), aad, text, Array::cast_from_core(tag))
            .map_err(|_| Forged)
    }

    fn open_in_place<'a>(
        &self,
        nonce: &Nonce,
        aad: &[u8],
        ciphertext: &'a mut [u8],
    ) -> Result<&'a mut [u8], Forged> {
        let (text, tag) = ciphertext.split_last_chunk_mut::<TAG_LEN>().ok_or(Forged)?;
        let tag = Array::cast_from_core(&*tag);
        self.0
            .decrypt_inout_detached(Array::cast_from_core(nonce), aad, (&mut *text).into(), tag)
            .map_err(|_| Forged)?;
        Ok(text)
    }
}

/// Moves bytes that the library left unprotected into a [`Secret`], and wipes them.
fn take<const N: usize>(bytes: &mut [u8; N]) -> Secret<N> {
    let mut secret = Secret::zero();
    secret.expose_mut().copy_from_slice(bytes);
    bytes.zeroize();
    secret
}
