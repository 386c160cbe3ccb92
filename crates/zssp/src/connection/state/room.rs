//! Who gets the room in the send buffer, and in that of replies, which is as large.
//!
//! Replies have their own, so that a message can always be answered: room for a reply comes back when the peer has taken
//! it, which needs no room there. A reply to a reply would, so it takes none; the windows alone bound those. One that finds
//! too little room [waits](super::replies) in here, not in the application.
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

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::task::Waker;
use std::time::Instant;

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
    /// Channels whose replies may find room now. In turn.
    called: VecDeque<LaneId>,
}

impl Rooms {
    pub(super) fn new(settings: &Settings) -> Self {
        Self { messages: Room::new(settings), replies: Room::new(settings), called: VecDeque::new() }
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
    /// Have something unanswered, and found too little. By how much has to be free for what they want, the least last. Not a
    /// tree, which allocates for each that waits; there are a few hundred at most, or as many as channels are allowed.
    growing: Vec<(usize, LaneId)>,
}

/// What one channel or stream has of it.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Bytes accepted that are not answered.
    pub(super) unanswered: usize,
    /// What its writer, or its next reply, waits for; 0 where none does.
    wanted: usize,
    turn: Turn,
    /// Told when to ask again: after every answer of its own, or when there is room. Nobody waits for room for a reply.
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
            growing: Vec::new(),
        }
    }

    fn grow(&mut self, total: usize, settings: &Settings) {
        let more = total.saturating_sub(self.total);
        self.total += more;
        self.free += more;
        self.reserve = reserve(self.total, settings);
    }

    fn is_waited_for(&self) -> bool {
        !(self.waiting.is_empty() && self.growing.is_empty())
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

    /// Takes as many of the bytes that are asked for as there is room for; 0 where that is too little.
    fn take(&mut self, id: LaneId, account: &mut Account, asked: RangeInclusive<usize>) -> usize {
        let mut share = self.share(account.unanswered);
        if account.unanswered == 0 && account.turn != Turn::Called && !self.waiting.is_empty() {
            share = share.min(self.free / SMALL);
        }
        let taken = share.min(*asked.end());
        if taken < *asked.start() {
            return 0;
        }
        self.free -= taken;
        account.unanswered += taken;
        self.give_up(id, account);
        taken
    }

    /// It waits for nothing any more. Among those who wait for their first it is skipped when its turn comes.
    fn give_up(&mut self, id: LaneId, account: &mut Account) {
        self.leave(id, account);
        if account.turn == Turn::Called {
            account.turn = Turn::None;
        }
        account.wanted = 0;
    }

    /// It has found too little, and waits for so much.
    fn wait(&mut self, id: LaneId, account: &mut Account, wanted: usize) {
        account.wanted = wanted;
        self.leave(id, account);
        match account.turn {
            Turn::Waiting => return,
            _ if account.unanswered > 0 => {
                let need = self.need(account.unanswered, wanted);
                let place = self.growing.partition_point(|&other| other > (need, id));
                self.growing.insert(place, (need, id));
                account.turn = Turn::Growing(need);
                return;
            }
            Turn::Called => self.waiting.push_front(id),
            Turn::Growing(_) | Turn::None => self.waiting.push_back(id),
        }
        account.turn = Turn::Waiting;
    }

    /// It waits for more no longer.
    fn leave(&mut self, id: LaneId, account: &mut Account) {
        if let Turn::Growing(need) = account.turn {
            let place = self.growing.partition_point(|&other| other > (need, id));
            if self.growing.get(place) == Some(&(need, id)) {
                self.growing.remove(place);
            }
            account.turn = Turn::None;
        }
    }

    /// Calls those whose turn it is, as many as there is room for at once.
    fn call_waiting(&mut self, kind: Kind, lanes: &mut Lanes, mut call: impl FnMut(LaneId, &mut Account)) {
        let mut left = self.free;
        while let Some(&id) = self.waiting.front() {
            if let Some(account) = lanes.account(id, kind) {
                if account.wanted > left / 2 && left < self.total {
                    break;
                }
                left = left.saturating_sub(account.wanted);
                account.turn = if account.wanted > 0 { Turn::Called } else { Turn::None };
                call(id, account);
            }
            self.waiting.pop_front();
        }
        while let Some((_, id)) = self.growing.pop_if(|(need, _)| *need <= left) {
            if let Some(account) = lanes.account(id, kind) {
                left = left.saturating_sub(account.wanted);
                account.turn = Turn::None;
                call(id, account);
            }
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
        id: LaneId,
        asked: RangeInclusive<usize>,
        waker: Option<Waker>,
        effects: &mut Effects,
    ) -> usize {
        let Some(account) = self.lanes.account(id, Kind::Message) else {
            return 0;
        };
        if account.wanted > 0 && waker.is_none() {
            return 0;
        }
        let least = *asked.start();
        let taken = self.rooms.messages.take(id, account, asked);
        if taken > 0 {
            effects.idle.extend(account.writer.take());
        } else if let Some(waker) = waker {
            effects.idle.extend(account.writer.replace(waker));
            self.rooms.messages.wait(id, account, least);
        }
        taken
    }

    /// Whoever waits for room there does so no longer, and stands in nobody's way.
    pub(in crate::connection) fn give_up_room(&mut self, id: LaneId, effects: &mut Effects) {
        if let Some(account) = self.lanes.account(id, Kind::Message) {
            effects.idle.extend(account.writer.take());
            self.rooms.messages.give_up(id, account);
        }
    }

    /// The same for a channel's next reply, which waits by itself.
    pub(super) fn take_reply_room(&mut self, id: LaneId, cost: usize) -> bool {
        let Some(account) = self.lanes.account(id, Kind::Reply) else {
            return false;
        };
        let taken = self.rooms.replies.take(id, account, cost..=cost) > 0;
        if !taken {
            self.rooms.replies.wait(id, account, cost);
        }
        taken
    }

    /// Something of ours keeps its room no longer.
    pub(super) fn give_back(&mut self, id: LaneId, kind: Kind, cost: usize, effects: &mut Effects) {
        if let Some(account) = self.lanes.account(id, kind) {
            account.answered(kind, cost, effects);
            if kind == Kind::Reply && account.wanted > 0 {
                self.rooms.called.push_back(id);
                effects.driver = true;
            }
        }
    }

    /// What was answered is free again, for those who wait for it.
    pub(in crate::connection) fn reclaim_room(&mut self, effects: &mut Effects) {
        let freed = std::mem::take(&mut effects.freed);
        self.rooms.messages.free += freed.messages;
        self.rooms.replies.free += freed.replies;
        // Replies go where everything goes out.
        effects.driver |= freed.replies > 0 && self.rooms.replies.is_waited_for();
        self.call_writers(effects);
    }

    /// Calls those whose turn it is. One that does not come is made up for at the next look, which follows within seconds:
    /// where there is too little room, something is under way.
    pub(super) fn call_waiting(&mut self, now: Instant, effects: &mut Effects) {
        self.call_writers(effects);
        let Rooms { replies, called, .. } = &mut self.rooms;
        replies.call_waiting(Kind::Reply, &mut self.lanes, |id, _| called.push_back(id));
        while let Some(id) = self.rooms.called.pop_front() {
            self.put_waiting_replies(id, now, effects);
        }
    }

    fn call_writers(&mut self, effects: &mut Effects) {
        let wakers = &mut effects.wakers;
        self.rooms
            .messages
            .call_waiting(Kind::Message, &mut self.lanes, |_, account| wakers.extend(account.writer.take()));
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::connection::state::tests::settings;

    /// Against a tree, through many rounds in which some take what they wait for, and others change their minds.
    #[test]
    fn those_who_wait_for_more_stand_by_need_and_take_no_memory_anew() {
        let mut room = Room::new(&settings());
        let mut accounts: Vec<_> = (0..200)
            .map(|id| (LaneId::Channel(id), Account { unanswered: 1, ..Account::default() }))
            .collect();
        let (mut random, mut memory) = (1_u64, None);
        println!("seed {random}");
        for _ in 0..50 {
            for step in 0..600 {
                // Knuth's MMIX; the high bits are random enough.
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let pick = (random >> 33) as usize;
                let (id, account) = &mut accounts[if step < 200 { step } else { pick % 200 }];
                match pick / 200 % 3 {
                    0 if step >= 200 => room.leave(*id, account),
                    _ => {
                        account.unanswered = 1 + pick % 100_000;
                        room.wait(*id, account, 1 + pick % 60_000);
                    }
                }
            }
            let expected: BTreeSet<_> = accounts
                .iter()
                .filter_map(|(id, account)| match account.turn {
                    Turn::Growing(need) => Some((need, *id)),
                    _ => None,
                })
                .collect();
            assert!(room.growing.iter().rev().eq(&expected));
            let now = (room.growing.capacity(), room.growing.as_ptr());
            assert_eq!(*memory.get_or_insert(now), now);
        }
    }
}
