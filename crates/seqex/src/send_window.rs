//! What was sent and is not answered: a ring of slots indexed by sequence number.

use alloc::{vec, vec::Vec};

use crate::{Capacity, Message, Order, SeqNo, nanos::Nanos};

/// Where a packet is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Answered, or never used.
    Vacant,
    /// Not transmitted yet.
    Fresh,
    /// Transmitted, not heard of.
    InFlight,
    /// To be transmitted again.
    Queued,
    /// Somebody else sees to it that it arrives.
    Entrusted,
    /// The peer has it and will answer.
    Held,
}

/// One slot of the ring.
#[derive(Debug)]
pub(crate) struct Slot<S> {
    pub(crate) status: Status,
    /// What of it was taken for lost last, if it is not known to have arrived since.
    pub(crate) lost: Option<Loss>,
    pub(crate) transmissions: u32,
    /// How often the peer has said anew that it holds it.
    pub(crate) holds: u32,
    /// The number of the latest transmission, unique over the exchange's life.
    pub(crate) number: u64,
    pub(crate) sent_at: Nanos,
    pub(crate) queued_at: Nanos,
    order: Order,
    taker: Taker,
    reply_to: Option<SeqNo>,
    data: Option<S>,
}

/// A transmission that was taken for lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) cause: Cause,
    pub(crate) sent_at: Nanos,
}

/// Why a packet was taken for lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Later ones had arrived.
    Evidence,
    /// Nothing had, for long.
    Timeout,
}

/// Which drain the answer to a packet comes out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taker {
    /// The one for all deliveries.
    Anyone,
    /// The one for answers, since the packet's answer was claimed.
    Claimant,
}

/// Data that was sent, with its number. Not a tuple: those keep their last field last, and padding in the middle makes
/// copies of small data wait for the stores before them.
#[derive(Debug)]
pub(crate) struct Numbered<S> {
    pub(crate) data: S,
    pub(crate) seq: SeqNo,
}

impl<S> Numbered<S> {
    pub(crate) fn into_pair(self) -> (SeqNo, S) {
        (self.seq, self.data)
    }
}

/// A packet that has just been answered.
#[derive(Debug)]
pub(crate) struct Answered<S> {
    pub(crate) data: S,
    pub(crate) taker: Taker,
    pub(crate) journey: Journey,
}

/// How a packet that has just been answered had travelled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Journey {
    pub(crate) status: Status,
    pub(crate) lost: Option<Loss>,
    pub(crate) transmissions: u32,
    pub(crate) number: u64,
    pub(crate) sent_at: Nanos,
}

impl Journey {
    /// Whether it was transmitted once and nothing was heard of it since.
    #[inline]
    pub(crate) fn is_direct(&self) -> bool {
        self.transmissions == 1 && self.status == Status::InFlight
    }

    /// Why it was taken for lost, if it was and is not known to have arrived since.
    #[inline]
    pub(crate) fn lost_by(&self) -> Option<Cause> {
        self.lost.map(|loss| loss.cause)
    }

    /// Whether what is heard of it may be the answer to a question about it: it was transmitted again, or held.
    #[inline]
    pub(crate) fn may_answer_question(&self) -> bool {
        self.transmissions > 1 || !matches!(self.status, Status::Entrusted | Status::InFlight)
    }
}

/// The ring. `oldest <= fresh <= next` and `next - oldest` never exceeds the slots there are, which never exceed the
/// capacity.
#[derive(Debug)]
pub(crate) struct SendWindow<S> {
    /// A power of two of them, and one of them free as long as there are fewer than the capacity.
    slots: Vec<Slot<S>>,
    capacity: u32,
    /// The oldest packet without an answer, or `next`.
    oldest: SeqNo,
    /// The oldest packet never transmitted, or `next`.
    fresh: SeqNo,
    /// The number of the next packet to be sent.
    next: SeqNo,
    /// Packets without an answer.
    unanswered: u32,
}

impl<S> SendWindow<S> {
    pub(crate) fn new(capacity: Capacity, first: SeqNo) -> Self {
        let (slots, capacity) = (vec![Slot::vacant()], capacity.packets());
        Self { slots, capacity, oldest: first, fresh: first, next: first, unanswered: 0 }
    }

