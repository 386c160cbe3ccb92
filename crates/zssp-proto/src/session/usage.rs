//! The send counter, and how much a session has sealed (PROTOCOL 5.1, 5.3). Every step is *parallel*.
//!
//! One counter for all threads is one cache line that all of them would write with each packet. So a thread takes a *run*
//! of up to [`LONGEST`] counters at a time, and what it has left of it lies in one of a few *shares*, each with a cache
//! line of its own:
//!
//! ```text
//! run = next:60 || left:4        the next of its counters, and how many there are from it on
//! ```
//!
//! # Why no counter is taken twice
//! A run is taken by adding to a number that only grows, so no two runs overlap. Each run is put into a share once at most,
//! and there `next + left` stays what it is, so no word of it is a word of another run: the swap from `next` to `next + 1`
//! that succeeds is the only one.
//!
//! # Why no counter is far behind, and few are left out
//! A thread that had nothing to seal for a while would go on with counters that the peer's replay window has forgotten.
//! So what is left of a run is given up when it is more than [`SPREAD`] below the newest: half of the 128 counters that
//! the smallest windows in use remember. For whoever counts packets by counters, what is given up must be little: who gave
//! up a run takes a single counter next, and then twice as many each time until it gives up again. A thread that is as
//! fast as the others has long runs, and a slow one hardly leaves anything.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p zssp-proto --lib --release --target-dir target/loom loom
//! ```

use super::keys::{KeyEpoch, KeyUse};
use crate::sync::{AtomicU64, Ordering::Relaxed};
use crate::zke::keys::Role;

/// Counters that are taken at a time, at most.
const LONGEST: u64 = 1 << LEFT_BITS;
const LEFT_BITS: u32 = 4;

/// So many threads can write nothing in common. They get their shares in turn when they first seal anything, so the first
/// four of a process have one each.
const SHARES: usize = 4;

/// How far the newest counter may be above one that is taken: all shares have a run.
const SPREAD: u64 = SHARES as u64 * LONGEST;

/// How much was sealed up to some moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    /// Packets, which is the counter from which others were not taken yet.
    pub(crate) packets: u64,
    /// AES blocks of payloads.
    pub(crate) blocks: u64,
}

impl Used {
    /// Before a session's first packet. Bob's 0 is that of the D that he could have sent in the place of C1.
    //= ZSSP-PKT-10  from 0, or from 1 for Bob
    pub(crate) const fn none(role: Role) -> Self {
        let packets = match role {
            Role::Initiator => 0,
            Role::Responder => 1,
        };
        Self { packets, blocks: 0 }
    }
}

/// What a session has sealed so far, under all its keys: the one thing that the threads that seal change.
pub(crate) struct Usage {
    total: Total,
    shares: [Share; SHARES],
}

/// What is written once in a run. It has a cache line of its own, as each share has.
#[repr(align(64))]
struct Total {
    //= ZSSP-ST-29  one counter for all threads, types and keys of a session, never reset
    /// The first counter of the next run.
    packets: AtomicU64,
    blocks: AtomicU64,
    /// Counters that nobody took, of runs that were given up.
    given_up: AtomicU64,
}

#[repr(align(64))]
struct Share {
    run: AtomicU64,
    /// How long its run was when it was taken.
    length: AtomicU64,
    /// AES blocks that were sealed since a run was last taken.
    blocks: AtomicU64,
}

/// A run that was just taken.
struct Run {
    first: u64,
    length: u64,
    /// What was sealed before it, without what other shares have not told yet.
    before: u64,
    /// AES blocks that this share has sealed since its last run.
    blocks: u64,
}

impl Usage {
    pub(crate) fn new(role: Role) -> Self {
        let Used { packets, blocks } = Used::none(role);
        Self {
            total: Total {
                packets: AtomicU64::new(packets),
                blocks: AtomicU64::new(blocks),
                given_up: AtomicU64::new(0),
            },
            shares: core::array::from_fn(|_| Share {
                run: AtomicU64::new(0),
                length: AtomicU64::new(0),
                blocks: AtomicU64::new(0),
            }),
        }
    }

    /// Takes the next send counter, which nobody else gets, for a packet of `len` bytes under this key, and says whether
    /// it may be used. Of all threads, one is told that a bound of the key was reached.
    ///
    /// The key must have been loaded before: so no counter is from before [`epoch_start`](Self::epoch_start).
    //= ZSSP-ST-30  2^30 uses or 2^34 blocks start a rekey early
    //= ZSSP-ST-31  2^32 - 1 uses of a key end the session
    pub(crate) fn take(&self, epoch: &KeyEpoch, len: usize) -> (u64, KeyUse) {
        let share = &self.shares[own_share()];
        let (counter, run) = self.next(share);
        share.blocks.fetch_add(len.div_ceil(16) as u64, Relaxed);
        let key_use = if epoch.is_used_up(counter) {
            KeyUse::UsedUp
        } else if run
            .is_some_and(|run| epoch.passes_a_bound((run.first, run.length), (run.before, run.blocks)))
        {
            KeyUse::RekeyDue
        } else {
            KeyUse::Good
        };
        (counter, key_use)
    }

