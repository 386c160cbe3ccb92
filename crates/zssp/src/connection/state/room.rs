//! Who gets the room in the send buffer, and in that of replies, which is as large.
//!
//! Replies have their own, so that a message can always be answered: room for a reply comes back when the peer has taken
//! it, which needs no room there. A reply to a reply would, so it takes none; the windows alone bound those.
//!
//! What the peer's application does not take stays in the buffer, so none of the channels and streams may get all of it.
//! Three rules see to that:
//!
//! - One that has something unanswered gets more only if as much stays free as it then has unanswered, and no less than
//!   the reserve.
//! - One that has nothing unanswered gets half of what is free at most; of an empty buffer, all.
//! - One that then has no more than a small part of what is free unanswered gets it in any case, so that questions and
//!   answers get on beside bulk.
//!
//! So some room is always left, however many are stuck: nothing takes more than half of it. One alone has half of the
//! buffer. And since only the little and the first take of the reserve, a newcomer's largest message of m bytes finds its
//! 2m bytes as long as those that are stuck there are no more than reserve / m - 3: with an MTU that the internet
//! carries, some 13. Beyond that, what is small still gets on.
//!
//! Nothing is set aside for those who wait: one that is called and does not come, because its future was dropped, keeps
//! nothing from others.

use std::collections::{BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::task::Waker;

use super::lane::Content;
use super::lanes::Lanes;
use super::{CREDIT, Effects, Settings, State};
use crate::frame::LaneId;

/// One that wants no more than one in so many of the bytes that are free gets it, whoever else waits.
const SMALL: usize = 16;

/// What takes room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::connection) enum Kind {
    /// A message that answers nothing, or a chunk of a stream.
    Message,
    Reply,
}

/// What a connection may have unanswered.
#[derive(Debug)]
pub(super) struct Rooms {
    messages: Room,
    replies: Room,
}

impl Rooms {
    pub(super) fn new(settings: &Settings) -> Self {
        Self { messages: Room::new(settings), replies: Room::new(settings) }
    }

    /// The peer allows more.
    pub(super) fn grow(&mut self, total: usize, settings: &Settings) {
        self.messages.grow(total, settings);
        self.replies.grow(total, settings);
    }

    /// What a stream that wants more takes at a time at the least: enough for full payloads, and little beside the buffer.
    pub(super) fn piece(&self) -> usize {
        self.messages.total / 64
    }

    /// An exchange that is over. Among those who wait for their first it is skipped when its turn comes.
    pub(super) fn forget(&mut self, id: LaneId, content: &mut Content) {
        for kind in [Kind::Message, Kind::Reply] {
            if let Some(account) = content.account(kind) {
                self.of(kind).leave(id, account);
            }
        }
    }

    fn of(&mut self, kind: Kind) -> &mut Room {
        match kind {
            Kind::Message => &mut self.messages,
            Kind::Reply => &mut self.replies,
        }
    }
}

/// Room that was given back.
#[derive(Debug, Default)]
pub(in crate::connection) struct Freed {
    pub(in crate::connection) messages: usize,
    replies: usize,
}

/// One buffer.
#[derive(Debug)]
struct Room {
    total: usize,
    free: usize,
    /// Left to those that have nothing unanswered.
    reserve: usize,
    /// Have nothing unanswered, and found too little. In turn.
    waiting: VecDeque<LaneId>,
    /// Have something unanswered, and found too little. By how much has to be free for what they want.
    growing: BTreeSet<(usize, LaneId)>,
}

/// What one channel or stream has of it.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Bytes accepted that are not answered.
    pub(super) unanswered: usize,
    /// What its writer waits for; 0 where none does.
    wanted: usize,
    turn: Turn,
    /// Told when to ask again: after every answer of its own, or when there is room.
    pub(super) writer: Option<Waker>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Turn {
    #[default]
    None,
    /// It may take before those who wait.
    Called,
    /// It is among those who wait for more, where so much has to be free.
    Growing(usize),
    /// It is among those who wait for their first.
    Waiting,
}

impl Account {
    /// `len` bytes of it were answered.
    pub(super) fn answered(&mut self, kind: Kind, len: usize, effects: &mut Effects) {
        self.unanswered = self.unanswered.saturating_sub(len);
        match kind {
            Kind::Message => effects.freed.messages += len,
            Kind::Reply => effects.freed.replies += len,
        }
        effects.wakers.extend(self.writer.take());
    }

    /// Nothing more will be sent: nobody waits.
    pub(super) fn withdraw(&mut self, effects: &mut Effects) {
        self.wanted = 0;
        effects.wakers.extend(self.writer.take());
    }
}

impl Room {
    fn new(settings: &Settings) -> Self {
        let total = settings.send_buffer.min(CREDIT);
        Self {
            total,
            free: total,
            reserve: reserve(total, settings),
            waiting: VecDeque::new(),
            growing: BTreeSet::new(),
        }
    }

    fn grow(&mut self, total: usize, settings: &Settings) {
        let more = total.saturating_sub(self.total);
        self.total += more;
        self.free += more;
        self.reserve = reserve(self.total, settings);
    }

