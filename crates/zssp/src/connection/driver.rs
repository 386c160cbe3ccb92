//! The way out: one task per connection that seals and sends, and others that help with datagrams while there are many.
//!
//! 1. Datagrams, *parallel*: taken off a queue without a lock.
//! 2. Messages, under the connection's mutex, *sequential*: choose what goes, as heads and shared bytes.
//! 3. Without it, *parallel* to everything: seal into a send batch, which joins datagrams into runs.
//! 4. A system call per run; wait for the socket where it is full.
//!
//! The task sleeps until somebody changes something or a deadline comes. Messages leave by it alone: in whatever order
//! several tasks got to the socket, the peer would take some of them for lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use super::outgoing::Outgoing;
use super::shared::Shared;
use super::state::Step;
use crate::clock;
use crate::endpoint::SEND_BATCH;
use crate::error::CloseReason;
use crate::link::SendBatch;

/// How long to sleep when there is no deadline at all.
const FOREVER: Duration = Duration::from_secs(24 * 3600);

/// Runs a connection to its end.
///
/// It leaves its endpoint also when the runtime is shut down and the task just dropped, even before its first poll: the
/// endpoint's table would keep it alive.
pub(crate) fn drive(shared: Arc<Shared>) -> impl Future<Output = ()> + Send {
    run(Leave(shared))
}

async fn run(leave: Leave) {
    let shared = &leave.0;
    let mut payloads = Vec::new();
    let mut sleep = Box::pin(tokio::time::sleep(FOREVER));
    loop {
        let now = clock::now();
        // Half of each round at most, so that datagrams and messages get on beside each other.
        let datagrams = shared.datagrams.take(SEND_BATCH / 2, &mut payloads);
        let more = call_for_help(shared);
        let step = shared.with(|state, effects| {
            if shared.datagrams.are_over() {
                state.datagrams_are_over();
            }
            state.datagrams_depart(now, datagrams.longest);
            state.poll_transmit(now, SEND_BATCH.saturating_sub(datagrams.bytes), &mut payloads, effects)
        });
        if !payloads.is_empty() {
            send(shared, &mut payloads).await;
        }
        shared.datagrams.sent(datagrams);
        // What was sent just now may have been the last that the close waited for.
        let closes = datagrams.bytes > 0 && shared.datagrams.is_closed();
        match step {
            Step::Over => break,
            // Lets others run now and then; in between, the next round may start at once.
            _ if more || closes => tokio::task::coop::consume_budget().await,
            Step::Again => tokio::task::coop::consume_budget().await,
            Step::Wait(deadline) => {
                let deadline = deadline.unwrap_or_else(|| now + FOREVER);
                wait(shared, sleep.as_mut(), deadline).await;
            }
        }
    }
}

/// Whether more datagrams wait than this task has taken. Another then helps with them, if one more may.
fn call_for_help(shared: &Arc<Shared>) -> bool {
    let more = shared.datagrams.wait_to_be_sent();
    if more && shared.datagrams.hire() {
        shared.endpoint.runtime.spawn(Helper(shared.clone()).run());
    }
    more
}

/// Sends datagrams beside the driver, until none waits.
struct Helper(Arc<Shared>);

impl Helper {
    async fn run(self) {
        let shared = &self.0;
        let mut payloads = Vec::new();
        loop {
            let datagrams = shared.datagrams.take(SEND_BATCH, &mut payloads);
            if datagrams.bytes == 0 {
                break;
            }
            call_for_help(shared);
            send(shared, &mut payloads).await;
            shared.datagrams.sent(datagrams);
            tokio::task::coop::consume_budget().await;
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.0.datagrams.dismiss();
        // It may have sent the last that a close waits for.
        self.0.driver.notify_one();
    }
}

/// Takes the connection out of its endpoint when its driver ends, in whatever way.
struct Leave(Arc<Shared>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.handle_session_end(CloseReason::EndpointClosed);
        self.0.endpoint.remove(&self.0);
    }
}

async fn wait(shared: &Shared, mut sleep: std::pin::Pin<&mut Sleep>, deadline: Instant) {
    let deadline = tokio::time::Instant::from_std(deadline);
    if sleep.deadline() != deadline {
        sleep.as_mut().reset(deadline);
    }
    tokio::select! {
        () = shared.driver.notified() => {}
        () = sleep => {}
    }
}

async fn send(shared: &Shared, payloads: &mut Vec<Outgoing>) {
    let endpoint = &shared.endpoint;
    let (remote, mtu) = shared.look(|state| (state.remote(), state.mtu()));
    let mut to = remote;
    let mut batch = endpoint.batches.take();
    let mut refused = 0;
    for payload in payloads.drain(..) {
        let address = payload.to().unwrap_or(remote);
        if address != to {
            refused += batch.flush(&*endpoint.link, to).await;
            to = address;
        }
        let sealed = match seal(shared, &payload, mtu, &mut batch) {
            // An empty batch has room for the largest payload, so the second time is the last.
            Sealing::Full => {
                refused += batch.flush(&*endpoint.link, to).await;
                seal(shared, &payload, mtu, &mut batch)
            }
            sealed => sealed,
        };
        if let Sealing::Failed(reason) = sealed {
            shared.handle_session_end(CloseReason::Session(reason));
        }
    }
    refused += batch.flush(&*endpoint.link, to).await;
    endpoint.counters.send_errors.add(refused);
    endpoint.batches.put(batch);
}

enum Sealing {
    Done,
    Failed(&'static str),
    Full,
}

/// `mtu` is for payloads that have none of their own.
fn seal(shared: &Shared, payload: &Outgoing, mtu: usize, batch: &mut SendBatch) -> Sealing {
    use zssp_proto::SealError;
    let tail = batch.tail();
    match shared.session.seal_parts(&payload.parts(), payload.mtu().unwrap_or(mtu), tail) {
        Ok(sealed) => {
            if sealed.is_rekey_due() {
                shared.endpoint.deadlines_changed();
            }
            let mut runs = [(0, 0); 2];
            for (place, (run, segment)) in runs.iter_mut().zip(sealed.runs(tail)) {
                *place = (run.len(), segment);
            }
            for (len, segment) in runs.into_iter().filter(|&(len, _)| len > 0) {
                batch.push(len, segment);
            }
            Sealing::Done
        }
        Err(SealError::BufferTooSmall { .. }) => Sealing::Full,
        // The end of the session is told by its own event, with its reason.
        Err(SealError::Closed) => Sealing::Done,
        Err(SealError::KeyUsedUp) => Sealing::Failed("its keys are used up"),
        Err(_) => Sealing::Failed("a payload could not be sealed"),
    }
}
