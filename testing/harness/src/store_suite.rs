//! What every ratchet store must do (PROTOCOL 5.5), whatever it keeps the pairs in.
//!
//! A store's own tests run [`EVERY_STORE`] over a fresh one each, and, where pairs outlive the store,
//! [`survives_reopening`] and what is in [`store_kills`](crate::store_kills).
#![allow(clippy::unwrap_used, reason = "in a test it is the assertion")]

use std::sync::Barrier;
use std::thread;

use zssp_proto::crypto::Secret;
use zssp_proto::{Fingerprint, PeerName, RatchetPair, RatchetState, RatchetStore, Swap};

/// A test over an empty store.
pub type Test = fn(&dyn RatchetStore);

/// The tests by name. They panic when the store is wrong.
pub const EVERY_STORE: [(&str, Test); 8] = [
    ("a peer never met has the zero pair", never_met),
    ("a pair is given back whole", whole),
    ("a state is found by its fingerprint while it is stored", found_while_stored),
    ("zero is never found", zero_is_never_found),
    ("a swap compares both fingerprints and nothing else", compared_by_fingerprint),
    ("a swap that lost changes nothing", conflict_changes_nothing),
    ("names are told apart", names_are_told_apart),
    ("of several that swap at once, exactly one wins", one_winner),
];

/// The state numbered `n`: all of it differs from that of any other number but zero.
pub fn state(n: u64) -> RatchetState {
    let mut bytes = [0; 32];
    bytes.iter_mut().zip(n.to_be_bytes().into_iter().cycle()).for_each(|(byte, of_n)| *byte = of_n);
    RatchetState::new(
        Secret::new(bytes.map(|byte| byte ^ 0x5A)),
        Fingerprint::new(bytes.map(|byte| !byte)),
        n,
    )
}

/// The pair of state `first` and, if there is one, `second`.
pub fn pair(first: u64, second: Option<u64>) -> RatchetPair {
    RatchetPair { first: state(first), second: second.map(state) }
}

/// Whether the two are the same, keys and chain lengths included.
pub fn identical(a: &RatchetPair, b: &RatchetPair) -> bool {
    a.same(b)
        && a.states()
            .zip(b.states())
            .all(|(a, b)| a.key().ct_eq(b.key()) && a.chain_length() == b.chain_length())
}

/// Opens the same store again and again; each time everything must be there.
///
/// # Panics
/// When it is not.
pub fn survives_reopening<S: RatchetStore>(open: impl Fn() -> S) {
    //= ZSSP-RAT-02  what one process wrote the next one finds
    let (alice, bob) = (name("alice"), name("bob"));
    swap(&open(), &alice, &RatchetPair::never_met(), &pair(1, None), Swap::Stored);
    swap(&open(), &bob, &RatchetPair::never_met(), &pair(2, Some(3)), Swap::Stored);
    let store = open();
    assert!(identical(&store.load(&alice).unwrap(), &pair(1, None)));
    assert!(identical(&store.load(&bob).unwrap(), &pair(2, Some(3))));
    swap(&store, &alice, &pair(1, None), &pair(4, Some(1)), Swap::Stored);
    swap(&store, &bob, &pair(3, None), &pair(5, None), Swap::Conflict);
    drop(store);
    let store = open();
    assert!(identical(&store.load(&alice).unwrap(), &pair(4, Some(1))));
    assert!(identical(&store.load(&bob).unwrap(), &pair(2, Some(3))));
    for (n, there) in [(1, true), (2, true), (3, true), (4, true), (5, false)] {
        assert_eq!(finds(&store, n), there, "state {n}");
    }
}

fn name(name: &str) -> PeerName {
    PeerName::new(name.as_bytes())
}

fn swap(store: &dyn RatchetStore, peer: &PeerName, old: &RatchetPair, new: &RatchetPair, expected: Swap) {
    assert_eq!(store.compare_and_swap(peer, old, new).unwrap(), expected);
}

fn finds(store: &dyn RatchetStore, n: u64) -> bool {
    let wanted = state(n);
    let Some(found) = store.find(wanted.fingerprint()).unwrap() else { return false };
    assert!(found.fingerprint() == wanted.fingerprint() && found.key().ct_eq(wanted.key()), "state {n}");
    assert_eq!(found.chain_length(), n);
    true
}

fn never_met(store: &dyn RatchetStore) {
    //= ZSSP-RAT-07  never met: zero, and no second
    let found = store.load(&name("nobody")).unwrap();
    assert!(found.is_never_met() && identical(&found, &RatchetPair::never_met()));
}

fn whole(store: &dyn RatchetStore) {
    //= ZSSP-RAT-01  one or two states, each with key, fingerprint and chain length
    let peer = name("peer");
    let mut old = RatchetPair::never_met();
    for new in
        [pair(u64::MAX, None), pair(2, Some(1)), pair(3, Some(0)), RatchetPair::never_met(), pair(4, None)]
    {
        swap(store, &peer, &old, &new, Swap::Stored);
        assert!(identical(&store.load(&peer).unwrap(), &new));
        old = new;
    }
}

fn found_while_stored(store: &dyn RatchetStore) {
    let peer = name("peer");
    assert!(!finds(store, 1));
    let mut old = RatchetPair::never_met();
    for (new, found) in [
        (pair(1, None), [true, false, false]),
        (pair(2, Some(1)), [true, true, false]),
        (pair(3, Some(2)), [false, true, true]),
        (pair(2, Some(3)), [false, true, true]),
        (pair(2, None), [false, true, false]),
        (RatchetPair::never_met(), [false, false, false]),
    ] {
        swap(store, &peer, &old, &new, Swap::Stored);
        assert_eq!([1, 2, 3].map(|n| finds(store, n)), found);
        old = new;
    }
}

