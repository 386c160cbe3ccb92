//! The replay window: which counters of the peer have been received (PROTOCOL 3.4).
//!
//! # A packet's walk, every step *parallel*
//! 1. [`check`](Window::check): two loads, before anything is stored or decrypted; turns most replays away cheaply.
//! 2. The packet is reassembled and authenticated.
//! 3. [`commit`](Window::commit): one compare-and-swap that decides. `Ok` means: this thread, and no other, ever,
//!    may deliver the packet with this counter.
//!
//! # Layout
//! Counters are grouped in *blocks* of 16, and 8 blocks are a *stretch*. One atomic word holds one block at a time, so
//! blocks that are [`STRETCHES`] stretches apart take turns in a word; which of them is there is its *round*:
//!
//! ```text
//! counter = ((round * STRETCHES * 8) + place) * 16 + bit       word = round:48 || received:16
//! words[place % STRETCHES][place / STRETCHES]
//! ```
//!
//! A word is cleared by nobody: the first counter of a later round replaces it, round and bits at once.
//! Next to the words, `newest` is the highest stretch that anyone has committed to or is committing to: not the highest
//! counter, which all threads would fight for with every packet. The `STRETCHES` newest stretches are the window.
//!
//! What threads at work on neighbouring blocks write lies in different cache lines, and `newest`, which is written once
//! in 128 packets and read twice for each, has one of its own: no thread waits for another's lines.
//!
//! # Why no counter is accepted twice
//! - Words are unambiguous. No counter above [`LAST`](Window::LAST) is ever accepted, and up to there the round fits its 48 bits:
//!   it is never truncated, so nothing depends on how long a thread sleeps or how far a peer jumps.
//! - A word only grows, read as one number: a swap either adds a bit of the same round or installs a higher round.
//! - `Ok` is returned only by a swap that added the counter's own bit. After it, the word has that bit set for as
//!   long as it stays in that round, and once it has left the round it never returns. Both are refused.
//!
//! So the decision is one swap on one word, whatever `newest` says at that moment, and needs no ordering between
//! different words: `Relaxed` is enough. If several threads commit the same new counter, the first swap wins. None
//! wins only if a later round took the word in between, that is when the counter fell out of the window.
//!
//! # Why everything inside the window is remembered
//! A word is taken from a block by a counter `k * STRETCHES` stretches later, `k >= 1`, and `newest` was raised to that
//! one's stretch before, so all of the block was too old already.
//!
//! # Checking the races
//! The models in `replay/loom_models.rs` try the interleavings of a few threads with loom, in seconds:
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p zssp-proto --lib --release --target-dir target/loom loom
//! ```

use core::fmt;

use crate::sync::{AtomicU64, Ordering::Relaxed};

/// How far above the highest received counter the next one may be (PROTOCOL 3.4).
pub(crate) const MAX_AHEAD: u64 = 1 << 24;

/// The window of a session: the highest counter received and at least 2048 below it.
pub(crate) type ReplayWindow = Window<STRETCHES>;

#[cfg(not(loom))]
const _: () = assert!(size_of::<ReplayWindow>() <= 1152);
//= ZSSP-DEF-18  at least 2048 counters
const _: () = assert!(ReplayWindow::WINDOW >= 2048);

/// One more than 2048 counters fill: the stretch that is being filled takes the place of the oldest.
const STRETCHES: usize = 17;

/// Blocks in a stretch; words in a cache line.
const BLOCKS: usize = 8;

/// Counters in a block.
const BITS: u64 = 16;
const ROUND_BITS: u32 = 48;

/// Counters in a stretch.
const STRETCH: u64 = BLOCKS as u64 * BITS;

/// No window of however many stretches accepts more counters.
const MAX_LAST: u128 = 1 << 62;

/// Why a counter is refused. All three happen in honest traffic: the network duplicates, delays and loses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Replay {
    /// A packet with this counter was received already.
    #[error("counter already received")]
    Duplicate,
    /// Further above the highest received counter than [`MAX_AHEAD`], or above [`Window::LAST`].
    #[error("counter too far above the highest received")]
    TooFarAhead,
    /// Older than the window remembers.
    #[error("counter older than the replay window")]
    TooOld,
}

/// What is written by threads that do not wait for each other.
#[repr(align(64))]
struct Line<T>(T);

/// A replay window of so many stretches; use [`ReplayWindow`], the models use smaller ones.
///
/// All methods take `&self`, hold no lock and never wait for another thread.
pub(crate) struct Window<const STRETCHES: usize> {
    newest: Line<AtomicU64>,
    words: [Line<[AtomicU64; BLOCKS]>; STRETCHES],
}

