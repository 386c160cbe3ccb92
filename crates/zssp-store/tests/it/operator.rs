//! What an operator does with a store: look, forget, preset.

use tempfile::TempDir;
use zssp_harness::store_suite::{identical, pair, state};
use zssp_proto::{PeerName, RatchetPair, RatchetStore, Swap};
use zssp_store::{Overwrite, PeerEntry, PresetError, RatchetSummary, RecordError, Redb};

fn store() -> (TempDir, Redb) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Redb::open(folder.path().join("ratchets.redb")).unwrap();
    (folder, store)
}

fn name(name: &str) -> PeerName {
    PeerName::new(name.as_bytes())
}

fn entry(of: &str, chain_length: u64, states: usize) -> PeerEntry {
    PeerEntry { name: name(of), ratchet: Ok(RatchetSummary { chain_length, states }) }
}

#[test]
fn peers_are_listed_in_order_and_without_their_keys() {
    let (_folder, store) = store();
    assert_eq!(store.peers().unwrap(), []);
    for (peer, pair) in
        [("bob", pair(7, Some(6))), ("alice", pair(3, None)), ("zoe", RatchetPair::never_met())]
    {
        let swap = store.compare_and_swap(&name(peer), &RatchetPair::never_met(), &pair).unwrap();
        assert_eq!(swap, Swap::Stored);
    }
    assert_eq!(store.peers().unwrap(), [entry("alice", 3, 1), entry("bob", 7, 2), entry("zoe", 0, 1)]);
}

#[test]
fn a_forgotten_peer_was_never_met() {
    let (_folder, store) = store();
    let (alice, bob) = (name("alice"), name("bob"));
    store.preset(&alice, pair(2, Some(1)), Overwrite::Refuse).unwrap();
    store.preset(&bob, pair(3, None), Overwrite::Refuse).unwrap();
    assert!(store.forget(&alice).unwrap());
    assert!(!store.forget(&alice).unwrap());
    assert!(store.load(&alice).unwrap().is_never_met());
    for (n, there) in [(1, false), (2, false), (3, true)] {
        assert_eq!(store.find(state(n).fingerprint()).unwrap().is_some(), there, "state {n}");
    }
    assert_eq!(store.peers().unwrap(), [entry("bob", 3, 1)]);
    // A session that still has the old pair loses.
    assert_eq!(store.compare_and_swap(&alice, &pair(2, Some(1)), &pair(4, None)).unwrap(), Swap::Conflict);
}

#[test]
fn a_history_is_replaced_only_when_that_is_said() {
    let (_folder, store) = store();
    let alice = name("alice");
    store.preset(&alice, pair(1, None), Overwrite::Refuse).unwrap();
    let again = store.preset(&alice, pair(2, None), Overwrite::Refuse);
    assert!(matches!(again, Err(PresetError::Known)));
    assert!(identical(&store.load(&alice).unwrap(), &pair(1, None)));
    assert!(store.find(state(2).fingerprint()).unwrap().is_none());
    store.preset(&alice, pair(2, None), Overwrite::Replace).unwrap();
    assert!(identical(&store.load(&alice).unwrap(), &pair(2, None)));
    assert!(store.find(state(1).fingerprint()).unwrap().is_none());
    assert!(store.find(state(2).fingerprint()).unwrap().is_some());
    // Zero is no history.
    let bob = name("bob");
    store.compare_and_swap(&bob, &RatchetPair::never_met(), &RatchetPair::never_met()).unwrap();
    store.preset(&bob, pair(3, None), Overwrite::Refuse).unwrap();
}

#[test]
fn a_record_that_cannot_be_read_is_shown_and_can_be_forgotten_or_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ratchets.redb");
    let (damaged, newer, whole) = (name("damaged"), name("newer"), name("whole"));
    let store = Redb::open(&path).unwrap();
    for (n, peer) in (1..).zip([&damaged, &newer, &whole]) {
        store.preset(peer, pair(n, None), Overwrite::Refuse).unwrap();
    }
    drop(store);
    let database = redb::Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let peers = redb::TableDefinition::<&[u8], &[u8]>::new("peers");
    let mut table = transaction.open_table(peers).unwrap();
    table.insert(damaged.as_bytes(), &[1, 7, 7][..]).unwrap();
    table.insert(newer.as_bytes(), &[2, 0, 0][..]).unwrap();
    drop(table);
    transaction.commit().unwrap();
    drop(database);

    let store = Redb::open(&path).unwrap();
    let shown: Vec<_> = store.peers().unwrap().into_iter().map(|entry| entry.ratchet).collect();
    let summary = RatchetSummary { chain_length: 3, states: 1 };
    assert_eq!(shown, [Err(RecordError::Damaged), Err(RecordError::Version(2)), Ok(summary)]);
    let error = store.load(&damaged).unwrap_err().to_string();
    assert!(error.contains("damaged") && error.contains("forget the peer"), "{error}");
    assert!(store.load(&newer).unwrap_err().to_string().contains("version 2"));
    assert!(store.compare_and_swap(&damaged, &pair(1, None), &pair(4, None)).is_err());
    let refused = store.preset(&newer, pair(5, None), Overwrite::Refuse);
    assert!(matches!(refused, Err(PresetError::Store(_))));
    assert!(identical(&store.load(&whole).unwrap(), &pair(3, None)), "the others are not affected");

    assert!(store.forget(&damaged).unwrap());
    store.preset(&newer, pair(5, None), Overwrite::Replace).unwrap();
    assert!(store.load(&damaged).unwrap().is_never_met());
    assert!(store.find(state(1).fingerprint()).unwrap().is_none());
    assert!(store.find(state(2).fingerprint()).unwrap().is_none());
    assert!(store.find(state(5).fingerprint()).unwrap().is_some());
}
