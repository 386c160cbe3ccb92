//! Commands on channels.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use seqex::encoding::ChannelId;
use seqex::{Order, Token};
use tokio::sync::{Mutex, Notify};

use super::lane::{Channel, Content, Lane};
use super::lanes::Turn;
use super::{Arrived, Effects, Sending, State};
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
        self.may_send().is_err() || self.take_room(LaneId::Channel(channel), cost..=cost, next, effects) > 0
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

    /// The next message for the application. Where one is taken out, the exchange may give another.
    pub(in crate::connection) fn take_message(
        &mut self,
        now: Instant,
        channel: ChannelId,
        effects: &mut Effects,
    ) -> Option<Arrived> {
        let id = LaneId::Channel(channel);
        let channel = self.find_channel(id)?;
        let arrived = channel.inbox.take(channel.gate())?;
        self.taken += 1;
        if arrived.answers.is_none() && self.lanes.get(id).is_some_and(|lane| lane.exchange.can_deliver()) {
            self.settle_own(id, now, effects);
        }
        Some(arrived)
    }

    /// Whether there is a message for the application.
    pub(in crate::connection) fn has_messages(&mut self, channel: ChannelId) -> bool {
        self.find_channel(LaneId::Channel(channel)).is_some_and(|channel| channel.inbox.has(channel.gate()))
    }

    /// Whether everything sent on a channel has been answered.
    pub(in crate::connection) fn is_flushed(&self, channel: ChannelId) -> bool {
        self.lanes.get(LaneId::Channel(channel)).is_none_or(Lane::is_drained)
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
