//! The exchange itself: who may send, what is handed out, and how the two windows meet.

mod drain;

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::{
    Ack, AckKind, Config, DropReason, GaveUp, Message, NotOpen, Order, Packet, Received, Refusal, Refused,
    Remains, SeqNo, Timestamp, Token,
    nanos::Nanos,
    receive_window::{Arrival, ReceiveWindow, Stored},
    recovery::Recovery,
    send_window::{Answered, Numbered, SendWindow, Taker},
};

/// One end of an exchange. `S` is what it sends, `R` what it receives.
///
/// The [crate's tour](crate) shows one at work. Methods come in four kinds: those that look, those
/// that feed in packets and time ([`receive`](Self::receive), [`handle_timeout`](Self::handle_timeout)),
/// the user's commands, and those that drain what must now happen (`poll_*`). After a feed or a
/// command, drain until each drain gives `None`, then ask for the [`next_deadline`](Self::next_deadline).
///
/// Data is moved in, stays in the window until it is answered, and comes back out; it is never cloned.
#[derive(Debug)]
pub struct SeqEx<S, R = S> {
    capacity: u32,
    /// Numbers that are to be left to claimed answers, and those that are.
    wanted: u32,
    kept: u32,
    give_up_after: Option<Nanos>,
    outgoing: SendWindow<S>,
    recovery: Recovery,
    incoming: ReceiveWindow<S, R>,
    /// Packets of ours that were acknowledged, for the user to see.
    acknowledged: VecDeque<Numbered<S>>,
    /// Those among them whose answer was claimed.
    acknowledged_claims: VecDeque<Numbered<S>>,
    last_heard: Nanos,
    failure: Option<GaveUp>,
    closed: bool,
}

impl<S, R> SeqEx<S, R> {
    /// A fresh exchange; the other end needs the same capacity and the same first sequence number.
    ///
    /// Allocates next to nothing; windows and queues grow with use, up to small multiples of the capacity.
    pub fn new(config: Config) -> Self {
        let Config { capacity, first_seq, resend, give_up_after, feedback } = config;
        Self {
            capacity: capacity.packets(),
            wanted: 0,
            kept: 0,
            give_up_after: give_up_after.map(Nanos::from),
            outgoing: SendWindow::new(capacity, first_seq),
            recovery: Recovery::new(resend, feedback, capacity, give_up_after.map(Nanos::from)),
            incoming: ReceiveWindow::new(capacity, first_seq),
            acknowledged: VecDeque::new(),
            acknowledged_claims: VecDeque::new(),
            last_heard: Nanos::ZERO,
            failure: None,
            closed: false,
        }
    }
}

