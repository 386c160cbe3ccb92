//! The handshake: what each side spends on it from the first packet to the last, beside the cryptography that the
//! protocol asks of that side.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{ECDH_P384, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::encoding::{AsBigEndian, EcPublicKeyCompressedBin};
use aws_lc_rs::kem::{Ciphertext, DecapsulationKey, EncapsulationKey, ML_KEM_1024};
use aws_lc_rs::{digest, hmac};
use zssp_proto::crypto::AwsLc;

use crate::measure::{Case, FLOOR, Report, timed};
use crate::peers::{Peer, meet};

/// Both sides, each beside its floor.
pub(crate) fn sides(report: &mut Report) {
    let peers = Primitives::new();
    let mut alice = Peer::new(b"alice", Arc::new(AwsLc));
    let mut bob = Peer::new(b"bob", Arc::new(AwsLc));
    let name = "handshake/initiator";
    if report.wants(name) {
        let case = Case { name, batch: 1, bytes: 0, base: FLOOR };
        report.compare(&case, || timed(|| peers.initiator()), || run(&mut alice, &mut bob).0);
    }
    let name = "handshake/responder";
    if report.wants(name) {
        let case = Case { name, batch: 1, bytes: 0, base: FLOOR };
        report.compare(&case, || timed(|| peers.responder()), || run(&mut alice, &mut bob).1);
    }
}

/// The primitives one by one.
pub(crate) fn primitives(report: &mut Report) {
    if !report.wants("primitive") {
        return;
    }
    let peers = Primitives::new();
    report.single("primitive/p384-generate", || drop(black_box(generate())));
    report.single("primitive/p384-agree", || peers.agree(&peers.other));
    report.single("primitive/kem-generate", || drop(black_box(kem_generate())));
    report.single("primitive/kem-encapsulate", || peers.encapsulate());
    report.single("primitive/kem-decapsulate", || peers.decapsulate(&peers.kem));
    report.single("primitive/hashing", symmetric);
}

/// One handshake; the time that each side's calls took.
fn run(alice: &mut Peer, bob: &mut Peer) -> (Duration, Duration) {
    (alice.spent, bob.spent) = (Duration::ZERO, Duration::ZERO);
    let (a, b) = meet(Instant::now(), alice, bob);
    alice.context.close(a.id());
    bob.context.close(b.id());
    (alice.spent, bob.spent)
}

/// Keys and a ciphertext that the primitives work on.
struct Primitives {
    own: PrivateKey,
    other: Vec<u8>,
    kem: DecapsulationKey,
    kem_public: Vec<u8>,
    ciphertext: Vec<u8>,
}

impl Primitives {
    fn new() -> Self {
        let (own, _) = generate();
        let (_, other) = generate();
        let (kem, kem_public) = kem_generate();
        let public = EncapsulationKey::new(&ML_KEM_1024, &kem_public).unwrap();
        let ciphertext = public.encapsulate().unwrap().0.as_ref().to_vec();
        Self { own, other, kem, kem_public, ciphertext }
    }

    /// e, es, e1; ee, ekem1; se.
    fn initiator(&self) {
        let (ephemeral, _) = generate();
        self.agree(&self.other);
        let (kem, _) = kem_generate();
        black_box(agree(&ephemeral, point(&self.other), (), |secret| Ok(black_box(secret[0])))).unwrap();
        self.decapsulate(&kem);
        self.agree(&self.other);
        symmetric();
    }

    /// es; e, ee, ekem1; se.
    fn responder(&self) {
        self.agree(&self.other);
        let (ephemeral, _) = generate();
        black_box(agree(&ephemeral, point(&self.other), (), |secret| Ok(black_box(secret[0])))).unwrap();
        self.encapsulate();
        black_box(agree(&ephemeral, point(&self.other), (), |secret| Ok(black_box(secret[0])))).unwrap();
        symmetric();
    }

    fn agree(&self, other: &[u8]) {
        black_box(agree(&self.own, point(other), (), |secret| Ok(black_box(secret[0])))).unwrap();
    }

    fn encapsulate(&self) {
        let public = EncapsulationKey::new(&ML_KEM_1024, &self.kem_public).unwrap();
        drop(black_box(public.encapsulate().unwrap()));
    }

    fn decapsulate(&self, key: &DecapsulationKey) {
        drop(black_box(key.decapsulate(Ciphertext::from(&self.ciphertext[..])).unwrap()));
    }
}

fn point(bytes: &[u8]) -> UnparsedPublicKey<&[u8]> {
    UnparsedPublicKey::new(&ECDH_P384, bytes)
}

/// A P-384 key pair and its compressed public half.
fn generate() -> (PrivateKey, Vec<u8>) {
    let private = PrivateKey::generate(&ECDH_P384).unwrap();
    let public: EcPublicKeyCompressedBin<'_> = private.compute_public_key().unwrap().as_be_bytes().unwrap();
    let public = public.as_ref().to_vec();
    (private, public)
}

fn kem_generate() -> (DecapsulationKey, Vec<u8>) {
    let private = DecapsulationKey::generate(&ML_KEM_1024).unwrap();
    let public = private.encapsulation_key().unwrap().key_bytes().unwrap().as_ref().to_vec();
    (private, public)
}

/// What either side hashes and encrypts during a handshake (PROTOCOL 2.1, 5.2): it is the same on both.
fn symmetric() {
    // MixHash: h and the key id, the public key, e, e1, the fingerprints; e, ekem1, the ratchet key, the key id;
    // s, the identity.
    for len in [4, 49, 49, 1584, 80, 49, 1584, 64, 20, 65, 16] {
        let mut context = digest::Context::new(&digest::SHA512);
        context.update(&[1; 64]);
        context.update(&[2; 1584][..len]);
        black_box(context.finish());
    }
    // MixKey: e, es; e, ee, ekem1, the ratchet key; se. GetAsk: header keys, key exchange, ratchet. Split.
    for (key_len, outputs) in
        [(49, 2), (48, 2), (49, 2), (48, 2), (32, 2), (32, 3), (48, 2), (64, 2), (64, 2), (64, 2), (0, 2)]
    {
        let key = hmac::Key::new(hmac::HMAC_SHA512, &[3; 64][..key_len]);
        for _ in 0..outputs {
            black_box(hmac::sign(&key, &[4; 72]));
        }
    }
    // e1, the fingerprints, ekem1, the key id, s, the identity, C1, C2; and the two keys of the session.
    for len in [1568, 64, 1568, 4, 49, 0, 0, 0] {
        let mut text = [5; 1568];
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let tag = gcm().seal_in_place_separate_tag(nonce, Aad::from([6; 64]), &mut text[..len]).unwrap();
        let _ = black_box(tag);
    }
    black_box((gcm(), gcm()));
}

fn gcm() -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, black_box(&[7; 32])).unwrap())
}
