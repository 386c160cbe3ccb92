//! Another key every hour, under load, on request, on any network, while payloads flow (PROTOCOL 5.3, 5.4, 5.5).

mod ends;
mod network;
mod undisturbed;

use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use zssp_harness::pair::{Forgery, Happening, Pair, Peer, Pool, Setup};
use zssp_proto::crypto::Secret;
use zssp_proto::{EndReason, Fault, Fingerprint, Open, RatchetPair, RatchetState, Suite};
use zssp_sim::{Conditions, seeds};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const MS: Duration = Duration::from_millis(1);

/// The packets of an undisturbed rekeying, in order; at the default MTU, one datagram each. The starter sends the first.
const PACKETS: [&str; 4] = ["K1", "K2", "C1", "C2"];

/// How many keys the two have agreed on so far, if they agree about that.
fn agreed(pair: &Pair) -> Option<u64> {
    let remembered = |peer: &Peer, other: &Peer| peer.store.remembered(other.public_key()).first;
    let (alice, bob) = (remembered(&pair.alice, &pair.bob), remembered(&pair.bob, &pair.alice));
    (alice.fingerprint() == bob.fingerprint()).then(|| alice.chain_length())
}

fn start(pair: &mut Pair, alice_starts: bool) {
    if alice_starts {
        pair.alice.rekey();
    } else {
        pair.bob.rekey();
    }
}

/// The starter and the answerer.
fn sides(pair: &mut Pair, alice_starts: bool) -> (&mut Peer, &mut Peer) {
    let Pair { alice, bob, .. } = pair;
    if alice_starts { (alice, bob) } else { (bob, alice) }
}

/// Delivers the next `count` datagrams.
fn deliver(pair: &mut Pair, count: usize) {
    for _ in 0..count {
        pair.pump();
        assert!(pair.deliver(None));
    }
}

/// Both have agreed on a key for the `keys`th time, nobody was told anything, and nothing is left of it.
fn assert_rekeyed(pair: &mut Pair, keys: u64, what: &str) {
    assert_eq!(agreed(pair), Some(keys), "{what}");
    for peer in [&mut pair.alice, &mut pair.bob] {
        peer.keys_per_session = if keys > 1 { 2 } else { 1 };
        assert_eq!(peer.take_happenings(), [], "{what}: node {}", peer.node);
    }
    pair.assert_steady(what);
    let stored = pair.alice.store.remembered(pair.bob.public_key());
    assert!(stored.second.is_none(), "{what}: the one before is not needed any more");
}
