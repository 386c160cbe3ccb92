//! Places for the steps of handshakes that the network asks for, until they are computed.
//!
//! Each kind of step has places of its own, so that strangers who send hellos without end do not keep sessions from
//! agreeing on keys; and of the places of its kind, nobody may have more than a share. The share of a source of hellos is
//! as much as is still free: one alone, which may be many peers behind one address, has half of the places, and however
//! many follow, something is left for the next.

use std::collections::HashMap;
use std::sync::Arc;

use zssp_proto::Origin;

use crate::sync::{RankedMutex, rank};

/// Steps that may wait under one key id or for one session: a packet and the one after it. Whoever is honest sends the
/// next when it has an answer to the last, or repeats it.
const PER_STATE: usize = 2;

/// Who waits.
pub(super) struct Queue {
    /// Of each kind.
    places: usize,
    taken: RankedMutex<{ rank::ENDPOINT }, Taken>,
}

#[derive(Default)]
struct Taken {
    /// By the kind of step.
    kinds: [usize; 3],
    /// By whoever has any.
    origins: HashMap<Origin, usize>,
}

impl Queue {
    pub(super) fn new(places: usize) -> Self {
        Self { places, taken: RankedMutex::default() }
    }

    /// A place for a step, if there is one left for whoever sent it.
    pub(super) fn enter(self: &Arc<Self>, origin: Origin) -> Option<Place> {
        let mut taken = self.taken.lock();
        let free = self.places.saturating_sub(taken.kinds[kind(origin)]);
        let share = match origin {
            Origin::Handshake(_) | Origin::Session(_) => PER_STATE,
            Origin::Stranger(_) => free,
        };
        let own = taken.origins.get(&origin).copied().unwrap_or(0);
        if own >= share || free == 0 {
            return None;
        }
        taken.kinds[kind(origin)] += 1;
        taken.origins.insert(origin, own + 1);
        Some(Place { queue: self.clone(), origin })
    }
}

/// Which places a step may take.
fn kind(origin: Origin) -> usize {
    match origin {
        Origin::Handshake(_) => 0,
        Origin::Session(_) => 1,
        Origin::Stranger(_) => 2,
    }
}

/// A place in the queue, free again when it is dropped.
#[must_use = "a place is given back when it is dropped"]
pub(super) struct Place {
    queue: Arc<Queue>,
    origin: Origin,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.queue.taken.lock();
        taken.kinds[kind(self.origin)] -= 1;
        let left = taken.origins.remove(&self.origin).unwrap_or(0).saturating_sub(1);
        if left > 0 {
            taken.origins.insert(self.origin, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stranger(number: u8) -> Origin {
        Origin::Stranger([number; 32])
    }

    fn answer(number: u8) -> Origin {
        Origin::Handshake([number; 4])
    }

    /// As many places as there are for that origin.
    fn fill(queue: &Arc<Queue>, origin: Origin) -> Vec<Place> {
        std::iter::from_fn(|| queue.enter(origin)).take(1000).collect()
    }

    #[test]
    fn nobody_has_more_than_a_share() {
        let queue = Arc::new(Queue::new(128));
        let hellos: Vec<Vec<Place>> = (0..9).map(|number| fill(&queue, stranger(number))).collect();
        let taken: Vec<usize> = hellos.iter().map(Vec::len).collect();
        assert_eq!(
            taken,
            [64, 32, 16, 8, 4, 2, 1, 1, 0],
            "half of what is left, all places, and not one more"
        );

        let answers: Vec<Place> = (0..100).flat_map(|number| fill(&queue, answer(number))).collect();
        assert_eq!(answers.len(), 128, "others have places of their own");
        assert!(queue.enter(answer(101)).is_none() && queue.enter(answer(0)).is_none());
        drop(answers);
        assert_eq!(fill(&queue, answer(0)).len(), PER_STATE);
    }

    #[test]
    fn a_place_is_free_again_and_nothing_is_left_behind() {
        let queue = Arc::new(Queue::new(16));
        let [first, second] = [1, 2].map(|number| fill(&queue, stranger(number)));
        assert_eq!((first.len(), second.len()), (8, 4));
        drop(first);
        assert_eq!(fill(&queue, stranger(1)).len(), 6);
        assert_eq!(fill(&queue, stranger(2)).len(), 4, "and so many more");
        drop(second);
        let taken = queue.taken.lock();
        assert_eq!((taken.kinds, taken.origins.len()), ([0; 3], 0));
    }

    #[test]
    fn the_smallest_queue_has_a_place_for_each_kind() {
        let queue = Arc::new(Queue::new(1));
        let places = (queue.enter(stranger(1)), queue.enter(answer(1)));
        assert!(places.0.is_some() && places.1.is_some());
        assert!(queue.enter(stranger(2)).is_none() && queue.enter(answer(2)).is_none());
    }
}
