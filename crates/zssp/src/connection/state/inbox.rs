//! Messages of the peer that wait for the application.

use std::collections::VecDeque;

use bytes::Bytes;
use seqex::{Order, Token};

use super::Sending;

/// Messages that answer nothing and are taken out of the exchange before the application asks for them. Each takes a
/// number of the window that carries our own messages, so all others wait inside.
const TAKEN: usize = 16;

/// A message of the peer, waiting for the application.
#[derive(Debug)]
pub(in crate::connection) struct Arrived {
    pub(in crate::connection) token: Token,
    pub(in crate::connection) data: Bytes,
    /// Our message that it replies to, if that was not a request. It keeps its room until this is answered.
    pub(in crate::connection) answers: Option<Sending>,
}

/// What the application may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    Open,
    /// No message whose reply would take room.
    RepliesOnly,
}

/// Messages in the order in which they came out of the exchange.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    arrived: VecDeque<Arrived>,
    /// Those among them that answer nothing.
    asking: usize,
}

impl Inbox {
    /// Whether it takes a message that answers nothing. Replies it takes always: the peer waits for that.
    pub(super) fn has_room(&self) -> bool {
        self.asking < TAKEN
    }

    pub(super) fn push(&mut self, arrived: Arrived) {
        self.asking += usize::from(arrived.answers.is_none());
        self.arrived.push_back(arrived);
    }

    /// Whether there is something for the application.
    pub(super) fn has(&self, gate: Gate) -> bool {
        self.next(gate).is_some()
    }

    /// Takes out the next message for the application.
    pub(super) fn take(&mut self, gate: Gate) -> Option<Arrived> {
        let arrived = self.arrived.remove(self.next(gate)?)?;
        self.asking -= usize::from(arrived.answers.is_none());
        Some(arrived)
    }

    /// Discards everything. Yields our messages among it.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = Sending> {
        self.asking = 0;
        self.arrived.drain(..).filter_map(|arrived| arrived.answers)
    }

    /// Where it is: near the front, since few answer nothing.
    fn next(&self, gate: Gate) -> Option<usize> {
        let is_free = |arrived: &Arrived| match gate {
            Gate::Open => true,
            Gate::RepliesOnly => arrived.answers.is_some(),
        };
        let next = self.arrived.iter().position(is_free)?;
        //= ZSSP-SEQ-06  an ordered reply does not overtake what was sent before it
        (next == 0 || self.arrived[next].token.order() == Order::Unordered).then_some(next)
    }
}