impl<const STRETCHES: usize> Window<STRETCHES> {
    /// A counter at most this far below the highest received is remembered; up to 127 more are.
    pub(crate) const WINDOW: u64 = (STRETCHES as u64 - 1) * STRETCH;

    /// The last counter that is ever accepted, so that rounds fit their bits and no sum overflows. For a session's window
    /// it is about 2^59: at a billion packets a second, 18 years away. A sender must end the session before it gets there.
    pub(crate) const LAST: u64 = {
        let rounds = (STRETCHES as u128 * STRETCH as u128) << ROUND_BITS;
        (if rounds < MAX_LAST { rounds as u64 } else { MAX_LAST as u64 }) - 1
    };

    /// A window that has received nothing; counters up to [`MAX_AHEAD`] are welcome.
    pub(crate) fn new() -> Self {
        // All zero is round 0 in every word, with no bit set.
        let line = |_| Line(core::array::from_fn(|_| AtomicU64::new(0)));
        Self { newest: Line(AtomicU64::new(0)), words: core::array::from_fn(line) }
    }

    //= ZSSP-RPL-01  reads only, before anything is stored
    /// Whether a packet with this counter may still be delivered: not yet received, not older than the window, not
    /// too far ahead. Changes nothing; meant for unauthenticated packets.
    ///
    /// # Errors
    /// The reason when not; [`commit`](Self::commit) would refuse it as well, so the packet can be dropped unread.
    /// An accepted one may yet lose to another thread there.
    pub(crate) fn check(&self, counter: u64) -> Result<(), Replay> {
        self.check_range(counter, self.newest.0.load(Relaxed))?;
        let (word, place) = self.place(counter);
        place.mark(word.load(Relaxed)).map(drop)
    }

    //= ZSSP-RPL-03  one swap decides, so one thread wins
    //= ZSSP-SEC-03  nothing is accepted twice
    /// Records an *authenticated* packet's counter and decides whether the packet may be delivered: for each
    /// counter at most one call, on whatever thread, is ever answered with `Ok`.
    ///
    /// # Errors
    /// The reason why not; the packet must then be dropped. The window is as if it had never come.
    pub(crate) fn commit(&self, counter: u64) -> Result<(), Replay> {
        let newest = self.newest.0.load(Relaxed);
        self.check_range(counter, newest)?;
        // Before the swap below, so that no word is taken from a block that still counts as inside the window.
        // If the swap then refuses, another thread has committed this counter or one of a later round, which is as good.
        if counter / STRETCH > newest {
            self.newest.0.fetch_max(counter / STRETCH, Relaxed);
        }
        let (word, place) = self.place(counter);
        let mut current = word.load(Relaxed);
        loop {
            let marked = place.mark(current)?;
            match word.compare_exchange_weak(current, marked, Relaxed, Relaxed) {
                Ok(_) => return Ok(()),
                Err(actual) => current = actual,
            }
        }
    }

    /// Counts everything that `highest` makes too old as that from now on, though nothing so high may have been received.
    pub(crate) fn raise(&self, highest: u64) {
        self.newest.0.fetch_max(highest.min(Self::LAST) / STRETCH, Relaxed);
    }

    // `newest` may be outdated, that is too low. Then a counter may be too far ahead that another thread has just
    // brought within reach, as if this call had come a little earlier; and one that has become too old may pass,
    // which `Place::mark` decides anew. No sum overflows, because `newest` is never a stretch above that of `LAST`.
    fn check_range(&self, counter: u64, newest: u64) -> Result<(), Replay> {
        let reach = newest * STRETCH + MAX_AHEAD;
        //= ZSSP-RPL-08  at most 2^24 above the highest received
        if counter > Self::LAST || (counter > reach && counter - reach > self.highest_in(newest)) {
            Err(Replay::TooFarAhead)
        //= ZSSP-RPL-07  not older than the window
        } else if counter / STRETCH + STRETCHES as u64 <= newest {
            Err(Replay::TooOld)
        } else {
            Ok(())
        }
    }

    /// Where in stretch `newest` the highest counter is that was received: 0 if none was.
    fn highest_in(&self, newest: u64) -> u64 {
        let highest_of = |block: u64| {
            let (word, place) = self.place(newest * STRETCH + block * BITS);
            let word = word.load(Relaxed);
            let received = if word & !RECEIVED == place.round { word & RECEIVED } else { 0 };
            received.checked_ilog2().map(|bit| block * BITS + u64::from(bit))
        };
        (0..BLOCKS as u64).rev().find_map(highest_of).unwrap_or(0)
    }

