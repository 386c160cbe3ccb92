use std::io::Write;

use zssp_proto::crypto::Secret;
use zssp_proto::{Fingerprint, PeerName, RatchetPair, RatchetState, RatchetStore, Swap};

use super::disk::{Disk, Fault, Survivors};
use crate::file;
use crate::tables::{Change, OnlyIf, Outcome};
use crate::{OpenError, Overwrite, Redb};

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

/// Peers that no write is about.
const OTHERS: u8 = 40;

fn peer(number: u8) -> PeerName {
    PeerName::new(&[number, 0])
}

fn old(number: u8) -> RatchetPair {
    RatchetPair { first: state(10 * number + 2), second: Some(state(10 * number + 1)) }
}

fn new(number: u8) -> RatchetPair {
    RatchetPair { first: state(10 * number + 3), second: Some(state(10 * number + 2)) }
}

fn swap(number: u8) -> Change {
    Change { peer: peer(number), only_if: OnlyIf::Same(old(number)), new: Some(new(number)) }
}

/// A write, and what is remembered of each peer it is about.
struct Case {
    name: &'static str,
    /// Whether it was reported as done.
    write: fn(&Redb) -> bool,
    before: Vec<RatchetPair>,
    after: Vec<RatchetPair>,
}

/// What only this store can do; the compare-and-swaps that every store does are in [`kills`](super::kills).
fn cases() -> [Case; 4] {
    let never_met = RatchetPair::never_met;
    [
        Case {
            name: "forget",
            write: |store| store.forget(&peer(0)).is_ok_and(|known| known),
            before: vec![old(0)],
            after: vec![never_met()],
        },
        Case {
            name: "preset of a stranger",
            write: |store| store.preset(&peer(0), new(0), Overwrite::Refuse).is_ok(),
            before: vec![never_met()],
            after: vec![new(0)],
        },
        Case {
            name: "preset in place of a history",
            write: |store| store.preset(&peer(0), new(0), Overwrite::Replace).is_ok(),
            before: vec![old(0)],
            after: vec![new(0)],
        },
        Case {
            name: "several at once",
            write: |store| {
                let changes = [
                    swap(0),
                    Change { peer: peer(1), only_if: OnlyIf::Anything, new: None },
                    Change { peer: peer(2), only_if: OnlyIf::NeverMet, new: Some(new(2)) },
                    Change { peer: peer(3), only_if: OnlyIf::Same(new(3)), new: None },
                    swap(4),
                ];
                let outcomes: Result<Vec<_>, _> = store.commit(&changes).into_iter().collect();
                let (replaced, first) = (Outcome::Replaced, Outcome::First);
                outcomes.is_ok_and(|them| them == [replaced, replaced, first, Outcome::Conflict, replaced])
            },
            before: vec![old(0), old(1), never_met(), old(3), old(4)],
            after: vec![new(0), never_met(), new(2), old(3), new(4)],
        },
    ]
}

impl Case {
    /// The content of a disk with a store of what is there before the write, and of others.
    fn image(&self) -> Vec<u8> {
        let others = (0..OTHERS).map(|other| {
            (PeerName::new(&[other; 49]), RatchetPair { first: state(100 + other), second: None })
        });
        let known = (0..).map(peer).zip(self.before.iter().map(RatchetPair::duplicate));
        let disk = Disk::new(Vec::new(), Fault::Never);
        let store = open(&disk).unwrap();
        for (name, pair) in others.chain(known.filter(|(_, pair)| !pair.is_never_met())) {
            let swap = store.compare_and_swap(&name, &RatchetPair::never_met(), &pair);
            assert_eq!(swap.unwrap(), Swap::Stored);
        }
        drop(store);
        disk.crash(Survivors::None)
    }

    /// Opens the store and writes; whether that was reported as done.
    fn write(&self, disk: &Disk) -> bool {
        open(disk).is_ok_and(|store| (self.write)(&store))
    }

    /// What is found is whole, the way to it by fingerprint included, and the store goes on from there. Whether it is
    /// new.
    fn check(&self, store: &Redb, context: &str) -> bool {
        let context = &format!("{}: {context}", self.name);
        let found: Vec<_> =
            (0..).map(peer).take(self.before.len()).map(|peer| store.load(&peer).expect(context)).collect();
        let are = |expected: &[RatchetPair]| found.iter().zip(expected).all(|(a, b)| identical(a, b));
        let is_new = are(&self.after);
        assert!(is_new || are(&self.before), "{context}: neither old nor new");
        for (found, (before, after)) in found.iter().zip(self.before.iter().zip(&self.after)) {
            let states = before.states().chain(after.states());
            for expected in states.filter(|state| !state.fingerprint().is_zero()) {
                let state = store.find(expected.fingerprint()).expect(context);
                assert_eq!(
                    state.is_some(),
                    found.contains(expected.fingerprint()),
                    "{context}: by fingerprint"
                );
                assert!(
                    state.is_none_or(|state| state.key().ct_eq(expected.key())),
                    "{context}: by fingerprint"
                );
            }
        }
        let known = found.iter().filter(|pair| !pair.is_never_met()).count();
        assert_eq!(store.peers().expect(context).len(), usize::from(OTHERS) + known, "{context}: the others");
        for (number, found) in (0..).zip(&found) {
            let next = RatchetPair { first: state(10 * number + 4), second: None };
            let swap = store.compare_and_swap(&peer(number), found, &next).expect(context);
            assert_eq!(swap, Swap::Stored, "{context}");
            assert!(identical(&store.load(&peer(number)).expect(context), &next), "{context}");
        }
        is_new
    }
}

