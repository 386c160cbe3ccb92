//! What the peer sent: stored until it may be delivered, remembered until its answer is safe.
//!
//! Four marks run over one ring of slots, each only forwards, so that their steps cost O(1) per packet:
//! `next` is the first packet not delivered, `arrived` the first that is missing, `beyond` the one
//! after the newest that arrived, and `hinted` the end of those whose holding has been looked at.
//!
//! The ring has as many slots as were needed at a time, up to the capacity. Needed is one for each packet from `next` on, and
//! for each before it of which the peer may not have the answer, unless that is an acknowledgement: a packet that has no slot
//! any more was answered, and is acknowledged if it comes again. Where the peer had a reply, it ignores that.

use alloc::{collections::VecDeque, vec, vec::Vec};

use crate::{
    Ack, AckKind, Capacity, Message, Order, SeqNo,
    ack_queue::AckQueue,
    send_window::{Numbered, Taker},
};

/// A stored packet: its data, and the packet of ours it answers.
#[derive(Debug)]
pub(crate) struct Stored<S, R> {
    pub(crate) order: Order,
    pub(crate) data: R,
    pub(crate) answers: Option<Numbered<S>>,
    pub(crate) taker: Taker,
}

/// What a packet's number says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Beyond the window, or so old that the peer cannot be waiting for an answer.
    Outside,
    /// Already stored, delivered or answered.
    Duplicate,
    /// To be stored.
    New,
    /// The same, but there may be too few slots.
    Crowded,
}

#[derive(Debug)]
struct Slot<S, R> {
    seq: SeqNo,
    state: State<S, R>,
}

#[derive(Debug)]
enum State<S, R> {
    Vacant,
    Stored(Stored<S, R>),
    Delivered,
    /// Answered by the reply of this number, which was never transmitted. To the peer it is as if it was still held.
    Replying(SeqNo),
    /// Answered by the reply of this number, or by an acknowledgement.
    Answered(Option<SeqNo>),
}

/// How many acknowledgements a duplicate fetches at most. Each is looked for once, however many duplicates come.
const ACKNOWLEDGED_AGAIN: u32 = 1024;

#[derive(Debug)]
pub(crate) struct ReceiveWindow<S, R> {
    /// A power of two of them.
    slots: Vec<Slot<S, R>>,
    capacity: u32,
    next: SeqNo,
    arrived: SeqNo,
    beyond: SeqNo,
    hinted: SeqNo,
    /// Unordered packets that arrived ahead of `next`, in order of arrival; some but never the front may be
    /// delivered already.
    ready: VecDeque<SeqNo>,
    /// Those among them that answer a packet whose answer is claimed.
    ready_answers: VecDeque<SeqNo>,
    /// The ordered packet whose critical section is not over.
    critical: Option<SeqNo>,
    acks: AckQueue,
    /// Packets to tell that they are held, ascending.
    hints: VecDeque<SeqNo>,
    stored: u32,
    unanswered: u32,
    /// Replies made and never transmitted.
    replying: u32,
}

impl<S, R> ReceiveWindow<S, R> {
    pub(crate) fn new(capacity: Capacity, first: SeqNo) -> Self {
        Self {
            slots: vec![Slot { seq: first, state: State::Vacant }],
            capacity: capacity.packets(),
            next: first,
            arrived: first,
            beyond: first,
            hinted: first,
            ready: VecDeque::new(),
            ready_answers: VecDeque::new(),
            critical: None,
            acks: AckQueue::new(capacity.packets() as usize),
            hints: VecDeque::new(),
            stored: 0,
            unanswered: 0,
            replying: 0,
        }
    }

    /// Packets delivered whose answer is still to be made.
    pub(crate) fn unanswered(&self) -> u32 {
        self.unanswered
    }

    /// Whether everything that arrived was delivered and answered, and the answers were drained.
    pub(crate) fn is_idle(&self) -> bool {
        self.stored == 0 && self.unanswered == 0 && self.acks.is_empty()
    }

    /// Whether something that arrived is not answered.
    #[cfg(feature = "std")]
    pub(crate) fn holds(&self) -> bool {
        self.stored + self.unanswered > 0
    }

    /// Whether nothing waits to be delivered.
    pub(crate) fn is_empty(&self) -> bool {
        self.stored == 0
    }

