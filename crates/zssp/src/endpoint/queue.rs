//! Whose step of a handshake is computed next, and who may wait for that.
//!
//! Each kind of step has turns of its own, so that strangers who send hellos without end keep neither timers from being
//! looked after nor sessions from agreeing on keys. The turns go round; one that nobody of its kind waits for goes to the
//! first kind that somebody waits in: what this side does by itself, then sessions, answers, hellos. So hellos get what
//! the others leave, and at the least every fourth turn.
//!
//! Each kind that comes from the network has places of its own as well, and of those nobody may have more than a share.
//! The share of a source of hellos is as much as is still free: one alone, which may be many peers behind one address,
//! has half of the places. Where nothing is left, whoever has nothing yet takes the newest place of the one who has most,
//! so every source gets a place until there are as many sources as places.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::{iter, mem};

use tokio::sync::oneshot;
use zssp_proto::Origin;

use crate::sync::{RankedMutex, rank};

/// Steps that may wait under one key id or for one session: a packet and the one after it. Whoever is honest sends the
/// next when it has an answer to the last, or repeats it.
const PER_STATE: usize = 2;

/// Kinds of steps: see [`kind`].
const KINDS: usize = 4;

/// Resolves when a step's turn has come; to an error when its place went to another, or the queue is closed.
pub(super) type Turn = oneshot::Receiver<Worker>;

/// Who waits.
pub(super) struct Queue {
    /// Of each kind that comes from the network.
    places: usize,
    state: RankedMutex<{ rank::ENDPOINT }, State>,
}

#[derive(Default)]
struct State {
    /// Steps that may be computed beside those that are. While it is not zero, nobody waits.
    idle: usize,
    kinds: [Kind; KINDS],
    /// Which of the kinds is the next one's.
    turn: usize,
    closed: bool,
}

/// Steps of one kind that wait, in the order in which they came.
#[derive(Default)]
struct Kind {
    waiting: VecDeque<Waiting>,
    /// How many of them are whose.
    origins: HashMap<Origin, usize>,
}

struct Waiting {
    origin: Option<Origin>,
    turn: oneshot::Sender<Worker>,
}

/// There is no place for a step.
struct NoPlace;

impl Queue {
    /// Computes `workers` steps at a time.
    pub(super) fn new(workers: usize, places: usize) -> Self {
        Self { places, state: RankedMutex::new(State { idle: workers, ..State::default() }) }
    }

    /// A place for a step, if there is one left for whoever sent it. What this side does by itself always has one, until
    /// the queue is closed.
    pub(super) fn enter(self: &Arc<Self>, origin: Option<Origin>) -> Option<Turn> {
        let (call, turn) = oneshot::channel();
        let (displaced, begins) = {
            let mut state = self.state.lock();
            if state.closed {
                return None;
            }
            let kind = &mut state.kinds[kind(origin)];
            let displaced = kind.enter(Waiting { origin, turn: call }, self.places).ok()?;
            let begins = state.idle > 0;
            state.idle -= usize::from(begins);
            (displaced, begins)
        };
        // Wakes whoever waited for it.
        drop(displaced);
        if begins {
            self.call_next();
        }
        Some(turn)
    }

    /// Has nobody wait any more.
    pub(super) fn close(&self) {
        let waiting = {
            let mut state = self.state.lock();
            state.closed = true;
            mem::take(&mut state.kinds)
        };
        drop(waiting);
    }

    /// Passes on what lets one step be computed.
    fn call_next(self: &Arc<Self>) {
        loop {
            let next = {
                let mut state = self.state.lock();
                let next = state.next();
                state.idle += usize::from(next.is_none());
                next
            };
            let Some(next) = next else { return };
            match next.turn.send(Worker(Some(self.clone()))) {
                Ok(()) => return,
                // It waits no longer.
                Err(mut worker) => worker.0 = None,
            }
        }
    }
}

impl State {
    /// Whoever's turn it is.
    fn next(&mut self) -> Option<Waiting> {
        let next = iter::once(self.turn).chain(0..KINDS).find_map(|kind| self.kinds[kind].take(0))?;
        self.turn = (self.turn + 1) % KINDS;
        Some(next)
    }
}

