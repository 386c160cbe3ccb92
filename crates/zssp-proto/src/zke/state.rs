//! The states of PROTOCOL 5.3 that belong to a session, and their timers. B2, which comes before there is one, is in
//! [`pending`](crate::context).

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::keys::Directed;
use super::xk;
use crate::context::{Inner, Open, Transmit};
use crate::crypto::{ProtectKey, UnprotectKey};
use crate::error::Fault;
use crate::identity::PublicKey;
use crate::ratchet::{PeerName, RatchetPair};
use crate::session::{SessionId, Shared};
use crate::sync::{RankedMutex, rank};
use crate::wire::KeyId;

/// Between two copies of X1, X3 or C1.
pub(crate) const RESEND: Duration = Duration::from_secs(1);
/// How long Alice stays in A1 and in A3 with one X1, and Bob in B2.
pub(crate) const ATTEMPT: Duration = Duration::from_secs(10);
/// How long S1 waits for its confirmation.
pub(crate) const CONFIRM: Duration = Duration::from_secs(60);

/// Where a session stands. Each variant owns what exists at that moment, and nothing else does.
pub(crate) enum Phase {
    /// A3: X3 is on its way.
    AwaitConfirm(Box<AwaitConfirm>),
    /// A1: X1 is on its way.
    AwaitResponse(Box<AwaitResponse>),
    /// A task has taken the state out and computes or stores; packets are as if lost until it is done.
    Busy,
    /// The session has ended; nothing leads out of here.
    Closed,
    /// S1: C1 is on its way.
    Confirming(Confirming),
    /// A1 before there is an X1.
    Opening(Opening),
    /// S2.
    Steady(Established),
}

/// When a packet is sent again, and when the state ends.
#[derive(Clone, Copy)]
pub(crate) struct Timers {
    pub(crate) resend: Instant,
    pub(crate) expire: Instant,
}

impl Timers {
    pub(crate) fn start(now: Instant, lifetime: Duration) -> Self {
        Self { resend: now + RESEND, expire: now + lifetime }
    }

    fn next(&self) -> Instant {
        self.resend.min(self.expire)
    }
}

/// What Alice needs to make another X1.
pub(crate) struct Attempt {
    pub(crate) open: Open,
    /// When to give up altogether.
    pub(crate) give_up: Option<Instant>,
}

pub(crate) struct Opening {
    pub(crate) attempt: Arc<Attempt>,
    /// When to make X1, should the task that was to make it be lost.
    pub(crate) at: Instant,
}

pub(crate) struct AwaitResponse {
    pub(crate) attempt: Arc<Attempt>,
    pub(crate) xk: xk::AwaitResponse,
    pub(crate) kid: KeyId,
    pub(crate) header: Arc<HeaderKeys>,
    /// What the store held when X1 was made.
    pub(crate) pair: RatchetPair,
    pub(crate) hello: Transmit,
    pub(crate) timers: Timers,
}

pub(crate) struct AwaitConfirm {
    pub(crate) attempt: Arc<Attempt>,
    pub(crate) established: Established,
    pub(crate) kid: KeyId,
    pub(crate) completion: Transmit,
    pub(crate) timers: Timers,
}

#[derive(Clone)]
pub(crate) struct Confirming {
    pub(crate) established: Established,
    pub(crate) timers: Timers,
}

/// What A3, S1 and S2 have in common.
#[derive(Clone)]
//= ZSSP-ST-25  the application is given it in S1 and S2
//= ZSSP-ST-26  packets reach it from A3 on
pub(crate) struct Established {
    pub(crate) shared: Arc<Shared>,
    /// The session's own copy of what the store holds, always equal to it.
    pub(crate) pair: Arc<RatchetPair>,
}

/// Header protection, both directions.
pub(crate) struct HeaderKeys {
    pub(crate) protect: Box<dyn ProtectKey>,
    pub(crate) unprotect: Box<dyn UnprotectKey>,
}

impl HeaderKeys {
    pub(crate) fn new(provider: &dyn crate::crypto::Provider, keys: &Directed) -> Self {
        Self { protect: provider.protect_key(&keys.send), unprotect: provider.unprotect_key(&keys.receive) }
    }
}