    /// How many numbers are in use, from the oldest packet without an answer to the newest.
    pub(crate) fn span(&self) -> u32 {
        self.next.since(self.oldest)
    }

    pub(crate) fn unanswered(&self) -> u32 {
        self.unanswered
    }

    /// Takes in a packet. The caller has seen that `span` is below the capacity.
    #[inline]
    pub(crate) fn push(&mut self, now: Nanos, message: Message<S>) {
        debug_assert!(self.span() < self.capacity && message.seq == self.next);
        let Message { seq, reply_to, order, data } = message;
        *self.slot_mut(seq) = Slot {
            status: Status::Fresh,
            lost: None,
            holds: 0,
            transmissions: 0,
            number: 0,
            sent_at: now,
            queued_at: now,
            order,
            taker: Taker::Anyone,
            reply_to,
            data: Some(data),
        };
        self.next = seq.next();
        self.unanswered += 1;
        // For the next one, since by then its data would be in the way.
        if self.span() as usize == self.slots.len() && self.span() < self.capacity {
            self.grow();
        }
    }

    /// The number the next packet gets.
    pub(crate) fn next_seq(&self) -> SeqNo {
        self.next
    }

    /// Whether the packet was sent and is not answered.
    pub(crate) fn contains(&self, seq: SeqNo) -> bool {
        seq.since(self.oldest) < self.span() && self.slot(seq).status != Status::Vacant
    }

    /// The oldest packet without an answer.
    pub(crate) fn oldest(&self) -> Option<(SeqNo, &Slot<S>)> {
        (self.unanswered > 0).then(|| (self.oldest, self.slot(self.oldest)))
    }

    /// The oldest packet that was never transmitted; from now on it counts as transmitted.
    pub(crate) fn take_fresh(&mut self) -> Option<SeqNo> {
        let seq = self.fresh;
        if seq == self.next {
            return None;
        }
        self.fresh = seq.next();
        Some(seq)
    }

    /// The packets of a run that were transmitted and may be without an answer: where they start, how many they are.
    pub(crate) fn transmitted_part(&self, first: SeqNo, count: u32) -> (SeqNo, u32) {
        let transmitted = self.fresh.since(self.oldest);
        let skipped = first.since(self.oldest);
        if skipped < transmitted {
            return (first, count.min(transmitted - skipped));
        }
        let passed = self.oldest.since(first);
        (self.oldest, count.saturating_sub(passed).min(transmitted))
    }

    /// Takes out a packet that has been answered; `None` if it is not in here or was never transmitted.
    #[inline]
    pub(crate) fn answer(&mut self, seq: SeqNo) -> Option<Answered<S>> {
        if seq.since(self.oldest) >= self.fresh.since(self.oldest) {
            return None;
        }
        let slot = self.slot_mut(seq);
        let data = slot.data.take()?;
        let (journey, taker) = (slot.journey(), slot.taker);
        slot.status = Status::Vacant;
        self.unanswered -= 1;
        if seq == self.oldest {
            self.oldest = seq.next();
            while self.oldest != self.next && self.slot(self.oldest).status == Status::Vacant {
                self.oldest = self.oldest.next();
            }
        }
        Some(Answered { data, taker, journey })
    }

    /// Directs the answer to its claimant; `false` if it came already or the packet never was.
    pub(crate) fn claim(&mut self, seq: SeqNo) -> bool {
        let found = self.contains(seq);
        if found {
            self.slot_mut(seq).taker = Taker::Claimant;
        }
        found
    }

    /// Whether a packet was never transmitted.
    pub(crate) fn has_fresh(&self) -> bool {
        self.fresh != self.next
    }

    pub(crate) fn slot(&self, seq: SeqNo) -> &Slot<S> {
        &self.slots[seq.index(self.slots.len())]
    }

    pub(crate) fn slot_mut(&mut self, seq: SeqNo) -> &mut Slot<S> {
        let index = seq.index(self.slots.len());
        &mut self.slots[index]
    }

