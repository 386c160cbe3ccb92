use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use zssp_proto::crypto::{
    Encapsulation, InvalidKey, KEM_CIPHERTEXT_LEN, KEM_PUBLIC_LEN, KEM_SECRET_LEN, KemKeyPair, Nonce,
    OpenKey, P384_PUBLIC_LEN, P384_SECRET_LEN, P384KeyPair, ProtectKey, Provider, ProviderError, SealKey,
    Secret, TAG_LEN, UnprotectKey,
};

use super::meanwhile::Meanwhile;

/// A provider that remembers the keys its peer sends with, for tests that play an insider: packets whose header is
/// right and whose content is not, packets of the right keys at the wrong time.
#[derive(Debug, Clone)]
pub struct KeyLog {
    provider: &'static dyn Provider,
    keys: Arc<Mutex<Keys>>,
    /// What else happens during a call.
    meanwhile: Arc<Meanwhile>,
}

struct Keys {
    /// The latest keys that protect headers, the very latest first.
    headers: VecDeque<[u8; 32]>,
    /// The latest key that sealed a packet of each type.
    seal: HashMap<u8, [u8; 32]>,
    /// Sealing keys that were made and not dropped yet.
    sealing_keys: usize,
    /// What the generator yields for the next key ids.
    kids: VecDeque<[u8; 4]>,
    random: Xoshiro256PlusPlus,
    /// How many hashes were computed.
    hashes: u64,
    /// What is done after each.
    on_hash: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("types", &self.seal.len()).finish_non_exhaustive()
    }
}

/// How many of the keys that protect headers are remembered.
const HEADERS: usize = 4;

/// A datagram to be made up.
#[derive(Debug, Clone, Copy)]
pub struct Forgery<'a> {
    /// The receiver's key id.
    pub kid: [u8; 4],
    /// Fragment number and count.
    pub fragment: (u8, u8),
    /// The reserved byte, 0 in honest packets.
    pub reserved: u8,
    /// The packet type.
    pub packet_type: u8,
    /// The packet's counter.
    pub counter: u64,
    /// The packet, tag included.
    pub body: &'a [u8],
}

impl Forgery<'_> {
    /// A packet in one fragment.
    pub const fn whole(kid: [u8; 4], packet_type: u8, counter: u64) -> Self {
        Self { kid, fragment: (0, 1), reserved: 0, packet_type, counter, body: &[0xbd; TAG_LEN] }
    }
}

impl KeyLog {
    /// Remembers nothing yet; `provider` does the work. Random bytes come from `seed`, so that whatever happens is the same
    /// in each run; key pairs do not, as nothing depends on them.
    pub fn new(provider: &'static dyn Provider, seed: u64) -> Self {
        let keys = Keys {
            headers: VecDeque::new(),
            seal: HashMap::new(),
            kids: VecDeque::new(),
            sealing_keys: 0,
            random: Xoshiro256PlusPlus::seed_from_u64(seed),
            hashes: 0,
            on_hash: None,
        };
        Self { provider, keys: Arc::new(Mutex::new(keys)), meanwhile: Arc::default() }
    }

    /// The datagram with its header protected as this peer protects its own; unprotected before there is a key.
    pub fn forge(&self, forgery: &Forgery<'_>) -> Vec<u8> {
        let mut datagram = forgery.kid.to_vec();
        datagram.extend([forgery.fragment.0, forgery.fragment.1, forgery.reserved, forgery.packet_type]);
        datagram.extend(forgery.counter.to_be_bytes());
        datagram.extend(forgery.body);
        if let Some(key) = self.keys().headers.front().copied()
            && let Some(block) = datagram.get_mut(4..20).and_then(|block| block.as_chunks_mut().0.first_mut())
        {
            self.provider.protect_key(&Secret::new(key)).protect(core::slice::from_mut(block));
        }
        datagram
    }

    /// The packet type of a datagram that this peer has sent, in one fragment, under one of its latest keys.
    pub fn type_of(&self, datagram: &[u8]) -> Option<u8> {
        let header: [u8; 20] = *datagram.first_chunk()?;
        if header.starts_with(&[0; 4]) {
            return Some(header[7]);
        }
        let keys = self.keys().headers.clone();
        keys.iter().find_map(|key| {
            let mut block = [0; 16];
            block.copy_from_slice(&header[4..]);
            self.provider.unprotect_key(&Secret::new(*key)).unprotect(core::slice::from_mut(&mut block));
            // Under a wrong key, the first three bytes would be right once in 2^24.
            if let [0, 1, 0, packet_type, ..] = block { Some(packet_type) } else { None }
        })
    }

    /// How many sealing keys exist at this moment.
    pub fn sealing_keys(&self) -> usize {
        self.keys().sealing_keys
    }

    /// Has the generator yield `kids`, one after the other, when a key id is drawn.
    pub fn draw_next(&self, kids: impl IntoIterator<Item = [u8; 4]>) {
        self.keys().kids.extend(kids);
    }

    /// How many hashes were computed so far.
    pub fn hashes(&self) -> u64 {
        self.keys().hashes
    }

    /// Has `action` happen in the middle of each computation of a hash.
    pub fn on_hash(&self, action: impl Fn() + Send + Sync + 'static) {
        self.keys().on_hash = Some(Arc::new(action));
    }

    /// Has something else happen during the call that comes after `calls` others. Each call counts that makes something or
    /// computes with it, and each end of a KEM key pair that was generated or of a sealing key: nothing that sessions need is
    /// locked then. Not while challenges are on: their salts are drawn under a lock.
    pub fn during_call(&self, calls: u32, meanwhile: impl FnOnce() + Send + 'static) {
        self.meanwhile.set(calls, meanwhile);
    }