    /// Where a counter not above [`LAST`](Self::LAST) is recorded.
    fn place(&self, counter: u64) -> (&AtomicU64, Place) {
        let (block, blocks) = (counter / BITS, (STRETCHES * BLOCKS) as u64);
        let (round, place) = (block / blocks, (block % blocks) as usize);
        let word = &self.words[place % STRETCHES].0[place / STRETCHES];
        (word, Place { round: round << BITS, bit: 1 << (counter % BITS) })
    }
}

impl<const STRETCHES: usize> fmt::Debug for Window<STRETCHES> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayWindow").field("newest", &self.newest.0.load(Relaxed)).finish_non_exhaustive()
    }
}

/// What a counter is in its word.
#[derive(Clone, Copy)]
struct Place {
    /// The word's upper 48 bits, in place.
    round: u64,
    bit: u64,
}

impl Place {
    /// The word with this counter recorded in it.
    fn mark(self, word: u64) -> Result<u64, Replay> {
        let (round, received) = (word & !RECEIVED, word & RECEIVED);
        if round > self.round {
            Err(Replay::TooOld)
        } else if round < self.round {
            Ok(self.round | self.bit)
        //= ZSSP-RPL-06  not received before
        } else if received & self.bit != 0 {
            Err(Replay::Duplicate)
        } else {
            Ok(word | self.bit)
        }
    }
}

/// The lower part of a word: one bit for each counter of the block.
const RECEIVED: u64 = (1 << BITS) - 1;

