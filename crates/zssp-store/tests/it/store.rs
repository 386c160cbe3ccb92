//! The store in a file keeps to what every store must do, and agrees with the one in memory on everything.

use proptest::prelude::*;
use tempfile::TempDir;
use zssp_harness::store_suite::{EVERY_STORE, identical, pair, state, survives_reopening};
use zssp_proto::{MemoryStore, PeerName, RatchetPair, RatchetStore};
use zssp_store::Redb;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn the_store_in_a_file_does_what_every_store_must() {
    for (name, test) in EVERY_STORE {
        println!("{name}");
        let folder = folder();
        test(&Redb::open(folder.path().join("ratchets.redb")).unwrap());
    }
}

//= ZSSP-RAT-02  what one process wrote the next one finds
#[test]
fn pairs_outlive_the_store() {
    let folder = folder();
    survives_reopening(|| Redb::open(folder.path().join("ratchets.redb")).unwrap());
}

#[derive(Debug, Clone)]
enum Step {
    Find { state: u64 },
    Reopen,
    Swap { peer: u8, old: Option<(u64, Option<u64>)>, new: (u64, Option<u64>) },
}

/// Few peers and few states, so that swaps often succeed and states often move from one peer to another.
fn step() -> impl Strategy<Value = Step> {
    let states = || (1..5u64, prop::option::of(1..5u64));
    prop_oneof![
        2 => (0..5u64).prop_map(|state| Step::Find { state }),
        1 => Just(Step::Reopen),
        // Without `old`: what is stored.
        6 => (0..3u8, prop::option::weighted(0.3, states()), states())
            .prop_map(|(peer, old, new)| Step::Swap { peer, old, new }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    //= ZSSP-RAT-03  every swap ends as it does in memory
    #[test]
    fn it_agrees_with_the_store_in_memory(steps in prop::collection::vec(step(), 1..40)) {
        let folder = folder();
        let open = || Redb::open(folder.path().join("ratchets.redb")).unwrap();
        let (mut store, model) = (open(), MemoryStore::new());
        for step in steps {
            match step {
                Step::Find { state: n } => {
                    let wanted = state(n);
                    let found = store.find(wanted.fingerprint()).unwrap();
                    prop_assert_eq!(found.is_some(), model.find(wanted.fingerprint()).unwrap().is_some());
                    prop_assert!(found.is_none_or(|found| found.key().ct_eq(wanted.key())));
                }
                Step::Reopen => {
                    drop(store);
                    store = open();
                }
                Step::Swap { peer, old, new } => {
                    let peer = PeerName::new(&[peer]);
                    let old = old.map_or_else(|| model.load(&peer).unwrap(), |(a, b)| pair(a, b));
                    let new: RatchetPair = pair(new.0, new.1);
                    let expected = model.compare_and_swap(&peer, &old, &new).unwrap();
                    prop_assert_eq!(store.compare_and_swap(&peer, &old, &new).unwrap(), expected);
                    prop_assert!(identical(&store.load(&peer).unwrap(), &model.load(&peer).unwrap()));
                }
            }
        }
    }
}