    /// `plaintext` sealed as a packet of `packet_type`, under the key with which this peer last sealed one of type
    /// `like`; `None` when it did not yet.
    pub fn seal(&self, like: u8, packet_type: u8, counter: u64, plaintext: &[u8]) -> Option<Vec<u8>> {
        let key = *self.keys().seal.get(&like)?;
        let mut nonce = [0; 12];
        nonce[3] = packet_type;
        nonce[4..].copy_from_slice(&counter.to_be_bytes());
        let mut sealed = vec![0; plaintext.len() + TAG_LEN];
        self.provider.seal_key(&Secret::new(key)).seal(&nonce, &[], &[plaintext], &mut sealed).ok()?;
        Some(sealed)
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Only random bytes, and what is told of sealing and header protection, differ from the provider that does the work.
impl Provider for KeyLog {
    fn name(&self) -> &'static str {
        self.provider.name()
    }

    fn random(&self, out: &mut [u8]) -> Result<(), ProviderError> {
        self.meanwhile.pass();
        if let Ok(kid) = <&mut [u8; 4]>::try_from(&mut *out)
            && let Some(scripted) = self.keys().kids.pop_front()
        {
            *kid = scripted;
            return Ok(());
        }
        self.keys().random.fill(out);
        Ok(())
    }

    fn sha512(&self, parts: &[&[u8]]) -> [u8; 64] {
        self.meanwhile.pass();
        let mut keys = self.keys();
        keys.hashes += 1;
        let on_hash = keys.on_hash.clone();
        drop(keys);
        if let Some(on_hash) = on_hash {
            on_hash();
        }
        self.provider.sha512(parts)
    }

    fn hmac_sha512(&self, key: &[u8], parts: &[&[u8]]) -> Secret<64> {
        self.meanwhile.pass();
        self.provider.hmac_sha512(key, parts)
    }

    fn p384_generate(&self) -> Result<Box<dyn P384KeyPair>, ProviderError> {
        self.meanwhile.pass();
        self.provider.p384_generate()
    }

    fn p384_from_secret(&self, secret: &Secret<P384_SECRET_LEN>) -> Result<Box<dyn P384KeyPair>, InvalidKey> {
        self.meanwhile.pass();
        self.provider.p384_from_secret(secret)
    }

    fn p384_is_valid(&self, public: &[u8; P384_PUBLIC_LEN]) -> bool {
        self.meanwhile.pass();
        self.provider.p384_is_valid(public)
    }

    fn kem_generate(&self) -> Result<Box<dyn KemKeyPair>, ProviderError> {
        self.meanwhile.pass();
        let pair = self.provider.kem_generate()?;
        Ok(Box::new(LoggedKemKeyPair { pair, meanwhile: self.meanwhile.clone() }))
    }

    fn kem_from_secret(&self, secret: &Secret<KEM_SECRET_LEN>) -> Result<Box<dyn KemKeyPair>, InvalidKey> {
        self.meanwhile.pass();
        self.provider.kem_from_secret(secret)
    }

    fn kem_encapsulate(&self, public: &[u8; KEM_PUBLIC_LEN]) -> Result<Encapsulation, InvalidKey> {
        self.meanwhile.pass();
        self.provider.kem_encapsulate(public)
    }

    fn seal_key(&self, key: &Secret<32>) -> Box<dyn SealKey> {
        self.meanwhile.pass();
        self.keys().sealing_keys += 1;
        Box::new(LoggedSealKey {
            key: *key.expose(),
            seal: self.provider.seal_key(key),
            keys: self.keys.clone(),
            meanwhile: self.meanwhile.clone(),
        })
    }

    fn open_key(&self, key: &Secret<32>) -> Box<dyn OpenKey> {
        self.meanwhile.pass();
        self.provider.open_key(key)
    }

    fn protect_key(&self, key: &Secret<32>) -> Box<dyn ProtectKey> {
        self.meanwhile.pass();
        let mut keys = self.keys();
        keys.headers.push_front(*key.expose());
        keys.headers.truncate(HEADERS);
        drop(keys);
        self.provider.protect_key(key)
    }

    fn unprotect_key(&self, key: &Secret<32>) -> Box<dyn UnprotectKey> {
        self.meanwhile.pass();
        self.provider.unprotect_key(key)
    }
}

/// Tells which key sealed a packet of which type.
struct LoggedSealKey {
    key: [u8; 32],
    seal: Box<dyn SealKey>,
    keys: Arc<Mutex<Keys>>,
    meanwhile: Arc<Meanwhile>,
}

impl LoggedSealKey {
    fn log(&self, nonce: &Nonce) {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).seal.insert(nonce[3], self.key);
    }
}

impl Drop for LoggedSealKey {
    fn drop(&mut self) {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).sealing_keys -= 1;
        self.meanwhile.pass();
    }
}

impl SealKey for LoggedSealKey {
    fn seal(
        &self,
        nonce: &Nonce,
        aad: &[u8],
        plaintext: &[&[u8]],
        output: &mut [u8],
    ) -> Result<(), ProviderError> {
        self.log(nonce);
        self.seal.seal(nonce, aad, plaintext, output)
    }
}

/// Tells when it is dropped.
struct LoggedKemKeyPair {
    pair: Box<dyn KemKeyPair>,
    meanwhile: Arc<Meanwhile>,
}

impl Drop for LoggedKemKeyPair {
    fn drop(&mut self) {
        self.meanwhile.pass();
    }
}

impl KemKeyPair for LoggedKemKeyPair {
    fn public(&self) -> &[u8; KEM_PUBLIC_LEN] {
        self.pair.public()
    }

    fn decapsulate(&self, ciphertext: &[u8; KEM_CIPHERTEXT_LEN]) -> Result<Secret<32>, ProviderError> {
        self.pair.decapsulate(ciphertext)
    }
}