    /// The next counter of a share; if it is the first of a run, that too.
    fn next(&self, share: &Share) -> (u64, Option<Run>) {
        let mut current = share.run.load(Relaxed);
        loop {
            let (next, left) = (current >> LEFT_BITS, current % LONGEST);
            let is_behind = self.total.packets.load(Relaxed).saturating_sub(next) > SPREAD;
            if left == 0 || is_behind {
                return self.another_run(share, current, is_behind);
            }
            match share.run.compare_exchange_weak(current, run(next + 1, left - 1), Relaxed, Relaxed) {
                Ok(_) => return (next, None),
                Err(actual) => current = actual,
            }
        }
    }

    /// Takes a run for a share in the place of `current`, and the first counter of it.
    #[cold]
    fn another_run(&self, share: &Share, current: u64, is_behind: bool) -> (u64, Option<Run>) {
        let length = if is_behind { 1 } else { (2 * share.length.load(Relaxed)).clamp(1, LONGEST) };
        share.length.store(length, Relaxed);
        let first = self.total.packets.fetch_add(length, Relaxed);
        let swapped = share.run.compare_exchange(current, run(first + 1, length - 1), Relaxed, Relaxed);
        // Where another thread of the same share was quicker, it has its run, and of this one no more is needed.
        let given_up = if swapped.is_ok() { current % LONGEST } else { length - 1 };
        if given_up > 0 {
            self.total.given_up.fetch_add(given_up, Relaxed);
        }
        let blocks = share.blocks.swap(0, Relaxed);
        let before = self.total.blocks.fetch_add(blocks, Relaxed);
        (first, Some(Run { first, length, before, blocks }))
    }

    /// Of a run, all of it counts as used when it is taken.
    pub(crate) fn so_far(&self) -> Used {
        Used { packets: self.total.packets.load(Relaxed), blocks: self.total.blocks.load(Relaxed) }
    }

    /// Where an epoch begins that is published after this: none of its packets has a lower counter.
    pub(crate) fn epoch_start(&self) -> Used {
        let Used { packets, blocks } = self.so_far();
        Used { packets: packets.saturating_sub(SPREAD), blocks }
    }

    /// How many counters were taken. Exact when nobody is taking one.
    pub(crate) fn packets(&self, role: Role) -> u64 {
        let left = self.shares.iter().map(|share| share.run.load(Relaxed) % LONGEST).sum::<u64>();
        let unused = Used::none(role).packets + self.total.given_up.load(Relaxed) + left;
        self.total.packets.load(Relaxed).saturating_sub(unused)
    }
}

/// A share's word. No counter has more than 60 bits: [`KeyEpoch::is_used_up`] says so of those above 59.
const fn run(next: u64, left: u64) -> u64 {
    next << LEFT_BITS | left
}

/// The share of the calling thread.
#[cfg(not(loom))]
fn own_share() -> usize {
    use std::sync::atomic::AtomicUsize;

    // Not one of the models' own: whichever shares threads have, counters are taken once.
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: usize = THREADS.fetch_add(1, Relaxed) % SHARES;
    }
    OWN.with(|own| *own)
}

/// All threads of the models of a session fight for one share.
#[cfg(loom)]
const fn own_share() -> usize {
    0
}

#[cfg(test)]
impl Usage {
    /// Has so many blocks have been sealed.
    pub(crate) fn set_blocks(&self, blocks: u64) {
        self.shares.iter().for_each(|share| share.blocks.store(0, Relaxed));
        self.total.blocks.store(blocks, Relaxed);
    }

    /// Has the threads of the models take the counters from 0 on out of one run. How runs are taken has models of its
    /// own; here too, there would be more interleavings than can be tried.
    #[cfg(loom)]
    pub(crate) fn start_a_run(&self) {
        let left = LONGEST - 1;
        self.total.packets.store(left, Relaxed);
        self.shares[own_share()].run.store(run(0, left), Relaxed);
    }

    /// Has the next packet have this counter.
    pub(crate) fn advance(&self, counter: u64) {
        self.shares.iter().for_each(|share| share.run.store(0, Relaxed));
        self.total.packets.store(counter, Relaxed);
    }
}

#[cfg(all(test, loom))]
mod loom_models;

