//! Who waits for a condition, first come first served.

use std::collections::VecDeque;
use std::task::Waker;

/// The place of one waiter, kept by whoever waits and valid for one list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(u64);

/// A list of waiters. It runs no code of theirs: a waker that leaves is handed to the caller, to be called or
/// dropped when nothing is locked.
///
/// Places are numbered in the order of arrival and never used again, so a place that was given up or called
/// names nobody else.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    /// Ascending.
    queue: VecDeque<(Place, Waker)>,
    arrived: u64,
}

impl Waiters {
    /// Has `waker` called when the condition holds. Whoever has a place keeps it, or gets the last one if it was
    /// called already. Returns the waker that is replaced.
    pub(crate) fn join(&mut self, place: &mut Option<Place>, waker: Waker) -> Option<Waker> {
        if let Some(index) = place.and_then(|place| self.find(place)) {
            return Some(std::mem::replace(&mut self.queue[index].1, waker));
        }
        let new = Place(self.arrived);
        self.arrived += 1;
        self.queue.push_back((new, waker));
        *place = Some(new);
        None
    }

    /// Gives up a place, if it is still one.
    pub(crate) fn leave(&mut self, place: &mut Option<Place>) -> Option<Waker> {
        let index = self.find(place.take()?)?;
        self.queue.remove(index).map(|(_, waker)| waker)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes out whoever came first.
    pub(crate) fn call_one(&mut self) -> Option<Waker> {
        self.queue.pop_front().map(|(_, waker)| waker)
    }

    /// The end of the list as it is now, for [`call_before`](Self::call_before).
    pub(crate) fn end(&self) -> Place {
        Place(self.arrived)
    }

    /// Takes out whoever came first, if that was before `end`: so calling everybody comes to an end although those
    /// who were called may come back at once.
    pub(crate) fn call_before(&mut self, end: Place) -> Option<Waker> {
        let &(first, _) = self.queue.front()?;
        if first < end { self.call_one() } else { None }
    }

    /// Whether this waker is the one waiting at this place.
    pub(crate) fn has(&self, place: Option<Place>, waker: &Waker) -> bool {
        place.and_then(|place| self.find(place)).is_some_and(|index| self.queue[index].1.will_wake(waker))
    }

    fn find(&self, place: Place) -> Option<usize> {
        self.queue.binary_search_by_key(&place, |&(place, _)| place).ok()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn places_are_called_in_order_and_stand_for_one_waiter_only() {
        let (mut list, waker) = (Waiters::default(), Waker::noop());
        let mut places = [None; 3];
        for place in &mut places {
            assert!(list.join(place, waker.clone()).is_none());
        }
        assert!(list.join(&mut places[1], waker.clone()).is_some(), "it keeps its place");
        assert!(list.leave(&mut places[1]).is_some() && places[1].is_none());
        assert!(list.call_one().is_some());
        let first = places[0];
        assert!(!list.has(first, waker) && list.has(places[2], waker));
        assert!(list.leave(&mut places[0]).is_none(), "it was called");
        places[0] = first;
        assert!(list.join(&mut places[0], waker.clone()).is_none());
        assert_ne!(places[0], first, "whoever was called comes last");
        assert_eq!(list.queue.len(), 2);
    }
}
