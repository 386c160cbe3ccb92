//! Interleavings of threads that take counters; the documentation of `usage` has the command.

use std::collections::BTreeSet;

use loom::sync::Arc;
use loom::thread;

use super::*;
use crate::session::loom_models::epoch;
use crate::sync::ArcSwapOption;

/// Threads of these shares take `each` counters, when so many of a run are left to each share: none is taken twice,
/// and afterwards it is known how many were taken.
fn model<const THREADS: usize>(shares: [usize; THREADS], each: usize, left: u64) {
    let mut builder = loom::model::Builder::new();
    if THREADS > 2 {
        builder.preemption_bound.get_or_insert(3);
    }
    builder.check(move || {
        let usage = Arc::new(Usage::new(Role::Initiator));
        let mut taken_before = 0;
        for share in BTreeSet::from(shares) {
            usage.shares[share].length.store(LONGEST, Relaxed);
            for _ in left..LONGEST {
                usage.next(&usage.shares[share]);
                taken_before += 1;
            }
        }
        let take = move |usage: &Usage, share: usize| -> Vec<u64> {
            (0..each).map(|_| usage.next(&usage.shares[share]).0).collect()
        };
        let others: Vec<_> = shares[1..]
            .iter()
            .map(|&share| {
                let usage = Arc::clone(&usage);
                thread::spawn(move || take(&usage, share))
            })
            .collect();
        let mut taken = vec![take(&usage, shares[0])];
        taken.extend(others.into_iter().map(|other| other.join().expect("the thread does not panic")));
        let all: BTreeSet<u64> = taken.iter().flatten().copied().collect();
        assert_eq!(all.len(), THREADS * each, "{taken:?}");
        assert_eq!(usage.packets(Role::Initiator), taken_before + all.len() as u64);
    });
}

#[test]
fn loom_within_a_run() {
    model([0, 0], 2, 5);
    model([0, 1], 2, 5);
    model([0, 0, 0], 1, 5);
}

#[test]
fn loom_at_the_end_of_a_run() {
    model([0, 0], 2, 1);
    model([0, 0], 2, 0);
    model([0, 1], 2, 1);
    model([0, 0, 1], 1, 0);
}

/// One share is so far behind that it gives up what it has, while the other is at work.
#[test]
fn loom_given_up() {
    loom::model(|| {
        let usage = Arc::new(Usage::new(Role::Initiator));
        let take = |usage: &Usage, share: usize| usage.next(&usage.shares[share]).0;
        usage.shares[..2].iter().for_each(|share| share.length.store(LONGEST, Relaxed));
        assert_eq!(take(&usage, 0), 0);
        for _ in 0..SPREAD - LONGEST {
            take(&usage, 1);
        }
        let other = {
            let usage = usage.clone();
            thread::spawn(move || [take(&usage, 1), take(&usage, 1)])
        };
        let own = [take(&usage, 0), take(&usage, 0)];
        let other = other.join().expect("the thread does not panic");
        assert!(own[0] == 1 || own[0] >= SPREAD, "{own:?}");
        assert!(own[1] == 2 || own[1] >= SPREAD, "{own:?}");
        assert_eq!(BTreeSet::from([own[0], own[1], other[0], other[1]]).len(), 4);
        assert_eq!(usage.packets(Role::Initiator), 1 + SPREAD - LONGEST + 4);
    });
}

/// An epoch begins while both shares are at work, one of them at the end of its run and the other so far behind that the
/// next run makes it give up: whoever has found the epoch takes no counter from before it, and so none that its uses are
/// not counted by.
//= ZSSP-ST-31  2^32 - 1 uses of one key: all of them count
#[test]
fn loom_an_epoch_begins_between_two_runs() {
    loom::model(|| {
        let usage = Arc::new(Usage::new(Role::Initiator));
        let take = |usage: &Usage, share: usize| usage.next(&usage.shares[share]).0;
        usage.shares[..2].iter().for_each(|share| share.length.store(LONGEST, Relaxed));
        // All that the first share has left is just not too far behind, until the second takes its next run.
        take(&usage, 0);
        for _ in 0..SPREAD - LONGEST {
            take(&usage, 1);
        }
        let start = Arc::new(ArcSwapOption::from_pointee(0));
        let other = {
            let (usage, start) = (usage.clone(), start.clone());
            thread::spawn(move || {
                [(); 2].map(|()| {
                    let found = start.load_full().expect("there is an epoch");
                    (*found, take(&usage, 0))
                })
            })
        };
        take(&usage, 1);
        let next = usage.epoch_start().packets;
        assert!(next > 1, "what the first share has left is from before it");
        start.store(Some(next.into()));
        for (start, counter) in other.join().expect("the thread does not panic") {
            assert!(counter >= start, "{counter} under an epoch that began at {start}");
        }
    });
}

/// Two threads seal while a bound of their key is reached, in packets or in blocks, whoever takes the run that reaches it: one
/// of them is told.
//= ZSSP-ST-30  2^30 uses or 2^34 blocks start a rekey early
#[test]
fn loom_one_thread_is_told_of_a_bound() {
    for (packets, blocks) in [((1 << 30) - 2, 0), ((1 << 30) - 1, 0), (0, (1 << 34) - 1)] {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound.get_or_insert(3);
        builder.check(move || {
            let usage = Arc::new(Usage::new(Role::Initiator));
            usage.advance(packets);
            usage.set_blocks(blocks);
            let epoch = epoch(1, Used::none(Role::Initiator)).epoch;
            let other = {
                let (usage, epoch) = (usage.clone(), epoch.clone());
                thread::spawn(move || usage.take(&epoch, 16).1)
            };
            let here = usage.take(&epoch, 16).1;
            let there = other.join().expect("the thread does not panic");
            // What is left in the share is told with its next run.
            let rest = [(); 4].map(|()| usage.take(&epoch, 16).1);
            let all = [here, there].into_iter().chain(rest);
            let told = all.filter(|told| *told == KeyUse::RekeyDue).count();
            assert_eq!(told, 1, "{here:?} {there:?} {rest:?}");
        });
    }
}
