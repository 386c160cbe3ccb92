//! How many swaps and look-ups a second a store answers: `cargo run --release -p zssp-store --example store_speed -- DIR`
//!
//! DIR is where the file is made; the figures are those of its disk. Without it, the folder for temporary files.

use std::error::Error;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

use zssp_proto::crypto::Secret;
use zssp_proto::{Fingerprint, PeerName, RatchetPair, RatchetState, RatchetStore, Swap};
use zssp_store::{Overwrite, Redb};

/// Peers that the file remembers besides those that are written.
const PEERS: u64 = 100_000;
const RUN: Duration = Duration::from_secs(2);

fn main() -> Result<(), Box<dyn Error>> {
    let folder = env::args_os().nth(1).map_or_else(env::temp_dir, PathBuf::from);
    let path = folder.join(format!("zssp-store-speed-{}.redb", std::process::id()));
    let measured = measure(&path);
    fs::remove_file(&path)?;
    measured
}

fn measure(path: &std::path::Path) -> Result<(), Box<dyn Error>> {
    let store = Redb::open(path)?;
    for peers in [0, PEERS] {
        fill(&store, peers)?;
        for threads in [1, 2, 4, 8, 16, 32, 64] {
            let swaps = per_second(threads, |thread, n| swap(&store, thread, n));
            println!("{peers:>6} peers, {threads:>2} threads: {swaps:>6.0} swaps/s");
        }
    }
    let load =
        per_second(1, |_, n| store.load(&name(n % PEERS)).map(drop).map_err(|error| error.to_string()));
    let find = per_second(1, |_, n| {
        let found = store.find(state(n % PEERS).fingerprint()).map_err(|error| error.to_string())?;
        found.map(drop).ok_or_else(|| "not found".to_owned())
    });
    println!("{PEERS} peers, 1 thread: {load:.0} loads/s, {find:.0} finds/s");
    drop(store);
    let start = Instant::now();
    drop(Redb::open(path)?);
    println!(
        "{PEERS} peers: opened in {:?}, {} bytes a peer",
        start.elapsed(),
        fs::metadata(path)?.len() / PEERS
    );
    Ok(())
}

fn name(n: u64) -> PeerName {
    let mut bytes = [2; 49];
    bytes[41..].copy_from_slice(&mix(n).to_be_bytes());
    PeerName::new(&bytes)
}

fn state(n: u64) -> RatchetState {
    let mut bytes = [0; 32];
    for (part, i) in bytes.chunks_exact_mut(8).zip(0..) {
        part.copy_from_slice(&mix(n.wrapping_mul(4).wrapping_add(i)).to_be_bytes());
    }
    RatchetState::new(Secret::new(bytes), Fingerprint::new(bytes), n)
}

/// Spreads names and fingerprints over the file, as keys and hashes are.
fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 31)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (n ^ (n >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9)
}

/// By many threads, so that they share commits.
fn fill(store: &Redb, peers: u64) -> Result<(), Box<dyn Error>> {
    let preset =
        |n| store.preset(&name(n), RatchetPair { first: state(n), second: None }, Overwrite::Replace);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..64)
            .map(|thread| scope.spawn(move || (thread..peers).step_by(64).try_for_each(preset)))
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| "a writer panicked")?.map_err(Box::from))
    })
}

/// Each thread moves a peer of its own on, as one session after the other would.
fn swap(store: &Redb, thread: u64, n: u64) -> Result<(), String> {
    let base = (1 << 40) + (thread << 32);
    let peer = name(base);
    let old = if n == 0 {
        store.load(&peer).map_err(|error| error.to_string())?
    } else {
        RatchetPair { first: state(base + n), second: None }
    };
    let new = RatchetPair { first: state(base + n + 1), second: None };
    match store.compare_and_swap(&peer, &old, &new) {
        Ok(Swap::Stored) => Ok(()),
        Ok(Swap::Conflict) => Err("conflict".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn per_second(threads: u64, run: impl Fn(u64, u64) -> Result<(), String> + Sync) -> f64 {
    let start = Instant::now();
    let count = thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
                    let mut count = 0;
                    while start.elapsed() < RUN {
                        if let Err(error) = run(thread, count) {
                            println!("thread {thread}: {error}");
                            break;
                        }
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum::<u64>()
    });
    count as f64 / start.elapsed().as_secs_f64()
}
