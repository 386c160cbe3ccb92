//! Commands on channels.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use bytes::Bytes;
use seqex::encoding::ChannelId;
use seqex::{Order, Token};
use tokio::sync::{Mutex, Notify};

use super::lane::{Channel, Content, Lane};
use super::lanes::Turn;
use super::{Arrived, Effects, Kind, Sending, State, urgency};
use crate::error::{SendError, TooManyChannels};
use crate::frame::LaneId;

impl State {
    /// What those who send and receive on a channel share. It is made if it is not there.
    pub(in crate::connection) fn channel(&mut self, channel: ChannelId) -> Result<Handles, TooManyChannels> {
        let id = LaneId::Channel(channel);
        if let Some(channel) = self.find_channel(id) {
            return Ok(Handles::of(channel));
        }
        if self.channels >= self.settings.channels {
            return Err(TooManyChannels);
        }
        self.channels += 1;
        let content = Channel::default();
        let handles = Handles::of(&content);
        self.add_lane(id, Content::Channel(content));
        Ok(handles)
    }

    pub(super) fn find_channel(&mut self, id: LaneId) -> Option<&mut Channel> {
        match self.lanes.get_mut(id).map(|lane| &mut lane.content) {
            Some(Content::Channel(channel)) => Some(channel),
            _ => None,
        }
    }

    /// Takes room for a message, which must be sent at once; where there is none, the waker of the one who is next in turn
    /// is told when to ask again. Once nothing can be sent any more nobody waits.
    pub(in crate::connection) fn admit(
        &mut self,
        channel: ChannelId,
        cost: usize,
        next: Option<Waker>,
        effects: &mut Effects,
    ) -> bool {
        self.may_send().is_err()
            || self.take_room((LaneId::Channel(channel), Kind::Message), cost..=cost, next, effects) > 0
    }

    /// Queues a message. There is always room: whoever calls has taken it.
    pub(in crate::connection) fn send(
        &mut self,
        channel: ChannelId,
        order: Order,
        message: Sending,
        effects: &mut Effects,
    ) -> Result<(), SendError> {
        let id = LaneId::Channel(channel);
        match self.may_send() {
            Ok(()) => {
                // Whoever sends has a handle, which has made the channel.
                if let Some(channel) = self.find_channel(id) {
                    channel.queue.push_back((order, message));
                }
                self.lanes.ready(id, Turn::Last);
                effects.driver = true;
                Ok(())
            }
            Err(reason) => {
                effects.dropped.push(message);
                Err(SendError::Closed(reason))
            }
        }
    }

    pub(in crate::connection) fn take_message(&mut self, channel: ChannelId) -> Option<Arrived> {
        let arrived = self.find_channel(LaneId::Channel(channel))?.inbox.pop_front()?;
        self.taken += 1;
        Some(arrived)
    }

    pub(in crate::connection) fn has_messages(&mut self, channel: ChannelId) -> bool {
        self.find_channel(LaneId::Channel(channel)).is_some_and(|channel| !channel.inbox.is_empty())
    }

    /// Whether everything sent on a channel has been answered.
    pub(in crate::connection) fn is_flushed(&self, channel: ChannelId) -> bool {
        self.lanes.get(LaneId::Channel(channel)).is_none_or(Lane::is_drained)
    }

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

    /// As [`State::admit`], for a reply.
    pub(in crate::connection) fn admit_reply(
        &mut self,
        channel: ChannelId,
        cost: usize,
        next: Option<Waker>,
        effects: &mut Effects,
    ) -> bool {
        self.phase.may_answer().is_err()
            || cost == 0
            || self.take_room((LaneId::Channel(channel), Kind::Reply), cost..=cost, next, effects) > 0
    }

    /// Held by the one who is next to get room for a reply.
    pub(in crate::connection) fn reply_door(&mut self, channel: ChannelId) -> Option<Arc<Mutex<()>>> {
        self.find_channel(LaneId::Channel(channel)).map(|channel| channel.reply_door.clone())
    }

    /// Answers a message with data, for which there is room. A connection that is draining still lets answers out, and
    /// waits for them.
    pub(in crate::connection) fn reply(
        &mut self,
        now: Instant,
        answering: Answering,
        (data, cost): (Bytes, usize),
        effects: &mut Effects,
    ) -> Result<(), SendError> {
        if let Err(reason) = self.phase.may_answer() {
            effects.discarded.push(data);
            return Err(SendError::Closed(reason));
        }
        self.dealt_with(&answering, effects);
        let (id, time) = (LaneId::Channel(answering.channel), self.time(now));
        let reply = Sending { kind: Kind::Reply, ..Sending::new(data, cost) };
        if let Some(lane) = self.lanes.get_mut(id)
            && let Err(refused) = lane.exchange.reply(time, answering.token, Order::Unordered, reply)
        {
            effects.dropped.push(refused.data);
        }
        self.settle_own(id, now, effects);
        effects.driver = true;
        Ok(())
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

    /// Something of ours keeps its room no longer.
    pub(super) fn give_back(&mut self, id: LaneId, kind: Kind, cost: usize, effects: &mut Effects) {
        if let Some(account) = self.lanes.account(id, kind) {
            account.answered(kind, cost, effects);
        }
    }

    /// Ends the critical section of an ordered message.
    pub(in crate::connection) fn release(
        &mut self,
        now: Instant,
        channel: ChannelId,
        token: &Token,
        effects: &mut Effects,
    ) {
        let id = LaneId::Channel(channel);
        if self.ended().is_none()
            && let Some(lane) = self.lanes.get_mut(id)
        {
            lane.exchange.release(token);
            self.settle_own(id, now, effects);
        }
    }
}

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

/// What all handles of a channel share.
#[derive(Debug, Clone)]
pub(in crate::connection) struct Handles {
    /// Wakes one who waits for a message.
    pub(in crate::connection) arrival: Arc<Notify>,
    /// Held by the one who is next to get room, while the others wait in turn.
    pub(in crate::connection) door: Arc<Mutex<()>>,
}

impl Handles {
    fn of(channel: &Channel) -> Self {
        Self { arrival: channel.arrival.clone(), door: channel.door.clone() }
    }
}
