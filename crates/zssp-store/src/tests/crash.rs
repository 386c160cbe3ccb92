use zssp_proto::crypto::Secret;
use zssp_proto::{Fingerprint, PeerName, RatchetPair, RatchetState, RatchetStore, Swap};

use super::disk::{Disk, Fault, Survivors};
use crate::file;
use crate::{OpenError, Redb};

/// Every kind of crash there is a difference between.
const CRASHES: [Survivors; 10] = [
    Survivors::All,
    Survivors::None,
    Survivors::Some(1),
    Survivors::Some(2),
    Survivors::Some(3),
    Survivors::Some(4),
    Survivors::Some(5),
    Survivors::Some(6),
    Survivors::Some(7),
    Survivors::Some(8),
];

pub(super) fn open(disk: &Disk) -> Result<Redb, OpenError> {
    let tables = {
        let disk = disk.clone();
        move || {
            file::tables(disk.clone())
                .map_err(|error| OpenError::Damaged { file: "disk".into(), reason: format!("{error:?}") })
        }
    };
    Ok(Redb::over("disk".into(), tables()?, Box::new(tables)))
}

fn reopen(image: &[u8]) -> Redb {
    open(&Disk::new(image.to_vec(), Fault::Never)).expect("a crash must leave a store that opens")
}

fn state(seed: u8) -> RatchetState {
    RatchetState::new(Secret::new([seed; 32]), Fingerprint::new([!seed; 32]), seed.into())
}

fn peer() -> PeerName {
    PeerName::new(b"the peer")
}

fn old() -> RatchetPair {
    RatchetPair { first: state(2), second: Some(state(1)) }
}

fn new() -> RatchetPair {
    RatchetPair { first: state(3), second: Some(state(2)) }
}

/// The content of a disk with a store in which `peer` is at `old`, among others.
fn image() -> Vec<u8> {
    let disk = Disk::new(Vec::new(), Fault::Never);
    let store = open(&disk).unwrap();
    for other in 0..40u8 {
        let pair = RatchetPair { first: state(100 + other), second: None };
        let name = PeerName::new(&[other; 49]);
        assert_eq!(store.compare_and_swap(&name, &RatchetPair::never_met(), &pair).unwrap(), Swap::Stored);
    }
    assert_eq!(store.compare_and_swap(&peer(), &RatchetPair::never_met(), &old()).unwrap(), Swap::Stored);
    drop(store);
    disk.crash(Survivors::None)
}

fn identical(a: &RatchetPair, b: &RatchetPair) -> bool {
    let equal = |(a, b): (&RatchetState, &RatchetState)| {
        a.key().ct_eq(b.key()) && a.chain_length() == b.chain_length()
    };
    a.same(b) && a.states().zip(b.states()).all(equal)
}

/// What is found is whole, the way to it by fingerprint included, and the store goes on from there. Whether it is new.
fn check(store: &Redb, context: &str) -> bool {
    let found = store.load(&peer()).expect(context);
    let is_new = identical(&found, &new());
    assert!(is_new || identical(&found, &old()), "{context}: neither old nor new");
    for seed in 1..=3 {
        let state = store.find(state(seed).fingerprint()).expect(context);
        let expected = found.contains(self::state(seed).fingerprint());
        assert_eq!(state.is_some(), expected, "{context}: state {seed}");
        assert!(
            state.is_none_or(|state| state.key().ct_eq(self::state(seed).key())),
            "{context}: state {seed}"
        );
    }
    assert_eq!(store.peers().expect(context).len(), 41, "{context}: the others");
    let next = RatchetPair { first: state(4), second: Some(found.first.duplicate()) };
    assert_eq!(store.compare_and_swap(&peer(), &found, &next).expect(context), Swap::Stored, "{context}");
    assert!(identical(&store.load(&peer()).expect(context), &next), "{context}");
    is_new
}

/// Opens the store and writes `new` on a disk with `fault`; whether the write was reported as done.
fn write(disk: &Disk) -> bool {
    let Ok(store) = open(disk) else { return false };
    store.compare_and_swap(&peer(), &old(), &new()).is_ok_and(|swap| swap == Swap::Stored)
}

//= ZSSP-RAT-02  what was reported as stored is there after the crash
//= ZSSP-RAT-03  a write is old or new, never a mixture, never nothing
#[test]
fn a_crash_at_any_operation_leaves_the_old_pair_or_the_new_one() {
    let image = image();
    for crash in CRASHES {
        let (mut were_old, mut were_new) = (0, 0);
        for n in 0.. {
            let disk = Disk::new(image.clone(), Fault::From(n));
            let stored = write(&disk);
            let (done, left) = (!disk.failed(), disk.crash(crash));
            let is_new = check(&reopen(&left), &format!("operation {n}, {crash:?} survived"));
            assert!(is_new || !stored, "operation {n}, {crash:?} survived: a stored pair is gone");
            if is_new {
                were_new += 1
            } else {
                were_old += 1
            }
            if done {
                break;
            }
        }
        assert!(were_old > 10 && were_new > 1, "{crash:?}: the crashes missed the write");
    }
}

//= ZSSP-RAT-02  also when the second crash comes while the first is repaired
#[test]
fn a_crash_during_the_repair_of_a_crash_changes_nothing() {
    let image = image();
    for n in 0.. {
        let disk = Disk::new(image.clone(), Fault::From(n));
        write(&disk);
        let done = !disk.failed();
        let left = disk.crash(Survivors::Some(n as u64));
        let is_new = identical(&reopen(&left).load(&peer()).unwrap(), &new());
        for m in 0.. {
            let disk = Disk::new(left.clone(), Fault::From(m));
            drop(open(&disk));
            let done = !disk.failed();
            for crash in [Survivors::None, Survivors::Some(m as u64)] {
                let context = format!("operations {n} and {m}, {crash:?} survived");
                // Two copies of the same crash: the disk is dead after the first.
                let disk = Disk::new(left.clone(), Fault::From(m));
                drop(open(&disk));
                assert_eq!(check(&reopen(&disk.crash(crash)), &context), is_new, "{context}");
            }
            if done {
                break;
            }
        }
        if done {
            break;
        }
    }
}

//= ZSSP-RAT-05  an error of the disk passes; the next attempt works
#[test]
fn a_store_whose_disk_failed_once_goes_on_without_being_opened_again() {
    let image = image();
    let mut failures = 0;
    for n in 0.. {
        let disk = Disk::new(image.clone(), Fault::Once(n));
        let Ok(store) = open(&disk) else { continue };
        let swap = store.compare_and_swap(&peer(), &old(), &new());
        if !disk.failed() {
            break;
        }
        failures += usize::from(swap.is_err());
        let is_new = check(&store, &format!("operation {n} failed"));
        assert!(is_new || swap.is_err(), "operation {n}: a stored pair is gone");
    }
    assert!(failures > 3, "the failures missed the write");
}
