//! What must go out, and when to look again.

use std::time::Instant;

use bytes::Bytes;
use seqex::encoding::{self, MessageHeader};

use super::{CHANNEL, Effects, GRANULARITY, State, Step, datagram_cost};
use crate::connection::acks::Urgency;
use crate::connection::close::{Closing, Phase, Pulse};
use crate::connection::outgoing::{Acks, Outgoing};
use crate::error::CloseReason;
use crate::frame;

impl State {
    /// Puts payloads into `out` until they are `budget` bytes, or just above, and says what to do next.
    pub(in crate::connection) fn poll_transmit(
        &mut self,
        now: Instant,
        budget: usize,
        out: &mut Vec<Outgoing>,
        effects: &mut Effects,
    ) -> Step {
        let before = out.len();
        self.handle_time(now, effects);
        let mut left = budget;
        let mut full = false;
        if self.ended.is_none() {
            full = self.put_datagrams(&mut left, out, effects) || self.put_messages(now, &mut left, out);
            if self.acks.due().is_some_and(|due| due <= now) {
                self.put_acks(out);
            }
        }
        self.phase.put_frames(now, self.exchange.resend_timeout(), out);
        for payload in &out[before..] {
            self.stats.payloads_sent += 1;
            self.stats.bytes_sent += payload.len() as u64;
        }
        // What is due and could not be done waits for the congestion window, which an acknowledgement will open:
        // looking again at once would only spin.
        self.armed = self.next_deadline().map(|deadline| deadline.max(now + GRANULARITY));
        // What was sent just now may have been the last that the close waited for.
        let is_drained = matches!(self.phase, Phase::Draining { .. }) && self.has_sent_all();
        match self.phase {
            Phase::Over => Step::Over,
            _ if full || is_drained => Step::Again,
            _ => Step::Wait(self.armed),
        }
    }

    fn handle_time(&mut self, now: Instant, effects: &mut Effects) {
        let time = self.time(now);
        if self.ended.is_none() && self.exchange.next_deadline().is_some_and(|due| due <= time) {
            self.exchange.handle_timeout(time);
            self.drain_events(now);
            if self.exchange.failure().is_some() {
                self.end(CloseReason::TimedOut, effects);
                self.phase = Phase::Over;
            }
        }
        match self.phase.pulse(now, self.has_sent_all()) {
            Pulse::Steady => {}
            Pulse::Drained(frame) => {
                // What the peer's messages were answered with goes first: its side is drained by it, too.
                if self.acks.due().is_some() {
                    self.acks.add(now, Urgency::Now);
                }
                self.phase = Phase::Closing(Closing::new(now, frame));
            }
            Pulse::Stalled(frame) => {
                self.end(CloseReason::TimedOut, effects);
                self.phase = Phase::Closing(Closing::new(now, frame));
            }
            Pulse::Unconfirmed => {
                self.end(CloseReason::Local, effects);
                self.phase = Phase::Over;
            }
        }
    }

    /// Whether there is nothing left that a close waits for.
    fn has_sent_all(&self) -> bool {
        self.is_drained() && self.datagrams_out.is_empty()
    }

    /// Whether the budget ended before the datagrams.
    fn put_datagrams(&mut self, left: &mut usize, out: &mut Vec<Outgoing>, effects: &mut Effects) -> bool {
        while let Some(next) = self.datagrams_out.front() {
            if *left == 0 {
                return true;
            }
            *left = left.saturating_sub(next.len() + frame::DATAGRAM_OVERHEAD);
            let Some(data) = self.datagrams_out.pop_front() else { break };
            effects.datagrams_freed += datagram_cost(data.len());
            out.push(Outgoing::new(data).start(&[frame::DATAGRAM]));
        }
        false
    }

    /// Whether the budget ended before what may be sent now. Resends go first: others wait for them.
    fn put_messages(&mut self, now: Instant, left: &mut usize, out: &mut Vec<Outgoing>) -> bool {
        let time = self.time(now);
        while self.flight.has_room() {
            if *left == 0 {
                return true;
            }
            let (message, again) = match self.exchange.poll_resend(time) {
                Some(message) => (message, true),
                None => match self.exchange.poll_fresh(time) {
                    Some(message) => (message, false),
                    None => return false,
                },
            };
            let (seq, data) = (message.seq, message.data.data.clone());
            let header = MessageHeader::new(CHANNEL, &message);
            self.flight.sent(seq, data.len() + encoding::MESSAGE_OVERHEAD);
            self.stats.messages_sent += 1;
            self.stats.messages_resent += u64::from(again);
            let mut payload = Outgoing::new(data);
            //= ZSSP-ENC-03  acknowledgements ride with messages
            if self.acks.due().is_some() {
                let room = self.settings.max_payload.saturating_sub(payload.len() + header.len());
                let (with_acks, acks) = payload.acks(&mut self.exchange, room);
                payload = with_acks;
                if acks == Acks::None {
                    self.acks.clear();
                }
            }
            let payload = payload.header(&header);
            *left = left.saturating_sub(payload.len());
            out.push(payload);
        }
        false
    }

    fn put_acks(&mut self, out: &mut Vec<Outgoing>) {
        loop {
            let (payload, acks) = Outgoing::new(Bytes::new()).acks(&mut self.exchange, usize::MAX);
            if !payload.is_empty() {
                out.push(payload);
            }
            if acks == Acks::None {
                break;
            }
        }
        self.acks.clear();
    }
}
