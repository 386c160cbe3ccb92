//! A cryptographic library that fails when told to, and sessions that all rekey at the same age.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use zssp::proto::crypto::{
    Encapsulation, InvalidKey, KEM_PUBLIC_LEN, KEM_SECRET_LEN, KemKeyPair, Nonce, OpenKey, P384KeyPair,
    PROVIDERS, Provider, ProviderError, SealKey,
};
use zssp::{P384_PUBLIC_LEN, P384_SECRET_LEN, Secret};

/// The default library, but for its random generator and its sealing keys.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rigged {
    broken: Arc<AtomicBool>,
    without_jitter: bool,
}

impl Rigged {
    /// What rekeys after 50 minutes sharp: numbers that only spread things are no longer random.
    pub(crate) fn without_jitter() -> Self {
        Self { without_jitter: true, ..Self::default() }
    }

    /// From now on nothing random is to be had, and nothing can be sealed.
    pub(crate) fn breaks(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    fn works(&self) -> Result<(), ProviderError> {
        if self.broken.load(Ordering::Relaxed) { Err(ProviderError) } else { Ok(()) }
    }
}

impl Provider for Rigged {
    fn name(&self) -> &'static str {
        "rigged"
    }

    fn random(&self, out: &mut [u8]) -> Result<(), ProviderError> {
        self.works()?;
        if self.without_jitter && out.len() == 8 {
            out.fill(0);
            return Ok(());
        }
        PROVIDERS[0].random(out)
    }

    fn sha512(&self, parts: &[&[u8]]) -> [u8; 64] {
        PROVIDERS[0].sha512(parts)
    }

    fn hmac_sha512(&self, key: &[u8], parts: &[&[u8]]) -> Secret<64> {
        PROVIDERS[0].hmac_sha512(key, parts)
    }

    fn p384_generate(&self) -> Result<Box<dyn P384KeyPair>, ProviderError> {
        PROVIDERS[0].p384_generate()
    }

    fn p384_from_secret(&self, secret: &Secret<P384_SECRET_LEN>) -> Result<Box<dyn P384KeyPair>, InvalidKey> {
        PROVIDERS[0].p384_from_secret(secret)
    }

    fn p384_is_valid(&self, public: &[u8; P384_PUBLIC_LEN]) -> bool {
        PROVIDERS[0].p384_is_valid(public)
    }

    fn kem_generate(&self) -> Result<Box<dyn KemKeyPair>, ProviderError> {
        PROVIDERS[0].kem_generate()
    }

    fn kem_from_secret(&self, secret: &Secret<KEM_SECRET_LEN>) -> Result<Box<dyn KemKeyPair>, InvalidKey> {
        PROVIDERS[0].kem_from_secret(secret)
    }

    fn kem_encapsulate(&self, public: &[u8; KEM_PUBLIC_LEN]) -> Result<Encapsulation, InvalidKey> {
        PROVIDERS[0].kem_encapsulate(public)
    }

    fn seal_key(&self, key: &Secret<32>) -> Box<dyn SealKey> {
        Box::new(Sealing { key: PROVIDERS[0].seal_key(key), library: self.clone() })
    }

    fn open_key(&self, key: &Secret<32>) -> Box<dyn OpenKey> {
        PROVIDERS[0].open_key(key)
    }
}

struct Sealing {
    key: Box<dyn SealKey>,
    library: Rigged,
}

impl SealKey for Sealing {
    fn seal(
        &self,
        nonce: &Nonce,
        aad: &[u8],
        plaintext: &[&[u8]],
        output: &mut [u8],
    ) -> Result<(), ProviderError> {
        self.library.works()?;
        self.key.seal(nonce, aad, plaintext, output)
    }
}
