//! The way out of a connection, in rounds: a task takes what goes, seals it and hands it to the link.
//!
//! 1. Under the connection's mutex, *one task at a time*: choose what goes, datagrams off their queue, messages as heads and
//!    shared bytes.
//! 2. Without it, *parallel*: seal into a send batch, which joins datagrams into runs.
//! 3. *Round by round*: a system call per run, in the order in which the rounds were chosen; what overtakes looks lost to
//!    the peer. Wait for the socket where it is full.
//!
//! The [driver](super::driver) of the connection does all rounds where there is little to do. While more waits than fits a
//! round, others help.

use std::sync::Arc;

use super::bundling::{bundles, with_parts};
use super::datagrams::Taken;
use super::outgoing::Outgoing;
use super::shared::Shared;
use super::state::{LONGEST_TIMEOUT, Step};
use crate::clock;
use crate::endpoint::{Desk, Hold, SEND_BATCH};
use crate::error::CloseReason;
use crate::link::{Path, SendBatch};
use crate::turns::{Line, Turn, sealed_at_once};

/// How much may yet go in a round.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    bytes: usize,
    payloads: usize,
}

impl Budget {
    pub(super) fn new(bytes: usize, payloads: usize) -> Self {
        Self { bytes, payloads }
    }

    /// A payload of so many bytes goes.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.join(bytes);
        self.payloads = self.payloads.saturating_sub(1);
    }

    /// So many bytes go in a payload that has been counted.
    pub(super) fn join(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    pub(super) fn is_spent(self) -> bool {
        self.bytes == 0 || self.payloads == 0
    }

    /// Takes half of it away.
    fn split(&mut self) -> Self {
        let half = Self { bytes: self.bytes / 2, payloads: self.payloads / 2 };
        *self = Self { bytes: self.bytes - half.bytes, payloads: self.payloads - half.payloads };
        half
    }

    fn add(&mut self, rest: Self) {
        self.bytes += rest.bytes;
        self.payloads += rest.payloads;
    }
}

/// Who sends for a connection: the driver, and for a while others.
#[derive(Debug, Default)]
pub(super) struct Senders {
    helpers: usize,
    /// What was chosen leaves in that order.
    departures: Line,
}

impl Senders {
    /// Whether one more may send, of `tasks` with the driver; if so, it counts until [`Senders::dismiss`].
    fn hire(&mut self, tasks: usize) -> bool {
        let is_free = self.helpers + 1 < tasks;
        self.helpers += usize::from(is_free);
        is_free
    }

    fn dismiss(&mut self) {
        self.helpers -= 1;
    }

    /// When what was chosen now may leave. Alone, the driver sends one round before it chooses the next.
    fn turn(&mut self) -> Turn {
        if self.helpers > 0 { self.departures.join() } else { Turn::default() }
    }
}

/// What a task has chosen to send.
#[must_use = "it was taken from where it waited"]
pub(super) struct Round {
    desk: Desk,
    datagrams: Taken,
    turn: Turn,
    path: Path,
    /// For payloads that have none of their own.
    mtu: usize,
    step: Step,
    /// More datagrams wait.
    more: bool,
    /// Help was called for.
    hired: bool,
}

impl Round {
    /// Takes what goes next, and calls for help if there is more.
    pub(super) fn choose(shared: &Arc<Shared>) -> Self {
        let mut desk = shared.endpoint.desks.take();
        let payloads = &mut desk.payloads;
        let tasks = shared.endpoint.config.send_tasks;
        let mut budget = Budget::new(SEND_BATCH, sealed_at_once(tasks));
        let (chosen, hired) = shared.with(|state, effects| {
            // Here, as it must not go back from one round to the next.
            let now = clock::now();
            // Half of each round at most, so that datagrams and messages get on beside each other.
            let mut half = budget.split();
            let mut datagrams = shared.datagrams.take(&mut half, payloads);
            budget.add(half);
            if shared.datagrams.are_over() {
                state.datagrams_are_over();
            }
            state.datagrams_depart(now, datagrams.longest);
            let step = state.poll_transmit(now, &mut budget, payloads, effects);
            // Messages may have left of their half.
            let rest = shared.datagrams.take(&mut budget, payloads);
            state.datagrams_depart(now, rest.longest);
            datagrams.add(rest);
            let more = shared.datagrams.wait_to_be_sent();
            let hired = (more || budget.is_spent()) && state.senders.hire(tasks);
            let turn = state.senders.turn();
            let (path, mtu) = (state.path(), state.mtu());
            ((datagrams, turn, (path, mtu), step, more), hired)
        });
        if hired {
            let helper = Helper { shared: shared.clone(), _hold: shared.endpoint.hold() };
            shared.endpoint.runtime.spawn(helper.run());
        }
        let (datagrams, turn, (path, mtu), step, more) = chosen;
        Self { desk, datagrams, turn, path, mtu, step, more, hired }
    }