/// Look.
impl<S, R> SeqEx<S, R> {
    /// When [`handle_timeout`](Self::handle_timeout) wants to be called, if ever. O(1).
    ///
    /// Right after `handle_timeout` it lies later than the time given there.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let deadlines = [self.recovery.next_deadline(), self.give_up_deadline()];
        deadlines.into_iter().flatten().min().map(Nanos::duration)
    }

    /// Whether, and if not why not, [`send`](Self::send) would accept a packet now.
    ///
    /// # Errors
    /// The reason that `send` would give.
    pub fn can_send(&self) -> Result<(), Refusal> {
        if self.closed {
            Err(Refusal::Closed)
        //= ZSSP-SEQ-12  which of the two has to act
        } else if self.outgoing.span() + self.kept + 1 >= self.capacity {
            Err(Refusal::RemoteBehind)
        } else if self.room() == 0 {
            Err(Refusal::LocalUnanswered)
        } else {
            Ok(())
        }
    }

    /// How many packets [`send`](Self::send) would accept one after the other.
    pub fn room(&self) -> u32 {
        let undrained = self.acknowledged.len() + self.acknowledged_claims.len();
        if self.closed || undrained >= self.capacity as usize {
            return 0;
        }
        self.spare()
    }

    /// How many numbers of the window are [kept for answers](Self::keep_for_answers) at present: as many as were asked for
    /// as long as there is [room](Self::room) for a new packet.
    pub fn kept_for_answers(&self) -> u32 {
        self.kept
    }

    /// Whether [`poll_deliver`](Self::poll_deliver) has something.
    pub fn can_deliver(&self) -> bool {
        !self.acknowledged.is_empty() || self.incoming.choose(self.free_for_new(), Taker::Anyone).is_some()
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) has something. Forgets resends and hints that have become
    /// pointless, which is why it is not a look through `&self`.
    pub fn can_transmit(&mut self) -> bool {
        self.outgoing.has_fresh() || self.incoming.has_acks() || self.recovery.has_resends(&self.outgoing)
    }

    /// Packets transmitted that are neither answered, nor held by the peer, nor taken for lost.
    pub fn in_flight(&self) -> u32 {
        self.recovery.in_flight()
    }

    /// Packets sent that the peer has not answered, transmitted or not.
    pub fn unanswered(&self) -> u32 {
        self.outgoing.unanswered()
    }

    /// Whether nothing is left to do: both sides have answered all they sent as far as this end
    /// knows, and everything is drained.
    pub fn is_idle(&self) -> bool {
        self.outgoing.unanswered() == 0
            && self.incoming.is_idle()
            && self.acknowledged.is_empty()
            && self.acknowledged_claims.is_empty()
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether a packet of the peer with that number would be taken: it has not arrived, and there is a place for it. For
    /// those who put a packet together from pieces.
    pub fn expects(&self, seq: SeqNo) -> bool {
        !self.closed && matches!(self.incoming.classify(seq), Arrival::Crowded | Arrival::New)
    }

    /// The data of a packet that was sent and is not answered.
    pub fn sent(&self, seq: SeqNo) -> Option<&S> {
        if self.outgoing.contains(seq) { self.outgoing.slot(seq).data() } else { None }
    }

    /// Whether the peer has said that it [holds](AckKind::Holding) a packet, and has not answered it. Transmitting such a
    /// packet again only asks for the answer, which its number does: the peer takes its data no more, so that an encoding
    /// with a way to do so may leave it out.
    ///
    /// ```
    /// # use seqex::{Ack, AckKind, Config, Order, Packet, SeqEx};
    /// # let now = core::time::Duration::ZERO;
    /// let mut exchange: SeqEx<&str> = SeqEx::new(Config::default());
    /// let seq = exchange.send(now, Order::Unordered, "a long message")?;
    /// exchange.poll_transmit(now);
    /// assert!(!exchange.has_arrived(seq));
    /// exchange.receive(now, Packet::Ack(Ack { kind: AckKind::Holding, first: seq, count: 1 }));
    /// assert!(exchange.has_arrived(seq));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn has_arrived(&self, seq: SeqNo) -> bool {
        self.outgoing.contains(seq) && self.outgoing.slot(seq).holds > 0
    }

    /// Whether something of the peer's is here that is not answered.
    #[cfg(feature = "std")]
    pub(crate) fn holds(&self) -> bool {
        self.incoming.holds()
    }

    /// Set when the peer has been silent for [`Config::give_up_after`] while a packet waits for its answer,
    /// until it is heard again. The exchange goes on as before; it is for the user to [`close`](Self::close) it.
    pub fn failure(&self) -> Option<GaveUp> {
        self.failure
    }

    /// The smoothed round trip, after the first measurement. It includes the time that the peer's
    /// application takes to answer.
    pub fn smoothed_rtt(&self) -> Option<Duration> {
        self.recovery.rtt.smoothed().map(Nanos::duration)
    }

    /// The mean deviation of the round trip, after the first measurement.
    pub fn rtt_variation(&self) -> Option<Duration> {
        self.recovery.rtt.variation().map(Nanos::duration)
    }

    /// The shortest round trip seen.
    pub fn min_rtt(&self) -> Option<Duration> {
        self.recovery.rtt.min().map(Nanos::duration)
    }

    /// The present resend time-out, back-off included.
    pub fn resend_timeout(&self) -> Duration {
        self.recovery.rtt.timeout().duration()
    }
}

/// Feed.
impl<S, R> SeqEx<S, R> {
    /// Takes a packet of the peer. What does not fit is given back; nothing a peer sends can panic or
    /// take more memory than the windows have.
    ///
    /// Feed all packets of one datagram before the next drain. That is when it is decided what they prove to be lost; and
    /// what one of them seems to prove, the next may disprove.
    pub fn receive(&mut self, now: Timestamp, packet: Packet<R>) -> Received<R> {
        self.heard(now);
        let now = now.into();
        match packet {
            Packet::Ack(ack) => {
                self.receive_ack(now, ack);
                Received::Taken
            }
            Packet::Message(message) => self.receive_message(now, message),
        }
    }

    /// The peer has given a sign of life that is none of the exchange's packets: it is not silent, as [`failure`](Self::failure)
    /// has it.
    pub fn heard(&mut self, now: Timestamp) {
        if !self.closed {
            self.last_heard = self.last_heard.max(now.into());
            self.failure = None;
        }
    }