    pub(crate) fn classify(&self, seq: SeqNo) -> Arrival {
        let slot = self.slot(seq);
        let distance = seq.since(self.next);
        //= ZSSP-SEQ-14  next <= seq < next + CAP, in wrapping arithmetic
        if distance < self.capacity {
            return match slot.state {
                //= ZSSP-SEQ-05  a slot takes each packet once
                State::Answered(_) | State::Delivered | State::Replying(_) | State::Stored(_)
                    if slot.seq == seq =>
                {
                    Arrival::Duplicate
                }
                // Beyond the slots it would take the one of a packet from which its own duplicates are to be told.
                State::Answered(None) | State::Vacant if (distance as usize) < self.slots.len() => {
                    Arrival::New
                }
                State::Answered(_) | State::Vacant => Arrival::Crowded,
                // With all slots there may be, the two would still share one. A peer that keeps to the capacity sends this one
                // only after the answer to the other.
                _ if seq.index(self.capacity as usize) == slot.seq.index(self.capacity as usize) => {
                    Arrival::Outside
                }
                State::Delivered | State::Replying(_) | State::Stored(_) => Arrival::Crowded,
            };
        }
        //= ZSSP-SEQ-15  beyond the window: dropped
        // What the peer still waits for is at most a capacity old.
        if self.next.since(seq) <= self.capacity { Arrival::Duplicate } else { Arrival::Outside }
    }

    /// Makes slots until one is free for a packet that [`classify`](Self::classify) found to be new. `reply_waits` tells
    /// whether a reply of ours is still to be acknowledged.
    pub(crate) fn make_room(&mut self, seq: SeqNo, reply_waits: impl Fn(SeqNo) -> bool) {
        while (self.slots.len() as u32) < self.capacity && !self.has_room(seq, &reply_waits) {
            self.grow();
        }
    }

    fn has_room(&self, seq: SeqNo, reply_waits: impl Fn(SeqNo) -> bool) -> bool {
        (seq.since(self.next) as usize) < self.slots.len()
            && match self.slot(seq).state {
                State::Vacant | State::Answered(None) => true,
                State::Answered(Some(reply)) => !reply_waits(reply),
                State::Delivered | State::Replying(_) | State::Stored(_) => false,
            }
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) {
        let len = self.slots.len();
        let first = self.next;
        self.slots.resize_with(2 * len, || Slot { seq: first, state: State::Vacant });
        for index in 0..len {
            let Slot { seq, state } = &self.slots[index];
            if !matches!(state, State::Vacant) {
                // It stays, or moves into the new half.
                let place = seq.index(2 * len);
                self.slots.swap(index, place);
            }
        }
    }

    /// Stores a packet that [`classify`](Self::classify) found new; if its slots are crowded, after
    /// [`make_room`](Self::make_room).
    pub(crate) fn store(&mut self, message: Message<R>, answers: Option<Numbered<S>>, taker: Taker) {
        let Message { seq, order, data, .. } = message;
        *self.slot_mut(seq) = Slot { seq, state: State::Stored(Stored { order, data, answers, taker }) };
        self.stored += 1;
        // Those before it were looked at already, so later ones are known to the sender: this one is late.
        if self.hinted.is_after(seq) {
            self.hint(seq);
        }
        if !self.beyond.is_after(seq) {
            self.beyond = seq.next();
        }
        if seq == self.arrived {
            self.arrived = seq.next();
            while self.arrived != self.beyond && self.has_arrived(self.arrived) {
                self.arrived = self.arrived.next();
            }
        } else if order == Order::Ordered && seq.is_after(self.arrived) {
            // It waits for a missing packet. Saying so lets the sender see which one is missing.
            self.hint_up_to(seq.next());
        }
        if order == Order::Unordered && seq != self.next {
            self.ready_mut(taker).push_back(seq);
        }
    }

    /// Sees to it that the sender of a duplicate learns what it waits for. `reply_waits` tells whether
    /// a reply of ours is still to be acknowledged, and so will be resent by itself.
    #[cold]
    pub(crate) fn on_duplicate(&mut self, seq: SeqNo, reply_waits: impl FnOnce(SeqNo) -> bool) {
        //= ZSSP-SEQ-16  acknowledged again, unless its answer is being made or under way
        let slot = self.slot(seq);
        match slot.state {
            State::Delivered | State::Replying(_) | State::Stored(_) if slot.seq == seq => {
                if self.hinted.is_after(seq) {
                    self.hint(seq);
                }
                // Tell the sender about everything that is held, not to have it ask for one after the other.
                self.hint_up_to(self.beyond);
            }
            State::Answered(Some(reply)) if slot.seq == seq && reply_waits(reply) => {}
            _ if self.acks.contains(seq) => {}
            // One lost packet may have held the acknowledgements of many; one duplicate fetches them again.
            _ => {
                let acknowledged = |&offset: &u32| {
                    let (next, slot) = (seq.plus(offset), self.slot(seq.plus(offset)));
                    match slot.state {
                        State::Answered(None) if slot.seq == next => true,
                        // It has no slot any more.
                        _ if slot.seq != next => self.next.is_after(next),
                        _ => false,
                    }
                };
                let more = (1..ACKNOWLEDGED_AGAIN).take_while(acknowledged).count();
                self.acks.push(seq, 1 + more as u32);
            }
        }
    }

