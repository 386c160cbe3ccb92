//! The counters of challenges: taken and answered by all receiving threads at once, without a lock.
//!
//! The models below try the interleavings of a few threads with loom, as those of the replay window, which decides here too:
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p zssp-proto --lib --release --target-dir target/loom loom
//! ```

use core::fmt;
use std::sync::OnceLock;

use crate::session::Window;
use crate::sync::{AtomicU64, Ordering::Relaxed};

/// Which counter is the next, and which were answered.
pub(super) struct Counters<const STRETCHES: usize> {
    /// The counter of the next challenge. 0 is what a hello has that was never challenged.
    next: AtomicU64,
    /// Which challenges were answered; each can be once. Made with the first challenge.
    answered: OnceLock<Box<Window<STRETCHES>>>,
}

impl<const STRETCHES: usize> Counters<STRETCHES> {
    /// A challenge can be answered until so many later ones were taken, at least.
    const ANSWERABLE: u64 = Window::<STRETCHES>::WINDOW;

    pub(super) fn new() -> Self {
        Self { next: AtomicU64::new(1), answered: OnceLock::new() }
    }

    /// The counter of another challenge, which nobody else gets.
    pub(super) fn take(&self) -> u64 {
        let counter = self.next.fetch_add(1, Relaxed);
        let answered = self.answered.get_or_init(|| Box::new(Window::new()));
        // Or a flood that never answers would leave the answered ones behind, and the next one too far ahead of them.
        answered.raise(counter.saturating_sub(Self::ANSWERABLE / 2));
        counter
    }

    /// The counter that the next challenge will have.
    pub(super) fn next(&self) -> u64 {
        self.next.load(Relaxed)
    }

    /// Whether an answer to this challenge is worth a hash.
    pub(super) fn may_be_answered(&self, counter: u64) -> bool {
        counter != 0 && self.answered.get().is_some_and(|answered| answered.check(counter).is_ok())
    }

    /// Whether the challenge was not answered before, by any thread. The answer must be good otherwise.
    pub(super) fn answer(&self, counter: u64) -> bool {
        counter != 0 && self.answered.get().is_some_and(|answered| answered.commit(counter).is_ok())
    }

    /// Has the next challenge have this counter.
    #[cfg(test)]
    pub(super) fn advance(&self, counter: u64) {
        self.next.store(counter, Relaxed);
    }
}

impl<const STRETCHES: usize> fmt::Debug for Counters<STRETCHES> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counters").field("next", &self.next).finish_non_exhaustive()
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    /// Two stretches: a challenge can be answered until 128 later ones were taken.
    type Small = Counters<2>;

    /// Counters of which `first` is the next. Somebody was challenged before, as the allocation is not what is modelled.
    fn counters(first: u64) -> Arc<Small> {
        let counters = Arc::new(Small::new());
        counters.advance(first - 1);
        counters.take();
        counters
    }

    /// Both are challenged, and both answer: neither keeps the other from it.
    #[test]
    fn loom_challenged_at_once() {
        for first in [2, 128, 300] {
            loom::model(move || {
                let counters = counters(first);
                let answer = |counters: &Small| {
                    let counter = counters.take();
                    (counter, counters.may_be_answered(counter), counters.answer(counter))
                };
                let other = {
                    let counters = counters.clone();
                    thread::spawn(move || answer(&counters))
                };
                let one = answer(&counters);
                let other = other.join().expect("the thread does not panic");
                assert_ne!(one.0, other.0);
                assert_eq!(
                    (one.1, one.2, other.1, other.2),
                    (true, true, true, true),
                    "{} {}",
                    one.0,
                    other.0
                );
                for counter in [one.0, other.0] {
                    assert!(!counters.may_be_answered(counter) && !counters.answer(counter));
                }
            });
        }
    }

    /// The same answer comes twice, while somebody else is challenged: it passes once.
    #[test]
    fn loom_one_answer_twice() {
        for first in [2, 128, 300] {
            loom::model(move || {
                let counters = counters(first);
                let counter = counters.take();
                let threads = [(); 2].map(|()| {
                    let counters = counters.clone();
                    thread::spawn(move || counters.may_be_answered(counter) && counters.answer(counter))
                });
                counters.take();
                let passed = threads.map(|thread| thread.join().expect("the thread does not panic"));
                assert_eq!(passed.iter().filter(|passed| **passed).count(), 1);
            });
        }
    }

    /// An answer comes twice while others are challenged that make it too old: it passes once at most, and not after.
    #[test]
    fn loom_overtaken() {
        loom::model(|| {
            let counters = counters(2);
            let old = counters.take();
            let flood = {
                let counters = counters.clone();
                thread::spawn(move || {
                    counters.advance(1000);
                    counters.take()
                })
            };
            let passed = [counters.answer(old), counters.answer(old)];
            assert!(!passed[1], "{passed:?}");
            let new = flood.join().expect("the thread does not panic");
            assert!(!counters.answer(old) && counters.answer(new) && !counters.answer(new));
        });
    }

    /// Of what a hello says that was never challenged, nothing is looked at, whatever is under way.
    #[test]
    fn loom_never_challenged() {
        loom::model(|| {
            let counters = Arc::new(Small::new());
            let first = {
                let counters = counters.clone();
                thread::spawn(move || counters.take())
            };
            assert!(!counters.may_be_answered(0) && !counters.answer(0));
            assert_eq!(first.join().expect("the thread does not panic"), 1);
            assert!(counters.answer(1));
        });
    }
}
