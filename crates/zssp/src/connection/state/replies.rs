//! Answering the peer's messages.
//!
//! A reply is accepted at once, and goes into the exchange when there is [room](super::room) for it. As long as one of a
//! channel waits for that, the application gets no message there whose reply would have to wait, too, but all replies: so
//! what waits is bounded by the messages it had before, and two applications that both reply in the task that receives go
//! on taking each other's replies, which is what makes room. For that the exchange [keeps](KEPT) some numbers free.

use std::time::Instant;

use bytes::Bytes;
use seqex::Token;
use seqex::encoding::ChannelId;

use super::inbox::Gate;
use super::lane::Channel;
use super::lanes::Turn;
use super::{Effects, Kind, MESSAGE_COST, Sending, State, urgency};
use crate::error::SendError;
use crate::frame::LaneId;

/// One in so many numbers of a channel's window is left to the peer's replies by new messages. Two are enough for an
/// application that takes one reply at a time. A reply to a reply uses one up, until older messages are answered; what this
/// means is said at "Applications that wait" in the documentation of `seqex`.
pub(super) const KEPT: u32 = 8;

/// A message of the peer that is to be answered.
#[derive(Debug)]
pub(in crate::connection) struct Answering {
    pub(in crate::connection) channel: ChannelId,
    pub(in crate::connection) token: Token,
    /// Bytes of its data.
    pub(in crate::connection) len: usize,
    /// What our message that it replies to took, if it is a reply.
    pub(in crate::connection) asked: Option<(Kind, usize)>,
}

impl Channel {
    /// What the application may be given.
    pub(super) fn gate(&self) -> Gate {
        if self.waiting_replies.is_empty() { Gate::Open } else { Gate::RepliesOnly }
    }
}

impl State {
    /// Answers a message with nothing.
    pub(in crate::connection) fn acknowledge(
        &mut self,
        now: Instant,
        answering: Answering,
        effects: &mut Effects,
    ) {
        if self.ended().is_some() {
            return;
        }
        self.dealt_with(&answering, effects);
        let id = LaneId::Channel(answering.channel);
        if let Some(lane) = self.lanes.get_mut(id) {
            lane.exchange.acknowledge(answering.token);
        }
        self.note(id, now, urgency(answering.len), effects);
        self.settle_own(id, now, effects);
    }

    /// Answers a message with data. A connection that is draining still lets answers out, and waits for them.
    pub(in crate::connection) fn reply(
        &mut self,
        now: Instant,
        answering: Answering,
        data: Bytes,
        effects: &mut Effects,
    ) -> Result<(), SendError> {
        if let Err(reason) = self.phase.may_answer() {
            effects.discarded.push(data);
            return Err(SendError::Closed(reason));
        }
        self.dealt_with(&answering, effects);
        let Answering { channel, token, asked, .. } = answering;
        let id = LaneId::Channel(channel);
        let cost = if asked.is_some() { 0 } else { data.len() + MESSAGE_COST };
        let reply = Sending { kind: Kind::Reply, ..Sending::new(data, cost) };
        let is_first = self.find_channel(id).is_some_and(|channel| channel.waiting_replies.is_empty());
        if cost == 0 || (is_first && self.take_reply_room(id, cost)) {
            self.put_reply(id, now, (token, reply), effects);
        } else {
            if let Some(lane) = self.lanes.get_mut(id) {
                // The application is done with it.
                lane.exchange.release(&token);
            }
            if let Some(channel) = self.find_channel(id) {
                channel.waiting_replies.push_back((token, reply));
            }
        }
        self.settle_own(id, now, effects);
        effects.driver = true;
        Ok(())
    }

    /// Lets out those replies of a channel that there is room for now; after the last one, the application gets everything
    /// again.
    pub(super) fn put_waiting_replies(&mut self, id: LaneId, now: Instant, effects: &mut Effects) {
        while let Some((_, next)) = self.find_channel(id).and_then(|channel| channel.waiting_replies.front())
        {
            let cost = next.cost;
            if !self.take_reply_room(id, cost) {
                return;
            }
            if let Some(reply) = self.find_channel(id).and_then(|channel| channel.waiting_replies.pop_front())
            {
                self.put_reply(id, now, reply, effects);
            }
            self.lanes.ready(id, Turn::Last);
        }
        if let Some(channel) = self.find_channel(id)
            && channel.inbox.has(Gate::Open)
        {
            effects.notify(&channel.arrival);
        }
    }

    fn put_reply(
        &mut self,
        id: LaneId,
        now: Instant,
        (token, reply): (Token, Sending),
        effects: &mut Effects,
    ) {
        let time = self.time(now);
        let Some(lane) = self.lanes.get_mut(id) else { return };
        if let Err(refused) = lane.reply(time, token, reply) {
            effects.dropped.push(refused);
        }
    }

    /// A message of the peer takes no more of what it took here.
    fn dealt_with(&mut self, answering: &Answering, effects: &mut Effects) {
        self.taken -= 1;
        effects.driver |= self.phase.is_draining();
        match answering.asked {
            None => self.received -= answering.len,
            Some((kind, cost)) => {
                if kind == Kind::Message {
                    self.replies -= answering.len;
                }
                self.give_back(LaneId::Channel(answering.channel), kind, cost, effects);
            }
        }
    }
}