    /// How much one may take that has so much unanswered.
    fn share(&self, unanswered: usize) -> usize {
        let small = (self.free / SMALL).saturating_sub(unanswered);
        match unanswered {
            0 if self.free == self.total => self.free,
            0 => self.free / 2,
            _ => (self.free.saturating_sub(unanswered) / 2)
                .min(self.free.saturating_sub(self.reserve))
                .max(small),
        }
    }

    /// How much has to be free for one that has so much unanswered to take `wanted` bytes.
    fn need(&self, unanswered: usize, wanted: usize) -> usize {
        (unanswered + 2 * wanted).max(self.reserve + wanted).min(SMALL * (unanswered + wanted))
    }

    /// It waits for more no longer.
    fn leave(&mut self, id: LaneId, account: &mut Account) {
        if let Turn::Growing(need) = account.turn {
            self.growing.remove(&(need, id));
            account.turn = Turn::None;
        }
    }
}

/// A quarter, but room for two of the largest, where that leaves as much to others.
fn reserve(total: usize, settings: &Settings) -> usize {
    (total / 4).max(2 * settings.max_payload).min(total / 2)
}

impl State {
    /// Takes as many of the bytes that are asked for as there is room for; 0 where that is too little. Then `waker` is told
    /// when to ask again. Without one, whoever asks is not in front of those who wait on the same channel, and gets nothing
    /// before them.
    pub(super) fn take_room(
        &mut self,
        (id, kind): (LaneId, Kind),
        asked: RangeInclusive<usize>,
        waker: Option<Waker>,
        effects: &mut Effects,
    ) -> usize {
        let Some(account) = self.lanes.account(id, kind) else {
            return 0;
        };
        if account.wanted > 0 && waker.is_none() {
            return 0;
        }
        let room = self.rooms.of(kind);
        let mut share = room.share(account.unanswered);
        if account.unanswered == 0 && account.turn != Turn::Called && !room.waiting.is_empty() {
            share = share.min(room.free / SMALL);
        }
        let taken = share.min(*asked.end());
        if taken >= *asked.start() {
            room.free -= taken;
            account.wanted = 0;
            effects.idle.extend(account.writer.take());
            room.leave(id, account);
            if account.turn == Turn::Called {
                account.turn = Turn::None;
            }
            account.unanswered += taken;
            return taken;
        }
        if let Some(waker) = waker {
            account.wanted = *asked.start();
            effects.idle.extend(account.writer.replace(waker));
            room.leave(id, account);
            match account.turn {
                Turn::Waiting => {}
                _ if account.unanswered > 0 => {
                    let need = room.need(account.unanswered, account.wanted);
                    room.growing.insert((need, id));
                    account.turn = Turn::Growing(need);
                }
                Turn::Called => {
                    room.waiting.push_front(id);
                    account.turn = Turn::Waiting;
                }
                _ => {
                    room.waiting.push_back(id);
                    account.turn = Turn::Waiting;
                }
            }
        }
        0
    }

    /// What was answered is free again, for those who wait for it.
    pub(in crate::connection) fn reclaim_room(&mut self, effects: &mut Effects) {
        let freed = std::mem::take(&mut effects.freed);
        self.rooms.messages.free += freed.messages;
        self.rooms.replies.free += freed.replies;
        self.call_waiting(effects);
    }

    /// Calls those whose turn it is, as many as there is room for at once. One that does not come is made up for at the
    /// next look, which follows within seconds: where there is too little room, something is under way.
    pub(super) fn call_waiting(&mut self, effects: &mut Effects) {
        for kind in [Kind::Message, Kind::Reply] {
            self.rooms.of(kind).call_waiting(kind, &mut self.lanes, effects);
        }
    }
}

impl Room {
    fn call_waiting(&mut self, kind: Kind, lanes: &mut Lanes, effects: &mut Effects) {
        let mut left = self.free;
        while let Some(&id) = self.waiting.front() {
            if let Some(account) = lanes.account(id, kind) {
                if account.wanted > left / 2 && left < self.total {
                    break;
                }
                left = left.saturating_sub(account.wanted);
                account.turn = if account.wanted > 0 { Turn::Called } else { Turn::None };
                effects.wakers.extend(account.writer.take());
            }
            self.waiting.pop_front();
        }
        while let Some(&(need, id)) = self.growing.first()
            && need <= left
        {
            self.growing.pop_first();
            if let Some(account) = lanes.account(id, kind) {
                left = left.saturating_sub(account.wanted);
                account.turn = Turn::None;
                effects.wakers.extend(account.writer.take());
            }
        }
    }
}

impl Lanes {
    pub(super) fn account(&mut self, id: LaneId, kind: Kind) -> Option<&mut Account> {
        self.get_mut(id)?.content.account(kind)
    }
}

impl Content {
    /// Messages about streams take no room, and streams know no replies.
    fn account(&mut self, kind: Kind) -> Option<&mut Account> {
        match (self, kind) {
            (Self::Channel(channel), Kind::Message) => Some(&mut channel.account),
            (Self::Channel(channel), Kind::Reply) => Some(&mut channel.replies),
            (Self::Stream(stream), Kind::Message) => Some(&mut stream.account),
            (Self::Control(_), _) | (Self::Stream(_), Kind::Reply) => None,
        }
    }
}
