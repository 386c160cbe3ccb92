//! How whoever owns a link learns that there is something to do.

use std::task::{Context, Poll, Waker};
use std::vec::Vec;

use crate::{
    encoding::ChannelId,
    face::{
        foreign::Foreign,
        sync::Mutex,
        waiters::{Place, Waiters},
    },
};

/// A bell that is rung whenever there may be something to do, heard by all who listen.
///
/// One bell can serve several exchanges, each with a lock of its own. So the condition is not checked under the
/// bell's lock; instead the listener counts. It reads how often the bell was [rung](Self::count), then looks
/// whether there is something to do, and then [listens](Self::poll_since) with that number: a ring in between is
/// noticed because the number has changed.
#[derive(Debug)]
pub struct Bell(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    rings: u64,
    listeners: Waiters,
    /// Channels whose exchange was closed, until somebody asks.
    closed: Vec<ChannelId>,
}

impl Bell {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(State::default()))
    }

    /// Calls all who listen; `closed` is the channel whose exchange was closed, if that is the reason.
    pub(crate) fn ring(&self, closed: Option<ChannelId>) {
        let end = {
            let mut state = self.0.lock();
            state.rings += 1;
            state.closed.extend(closed);
            state.listeners.end()
        };
        let mut foreign = Foreign::default();
        while let Some(waker) = self.next_listener(end) {
            foreign.run(|| waker.wake());
        }
        foreign.finish();
    }

    /// The channels whose exchange was closed since the last time somebody asked.
    pub(crate) fn take_closed(&self) -> Vec<ChannelId> {
        std::mem::take(&mut self.0.lock().closed)
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.lock().rings
    }

    //= ZSSP-DEF-23  the count is compared under the lock that registers
    /// Ready when the bell was rung since `count` was read.
    pub(crate) fn poll_since(
        &self,
        count: u64,
        place: &mut Option<Place>,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        // Cloning and dropping wakers is foreign code; none of it happens under the lock.
        let waker = context.waker().clone();
        let (poll, _replaced) = {
            let mut state = self.0.lock();
            if state.rings == count {
                state.listeners.rejoin_last(place);
                (Poll::Pending, state.listeners.join(place, waker))
            } else {
                (Poll::Ready(()), Some(waker))
            }
        };
        poll
    }

    /// Ends listening.
    pub(crate) fn leave(&self, place: &mut Option<Place>) {
        if place.is_some() {
            let _waker = self.0.lock().listeners.leave(place);
        }
    }

    fn next_listener(&self, end: Place) -> Option<Waker> {
        self.0.lock().listeners.call_before(end)
    }
}
