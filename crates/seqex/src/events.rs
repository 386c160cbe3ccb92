//! What congestion control is told, until it asks.

use alloc::collections::VecDeque;

use crate::{Capacity, Event, Feedback};

/// Events kept per slot of the window, should nobody drain them.
const PER_SLOT: usize = 4;

#[derive(Debug)]
pub(crate) struct Events {
    queue: VecDeque<Event>,
    limit: usize,
}

impl Events {
    pub(crate) fn new(feedback: Feedback, capacity: Capacity) -> Self {
        let limit = match feedback {
            Feedback::Collect => capacity.packets() as usize * PER_SLOT,
            Feedback::Discard => 0,
        };
        Self { queue: VecDeque::new(), limit }
    }

    #[inline]
    pub(crate) fn tell(&mut self, event: impl FnOnce() -> Event) {
        if self.limit > 0 {
            self.push(event());
        }
    }

    fn push(&mut self, event: Event) {
        if self.queue.len() == self.limit {
            self.queue.pop_front();
        }
        self.queue.push_back(event);
    }

    pub(crate) fn poll(&mut self) -> Option<Event> {
        self.queue.pop_front()
    }

    pub(crate) fn clear(&mut self) {
        self.queue.clear();
    }
}