    /// Lets time pass. Calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        let now = now.into();
        self.recovery.handle_timeout(&mut self.outgoing, now);
        if self.failure.is_none() && self.give_up_deadline().is_some_and(|deadline| now >= deadline) {
            self.failure =
                self.outgoing.oldest().map(|(seq, slot)| GaveUp { seq, since: slot.queued_at.duration() });
        }
    }
}

/// Command.
impl<S, R> SeqEx<S, R> {
    /// Sends `data`, to be drained by [`poll_fresh`](Self::poll_fresh) or [`poll_transmit`](Self::poll_transmit).
    ///
    /// # Errors
    /// [`Refused`], with the data, when there is no room (PROTOCOL 8.2). There may be again after
    /// the next [`receive`](Self::receive), or for [`Refusal::LocalUnanswered`] after the next
    /// [`acknowledge`](Self::acknowledge), [`poll_deliver`](Self::poll_deliver) or [`poll_answer`](Self::poll_answer).
    #[inline]
    pub fn send(&mut self, now: Timestamp, order: Order, data: S) -> Result<SeqNo, Refused<S>> {
        match self.can_send() {
            Ok(()) => {
                Ok(self.push(now, Message { seq: self.outgoing.next_seq(), reply_to: None, order, data }))
            }
            Err(reason) => Err(Refused { reason, data }),
        }
    }

