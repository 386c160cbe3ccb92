//! A cryptographic library that fails when told to, sessions that all rekey at the same age, and threads that seal or open
//! at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use zssp::proto::crypto::{
    Encapsulation, Forged, InvalidKey, KEM_PUBLIC_LEN, KEM_SECRET_LEN, KemKeyPair, Nonce, OpenKey,
    P384KeyPair, PROVIDERS, Provider, ProviderError, SealKey,
};
use zssp::{P384_PUBLIC_LEN, P384_SECRET_LEN, Secret};

use super::meeting::Place;

/// The default library, but for its random generator and its keys.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rigged {
    broken: Arc<AtomicBool>,
    without_jitter: bool,
    /// Passed with each packet of at least a thousand bytes that is sealed.
    pub(crate) sealing: Place,
    /// The same with each that is opened.
    pub(crate) opening: Place,
}

/// What a packet has at least that passes a place: none of those that endpoints send by themselves.
const LONG: usize = 1000;

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
        Box::new(Opening { key: PROVIDERS[0].open_key(key), place: self.opening.clone() })
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
        if output.len() >= LONG {
            self.library.sealing.pass();
        }
        self.key.seal(nonce, aad, plaintext, output)
    }
}

struct Opening {
    key: Box<dyn OpenKey>,
    place: Place,
}

impl OpenKey for Opening {
    fn open(&self, nonce: &Nonce, aad: &[u8], ciphertext: &[u8], output: &mut [u8]) -> Result<(), Forged> {
        self.key.open(nonce, aad, ciphertext, output)
    }

    fn open_in_place<'a>(
        &self,
        nonce: &Nonce,
        aad: &[u8],
        ciphertext: &'a mut [u8],
    ) -> Result<&'a mut [u8], Forged> {
        if ciphertext.len() >= LONG {
            self.place.pass();
        }
        self.key.open_in_place(nonce, aad, ciphertext)
    }
}
