//! Acknowledgements that wait to be transmitted.

use alloc::collections::VecDeque;

use crate::{Ack, AckKind, SeqNo};

/// Runs of answered packets, ascending and apart from each other, at most `limit` of them. Ascending, because an
/// acknowledgement is evidence that what was sent before it and is not acknowledged was lost.
#[derive(Debug)]
pub(crate) struct AckQueue {
    /// The run of the latest packets. It stands beside the queue because most of the time it is the only one; it is empty
    /// when there is none.
    last: Run,
    /// Those before it.
    before: VecDeque<Run>,
    limit: usize,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    first: SeqNo,
    count: u32,
}

impl AckQueue {
    pub(crate) fn new(limit: usize) -> Self {
        Self { last: Run::EMPTY, before: VecDeque::new(), limit }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.last.count == 0
    }

    /// The oldest packet in here.
    pub(crate) fn first(&self) -> Option<SeqNo> {
        let run = self.before.front().unwrap_or(&self.last);
        (run.count > 0).then_some(run.first)
    }

    pub(crate) fn contains(&self, seq: SeqNo) -> bool {
        let before = || self.before.get(self.begun_by(seq).checked_sub(1)?);
        self.last.contains(seq) || before().is_some_and(|run| run.contains(seq))
    }

    /// Adds a run.
    #[inline]
    pub(crate) fn push(&mut self, first: SeqNo, count: u32) {
        let run = Run { first, count };
        if self.is_empty() {
            self.last = run;
        } else if !self.last.absorb(run) {
            self.push_apart(run);
        }
    }

    /// Takes out the oldest run.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Ack> {
        if self.is_empty() {
            return None;
        }
        let Run { first, count } = match self.before.pop_front() {
            Some(run) => run,
            None => core::mem::replace(&mut self.last, Run::EMPTY),
        };
        Some(Ack { kind: AckKind::Answered, first, count })
    }

    pub(crate) fn clear(&mut self) {
        self.last = Run::EMPTY;
        self.before.clear();
    }

    /// Adds a run that does not continue the last one.
    fn push_apart(&mut self, run: Run) {
        // Only with duplicates among them there are so many, and whoever sent this one will ask again.
        let is_full = self.before.len() + 1 >= self.limit;
        if run.first.is_after(self.last.first) {
            if !is_full {
                self.before.push_back(core::mem::replace(&mut self.last, run));
            }
            return;
        }
        // Packets are not always answered in the order in which they came.
        let mut index = self.begun_by(run.first);
        if index > 0 && self.before[index - 1].absorb(run) {
            index -= 1;
        } else if !is_full {
            self.before.insert(index, run);
        } else {
            return;
        }
        while let Some(&next) = self.before.get(index + 1)
            && self.before[index].absorb(next)
        {
            self.before.remove(index + 1);
        }
        if index + 1 == self.before.len()
            && self.before[index].absorb(self.last)
            && let Some(joined) = self.before.pop_back()
        {
            self.last = joined;
        }
    }

    /// How many runs of those before the last begin no later than `seq`.
    fn begun_by(&self, seq: SeqNo) -> usize {
        self.before.partition_point(|run| !run.first.is_after(seq))
    }
}

impl Run {
    const EMPTY: Self = Self { first: SeqNo::new(0), count: 0 };

    fn contains(&self, seq: SeqNo) -> bool {
        seq.since(self.first) < self.count
    }

    /// Grows by another run that begins in this one or right behind it; `false` if it does not.
    fn absorb(&mut self, other: Self) -> bool {
        let offset = other.first.since(self.first);
        let touches = offset <= self.count;
        if touches {
            self.count = self.count.max(offset.saturating_add(other.count));
        }
        touches
    }
}

#[cfg(test)]
mod tests {
    use alloc::{collections::BTreeSet, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    fn drain(queue: &mut AckQueue) -> Vec<(SeqNo, u32)> {
        core::iter::from_fn(|| queue.pop().map(|ack| (ack.first, ack.count))).collect()
    }

    #[test]
    fn there_are_no_more_runs_than_allowed() {
        let mut queue = AckQueue::new(2);
        let seq = SeqNo::new;
        assert!(queue.is_empty() && queue.pop().is_none());
        queue.push(seq(u32::MAX), 1);
        queue.push(seq(0), 2);
        assert!(queue.contains(seq(1)) && !queue.contains(seq(2)));
        queue.push(seq(7), 1);
        queue.push(seq(9), 1); // no room
        queue.push(seq(3), 1); // nor here
        queue.push(seq(8), 1);
        queue.push(seq(2), 1);
        assert_eq!(drain(&mut queue), [(seq(u32::MAX), 4), (seq(7), 2)]);
        queue.push(seq(7), 1);
        queue.clear();
        assert!(queue.is_empty() && queue.first().is_none());
    }

    proptest! {
        #[test]
        fn runs_come_out_ascending_and_as_long_as_can_be(
            start in any::<u32>(),
            pushed in proptest::collection::vec((0..60_u32, 1..4_u32), 0..40),
        ) {
            let mut queue = AckQueue::new(1000);
            let mut model = BTreeSet::new();
            for &(offset, count) in &pushed {
                queue.push(SeqNo::new(start).plus(offset), count);
                model.extend(offset..offset + count);
            }
            for offset in 0..64 {
                prop_assert_eq!(queue.contains(SeqNo::new(start).plus(offset)), model.contains(&offset));
            }
            let mut runs: Vec<(SeqNo, u32)> = Vec::new();
            for &offset in &model {
                match runs.last_mut() {
                    Some((first, count)) if first.plus(*count) == SeqNo::new(start).plus(offset) => *count += 1,
                    _ => runs.push((SeqNo::new(start).plus(offset), 1)),
                }
            }
            prop_assert_eq!(queue.first(), runs.first().map(|run| run.0));
            prop_assert_eq!(drain(&mut queue), runs);
        }
    }
}
