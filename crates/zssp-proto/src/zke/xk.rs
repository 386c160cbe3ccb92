//! Noise XKhfs+psk2, first contact: Alice's side and Bob's (PROTOCOL 5.2).
//!
//! Each step is a state that is consumed or, where an attacker could make it fail, read without being changed.
//! The lines stand in the order of the protocol's own.

use crate::crypto::{
    Forged, InvalidKey, KEM_CIPHERTEXT_LEN, KEM_PUBLIC_LEN, KemKeyPair, P384_PUBLIC_LEN, P384KeyPair,
    Provider, ProviderError, TAG_LEN,
};
use crate::identity::{PublicKey, StaticKey};
use crate::noise::{Ask, SymmetricState};
use crate::ratchet::{Fingerprint, RatchetState};
use crate::suite::Suite;
use crate::wire::{self, KeyId, PacketNonce, PacketType};
use crate::zke::keys::{Directed, HandshakeKeys, Role, derive};

/// Why a handshake packet led nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum XkError {
    /// A tag, a key or a key id that cannot come from the peer this handshake is with.
    Unauthentic,
    /// This side's own trouble; the peer's resend may succeed.
    Provider,
}

impl From<Forged> for XkError {
    fn from(_: Forged) -> Self {
        Self::Unauthentic
    }
}

impl From<InvalidKey> for XkError {
    fn from(_: InvalidKey) -> Self {
        Self::Unauthentic
    }
}

impl From<ProviderError> for XkError {
    fn from(_: ProviderError) -> Self {
        Self::Provider
    }
}

const fn nonce(packet_type: PacketType, counter: u64) -> [u8; 12] {
    PacketNonce::new(packet_type, counter).aead()
}

/// `init`: what both sides know before the first packet.
//= ZSSP-XK-04  init
fn start(
    provider: &dyn Provider,
    suite: Suite,
    initiator_kid: KeyId,
    responder: &PublicKey,
) -> SymmetricState {
    let mut noise = SymmetricState::new(suite.handshake_name());
    noise.mix_hash(provider, &initiator_kid.to_bytes());
    noise.mix_hash(provider, responder.as_bytes());
    noise
}

/// Header keys, known from X1 on.
//= ZSSP-XK-06  header keys after X1
fn header_keys(provider: &dyn Provider, noise: &SymmetricState, role: Role) -> Directed {
    Directed::from_pair(&noise.ask(provider, Ask::HeaderKeys), role)
}

/// Alice after X1, state A1.
pub(crate) struct AwaitResponse {
    noise: SymmetricState,
    suite: Suite,
    ephemeral: Box<dyn P384KeyPair>,
    kem: Box<dyn KemKeyPair>,
}

/// What Alice opens with.
pub(crate) struct Opening<'a> {
    pub(crate) suite: Suite,
    pub(crate) responder: &'a PublicKey,
    /// Names the key under which Bob's X2 will arrive.
    pub(crate) kid: KeyId,
    /// Of the ratchet states 1 and 2; a missing one is zero.
    pub(crate) fingerprints: [Fingerprint; 2],
}

impl AwaitResponse {
    /// Writes X1 without the ZCP response that follows it on the wire.
    //= ZSSP-XK-05  X1
    pub(crate) fn send_hello(
        provider: &dyn Provider,
        opening: &Opening<'_>,
    ) -> Result<(Self, Directed, Vec<u8>), XkError> {
        let mut noise = start(provider, opening.suite, opening.kid, opening.responder);
        let mut packet = Vec::with_capacity(wire::Hello::LEN);
        packet.extend_from_slice(&opening.kid.to_bytes());

        let ephemeral = provider.p384_generate()?;
        noise.mix_ephemeral(provider, ephemeral.public());
        packet.extend_from_slice(ephemeral.public());

        let es = ephemeral.agree(opening.responder.as_bytes())?;
        noise.mix_key(provider, es.expose());

        let kem = provider.kem_generate()?;
        noise.encrypt_and_hash(provider, &nonce(PacketType::Hello, 0), kem.public(), &mut packet)?;

        let [first, second] = &opening.fingerprints;
        let mut fingerprints = [0; 2 * Fingerprint::LEN];
        fingerprints[..Fingerprint::LEN].copy_from_slice(first.as_bytes());
        fingerprints[Fingerprint::LEN..].copy_from_slice(second.as_bytes());
        noise.encrypt_and_hash(provider, &nonce(PacketType::Hello, 1), &fingerprints, &mut packet)?;

        let header_keys = header_keys(provider, &noise, Role::Initiator);
        Ok((Self { noise, suite: opening.suite, ephemeral, kem }, header_keys, packet))
    }

