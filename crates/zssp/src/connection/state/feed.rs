//! What arrives: payloads and the end of the session.

use std::time::Instant;

use bytes::Bytes;
use seqex::encoding::{ChannelId, Frame, Frames};
use seqex::{Ack, Delivery, Event, Message, Order, Packet, Received, SeqNo, Token};

use super::lane::{Content, Sending};
use super::lanes::Turn;
use super::stream::{ReceiveHalf, SendHalf};
use super::streams::Place;
use super::{Arrived, Effects, Kind, PONGS, State, urgency};
use crate::buffers::LentBuffer;
use crate::connection::acks::Urgency;
use crate::connection::close::{Closing, Farewell, Phase};
use crate::connection::mtu::Mtu;
use crate::connection::paths::Moved;
use crate::error::CloseReason;
use crate::frame::{self, Arrivals, Bundle, Chunk, Group, LaneId, Malformed, Part, Payload, Token as Token8};
use crate::link::Path;

/// A payload that was read, and its content copied.
#[derive(Debug)]
pub(in crate::connection) enum Incoming<'a> {
    /// One that needs nothing of the state.
    Datagram(Bytes),
    /// Any other.
    Parsed(Parsed<'a>),
}

/// Datagrams that arrived, of which the state hears later.
#[derive(Debug, Default)]
pub(in crate::connection) struct Heard {
    pub(in crate::connection) payloads: u64,
    pub(in crate::connection) bytes: u64,
    /// Where they came from, if that is known.
    pub(in crate::connection) from: Option<Path>,
}

/// A payload that was read, and its content copied, outside of the lock.
#[derive(Debug)]
pub(in crate::connection) struct Parsed<'a> {
    len: usize,
    from: Option<Path>,
    content: Result<Parts<'a>, Malformed>,
}

#[derive(Debug)]
enum Parts<'a> {
    Arrivals(Arrivals<'a>),
    Close { code: u32, reason: &'a [u8] },
    CloseRead,
    Part(Part<'a>),
    Ping(Token8),
    Pong(Token8),
    Exchange(Exchange<'a>),
    Bundle(Bundle<'a>, &'a mut Messages),
}

/// For the messages of a bundle, of one payload after the other: memory to be used again.
pub(crate) type Messages = Vec<Option<(ChannelId, Message<Bytes>)>>;

/// Frames, and the message among them.
#[derive(Debug)]
struct Exchange<'a> {
    group: Group,
    frames: Frames<'a>,
    message: Option<(ChannelId, Message<Bytes>)>,
}

/// An authentic payload, and its memory if that is there to be kept.
#[derive(Debug, Clone, Copy)]
pub(in crate::connection) struct Body<'a> {
    pub(in crate::connection) bytes: &'a [u8],
    pub(in crate::connection) memory: Option<&'a LentBuffer>,
}

impl<'a> Body<'a> {
    fn message(&self, mut frames: Frames<'a>) -> Option<(ChannelId, Message<Bytes>)> {
        frames.find_map(|frame| match frame {
            Ok(Frame::Message(channel, message)) => Some((channel, message.map(|data| self.keep(data)))),
            _ => None,
        })
    }

    fn bundle(&self, bundle: Bundle<'a>, messages: &'a mut Messages) -> Result<Parts<'a>, Malformed> {
        messages.clear();
        for frames in bundle.clone() {
            messages.push(self.message(frames?.1));
        }
        Ok(Parts::Bundle(bundle, messages))
    }

    /// A part of it, to be kept.
    fn keep(&self, part: &[u8]) -> Bytes {
        self.memory.map_or_else(|| Bytes::copy_from_slice(part), |memory| memory.keep(part))
    }
}

impl<'a> Incoming<'a> {
    pub(in crate::connection) fn read(
        payload: Body<'a>,
        from: Option<Path>,
        messages: &'a mut Messages,
    ) -> Self {
        let content = match Payload::parse(payload.bytes) {
            Ok(Payload::Datagram(data)) => return Self::Datagram(payload.keep(data)),
            Ok(Payload::Arrivals(arrivals)) => Ok(Parts::Arrivals(arrivals)),
            Ok(Payload::Close { code, reason }) => Ok(Parts::Close { code, reason }),
            Ok(Payload::CloseRead) => Ok(Parts::CloseRead),
            Ok(Payload::Part(part)) => Ok(Parts::Part(part)),
            Ok(Payload::Ping(token)) => Ok(Parts::Ping(token)),
            Ok(Payload::Pong(token)) => Ok(Parts::Pong(token)),
            Ok(Payload::Exchange(group, frames)) => {
                let message = payload.message(frames.clone());
                Ok(Parts::Exchange(Exchange { group, frames, message }))
            }
            Ok(Payload::Bundle(bundle)) => payload.bundle(bundle, messages),
            Err(malformed) => Err(malformed),
        };
        Self::Parsed(Parsed { len: payload.bytes.len(), from, content })
    }
}

