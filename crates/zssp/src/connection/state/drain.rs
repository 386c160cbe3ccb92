//! What must go out, and when to look again.

use std::time::Instant;

use bytes::Bytes;
use seqex::SeqNo;

use super::lane::Transmission;
use super::lanes::Turn;
use super::{Effects, GRANULARITY, State, Step};
use crate::connection::acks::Urgency;
use crate::connection::bundling::{bundled_len, bundles};
use crate::connection::close::{Closing, Farewell, Pending, Phase, Pulse};
use crate::connection::flight::Room;
use crate::connection::mtu::Probe;
use crate::connection::outgoing::{Acks, Outgoing};
use crate::connection::sending::Budget;
use crate::error::CloseReason;
use crate::frame::{self, CHUNK_OVERHEAD, Group, LaneId};

/// What has its turn.
enum Next {
    Message(Chosen),
    Part(Outgoing),
}

/// A message that is transmitted.
struct Chosen {
    id: LaneId,
    message: Transmission,
    /// A time-out has let it out.
    is_hurried: bool,
    /// It is larger than what is likely to arrive at once.
    is_divided: bool,
}

impl State {
    /// Puts payloads into `out` until `budget` is spent, or just above, and says what to do next.
    pub(in crate::connection) fn poll_transmit(
        &mut self,
        now: Instant,
        budget: &mut Budget,
        out: &mut Vec<Outgoing>,
        effects: &mut Effects,
    ) -> Step {
        let before = out.len();
        self.handle_time(now, effects);
        self.call_waiting(now, effects);
        self.flight.set_mtu(self.mtu.current());
        let mut full = false;
        if self.ended().is_none() {
            self.put_signs_of_life(now, out);
            out.extend(self.arrivals.poll(now));
            out[before..].iter().for_each(|payload| budget.spend(payload.len()));
            full = self.put_messages(now, budget, out, effects);
            // After the messages: what was answered by one of them is not held any more.
            let held = self.acks.tells_held(now);
            if held {
                self.lanes.tell_held();
            }
            if held || self.acks.due().is_some_and(|due| due <= now) {
                self.put_acks(out, effects);
            }
        }
        self.phase.put_frames(now, self.flight.rtt().timeout(), out);
        let mtu = self.mtu.current();
        for payload in &mut out[before..] {
            if payload.settle_mtu(mtu) {
                self.mtu.demand(now);
            }
        }
        self.put_probes(now, out);
        for bundle in bundles(&out[before..]) {
            self.stats.payloads_sent += 1;
            self.stats.bytes_sent += bundled_len(bundle) as u64;
        }
        effects.token |= self.token.is_none();
        // What is due and could not be done waits for the congestion window, which an acknowledgement will open:
        // looking again at once would only spin.
        self.armed = self.next_deadline().map(|deadline| deadline.max(now + GRANULARITY));
        // What was sent just now may have been the last that the close waited for.
        let is_drained = self.phase.is_draining() && self.pending() == Pending::Nothing;
        match self.phase {
            Phase::Ended(_, Farewell::Over) => Step::Over,
            _ if full || is_drained => Step::Again,
            _ => Step::Wait(self.armed),
        }
    }

    fn handle_time(&mut self, now: Instant, effects: &mut Effects) {
        let time = self.time(now);
        if let Some(until) = self.life.looks(now, self.armed.unwrap_or(now)) {
            self.phase.progress(until);
        }
        while self.ended().is_none()
            && let Some(id) = self.lanes.expired(now)
        {
            let Some(lane) = self.lanes.get_mut(id) else { continue };
            lane.exchange.handle_timeout(time);
            let failed = lane.exchange.failure().is_some();
            self.drain_events(id, now);
            // What is about a stream may have to wait for room, for as long as the peer is there.
            let may_wait = id == LaneId::CONTROL && !self.life.is_silent(now, self.settings.give_up_after);
            // One that is silent while others are answered has not had its turn.
            if failed && !may_wait && self.is_silent(now) {
                self.end(CloseReason::TimedOut, Farewell::Over, effects);
            }
            self.lanes.hurry(id);
            self.lanes.ready(id, Turn::Next);
            self.lanes.arm(id, self.epoch);
        }
        self.handle_time_of_parts(now, effects);
        if self.life.is_over(now) {
            // All was answered, and only the peer's last word is missing.
            let why =
                if let Phase::Closing(_) = self.phase { CloseReason::Local } else { CloseReason::TimedOut };
            self.end(why, Farewell::Over, effects);
        }
        let pending = if self.phase.is_draining() { self.pending() } else { Pending::Nothing };
        match self.phase.pulse(now, pending) {
            Pulse::Steady => {}
            Pulse::Drained(frame) => {
                // What the peer's messages were answered with goes first: its side is drained by it, too.
                if self.acks.due().is_some() {
                    self.acks.add(now, Urgency::Now);
                }
                self.phase = Phase::Closing(Closing::new(now, frame));
            }
            Pulse::Stalled(frame) => {
                self.end(CloseReason::TimedOut, Farewell::Closing(Closing::new(now, frame)), effects);
            }
            Pulse::Unconfirmed => self.end(CloseReason::Local, Farewell::Over, effects),
        }
    }

