//! The dear path: handshakes run on the blocking pool, a bounded number at a time.
//!
//! Steps wait for their turn in the [`Queue`](super::queue::Queue). Those that the network asks for are dropped where it
//! has no place for them; what this side asks for (connecting, accepting, timers) always waits.

use std::sync::Arc;

use tokio::sync::oneshot;
use zssp_proto::{EndReason, Event, Fault, Handshake, Origin, Outbox, Session, SessionId};

use super::incoming::explain;
use super::queue::Worker;
use super::{Hold, Shared};
use crate::clock;
use crate::connection::{self, Connection, Inbound, Messages};
use crate::error::{CloseReason, ConnectError};
use crate::event::EndpointEvent;
use crate::link::Path;

/// The connection that a step made, if it made one nobody else waits for, or why it did not. For a step that makes none
/// anyway, what went wrong with it is nobody's business.
type Outcome = Result<Option<Connection>, ConnectError>;

impl Shared {
    /// Runs a step the network asked for, or drops it.
    pub(super) fn try_submit(self: &Arc<Self>, handshake: Handshake) {
        let origin = handshake.origin();
        let Some(turn) = self.queue.enter(origin) else {
            self.handle_dropped(origin);
            return;
        };
        let hold = self.hold();
        self.runtime.spawn(async move {
            match turn.await {
                Ok(worker) => drop(hold.spawn(handshake, worker)),
                Err(_) => hold.handle_dropped(origin),
            }
        });
    }

    /// A step had no place in the queue.
    fn handle_dropped(&self, origin: Option<Origin>) {
        self.counters.handshakes_dropped.add(1);
        if matches!(origin, Some(Origin::Stranger(_))) {
            // From here on strangers prove themselves first, so that who is real gets through.
            self.context.report_overload(clock::now());
        }
    }

    /// Runs a step of our own when its turn comes.
    pub(super) async fn submit(self: &Arc<Self>, handshake: Handshake) -> Outcome {
        let Some(worker) = self.worker().await else { return Err(ConnectError::EndpointClosed) };
        self.spawn(handshake, worker).await.unwrap_or(Err(ConnectError::EndpointClosed))
    }

    /// Has a session agree on a new key.
    pub(crate) async fn rekey(self: &Arc<Self>, id: SessionId) {
        if let Some(handshake) = self.context.rekey(id) {
            drop(self.submit(handshake).await);
        }
    }

    /// `None` when the endpoint has stopped.
    async fn worker(&self) -> Option<Worker> {
        self.queue.enter(None)?.await.ok()
    }

    /// What comes of it may have a connection, and so the endpoint: where nobody waits for it, it is let go of before the hold.
    fn spawn(self: &Arc<Self>, handshake: Handshake, worker: Worker) -> oneshot::Receiver<Outcome> {
        let ((done, outcome), hold) = (oneshot::channel(), self.hold());
        self.runtime.spawn_blocking(move || {
            // Whoever waited for its turn may have slept since it came.
            let stopped = *hold.stopped.borrow();
            let outcome = if stopped { Err(ConnectError::EndpointClosed) } else { hold.run(handshake) };
            drop(worker);
            hold.timer.notify_one();
            drop(done.send(outcome));
            drop(hold);
        });
        outcome
    }

    fn run(self: &Arc<Self>, handshake: Handshake) -> Outcome {
        let (mut outbox, is_asked_for) = (Outbox::default(), handshake.origin().is_some());
        let session = handshake.session();
        let result = handshake.run(clock::now(), &*self.store, &mut outbox);
        match result {
            Ok(()) => {}
            Err(Fault::Unwelcome) => self.counters.unwelcome.add(1),
            // Counted with their events.
            Err(Fault::DowngradeRefused | Fault::Store) => {}
            // What this side does by itself is no datagram.
            Err(_) => self.counters.faults.add(u64::from(is_asked_for)),
        }
        let library_failed = || explain(Fault::Provider);
        let (mut accepted, mut trouble) = (None, (result == Err(Fault::Provider)).then(library_failed));
        for event in outbox.events.drain(..) {
            match event {
                Event::Authorize(peer) => self.announce(peer),
                Event::Ended { id, reason } => self.ended(id, reason),
                Event::Established { session, .. } => accepted = self.established(session).or(accepted),
                Event::Downgraded { peer } => {
                    self.counters.downgrades.add(1);
                    self.tell_operator(EndpointEvent::Downgraded { peer });
                }
                Event::DowngradeRefused { peer } => {
                    self.counters.downgrades_refused.add(1);
                    trouble = Some(ConnectError::DowngradeRefused);
                    self.tell_operator(EndpointEvent::DowngradeRefused { peer });
                }
                Event::StoreFailed { peer, error } => {
                    self.counters.store_failures.add(1);
                    trouble = Some(ConnectError::Store(error.clone()));
                    self.tell_operator(EndpointEvent::StoreFailed { peer, error });
                }
                // Whatever a later version adds is a fact nobody here waits for.
                _ => {}
            }
        }
        for transmit in outbox.transmits.drain(..) {
            let Some(path) = transmit.to().path() else { continue };
            for (run, segment) in transmit.runs() {
                // A full socket loses a handshake packet like a full network does: it is sent again.
                let sent = self.link.send_or_lose(path, run, segment);
                self.counters.send_errors.add(u64::from(!sent));
            }
        }
        let Some(trouble) = trouble else { return result.map(|()| accepted).map_err(explain) };
        if let Some(session) = session {
            self.book.lock().trouble_with(clock::now(), session, &trouble);
        }
        Err(trouble)
    }

