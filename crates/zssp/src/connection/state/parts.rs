//! Messages in parts. What is lost for one fragment of many is sent again in payloads of one fragment each, of which those
//! that arrive have arrived for good; where payloads are lost, large messages are sent in parts from the first. Parts go out
//! as messages do, at the pace of the road and within its window, and each that arrives makes room for the next.

use std::time::Instant;

use bytes::Bytes;
use seqex::{Ack, AckKind, Message, Packet, SeqNo};

use super::assemble::Taken;
use super::lane::Transmission;
use super::reordering::Why;
use super::{Effects, Kind, State};
use crate::connection::acks::Urgency;
use crate::connection::close::Farewell;
use crate::connection::flight::Outcome;
use crate::connection::outgoing::Outgoing;
use crate::error::CloseReason;
use crate::frame::{Arrivals, LaneId, Malformed, PART_OVERHEAD, Part};

/// Feed.
impl State {
    //= ZSSP-PRT-05  kept only where the message itself would be
    /// Takes in a part of a message, and the message when it is whole.
    pub(super) fn take_part(
        &mut self,
        now: Instant,
        part: &Part<'_>,
        effects: &mut Effects,
    ) -> Result<Option<LaneId>, Malformed> {
        let Message { seq, reply_to, .. } = part.message;
        if !self.locate(now, part.lane, seq, effects)? {
            return Ok(None);
        }
        let Some(lane) = self.lanes.get(part.lane) else { return Ok(None) };
        if !lane.exchange.expects(seq) {
            // It has arrived, or lies beyond the window: the exchange knows what that calls for, and takes no data.
            let message = with_data(&part.message, Bytes::new());
            return self.take_message_frame(now, part.lane, message, effects);
        }
        if reply_to.is_some_and(|asked| lane.exchange.sent(asked).is_none()) {
            return Ok(None);
        }
        let limit = self.settings.receive_buffer;
        let taken = self.assemblies.add(part, limit.saturating_sub(self.received), limit)?;
        //= ZSSP-PRT-06  what was dropped has not arrived
        let urgency = match taken {
            Taken::Dropped => return Ok(None),
            Taken::Kept => Urgency::Answered,
            Taken::Whole(_) => Urgency::Now,
        };
        self.arrivals.add(now, part.number, urgency);
        effects.driver |= self.is_early(self.arrivals.due());
        match taken {
            Taken::Whole(message) => self.take_message_frame(now, part.lane, message, effects),
            Taken::Dropped | Taken::Kept => Ok(None),
        }
    }

    /// The peer tells which parts have arrived.
    pub(super) fn take_arrivals(
        &mut self,
        now: Instant,
        arrivals: Arrivals<'_>,
        effects: &mut Effects,
    ) -> Result<(), Malformed> {
        let mut newest = None;
        for numbers in arrivals.ranges() {
            //= ZSSP-PRT-06  what was never sent cannot have arrived
            if !self.transfers.has_been(*numbers.end()) {
                return Err(Malformed::Arrivals);
            }
            let newest = *newest.get_or_insert(*numbers.end());
            while let Some((number, sent)) = self.transfers.arrived(now, &numbers) {
                let rtt = (number == newest).then(|| now.saturating_duration_since(sent.at));
                self.mtu.arrived(now, sent.at, sent.len);
                self.flight.on_part(now, Outcome::Arrived { rtt }, sent.at, sent.len);
                let (id, seq) = sent.key;
                let message = self.lanes.get(id).and_then(|lane| lane.exchange.sent(seq));
                if message.is_some_and(|message| message.kind == Kind::Message) {
                    self.phase.progress(now + self.settings.give_up_after);
                }
                if self.transfers.is_over(sent.key) {
                    self.has_arrived(now, id, seq, effects)?;
                } else if let Some(lane) = self.lanes.get_mut(id) {
                    lane.exchange.heard(now.saturating_duration_since(self.epoch));
                }
            }
            while let Some(late) = self.transfers.arrived_late(now, &numbers) {
                self.stats.parts_late += 1;
                self.mtu.arrived(now, late.sent.at, late.sent.len);
                match late.why {
                    Why::Evidence => self.flight.late(now, late.sent.at),
                    Why::TimeOut => self.flight.heard(now),
                }
                if self.transfers.is_over(late.sent.key) {
                    let (id, seq) = late.sent.key;
                    self.has_arrived(now, id, seq, effects)?;
                }
            }
        }
        // There may be room for others, and some may be known to be lost.
        effects.driver = true;
        Ok(())
    }

    /// The peer has all parts of a message: that it holds it may be said before it says so.
    fn has_arrived(
        &mut self,
        now: Instant,
        id: LaneId,
        seq: SeqNo,
        effects: &mut Effects,
    ) -> Result<(), Malformed> {
        self.end_transfer(id, seq);
        let time = self.time(now);
        if let Some(lane) = self.lanes.get_mut(id) {
            lane.exchange.receive(time, Packet::Ack(Ack { kind: AckKind::Holding, first: seq, count: 1 }));
        }
        self.settle_fed(id, now, effects)
    }

    /// The peer has a message, wherever that is known from.
    pub(super) fn end_transfer(&mut self, id: LaneId, seq: SeqNo) {
        if let Some(ended) = self.transfers.end((id, seq)) {
            self.flight.forget(ended.bytes as u64);
            self.flight.arrived_in_parts(ended.arrived);
        }
    }

    /// Finds out which parts are lost by now.
    pub(super) fn handle_time_of_parts(&mut self, now: Instant, effects: &mut Effects) {
        while let Some(sent) = self.transfers.lost(now, self.flight.rtt()) {
            self.stats.parts_lost += 1;
            self.mtu.lost(sent.at, sent.len);
            self.flight.on_part(now, Outcome::Lost, sent.at, sent.len);
        }
        if let Some(sent) = self.transfers.timed_out(now, self.flight.rtt()) {
            self.stats.timeouts += 1;
            self.mtu.timed_out(sent.at, sent.len);
            self.flight.on_part(now, Outcome::TimedOut, sent.at, sent.len);
            // The exchange fails once, perhaps while others are answered, and has no timer for what goes in parts.
            let failed = self.lanes.get(sent.key.0).is_some_and(|lane| lane.exchange.failure().is_some());
            if failed && self.is_silent(now) {
                self.end(CloseReason::TimedOut, Farewell::Over, effects);
            }
        }
    }
}

/// Drain.
impl State {
    /// A message that was just chosen for transmission goes out in parts.
    pub(super) fn divide(&mut self, id: LaneId, message: Transmission) {
        let Some(lane) = self.lanes.get_mut(id) else { return };
        self.flight.forget(u64::from(lane.entrust(message.seq)));
        self.transfers.begin((id, message.seq), lane.priority, message);
    }

    /// The next part, which goes out.
    pub(super) fn next_part(&mut self, now: Instant) -> Option<Outgoing> {
        let part = self.transfers.send(now, self.flight.fragment().saturating_sub(PART_OVERHEAD))?;
        // Larger datagrams would be of use, for all that is not sent in parts.
        self.mtu.demand(now);
        self.flight.sent(now, 0, u32::try_from(part.len()).unwrap_or(u32::MAX));
        Some(part)
    }
}

/// The same message with other data.
fn with_data<A, B>(message: &Message<A>, data: B) -> Message<B> {
    let &Message { seq, reply_to, order, .. } = message;
    Message { seq, reply_to, order, data }
}
