//! When something must happen next: one deadline for each key, and one structure for all keys of a context.
//!
//! Nothing per session ticks. The caller sleeps until [`next_deadline`](Timers::next_deadline), then takes what is
//! due with [`pop_expired`](Timers::pop_expired) until nothing is left. Both cost the logarithm of the number of
//! keys, whether there are ten or a million, and a key without a deadline costs nothing.

use core::hash::Hash;
use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

/// The deadlines of many keys, at most one of each.
///
/// Keys with equal deadlines expire in the order of the keys, so a simulated run is the same every time.
/// Not synchronised; a context guards it with a ranked mutex and runs nothing under that lock.
#[derive(Debug)]
pub(crate) struct Timers<K> {
    /// What `deadlines` says, sorted: `(d, k)` is in here exactly if `deadlines[k] == d`.
    queue: BTreeSet<(Instant, K)>,
    deadlines: HashMap<K, Instant>,
}

impl<K: Copy + Ord + Hash> Timers<K> {
    /// No deadlines.
    pub(crate) fn new() -> Self {
        Self { queue: BTreeSet::new(), deadlines: HashMap::new() }
    }

    /// The earliest deadline of all; it may lie in the past. `None`: there is nothing to wait for.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.queue.first().map(|&(deadline, _)| deadline)
    }

    /// Sets the deadline of `key`, in place of the one it may have had.
    pub(crate) fn schedule(&mut self, key: K, deadline: Instant) {
        if let Some(previous) = self.deadlines.insert(key, deadline) {
            self.queue.remove(&(previous, key));
        }
        self.queue.insert((deadline, key));
    }

    /// Takes back the deadline of `key`; nothing happens if it has none.
    pub(crate) fn cancel(&mut self, key: K) {
        if let Some(deadline) = self.deadlines.remove(&key) {
            self.queue.remove(&(deadline, key));
        }
    }

    /// A key whose deadline has come, the longest overdue first; it has no deadline afterwards.
    pub(crate) fn pop_expired(&mut self, now: Instant) -> Option<K> {
        if self.next_deadline()? > now {
            return None;
        }
        let (_, key) = self.queue.pop_first()?;
        self.deadlines.remove(&key);
        Some(key)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::LazyLock;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    /// The only clock reading: an `Instant` cannot be made otherwise. All times are relative to it.
    #[expect(clippy::disallowed_methods, reason = "no other way to make an Instant")]
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);

    fn at(millis: u64) -> Instant {
        *START + Duration::from_millis(millis)
    }

    fn expired(timers: &mut Timers<u32>, now: u64) -> Vec<u32> {
        core::iter::from_fn(|| timers.pop_expired(at(now))).collect()
    }

    #[test]
    fn keys_expire_in_the_order_of_their_deadlines() {
        let mut timers = Timers::new();
        assert_eq!(timers.next_deadline(), None);
        assert_eq!(timers.pop_expired(at(0)), None);
        for (key, deadline) in [(1, 30), (2, 10), (4, 20), (3, 20)] {
            timers.schedule(key, at(deadline));
        }
        assert_eq!(timers.next_deadline(), Some(at(10)));
        assert_eq!(expired(&mut timers, 9), [0u32; 0]);
        assert_eq!(expired(&mut timers, 20), [2, 3, 4]);
        assert_eq!(timers.next_deadline(), Some(at(30)));
        assert_eq!(expired(&mut timers, 1000), [1]);
        assert_eq!(timers.next_deadline(), None);
    }

    #[test]
    fn a_new_deadline_replaces_the_previous_one() {
        let mut timers = Timers::new();
        timers.schedule(1, at(10));
        timers.schedule(2, at(15));
        timers.schedule(1, at(20));
        assert_eq!(expired(&mut timers, 15), [2]);
        timers.schedule(1, at(5));
        timers.schedule(1, at(5));
        assert_eq!(expired(&mut timers, 30), [1]);
    }

    #[test]
    fn a_cancelled_deadline_does_not_come() {
        let mut timers = Timers::new();
        timers.schedule(1, at(10));
        timers.schedule(2, at(10));
        timers.cancel(1);
        timers.cancel(1);
        timers.cancel(3);
        assert_eq!(expired(&mut timers, 10), [2]);
        timers.cancel(2);
        assert_eq!(timers.next_deadline(), None);
    }

    #[test]
    fn a_key_may_be_scheduled_anew_while_the_expired_ones_are_taken() {
        let mut timers = Timers::new();
        timers.schedule(1, at(10));
        assert_eq!(timers.pop_expired(at(10)), Some(1));
        timers.schedule(1, at(11));
        assert_eq!(timers.pop_expired(at(10)), None);
        assert_eq!(timers.pop_expired(at(11)), Some(1));
    }

    #[derive(Debug, Clone)]
    enum Command {
        Cancel(u32),
        PopExpired(u64),
        Schedule(u32, u64),
    }

    fn commands() -> impl Strategy<Value = Vec<Command>> {
        let command = prop_oneof![
            4 => (0..12_u32, 0..50_u64).prop_map(|(key, deadline)| Command::Schedule(key, deadline)),
            1 => (0..12_u32).prop_map(Command::Cancel),
            2 => (0..50_u64).prop_map(Command::PopExpired),
        ];
        prop::collection::vec(command, 0..200)
    }

    proptest! {
        #[test]
        fn matches_a_plain_list(commands in commands()) {
            let mut timers = Timers::new();
            let mut list: Vec<(Instant, u32)> = Vec::new();
            for command in commands {
                match command {
                    Command::Cancel(key) => {
                        timers.cancel(key);
                        list.retain(|&(_, other)| other != key);
                    }
                    Command::PopExpired(now) => {
                        let due = list.iter().copied().filter(|&(deadline, _)| deadline <= at(now)).min();
                        list.retain(|&entry| Some(entry) != due);
                        prop_assert_eq!(timers.pop_expired(at(now)), due.map(|(_, key)| key));
                    }
                    Command::Schedule(key, deadline) => {
                        timers.schedule(key, at(deadline));
                        list.retain(|&(_, other)| other != key);
                        list.push((at(deadline), key));
                    }
                }
                prop_assert_eq!(timers.next_deadline(), list.iter().map(|&(deadline, _)| deadline).min());
                // Nothing is left behind that nobody would ever take.
                prop_assert_eq!((timers.queue.len(), timers.deadlines.len()), (list.len(), list.len()));
            }
        }
    }
}