    /// Makes twice as many slots of it, all of which are in use.
    #[cold]
    #[inline(never)]
    fn grow(&mut self) {
        let len = self.slots.len();
        self.slots.resize_with(2 * len, Slot::vacant);
        for offset in 0..len as u32 {
            let seq = self.oldest.plus(offset);
            // It stays, or moves into the new half.
            self.slots.swap(seq.index(len), seq.index(2 * len));
        }
    }

    /// Takes out everything without an answer, oldest first.
    pub(crate) fn clear(&mut self) -> Vec<(SeqNo, S)> {
        let mut rest = Vec::with_capacity(self.unanswered as usize);
        while self.oldest != self.next {
            let seq = self.oldest;
            let slot = self.slot_mut(seq);
            slot.status = Status::Vacant;
            rest.extend(slot.data.take().map(|data| (seq, data)));
            self.oldest = seq.next();
        }
        self.fresh = self.next;
        self.unanswered = 0;
        rest
    }
}

impl<S> Slot<S> {
    fn vacant() -> Self {
        Self {
            status: Status::Vacant,
            lost: None,
            holds: 0,
            transmissions: 0,
            number: 0,
            sent_at: Nanos::ZERO,
            queued_at: Nanos::ZERO,
            order: Order::Unordered,
            taker: Taker::Anyone,
            reply_to: None,
            data: None,
        }
    }

    pub(crate) fn journey(&self) -> Journey {
        let Self { status, lost, transmissions, number, sent_at, .. } = *self;
        Journey { status, lost, transmissions, number, sent_at }
    }

    pub(crate) fn data(&self) -> Option<&S> {
        self.data.as_ref()
    }

    /// The packet in here as it goes over the wire.
    pub(crate) fn message(&self, seq: SeqNo) -> Option<Message<&S>> {
        let data = self.data.as_ref()?;
        Some(Message { seq, reply_to: self.reply_to, order: self.order, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(first: u32) -> SendWindow<u32> {
        SendWindow::new(Capacity::new(4).unwrap(), SeqNo::new(first))
    }

    fn push(window: &mut SendWindow<u32>, data: u32) -> SeqNo {
        let seq = window.next_seq();
        let message = Message { seq, reply_to: None, order: Order::Unordered, data };
        window.push(Nanos::ZERO, message);
        seq
    }

    #[test]
    fn answers_move_the_window_only_past_its_oldest_packet() {
        let mut w = window(u32::MAX - 1);
        let seqs = [0, 1, 2, 3].map(|data| push(&mut w, data));
        assert_eq!(seqs[3], SeqNo::new(1));
        assert!(w.answer(seqs[0]).is_none(), "an answer to a packet never transmitted");
        while w.take_fresh().is_some() {}
        assert_eq!(w.answer(seqs[2]).map(|a| a.data), Some(2));
        assert_eq!((w.span(), w.unanswered()), (4, 3));
        assert!(w.answer(seqs[2]).is_none(), "a second answer");
        assert_eq!(w.answer(seqs[0]).map(|a| a.data), Some(0));
        assert_eq!(w.span(), 3);
        assert_eq!(w.answer(seqs[1]).map(|a| a.data), Some(1));
        assert_eq!(w.span(), 1);
        assert_eq!(w.clear(), [(seqs[3], 3)]);
        assert_eq!((w.span(), w.unanswered()), (0, 0));
    }

    #[test]
    fn only_the_transmitted_part_of_a_run_is_looked_at() {
        let mut w = window(u32::MAX);
        for data in 0..4 {
            push(&mut w, data);
        }
        for _ in 0..3 {
            w.take_fresh();
        }
        let part = |first: u32, count| {
            let (start, n) = w.transmitted_part(SeqNo::new(first), count);
            (start.to_u32(), n)
        };
        assert_eq!(part(u32::MAX, 2), (u32::MAX, 2));
        assert_eq!(part(0, u32::MAX), (0, 2));
        assert_eq!(part(u32::MAX - 10, 12), (u32::MAX, 2));
        assert_eq!(part(u32::MAX - 10, u32::MAX), (u32::MAX, 3));
        assert_eq!(part(u32::MAX - 10, 10).1, 0);
        assert_eq!(part(2, 5).1, 0);
    }
}