    /// Directs the answer to a packet sent before to [`poll_answer`](Self::poll_answer), so that it overtakes whatever
    /// [`poll_deliver`](Self::poll_deliver) has still to give, as far as its order allows. Returns `false`, without
    /// effect, if that packet was answered already.
    ///
    /// ```
    /// # use seqex::{Ack, AckKind, Answer, Config, Order, Packet, SeqEx};
    /// # let now = core::time::Duration::ZERO;
    /// let mut exchange: SeqEx<&str> = SeqEx::new(Config::default());
    /// let seq = exchange.send(now, Order::Unordered, "are you there?")?;
    /// assert!(exchange.claim(seq));
    /// exchange.poll_transmit(now);
    /// exchange.receive(now, Packet::Ack(Ack { kind: AckKind::Answered, first: seq, count: 1 }));
    /// assert_eq!(exchange.poll_deliver(), None);
    /// assert_eq!(exchange.poll_answer(), Some(Answer::Acknowledged { sent_seq: seq, sent: "are you there?" }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn claim(&mut self, seq: SeqNo) -> bool {
        self.outgoing.claim(seq)
    }

    /// Keeps `count` numbers of the send window free, two less than its capacity at most, for what
    /// [`poll_answer`](Self::poll_answer) delivers; 0 at first. It is for applications that take in nothing new while replies
    /// of theirs wait to be answered, and takes at least 2; what for, and when that suffices, is said under "Applications
    /// that wait" in the crate's documentation.
    ///
    /// Numbers in use are kept as they become free. A reply to what `poll_answer` delivered uses up one of those
    /// [kept](Self::kept_for_answers), until there is room for another.
    pub fn keep_for_answers(&mut self, count: u32) {
        self.wanted = count.min(self.capacity - 2);
        self.kept = self.wanted.min(self.kept + self.spare());
    }

    /// Answers a delivered packet with data. There is always room for it. The reply is a packet like
    /// any other: the peer will answer it in turn, and then its data comes back.
    ///
    /// # Errors
    /// [`NotOpen`], with the data, after [`abandon`](Self::abandon) or [`close`](Self::close).
    pub fn reply(
        &mut self,
        now: Timestamp,
        token: Token,
        order: Order,
        data: S,
    ) -> Result<SeqNo, NotOpen<S>> {
        let seq = self.outgoing.next_seq();
        if !self.incoming.answer(token.seq, Some(seq)) {
            return Err(NotOpen { data });
        }
        self.push(now, Message { seq, reply_to: Some(token.seq), order, data });
        if token.taker == Taker::Claimant {
            // It takes the place of what was reserved there.
            self.kept = self.kept.saturating_sub(1);
            self.keep_again();
        }
        Ok(seq)
    }

    /// Answers a delivered packet without data. Without effect after [`abandon`](Self::abandon) or
    /// [`close`](Self::close).
    pub fn acknowledge(&mut self, token: Token) {
        self.abandon(token.seq);
    }

    /// Has [`poll_acks`](Self::poll_acks) tell of all that arrived and is not answered that it is held, once. What the peer
    /// hears nothing of for a time-out, it transmits again, and of what was lost it learns only by what it hears of
    /// the rest. So whoever drives the core alone must call this when answers take longer than that: half of the least
    /// time-out after a packet was taken, if it is not answered by then. The shared handles do so by themselves.
    pub fn tell_held(&mut self) {
        self.incoming.tell_held();
    }

    /// Leaves it to the caller to bring a packet to the peer that was just drained, in pieces for example that it repeats one by
    /// one: the packet is not in flight any more, no time-out runs for it, and it is never taken for lost. When all of it has
    /// arrived, feed [`receive`](Self::receive) an acknowledgement of the kind [`Holding`](AckKind::Holding); if the peer's own
    /// is not lost, its answer may come first. Returns `false`, without effect, if the packet is not in flight.
    ///
    /// [`Config::give_up_after`] runs on, and with it there is a deadline: whoever brings the packet over feeds
    /// [`heard`](Self::heard) whatever the peer says of the pieces.
    ///
    /// ```
    /// # use core::time::Duration;
    /// # use seqex::{Ack, AckKind, Config, Order, Packet, SeqEx};
    /// # let now = Duration::ZERO;
    /// let mut exchange: SeqEx<&str> = SeqEx::new(Config::default());
    /// let seq = exchange.send(now, Order::Unordered, "too large for one datagram")?;
    /// exchange.poll_transmit(now);
    /// assert!(exchange.entrust(seq));
    /// assert_eq!(exchange.next_deadline(), None);
    /// // Its pieces travel, and then the last of them is known to have arrived.
    /// exchange.receive(now, Packet::Ack(Ack { kind: AckKind::Holding, first: seq, count: 1 }));
    /// assert!(exchange.next_deadline().is_some(), "the peer is asked for its answer some time");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn entrust(&mut self, seq: SeqNo) -> bool {
        self.recovery.entrust(&mut self.outgoing, seq)
    }

    /// Says that the message polled last travels in one datagram with the message polled before it: what arrives and gets
    /// lost together is one sign of loss, not several (RFC 9002, 6.1.1, counts datagrams). To be called right after the
    /// poll; acknowledgements do not count. More than 256 count as several datagrams. Harmless if either is answered already.
    ///
    /// ```
    /// # use seqex::{Config, Order, SeqEx};
    /// # let now = core::time::Duration::ZERO;
    /// let mut exchange: SeqEx<&str> = SeqEx::new(Config::default());
    /// exchange.send(now, Order::Unordered, "small")?;
    /// exchange.send(now, Order::Unordered, "smaller")?;
    /// let mut datagram = exchange.poll_fresh(now).expect("two were sent").data.to_string();
    /// datagram += exchange.poll_fresh(now).expect("two were sent").data;
    /// exchange.share_datagram();
    /// assert_eq!(datagram, "smallsmaller");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn share_datagram(&mut self) {
        self.recovery.share_datagram(&mut self.outgoing);
    }

    /// Ends the critical section of an ordered packet ahead of its answer, so that the next ordered
    /// packet can be handed out. Without effect on others, and the second time.
    pub fn release(&mut self, token: &Token) {
        self.incoming.release(token.seq);
    }

    /// Acknowledges a packet whose token was lost. Returns whether it was waiting for an answer.
    pub fn abandon(&mut self, seq: SeqNo) -> bool {
        let is_open = self.incoming.answer(seq, None);
        self.keep_again();
        is_open
    }

    /// Ends the exchange for good and hands back all data in it. From now on every command is
    /// refused, every packet dropped and every drain empty.
    pub fn close(&mut self) -> Remains<S, R> {
        //= ZSSP-SEQ-21  nothing opens it again
        self.closed = true;
        self.recovery.clear();
        self.acknowledged.append(&mut self.acknowledged_claims);
        let undelivered = self
            .incoming
            .clear()
            .into_iter()
            .map(|stored| (stored.data, stored.answers.map(Numbered::into_pair)));
        Remains {
            unanswered: self.outgoing.clear(),
            acknowledged: core::mem::take(&mut self.acknowledged)
                .into_iter()
                .map(Numbered::into_pair)
                .collect(),
            undelivered: undelivered.collect(),
        }
    }
}

impl<S, R> SeqEx<S, R> {
    //= ZSSP-SEQ-11  delivering reserves a number for the answer
    /// Numbers of the send window that are neither in use nor reserved for the answers to delivered packets.
    fn free(&self) -> u32 {
        self.capacity - self.outgoing.span() - self.incoming.unanswered()
    }

    /// Those of them that are not kept for claimed answers.
    fn free_for_new(&self) -> u32 {
        self.free().saturating_sub(self.kept)
    }

    /// Those that new packets may take: the last one may not, see "No deadlock" in the crate's documentation.
    fn spare(&self) -> u32 {
        self.free_for_new().saturating_sub(1)
    }

