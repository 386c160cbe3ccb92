//! Requests under way: where the answer to each one goes.

use std::task::Waker;
use std::vec::Vec;

use crate::{Answer, face::state::Letter};

/// The place of one request, kept by the request until it gives it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestId(usize);

/// The places of all requests of one exchange: those that wait, those answered and not looked at, and those given up
/// whose packet is still under way, of which there are as many as the window holds.
#[derive(Debug)]
pub(crate) struct Requests<S, R> {
    slots: Vec<Slot<S, R>>,
    /// The first of the free slots.
    free: Option<usize>,
}

#[derive(Debug)]
enum Slot<S, R> {
    Answered(Answer<S, R>),
    Free {
        next: Option<usize>,
    },
    /// Nobody waits any more; the slot becomes free with the answer.
    GivenUp,
    Waiting(Option<Waker>),
}

impl<S, R> Requests<S, R> {
    /// A place for a request that begins.
    pub(crate) fn begin(&mut self) -> RequestId {
        let new = Slot::Waiting(None);
        let Some(index) = self.free else {
            self.slots.push(new);
            return RequestId(self.slots.len() - 1);
        };
        if let Slot::Free { next } = std::mem::replace(&mut self.slots[index], new) {
            self.free = next;
        }
        RequestId(index)
    }

    /// Frees the place of a request that was not sent after all, before anybody waits at it.
    pub(crate) fn cancel(&mut self, id: RequestId) {
        self.vacate(id);
    }

    /// Takes the answer out, if it is there. The place is free then.
    pub(crate) fn take(&mut self, id: RequestId) -> Option<Answer<S, R>> {
        if !matches!(self.slots[id.0], Slot::Answered(_)) {
            return None;
        }
        match self.vacate(id) {
            Slot::Answered(answer) => Some(answer),
            Slot::Free { .. } | Slot::GivenUp | Slot::Waiting(_) => None,
        }
    }

    /// Has `waker` called when the answer comes. Returns a waker to drop.
    pub(crate) fn wait(&mut self, id: RequestId, waker: Waker) -> Option<Waker> {
        match &mut self.slots[id.0] {
            Slot::Waiting(known) => known.replace(waker),
            Slot::Answered(_) | Slot::Free { .. } | Slot::GivenUp => Some(waker),
        }
    }

    /// Whether this waker is the one that will be called.
    pub(crate) fn has(&self, id: RequestId, waker: &Waker) -> bool {
        matches!(&self.slots[id.0], Slot::Waiting(Some(known)) if known.will_wake(waker))
    }

    /// Gives up a request. Returns the answer if it was there already, and a waker to drop.
    pub(crate) fn give_up(&mut self, id: RequestId) -> (Option<Answer<S, R>>, Option<Waker>) {
        if let Slot::Waiting(waker) = &mut self.slots[id.0] {
            let waker = waker.take();
            self.slots[id.0] = Slot::GivenUp;
            return (None, waker);
        }
        (self.take(id), None)
    }

    /// Puts an answer in its place. Returns it if nobody waits for it.
    pub(crate) fn resolve(
        &mut self,
        answer: Answer<Letter<S>, R>,
        woken: &mut Vec<Waker>,
    ) -> Option<Answer<S, R>> {
        let (request, answer) = open(answer);
        let Some(id) = request else { return Some(answer) };
        if let Slot::Waiting(waker) = &mut self.slots[id.0] {
            woken.extend(waker.take());
            self.slots[id.0] = Slot::Answered(answer);
            return None;
        }
        self.vacate(id);
        Some(answer)
    }

    /// Wakes everybody: no answer comes any more.
    pub(crate) fn close(&mut self, woken: &mut Vec<Waker>) {
        for slot in &mut self.slots {
            if let Slot::Waiting(waker) = slot {
                woken.extend(waker.take());
            }
        }
    }

    fn vacate(&mut self, id: RequestId) -> Slot<S, R> {
        let slot = std::mem::replace(&mut self.slots[id.0], Slot::Free { next: self.free });
        self.free = Some(id.0);
        slot
    }
}

impl<S, R> Default for Requests<S, R> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: None }
    }
}

fn open<S, R>(answer: Answer<Letter<S>, R>) -> (Option<RequestId>, Answer<S, R>) {
    match answer {
        Answer::Acknowledged { sent_seq, sent: Letter { data: sent, request } } => {
            (request, Answer::Acknowledged { sent_seq, sent })
        }
        Answer::Reply { token, data, sent_seq, sent: Letter { data: sent, request } } => {
            (request, Answer::Reply { token, data, sent_seq, sent })
        }
    }
}
