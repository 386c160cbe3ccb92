//! What a session takes in a context of many, by counting every allocation: the aim is 6 KiB, whoever does the
//! cryptography and wherever the ratchets are. What AWS-LC allocates in C is not seen; the figures of the pure Rust
//! provider are complete. A toy stands in for P-384, which nothing of an idle session belongs to.
//!
//! A hundred thousand sessions, in ten minutes or more; each of the tests can be asked for by its name:
//! `ZSSP_SESSIONS=100000 cargo test --release -p zssp-store --test memory -- --nocapture`.
//!
//! A binary of its own: the allocator that counts would be that of every other test, and what maps take grows with the
//! number of threads that use any.
#![allow(clippy::unwrap_used, reason = "in a test it is the assertion")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use allocation_counter::measure;
use zssp_harness::pair::{FlakyStore, Pair, Setup, ToyCurve};
use zssp_proto::crypto::{AwsLc, Provider, RustCrypto};
use zssp_proto::{Challenging, Open, PeerName};
use zssp_sim::Conditions;
use zssp_store::Redb;

const AIM: i64 = 6 << 10;

/// Where the ratchets are.
#[derive(Debug, Clone, Copy)]
enum Ratchets {
    InFiles,
    InMemory,
}

#[test]
fn of_aws_lc_with_ratchets_in_files() {
    is_small(&AwsLc, Ratchets::InFiles);
}

#[test]
fn of_aws_lc_with_ratchets_in_memory() {
    is_small(&AwsLc, Ratchets::InMemory);
}

#[test]
fn of_rust_crypto_with_ratchets_in_files() {
    is_small(&RustCrypto, Ratchets::InFiles);
}

#[test]
fn of_rust_crypto_with_ratchets_in_memory() {
    is_small(&RustCrypto, Ratchets::InMemory);
}

fn is_small(provider: &'static dyn Provider, ratchets: Ratchets) {
    let sessions = std::env::var("ZSSP_SESSIONS").map_or(1000, |text| text.parse().unwrap());
    let each = bytes_of_each(ToyCurve(provider), ratchets, sessions);
    let name = provider.name();
    println!("{name}, ratchets {ratchets:?}: {each} bytes for each of {sessions} sessions");
    assert!(each <= AIM, "{name} {ratchets:?}: {each} bytes");
}

/// What a session takes on average, on either side.
fn bytes_of_each(provider: ToyCurve, ratchets: Ratchets, sessions: u32) -> i64 {
    // It is memory that is measured here, so no time need be spent on waiting for a disk.
    let ram = Path::new("/dev/shm");
    let folder = if ram.is_dir() { tempfile::tempdir_in(ram) } else { tempfile::tempdir() }.unwrap();
    // All at one moment, or the first sessions would want another key before the last ones are there. So many hellos at
    // once are a flood, and nobody is here to answer challenges later.
    let setup = Setup {
        // The peers' own keys are on its curve too.
        beneath: Some(ToyCurve::fastest()),
        provider: Some(Arc::new(provider)),
        challenging: Challenging::Off,
        ..Setup::default()
    };
    let mut pair = Pair::with(1, &setup);
    pair.network.set_conditions(Conditions { latency: Duration::ZERO, ..Conditions::default() });
    let memory = measure(|| {
        if let Ratchets::InFiles = ratchets {
            for (peer, file) in [(&mut pair.alice, "alice"), (&mut pair.bob, "bob")] {
                peer.store = Arc::new(FlakyStore::over(Redb::open(folder.path().join(file)).unwrap()));
            }
        }
        for number in 0..sessions {
            // One machine that is many peers, told apart by what it says of itself. The other side puts the key before
            // that, so its names are longer.
            let identity = number.to_be_bytes();
            let open = Open::to(pair.bob.public_key(), pair.bob.address()).name(PeerName::new(&identity));
            pair.alice.open_with(open.identity(identity.to_vec())).unwrap();
            pair.settle();
            // Only then it has all that it will have: the key before is kept for late packets.
            pair.alice.rekey();
            pair.settle();
            (pair.alice.keys_per_session, pair.bob.keys_per_session) = (2, 2);
            pair.wire.clear();
            for peer in [&mut pair.alice, &mut pair.bob] {
                peer.identities.clear();
                peer.take_happenings();
            }
        }
    });
    assert_eq!(
        (pair.alice.stats().sessions, pair.bob.stats().sessions),
        (sessions as usize, sessions as usize)
    );
    assert!(pair.alice.is_idle() && pair.bob.is_idle());
    memory.bytes_current / i64::from(sessions) / 2
}