impl Kind {
    /// Lets a step wait, and yields the one that had to go for that.
    fn enter(&mut self, step: Waiting, places: usize) -> Result<Option<Waiting>, NoPlace> {
        let mut displaced = None;
        if let Some(origin) = step.origin {
            let free = places.saturating_sub(self.waiting.len());
            let own = self.origins.get(&origin).copied().unwrap_or(0);
            let share = match origin {
                _ if free == 0 => 1,
                Origin::Handshake(_) | Origin::Session(_) => PER_STATE,
                Origin::Stranger(_) => free,
            };
            if own >= share {
                return Err(NoPlace);
            }
            if free == 0 {
                displaced = Some(self.displace()?);
            }
            self.origins.insert(origin, own + 1);
        }
        self.waiting.push_back(step);
        Ok(displaced)
    }

    /// The newest step of whoever has most, if anybody has more than one.
    fn displace(&mut self) -> Result<Waiting, NoPlace> {
        let most = self.origins.iter().max_by_key(|(_, count)| **count);
        let most = *most.filter(|(_, count)| **count > 1).ok_or(NoPlace)?.0;
        let newest = self.waiting.iter().rposition(|step| step.origin == Some(most));
        newest.and_then(|number| self.take(number)).ok_or(NoPlace)
    }

    fn take(&mut self, number: usize) -> Option<Waiting> {
        let step = self.waiting.remove(number)?;
        if let Some(origin) = step.origin {
            let left = self.origins.remove(&origin).unwrap_or(0).saturating_sub(1);
            if left > 0 {
                self.origins.insert(origin, left);
            }
        }
        Some(step)
    }
}

/// Which turns and places a step may take, from the first to the last.
fn kind(origin: Option<Origin>) -> usize {
    match origin {
        None => 0,
        Some(Origin::Session(_)) => 1,
        Some(Origin::Handshake(_)) => 2,
        Some(Origin::Stranger(_)) => 3,
    }
}

