//! All exchanges of a connection, and which of them has something to do.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use foldhash::fast::RandomState;
use seqex::Timestamp;

use super::lane::{Lane, Transmission};
use crate::frame::LaneId;

//= ZSSP-SEQ-01  each with its own windows, and its own turn
/// Exchanges by what they are called. Whoever has worked on one says so by [`Lanes::ready`], [`Lanes::owes_acks`] and
/// [`Lanes::arm`], so that nobody ever has to look through all of them.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    all: Table,
    ready: BTreeMap<Reverse<i32>, VecDeque<LaneId>>,
    /// Those whose time has run out, whatever their priority.
    hurried: VecDeque<LaneId>,
    acks: VecDeque<LaneId>,
    held: VecDeque<LaneId>,
    timers: BTreeSet<(Instant, LaneId)>,
}

/// Exchanges by what they are called. Dozens of looks for each message are mostly for the one of the look before.
#[derive(Debug, Default)]
struct Table {
    // Boxed: most of what moves when the table grows would be windows.
    lanes: Vec<(LaneId, Box<Lane>)>,
    // A quick hash: what a peer that finds collisions slows down is its own connection, which has a limit of streams.
    places: HashMap<LaneId, usize, RandomState>,
    /// Where the last look found something.
    last: usize,
}

impl Table {
    fn place(&self, id: LaneId) -> Option<usize> {
        match self.lanes.get(self.last) {
            Some((last, _)) if *last == id => Some(self.last),
            _ => self.places.get(&id).copied(),
        }
    }

    fn get(&self, id: LaneId) -> Option<&Lane> {
        self.lanes.get(self.place(id)?).map(|(_, lane)| &**lane)
    }

    fn get_mut(&mut self, id: LaneId) -> Option<&mut Lane> {
        self.last = self.place(id)?;
        self.lanes.get_mut(self.last).map(|(_, lane)| &mut **lane)
    }

    fn insert(&mut self, id: LaneId, lane: Lane) {
        self.places.insert(id, self.lanes.len());
        self.lanes.push((id, Box::new(lane)));
    }

    /// The last one takes the place of the one that goes.
    fn remove(&mut self, id: LaneId) -> Option<Box<Lane>> {
        let place = self.places.remove(&id)?;
        let (_, lane) = self.lanes.swap_remove(place);
        if let Some((moved, _)) = self.lanes.get(place) {
            self.places.insert(*moved, place);
        }
        Some(lane)
    }
}

impl Lanes {
    pub(super) fn get(&self, id: LaneId) -> Option<&Lane> {
        self.all.get(id)
    }

