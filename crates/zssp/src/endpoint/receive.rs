//! The way in: tasks take turns at taking a batch of datagrams from the link, and open what they took at the same time.
//!
//! 1. *One task at a time*: a batch is taken from the link. A small one keeps the turn, so that one task does all where
//!    there is little to do; after a large one the next task may read on.
//! 2. *Parallel*: the context finds the session, joins fragments of the batch, opens the packet in a buffer of ours.
//! 3. *Batch by batch*: what was opened is delivered in the order in which it arrived; what overtakes looks lost to the
//!    reliability layer. The connection is found by the session's dense index; messages are fed to it under its mutex,
//!    datagrams pass it by.
//! 4. Once per batch and connection: whoever waits is woken.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zssp_proto::{Datagram, Fault, Incarnation, Received, Scratch, SessionId};

use super::book::Early;
use super::{Hold, Shared};
use crate::clock;
use crate::connection::{Inbound, Messages};
use crate::link::{Path, ReceiveBatch};
use crate::turns::{Turn, opened_early};
use crate::wait::to_the_back;

/// The pause after the system failed to receive, so that a failure that stays does not burn a core.
const AFTER_ERROR: Duration = Duration::from_millis(10);

/// A batch of so many bytes is worth waking another task for. To open it takes some ten times as long as that.
const LARGE: usize = 128 * 1024;

/// Bytes of emptied buffers that a task keeps: a batch needs about its own length of them. Any of thousands may once have
/// held a large payload.
const SPARE: usize = 2 * ReceiveBatch::LEN;

/// Takes packets from the link until the endpoint stops.
pub(super) async fn receive(mut hold: Hold) {
    let (shared, stopped) = (&hold.endpoint, &mut hold.stopped);
    let mut batch = ReceiveBatch::new();
    let mut desk = Desk::default();
    let mut kept = None;
    loop {
        let next = async {
            let reading = match kept.take() {
                Some(reading) => reading,
                None => shared.reading.lock().await,
            };
            (shared.link.receive(&mut batch).await, reading)
        };
        let (received, mut reading) = tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => return,
            next = next => next,
        };
        if let Err(error) = received {
            shared.counters.receive_errors.add(1);
            // Before the pause, so that a failure that was the only one does not keep the others from reading.
            drop(reading);
            if is_echo(&error) {
                to_the_back().await;
            } else {
                tokio::time::sleep(AFTER_ERROR).await;
            }
            continue;
        }
        if batch.len() >= LARGE && shared.config.receive_tasks > 1 {
            let turn = reading.join();
            drop(reading);
            shared.let_others_begin().await;
            Batch::new(shared, &mut desk, turn).run(&batch).await;
        } else {
            let turn = reading.leave();
            Batch::new(shared, &mut desk, turn).run(&batch).await;
            kept = Some(reading);
        }
        // Those who were woken may be waiting for this very thread.
        to_the_back().await;
    }
}

/// Whether it is only what became of a datagram of ours: some systems, Windows among them, have a socket that receives tell
/// that nobody has the port it went to. Anybody can bring that about, at will.
fn is_echo(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset)
}

/// What a receive task keeps from batch to batch.
#[derive(Default)]
struct Desk {
    scratch: Scratch,
    /// Where the next payload is opened.
    buffer: Vec<u8>,
    /// Payloads that were opened before their turn.
    opened: Vec<Opened>,
    spares: Spares,
    /// Where those of a bundle are put.
    messages: Messages,
}

/// Emptied buffers, to be used again.
#[derive(Default)]
struct Spares {
    buffers: Vec<Vec<u8>>,
    /// What they have room for.
    bytes: usize,
}

impl Spares {
    fn take(&mut self) -> Vec<u8> {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.bytes -= buffer.capacity();
        buffer
    }

    /// Keeps the buffer, unless there is enough in those that are kept.
    fn put(&mut self, buffer: Vec<u8>) {
        if self.bytes + buffer.capacity() <= SPARE {
            self.bytes += buffer.capacity();
            self.buffers.push(buffer);
        }
    }
}

/// An authentic payload, and the path its last fragment came by, if that is known.
struct Opened {
    session: (SessionId, Incarnation),
    from: Option<Path>,
    payload: Vec<u8>,
}

/// What a datagram led to, for the counters and for knowing when a batch is over.
struct Outcome {
    fault: u64,
    nothing: bool,
}

/// One batch on its way through.
struct Batch<'a> {
    shared: &'a Arc<Shared>,
    desk: &'a mut Desk,
    now: Instant,
    /// The connection of the last payload: neighbours in a batch mostly belong together.
    inbound: Option<Inbound>,
    /// It comes when the batches before are delivered.
    turn: Turn,
    /// Whether it has come, and what other batches left was joined with what this one brought.
    has_begun: bool,
}

impl<'a> Batch<'a> {
    fn new(shared: &'a Arc<Shared>, desk: &'a mut Desk, mut turn: Turn) -> Self {
        let has_begun = turn.has_come();
        Self { shared, desk, now: clock::now(), inbound: None, turn, has_begun }
    }