fn zero_is_never_found(store: &dyn RatchetStore) {
    let find = || store.find(&Fingerprint::ZERO).unwrap();
    assert!(find().is_none());
    let zeros = RatchetPair { first: RatchetState::zero(), second: Some(RatchetState::zero()) };
    swap(store, &name("zeros"), &RatchetPair::never_met(), &zeros, Swap::Stored);
    assert!(find().is_none());
    let half = RatchetPair { first: state(1), second: Some(RatchetState::zero()) };
    swap(store, &name("half"), &RatchetPair::never_met(), &half, Swap::Stored);
    assert!(find().is_none() && finds(store, 1));
}

fn compared_by_fingerprint(store: &dyn RatchetStore) {
    //= ZSSP-RAT-03  a write is a compare-and-swap
    //= ZSSP-RAT-06  by fingerprint, never by key
    let zero = || Some(RatchetState::zero());
    let other_key = |n| RatchetState::new(Secret::new([0xEE; 32]), *state(n).fingerprint(), n + 9);
    let pairs = || {
        vec![
            RatchetPair::never_met(),
            RatchetPair { first: RatchetState::zero(), second: zero() },
            pair(1, None),
            RatchetPair { first: state(1), second: zero() },
            pair(1, Some(2)),
            pair(2, Some(1)),
            pair(2, None),
            pair(1, Some(3)),
        ]
    };
    for (i, stored) in pairs().iter().enumerate() {
        for (j, old) in pairs().iter().enumerate() {
            let peer = name(&format!("{i} {j}"));
            swap(store, &peer, &RatchetPair::never_met(), stored, Swap::Stored);
            let expected = if i == j { Swap::Stored } else { Swap::Conflict };
            swap(store, &peer, old, &pair(9, None), expected);
        }
    }
    let peer = name("another key under the same fingerprint");
    swap(store, &peer, &RatchetPair::never_met(), &pair(1, Some(2)), Swap::Stored);
    let same = RatchetPair { first: other_key(1), second: Some(other_key(2)) };
    swap(store, &peer, &same, &pair(3, None), Swap::Stored);
}

fn conflict_changes_nothing(store: &dyn RatchetStore) {
    let peer = name("peer");
    swap(store, &peer, &RatchetPair::never_met(), &pair(1, Some(2)), Swap::Stored);
    swap(store, &peer, &RatchetPair::never_met(), &pair(3, None), Swap::Conflict);
    swap(store, &peer, &pair(1, None), &pair(3, Some(1)), Swap::Conflict);
    swap(store, &name("nobody"), &pair(1, Some(2)), &pair(3, None), Swap::Conflict);
    assert!(identical(&store.load(&peer).unwrap(), &pair(1, Some(2))));
    assert!(store.load(&name("nobody")).unwrap().is_never_met());
    assert_eq!([1, 2, 3].map(|n| finds(store, n)), [true, true, false]);
}

fn names_are_told_apart(store: &dyn RatchetStore) {
    let names: Vec<_> = [&b""[..], b"a", b"aa", b"a\0", b"\0a", b"A", &[0xFF; 300]].map(PeerName::new).into();
    for (n, peer) in (1..).zip(&names) {
        swap(store, peer, &RatchetPair::never_met(), &pair(n, None), Swap::Stored);
    }
    for (n, peer) in (1..).zip(&names) {
        assert!(identical(&store.load(peer).unwrap(), &pair(n, None)), "{n}");
    }
    // The same password given to two peers by mistake: each has the state as long as it does not move on.
    let (one, other) = (name("one"), name("other"));
    for first_to_move in [&one, &other] {
        for peer in [&one, &other] {
            let old = store.load(peer).unwrap();
            swap(store, peer, &old, &pair(100, None), Swap::Stored);
        }
        swap(store, first_to_move, &pair(100, None), &pair(101, None), Swap::Stored);
        assert!(finds(store, 100) && finds(store, 101));
        let last = if first_to_move == &one { &other } else { &one };
        swap(store, last, &pair(100, None), &pair(102, None), Swap::Stored);
        assert!(!finds(store, 100) && finds(store, 101) && finds(store, 102));
    }
}

fn one_winner(store: &dyn RatchetStore) {
    //= ZSSP-RAT-03  atomic: of those that start from the same pair, one wins
    const THREADS: u64 = 4;
    let contested = name("contested");
    for round in 1..=50 {
        let old = store.load(&contested).unwrap();
        let next = |thread| pair(round * THREADS + thread, Some(1_000_000 + round));
        let start = Barrier::new(THREADS as usize);
        let contend = |thread| {
            // Beside the contest, a peer that nobody else writes to.
            let own = name(&format!("peer of thread {thread}"));
            let before = if round == 1 { RatchetPair::never_met() } else { pair(round - 1, None) };
            start.wait();
            let swap = store.compare_and_swap(&contested, &old, &next(thread)).unwrap();
            let undisturbed = store.compare_and_swap(&own, &before, &pair(round, None)).unwrap();
            assert_eq!(undisturbed, Swap::Stored, "round {round}");
            (swap == Swap::Stored).then_some(thread)
        };
        let winners: Vec<u64> = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| {
                    scope.spawn({
                        let contend = &contend;
                        move || contend(thread)
                    })
                })
                .collect();
            threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(winners.len(), 1, "round {round}");
        assert!(identical(&store.load(&contested).unwrap(), &next(winners[0])), "round {round}");
    }
}
