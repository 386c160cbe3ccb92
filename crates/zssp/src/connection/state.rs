//! One connection, without socket and clock: what arrives is fed in, what must go out is drained.
//!
//! Methods are of four kinds: look, feed (`handle_*`), command, drain (`poll_transmit`). What others must be told
//! of a change is collected in [`Effects`] and told after the lock is released.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use seqex::encoding::{self, Frame, MessageHeader};
use seqex::{
    Adaptive, Capacity, Config, Delivery, Event, Feedback, Order, Packet, Received, Resend, SeqEx, SeqNo,
    Token,
};
use tokio::sync::oneshot;

use super::acks::{AckTimer, Urgency};
use super::close::{Closing, Phase, Pulse};
use super::flight::Flight;
use super::outgoing::{Acks, Outgoing};
use crate::error::{CloseReason, SendError};
use crate::frame::{self, Malformed, Payload};
use crate::stats::ConnectionStats;

/// The one channel there is.
pub(super) const CHANNEL: encoding::ChannelId = 0;

/// An answer to a message that took many datagrams is worth a payload of its own.
const LARGE: usize = 16 * 1024;

/// The least time between two looks at the clock.
const GRANULARITY: Duration = Duration::from_millis(1);

/// What a datagram costs of its buffers besides its bytes.
const DATAGRAM_COST: usize = 64;

/// What a datagram of `len` bytes costs of its buffers.
pub(super) const fn datagram_cost(len: usize) -> usize {
    len + DATAGRAM_COST
}

/// What a connection is set up with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Bytes of a UDP payload.
    pub(crate) mtu: usize,
    /// Bytes a sealed payload may carry.
    pub(crate) max_payload: usize,
    /// Messages under way in each direction.
    pub(crate) window: Capacity,
    /// How long the peer may be silent while it owes an answer.
    pub(crate) give_up_after: Duration,
    /// Bytes of datagrams that wait for the application.
    pub(crate) datagram_buffer: usize,
}

/// A message on its way out.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) data: Bytes,
    /// What it took of the send buffer.
    pub(super) cost: usize,
    /// Who waits for the reply.
    pub(super) answer: Option<oneshot::Sender<Bytes>>,
}

/// A message of the peer, waiting for the application.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) token: Token,
    pub(super) data: Bytes,
    /// Our message that it replies to, if that was not a request.
    pub(super) answers: Option<Bytes>,
}

/// What others must be told, once the lock is released.
#[derive(Debug, Default)]
#[must_use = "waiting tasks must be told"]
pub(super) struct Effects {
    /// Bytes given back to the send buffer.
    pub(super) freed: usize,
    /// Bytes given back to the datagram buffer.
    pub(super) datagrams_freed: usize,
    /// Replies, and requests that will have none.
    pub(super) answers: Vec<(oneshot::Sender<Bytes>, Option<Bytes>)>,
    /// What is to be dropped outside of the lock.
    pub(super) dropped: Vec<Sending>,
    /// The driver has something to do.
    pub(super) driver: bool,
    /// A message arrived.
    pub(super) inbox: bool,
    /// A datagram arrived.
    pub(super) datagrams: bool,
    /// Everything sent was answered, or the connection ended.
    pub(super) changed: bool,
    /// The connection ended.
    pub(super) ended: bool,
}

/// What the driver does after a round of [`State::poll_transmit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// There is more to send.
    Again,
    /// The connection is over.
    Over,
    /// Nothing until then, or until something changes.
    Wait(Option<Instant>),
}

/// One connection's state.
#[derive(Debug)]
pub(super) struct State {
    settings: Settings,
    epoch: Instant,
    exchange: SeqEx<Sending, Bytes>,
    /// Accepted, and waiting for a place in the window.
    queue: VecDeque<(Order, Sending)>,
    inbox: VecDeque<Arrived>,
    flight: Flight,
    acks: AckTimer,
    /// The number the next message of the peer has, if nothing is lost or overtaken.
    expected: SeqNo,
    datagrams_out: VecDeque<Bytes>,
    datagrams_in: VecDeque<Bytes>,
    datagrams_in_bytes: usize,
    phase: Phase,
    ended: Option<CloseReason>,
    /// When the driver looks again by itself.
    armed: Option<Instant>,
    stats: ConnectionStats,
}

