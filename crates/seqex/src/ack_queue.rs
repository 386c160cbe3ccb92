//! Acknowledgements that wait to be transmitted.

use alloc::collections::VecDeque;

use crate::{Ack, AckKind, SeqNo};

/// Runs of answered packets, at most `limit` of them.
#[derive(Debug)]
pub(crate) struct AckQueue {
    /// The newest run, which can still grow. It stands beside the queue because most of the time it is the only one; it
    /// is empty when there is none.
    newest: Run,
    /// Those before it.
    complete: VecDeque<Run>,
    limit: usize,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    first: SeqNo,
    count: u32,
}

impl AckQueue {
    pub(crate) fn new(limit: usize) -> Self {
        Self { newest: Run::EMPTY, complete: VecDeque::new(), limit }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.newest.count == 0
    }

    /// Whether the newest run has this packet.
    pub(crate) fn ends_with(&self, seq: SeqNo) -> bool {
        seq.since(self.newest.first) < self.newest.count
    }

    /// Adds a run, to the newest one if it continues that.
    #[inline]
    pub(crate) fn push(&mut self, first: SeqNo, count: u32) {
        let Run { first: newest, count: length } = self.newest;
        if length > 0 {
            let offset = first.since(newest);
            if offset <= length {
                self.newest.count = length.max(offset.saturating_add(count));
                return;
            }
            // Only with duplicates among them there are so many, and whoever sent this one will ask again.
            if self.complete.len() + 1 >= self.limit {
                return;
            }
            self.complete.push_back(self.newest);
        }
        self.newest = Run { first, count };
    }

    /// Takes out the oldest run.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Ack> {
        let Run { first, count } = match self.complete.pop_front() {
            Some(run) => run,
            None => core::mem::replace(&mut self.newest, Run::EMPTY),
        };
        (count > 0).then_some(Ack { kind: AckKind::Answered, first, count })
    }

    pub(crate) fn clear(&mut self) {
        self.newest = Run::EMPTY;
        self.complete.clear();
    }
}

impl Run {
    const EMPTY: Self = Self { first: SeqNo::new(0), count: 0 };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_grow_and_come_out_in_order_and_there_are_no_more_than_allowed() {
        let mut queue = AckQueue::new(2);
        let seq = SeqNo::new;
        assert!(queue.is_empty() && queue.pop().is_none());
        queue.push(seq(u32::MAX), 1);
        queue.push(seq(0), 2);
        assert!(queue.ends_with(seq(1)) && !queue.ends_with(seq(2)));
        queue.push(seq(7), 1);
        queue.push(seq(9), 1); // no room
        queue.push(seq(8), 1);
        let runs: alloc::vec::Vec<_> =
            core::iter::from_fn(|| queue.pop().map(|ack| (ack.first, ack.count))).collect();
        assert_eq!(runs, [(seq(u32::MAX), 3), (seq(7), 2)]);
        queue.push(seq(7), 1);
        queue.clear();
        assert!(queue.is_empty());
    }
}
