//! Interleavings of a few threads on one replay window; the documentation of `replay` has the command.

use loom::sync::Arc;
use loom::thread;

use super::*;

/// Two stretches: the two newest are the window, and counters 256 apart share a word.
type Small = Window<2>;

/// Runs each list of commits on a thread of its own, and checks what must hold for every interleaving.
///
/// With three threads, for every interleaving of at most four preemptions, unless `LOOM_MAX_PREEMPTIONS` says
/// otherwise; all of them would take minutes.
fn model<const THREADS: usize>(threads: [&'static [u64]; THREADS]) {
    let mut builder = loom::model::Builder::new();
    if THREADS > 2 {
        builder.preemption_bound.get_or_insert(4);
    }
    builder.check(move || {
        let window = Arc::new(Small::new());
        let run = move |window: &Small, counters: &'static [u64]| {
            counters.iter().copied().filter(|&counter| window.commit(counter).is_ok()).collect::<Vec<_>>()
        };
        let others: Vec<_> = threads[1..]
            .iter()
            .map(|&counters| {
                let window = Arc::clone(&window);
                thread::spawn(move || run(&window, counters))
            })
            .collect();
        let mut accepted = run(&window, threads[0]);
        for other in others {
            accepted.extend(other.join().expect("the thread does not panic"));
        }

        let highest = threads.iter().copied().flatten().copied().max().expect("there are counters");
        assert_eq!(window.newest.0.load(Relaxed), highest / STRETCH);
        for &counter in threads.iter().copied().flatten() {
            let winners = accepted.iter().filter(|&&winner| winner == counter).count();
            assert!(winners <= 1, "{counter} was accepted {winners} times");
            let overtaken = counter / STRETCH + 2 <= highest / STRETCH;
            assert!(winners == 1 || overtaken, "{counter} has no winner");
            let expected = if overtaken { Replay::TooOld } else { Replay::Duplicate };
            assert_eq!(window.check(counter), Err(expected), "{counter} afterwards");
            assert_eq!(window.commit(counter), Err(expected), "{counter} afterwards");
        }
    });
}

#[test]
fn loom_same_counter() {
    model([&[5], &[5]]);
    model([&[5], &[5], &[5]]);
}

#[test]
fn loom_one_word() {
    model([&[5, 6], &[6, 5]]);
    model([&[5], &[6], &[5]]);
}

#[test]
fn loom_two_words() {
    model([&[15, 16], &[16, 15]]);
    model([&[15], &[16], &[16]]);
    model([&[127, 128], &[128, 127]]);
}

#[test]
fn loom_overtaken_by_a_later_round() {
    model([&[5], &[5, 261]]);
    model([&[5, 261], &[261, 5]]);
    model([&[5], &[5], &[261]]);
    model([&[5], &[261], &[517]]);
    model([&[5, 261], &[5, 517]]);
}

#[test]
fn loom_overtaken_by_the_window_alone() {
    // 300 makes both too old, and takes the word of neither.
    model([&[21], &[21], &[300]]);
    model([&[5, 21], &[300, 5]]);
}

#[test]
fn loom_refused_before_decryption_is_refused_for_good() {
    loom::model(|| {
        let window = Arc::new(Small::new());
        let committing = {
            let window = Arc::clone(&window);
            thread::spawn(move || (window.commit(5).is_ok(), window.commit(261).is_ok()))
        };
        let checked = window.check(5);
        let committed = window.commit(5);
        assert!(checked.is_ok() || committed.is_err());
        let (first, later) = committing.join().expect("the thread does not panic");
        assert!(later && !(first && committed.is_ok()));
    });
}

#[test]
fn loom_raised_meanwhile() {
    loom::model(|| {
        let window = Arc::new(Small::new());
        let raising = {
            let window = Arc::clone(&window);
            thread::spawn(move || window.raise(261))
        };
        let accepted = [window.commit(5), window.commit(5)].into_iter().filter(Result::is_ok).count();
        assert!(accepted <= 1);
        raising.join().expect("the thread does not panic");
        assert_eq!(window.commit(6), Err(Replay::TooOld));
    });
}