fn identical(a: &RatchetPair, b: &RatchetPair) -> bool {
    let equal = |(a, b): (&RatchetState, &RatchetState)| {
        a.key().ct_eq(b.key()) && a.chain_length() == b.chain_length()
    };
    a.same(b) && a.states().zip(b.states()).all(equal)
}

//= ZSSP-RAT-02  what was reported as stored is there after the crash
//= ZSSP-RAT-03  a write is old or new, never a mixture, never nothing
#[test]
fn a_crash_at_any_operation_leaves_the_old_pairs_or_the_new_ones() {
    for case in cases() {
        let image = case.image();
        for crash in CRASHES {
            let (mut were_old, mut were_new) = (0, 0);
            for n in 0.. {
                let disk = Disk::new(image.clone(), Fault::From(n));
                let stored = case.write(&disk);
                let (done, left) = (!disk.failed(), disk.crash(crash));
                let context = format!("operation {n}, {crash:?} survived");
                let is_new = case.check(&reopen(&left), &context);
                assert!(is_new || !stored, "{}: {context}: what was stored is gone", case.name);
                if is_new {
                    were_new += 1
                } else {
                    were_old += 1
                }
                if done {
                    break;
                }
            }
            assert!(were_old > 10 && were_new > 1, "{}: {crash:?}: the crashes missed the write", case.name);
        }
    }
}

//= ZSSP-RAT-02  also when the second crash comes while the first is repaired
#[test]
fn a_crash_during_the_repair_of_a_crash_changes_nothing() {
    // The smallest write and the largest.
    let [forget, .., several] = cases();
    for case in [forget, several] {
        let image = case.image();
        for n in 0.. {
            let disk = Disk::new(image.clone(), Fault::From(n));
            case.write(&disk);
            let done = !disk.failed();
            let left = disk.crash(Survivors::Some(n as u64));
            let is_new = case.check(&reopen(&left), &format!("operation {n}"));
            for m in 0.. {
                let disk = Disk::new(left.clone(), Fault::From(m));
                drop(open(&disk));
                let done = !disk.failed();
                for crash in [Survivors::None, Survivors::Some(m as u64)] {
                    let context = format!("operations {n} and {m}, {crash:?} survived");
                    // Two copies of the same crash: the disk is dead after the first.
                    let disk = Disk::new(left.clone(), Fault::From(m));
                    drop(open(&disk));
                    assert_eq!(case.check(&reopen(&disk.crash(crash)), &context), is_new, "{context}");
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
}

//= ZSSP-RAT-05  an error of the disk passes; the next attempt works
#[test]
fn a_store_whose_disk_failed_once_goes_on_without_being_opened_again() {
    for case in cases() {
        let image = case.image();
        let mut failures = 0;
        for n in 0.. {
            let disk = Disk::new(image.clone(), Fault::Once(n));
            let Ok(store) = open(&disk) else { continue };
            let stored = (case.write)(&store);
            if !disk.failed() {
                break;
            }
            failures += usize::from(!stored);
            let is_new = case.check(&store, &format!("operation {n} failed"));
            assert!(is_new || !stored, "{}: operation {n}: what was stored is gone", case.name);
        }
        assert!(failures > 3, "{}: the failures missed the write", case.name);
    }
}

#[test]
fn a_crash_while_a_store_is_made_leaves_none_or_an_empty_one() {
    for crash in CRASHES {
        let folder = tempfile::tempdir().unwrap();
        let (mut were_none, mut were_empty) = (0, 0);
        for n in 0.. {
            let path = folder.path().join(n.to_string());
            let context = format!("operation {n}, {crash:?} survived");
            let disk = Disk::new(Vec::new(), Fault::From(n));
            let mut done = false;
            let made = file::create(&path, |mut file| {
                let made = file::tables(disk.clone()).map(drop);
                assert!(!path.exists(), "{context}: named before it was whole");
                done = !disk.failed();
                // The process goes on and gives the file its name only when nothing has told it of the crash.
                file.write_all(&disk.crash(crash)).unwrap();
                made
            });
            assert_eq!(path.exists(), made.is_ok(), "{context}");
            if made.is_ok() {
                were_empty += 1;
                let store = Redb::open_existing(&path).expect(&context);
                assert_eq!(store.peers().expect(&context), [], "{context}");
                let swap = store.compare_and_swap(&peer(0), &RatchetPair::never_met(), &new(0));
                assert_eq!(swap.expect(&context), Swap::Stored, "{context}");
            } else {
                were_none += 1;
            }
            assert_eq!(
                folder.path().read_dir().unwrap().count(),
                were_empty,
                "{context}: what was unfinished"
            );
            if done {
                break;
            }
        }
        assert!(were_none > 10 && were_empty > 1, "{crash:?}: the crashes missed the making");
    }
}
