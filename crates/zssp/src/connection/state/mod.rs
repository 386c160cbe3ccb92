//! One connection, without socket and clock: what arrives is fed in, what must go out is drained.
//!
//! Methods are of four kinds: look, feed (`handle_*`), command, drain (`poll_transmit`). What others must be told
//! of a change is collected in [`Effects`] and told after the lock is released.

mod drain;
mod feed;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use seqex::encoding;
use seqex::{Adaptive, Capacity, Config, Feedback, Order, Resend, SeqEx, SeqNo, Token};
use tokio::sync::oneshot;

use super::acks::{AckTimer, Urgency};
use super::close::Phase;
use super::flight::Flight;
use crate::buffers::Buffers;
use crate::error::{CloseReason, SendError};
use crate::frame;
use crate::stats::ConnectionStats;

/// The one channel there is.
pub(in crate::connection) const CHANNEL: encoding::ChannelId = 0;

/// An answer to a message that took many datagrams is worth a payload of its own.
const LARGE: usize = 16 * 1024;

/// The least time between two looks at the clock.
const GRANULARITY: Duration = Duration::from_millis(1);

/// Back-off ends here. A single small probe that often is no burden, and before a peer counts as gone there must have
/// been enough of them that chance is out of the question.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(2);

/// What a datagram costs of its buffers besides its bytes.
const DATAGRAM_COST: usize = 64;

/// What a datagram of `len` bytes costs of its buffers.
pub(in crate::connection) const fn datagram_cost(len: usize) -> usize {
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
pub(in crate::connection) struct Sending {
    pub(in crate::connection) data: Bytes,
    /// What it took of the send buffer.
    pub(in crate::connection) cost: usize,
    /// Who waits for the reply.
    pub(in crate::connection) answer: Option<oneshot::Sender<Bytes>>,
}

/// A message of the peer, waiting for the application.
#[derive(Debug)]
pub(in crate::connection) struct Arrived {
    pub(in crate::connection) token: Token,
    pub(in crate::connection) data: Bytes,
    /// Our message that it replies to, if that was not a request.
    pub(in crate::connection) answers: Option<Bytes>,
}

/// What others must be told, once the lock is released.
#[derive(Debug, Default)]
#[must_use = "waiting tasks must be told"]
pub(in crate::connection) struct Effects {
    /// Bytes given back to the send buffer.
    pub(in crate::connection) freed: usize,
    /// Bytes given back to the datagram buffer.
    pub(in crate::connection) datagrams_freed: usize,
    /// Replies, and requests that will have none.
    pub(in crate::connection) answers: Vec<(oneshot::Sender<Bytes>, Option<Bytes>)>,
    /// What is to be dropped outside of the lock.
    pub(in crate::connection) dropped: Vec<Sending>,
    /// The driver has something to do.
    pub(in crate::connection) driver: bool,
    /// A message arrived.
    pub(in crate::connection) inbox: bool,
    /// A datagram arrived.
    pub(in crate::connection) datagrams: bool,
    /// Everything sent was answered, or the connection ended.
    pub(in crate::connection) changed: bool,
    /// The connection ended.
    pub(in crate::connection) ended: bool,
}

/// What the driver does after a round of [`State::poll_transmit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::connection) enum Step {
    /// There is more to send.
    Again,
    /// The connection is over.
    Over,
    /// Nothing until then, or until something changes.
    Wait(Option<Instant>),
}

/// One connection's state.
#[derive(Debug)]
pub(in crate::connection) struct State {
    settings: Settings,
    buffers: Arc<Buffers>,
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

/// Look.
impl State {
    pub(in crate::connection) fn new(now: Instant, settings: Settings, buffers: Arc<Buffers>) -> Self {
        let config = Config {
            capacity: settings.window,
            //= ZSSP-SEQ-19  by the measured round trip
            resend: Resend::Adaptive(Adaptive { max: LONGEST_TIMEOUT, ..Adaptive::default() }),
            give_up_after: Some(settings.give_up_after),
            feedback: Feedback::Collect,
            ..Config::default()
        };
        Self {
            settings,
            buffers,
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

    pub(in crate::connection) fn ended(&self) -> Option<&CloseReason> {
        self.ended.as_ref()
    }

    /// Whether everything sent has been answered.
    pub(in crate::connection) fn is_drained(&self) -> bool {
        self.queue.is_empty() && self.exchange.unanswered() == 0
    }

    pub(in crate::connection) fn stats(&self) -> ConnectionStats {
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

/// Command.
impl State {
    /// Queues a message. There is always room: whoever calls has taken its cost off the send buffer.
    pub(in crate::connection) fn send(
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

    pub(in crate::connection) fn send_datagram(
        &mut self,
        data: Bytes,
        effects: &mut Effects,
    ) -> Result<(), SendError> {
        if let Err(error) = self.may_send() {
            effects.datagrams_freed += datagram_cost(data.len());
            return Err(error);
        }
        self.datagrams_out.push_back(data);
        effects.driver = true;
        Ok(())
    }

    pub(in crate::connection) fn take_message(&mut self) -> Option<Arrived> {
        self.inbox.pop_front()
    }

    pub(in crate::connection) fn has_messages(&self) -> bool {
        !self.inbox.is_empty()
    }

    pub(in crate::connection) fn take_received_datagram(&mut self) -> Option<Bytes> {
        let data = self.datagrams_in.pop_front()?;
        self.datagrams_in_bytes -= datagram_cost(data.len());
        Some(data)
    }

    pub(in crate::connection) fn has_datagrams(&self) -> bool {
        !self.datagrams_in.is_empty()
    }

    /// Answers a message of `len` bytes with nothing.
    pub(in crate::connection) fn acknowledge(
        &mut self,
        now: Instant,
        token: Token,
        len: usize,
        effects: &mut Effects,
    ) {
        if self.ended.is_some() {
            return;
        }
        self.exchange.acknowledge(token);
        self.note(now, urgency(len), effects);
        self.settle(now, effects);
        self.refill(now);
    }

    /// Answers a message with data. A connection that is draining still lets answers out.
    pub(in crate::connection) fn reply(
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
    pub(in crate::connection) fn release(&mut self, now: Instant, token: &Token, effects: &mut Effects) {
        if self.ended.is_none() {
            self.exchange.release(token);
            self.settle(now, effects);
        }
    }

    /// Starts closing: what was accepted still goes out and is answered, then the peer is told.
    pub(in crate::connection) fn close(
        &mut self,
        now: Instant,
        code: u32,
        reason: &[u8],
        effects: &mut Effects,
    ) {
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

fn urgency(len: usize) -> Urgency {
    if len >= LARGE { Urgency::Now } else { Urgency::Answered }
}