/// Lets one step be computed, and when it is dropped the next.
#[must_use = "the next one's turn comes when it is dropped"]
pub(super) struct Worker(Option<Arc<Queue>>);

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(queue) = self.0.take() {
            queue.call_next();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Instant;

    use tokio::sync::oneshot::error::TryRecvError;
    use zssp_proto::{Address, Context, Open};

    use super::*;
    use crate::key::{SecretKey, default_provider};

    fn stranger(number: u8) -> Option<Origin> {
        Some(Origin::Stranger([number; 32]))
    }

    fn answer(number: u8) -> Option<Origin> {
        Some(Origin::Handshake([number; 4]))
    }

    /// Of a session that was real once.
    fn session() -> Option<Origin> {
        let context = Context::builder(SecretKey::generate().unwrap().into_static(), default_provider())
            .build()
            .unwrap();
        let peer = SecretKey::generate().unwrap().public_key();
        let address = SocketAddr::from(([192, 0, 2, 1], 1));
        let (id, _) = context.open(Instant::now(), Open::to(peer, Address::from(address))).unwrap();
        Some(Origin::Session(id))
    }

    /// A queue in which whoever enters waits, and what the one step is computed with.
    fn busy(places: usize) -> (Arc<Queue>, Worker) {
        let queue = Arc::new(Queue::new(1, places));
        let worker = queue.enter(None).unwrap().try_recv().unwrap();
        (queue, worker)
    }

    /// As many places as there are for that origin.
    fn fill(queue: &Arc<Queue>, origin: Option<Origin>) -> Vec<Turn> {
        iter::from_fn(|| queue.enter(origin)).take(1000).collect()
    }

    /// How many of them still have their place.
    fn waiting(turns: &mut [Turn]) -> usize {
        turns
            .iter_mut()
            .filter_map(|turn| turn.try_recv().err())
            .filter(|error| *error == TryRecvError::Empty)
            .count()
    }

    /// Computes everything that waits, one after the other; the names in the order of their turns.
    fn compute(worker: Worker, mut waiting: Vec<(&str, Turn)>) -> Vec<&str> {
        let mut order = Vec::new();
        let mut worker = Some(worker);
        while worker.take().is_some() {
            let called = waiting.iter_mut().enumerate().find_map(|(number, (_, turn))| {
                worker = Some(turn.try_recv().ok()?);
                Some(number)
            });
            order.extend(called.map(|number| waiting.remove(number).0));
        }
        order
    }

    #[test]
    fn own_work_sessions_and_answers_do_not_wait_behind_hellos() {
        let (queue, worker) = busy(128);
        let hellos = (0..128).map(|number| ("hello", stranger(number)));
        let others = [("answer", answer(1)), ("session", session()), ("own", None), ("own", None)];
        let waiting =
            hellos.chain(others).map(|(name, origin)| (name, queue.enter(origin).unwrap())).collect();
        let order = compute(worker, waiting);
        assert_eq!(order.len(), 132);
        assert_eq!(order[..6], ["session", "answer", "hello", "own", "own", "hello"]);
    }

    #[test]
    fn every_kind_gets_every_fourth_turn_whatever_the_others_ask_for() {
        let (queue, worker) = busy(128);
        let kinds = [("own", None), ("answer", answer(1)), ("hello", stranger(1))];
        let mut waiting: Vec<_> = (0..100).map(|_| ("own", queue.enter(None).unwrap())).collect();
        for number in 0..25 {
            waiting.push(("answer", queue.enter(answer(number)).unwrap()));
            waiting.push(("hello", queue.enter(stranger(number)).unwrap()));
        }
        let order = compute(worker, waiting);
        for turns in order[..100].chunks(4) {
            assert!(kinds.iter().all(|(name, _)| turns.contains(name)), "{turns:?}");
        }
    }

    #[test]
    fn nobody_has_more_than_a_share() {
        let (queue, _worker) = busy(128);
        let mut hellos: Vec<Vec<Turn>> = (0..9).map(|number| fill(&queue, stranger(number))).collect();
        let taken: Vec<usize> = hellos.iter().map(Vec::len).collect();
        assert_eq!(taken, [64, 32, 16, 8, 4, 2, 1, 1, 1], "half of what is left, and one at the least");
        assert_eq!(waiting(&mut hellos[0]), 63, "it had most");

        let mut answers: Vec<Turn> = (0..64).flat_map(|number| fill(&queue, answer(number))).collect();
        assert_eq!(answers.len(), 128, "others have places of their own");
        assert!(queue.enter(answer(0)).is_none());
        let _newcomer = queue.enter(answer(64)).unwrap();
        assert_eq!(waiting(&mut answers), 127);
    }

    #[test]
    fn every_source_has_a_place_until_there_are_as_many_as_places() {
        let (queue, _worker) = busy(128);
        let mut first = fill(&queue, stranger(0));
        let mut others: Vec<Turn> = (1..128).map(|number| queue.enter(stranger(number)).unwrap()).collect();
        assert!(queue.enter(stranger(128)).is_none() && queue.enter(stranger(0)).is_none());
        assert_eq!((waiting(&mut first), waiting(&mut others)), (1, 127));
        assert_eq!(first[0].try_recv().err(), Some(TryRecvError::Empty), "its oldest is left");
    }

    #[test]
    fn a_place_is_free_again_and_nothing_is_left_behind() {
        let (queue, worker) = busy(16);
        let [first, mut second] = [1, 2].map(|number| fill(&queue, stranger(number)));
        assert_eq!((first.len(), second.len()), (8, 4));
        drop(first);
        drop(worker);
        let worker = second[0].try_recv().expect("after eight that wait no longer");
        assert_eq!(fill(&queue, stranger(1)).len(), 6 + 1);
        drop((second, worker));
        let state = queue.state.lock();
        assert_eq!(state.idle, 1);
        assert!(state.kinds.iter().all(|kind| kind.waiting.is_empty() && kind.origins.is_empty()));
    }

    #[test]
    fn the_smallest_queue_has_a_place_for_each_kind() {
        let (queue, _worker) = busy(1);
        let kinds = [stranger(1), answer(1), session()];
        let places = kinds.map(|origin| queue.enter(origin));
        assert!(places.iter().all(Option::is_some));
        assert!([stranger(2), answer(2), session()].iter().all(|origin| queue.enter(*origin).is_none()));
    }

    #[test]
    fn a_closed_queue_has_nobody_wait() {
        let (queue, worker) = busy(16);
        let mut turns = [queue.enter(None).unwrap(), queue.enter(stranger(1)).unwrap()];
        queue.close();
        assert_eq!(waiting(&mut turns), 0);
        assert!(queue.enter(None).is_none());
        drop(worker);
    }
}
