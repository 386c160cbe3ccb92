//! A provider that tells what it is asked for, and answers from a script if it has one.

use core::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ml_kem::{DecapsulationKey1024, Seed};
use zssp_proto::crypto::{
    Encapsulation, InvalidKey, KEM_PUBLIC_LEN, KEM_SECRET_LEN, KemKeyPair, OpenKey, P384_PUBLIC_LEN,
    P384_SECRET_LEN, P384KeyPair, ProtectKey, Provider, ProviderError, SealKey, Secret, UnprotectKey,
};
use zssp_sim::vectors::Op;

use crate::script::{Encapsulated, Script};
use crate::trace::Trace;

/// Delegates to another provider. What a recording names is put into a [`Trace`] on the way.
pub struct Tap {
    inner: Arc<dyn Provider>,
    script: Option<Mutex<Script>>,
    trace: Trace,
    watch: Mutex<Watch>,
}

/// What was seen of things that only later turn out to be what they are.
#[derive(Default)]
struct Watch {
    /// The ciphertext made last: the next 32-byte key of an HMAC is the secret that goes with it.
    ciphertext: Option<Box<[u8; 1568]>>,
    /// What `Split` derived. No other derivation has an empty key (PROTOCOL 2.1).
    split: Vec<[u8; 32]>,
    /// The key of `Split` that was prepared for sealing.
    sealing: Option<[u8; 32]>,
}

impl Tap {
    /// Has the keys that `script` holds drawn in its order, and everything else by `inner`. Without a script all are
    /// fresh.
    pub fn new(inner: Arc<dyn Provider>, script: Option<Script>, trace: Trace) -> Self {
        Self { inner, script: script.map(Mutex::new), trace, watch: Mutex::default() }
    }

    /// Whether the script, if there is one, was used up.
    pub fn is_spent(&self) -> bool {
        self.script().is_none_or(|script| script.is_spent())
    }

    fn script(&self) -> Option<MutexGuard<'_, Script>> {
        self.script.as_ref().map(|script| script.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fresh decapsulation key, in the form that a recording holds. The traits do not let secrets out, so it is made
    /// here and handed in.
    fn fresh_kem_secret(&self) -> Result<Box<[u8; KEM_SECRET_LEN]>, ProviderError> {
        let mut seed = Seed::default();
        self.inner.random(&mut seed)?;
        #[expect(deprecated, reason = "recordings hold the expanded form, which round-3 libraries have too")]
        let expanded = ml_kem::ExpandedKeyEncoding::to_expanded_bytes(&DecapsulationKey1024::from_seed(seed));
        Box::<[u8]>::from(expanded.as_slice()).try_into().map_err(|_| ProviderError)
    }
}

impl Provider for Tap {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    /// Key ids are 4 bytes and the `pow` of a hello 8. Bob draws 8 bytes for another reason; his script has no `pow`.
    fn random(&self, out: &mut [u8]) -> Result<(), ProviderError> {
        if let Some(mut script) = self.script() {
            if let Ok(out) = <&mut [u8; 4]>::try_from(&mut *out)
                && let Some(kid) = script.kids.pop_front()
            {
                *out = kid;
                return Ok(());
            }
            if let Ok(out) = <&mut [u8; 8]>::try_from(&mut *out)
                && let Some(pow) = script.pows.pop_front()
            {
                *out = pow;
                return Ok(());
            }
        }
        self.inner.random(out)
    }

    fn sha512(&self, parts: &[&[u8]]) -> [u8; 64] {
        self.inner.sha512(parts)
    }

    fn hmac_sha512(&self, key: &[u8], parts: &[&[u8]]) -> Secret<64> {
        let output = self.inner.hmac_sha512(key, parts);
        let mut watch = self.watch();
        if key.is_empty() {
            watch.split.extend(output.expose().first_chunk::<32>());
        } else if let Ok(shared_secret) = key.try_into()
            && let Some(ciphertext) = watch.ciphertext.take()
        {
            self.trace.push(Op::KemEncapsulate { ciphertext, shared_secret });
        }
        output
    }

    fn p384_generate(&self) -> Result<Box<dyn P384KeyPair>, ProviderError> {
        let pair = match self.script() {
            Some(mut script) => {
                let secret = script.p384.pop_front().ok_or(ProviderError)?;
                self.inner.p384_from_secret(&Secret::new(secret)).map_err(|_| ProviderError)?
            }
            None => self.inner.p384_generate()?,
        };
        self.trace.push(Op::P384Keypair { public: *pair.public(), secret: *pair.secret().expose() });
        Ok(pair)
    }

    fn p384_from_secret(&self, secret: &Secret<P384_SECRET_LEN>) -> Result<Box<dyn P384KeyPair>, InvalidKey> {
        self.inner.p384_from_secret(secret)
    }

    fn p384_is_valid(&self, public: &[u8; P384_PUBLIC_LEN]) -> bool {
        self.inner.p384_is_valid(public)
    }

    fn kem_generate(&self) -> Result<Box<dyn KemKeyPair>, ProviderError> {
        let secret = match self.script() {
            Some(mut script) => script.kem.pop_front().ok_or(ProviderError)?,
            None => self.fresh_kem_secret()?,
        };
        let pair = self.inner.kem_from_secret(&Secret::new(*secret)).map_err(|_| ProviderError)?;
        self.trace.push(Op::KemKeypair { public: Box::new(*pair.public()), secret });
        Ok(pair)
    }

    fn kem_from_secret(&self, secret: &Secret<KEM_SECRET_LEN>) -> Result<Box<dyn KemKeyPair>, InvalidKey> {
        self.inner.kem_from_secret(secret)
    }

    fn kem_encapsulate(&self, public: &[u8; KEM_PUBLIC_LEN]) -> Result<Encapsulation, InvalidKey> {
        let made = match self.script() {
            Some(mut script) => {
                let Encapsulated { ciphertext, secret } =
                    script.encapsulations.pop_front().ok_or(InvalidKey)?;
                let receiver = self.inner.kem_from_secret(&Secret::new(*secret))?;
                if receiver.public() != public {
                    return Err(InvalidKey);
                }
                let secret = receiver.decapsulate(&ciphertext).map_err(|_| InvalidKey)?;
                Encapsulation { ciphertext, secret }
            }
            None => self.inner.kem_encapsulate(public)?,
        };
        self.watch().ciphertext = Some(made.ciphertext.clone());
        Ok(made)
    }

    fn seal_key(&self, key: &Secret<32>) -> Box<dyn SealKey> {
        let mut watch = self.watch();
        if watch.split.contains(key.expose()) {
            watch.sealing = Some(*key.expose());
        }
        self.inner.seal_key(key)
    }

    fn open_key(&self, key: &Secret<32>) -> Box<dyn OpenKey> {
        let mut watch = self.watch();
        if watch.split.contains(key.expose())
            && let Some(send) = watch.sealing.take()
        {
            self.trace.push(Op::TransportKeys { recv: *key.expose(), send });
        }
        self.inner.open_key(key)
    }

    fn protect_key(&self, key: &Secret<32>) -> Box<dyn ProtectKey> {
        self.trace.push(Op::HeaderKeySend { key: *key.expose() });
        self.inner.protect_key(key)
    }

    fn unprotect_key(&self, key: &Secret<32>) -> Box<dyn UnprotectKey> {
        self.trace.push(Op::HeaderKeyRecv { key: *key.expose() });
        self.inner.unprotect_key(key)
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap").field("inner", &self.inner).finish_non_exhaustive()
    }
}