impl State {
    /// Takes in an authentic payload.
    pub(in crate::connection) fn handle_payload(
        &mut self,
        now: Instant,
        payload: Parsed<'_>,
        effects: &mut Effects,
    ) {
        self.handle_sign_of_life(
            now,
            Heard { payloads: 1, bytes: payload.len as u64, from: payload.from },
            effects,
        );
        if let Err(malformed) = payload.content.and_then(|parts| self.take(now, payload.from, parts, effects))
        {
            self.refuse(now, malformed, effects);
        }
    }

    /// Authentic payloads have arrived, whatever is in them.
    pub(in crate::connection) fn handle_sign_of_life(
        &mut self,
        now: Instant,
        heard: Heard,
        effects: &mut Effects,
    ) {
        self.life.heard(now);
        if self.ended().is_none()
            && heard.from.is_some_and(|from| self.paths.heard(now, from, &mut self.token))
        {
            effects.driver = true;
        }
        effects.token |= self.token.is_none();
        self.stats.payloads_received += heard.payloads;
        self.stats.bytes_received += heard.bytes;
    }

    /// The peer does not follow the protocol.
    pub(super) fn refuse(&mut self, now: Instant, malformed: Malformed, effects: &mut Effects) {
        let words = malformed.as_str();
        let frame = frame::close(frame::PROTOCOL_VIOLATION, words.as_bytes());
        let farewell = Farewell::Closing(Closing::new(now, frame.into()));
        self.end(CloseReason::Protocol(words), farewell, effects);
    }

    /// The peer has closed the connection.
    fn handle_close(&mut self, now: Instant, reason: CloseReason, effects: &mut Effects) {
        let interval = self.flight.rtt().timeout();
        match self.phase {
            Phase::Ended(..) => self.phase.answer_close(now, interval),
            // All that this side sent is answered, whoever's close is there first.
            Phase::Closing(_) => self.end(CloseReason::Local, Farewell::to_close(now, interval), effects),
            Phase::Open | Phase::Draining { .. } => {
                self.end(reason, Farewell::to_close(now, interval), effects);
            }
        }
        effects.driver = true;
    }

    /// The peer has read our close.
    fn handle_close_read(&mut self, effects: &mut Effects) {
        match &mut self.phase {
            Phase::Closing(_) => self.end(CloseReason::Local, Farewell::Over, effects),
            Phase::Ended(_, farewell @ Farewell::Closing(_)) => *farewell = Farewell::Over,
            Phase::Open | Phase::Draining { .. } | Phase::Ended(..) => return,
        }
        effects.driver = true;
    }

    /// A token of this side's has come back: from a path that was asked, a silent peer, or a probe.
    fn handle_pong(&mut self, now: Instant, token: Token8, effects: &mut Effects) {
        if let Some(moved) = self.paths.answered(token) {
            effects.here = Some(self.paths.current());
            if let Moved::Elsewhere = moved {
                self.flight.moved(now);
                self.mtu.moved();
            }
            return;
        }
        effects.driver = true;
        let rtt = self.life.answered(now, token).or_else(|| self.mtu.answered(now, token));
        if let Some(rtt) = rtt {
            self.flight.measured(rtt);
            // The session may have been led astray in the meantime, by somebody who sent on its rekeying.
            effects.here = Some(self.paths.current());
        }
    }