#[cfg(all(test, not(loom)))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "in a test it is the assertion")]

    use std::collections::BTreeSet;
    use std::thread;

    use super::*;

    /// The next counter of this share.
    fn take(usage: &Usage, share: usize) -> u64 {
        usage.next(&usage.shares[share]).0
    }

    //= ZSSP-PKT-10  from 0, or from 1 for Bob
    #[test]
    fn one_thread_counts_without_gaps() {
        for (role, first) in [(Role::Initiator, 0), (Role::Responder, 1)] {
            let usage = Usage::new(role);
            for counter in first..first + 1000 {
                assert_eq!(usage.packets(role), counter - first);
                assert_eq!(take(&usage, 2), counter);
            }
        }
    }

    /// A usage in which these shares take long runs.
    fn at_full_speed<const N: usize>(shares: [usize; N]) -> Usage {
        let usage = Usage::new(Role::Initiator);
        for share in shares {
            usage.shares[share].length.store(LONGEST, Relaxed);
        }
        usage
    }

    #[test]
    fn runs_get_longer() {
        let usage = Usage::new(Role::Initiator);
        let runs: Vec<u64> =
            (0..31 + LONGEST).filter_map(|_| usage.next(&usage.shares[0]).1).map(|run| run.length).collect();
        assert_eq!(runs, [1, 2, 4, 8, 16, 16]);
    }

    #[test]
    fn whoever_waited_goes_on_near_the_newest() {
        let usage = at_full_speed([0, 1]);
        assert_eq!(take(&usage, 0), 0);
        for counter in LONGEST..SPREAD {
            assert_eq!(take(&usage, 1), counter);
        }
        assert_eq!(take(&usage, 0), 1, "the newest is not far above");
        let newest = SPREAD + LONGEST;
        assert_eq!(
            (take(&usage, 1), take(&usage, 0), take(&usage, 0)),
            (SPREAD, newest, newest + 1),
            "one, then two"
        );
        assert_eq!(usage.packets(Role::Initiator), SPREAD - LONGEST + 5, "what was given up does not count");
    }

    /// Whoever seals packets of one session on several threads can count on the replay window by packets.
    #[test]
    fn slow_threads_leave_few_counters_out() {
        for slow in 1..SHARES {
            for pace in [2, 3, 5, 8, 16, 24, 32, 48, 64, 65, 100, 1000] {
                let usage = Usage::new(Role::Initiator);
                let (mut packets, mut newest) = (0u64, 0);
                for number in 0..20_000 {
                    newest = newest.max(take(&usage, 0));
                    packets += 1;
                    for share in 1..=slow {
                        if number % pace == share {
                            newest = newest.max(take(&usage, share));
                            packets += 1;
                        }
                    }
                }
                let counters = newest as f64 / packets as f64;
                assert!(
                    counters < 1.2,
                    "{slow} slow threads, one packet in {pace}: {counters:.2} counters a packet"
                );
            }
        }
    }

    //= ZSSP-ST-31  2^32 - 1 uses of one key: all of them count
    #[test]
    fn no_counter_is_from_before_its_epoch() {
        let usage = at_full_speed([0, 1, 2, 3]);
        for _ in 0..100 {
            usage.next(&usage.shares[0]);
        }
        for share in 1..SHARES {
            take(&usage, share);
            let start = usage.epoch_start().packets;
            assert!(
                (0..=share).all(|share| take(&usage, share) >= start),
                "a run of the epoch before is used up"
            );
        }
    }

    //= ZSSP-ST-30  2^34 blocks
    #[test]
    fn blocks_are_told_with_the_next_run() {
        let usage = at_full_speed([0]);
        let share = &usage.shares[0];
        let mut told = Vec::new();
        for _ in 0..=2 * LONGEST {
            let (_, run) = usage.next(share);
            told.extend(run.map(|run| (run.first, run.before, run.blocks)));
            share.blocks.fetch_add(3, Relaxed);
        }
        assert_eq!(told, [(0, 0, 0), (LONGEST, 0, 3 * LONGEST), (2 * LONGEST, 3 * LONGEST, 3 * LONGEST)]);
        assert_eq!(usage.so_far().blocks, 6 * LONGEST);
    }

    //= ZSSP-ST-29  one counter for all threads
    #[test]
    fn threads_take_each_counter_once() {
        const EACH: u64 = 20_000;
        const THREADS: usize = 2 * SHARES;
        let usage = Usage::new(Role::Initiator);
        let taken: Vec<Vec<u64>> = thread::scope(|scope| {
            let spawn = |number| {
                let usage = &usage;
                scope.spawn(move || (0..EACH).map(|_| take(usage, number % SHARES)).collect())
            };
            let threads: Vec<_> = (0..THREADS).map(spawn).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let all: BTreeSet<u64> = taken.iter().flatten().copied().collect();
        assert_eq!(all.len() as u64, EACH * THREADS as u64);
        assert_eq!(usage.packets(Role::Initiator), all.len() as u64);
    }
}
