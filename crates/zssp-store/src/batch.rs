//! Many writers, one commit at a time.
//!
//! A commit waits for the disk, and handshakes run in parallel. Whoever arrives while nobody commits becomes the leader
//! and commits everything that waits; who arrives meanwhile waits for the next leader. So one wait for the disk serves
//! as many writers as came together, and a lone writer does not wait for company.

use std::collections::HashMap;
use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Collects changes `C`, each to be answered by an `A`.
pub(crate) struct Batches<C, A> {
    waiting: Mutex<Waiting<C, A>>,
    answered: Condvar,
}

struct Waiting<C, A> {
    next: u64,
    changes: Vec<(u64, C)>,
    answers: HashMap<u64, Option<A>>,
    led: bool,
}

impl<C, A> Batches<C, A> {
    pub(crate) fn new() -> Self {
        let waiting = Waiting { next: 0, changes: Vec::new(), answers: HashMap::new(), led: false };
        Self { waiting: Mutex::new(waiting), answered: Condvar::new() }
    }

    /// Has `change` committed, alone or with others, and waits for the answer. `commit` runs on the thread of one of
    /// those that wait, with nothing locked, and gives an answer for each change, in order.
    ///
    /// `None` when it did not: it panicked on another thread.
    pub(crate) fn submit(&self, change: C, commit: impl FnOnce(Vec<C>) -> Vec<A>) -> Option<A> {
        let mut waiting = self.lock();
        let ticket = waiting.next;
        waiting.next += 1;
        waiting.changes.push((ticket, change));
        loop {
            if let Some(answer) = waiting.answers.remove(&ticket) {
                return answer;
            }
            if !waiting.led {
                break;
            }
            waiting = self.answered.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        waiting.led = true;
        let (tickets, changes): (Vec<_>, _) = mem::take(&mut waiting.changes).into_iter().unzip();
        drop(waiting);

        let own = tickets.iter().position(|waiting| *waiting == ticket);
        let mut leader = Leader { batches: self, own: ticket, tickets, answers: Vec::new() };
        leader.answers.extend(commit(changes).into_iter().map(Some));
        own.and_then(|own| leader.answers.get_mut(own)).and_then(Option::take)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<C, A>> {
        // Nothing can panic between the lines that change it: a poisoned one is whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands out the answers and makes room for the next leader, also when committing panicked.
struct Leader<'a, C, A> {
    batches: &'a Batches<C, A>,
    /// The leader's own ticket, whose answer it takes along.
    own: u64,
    tickets: Vec<u64>,
    answers: Vec<Option<A>>,
}

impl<C, A> Drop for Leader<'_, C, A> {
    fn drop(&mut self) {
        let mut answers = mem::take(&mut self.answers).into_iter();
        let mut waiting = self.batches.lock();
        for ticket in mem::take(&mut self.tickets) {
            let answer = answers.next().flatten();
            if ticket != self.own {
                waiting.answers.insert(ticket, answer);
            }
        }
        waiting.led = false;
        drop(waiting);
        self.batches.answered.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::thread;

    use super::*;

    #[test]
    fn everybody_gets_the_answer_to_their_own_change() {
        let batches = Batches::new();
        let (committing, commits) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for thread in 0..8u32 {
                let (batches, committing, commits) = (&batches, &committing, &commits);
                scope.spawn(move || {
                    for i in 0..500 {
                        let change = thread * 1000 + i;
                        let answer = batches.submit(change, |changes| {
                            assert_eq!(committing.fetch_add(1, Relaxed), 0, "two leaders at once");
                            commits.fetch_add(1, Relaxed);
                            thread::yield_now();
                            committing.fetch_sub(1, Relaxed);
                            changes.into_iter().map(|change| change + 7).collect()
                        });
                        assert_eq!(answer, Some(change + 7));
                    }
                });
            }
        });
        assert!(commits.load(Relaxed) <= 4000);
        let waiting = batches.lock();
        assert!(waiting.answers.is_empty() && waiting.changes.is_empty() && !waiting.led);
    }

    #[test]
    fn who_waits_during_a_commit_is_committed_together() {
        let batches = Batches::<u32, u32>::new();
        let started = Barrier::new(2);
        let sizes = Mutex::new(Vec::new());
        thread::scope(|scope| {
            scope.spawn(|| {
                batches.submit(0, |changes| {
                    started.wait();
                    // The others have arrived when their changes wait.
                    while batches.lock().changes.len() < 3 {
                        thread::yield_now();
                    }
                    sizes.lock().unwrap().push(changes.len());
                    changes
                })
            });
            started.wait();
            for change in 1..4 {
                let (batches, sizes) = (&batches, &sizes);
                scope.spawn(move || {
                    let answer = batches.submit(change, |changes| {
                        sizes.lock().unwrap().push(changes.len());
                        changes
                    });
                    assert_eq!(answer, Some(change));
                });
            }
        });
        assert_eq!(*sizes.lock().unwrap(), [1, 3]);
    }

    #[test]
    fn nobody_waits_for_a_leader_that_panicked() {
        let batches = Batches::<u32, u32>::new();
        let started = Barrier::new(2);
        thread::scope(|scope| {
            let leader = scope.spawn(|| {
                catch_unwind(AssertUnwindSafe(|| {
                    batches.submit(0, |_| {
                        started.wait();
                        while batches.lock().changes.is_empty() {
                            thread::yield_now();
                        }
                        panic!("the disk is on fire")
                    })
                }))
            });
            started.wait();
            assert_eq!(batches.submit(1, |changes| changes), Some(1));
            assert!(leader.join().unwrap().is_err());
        });
        // An unanswered change: the commit gave too few answers.
        assert_eq!(batches.submit(2, |_| Vec::new()), None);
        assert_eq!(batches.submit(3, |changes| changes), Some(3));
        assert!(batches.lock().answers.is_empty());
    }
}