    /// Tells the sender of everything that is held and was not told of.
    pub(crate) fn tell_held(&mut self) {
        self.hint_up_to(self.beyond);
    }

    /// Hands out the next packet for `taker` there is room for.
    #[inline]
    pub(crate) fn deliver(&mut self, room: u32, taker: Taker) -> Option<(SeqNo, Stored<S, R>)> {
        // Every drain ends like this.
        if self.is_empty() {
            return None;
        }
        let seq = self.pass_next(room, taker)?;
        // Only now, so that the data is moved but once.
        match core::mem::replace(&mut self.slot_mut(seq).state, State::Delivered) {
            State::Stored(stored) => Some((seq, stored)),
            _ => None,
        }
    }

    /// Chooses a stored packet, and has all marks and queues pass it. This is not inlined into each drain, as it returns little.
    #[inline(never)]
    fn pass_next(&mut self, room: u32, taker: Taker) -> Option<SeqNo> {
        let seq = self.choose(room, taker)?;
        let order = self.stored(seq)?.order;
        self.stored -= 1;
        self.unanswered += 1;
        if order == Order::Ordered {
            self.critical = Some(seq);
        }
        if self.ready_mut(taker).front() == Some(&seq) {
            self.ready_mut(taker).pop_front();
            // Those delivered in sequence go with it, so that they do not pile up.
            while let Some(&front) = self.ready_mut(taker).front()
                && self.stored(front).is_none()
            {
                self.ready_mut(taker).pop_front();
            }
        }
        if seq == self.next {
            self.next = seq.next();
            while self.next != self.arrived && self.stored(self.next).is_none() {
                self.next = self.next.next();
            }
        }
        Some(seq)
    }

    /// Whether [`poll_acks`](Self::poll_acks) has something.
    pub(crate) fn has_acks(&mut self) -> bool {
        !self.acks.is_empty() || self.first_hint().is_some()
    }

    /// Records the answer to a delivered packet: the number of a reply, or an acknowledgement, which
    /// is then queued. Returns whether the packet was open for an answer.
    pub(crate) fn answer(&mut self, seq: SeqNo, reply: Option<SeqNo>) -> bool {
        //= ZSSP-SEQ-09  one answer to each delivered packet
        let slot = self.slot_mut(seq);
        if slot.seq != seq || !matches!(slot.state, State::Delivered) {
            return false;
        }
        slot.state = reply.map_or(State::Answered(None), State::Replying);
        match reply {
            Some(_) => self.replying += 1,
            None => self.acks.push(seq, 1),
        }
        self.unanswered -= 1;
        self.release(seq);
        // The answer is evidence against all that was sent before.
        self.hint_up_to(seq);
        true
    }

    /// Records that the reply to a packet is transmitted.
    pub(crate) fn on_reply_transmitted(&mut self, seq: SeqNo) {
        let slot = self.slot_mut(seq);
        if let State::Replying(reply) = slot.state
            && slot.seq == seq
        {
            slot.state = State::Answered(Some(reply));
            self.replying -= 1;
        }
    }

    /// Ends the critical section of a delivered packet.
    pub(crate) fn release(&mut self, seq: SeqNo) {
        if self.critical == Some(seq) {
            self.critical = None;
        }
    }

    /// The next run of acknowledgements or of hints, the oldest: each is evidence that what was sent before
    /// was lost, except for what is known to be answered or held.
    #[inline]
    pub(crate) fn poll_acks(&mut self) -> Option<Ack> {
        let hint = if self.hints.is_empty() { None } else { self.leading_hint() };
        match hint {
            Some(first) => Some(Ack { kind: AckKind::Holding, first, count: self.pop_hints(first) }),
            None => self.acks.pop(),
        }
    }