    fn take(
        &mut self,
        now: Instant,
        from: Option<Path>,
        parts: Parts<'_>,
        effects: &mut Effects,
    ) -> Result<(), Malformed> {
        match parts {
            Parts::Close { code, reason } => {
                self.handle_close(now, CloseReason::Peer { code, reason: reason.into() }, effects);
            }
            Parts::CloseRead => self.handle_close_read(effects),
            _ if self.ended().is_some() => {}
            Parts::Pong(token) => self.handle_pong(now, token, effects),
            Parts::Ping(token) => {
                if self.pongs.len() < PONGS {
                    self.pongs.push((token, from));
                }
                effects.driver = true;
            }
            Parts::Arrivals(arrivals) => self.take_arrivals(now, arrivals, effects)?,
            Parts::Part(part) => {
                if let Some(id) = self.take_part(now, &part, effects)? {
                    self.settle_fed(id, now, effects)?;
                }
            }
            Parts::Exchange(exchange) => self.take_exchanges(now, [Ok(exchange)], effects)?,
            Parts::Bundle(bundle, messages) => {
                let exchanges = bundle.zip(messages.drain(..)).map(|(frames, message)| {
                    let (group, frames) = frames?;
                    Ok(Exchange { group, frames, message })
                });
                self.take_exchanges(now, exchanges, effects)?;
            }
        }
        Ok(())
    }