    /// Makes up for numbers that should be kept and are in use, as far as others are free: before new packets get those.
    #[inline]
    fn keep_again(&mut self) {
        if self.kept < self.wanted {
            self.kept = self.wanted.min(self.kept + self.spare());
        }
    }

    #[inline]
    fn deliver(&mut self, room: u32, taker: Taker) -> Option<(Token, Stored<S, R>)> {
        let (seq, stored) = self.incoming.deliver(room, taker)?;
        Some((Token { seq, order: stored.order, taker }, stored))
    }

    fn push(&mut self, now: Timestamp, message: Message<S>) -> SeqNo {
        let seq = message.seq;
        self.outgoing.push(now.into(), message);
        seq
    }

    fn take_resend(&mut self) -> Option<SeqNo> {
        self.recovery.poll_resend(&mut self.outgoing)
    }

    #[inline]
    fn transmit(&mut self, now: Timestamp, seq: SeqNo) -> Option<Message<&S>> {
        let slot = self.outgoing.slot_mut(seq);
        self.recovery.on_transmit(slot, now.into(), seq);
        let message = slot.message(seq)?;
        if let Some(answered) = message.reply_to {
            self.incoming.on_reply_transmitted(answered);
        }
        Some(message)
    }

    fn receive_ack(&mut self, now: Nanos, ack: Ack) {
        let (first, count) = self.outgoing.transmitted_part(ack.first, ack.count);
        for seq in (0..count).map(|offset| first.plus(offset)) {
            let is_new = match ack.kind {
                AckKind::Answered => self.on_acknowledged(now, seq),
                AckKind::Holding => self.recovery.on_held(&mut self.outgoing, now, seq),
            };
            if !is_new && !self.recovery.tolerates_repetition() {
                break;
            }
        }
        self.recovery.after_news(&self.outgoing, now);
    }

    /// Takes out a packet that was answered without a reply; `false` if it was before.
    #[inline]
    fn on_acknowledged(&mut self, now: Nanos, seq: SeqNo) -> bool {
        let Some((answered, taker)) = self.take_answered(now, seq) else { return false };
        match taker {
            Taker::Anyone => self.acknowledged.push_back(answered),
            Taker::Claimant => self.acknowledged_claims.push_back(answered),
        }
        true
    }

    /// Takes out a packet that was answered; `None` if it does not wait for that. Inlined for the same reason as the drains.
    #[inline(always)]
    fn take_answered(&mut self, now: Nanos, seq: SeqNo) -> Option<(Numbered<S>, Taker)> {
        let Answered { data, taker, journey } = self.outgoing.answer(seq)?;
        self.recovery.on_answer(now, seq, journey);
        self.keep_again();
        Some((Numbered { data, seq }, taker))
    }

    fn receive_message(&mut self, now: Nanos, message: Message<R>) -> Received<R> {
        let drop_for = |reason, data| Received::Dropped { reason, data };
        if self.closed {
            return drop_for(DropReason::Closed, message.data);
        }
        match self.incoming.classify(message.seq) {
            Arrival::Outside => return drop_for(DropReason::OutsideWindow, message.data),
            Arrival::Duplicate => {
                self.incoming.on_duplicate(message.seq, |reply| self.outgoing.contains(reply));
                return drop_for(DropReason::Duplicate, message.data);
            }
            Arrival::Crowded => self.make_room(&message),
            Arrival::New => {}
        }
        //= ZSSP-SEQ-10  the reply is kept with the very data it answers
        //= ZSSP-SEQ-17  a reply acknowledges what it replies to
        let (answers, taker) = match message.reply_to {
            None => (None, Taker::Anyone),
            Some(seq) => match self.take_answered(now, seq) {
                None => return drop_for(DropReason::Unmatched, message.data),
                Some((answered, taker)) => {
                    self.recovery.after_news(&self.outgoing, now);
                    (Some(answered), taker)
                }
            },
        };
        self.incoming.store(message, answers, taker);
        Received::Taken
    }

    #[inline(never)]
    fn make_room(&mut self, message: &Message<R>) {
        // The reply that it answers is as good as acknowledged.
        let waits = |reply| message.reply_to != Some(reply) && self.outgoing.contains(reply);
        self.incoming.make_room(message.seq, waits);
    }

    fn give_up_deadline(&self) -> Option<Nanos> {
        if self.failure.is_some() {
            return None;
        }
        let (_, oldest) = self.outgoing.oldest()?;
        Some(oldest.queued_at.max(self.last_heard).plus(self.give_up_after?))
    }
}