// Look.
impl State {
    pub(super) fn new(now: Instant, settings: Settings) -> Self {
        let config = Config {
            capacity: settings.window,
            resend: Resend::Adaptive(Adaptive::default()),
            give_up_after: Some(settings.give_up_after),
            feedback: Feedback::Collect,
            ..Config::default()
        };
        Self {
            settings,
            epoch: now,
            exchange: SeqEx::new(config),
            queue: VecDeque::new(),
            inbox: VecDeque::new(),
            flight: Flight::new(now, settings.window, settings.mtu),
            acks: AckTimer::default(),
            expected: config.first_seq,
            datagrams_out: VecDeque::new(),
            datagrams_in: VecDeque::new(),
            datagrams_in_bytes: 0,
            phase: Phase::Open,
            ended: None,
            armed: None,
            stats: ConnectionStats::default(),
        }
    }

    pub(super) fn ended(&self) -> Option<&CloseReason> {
        self.ended.as_ref()
    }

    /// Whether everything sent has been answered.
    pub(super) fn is_drained(&self) -> bool {
        self.queue.is_empty() && self.exchange.unanswered() == 0
    }

    pub(super) fn stats(&self) -> ConnectionStats {
        ConnectionStats {
            rtt: self.exchange.smoothed_rtt(),
            min_rtt: self.exchange.min_rtt(),
            congestion_window: self.flight.window(),
            bytes_in_flight: self.flight.bytes(),
            ..self.stats
        }
    }

    fn may_send(&self) -> Result<(), SendError> {
        match (&self.phase, &self.ended) {
            (Phase::Open, None) => Ok(()),
            (_, Some(reason)) => Err(SendError::Closed(reason.clone())),
            _ => Err(SendError::Closed(CloseReason::Local)),
        }
    }

    fn time(&self, now: Instant) -> seqex::Timestamp {
        now.saturating_duration_since(self.epoch)
    }

    fn next_deadline(&self) -> Option<Instant> {
        let exchange = match self.ended {
            None => self.exchange.next_deadline().and_then(|at| self.epoch.checked_add(at)),
            Some(_) => None,
        };
        [exchange, self.acks.due(), self.phase.deadline()].into_iter().flatten().min()
    }
}

