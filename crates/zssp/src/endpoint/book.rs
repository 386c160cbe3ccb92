//! What the endpoint waits for: answers to its attempts, the application's decisions, and the end of its connections.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use zssp_proto::{Authorize, Incarnation, SessionId};

use crate::connection::Connection;
use crate::error::ConnectError;

/// Bytes of payloads kept for a connection that is a moment from being ready, with what keeping them takes. The peer
/// repeats what is reliable.
const EARLY_BYTES: usize = 256 * 1024;

/// What keeping a payload takes besides its bytes, however few they are: its place in the list, and its allocation's.
const EARLY_OVERHEAD: usize = 64;

/// What kept an attempt from getting on longer ago than this is over: the attempt begins anew every ten seconds, and would
/// have met it again.
const OVER: Duration = Duration::from_secs(15);

/// Attempts under way, peers that wait, and how many connections there are.
#[derive(Debug, Default)]
pub(crate) struct Book {
    attempts: HashMap<SessionId, Attempt>,
    incoming: VecDeque<Authorize>,
    connections: usize,
    /// Peers that are yet to be told that they are refused.
    refusals: usize,
    closed: bool,
}

/// Who wants to know how an attempt ends.
pub(crate) type Done = oneshot::Sender<Result<Connection, ConnectError>>;

/// An attempt to connect.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) done: Done,
    pub(crate) trouble: Trouble,
    /// Payloads that came before the event that the session is there, or in one that a new handshake took the place of.
    pub(crate) early: Vec<(Incarnation, Vec<u8>)>,
    room: EarlyRoom,
}

/// What has last kept an attempt from getting on, and when.
#[derive(Debug, Default)]
pub(crate) struct Trouble(Option<(Instant, ConnectError)>);

impl Trouble {
    /// Why the attempt's time has run out.
    pub(crate) fn why_late(self, now: Instant) -> ConnectError {
        let recent = self.0.filter(|(at, _)| now.saturating_duration_since(*at) < OVER);
        recent.map_or(ConnectError::TimedOut, |(_, error)| error)
    }
}

impl Book {
    pub(crate) fn attempts(&self) -> usize {
        self.attempts.len()
    }

    pub(crate) fn begin(&mut self, id: SessionId, done: Done) {
        let (trouble, room) = (Trouble::default(), EarlyRoom::default());
        self.attempts.insert(id, Attempt { done, trouble, early: Vec::new(), room });
    }

    /// Notes what keeps the attempt from getting on, if the session is one: it ends with this error if its time runs out.
    pub(crate) fn trouble_with(&mut self, now: Instant, id: SessionId, error: &ConnectError) {
        if let Some(attempt) = self.attempts.get_mut(&id) {
            attempt.trouble = Trouble(Some((now, error.clone())));
        }
    }

    pub(crate) fn finish(&mut self, id: SessionId) -> Option<Attempt> {
        self.attempts.remove(&id)
    }

    /// There is a connection more.
    pub(crate) fn arrive(&mut self) {
        self.connections += 1;
    }

    /// One is over. Yields whether it was the last.
    pub(crate) fn leave(&mut self) -> bool {
        self.connections -= 1;
        self.connections == 0
    }

    /// A peer is to be told that it is refused.
    pub(crate) fn refuse(&mut self) {
        self.refusals += 1;
    }

    /// One has been told, or could not be.
    pub(crate) fn refused(&mut self) {
        self.refusals -= 1;
    }

    /// Whether nobody gets in any more, and nothing is left to be done for those who were.
    pub(crate) fn is_over(&self) -> bool {
        self.closed && self.connections == 0 && self.refusals == 0
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections
    }

    /// Whether the payload is kept for an attempt about to succeed.
    pub(crate) fn keep_early(
        &mut self,
        (id, incarnation): (SessionId, Incarnation),
        payload: &[u8],
    ) -> Early {
        let Some(attempt) = self.attempts.get_mut(&id) else { return Early::Unknown };
        if !attempt.room.take(payload.len()) {
            return Early::TooMuch;
        }
        attempt.early.push((incarnation, payload.into()));
        Early::Kept
    }

    /// Queues a peer for the application; gives it back where `limit` of them wait, or as many from its source as there
    /// are places free. A context's pending handshakes are shared among sources too, but a share of those can be more than
    /// all that may wait here.
    pub(crate) fn announce(&mut self, peer: Authorize, limit: usize) -> Result<(), Authorize> {
        let source = peer.address().source();
        let own = self.incoming.iter().filter(|other| other.address().source() == source).count();
        if self.closed || own >= limit.saturating_sub(self.incoming.len()) {
            return Err(peer);
        }
        self.incoming.push_back(peer);
        Ok(())
    }

    /// Takes those out of the queue who wait no longer.
    pub(crate) fn take_gone(&mut self, now: Instant) -> VecDeque<Authorize> {
        let (waiting, gone) =
            mem::take(&mut self.incoming).into_iter().partition(|peer| peer.is_waiting(now));
        self.incoming = waiting;
        gone
    }

    pub(crate) fn next_incoming(&mut self) -> Option<Authorize> {
        self.incoming.pop_front()
    }

    pub(crate) fn has_incoming(&self) -> bool {
        !self.incoming.is_empty()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Takes nobody any more, and hands out everybody who waits.
    pub(crate) fn close(&mut self) -> (HashMap<SessionId, Attempt>, VecDeque<Authorize>) {
        self.closed = true;
        (mem::take(&mut self.attempts), mem::take(&mut self.incoming))
    }
}

/// What became of a payload that came before its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Early {
    Kept,
    TooMuch,
    /// No such attempt, or not any more.
    Unknown,
}

/// The room that is left for payloads of one attempt.
#[derive(Debug)]
struct EarlyRoom(usize);

impl Default for EarlyRoom {
    fn default() -> Self {
        Self(EARLY_BYTES)
    }
}

impl EarlyRoom {
    /// Whether there was room for a payload of that length, which it now takes.
    fn take(&mut self, len: usize) -> bool {
        let left = self.0.checked_sub(EARLY_OVERHEAD).and_then(|left| left.checked_sub(len));
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(len: usize) -> usize {
        let mut room = EarlyRoom::default();
        (0..=EARLY_BYTES).take_while(|_| room.take(len)).count()
    }

    #[test]
    fn trouble_that_is_over_is_not_why_an_attempt_comes_too_late() {
        let now = Instant::now();
        for (later, why) in [(OVER / 2, ConnectError::DowngradeRefused), (OVER, ConnectError::TimedOut)] {
            assert_eq!(Trouble(Some((now, ConnectError::DowngradeRefused))).why_late(now + later), why);
        }
        assert_eq!(Trouble::default().why_late(now), ConnectError::TimedOut);
    }

    #[test]
    fn what_comes_early_is_bounded_even_if_it_is_empty() {
        assert_eq!(taken(0), EARLY_BYTES / EARLY_OVERHEAD);
        assert_eq!(taken(EARLY_BYTES / 2), 1);
        assert_eq!(taken(EARLY_BYTES), 0);
        assert!(size_of::<(Incarnation, Vec<u8>)>() <= EARLY_OVERHEAD / 2);
    }
}
