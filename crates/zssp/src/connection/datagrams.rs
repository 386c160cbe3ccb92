//! Datagrams, in both directions: any number of tasks queue and receive them at once, past the connection's state. Which
//! leave is chosen in [rounds](super::sending), together with messages.
//!
//! ```text
//! send_datagram --space--> outbox --> a round of the driver or a helper --> the link
//! the link --> receive tasks --> inbox --> read_datagram
//! ```

mod inbox;
mod outbox;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore};

use inbox::Inbox;
pub(super) use inbox::cost;
use outbox::Outbox;

use super::outgoing::Outgoing;
use super::sending::Budget;
use crate::config::Overflow;
use crate::frame;
use crate::stats::Counter;

/// The datagrams of one connection that wait, for the link or for the application.
#[derive(Debug)]
pub(crate) struct Datagrams {
    /// Bytes that may yet be accepted. Closed when nothing more is.
    pub(super) space: Semaphore,
    outbox: Outbox,
    inbox: Inbox,
    /// What comes from now on is not taken in; of what is coming in that very moment, some may be.
    ended: AtomicBool,
    /// Wakes one who waits for a datagram.
    pub(super) arrived: Notify,
    overflow: Overflow,
    sent: Counter,
    bytes_sent: Counter,
    dropped: Counter,
}

impl Datagrams {
    /// Up to `limit` bytes wait in each direction.
    pub(crate) fn new(limit: usize, overflow: Overflow) -> Self {
        Self {
            space: Semaphore::new(limit),
            outbox: Outbox::new(),
            inbox: Inbox::new(limit),
            ended: AtomicBool::new(false),
            arrived: Notify::new(),
            overflow,
            sent: Counter::default(),
            bytes_sent: Counter::default(),
            dropped: Counter::default(),
        }
    }
}

/// Out.
impl Datagrams {
    /// Accepts a datagram, for which room was taken in `space`. It is handed back once nothing is accepted any more.
    pub(super) fn push(&self, data: Bytes) -> Result<(), Bytes> {
        self.outbox.push(data)
    }

    /// Moves payloads into `out` until `budget` is spent, or just above.
    pub(super) fn take(&self, budget: &mut Budget, out: &mut Vec<Outgoing>) -> Taken {
        let mut taken = Taken::default();
        while !budget.is_spent()
            && let Some(data) = self.outbox.pop()
        {
            taken.count += 1;
            taken.cost += cost(data.len());
            let len = data.len() + frame::DATAGRAM_OVERHEAD;
            taken.bytes += len;
            taken.longest = taken.longest.max(len);
            // So many small ones take no more memory than few large ones.
            budget.spend(cost(data.len()));
            out.push(Outgoing::new(data).start(&[frame::DATAGRAM]));
        }
        taken
    }

    /// What was taken has gone to the link.
    pub(super) fn sent(&self, taken: Taken) {
        if taken.count > 0 {
            self.sent.add(taken.count as u64);
            self.bytes_sent.add(taken.bytes as u64);
            self.space.add_permits(taken.cost);
            self.outbox.sent(taken.count);
        }
    }

    pub(super) fn wait_to_be_sent(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Accepts nothing any more.
    pub(super) fn close(&self) {
        self.outbox.close();
        self.space.close();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.outbox.is_closed()
    }

    /// Whether all there ever will be went to the link.
    pub(super) fn are_over(&self) -> bool {
        self.outbox.is_over()
    }
}

/// In.
impl Datagrams {
    /// A datagram has arrived. Says whether the application should hear of it.
    pub(super) fn arrive(&self, data: Bytes) -> bool {
        if self.ended.load(Relaxed) {
            return false;
        }
        match self.overflow {
            Overflow::DropNewest => {
                let has_room = self.inbox.push_if_room(data);
                self.dropped.add(u64::from(!has_room));
                has_room
            }
            Overflow::DropOldest => {
                self.dropped.add(self.inbox.push_for_oldest(data));
                true
            }
        }
    }

    /// The next datagram for the application.
    pub(super) fn read(&self) -> Option<Bytes> {
        self.inbox.pop()
    }