#[cfg(all(test, loom))]
mod loom_models;

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Barrier;
    use std::sync::atomic::AtomicU8;

    use proptest::prelude::*;

    use super::Replay::{Duplicate, TooFarAhead, TooOld};
    use super::*;

    const WINDOW: u64 = ReplayWindow::WINDOW;
    const LAST: u64 = ReplayWindow::LAST;

    /// Counters that share a word, and a bit of it, are so far apart.
    const ROUND: u64 = STRETCHES as u64 * STRETCH;

    /// A window whose newest stretch is that of `counter`, with nothing received.
    fn at<const STRETCHES: usize>(counter: u64) -> Window<STRETCHES> {
        Window { newest: Line(AtomicU64::new(counter / STRETCH)), ..Window::new() }
    }

    type Steps<'a> = &'a [(u64, Result<(), Replay>)];

    //= ZSSP-RPL-06  received before
    //= ZSSP-RPL-07  older than the window
    //= ZSSP-RPL-08  2^24 above the highest received, and one more
    #[test]
    fn edge_cases() {
        let ok = Ok(());
        // A counter of the newest stretch before, the counters committed in this order, and the answers.
        let table: &[(u64, Steps<'_>)] = &[
            // The very first counters, in order, repeated and reversed.
            (0, &[(0, ok), (0, Err(Duplicate)), (1, ok), (0, Err(Duplicate)), (1, Err(Duplicate))]),
            (0, &[(3, ok), (2, ok), (1, ok), (0, ok), (3, Err(Duplicate)), (0, Err(Duplicate))]),
            // Both sides of a block's end.
            (0, &[(15, ok), (16, ok), (15, Err(Duplicate)), (16, Err(Duplicate)), (17, ok), (14, ok)]),
            // Nothing received yet: the first counter may be as far as any other.
            (0, &[(MAX_AHEAD, ok), (0, Err(TooOld))]),
            (0, &[(MAX_AHEAD + 1, Err(TooFarAhead)), (0, ok), (MAX_AHEAD + 1, Err(TooFarAhead)), (1, ok)]),
            // A refused counter does not move the limit, an accepted one does.
            (
                9,
                &[
                    (10 + MAX_AHEAD, Err(TooFarAhead)),
                    (10, ok),
                    (10 + MAX_AHEAD, ok),
                    (11 + 2 * MAX_AHEAD, Err(TooFarAhead)),
                ],
            ),
            // Both sides of a stretch's end.
            (0, &[(127, ok), (128, ok), (127, Err(Duplicate)), (128, Err(Duplicate)), (129, ok), (126, ok)]),
            // The oldest counter remembered, and the one before it: a stretch goes as a whole.
            (
                0,
                &[
                    (WINDOW, ok),
                    (0, ok),
                    (0, Err(Duplicate)),
                    (WINDOW + 127, ok),
                    (1, ok),
                    (WINDOW + 128, ok),
                ],
            ),
            (0, &[(0, ok), (127, ok), (WINDOW + 128, ok), (0, Err(TooOld)), (127, Err(TooOld)), (128, ok)]),
            // The same word in the next round, with the same bit.
            (0, &[(5, ok), (5 + ROUND, ok), (5 + ROUND, Err(Duplicate)), (5, Err(TooOld)), (6 + ROUND, ok)]),
            // A jump over several rounds leaves stale words behind; they do not count as received.
            (
                0,
                &[
                    (5, ok),
                    (7, ok),
                    (7 + 3 * ROUND, ok),
                    (5 + 3 * ROUND, ok),
                    (7, Err(TooOld)),
                    (7 + 2 * ROUND, Err(TooOld)),
                ],
            ),
            (0, &[(5, ok), (10_000, ok), (5 + 4 * ROUND, ok), (5 + 4 * ROUND, Err(Duplicate))]),
            // The last counter, and what lies above it.
            (
                LAST - 1,
                &[
                    (LAST, ok),
                    (LAST, Err(Duplicate)),
                    (LAST + 1, Err(TooFarAhead)),
                    (u64::MAX, Err(TooFarAhead)),
                ],
            ),
            (
                LAST,
                &[
                    (LAST - WINDOW - 128, Err(TooOld)),
                    (LAST - WINDOW - 127, ok),
                    (LAST - ROUND, Err(TooOld)),
                    (LAST - 128, ok),
                ],
            ),
            (
                LAST - MAX_AHEAD - 127,
                &[
                    (LAST, Err(TooFarAhead)),
                    (LAST - MAX_AHEAD, ok),
                    (LAST, ok),
                    (LAST + 1, Err(TooFarAhead)),
                    (0, Err(TooOld)),
                ],
            ),
            (
                0,
                &[
                    (u64::MAX, Err(TooFarAhead)),
                    (1 << 63, Err(TooFarAhead)),
                    (LAST, Err(TooFarAhead)),
                    (0, ok),
                ],
            ),
        ];
        for (highest, steps) in table {
            let window: ReplayWindow = at(*highest);
            for (step, &(counter, expected)) in steps.iter().enumerate() {
                assert_eq!(window.check(counter), expected, "check, from {highest}, step {step}: {counter}");
                assert_eq!(
                    window.commit(counter),
                    expected,
                    "commit, from {highest}, step {step}: {counter}"
                );
            }
        }
    }

    //= ZSSP-RPL-01  the check leaves nothing behind
    #[test]
    fn checking_changes_nothing() {
        let window = ReplayWindow::new();
        for _ in 0..3 {
            assert_eq!(window.check(1000), Ok(()));
        }
        assert_eq!(window.commit(1000), Ok(()));
        assert_eq!(window.check(1000 + MAX_AHEAD), Ok(()));
        assert_eq!(window.check(1001 + MAX_AHEAD), Err(TooFarAhead));
        assert_eq!(window.check(0), Ok(()));
    }

    #[test]
    fn no_window_reaches_beyond_its_numbers() {
        assert_eq!(LAST, 2176 * (1 << 48) - 1);
        assert_eq!(Window::<2048>::LAST, (1 << 62) - 1);
        let window = at::<2049>(Window::<2049>::LAST);
        assert_eq!(window.commit(Window::<2049>::LAST), Ok(()));
        assert_eq!(window.commit(u64::MAX), Err(TooFarAhead));
    }

    //= ZSSP-DEF-18  at least 2048 counters
    #[test]
    fn a_full_window_is_remembered() {
        let window = ReplayWindow::new();
        for counter in 0..100_000 {
            assert_eq!(window.commit(counter), Ok(()));
        }
        // 100,000 is in the stretch that begins with 99,968.
        assert_eq!(window.check(99_968 - WINDOW - 1), Err(TooOld));
        for counter in 99_968 - WINDOW..100_000 {
            assert_eq!(window.check(counter), Err(Duplicate), "{counter}");
        }
    }

    /// PROTOCOL 3.4 said slowly: every counter ever received, in a set.
    struct Oracle {
        received: BTreeSet<u64>,
        highest: u64,
    }

    impl Oracle {
        fn check<const STRETCHES: usize>(&self, counter: u64) -> Result<(), Replay> {
            if counter > Window::<STRETCHES>::LAST || counter > self.highest.saturating_add(MAX_AHEAD) {
                Err(TooFarAhead)
            } else if counter / STRETCH + STRETCHES as u64 <= self.highest / STRETCH {
                Err(TooOld)
            } else if self.received.contains(&counter) {
                Err(Duplicate)
            } else {
                Ok(())
            }
        }
    }

    /// Commits `steps`, distances from the highest counter so far or any numbers, to a window and to the oracle.
    fn compare<const STRETCHES: usize>(start: u64, steps: &[Step]) -> Result<(), TestCaseError> {
        let start = start.min(Window::<STRETCHES>::LAST) / STRETCH * STRETCH;
        let window = at::<STRETCHES>(start);
        let mut oracle = Oracle { received: BTreeSet::new(), highest: start };
        for step in steps {
            let counter = match *step {
                Step::Anywhere(counter) => counter,
                Step::Near(distance) => oracle.highest.saturating_add_signed(distance),
            };
            let expected = oracle.check::<STRETCHES>(counter);
            prop_assert_eq!(window.check(counter), expected, "check {}", counter);
            prop_assert_eq!(window.commit(counter), expected, "commit {}", counter);
            if expected.is_ok() {
                oracle.received.insert(counter);
                oracle.highest = oracle.highest.max(counter);
            }
        }
        Ok(())
    }

    #[derive(Debug, Clone)]
    enum Step {
        Anywhere(u64),
        Near(i64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (-40..40_i64).prop_map(Step::Near),
            4 => (-2300..2300_i64).prop_map(Step::Near),
            2 => (-9000..9000_i64).prop_map(Step::Near),
            1 => (-2..=2_i64).prop_map(|distance| Step::Near(MAX_AHEAD.cast_signed() + distance)),
            1 => any::<u64>().prop_map(Step::Anywhere),
        ];
        prop::collection::vec(step, 0..600)
    }

    fn start() -> impl Strategy<Value = u64> {
        prop_oneof![
            3 => Just(0),
            1 => 0..10_000_u64,
            1 => any::<u64>().prop_map(|bits| bits >> 5),
            1 => (0..20_000_u64).prop_map(|below| LAST - below),
        ]
    }

    proptest! {
        #[test]
        fn matches_the_oracle(start in start(), steps in steps()) {
            compare::<STRETCHES>(start, &steps)?;
        }

        #[test]
        fn a_small_window_matches_the_oracle(start in start(), steps in steps()) {
            compare::<2>(start, &steps)?;
            compare::<3>(start, &steps)?;
        }
    }

    const THREADS: u64 = 4;

    //= ZSSP-RPL-03  exactly one winner
    #[test]
    fn threads_with_the_same_counters_have_one_winner_each() {
        const ROUNDS: u64 = 100;
        let window = ReplayWindow::new();
        let winners: Vec<AtomicU8> = (0..ROUNDS * WINDOW).map(|_| AtomicU8::new(0)).collect();
        let barrier = Barrier::new(THREADS as usize);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (window, winners, barrier) = (&window, &winners, &barrier);
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        // All of a round stays inside the window; each thread has its own order (the factors are odd).
                        barrier.wait();
                        for i in 0..WINDOW {
                            let counter = round * WINDOW + (i * (2 * thread + 1) + thread) % WINDOW;
                            if window.check(counter).is_ok() && window.commit(counter).is_ok() {
                                winners[counter as usize].fetch_add(1, Relaxed);
                            }
                        }
                    }
                });
            }
        });
        for (counter, winners) in winners.iter().enumerate() {
            assert_eq!(winners.load(Relaxed), 1, "winners of {counter}");
        }
    }

    //= ZSSP-SEC-03  nothing is accepted twice
    #[test]
    fn threads_that_overtake_each_other_accept_nothing_twice() {
        const COUNTERS: u64 = 200_000;
        // A window of 128: whoever is a little late finds its word taken by a later round.
        let window = Window::<2>::new();
        let winners: Vec<AtomicU8> = (0..COUNTERS).map(|_| AtomicU8::new(0)).collect();
        let barrier = Barrier::new(THREADS as usize);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    barrier.wait();
                    for counter in 0..COUNTERS {
                        if window.commit(counter).is_ok() {
                            winners[counter as usize].fetch_add(1, Relaxed);
                        }
                    }
                });
            }
        });
        assert!(winners.iter().all(|winners| winners.load(Relaxed) <= 1));
        // Nobody is above the last 128, so nothing can overtake them.
        for counter in COUNTERS - 128..COUNTERS {
            assert_eq!(winners[counter as usize].load(Relaxed), 1, "winners of {counter}");
        }
    }
}