    fn put_signs_of_life(&mut self, now: Instant, out: &mut Vec<Outgoing>) {
        //= ZSSP-LIV-02  with the token it came with
        let pongs = self.pongs.drain(..);
        out.extend(pongs.map(|(token, from)| Outgoing::aside(from, &frame::pong(token))));
        while let Some((path, token)) = self.paths.asks(now, self.flight.rtt().timeout()) {
            out.push(Outgoing::aside(Some(path), &frame::ping(token)));
        }
        if let Some(token) = self.life.asks(now) {
            out.push(Outgoing::aside(None, &frame::ping(token)));
        }
    }

    //= ZSSP-LIV-06  whatever else is under way
    fn put_probes(&mut self, now: Instant, out: &mut Vec<Outgoing>) {
        while self.probes()
            && let Some(size) = self.mtu.next_probe(now, self.flight.arrived_at())
            // Without one there is another look as soon as one is drawn.
            && let Some(token) = self.token.take()
        {
            // Not in a hurry: a queue that is just growing must not be taken for a narrow road.
            let deadline = now + self.flight.rtt().timeout() * 3;
            self.mtu.sent(Probe { token, size, sent_at: now, deadline });
            out.push(Outgoing::probe(token, size));
        }
    }

    /// Whether the budget ended before what may be sent now.
    fn put_messages(
        &mut self,
        now: Instant,
        budget: &mut Budget,
        out: &mut Vec<Outgoing>,
        effects: &mut Effects,
    ) -> bool {
        let limit = self.flight.payload_limit(self.settings.max_payload);
        self.paced = None;
        self.bundling.end();
        loop {
            match self.flight.room(now) {
                Room::Full => return false,
                Room::Later(at) => {
                    self.paced = (self.lanes.has_ready() || self.transfers.wait()).then_some(at);
                    return false;
                }
                Room::Open => {}
            }
            if budget.is_spent() {
                return self.lanes.has_ready() || self.transfers.wait();
            }
            let payload = match self.next(now, limit) {
                None => return false,
                Some(Next::Part(part)) => part,
                Some(Next::Message(message)) => match self.depart(now, message, out, effects) {
                    Some(payload) => payload,
                    None => continue,
                },
            };
            match payload.joins() {
                true => budget.join(payload.len()),
                false => budget.spend(payload.len()),
            }
            out.push(payload);
        }
    }

    /// What goes next: what a time-out has let out, and then what has the highest priority. `limit` is for payloads.
    fn next(&mut self, now: Instant, limit: usize) -> Option<Next> {
        let time = self.time(now);
        loop {
            // Its answer tells of the parts of all messages, and that of a message of its own exchange at the most.
            if self.transfers.are_hurried()
                && let Some(part) = self.next_part(now)
            {
                return Some(Next::Part(part));
            }
            let hurried = self.lanes.next_hurried(time);
            let is_hurried = hurried.is_some();
            let (id, message) = if let Some(hurried) = hurried {
                hurried
            } else if self.transfers.are_next(self.lanes.ready_priority()) {
                return self.next_part(now).map(Next::Part);
            } else {
                let id = self.lanes.next_ready()?;
                let Some(lane) = self.lanes.get_mut(id) else { continue };
                let chunk = limit.saturating_sub(CHUNK_OVERHEAD).max(1);
                let Some(message) = lane.poll_message(id, time, chunk) else { continue };
                (id, message)
            };
            let whole_is_risky = message.again || self.flight.is_lossy();
            let is_divided = whole_is_risky && message.len() > limit && !message.asks_only();
            return Some(Next::Message(Chosen { id, message, is_hurried, is_divided }));
        }
    }

