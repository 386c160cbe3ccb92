//! What must happen next: what the user must see, and what must be transmitted.

use super::SeqEx;
use crate::{
    Ack, Answer, Delivery, Event, Message, Packet, Timestamp,
    receive_window::Stored,
    send_window::{Numbered, Taker},
};

// What these give is put together where it is used, hence the attributes: it is wider than what a call returns in registers.
// Written to memory field by field and read from there as a whole, it makes the reader wait until the fields have left the
// processor, and a message would spend a sixth of its time on that. Half of all drains find nothing, which is then a few
// loads. Measured in docs/seqex-performance.md.
/// Drain.
impl<S, R> SeqEx<S, R> {
    /// What the user must see next, except for answers that were [claimed](Self::claim).
    #[inline(always)]
    pub fn poll_deliver(&mut self) -> Option<Delivery<S, R>> {
        if let Some(Numbered { seq, data }) = self.acknowledged.pop_front() {
            return Some(Delivery::Acknowledged { seq, data });
        }
        let (token, Stored { data, answers, .. }) = self.deliver(self.free_for_new(), Taker::Anyone)?;
        Some(match answers {
            None => Delivery::Payload { token, data },
            Some(Numbered { seq: sent_seq, data: sent }) => Delivery::Reply { token, data, sent_seq, sent },
        })
    }

    /// The next answer to a packet whose answer was [claimed](Self::claim).
    #[inline]
    pub fn poll_answer(&mut self) -> Option<Answer<S, R>> {
        if let Some(Numbered { seq: sent_seq, data: sent }) = self.acknowledged_claims.pop_front() {
            return Some(Answer::Acknowledged { sent_seq, sent });
        }
        let (token, Stored { data, answers, .. }) = self.deliver(self.free(), Taker::Claimant)?;
        // Only a packet that answers one of ours has a claimant.
        let Numbered { seq: sent_seq, data: sent } = answers?;
        Some(Answer::Reply { token, data, sent_seq, sent })
    }

    /// Everything there is to transmit: acknowledgements, then resends, then fresh packets.
    #[inline(always)]
    pub fn poll_transmit(&mut self, now: Timestamp) -> Option<Packet<&S>> {
        if let Some(ack) = self.poll_acks() {
            return Some(Packet::Ack(ack));
        }
        let seq = self.take_resend().or_else(|| self.outgoing.take_fresh())?;
        self.transmit(now, seq).map(Packet::Message)
    }

    /// Acknowledgements to transmit, oldest first, as many packets in each run as possible. They need no permission
    /// of congestion control, and losing them is harmless: a duplicate fetches them again. Transmit them in this order, and
    /// before what [`poll_fresh`](Self::poll_fresh) gives.
    #[inline]
    pub fn poll_acks(&mut self) -> Option<Ack> {
        self.incoming.poll_acks()
    }

    /// A packet to transmit again. Whoever limits what is transmitted simply stops calling.
    #[inline]
    pub fn poll_resend(&mut self, now: Timestamp) -> Option<Message<&S>> {
        let seq = self.take_resend()?;
        self.transmit(now, seq)
    }

    /// A packet to transmit for the first time. Whoever limits what is transmitted simply stops calling.
    #[inline]
    pub fn poll_fresh(&mut self, now: Timestamp) -> Option<Message<&S>> {
        let seq = self.outgoing.take_fresh()?;
        self.transmit(now, seq)
    }

    /// What congestion control wants to know, if [`Config::feedback`](crate::Config::feedback) collects it. To be drained after
    /// each feed; four events per slot of the window are kept, then the oldest give way.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.recovery.poll_event(&mut self.outgoing)
    }
}
