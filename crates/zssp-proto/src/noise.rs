//! The Noise symmetric state over SHA-512, KBKDF and AES-256-GCM (PROTOCOL 2.1, 5.2).
//!
//! Unlike in Noise, nonces are explicit: each encrypted field has the one that PROTOCOL 5.1 gives it.

use crate::crypto::{Forged, Nonce, Provider, ProviderError, Secret, TAG_LEN, kbkdf};

/// The KDF label of Noise's own derivations.
const LABEL: &[u8] = b"ZSSP";

/// What `GetAsk` derives (PROTOCOL 2.1).
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ask {
    /// Header protection keys.
    HeaderKeys,
    /// Key-exchange keys.
    KeyExchange,
    /// Ratchet key and fingerprint.
    Ratchet,
}

impl Ask {
    //= ZSSP-KDF-06  the three labels
    const fn label(self) -> &'static [u8] {
        match self {
            Self::HeaderKeys => b"ASKH",
            Self::KeyExchange => b"ASKK",
            Self::Ratchet => b"ASKR",
        }
    }
}

/// `h`, `ck` and `k` of a running handshake.
pub(crate) struct SymmetricState {
    hash: [u8; 64],
    chaining_key: Secret<64>,
    key: Secret<32>,
}

impl SymmetricState {
    /// `h = ck = name`, zero-padded.
    //= ZSSP-SUI-15  the name, zero-padded, is the initial h and ck
    pub(crate) fn new(name: &'static str) -> Self {
        let mut hash = [0; 64];
        for (to, from) in hash.iter_mut().zip(name.as_bytes()) {
            *to = *from;
        }
        Self { hash, chaining_key: Secret::new(hash), key: Secret::zero() }
    }

    pub(crate) fn mix_hash(&mut self, provider: &dyn Provider, data: &[u8]) {
        self.hash = provider.sha512(&[&self.hash, data]);
    }

    //= ZSSP-KDF-04  MixKey is HKDF replaced by KBKDF
    pub(crate) fn mix_key(&mut self, provider: &dyn Provider, input: &[u8]) {
        let [chaining_key, key] = kbkdf(provider, input, LABEL, self.chaining_key.expose());
        self.chaining_key = chaining_key;
        self.key = key.cut();
    }

    pub(crate) fn mix_key_and_hash(&mut self, provider: &dyn Provider, input: &[u8]) {
        let [chaining_key, hash, key] = kbkdf(provider, input, LABEL, self.chaining_key.expose());
        self.chaining_key = chaining_key;
        self.mix_hash(provider, hash.expose());
        self.key = key.cut();
    }

    /// An `e` token: in a PSK pattern it goes into the hash and into the key.
    //= ZSSP-XK-01  MixHash(e) and MixKey(e)
    pub(crate) fn mix_ephemeral(&mut self, provider: &dyn Provider, public: &[u8]) {
        self.mix_hash(provider, public);
        self.mix_key(provider, public);
    }

    /// `EncryptAndHash`: appends ciphertext and tag to `packet`.
    //= ZSSP-XK-02  the associated data is h
    //= ZSSP-XK-03  what is hashed is the ciphertext with its tag
    pub(crate) fn encrypt_and_hash(
        &mut self,
        provider: &dyn Provider,
        nonce: &Nonce,
        plaintext: &[u8],
        packet: &mut Vec<u8>,
    ) -> Result<(), ProviderError> {
        let start = packet.len();
        packet.resize(start + plaintext.len() + TAG_LEN, 0);
        let output = &mut packet[start..];
        //= ZSSP-XK-02  the associated data is h
        provider.seal_key(&self.key).seal(nonce, &self.hash, &[plaintext], output)?;
        //= ZSSP-XK-03  the ciphertext is hashed, with its tag
        self.mix_hash(provider, output);
        Ok(())
    }

    /// `DecryptAndHash` into `plaintext`, which is a tag shorter. A forgery leaves the state as it was.
    pub(crate) fn decrypt_and_hash(
        &mut self,
        provider: &dyn Provider,
        nonce: &Nonce,
        ciphertext: &[u8],
        plaintext: &mut [u8],
    ) -> Result<(), Forged> {
        provider.open_key(&self.key).open(nonce, &self.hash, ciphertext, plaintext)?;
        self.mix_hash(provider, ciphertext);
        Ok(())
    }

    /// `GetAsk`: two keys from `h` and `ck` of this moment.
    //= ZSSP-KDF-05  KDF(h, label, ck, 2)
    pub(crate) fn ask(&self, provider: &dyn Provider, ask: Ask) -> [Secret<64>; 2] {
        kbkdf(provider, &self.hash, ask.label(), self.chaining_key.expose())
    }

    /// `Split`: the transport keys, that of the packets to the initiator first.
    //= ZSSP-KDF-07  KDF("", "ZSSP", ck, 2)
    pub(crate) fn split(&self, provider: &dyn Provider) -> [Secret<64>; 2] {
        kbkdf(provider, &[], LABEL, self.chaining_key.expose())
    }

    /// A second copy, for trying one of several keys on the rest of a packet.
    pub(crate) fn fork(&self) -> Self {
        Self { hash: self.hash, chaining_key: self.chaining_key.duplicate(), key: self.key.duplicate() }
    }
}