    /// A message leaves: as a payload, or as a question what became of it. One that is divided leaves part by part, and
    /// nothing of it now.
    fn depart(
        &mut self,
        now: Instant,
        chosen: Chosen,
        out: &mut Vec<Outgoing>,
        effects: &mut Effects,
    ) -> Option<Outgoing> {
        let Chosen { id, message, is_hurried, is_divided } = chosen;
        let key = (id, message.seq);
        self.stats.messages_sent += 1;
        self.stats.messages_resent += u64::from(message.again);
        let payload = if message.asks_only() {
            let question = self.transfers.ask(id, &message);
            let (before, len) = self.goes_under_way(key, question.len());
            self.flight.asked(now, before, len);
            Some(question)
        } else if is_divided {
            if message.is_reply && self.acks.due().is_some() {
                self.put_acks(out, effects);
            }
            self.divide(id, message);
            if is_hurried {
                self.transfers.hurry(key);
            }
            None
        } else {
            let (before, len) = self.goes_under_way(key, message.len());
            // A short one that the peer holds is the question itself.
            match message.is_held {
                true => self.flight.asked(now, before, len),
                false => self.flight.sent(now, before, len),
            }
            let payload = self.payload_of(id, message, out, effects);
            Some(self.bundled(key, payload, out))
        };
        self.lanes.ready(id, Turn::Last);
        self.lanes.arm(id, self.epoch);
        payload
    }

    /// A message goes under way, in so many bytes. Yields how many bytes of it already were, and how many are now.
    fn goes_under_way(&mut self, (id, seq): (LaneId, SeqNo), len: usize) -> (u32, u32) {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        (self.lanes.get_mut(id).map_or(0, |lane| lane.departed(seq, len)), len)
    }

    /// The payload of a message, with as many acknowledgements as may ride with it. Payloads with acknowledgements that a
    /// reply would overtake go into `out`: to the peer, which takes it for one, they would look lost.
    fn payload_of(
        &mut self,
        id: LaneId,
        mut message: Transmission,
        out: &mut Vec<Outgoing>,
        effects: &mut Effects,
    ) -> Outgoing {
        let body = message.take_body();
        let mut payload = Outgoing::of(id.group(), Bytes::new());
        //= ZSSP-ENC-03  acknowledgements ride with messages
        if self.acks.due().is_some() {
            let empty = payload.len();
            let room = self.settings.max_payload.saturating_sub(body.len() + CHUNK_OVERHEAD);
            self.fill_acks(id.group(), &mut payload, room, effects);
            if self.lanes.next_acks().is_none() && self.streams.late.is_empty() {
                self.acks.sent();
            } else if message.is_reply {
                let rest = std::mem::replace(&mut payload, Outgoing::of(id.group(), Bytes::new()));
                out.extend((rest.len() > empty).then_some(rest));
                self.put_acks(out, effects);
            }
        }
        message.put_head(payload.with_body(body))
    }

    //= ZSSP-BUN-02  in the order in which they would go alone
    /// A message's payload goes with the one before it, where there is room in a datagram that every road carries: that a
    /// larger one is lost on a road that has become narrower is not to be seen from the sizes of what was in it.
    fn bundled(&mut self, (id, seq): (LaneId, SeqNo), mut payload: Outgoing, out: &[Outgoing]) -> Outgoing {
        let joins = self.bundling.put(out.len(), payload.len(), self.mtu.sure_payload());
        if joins {
            payload.join();
        }
        if let Some(lane) = self.lanes.get_mut(id) {
            lane.bundled(seq, self.bundling.number(), joins);
        }
        payload
    }

    fn put_acks(&mut self, out: &mut Vec<Outgoing>, effects: &mut Effects) {
        while let Some(id) = self.lanes.next_acks() {
            let mut payload = Outgoing::of(id.group(), Bytes::new());
            let empty = payload.len();
            self.fill_acks(id.group(), &mut payload, usize::MAX, effects);
            if payload.len() > empty {
                out.push(payload);
            }
        }
        self.put_late_answers(out);
        self.acks.sent();
    }

    fn put_late_answers(&mut self, out: &mut Vec<Outgoing>) {
        let late = &mut self.streams.late;
        while let Some((id, seq)) = late.pop_front() {
            let group = LaneId::Stream(id).group();
            let mut payload = Outgoing::of(group, Bytes::new());
            let answered = payload.put_answer(LaneId::Stream(id).channel(), seq);
            debug_assert!(answered == Acks::None, "an empty payload has room for one");
            while let Some(&(id, seq)) = late.front()
                && LaneId::Stream(id).group() == group
                && payload.put_answer(LaneId::Stream(id).channel(), seq) == Acks::None
            {
                late.pop_front();
            }
            out.push(payload);
        }
    }

    /// Puts acknowledgements of the exchanges whose turn it is into a payload of `group`, as many as fit.
    fn fill_acks(&mut self, group: Group, payload: &mut Outgoing, room: usize, effects: &mut Effects) {
        let start = payload.len();
        while let Some(id) = self.lanes.next_acks()
            && id.group() == group
            && let Some(lane) = self.lanes.get_mut(id)
        {
            let room = room.saturating_sub(payload.len() - start);
            if payload.put_acks(id.channel(), &mut lane.exchange, room) == Acks::Left {
                break;
            }
            self.lanes.acks_are_sent();
            self.sweep(id, effects);
        }
    }
}