    async fn run(mut self, batch: &ReceiveBatch) {
        let (mut datagrams, mut bytes, mut faults) = (0, 0, 0);
        let context = &self.shared.context;
        let early = opened_early(self.shared.config.receive_tasks);
        for (path, run) in batch.runs() {
            let from = (*path).into();
            for datagram in run {
                datagrams += 1;
                bytes += datagram.len() as u64;
                let datagram = Datagram { from, bytes: datagram };
                let Desk { scratch, buffer, .. } = &mut *self.desk;
                let received = context.receive_into(self.now, datagram, scratch, buffer).map(Step::from);
                faults += self.take(received, Some(path)).fault;
                if self.desk.opened.len() >= early {
                    self.turn.come().await;
                    self.deliver_due();
                }
            }
        }
        self.shared.counters.datagrams_received.add(datagrams);
        self.shared.counters.bytes_received.add(bytes);
        self.shared.counters.faults.add(faults);
        self.turn.come().await;
        match self.has_begun {
            true => self.flush(),
            false => self.deliver_due(),
        }
    }

    /// Delivers what was opened, if everything that arrived earlier is delivered. What that left incomplete is where it can
    /// be joined then: packets that this batch completes come before those that it brought as a whole.
    fn deliver_due(&mut self) {
        if !self.turn.has_come() {
            return;
        }
        if !std::mem::replace(&mut self.has_begun, true) {
            let whole = std::mem::take(&mut self.desk.opened);
            self.flush();
            self.desk.opened = whole;
        }
        let mut opened = std::mem::take(&mut self.desk.opened);
        for Opened { session, from, mut payload } in opened.drain(..) {
            self.deliver(session, from, &mut payload);
            self.desk.spares.put(payload);
        }
        self.desk.opened = opened;
    }

    /// Joins what is incomplete with what other batches brought.
    fn flush(&mut self) {
        let mut faults = 0;
        loop {
            let Desk { scratch, buffer, .. } = &mut *self.desk;
            let received = self.shared.context.flush_into(self.now, scratch, buffer).map(Step::from);
            let outcome = self.take(received, None);
            faults += outcome.fault;
            if outcome.nothing {
                break;
            }
        }
        self.shared.counters.faults.add(faults);
    }

    fn take(&mut self, received: Result<Step, Fault>, from: Option<&Path>) -> Outcome {
        match received {
            Ok(Step::Payload(session)) => self.opened(session, from),
            Ok(Step::Other(Received::Handshake(handshake))) => self.shared.try_submit(handshake),
            Ok(Step::Other(Received::Reply(challenge))) => {
                if let Some(from) = from {
                    self.shared.send_challenge(*from, &challenge);
                }
            }
            Ok(Step::Other(_)) => return Outcome { fault: 0, nothing: true },
            Err(_) => return Outcome { fault: 1, nothing: false },
        }
        Outcome { fault: 0, nothing: false }
    }

    /// The buffer holds a payload.
    fn opened(&mut self, session: (SessionId, Incarnation), from: Option<&Path>) {
        let from = from.copied();
        let payload = std::mem::replace(&mut self.desk.buffer, self.desk.spares.take());
        self.desk.opened.push(Opened { session, from, payload });
        self.deliver_due();
    }

    fn deliver(&mut self, session: (SessionId, Incarnation), from: Option<Path>, payload: &mut Vec<u8>) {
        if self.inbound.as_ref().is_none_or(|inbound| !inbound.is_of(session)) {
            self.inbound = self.find(session);
        }
        if let Some(inbound) = &mut self.inbound {
            inbound.handle_payload(self.now, from, payload, &mut self.desk.messages);
            return;
        }
        let early = self.shared.book.lock().keep_early(session, payload);
        match early {
            Early::Kept => {}
            Early::TooMuch => self.shared.counters.payloads_dropped.add(1),
            // The connection may have come between the two looks.
            Early::Unknown => match self.find(session) {
                Some(mut inbound) => {
                    inbound.handle_payload(self.now, None, payload, &mut self.desk.messages);
                }
                None => self.shared.counters.payloads_dropped.add(1),
            },
        }
    }

    fn find(&self, session: (SessionId, Incarnation)) -> Option<Inbound> {
        let connection = self.shared.table.find(session.0)?;
        Some(Inbound::new(connection)).filter(|inbound| inbound.is_of(session))
    }
}

/// What was received, without the borrow: a payload is in the buffer.
enum Step {
    Payload((SessionId, Incarnation)),
    Other(Received<'static>),
}

impl From<Received<'_>> for Step {
    fn from(received: Received<'_>) -> Self {
        match received {
            Received::Payload { session, incarnation, .. } => Self::Payload((session, incarnation)),
            Received::Handshake(handshake) => Self::Other(Received::Handshake(handshake)),
            Received::Reply(challenge) => Self::Other(Received::Reply(challenge)),
            Received::Nothing => Self::Other(Received::Nothing),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_task_keeps_is_bounded_and_used_again() {
        let mut spares = Spares::default();
        for _ in 0..1000 {
            spares.put(Vec::with_capacity(64 * 1024));
        }
        let kept: usize = spares.buffers.iter().map(Vec::capacity).sum();
        assert_eq!((kept, spares.bytes), (SPARE, SPARE));
        while !spares.buffers.is_empty() {
            assert!(spares.take().capacity() >= 64 * 1024);
        }
        assert_eq!((spares.bytes, spares.take().capacity()), (0, 0));
    }
}