// Feed.
impl State {
    /// Takes in an authentic payload.
    pub(super) fn handle_payload(&mut self, now: Instant, payload: &[u8], effects: &mut Effects) {
        self.stats.payloads_received += 1;
        self.stats.bytes_received += payload.len() as u64;
        if let Err(malformed) = self.read(now, payload, effects) {
            self.end(CloseReason::Protocol(malformed.as_str()), effects);
            self.phase = Phase::Over;
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
        self.datagrams_in.push_back(Bytes::copy_from_slice(data));
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
                let data = Bytes::copy_from_slice(message.data);
                let received = self.exchange.receive(time, Packet::Message(with_data(&message, data)));
                let taken = matches!(received, Received::Taken);
                self.note(now, if taken && in_order { Urgency::Arrived } else { Urgency::Now }, effects);
            }
            Frame::Ack(..) | Frame::Message(..) => return Err(Malformed::Channel),
        }
        Ok(())
    }

    /// Draws the conclusions of whatever the exchange was fed.
    fn settle(&mut self, now: Instant, effects: &mut Effects) {
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

    fn drain_events(&mut self, now: Instant) {
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
    pub(super) fn handle_session_end(&mut self, reason: CloseReason, effects: &mut Effects) {
        self.end(reason, effects);
        self.phase = Phase::Over;
        effects.driver = true;
    }
}

// Command.
impl State {
    /// Queues a message. There is always room: whoever calls has taken its cost off the send buffer.
    pub(super) fn send(
        &mut self,
        now: Instant,
        order: Order,
        message: Sending,
        effects: &mut Effects,
    ) -> Result<(), SendError> {
        if let Err(error) = self.may_send() {
            effects.freed += message.cost;
            effects.dropped.push(message);
            return Err(error);
        }
        self.queue.push_back((order, message));
        self.refill(now);
        effects.driver = true;
        Ok(())
    }

    pub(super) fn send_datagram(&mut self, data: Bytes, effects: &mut Effects) -> Result<(), SendError> {
        if let Err(error) = self.may_send() {
            effects.datagrams_freed += datagram_cost(data.len());
            return Err(error);
        }
        self.datagrams_out.push_back(data);
        effects.driver = true;
        Ok(())
    }

    pub(super) fn take_message(&mut self) -> Option<Arrived> {
        self.inbox.pop_front()
    }

    pub(super) fn has_messages(&self) -> bool {
        !self.inbox.is_empty()
    }

    pub(super) fn take_received_datagram(&mut self) -> Option<Bytes> {
        let data = self.datagrams_in.pop_front()?;
        self.datagrams_in_bytes -= datagram_cost(data.len());
        Some(data)
    }

    pub(super) fn has_datagrams(&self) -> bool {
        !self.datagrams_in.is_empty()
    }

    /// Answers a message of `len` bytes with nothing.
    pub(super) fn acknowledge(&mut self, now: Instant, token: Token, len: usize, effects: &mut Effects) {
        if self.ended.is_some() {
            return;
        }
        self.exchange.acknowledge(token);
        self.note(now, urgency(len), effects);
        self.settle(now, effects);
        self.refill(now);
    }

    /// Answers a message with data. A connection that is draining still lets answers out.
    pub(super) fn reply(
        &mut self,
        now: Instant,
        token: Token,
        data: Bytes,
        effects: &mut Effects,
    ) -> Result<(), SendError> {
        if let Some(reason) = &self.ended {
            return Err(SendError::Closed(reason.clone()));
        }
        let message = Sending { data, cost: 0, answer: None };
        if let Err(refused) = self.exchange.reply(self.time(now), token, Order::Unordered, message) {
            effects.dropped.push(refused.data);
        }
        self.settle(now, effects);
        effects.driver = true;
        Ok(())
    }

    /// Ends the critical section of an ordered message.
    pub(super) fn release(&mut self, now: Instant, token: &Token, effects: &mut Effects) {
        if self.ended.is_none() {
            self.exchange.release(token);
            self.settle(now, effects);
        }
    }

    /// Starts closing: what was accepted still goes out and is answered, then the peer is told.
    pub(super) fn close(&mut self, now: Instant, code: u32, reason: &[u8], effects: &mut Effects) {
        if matches!(self.phase, Phase::Open) && self.ended.is_none() {
            let frame = Bytes::from(frame::close(code, reason));
            self.phase = Phase::Draining { frame, give_up: now + self.settings.give_up_after };
            effects.driver = true;
        }
    }

    /// Moves what was accepted into the window, as far as it has places.
    fn refill(&mut self, now: Instant) {
        let time = self.time(now);
        while let Some((order, message)) = self.queue.pop_front() {
            if let Err(refused) = self.exchange.send(time, order, message) {
                self.queue.push_front((order, refused.data));
                break;
            }
        }
    }

    fn note(&mut self, now: Instant, urgency: Urgency, effects: &mut Effects) {
        self.acks.add(now, urgency);
        effects.driver |= self.acks.due().is_some_and(|due| self.armed.is_none_or(|armed| due < armed));
    }

    fn end(&mut self, reason: CloseReason, effects: &mut Effects) {
        if self.ended.is_some() {
            return;
        }
        let remains = self.exchange.close();
        let sent = remains.unanswered.into_iter().chain(remains.acknowledged);
        effects.dropped.extend(sent.map(|(_, message)| message));
        effects.dropped.extend(self.queue.drain(..).map(|(_, message)| message));
        self.datagrams_out.clear();
        self.acks.clear();
        if !matches!(reason, CloseReason::Peer { .. }) {
            self.inbox.clear();
        }
        self.ended = Some(reason);
        (effects.ended, effects.changed) = (true, true);
    }
}

// Drain.
impl State {
    /// Puts payloads into `out` until they are `budget` bytes, or just above, and says what to do next.
    pub(super) fn poll_transmit(
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
        match self.phase {
            Phase::Over => Step::Over,
            _ if full => Step::Again,
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
        let drained = self.is_drained() && self.datagrams_out.is_empty();
        match self.phase.pulse(now, drained) {
            Pulse::Steady => {}
            Pulse::Drained(frame) => self.phase = Phase::Closing(Closing::new(now, frame)),
            Pulse::GivenUp(reason) => {
                self.end(reason, effects);
                self.phase = Phase::Over;
            }
        }
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

/// The same message with other data.
fn with_data<A, B>(message: &seqex::Message<A>, data: B) -> seqex::Message<B> {
    let &seqex::Message { seq, reply_to, order, .. } = message;
    seqex::Message { seq, reply_to, order, data }
}

fn urgency(len: usize) -> Urgency {
    if len >= LARGE { Urgency::Now } else { Urgency::Answered }
}