    pub(super) fn get_mut(&mut self, id: LaneId) -> Option<&mut Lane> {
        self.all.get_mut(id)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (LaneId, &mut Lane)> {
        self.all.lanes.iter_mut().map(|(id, lane)| (*id, &mut **lane))
    }

    pub(super) fn insert(&mut self, id: LaneId, lane: Lane) {
        self.all.insert(id, lane);
    }

    pub(super) fn remove(&mut self, id: LaneId) -> Option<Box<Lane>> {
        let lane = self.all.remove(id)?;
        if let Some(armed) = lane.armed {
            self.timers.remove(&(armed, id));
        }
        // In the queues it is skipped when its turn comes.
        Some(lane)
    }

    /// Whether everything accepted in any of them has been answered.
    pub(super) fn are_drained(&self) -> bool {
        self.all.lanes.iter().all(|(_, lane)| lane.is_drained())
    }

    /// The same of what the peer is to answer, not counting replies.
    pub(super) fn ask_nothing(&self) -> bool {
        self.all.lanes.iter().all(|(_, lane)| lane.asks_nothing())
    }

    /// The exchange may have something to transmit.
    pub(super) fn ready(&mut self, id: LaneId, turn: Turn) {
        let Some(lane) = self.all.get_mut(id) else { return };
        if !std::mem::replace(&mut lane.is_ready, true) {
            let queue = self.ready.entry(Reverse(lane.priority)).or_default();
            match turn {
                Turn::Last => queue.push_back(id),
                Turn::Next => queue.push_front(id),
            }
        }
    }

    /// From now on the exchange has its turns among those of that priority.
    pub(super) fn set_priority(&mut self, id: LaneId, priority: i32) {
        let Some(lane) = self.all.get_mut(id) else { return };
        let before = std::mem::replace(&mut lane.priority, priority);
        // Where it stands, those that are between the two priorities now might keep it for ever.
        if before != priority
            && let Some(queue) = self.ready.get_mut(&Reverse(before))
            && let Some(place) = queue.iter().position(|&other| other == id)
        {
            queue.remove(place);
            lane.is_ready = false;
            self.ready(id, Turn::Last);
        }
    }

    /// The highest priority of those whose turn to transmit it may be.
    pub(super) fn ready_priority(&self) -> Option<i32> {
        let mut ready = self.ready.iter().filter(|(_, queue)| !queue.is_empty());
        ready.next().map(|(&Reverse(priority), _)| priority)
    }

    /// What a time-out has let out of the exchange goes before all priorities: it asks whether the road still carries
    /// anything, and whether the peer is there. Nobody could tell a low priority from a dead peer otherwise.
    pub(super) fn hurry(&mut self, id: LaneId) {
        let Some(lane) = self.all.get_mut(id) else { return };
        if !std::mem::replace(&mut lane.is_hurried, true) {
            self.hurried.push_back(id);
        }
    }

    /// Whether it may be anybody's turn to transmit.
    pub(super) fn has_ready(&self) -> bool {
        !self.hurried.is_empty() || self.ready.values().any(|queue| !queue.is_empty())
    }

    /// What goes before all priorities, if anything does.
    ///
    /// Of what is lost, one message is enough to ask with; the questions about what the peer holds are next to nothing, so
    /// all of them go.
    pub(super) fn next_hurried(&mut self, time: Timestamp) -> Option<(LaneId, Transmission)> {
        while let Some(id) = self.hurried.pop_front() {
            let Some(lane) = self.all.get_mut(id) else { continue };
            lane.is_hurried = false;
            if let Some(message) = lane.poll_resend(id, time) {
                if message.is_held {
                    self.hurry(id);
                }
                return Some((id, message));
            }
        }
        None
    }

    /// Takes out whose turn it is to transmit.
    pub(super) fn next_ready(&mut self) -> Option<LaneId> {
        loop {
            let others = self.ready.len() > 1;
            let mut queue = self.ready.first_entry()?;
            match queue.get_mut().pop_front() {
                Some(id) => {
                    if let Some(lane) = self.all.get_mut(id) {
                        lane.is_ready = false;
                        return Some(id);
                    }
                }
                None if others => drop(queue.remove()),
                // The last one stays, for its memory.
                None => return None,
            }
        }
    }

    /// The exchange may have acknowledgements to transmit.
    pub(super) fn owes_acks(&mut self, id: LaneId) {
        let Some(lane) = self.all.get_mut(id) else { return };
        if !std::mem::replace(&mut lane.has_acks, true) {
            self.acks.push_back(id);
        }
    }

    /// A message has arrived for the exchange, and may have to wait for its answer.
    pub(super) fn holds(&mut self, id: LaneId) {
        let Some(lane) = self.all.get_mut(id) else { return };
        if !std::mem::replace(&mut lane.holds, true) {
            self.held.push_back(id);
        }
    }

    /// All tell what has arrived since the last time and is not answered.
    pub(super) fn tell_held(&mut self) {
        while let Some(id) = self.held.pop_front() {
            if let Some(lane) = self.all.get_mut(id) {
                lane.holds = false;
                lane.exchange.tell_held();
                self.owes_acks(id);
            }
        }
    }

    /// Whose acknowledgements are next.
    pub(super) fn next_acks(&mut self) -> Option<LaneId> {
        while let Some(&id) = self.acks.front() {
            if self.all.place(id).is_some() {
                return Some(id);
            }
            self.acks.pop_front();
        }
        None
    }

    /// Those of [`Lanes::next_acks`] are on their way, all of them.
    pub(super) fn acks_are_sent(&mut self) {
        if let Some(id) = self.acks.pop_front()
            && let Some(lane) = self.all.get_mut(id)
        {
            lane.has_acks = false;
        }
    }

    /// Sees to it that the exchange is looked at when its deadline comes; `epoch` is the zero of its clock. A deadline
    /// that moved back is left where it was, and moves when it is met: it nearly always has moved again by then.
    pub(super) fn arm(&mut self, id: LaneId, epoch: Instant) {
        let Some(lane) = self.all.get_mut(id) else { return };
        let Some(due) = lane.exchange.next_deadline().and_then(|due| epoch.checked_add(due)) else { return };
        if lane.armed.is_none_or(|armed| due < armed) {
            if let Some(armed) = lane.armed.replace(due) {
                self.timers.remove(&(armed, id));
            }
            self.timers.insert((due, id));
        }
    }

    /// An exchange whose deadline has come. It is no longer armed.
    pub(super) fn expired(&mut self, now: Instant) -> Option<LaneId> {
        let &(due, id) = self.timers.first()?;
        if due > now {
            return None;
        }
        self.timers.pop_first();
        if let Some(lane) = self.all.get_mut(id) {
            lane.armed = None;
        }
        Some(id)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.timers.first().map(|&(due, _)| due)
    }

    /// The connection is over: nothing is to be done any more.
    pub(super) fn stop(&mut self) {
        self.ready.clear();
        self.hurried.clear();
        self.acks.clear();
        self.held.clear();
        self.timers.clear();
    }
}

/// Where an exchange stands among others of its priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Last,
    Next,
}