    fn tell_operator(&self, event: EndpointEvent) {
        if let Some(events) = &self.config.events
            && events.try_send(event).is_err()
        {
            self.counters.events_dropped.add(1);
        }
    }

    /// Sends a challenge back; one that a full socket loses is as if the network had lost it.
    pub(super) fn send_challenge(&self, path: Path, challenge: &[u8]) {
        self.counters.challenges.add(1);
        let sent = self.link.send_or_lose(path, challenge, challenge.len());
        self.counters.send_errors.add(u64::from(!sent));
    }

    /// Has the deadlines of the context looked at again.
    pub(crate) fn deadlines_changed(&self) {
        self.timer.notify_one();
    }

    fn announce(&self, peer: zssp_proto::Authorize) {
        let (gone, announced) = {
            let mut book = self.book.lock();
            (book.take_gone(clock::now()), book.announce(peer, self.config.incoming_queue))
        };
        drop(gone);
        match announced {
            Ok(()) => self.arrivals.notify_one(),
            Err(peer) => {
                peer.ignore();
                self.counters.incoming_dropped.add(1);
            }
        }
    }

    /// Makes the connection. Yields it unless an attempt waits for it.
    fn established(self: &Arc<Self>, session: Session) -> Option<Connection> {
        let id = session.id();
        let Some(path) = session.address().path() else {
            // Only socket addresses are ever handed to the context.
            self.context.close(id);
            return None;
        };
        let shared = Arc::new(connection::Shared::new(self.clone(), session, path));
        self.table.insert(&shared);
        let (mut attempt, closed) = {
            let mut book = self.book.lock();
            book.arrive();
            (book.finish(id), book.is_closed())
        };
        // After the book, in which whoever brings such news looks before the table: either finds the other.
        if shared.session.has_ended() {
            // There was nobody to tell. So soon, only one thing is likely.
            shared.handle_session_end(CloseReason::Replaced);
        }
        let mut inbound = Inbound::new(shared.clone());
        for (incarnation, payload) in attempt.iter_mut().flat_map(|attempt| &mut attempt.early) {
            match inbound.is_of((id, *incarnation)) {
                true => inbound.handle_payload(clock::now(), None, payload, &mut Messages::new()),
                // The handshake has begun anew since.
                false => self.counters.payloads_dropped.add(1),
            }
        }
        drop(inbound);
        self.runtime.spawn(connection::drive(shared.clone(), self.hold()));
        if closed {
            shared.handle_session_end(CloseReason::EndpointClosed);
        }
        let connection = Connection::new(shared);
        match attempt {
            Some(attempt) => {
                // An attempt given up in this moment drops the connection, which closes it.
                let _ = attempt.done.send(Ok(connection));
                None
            }
            None => Some(connection),
        }
    }

    fn ended(&self, id: SessionId, reason: EndReason) {
        let attempt = self.book.lock().finish(id);
        if let Some(attempt) = attempt {
            let _ = attempt.done.send(Err(match reason {
                EndReason::Conflict => ConnectError::Conflict,
                EndReason::Rejected => ConnectError::Refused,
                EndReason::Replaced { .. } => ConnectError::Replaced,
                _ => attempt.trouble.why_late(clock::now()),
            }));
        }
        if let Some(connection) = self.table.find(id) {
            connection.handle_session_end(close_reason(reason));
        }
    }
}

/// Runs what is due in the context, when it is due, until the endpoint stops.
///
/// If the runtime is shut down before that, nothing of the endpoint runs any more: it is closed, so that nobody waits for it.
pub(super) fn watch_deadlines(hold: Hold) -> impl Future<Output = ()> + Send {
    watch(Watch(hold))
}

/// Closes the endpoint when its deadlines are watched no longer, even if they never were.
struct Watch(Hold);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.shut_door();
    }
}

async fn watch(watch: Watch) {
    let Watch(hold) = &watch;
    while !*hold.stopped.borrow() {
        let changed = hold.timer.notified();
        match hold.context.next_deadline() {
            None => changed.await,
            Some(deadline) if deadline <= clock::now() => {
                // Room first: so what is due waits in the context, and not in a queue of ours.
                let Some(worker) = hold.worker().await else { return };
                if let Some(handshake) = hold.context.expired(clock::now()) {
                    drop(hold.spawn(handshake, worker));
                }
            }
            Some(deadline) => {
                tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(deadline.into()) => {}
                }
            }
        }
    }
}

/// Why the connection on a session ended that ended so. Only attempts to connect are refused or take too long, and what is
/// closed has no connection any more.
fn close_reason(reason: EndReason) -> CloseReason {
    match reason {
        EndReason::Conflict => CloseReason::Conflict,
        EndReason::Expired => CloseReason::Expired,
        EndReason::KeyUsedUp => CloseReason::KeyUsedUp,
        EndReason::Replaced { .. } => CloseReason::Replaced,
        _ => CloseReason::TimedOut,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No test can use a key four billion times; how the other ends are told apart, those in `tests/it/ends.rs` say.
    #[test]
    fn a_key_that_is_used_up_is_told_apart() {
        assert_eq!(close_reason(EndReason::KeyUsedUp), CloseReason::KeyUsedUp);
    }
}