impl Phase {
    /// When the state next wants a task to run.
    //= ZSSP-ST-01  S2 has no deadline, so it sends nothing
    //= ZSSP-SEC-06  every other state has one
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        match self {
            Self::AwaitConfirm(state) => Some(state.timers.next()),
            Self::AwaitResponse(state) => Some(state.timers.next()),
            Self::Confirming(state) => Some(state.timers.next()),
            Self::Opening(state) => Some(state.at),
            Self::Busy | Self::Closed | Self::Steady(_) => None,
        }
    }

    /// What opens the session, while it is not open.
    pub(crate) fn attempt(&self) -> Option<&Arc<Attempt>> {
        match self {
            Self::AwaitConfirm(state) => Some(&state.attempt),
            Self::AwaitResponse(state) => Some(&state.attempt),
            Self::Opening(state) => Some(&state.attempt),
            Self::Busy | Self::Closed | Self::Confirming(_) | Self::Steady(_) => None,
        }
    }

    /// The session's data path, where there is one.
    pub(crate) fn established(&self) -> Option<&Established> {
        match self {
            Self::AwaitConfirm(state) => Some(&state.established),
            Self::Confirming(state) => Some(&state.established),
            Self::Steady(established) => Some(established),
            Self::AwaitResponse(_) | Self::Busy | Self::Closed | Self::Opening(_) => None,
        }
    }
}

/// A session as the dear path sees it, from the moment it is opened or accepted until it ends.
pub(crate) struct Cell {
    pub(crate) id: SessionId,
    pub(crate) peer: PublicKey,
    pub(crate) name: PeerName,
    phase: RankedMutex<{ rank::PHASE }, Phase>,
}

impl Cell {
    pub(crate) fn new(id: SessionId, peer: PublicKey, name: PeerName, phase: Phase) -> Self {
        Self { id, peer, name, phase: RankedMutex::new(phase) }
    }

    /// Takes the state out to compute with it, nothing locked. It goes back when the guard is dropped, or is replaced
    /// by [`Taken::commit`].
    pub(crate) fn take<'c>(&'c self, context: &'c Inner) -> Result<Taken<'c>, Fault> {
        let mut phase = self.phase.lock();
        match *phase {
            Phase::Busy => Err(Fault::Busy),
            Phase::Closed => Err(Fault::Stale),
            _ => {
                let taken = core::mem::replace(&mut *phase, Phase::Busy);
                Ok(Taken { context, cell: self, phase: Some(taken) })
            }
        }
    }

    /// Ends the session; what the state held is returned, once.
    pub(crate) fn close(&self) -> Option<Phase> {
        let before = core::mem::replace(&mut *self.phase.lock(), Phase::Closed);
        if matches!(before, Phase::Closed) { None } else { Some(before) }
    }

    /// Runs `change`, which must be short, on the state in its place.
    pub(crate) fn with_phase<T>(&self, change: impl FnOnce(&mut Phase) -> T) -> T {
        change(&mut self.phase.lock())
    }
}

/// A state that a task works on; everybody else sees [`Phase::Busy`] meanwhile.
pub(crate) struct Taken<'c> {
    context: &'c Inner,
    cell: &'c Cell,
    /// `None` once it was replaced.
    phase: Option<Phase>,
}

impl Taken<'_> {
    pub(crate) fn phase(&self) -> &Phase {
        self.phase.as_ref().unwrap_or(&Phase::Busy)
    }

    /// Puts `next` in the place of the old state, with its deadline.
    ///
    /// # Errors
    /// [`Fault::Stale`] when the session was closed meanwhile; both states are then released.
    pub(crate) fn commit(mut self, next: Phase) -> Result<(), Fault> {
        let old = self.phase.take();
        match self.put(next) {
            Ok(()) => Ok(()),
            Err(next) => {
                for phase in old.iter().chain([&next]) {
                    self.context.release(phase);
                }
                Err(Fault::Stale)
            }
        }
    }

    /// Changes the state a little and puts it back, with its deadline.
    pub(crate) fn adjust(mut self, change: impl FnOnce(&mut Phase)) -> Result<(), Fault> {
        let mut phase = self.phase.take().unwrap_or(Phase::Busy);
        change(&mut phase);
        self.put(phase).map_err(|phase| {
            self.context.release(&phase);
            Fault::Stale
        })
    }

    /// The state and its deadline change under one lock, so that the deadline is always that of the state.
    fn put(&self, next: Phase) -> Result<(), Phase> {
        let mut phase = self.cell.phase.lock();
        if matches!(*phase, Phase::Closed) {
            return Err(next);
        }
        self.context.arm(self.cell.id, next.next_deadline());
        *phase = next;
        Ok(())
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let Some(old) = self.phase.take() else { return };
        let mut phase = self.cell.phase.lock();
        if matches!(*phase, Phase::Closed) {
            drop(phase);
            self.context.release(&old);
        } else {
            *phase = old;
        }
    }
}
