//! Noise KKpsk0, rekeying: the starter x and the answerer y, whichever of them was Alice (PROTOCOL 5.4).
//!
//! Both packets here are the inner ones. They are sealed once more under the key-exchange key in use, so whoever reads
//! them knows already that they come from the peer.

use super::keys::{HandshakeKeys, Role, derive};
use super::xk::XkError;
use crate::crypto::{P384_PUBLIC_LEN, P384KeyPair, Provider};
use crate::identity::{PublicKey, StaticKey};
use crate::noise::SymmetricState;
use crate::ratchet::RatchetState;
use crate::suite::Suite;
use crate::wire::{KeyId, PacketNonce, PacketType, RekeyBody};

/// Both static keys, from this side's point of view, and the session's suite.
pub(crate) struct Peers<'a> {
    pub(crate) key: &'a StaticKey,
    pub(crate) peer: &'a PublicKey,
    pub(crate) suite: Suite,
}

const fn nonce(packet_type: PacketType) -> [u8; 12] {
    PacketNonce::new(packet_type, 0).aead()
}

/// `init`.
//= ZSSP-SUI-17  one name for all suites
//= ZSSP-KK-01  name, then both static keys, the starter's first
fn start(provider: &dyn Provider, starter: &PublicKey, answerer: &PublicKey) -> SymmetricState {
    let mut noise = SymmetricState::new(Suite::REKEY_NAME);
    noise.mix_hash(provider, starter.as_bytes());
    noise.mix_hash(provider, answerer.as_bytes());
    noise
}

/// x after K1, state R1.
pub(crate) struct AwaitFinish {
    noise: SymmetricState,
    ephemeral: Box<dyn P384KeyPair>,
}

impl AwaitFinish {
    //= ZSSP-PKT-06  the ephemeral key, then the sealed key id
    /// Writes the inner K1. `kid` names the key under which the next packets to x will come.
    //= ZSSP-KK-02  the ratchet key, e, es, ss, x's kid
    pub(crate) fn send_start(
        provider: &dyn Provider,
        peers: &Peers<'_>,
        ratchet: &RatchetState,
        kid: KeyId,
    ) -> Result<(Self, Vec<u8>), XkError> {
        let mut noise = start(provider, &peers.key.public(), peers.peer);
        let mut packet = Vec::with_capacity(RekeyBody::LEN);
        noise.mix_key_and_hash(provider, ratchet.key().expose());

        let ephemeral = provider.p384_generate()?;
        noise.mix_ephemeral(provider, ephemeral.public());
        packet.extend_from_slice(ephemeral.public());

        let es = ephemeral.agree(peers.peer.as_bytes())?;
        noise.mix_key(provider, es.expose());
        let ss = peers.key.agree(peers.peer.as_bytes())?;
        noise.mix_key(provider, ss.expose());

        let sealed = nonce(PacketType::RekeyStart);
        noise.encrypt_and_hash(provider, &sealed, &kid.to_bytes(), &mut packet)?;
        Ok((Self { noise, ephemeral }, packet))
    }

    /// Reads the inner K2: the new keys and y's new key id.
    pub(crate) fn read_finish(
        &self,
        provider: &dyn Provider,
        peers: &Peers<'_>,
        ratchet: &RatchetState,
        k2: &RekeyBody<'_>,
    ) -> Result<(HandshakeKeys, KeyId), XkError> {
        let mut noise = self.noise.fork();
        noise.mix_ephemeral(provider, k2.e);

        let ee = self.ephemeral.agree(k2.e)?;
        noise.mix_key(provider, ee.expose());
        //= ZSSP-KK-07  the 2024 implementation mixes DH(e_x, S_y) again in the place of se
        let se = match peers.suite {
            Suite::Zssp04 => self.ephemeral.agree(peers.peer.as_bytes())?,
            Suite::Kyber1024 | Suite::MlKem1024 => peers.key.agree(k2.e)?,
        };
        noise.mix_key(provider, se.expose());

        let mut kid = [0; 4];
        noise.decrypt_and_hash(provider, &nonce(PacketType::RekeyFinish), k2.kid, &mut kid)?;
        let kid = KeyId::new(kid).ok_or(XkError::Unauthentic)?;
        //= ZSSP-KK-04  as after the first handshake, y in Bob's place
        Ok((derive(provider, &noise, Role::Initiator, ratchet), kid))
    }
}

/// y between K1 and K2.
pub(crate) struct SendFinish {
    noise: SymmetricState,
    ephemeral: [u8; P384_PUBLIC_LEN],
    /// x's new key id.
    pub(crate) kid: KeyId,
}

impl SendFinish {
    /// Reads the inner K1.
    pub(crate) fn read_start(
        provider: &dyn Provider,
        peers: &Peers<'_>,
        ratchet: &RatchetState,
        k1: &RekeyBody<'_>,
    ) -> Result<Self, XkError> {
        let mut noise = start(provider, peers.peer, &peers.key.public());
        noise.mix_key_and_hash(provider, ratchet.key().expose());
        noise.mix_ephemeral(provider, k1.e);

        let es = peers.key.agree(k1.e)?;
        noise.mix_key(provider, es.expose());
        let ss = peers.key.agree(peers.peer.as_bytes())?;
        noise.mix_key(provider, ss.expose());

        let mut kid = [0; 4];
        noise.decrypt_and_hash(provider, &nonce(PacketType::RekeyStart), k1.kid, &mut kid)?;
        let kid = KeyId::new(kid).ok_or(XkError::Unauthentic)?;
        Ok(Self { noise, ephemeral: *k1.e, kid })
    }

    //= ZSSP-PKT-07  the ephemeral key, then the sealed key id
    /// Writes the inner K2 and derives the new keys. `kid` names the key under which the next packets to y will come.
    //= ZSSP-KK-03  e, ee, se, y's kid
    pub(crate) fn send_finish(
        mut self,
        provider: &dyn Provider,
        peers: &Peers<'_>,
        ratchet: &RatchetState,
        kid: KeyId,
    ) -> Result<(Vec<u8>, HandshakeKeys), XkError> {
        let noise = &mut self.noise;
        let mut packet = Vec::with_capacity(RekeyBody::LEN);

        let ephemeral = provider.p384_generate()?;
        noise.mix_ephemeral(provider, ephemeral.public());
        packet.extend_from_slice(ephemeral.public());

        let ee = ephemeral.agree(&self.ephemeral)?;
        noise.mix_key(provider, ee.expose());
        let se = match peers.suite {
            Suite::Zssp04 => peers.key.agree(&self.ephemeral)?,
            Suite::Kyber1024 | Suite::MlKem1024 => ephemeral.agree(peers.peer.as_bytes())?,
        };
        noise.mix_key(provider, se.expose());

        let sealed = nonce(PacketType::RekeyFinish);
        noise.encrypt_and_hash(provider, &sealed, &kid.to_bytes(), &mut packet)?;
        Ok((packet, derive(provider, noise, Role::Responder, ratchet)))
    }
}
