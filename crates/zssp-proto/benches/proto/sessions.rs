//! Packets to one of many sessions: what finding a session costs when nothing of it is in the cache, and when ten of
//! them have all the traffic. The floor has as many keys, and is told which to use.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use zssp_proto::crypto::{
    AwsLc, Encapsulation, InvalidKey, KEM_CIPHERTEXT_LEN, KEM_PUBLIC_LEN, KEM_SECRET_LEN, KemKeyPair,
    OpenKey, P384_PUBLIC_LEN, P384_SECRET_LEN, P384KeyPair, Provider, ProviderError, SealKey, Secret,
};
use zssp_proto::{Limits, Session};

use crate::floor::{Layout, RawKeys};
use crate::measure::{Case, Report, timed};
use crate::packets::MTU;
use crate::peers::{Peer, meet};

const BYTES: usize = 1400;
const BATCH: u32 = 64;

pub(crate) fn many(report: &mut Report) {
    // The last takes minutes and gigabytes, so it has to be asked for.
    for (count, usual) in [(10, true), (100, true), (10_000, true), (100_000, false), (1_000_000, false)] {
        let name = &format!("sessions/{count}");
        if report.named(name) || usual && report.wants(name) {
            let mut crowd = crowd(count);
            rotate(report, &format!("{name}/ten busy"), &mut crowd, 10);
            rotate(report, name, &mut crowd, count);
        }
    }
}

/// Opens packets of `busy` sessions in any order.
fn rotate(report: &mut Report, name: &str, (sessions, bob, from): &mut Crowd, busy: usize) {
    let count = sessions.len();
    // Far apart from each other, not the neighbours that were made first.
    let chosen = |dice: &mut Dice| dice.below(busy) * (count / busy);
    let layout = Layout::new(BYTES, MTU);
    let payload = [0x5a; BYTES];
    let mut packets = vec![vec![0; layout.buffer_len()]; BATCH as usize];
    let mut raw = packets.clone();
    // All hold the same key, so the one that seals leaves those that open out of the cache.
    let sealing = RawKeys::new();
    let opening: Vec<_> = (0..count).map(|_| RawKeys::new()).collect();
    let mut joined = Vec::new();
    let (mut counter, mut floor_dice, mut dice) = (0, Dice(1), Dice(2));
    let floor = || {
        let first = counter;
        for packet in &mut raw {
            counter += 1;
            sealing.seal(counter, &payload, &layout, packet);
        }
        timed(|| {
            for (packet, counter) in raw.iter_mut().zip(first + 1..) {
                opening[chosen(&mut floor_dice)].open(counter, &layout, packet, &mut joined);
            }
        })
    };
    let ours = || {
        for packet in &mut packets {
            sessions[chosen(&mut dice)].seal(&payload, MTU, packet).unwrap();
        }
        let now = Instant::now();
        timed(|| {
            for packet in &mut packets {
                bob.context.receive(now, *from, packet, &mut bob.scratch).unwrap();
            }
        })
    };
    report.compare(&Case { name, batch: BATCH, bytes: BYTES }, floor, ours);
}

/// Random enough that no cache foresees it.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// Bob, the other ends of his sessions, each of another peer, and the address they have in common.
type Crowd = (Vec<Session>, Peer, zssp_proto::Address);

fn crowd(count: usize) -> Crowd {
    let now = Instant::now();
    let provider = Arc::new(Canned);
    let mut limits = Limits::default();
    limits.hello_bytes = 64 << 10;
    let mut bob = Peer::new(b"bob", provider.clone());
    let mut from = bob.address;
    let sessions = (0..count)
        .map(|_| {
            let mut alice = Peer::with_limits(b"alice", provider.clone(), limits);
            from = alice.address;
            meet(now, &mut alice, &mut bob).0
        })
        .collect();
    (sessions, bob, from)
}

/// AWS-LC without the public-key operations, which would take most of the time of setting up: every secret is the
/// same. Session keys differ all the same, for key ids and public keys do.
#[derive(Debug)]
struct Canned;

/// The number of the next key pair, so that no two public keys are equal.
static NEXT: AtomicU32 = AtomicU32::new(0);

struct CannedP384([u8; P384_PUBLIC_LEN]);

struct CannedKem;

impl P384KeyPair for CannedP384 {
    fn public(&self) -> &[u8; P384_PUBLIC_LEN] {
        &self.0
    }

    fn agree(&self, _: &[u8; P384_PUBLIC_LEN]) -> Result<Secret<P384_SECRET_LEN>, InvalidKey> {
        Ok(Secret::zero())
    }

    fn secret(&self) -> Secret<P384_SECRET_LEN> {
        Secret::zero()
    }
}

impl KemKeyPair for CannedKem {
    fn public(&self) -> &[u8; KEM_PUBLIC_LEN] {
        &[0; KEM_PUBLIC_LEN]
    }

    fn decapsulate(&self, _: &[u8; KEM_CIPHERTEXT_LEN]) -> Result<Secret<32>, ProviderError> {
        Ok(Secret::zero())
    }
}

impl Provider for Canned {
    fn name(&self) -> &'static str {
        "canned"
    }

    fn random(&self, out: &mut [u8]) -> Result<(), ProviderError> {
        AwsLc.random(out)
    }

    fn sha512(&self, parts: &[&[u8]]) -> [u8; 64] {
        AwsLc.sha512(parts)
    }

    fn hmac_sha512(&self, key: &[u8], parts: &[&[u8]]) -> Secret<64> {
        AwsLc.hmac_sha512(key, parts)
    }

    fn p384_generate(&self) -> Result<Box<dyn P384KeyPair>, ProviderError> {
        let mut public = [2; P384_PUBLIC_LEN];
        public[1..5].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        Ok(Box::new(CannedP384(public)))
    }

    fn p384_from_secret(&self, _: &Secret<P384_SECRET_LEN>) -> Result<Box<dyn P384KeyPair>, InvalidKey> {
        Err(InvalidKey)
    }

    fn p384_is_valid(&self, _: &[u8; P384_PUBLIC_LEN]) -> bool {
        true
    }

    fn kem_generate(&self) -> Result<Box<dyn KemKeyPair>, ProviderError> {
        Ok(Box::new(CannedKem))
    }

    fn kem_from_secret(&self, _: &Secret<KEM_SECRET_LEN>) -> Result<Box<dyn KemKeyPair>, InvalidKey> {
        Err(InvalidKey)
    }

    fn kem_encapsulate(&self, _: &[u8; KEM_PUBLIC_LEN]) -> Result<Encapsulation, InvalidKey> {
        Ok(Encapsulation { ciphertext: Box::new([0; KEM_CIPHERTEXT_LEN]), secret: Secret::zero() })
    }

    fn seal_key(&self, key: &Secret<32>) -> Box<dyn SealKey> {
        AwsLc.seal_key(key)
    }

    fn open_key(&self, key: &Secret<32>) -> Box<dyn OpenKey> {
        AwsLc.open_key(key)
    }
}