    /// Reads X2 with each of `candidates` as the ratchet state that Bob may have recognised, and tells which it was.
    pub(crate) fn read_response<'r>(
        &self,
        provider: &dyn Provider,
        x2: &wire::Response<'_>,
        candidates: impl Iterator<Item = &'r RatchetState>,
    ) -> Result<(&'r RatchetState, SendCompletion), XkError> {
        let mut noise = self.noise.fork();
        noise.mix_ephemeral(provider, x2.e);

        let ee = self.ephemeral.agree(x2.e)?;
        noise.mix_key(provider, ee.expose());

        let mut ciphertext = Box::new([0; KEM_CIPHERTEXT_LEN]);
        let sealed = x2.ekem1;
        noise.decrypt_and_hash(provider, &nonce(PacketType::Response, 0), sealed, &mut ciphertext[..])?;
        let secret = self.suite.kem_secret(self.kem.decapsulate(&ciphertext)?, &ciphertext);
        noise.mix_key(provider, secret.expose());

        for candidate in candidates {
            let mut noise = noise.fork();
            noise.mix_key_and_hash(provider, candidate.key().expose());
            let mut kid = [0; 4];
            let sealed = x2.kid;
            if noise.decrypt_and_hash(provider, &nonce(PacketType::Response, 0), sealed, &mut kid).is_ok() {
                let kid = KeyId::new(kid).ok_or(XkError::Unauthentic)?;
                return Ok((candidate, SendCompletion { noise, kid, ephemeral: *x2.e }));
            }
        }
        Err(XkError::Unauthentic)
    }
}

/// Alice between X2 and X3.
pub(crate) struct SendCompletion {
    noise: SymmetricState,
    /// Bob's key id.
    pub(crate) kid: KeyId,
    ephemeral: [u8; P384_PUBLIC_LEN],
}

impl SendCompletion {
    /// Writes X3 and derives the session's keys.
    //= ZSSP-XK-08  X3
    pub(crate) fn send_completion(
        mut self,
        provider: &dyn Provider,
        key: &StaticKey,
        identity: &[u8],
        ratchet: &RatchetState,
    ) -> Result<(Vec<u8>, HandshakeKeys), XkError> {
        let noise = &mut self.noise;
        let mut packet = Vec::with_capacity(P384_PUBLIC_LEN + identity.len() + 2 * TAG_LEN);
        let public = key.public();
        noise.encrypt_and_hash(
            provider,
            &nonce(PacketType::Completion, 1),
            public.as_bytes(),
            &mut packet,
        )?;

        let se = key.agree(&self.ephemeral)?;
        noise.mix_key(provider, se.expose());

        noise.encrypt_and_hash(provider, &nonce(PacketType::Completion, 0), identity, &mut packet)?;
        Ok((packet, derive(provider, noise, Role::Initiator, ratchet)))
    }
}

/// Bob between X1 and X2.
pub(crate) struct SendResponse {
    noise: SymmetricState,
    pub(crate) suite: Suite,
    ephemeral: [u8; P384_PUBLIC_LEN],
    kem_public: Box<[u8; KEM_PUBLIC_LEN]>,
    /// Alice's key id.
    pub(crate) kid: KeyId,
    pub(crate) fingerprints: [Fingerprint; 2],
    pub(crate) header_keys: Directed,
}

