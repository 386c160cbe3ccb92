//! What arrives: payloads and the end of the session.

use std::time::Instant;

use seqex::encoding::Frame;
use seqex::{Delivery, Event, Packet, Received};

use super::{Arrived, CHANNEL, Effects, State, datagram_cost, urgency};
use crate::connection::acks::Urgency;
use crate::connection::close::{Closing, Phase};
use crate::error::CloseReason;
use crate::frame::{self, Malformed, Payload};

impl State {
    /// Takes in an authentic payload.
    pub(in crate::connection) fn handle_payload(
        &mut self,
        now: Instant,
        payload: &[u8],
        effects: &mut Effects,
    ) {
        self.stats.payloads_received += 1;
        self.stats.bytes_received += payload.len() as u64;
        if let Err(malformed) = self.read(now, payload, effects) {
            self.end(CloseReason::Protocol(malformed.as_str()), effects);
            if !matches!(self.phase, Phase::Closing(_) | Phase::Over) {
                let frame = frame::close(frame::PROTOCOL_VIOLATION, malformed.as_str().as_bytes());
                self.phase = Phase::Closing(Closing::new(now, frame.into()));
            }
            effects.driver = true;
        }
    }

    fn read(&mut self, now: Instant, payload: &[u8], effects: &mut Effects) -> Result<(), Malformed> {
        match Payload::parse(payload)? {
            Payload::Close { code, reason } => {
                if self.ended.is_none() {
                    self.end(CloseReason::Peer { code, reason: reason.into() }, effects);
                }
                self.phase.answer_close(now, self.exchange.resend_timeout());
                effects.driver = true;
            }
            Payload::CloseRead => {
                if matches!(self.phase, Phase::Closing(_)) {
                    self.phase = Phase::Over;
                    self.end(CloseReason::Local, effects);
                    effects.driver = true;
                }
            }
            Payload::Datagram(_) | Payload::Exchange(_) if self.ended.is_some() => {}
            Payload::Datagram(data) => self.take_datagram(data, effects),
            Payload::Exchange(frames) => {
                for frame in frames {
                    self.take_frame(now, frame?, effects)?;
                }
                self.settle(now, effects);
            }
        }
        Ok(())
    }

    fn take_datagram(&mut self, data: &[u8], effects: &mut Effects) {
        let bytes = self.datagrams_in_bytes + datagram_cost(data.len());
        if bytes > self.settings.datagram_buffer && !self.datagrams_in.is_empty() {
            self.stats.datagrams_dropped += 1;
            return;
        }
        self.datagrams_in_bytes = bytes;
        self.datagrams_in.push_back(self.buffers.copy(data));
        effects.datagrams = true;
    }

    fn take_frame(&mut self, now: Instant, frame: Frame<'_>, effects: &mut Effects) -> Result<(), Malformed> {
        let time = self.time(now);
        match frame {
            Frame::Ack(CHANNEL, ack) => {
                self.exchange.receive(time, Packet::Ack(ack));
                effects.driver = true;
            }
            Frame::Message(CHANNEL, message) => {
                let in_order = message.seq == self.expected;
                if message.seq.since(self.expected) < self.settings.window.packets() {
                    self.expected = message.seq.next();
                }
                effects.driver |= message.reply_to.is_some();
                let data = self.buffers.copy(message.data);
                let received = self.exchange.receive(time, Packet::Message(with_data(&message, data)));
                let taken = matches!(received, Received::Taken);
                self.note(now, if taken && in_order { Urgency::Arrived } else { Urgency::Now }, effects);
            }
            Frame::Ack(..) | Frame::Message(..) => return Err(Malformed::Channel),
        }
        Ok(())
    }

    /// Draws the conclusions of whatever the exchange was fed.
    pub(super) fn settle(&mut self, now: Instant, effects: &mut Effects) {
        self.drain_events(now);
        let mut answered = false;
        while let Some(delivery) = self.exchange.poll_deliver() {
            match delivery {
                Delivery::Acknowledged { data: mut sent, .. } => {
                    effects.freed += sent.cost;
                    effects.answers.extend(sent.answer.take().map(|answer| (answer, None)));
                    effects.dropped.push(sent);
                    answered = true;
                }
                Delivery::Payload { token, data } => {
                    self.inbox.push_back(Arrived { token, data, answers: None });
                    effects.inbox = true;
                }
                Delivery::Reply { token, data, mut sent, .. } => {
                    effects.freed += sent.cost;
                    answered = true;
                    match sent.answer.take() {
                        Some(answer) => {
                            self.exchange.acknowledge(token);
                            self.note(now, urgency(data.len()), effects);
                            effects.answers.push((answer, Some(data)));
                            effects.dropped.push(sent);
                        }
                        None => {
                            self.inbox.push_back(Arrived { token, data, answers: Some(sent.data) });
                            effects.inbox = true;
                        }
                    }
                }
            }
        }
        if answered {
            self.phase.progress(now + self.settings.give_up_after);
            self.refill(now);
            effects.driver = true;
            effects.changed |= self.is_drained();
        }
    }

    pub(super) fn drain_events(&mut self, now: Instant) {
        let time = self.time(now);
        while let Some(event) = self.exchange.poll_event() {
            match event {
                Event::Lost { .. } => self.stats.messages_lost += 1,
                Event::TimedOut { .. } => self.stats.timeouts += 1,
                _ => {}
            }
            self.flight.on_event(time, event);
        }
    }

    /// The session below is gone.
    pub(in crate::connection) fn handle_session_end(&mut self, reason: CloseReason, effects: &mut Effects) {
        self.end(reason, effects);
        self.phase = Phase::Over;
        effects.driver = true;
    }
}

/// The same message with other data.
fn with_data<A, B>(message: &seqex::Message<A>, data: B) -> seqex::Message<B> {
    let &seqex::Message { seq, reply_to, order, .. } = message;
    seqex::Message { seq, reply_to, order, data }
}