    /// How many payloads go.
    pub(super) fn payloads(&self) -> usize {
        self.desk.payloads.len()
    }

    /// Sends it. Through a reference: a future has what it is given by value twice.
    pub(super) async fn send(&mut self, shared: &Shared) {
        if self.hired {
            shared.endpoint.let_others_begin().await;
        }
        let Self { desk: Desk { payloads, batch }, turn, path: usual, mtu, .. } = self;
        let mut path = *usual;
        for bundle in bundles(payloads) {
            let next = bundle[0].path().unwrap_or(*usual);
            if next != path {
                flush(shared, turn, batch, path).await;
                path = next;
            }
            let sealed = match seal(shared, bundle, *mtu, batch) {
                // An empty batch has room for the largest payload, so the second time is the last.
                Sealing::Full => {
                    flush(shared, turn, batch, path).await;
                    seal(shared, bundle, *mtu, batch)
                }
                sealed => sealed,
            };
            if let Sealing::Failed(reason) = sealed {
                shared.handle_session_end(reason);
            }
        }
        if !payloads.is_empty() {
            payloads.clear();
            flush(shared, turn, batch, path).await;
        }
    }

    /// Says what to do next, once it is sent.
    pub(super) fn end(self, shared: &Shared) -> Step {
        shared.endpoint.desks.put(self.desk);
        shared.datagrams.sent(self.datagrams);
        // What was sent just now may have been the last that the close waited for.
        let closes = self.datagrams.bytes > 0 && shared.datagrams.is_closed();
        match self.step {
            Step::Wait(_) if self.more || closes => Step::Again,
            step => step,
        }
    }
}

async fn flush(shared: &Shared, turn: &mut Turn, batch: &mut SendBatch, path: Path) {
    turn.come().await;
    let refused = tokio::select! {
        biased;
        refused = batch.flush(&*shared.endpoint.link, path) => refused,
        // In memory of its own, and only once the link is full: the task of every connection would have room for it.
        () = async { Box::pin(given_up(shared)).await } => batch.discard(),
    };
    shared.endpoint.counters.send_errors.add(refused);
}

/// While the link takes nothing, nobody else looks at the clock for the connection. Resolves when it is over.
async fn given_up(shared: &Shared) {
    while !shared.look(|state| state.is_over()) {
        tokio::time::sleep(shared.settings.give_up_after.max(LONGEST_TIMEOUT)).await;
        shared.with(|state, effects| state.handle_blocked_link(clock::now(), effects));
    }
}

/// Sends beside the driver, until nothing waits.
struct Helper {
    shared: Arc<Shared>,
    /// The last to be let go of.
    _hold: Hold,
}

impl Helper {
    async fn run(self) {
        let shared = &self.shared;
        loop {
            let mut round = Round::choose(shared);
            let is_idle = round.payloads() == 0;
            round.send(shared).await;
            round.end(shared);
            if is_idle {
                break;
            }
            tokio::task::coop::consume_budget().await;
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.shared.look(|state| state.senders.dismiss());
        // It may have set a timer, or sent the last that a close waits for.
        self.shared.driver.notify_one();
    }
}

enum Sealing {
    Done,
    Failed(CloseReason),
    Full,
}

/// `mtu` is for payloads that have none of their own.
fn seal(shared: &Shared, bundle: &[Outgoing], mtu: usize, batch: &mut SendBatch) -> Sealing {
    use zssp_proto::SealError;
    let tail = batch.tail();
    let mtu = bundle[0].mtu().unwrap_or(mtu);
    match with_parts(bundle, |parts| shared.session.seal_parts(parts, mtu, tail)) {
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
        Err(SealError::KeyUsedUp) => Sealing::Failed(CloseReason::KeyUsedUp),
        // Payloads are made to fit, so it is none of the other errors.
        Err(_) => Sealing::Failed(CloseReason::Provider),
    }
}