    /// All that follows each other of one exchange is weighed together.
    fn take_exchanges<'a>(
        &mut self,
        now: Instant,
        exchanges: impl IntoIterator<Item = Result<Exchange<'a>, Malformed>>,
        effects: &mut Effects,
    ) -> Result<(), Malformed> {
        let mut last = None;
        for exchange in exchanges {
            let Exchange { group, frames, message } = exchange?;
            for frame in frames {
                let Frame::Ack(channel, ack) = frame? else { continue };
                self.turn_to(&mut last, group.lane(channel), now, effects)?;
                self.take_ack(now, group.lane(channel), ack, effects);
            }
            if let Some((channel, message)) = message {
                self.turn_to(&mut last, group.lane(channel), now, effects)?;
                self.take_message_frame(now, group.lane(channel), message, effects)?;
            }
        }
        last.map_or(Ok(()), |last| self.settle_fed(last, now, effects))
    }

    /// What the exchange before was fed has its conclusions.
    fn turn_to(
        &mut self,
        last: &mut Option<LaneId>,
        next: LaneId,
        now: Instant,
        effects: &mut Effects,
    ) -> Result<(), Malformed> {
        match last.replace(next).filter(|&last| last != next) {
            Some(last) => self.settle_fed(last, now, effects),
            None => Ok(()),
        }
    }

    fn take_ack(&mut self, now: Instant, id: LaneId, ack: Ack, effects: &mut Effects) {
        let time = self.time(now);
        // Of an exchange that is over it is an answer that came twice.
        if let Some(lane) = self.lanes.get_mut(id) {
            lane.exchange.receive(time, Packet::Ack(ack));
            effects.driver = true;
        }
    }

    /// Makes the exchange that a message belongs to, where it is not there. Yields whether the message may be taken.
    pub(super) fn locate(
        &mut self,
        now: Instant,
        id: LaneId,
        seq: SeqNo,
        effects: &mut Effects,
    ) -> Result<bool, Malformed> {
        match id {
            LaneId::Channel(channel) => {
                self.channel(channel).map_err(|_| Malformed::Channel)?;
            }
            LaneId::CONTROL => self.need_control(),
            LaneId::Stream(stream) => match self.place_of(stream, effects)? {
                Place::Here => {}
                Place::Full => return Ok(false),
                Place::Over => {
                    self.answer_late(now, stream, seq, effects);
                    return Ok(false);
                }
            },
        }
        Ok(true)
    }

    pub(super) fn take_message_frame(
        &mut self,
        now: Instant,
        id: LaneId,
        message: Message<Bytes>,
        effects: &mut Effects,
    ) -> Result<Option<LaneId>, Malformed> {
        if !self.locate(now, id, message.seq, effects)?
            || (id == LaneId::CONTROL && self.has_to_wait(&message.data, effects)?)
        {
            return Ok(None);
        }
        let (time, limit, seq) = (self.time(now), self.settings.receive_buffer, message.seq);
        let Some(lane) = self.lanes.get_mut(id) else { return Ok(None) };
        let in_order = message.seq == lane.expected;
        if message.seq.since(lane.expected) < lane.capacity {
            lane.expected = message.seq.next();
        }
        let (mut len, mut reply) = (0, 0);
        match (&lane.content, message.reply_to) {
            (Content::Control(_), None) => {}
            (Content::Channel(_), None) => len = message.data.len(),
            (Content::Stream(_), None) => len = message.data.len().saturating_sub(1),
            (Content::Channel(_), Some(asked)) => {
                // To a reply of ours it does not count: whoever replies to replies has asked for it.
                if lane.exchange.sent(asked).is_some_and(|asked| asked.kind == Kind::Message) {
                    reply = message.data.len();
                }
            }
            (Content::Control(_) | Content::Stream(_), Some(_)) => return Err(Malformed::Chunk),
        }
        effects.driver |= message.reply_to.is_some();
        let received = lane.exchange.receive(time, Packet::Message(message));
        let taken = matches!(received, Received::Taken);
        if taken {
            self.received += len;
            self.replies += reply;
            self.assemblies.forget(id, seq);
            self.lanes.holds(id);
            self.acks.arrived(now);
            //= ZSSP-STR-06  more than was allowed ends the connection
            if self.received + self.assemblies.bytes() > limit || self.replies > limit {
                return Err(Malformed::Credit);
            }
        }
        if !taken || !in_order {
            self.note(id, now, Urgency::Now, effects);
        }
        effects.driver |= self.is_early(self.acks.deadline());
        Ok(Some(id))
    }

    /// Draws the conclusions of whatever an exchange was fed by the peer.
    pub(super) fn settle_fed(
        &mut self,
        id: LaneId,
        now: Instant,
        effects: &mut Effects,
    ) -> Result<(), Malformed> {
        self.settle(id, now, effects)?;
        // An answer may have made room in the window, or shown that something is lost.
        self.lanes.ready(id, Turn::Last);
        self.lanes.arm(id, self.epoch);
        self.sweep(id, effects);
        Ok(())
    }

    /// Draws the conclusions of whatever an exchange was fed.
    pub(super) fn settle(
        &mut self,
        id: LaneId,
        now: Instant,
        effects: &mut Effects,
    ) -> Result<(), Malformed> {
        self.drain_events(id, now);
        let (mut answered, mut advances) = (false, false);
        while let Some(delivery) = self.lanes.get_mut(id).and_then(|lane| lane.poll_delivery()) {
            match delivery {
                Delivery::Acknowledged { data: mut sent, .. } => {
                    advances |= sent.kind == Kind::Message;
                    self.give_back(id, sent.kind, sent.cost, effects);
                    effects.answers.extend(sent.answer.take().map(|answer| (answer, None)));
                    if id == LaneId::CONTROL {
                        self.control_answered(now, &sent.data, effects);
                    } else {
                        self.chunk_answered(id, &sent, effects);
                    }
                    effects.dropped.push(sent);
                    answered = true;
                }
                Delivery::Payload { token, data } => self.deliver(id, now, (token, data), effects)?,
                Delivery::Reply { token, data, sent, .. } => {
                    answered = true;
                    advances |= sent.kind == Kind::Message;
                    self.take_reply(id, now, (token, data, sent), effects)?;
                }
            }
        }
        if advances && id != LaneId::CONTROL {
            self.phase.progress(now + self.settings.give_up_after);
        }
        if answered {
            effects.driver = true;
            if let Some(lane) = self.lanes.get(id).filter(|lane| lane.is_drained()) {
                lane.tell_settled(effects);
            }
        }
        Ok(())
    }

    /// The same, after a command of this side: what the peer sent may prove malformed only when it is taken out.
    pub(super) fn settle_own(&mut self, id: LaneId, now: Instant, effects: &mut Effects) {
        if let Err(malformed) = self.settle(id, now, effects) {
            self.refuse(now, malformed, effects);
        }
        self.lanes.ready(id, Turn::Last);
        self.sweep(id, effects);
    }

    /// A message of the peer that answers one of ours: a request's, for whoever waits for it, or one to be received.
    fn take_reply(
        &mut self,
        id: LaneId,
        now: Instant,
        (token, data, mut sent): (Token, Bytes, Sending),
        effects: &mut Effects,
    ) -> Result<(), Malformed> {
        let channel = self.find_channel(id).ok_or(Malformed::Chunk)?;
        let Some(answer) = sent.answer.take() else {
            channel.inbox.push(Arrived { token, data, answers: Some(sent) });
            effects.notify(&channel.arrival);
            return Ok(());
        };
        self.replies -= data.len();
        self.give_back(id, sent.kind, sent.cost, effects);
        if let Some(lane) = self.lanes.get_mut(id) {
            lane.exchange.acknowledge(token);
        }
        self.note(id, now, urgency(data.len()), effects);
        effects.answers.push((answer, Some(data)));
        effects.dropped.push(sent);
        Ok(())
    }

    /// A message of the peer that answers none of ours.
    fn deliver(
        &mut self,
        id: LaneId,
        now: Instant,
        (token, data): (Token, Bytes),
        effects: &mut Effects,
    ) -> Result<(), Malformed> {
        let Some(lane) = self.lanes.get_mut(id) else { return Ok(()) };
        match &mut lane.content {
            Content::Channel(channel) => {
                channel.inbox.push(Arrived { token, data, answers: None });
                effects.notify(&channel.arrival);
                Ok(())
            }
            Content::Control(_) => {
                lane.exchange.acknowledge(token);
                self.note(id, now, Urgency::Answered, effects);
                self.handle_control(now, &data, effects)
            }
            Content::Stream(stream) => {
                let chunk = Chunk::parse(&data)?;
                //= ZSSP-STR-03  all chunks are ordered ones, and only the last is empty
                if token.order() == Order::Unordered || (data.len() == 1 && chunk == Chunk::Middle) {
                    return Err(Malformed::Chunk);
                }
                let content = data.slice(1..);
                if stream.receiving == ReceiveHalf::Open {
                    stream.arrived(token, content, chunk, effects);
                    stream.release_next(&mut lane.exchange);
                } else if let Some((token, len)) = stream.discard_chunk(token, content.len(), chunk) {
                    self.received -= len;
                    lane.exchange.acknowledge(token);
                    self.note(id, now, Urgency::Answered, effects);
                }
                Ok(())
            }
        }
    }

    /// The peer has answered a chunk of ours.
    fn chunk_answered(&mut self, id: LaneId, sent: &Sending, effects: &mut Effects) {
        if let Some(lane) = self.lanes.get_mut(id)
            && let Content::Stream(stream) = &mut lane.content
            && sent.chunk == Some(Chunk::Last)
            && stream.sending == SendHalf::Finished
        {
            stream.sending = SendHalf::Read;
            lane.tell_settled(effects);
        }
    }

    pub(super) fn drain_events(&mut self, id: LaneId, now: Instant) {
        let time = self.time(now);
        while let Some(lane) = self.lanes.get_mut(id)
            && let Some(event) = lane.exchange.poll_event()
        {
            let landed = lane.landed(&event);
            match event {
                Event::Acked { seq, .. } | Event::Held { seq, .. } => self.end_transfer(id, seq),
                Event::Late { resent_for: Some(time), .. } if self.flight.rtt().is_possible(time) => continue,
                Event::Late { .. } => self.stats.messages_late += 1,
                Event::Lost { .. } => self.stats.messages_lost += 1,
                Event::TimedOut { .. } => self.stats.timeouts += 1,
            }
            if landed.bytes > 0 {
                note_size(&mut self.mtu, (now, self.epoch), &event, landed.bytes as usize);
            }
            self.flight.on_event(time, event, landed);
        }
    }

    /// The link has taken nothing for as long as a peer may be silent. That is the end where the peer was, or where only the
    /// end is waited for.
    pub(in crate::connection) fn handle_blocked_link(&mut self, now: Instant, effects: &mut Effects) {
        let is_over = match &self.phase {
            Phase::Open => self.life.is_silent(now, self.settings.give_up_after),
            Phase::Draining { give_up, .. } => *give_up <= now,
            Phase::Closing(_) | Phase::Ended(..) => true,
        };
        if is_over {
            // Where all was answered, only the peer's last word is missing.
            let why =
                if let Phase::Closing(_) = self.phase { CloseReason::Local } else { CloseReason::TimedOut };
            self.handle_session_end(why, effects);
        }
    }

    /// The session below is gone.
    pub(in crate::connection) fn handle_session_end(&mut self, reason: CloseReason, effects: &mut Effects) {
        match &mut self.phase {
            Phase::Ended(_, farewell) => *farewell = Farewell::Over,
            _ => self.end(reason, Farewell::Over, effects),
        }
        effects.driver = true;
    }
}

/// What an event about a payload says about the size of datagrams. `epoch` is the zero of the exchange's clock.
fn note_size(mtu: &mut Mtu, (now, epoch): (Instant, Instant), event: &Event, len: usize) {
    let at = |sent: seqex::Timestamp| epoch.checked_add(sent).unwrap_or(epoch);
    match event {
        Event::Acked { sent_at, .. } | Event::Held { sent_at, .. } => mtu.arrived(now, at(*sent_at), len),
        // Its loss was a suspicion at the most, which costs a round trip of smaller datagrams, and a probe clears it.
        Event::Late { .. } => {}
        Event::Lost { sent_at, .. } => mtu.lost(at(*sent_at), len),
        Event::TimedOut { sent_at, .. } => mtu.timed_out(at(*sent_at), len),
    }
}
