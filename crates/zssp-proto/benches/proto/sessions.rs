//! Packets to one of many sessions: what finding a session costs when nothing of it is in the cache, and when ten of
//! them have all the traffic. The floor has as many keys, and is told which to use; a second line compares with ten
//! sessions in all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use zssp_proto::crypto::{
    AwsLc, Encapsulation, InvalidKey, KEM_CIPHERTEXT_LEN, KEM_PUBLIC_LEN, KEM_SECRET_LEN, KemKeyPair,
    OpenKey, P384_PUBLIC_LEN, P384_SECRET_LEN, P384KeyPair, Provider, ProviderError, SealKey, Secret,
};
use zssp_proto::{Limits, Session};

use crate::floor::{Layout, RawKeys};
use crate::measure::{Case, Dice, FLOOR, Report, timed};
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
            for (name, busy) in [(format!("{name}/ten busy"), 10), (name.clone(), count)] {
                beside_the_library(report, &name, &mut crowd, busy);
                beside_ten(report, &name, &mut crowd, busy);
            }
        }
    }
}

/// Against the library with as many keys: what the protocol adds. What many keys cost by themselves is on both sides.
fn beside_the_library(report: &mut Report, name: &str, crowd: &mut Crowd, busy: usize) {
    let layout = Layout::new(BYTES, MTU);
    let payload = [0x5a; BYTES];
    let mut raw = vec![vec![0; layout.buffer_len()]; BATCH as usize];
    // All hold the same key, so the one that seals leaves those that open out of the cache.
    let sealing = RawKeys::new();
    let count = crowd.sessions.len();
    let opening: Vec<_> = (0..count).map(|_| RawKeys::new()).collect();
    let (mut counter, mut joined, mut floor_dice, mut dice) = (0, Vec::new(), Dice(1), Dice(2));
    let floor = || {
        let first = counter;
        for packet in &mut raw {
            counter += 1;
            sealing.seal(counter, &payload, &layout, packet);
        }
        timed(|| {
            for (packet, counter) in raw.iter_mut().zip(first + 1..) {
                opening[chosen(&mut floor_dice, busy, count)].open(counter, &layout, packet, &mut joined);
            }
        })
    };
    let case = Case { name, batch: BATCH, bytes: BYTES, base: FLOOR };
    report.compare(&case, floor, || crowd.open_batch(&mut dice, busy));
}

/// Against the same with ten sessions in all: how it grows, and with it what the caches of the machine no longer hold.
fn beside_ten(report: &mut Report, name: &str, crowd: &mut Crowd, busy: usize) {
    let (mut ten, mut ten_dice, mut dice) = (self::crowd(10), Dice(1), Dice(2));
    // Twice, the first time to have what the other has driven out of the caches back where it would be.
    let twice = |crowd: &mut Crowd, dice: &mut Dice, busy| {
        crowd.open_batch(dice, busy);
        crowd.open_batch(dice, busy)
    };
    let case = Case { name, batch: BATCH, bytes: BYTES, base: "ten  " };
    report.compare(&case, || twice(&mut ten, &mut ten_dice, 10), || twice(crowd, &mut dice, busy));
}

/// One of those of `count` that are busy: far apart from each other, not the neighbours that were made first.
fn chosen(dice: &mut Dice, busy: usize, count: usize) -> usize {
    dice.below(busy) * (count / busy)
}

/// Bob, the other ends of his sessions, each of another peer, and the address they have in common.
struct Crowd {
    sessions: Vec<Session>,
    bob: Peer,
    from: zssp_proto::Address,
    packets: Vec<Vec<u8>>,
}

impl Crowd {
    /// How long it takes to open a batch of packets of `busy` sessions in any order.
    fn open_batch(&mut self, dice: &mut Dice, busy: usize) -> Duration {
        let Self { sessions, bob, from, packets } = self;
        let payload = [0x5a; BYTES];
        for packet in &mut *packets {
            sessions[chosen(dice, busy, sessions.len())].seal(&payload, MTU, packet).unwrap();
        }
        let now = Instant::now();
        timed(|| {
            for packet in packets {
                bob.context.receive(now, *from, packet, &mut bob.scratch).unwrap();
            }
        })
    }
}

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
    let packets = vec![vec![0; Layout::new(BYTES, MTU).buffer_len()]; BATCH as usize];
    Crowd { sessions, bob, from, packets }
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
