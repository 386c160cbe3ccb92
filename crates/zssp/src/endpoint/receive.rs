//! The way in: each receive task takes a batch of datagrams from the socket and runs it to completion.
//!
//! 1. *Parallel*: the context finds the session, opens the packet in place, joins fragments of the batch.
//! 2. *Parallel*: the connection is found by the session's dense index.
//! 3. *Sequential per connection*, under its mutex: frames are read, messages copied out.
//! 4. Once per batch and connection: whoever waits is woken.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use zssp_proto::{Fault, Received, Scratch, SessionId};

use super::Shared;
use super::book::Early;
use crate::clock;
use crate::connection::Inbound;
use crate::link::ReceiveBatch;

/// The pause after the system failed to receive, so that a failure that stays does not burn a core.
const AFTER_ERROR: Duration = Duration::from_millis(10);

/// Takes packets from the socket until the endpoint stops.
pub(super) async fn receive(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut batch = ReceiveBatch::new();
    let mut scratch = Scratch::new();
    loop {
        let received = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            received = shared.link.receive(&mut batch) => received,
        };
        match received {
            Ok(()) => Batch::new(&shared).run(&mut batch, &mut scratch),
            Err(_) => {
                shared.counters.receive_errors.add(1);
                tokio::time::sleep(AFTER_ERROR).await;
            }
        }
        // Those who were woken may be waiting for this very thread.
        to_the_back().await;
    }
}

/// Lets the tasks that are ready run first. Unlike tokio's `yield_now` this does not wait for the runtime to look at the
/// system's events again, which a busy runtime does once in 61 tasks.
async fn to_the_back() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// What a datagram led to, for the counters and for knowing when a batch is over.
struct Outcome {
    fault: u64,
    nothing: bool,
}

/// One batch on its way through.
struct Batch<'a> {
    shared: &'a Arc<Shared>,
    now: Instant,
    /// The connection of the last payload: neighbours in a batch mostly belong together.
    inbound: Option<Inbound>,
}

impl<'a> Batch<'a> {
    fn new(shared: &'a Arc<Shared>) -> Self {
        Self { shared, now: clock::now(), inbound: None }
    }

    fn run(mut self, batch: &mut ReceiveBatch, scratch: &mut Scratch) {
        let (mut datagrams, mut bytes, mut faults) = (0, 0, 0);
        let context = &self.shared.context;
        for (from, datagram) in batch.datagrams() {
            datagrams += 1;
            bytes += datagram.len() as u64;
            match context.receive(self.now, from.into(), datagram, scratch) {
                Ok(Received::Reply(challenge)) => self.shared.send_challenge(from, &challenge),
                received => faults += self.take(received, Some(from)).fault,
            }
        }
        loop {
            let outcome = self.take(context.flush(self.now, scratch), None);
            faults += outcome.fault;
            if outcome.nothing {
                break;
            }
        }
        self.shared.counters.datagrams_received.add(datagrams);
        self.shared.counters.bytes_received.add(bytes);
        self.shared.counters.faults.add(faults);
    }

    fn take(&mut self, received: Result<Received<'_>, Fault>, from: Option<SocketAddr>) -> Outcome {
        match received {
            Ok(Received::Payload { session, bytes }) => self.deliver(session, from, bytes),
            Ok(Received::Handshake(handshake)) => self.shared.try_submit(handshake),
            Ok(_) => return Outcome { fault: 0, nothing: true },
            Err(_) => return Outcome { fault: 1, nothing: false },
        }
        Outcome { fault: 0, nothing: false }
    }

    fn deliver(&mut self, id: SessionId, from: Option<SocketAddr>, payload: &[u8]) {
        if self.inbound.as_ref().is_none_or(|inbound| inbound.id() != id) {
            self.inbound = self.shared.table.find(id).map(Inbound::new);
        }
        if let Some(inbound) = &mut self.inbound {
            inbound.handle_payload(self.now, from, payload);
            return;
        }
        let early = self.shared.book.lock().keep_early(id, payload);
        match early {
            Early::Kept => {}
            Early::TooMuch => self.shared.counters.payloads_dropped.add(1),
            // The connection may have come between the two looks.
            Early::Unknown => match self.shared.table.find(id) {
                Some(connection) => connection.handle_payload(self.now, payload),
                None => self.shared.counters.payloads_dropped.add(1),
            },
        }
    }
}