    pub(super) fn wait_to_be_read(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// The connection is over: nothing goes and nothing comes any more. What came before can still be read.
    pub(super) fn end(&self) {
        self.close();
        self.ended.store(true, Relaxed);
        while self.outbox.pop().is_some() {}
        self.arrived.notify_waiters();
    }
}

/// Look.
impl Datagrams {
    /// Datagrams handed to the link, and their bytes.
    pub(super) fn sent_so_far(&self) -> (u64, u64) {
        (self.sent.load(), self.bytes_sent.load())
    }

    /// Datagrams that arrived and found no room.
    pub(super) fn dropped_so_far(&self) -> u64 {
        self.dropped.load()
    }
}

/// Datagrams on their way from the outbox to the link.
#[derive(Debug, Default, Clone, Copy)]
#[must_use = "they count as pending until they are sent"]
pub(super) struct Taken {
    pub(super) bytes: usize,
    /// Bytes of the longest payload.
    pub(super) longest: usize,
    count: usize,
    cost: usize,
}

impl Taken {
    pub(super) fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.longest = self.longest.max(other.longest);
        self.count += other.count;
        self.cost += other.cost;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagrams(overflow: Overflow) -> Datagrams {
        Datagrams::new(10_000, overflow)
    }

    fn budget(bytes: usize) -> Budget {
        Budget::new(bytes, usize::MAX)
    }

    fn received(datagrams: &Datagrams) -> Vec<u8> {
        std::iter::from_fn(|| datagrams.read()).map(|data| data[0]).collect()
    }

    #[test]
    fn the_newest_or_the_oldest_are_dropped_and_counted() {
        for (overflow, kept) in [(Overflow::DropNewest, 0..9), (Overflow::DropOldest, 11..20)] {
            let datagrams = datagrams(overflow);
            for number in 0..20 {
                datagrams.arrive(vec![number; 1000].into());
            }
            assert_eq!(datagrams.dropped_so_far(), 11);
            assert_eq!(received(&datagrams), kept.collect::<Vec<_>>());
            assert_eq!(datagrams.inbox.held(), 0);
        }
    }

    #[test]
    fn one_that_is_larger_than_the_buffer_still_gets_through() {
        let datagrams = datagrams(Overflow::DropNewest);
        assert!(datagrams.arrive(vec![1; 20_000].into()));
        assert!(!datagrams.arrive(vec![2; 1].into()));
        assert_eq!(received(&datagrams), [1]);
    }

    #[test]
    fn what_was_accepted_is_pending_until_it_is_sent() {
        let datagrams = datagrams(Overflow::DropNewest);
        let mut out = Vec::new();
        datagrams.push(Bytes::from_static(b"first")).unwrap();
        datagrams.push(Bytes::from_static(b"second")).unwrap();
        datagrams.close();
        assert_eq!(datagrams.push(Bytes::from_static(b"late")), Err(Bytes::from_static(b"late")));
        let first = datagrams.take(&mut budget(1), &mut out);
        assert_eq!((out.len(), out[0].len()), (1, 6), "the budget is met by the first");
        assert!(datagrams.wait_to_be_sent());
        let second = datagrams.take(&mut budget(1000), &mut out);
        datagrams.sent(second);
        assert!(!datagrams.are_over(), "the first is still under way");
        datagrams.sent(first);
        assert!(datagrams.are_over());
        assert_eq!(datagrams.sent_so_far(), (2, 13));
    }

    #[test]
    fn what_is_taken_at_a_time_is_bounded_however_small_the_datagrams() {
        let (datagrams, mut out) = (datagrams(Overflow::DropNewest), Vec::new());
        for _ in 0..10_000 {
            datagrams.push(Bytes::new()).unwrap();
        }
        datagrams.sent(datagrams.take(&mut budget(64_000), &mut out));
        assert_eq!(out.len(), 64_000 / cost(0));
    }

    #[test]
    fn after_the_end_nothing_comes_and_what_came_is_there() {
        let datagrams = datagrams(Overflow::DropNewest);
        datagrams.push(Bytes::from_static(b"unsent")).unwrap();
        assert!(datagrams.arrive(Bytes::from_static(&[1])));
        datagrams.end();
        assert!(!datagrams.arrive(Bytes::from_static(&[2])));
        assert!(!datagrams.wait_to_be_sent());
        assert_eq!(received(&datagrams), [1]);
    }
}