impl SendResponse {
    /// Reads X1 under the first of `suites` whose e1 tag fits.
    //= ZSSP-SUI-08  es is the same under every name, so a wrong suite costs hashing only
    //= ZSSP-SUI-09  no suite fits: an authentication failure
    //= ZSSP-SUI-10  the one that fits is the session's
    pub(crate) fn read_hello(
        provider: &dyn Provider,
        key: &StaticKey,
        suites: &[Suite],
        x1: &wire::Hello<'_>,
    ) -> Result<Self, XkError> {
        let kid = x1.kid;
        let es = key.agree(x1.e)?;
        let responder = key.public();
        let mut kem_public = Box::new([0; KEM_PUBLIC_LEN]);

        for &suite in suites {
            let mut noise = start(provider, suite, kid, &responder);
            noise.mix_ephemeral(provider, x1.e);
            noise.mix_key(provider, es.expose());
            let sealed = x1.e1;
            let e1 = nonce(PacketType::Hello, 0);
            if noise.decrypt_and_hash(provider, &e1, sealed, &mut kem_public[..]).is_err() {
                continue;
            }
            let mut fingerprints = [0; 2 * Fingerprint::LEN];
            let sealed = x1.fingerprints;
            noise.decrypt_and_hash(provider, &nonce(PacketType::Hello, 1), sealed, &mut fingerprints)?;
            let (first, second) = fingerprints.split_at(Fingerprint::LEN);
            let fingerprints = [first, second].map(|half| {
                let mut bytes = [0; Fingerprint::LEN];
                bytes.copy_from_slice(half);
                Fingerprint::new(bytes)
            });
            let header_keys = header_keys(provider, &noise, Role::Responder);
            let ephemeral = *x1.e;
            return Ok(Self { noise, suite, ephemeral, kem_public, kid, fingerprints, header_keys });
        }
        //= ZSSP-SUI-09  none fits: an authentication failure
        Err(XkError::Unauthentic)
    }

    /// Writes X2 with the recognised ratchet state, or the zero state. `kid` names the key under which X3 will arrive.
    //= ZSSP-XK-07  X2
    pub(crate) fn send_response(
        mut self,
        provider: &dyn Provider,
        ratchet: RatchetState,
        kid: KeyId,
    ) -> Result<(AwaitCompletion, Vec<u8>), XkError> {
        let noise = &mut self.noise;
        let mut packet = Vec::with_capacity(wire::Response::LEN);

        let ephemeral = provider.p384_generate()?;
        noise.mix_ephemeral(provider, ephemeral.public());
        packet.extend_from_slice(ephemeral.public());

        let ee = ephemeral.agree(&self.ephemeral)?;
        noise.mix_key(provider, ee.expose());

        let kem = provider.kem_encapsulate(&self.kem_public)?;
        let ekem1 = nonce(PacketType::Response, 0);
        noise.encrypt_and_hash(provider, &ekem1, &kem.ciphertext[..], &mut packet)?;
        noise.mix_key(provider, self.suite.kem_secret(kem.secret, &kem.ciphertext).expose());

        noise.mix_key_and_hash(provider, ratchet.key().expose());
        noise.encrypt_and_hash(provider, &nonce(PacketType::Response, 0), &kid.to_bytes(), &mut packet)?;

        Ok((AwaitCompletion { noise: self.noise, ephemeral, ratchet }, packet))
    }
}

/// Bob after X2, state B2.
pub(crate) struct AwaitCompletion {
    noise: SymmetricState,
    ephemeral: Box<dyn P384KeyPair>,
    /// The ratchet state used in X2.
    pub(crate) ratchet: RatchetState,
}

/// What X3 tells Bob.
pub(crate) struct Completion {
    pub(crate) initiator: PublicKey,
    pub(crate) identity: Vec<u8>,
    pub(crate) keys: HandshakeKeys,
}

impl AwaitCompletion {
    /// Reads X3 and derives the session's keys. Changes nothing, so that the packet can be read again after the
    /// store failed.
    pub(crate) fn read_completion(
        &self,
        provider: &dyn Provider,
        x3: &wire::Completion<'_>,
    ) -> Result<Completion, XkError> {
        let mut noise = self.noise.fork();
        let mut initiator = [0; P384_PUBLIC_LEN];
        let sealed = x3.s;
        noise.decrypt_and_hash(provider, &nonce(PacketType::Completion, 1), sealed, &mut initiator)?;

        let se = self.ephemeral.agree(&initiator)?;
        let initiator = PublicKey::agreed_with(initiator);
        noise.mix_key(provider, se.expose());

        let sealed = x3.identity.as_bytes();
        let mut identity = vec![0; sealed.len().saturating_sub(TAG_LEN)];
        noise.decrypt_and_hash(provider, &nonce(PacketType::Completion, 0), sealed, &mut identity)?;

        let keys = derive(provider, &noise, Role::Responder, &self.ratchet);
        Ok(Completion { initiator, identity, keys })
    }
}