    /// The next packet to tell that it is held, if none is to be acknowledged before it.
    #[cold]
    fn leading_hint(&mut self) -> Option<SeqNo> {
        let first = self.first_hint()?;
        let is_behind = self.acks.first().is_some_and(|answered| first.is_after(answered));
        if is_behind { None } else { Some(first) }
    }

    /// Takes out the hints of the run that begins with `first`, and counts them.
    #[cold]
    fn pop_hints(&mut self, first: SeqNo) -> u32 {
        let mut count = 0;
        while self.hints.front() == Some(&first.plus(count)) && self.is_held(first.plus(count)) {
            self.hints.pop_front();
            count += 1;
        }
        count
    }

    /// The next packet to tell that it is held; drops the hints that have become pointless.
    fn first_hint(&mut self) -> Option<SeqNo> {
        while let Some(&first) = self.hints.front() {
            if self.is_held(first) {
                return Some(first);
            }
            self.hints.pop_front();
        }
        None
    }

    /// Takes out everything that was not delivered, in sequence.
    pub(crate) fn clear(&mut self) -> Vec<Stored<S, R>> {
        let mut rest = Vec::with_capacity(self.stored as usize);
        let mut seq = self.next;
        for _ in 0..self.slots.len() {
            let slot = self.slot_mut(seq);
            if let State::Stored(stored) = core::mem::replace(&mut slot.state, State::Vacant) {
                rest.push(stored);
            }
            seq = seq.next();
        }
        self.ready.clear();
        self.ready_answers.clear();
        self.acks.clear();
        self.hints.clear();
        self.critical = None;
        (self.stored, self.unanswered, self.replying) = (0, 0, 0);
        rest
    }

    /// Which stored packet to deliver. The last room is kept for the packet that is next in sequence,
    /// without which two full windows could wait for each other forever.
    pub(crate) fn choose(&self, room: u32, taker: Taker) -> Option<SeqNo> {
        if room == 0 || self.is_empty() {
            return None;
        }
        //= ZSSP-SEQ-06  an ordered packet only as the next one, when all before it are delivered
        //= ZSSP-SEQ-08  and only when the critical section before it is over
        if let Some(next) = self.stored(self.next)
            && next.taker == taker
            && (next.order == Order::Unordered || self.critical.is_none())
        {
            return Some(self.next);
        }
        //= ZSSP-SEQ-07  plain packets may overtake
        let ready = match taker {
            Taker::Anyone => &self.ready,
            Taker::Claimant => &self.ready_answers,
        };
        if room < 2 { None } else { ready.front().copied() }
    }

    fn hint(&mut self, seq: SeqNo) {
        if self.hints.len() >= self.capacity as usize {
            return;
        }
        if self.hints.back().is_none_or(|&last| seq.is_after(last)) {
            self.hints.push_back(seq);
            return;
        }
        // It is late, or told again.
        let index = self.hints.partition_point(|hint| seq.is_after(*hint));
        if self.hints.get(index) != Some(&seq) {
            self.hints.insert(index, seq);
        }
    }

    fn hint_up_to(&mut self, end: SeqNo) {
        if self.stored + self.unanswered + self.replying == 0 && end.is_after(self.hinted) {
            self.hinted = end;
        }
        while end.is_after(self.hinted) {
            if self.is_held(self.hinted) {
                self.hint(self.hinted);
            }
            self.hinted = self.hinted.next();
        }
    }

    fn is_held(&self, seq: SeqNo) -> bool {
        let slot = self.slot(seq);
        slot.seq == seq && matches!(slot.state, State::Delivered | State::Replying(_) | State::Stored(_))
    }

    fn has_arrived(&self, seq: SeqNo) -> bool {
        let slot = self.slot(seq);
        slot.seq == seq && !matches!(slot.state, State::Vacant)
    }

    fn stored(&self, seq: SeqNo) -> Option<&Stored<S, R>> {
        let slot = self.slot(seq);
        match &slot.state {
            State::Stored(stored) if slot.seq == seq => Some(stored),
            _ => None,
        }
    }

    fn ready_mut(&mut self, taker: Taker) -> &mut VecDeque<SeqNo> {
        match taker {
            Taker::Anyone => &mut self.ready,
            Taker::Claimant => &mut self.ready_answers,
        }
    }

    fn slot(&self, seq: SeqNo) -> &Slot<S, R> {
        &self.slots[seq.index(self.slots.len())]
    }

    fn slot_mut(&mut self, seq: SeqNo) -> &mut Slot<S, R> {
        let index = seq.index(self.slots.len());
        &mut self.slots[index]
    }
}

#[cfg(test)]
mod tests;
