//! The states of PROTOCOL 5.3 that belong to a session, and their timers. B2, which comes before there is one, is in
//! [`pending`](crate::context).

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::keys::Directed;
use super::{kk, xk};
use crate::address::Address;
use crate::context::{Doubt, EndReason, Inner, Open, Transmit};
use crate::crypto::{ProtectKey, UnprotectKey};
use crate::error::Fault;
use crate::identity::PublicKey;
use crate::ratchet::{PeerName, RatchetPair};
use crate::session::{SessionId, Shared};
use crate::sync::{RankedMutex, rank};
use crate::wire::{KeyId, PacketType};

/// Between two copies of a packet.
pub(crate) const RESEND: Duration = Duration::from_secs(1);
/// How long Alice stays in A1 and in A3 with one X1, and Bob in B2.
pub(crate) const ATTEMPT: Duration = Duration::from_secs(10);
/// How long S1, R1 and R2 wait for the peer.
pub(crate) const CONFIRM: Duration = Duration::from_secs(60);
/// How long S2 lasts at least before it rekeys, and how much longer at the most.
pub(crate) const REKEY: Duration = Duration::from_secs(50 * 60);
pub(crate) const REKEY_JITTER: Duration = Duration::from_secs(10 * 60);

/// Where a session stands. Each variant owns what exists at that moment, and nothing else does.
pub(crate) enum Phase {
    /// A3: X3 is on its way.
    AwaitConfirm(Box<AwaitConfirm>),
    /// A1: X1 is on its way.
    AwaitResponse(Box<AwaitResponse>),
    /// A task has taken the state out and computes or stores; packets are as if lost until it is done. The data path of
    /// the state stays within reach of whoever ends the session meanwhile.
    Busy(Option<Arc<Shared>>),
    /// The session has ended; nothing leads out of here.
    Closed,
    /// S1: C1 is on its way.
    Confirming(Box<Confirming>),
    /// A1 before there is an X1.
    Opening(Opening),
    /// R2: K2 is on its way.
    RekeyAnswered(Box<RekeyAnswered>),
    /// R1: K1 is on its way.
    RekeyStarted(Box<RekeyStarted>),
    /// S2.
    Steady(Steady),
}

/// When a packet is sent again, and when the state ends.
#[derive(Clone, Copy)]
pub(crate) struct Timers {
    pub(crate) resend: Instant,
    pub(crate) expire: Instant,
    /// How many copies of the packet went out.
    copies: u32,
}

impl Timers {
    pub(crate) fn start(now: Instant, lifetime: Duration) -> Self {
        Self { resend: now + RESEND, expire: now + lifetime, copies: 1 }
    }

    fn next(&self) -> Instant {
        self.resend.min(self.expire)
    }

    /// The next copy goes out in a second. Says how many did before this one.
    fn resend(&mut self, now: Instant) -> u32 {
        self.resend = now + RESEND;
        let before = self.copies;
        self.copies = before.wrapping_add(1);
        before
    }
}

/// What Alice needs to make another X1.
pub(crate) struct Attempt {
    pub(crate) open: Open,
    /// When the application asked for it.
    pub(crate) begun: Instant,
    /// When to give up altogether.
    pub(crate) give_up: Option<Instant>,
    /// Whether any X2 so far had to be opened with the zero key where another was expected. Only the task that has the
    /// session's state reads and writes it, so no thread races with another for it.
    pub(crate) downgraded: AtomicBool,
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
    pub(crate) header: HeaderKeys,
    /// What the store held when X1 was made.
    pub(crate) pair: RatchetPair,
    /// X1 with its response, the last 32 bytes.
    pub(crate) hello: Vec<u8>,
    /// When X1 was made.
    pub(crate) made: Instant,
    pub(crate) timers: Timers,
}

pub(crate) struct AwaitConfirm {
    pub(crate) attempt: Arc<Attempt>,
    pub(crate) established: Established,
    pub(crate) kid: KeyId,
    pub(crate) completion: Transmit,
    pub(crate) timers: Timers,
}

pub(crate) struct Confirming {
    pub(crate) established: Established,
    /// What C1 answers: X3, or K2.
    pub(crate) asked: Asked,
    pub(crate) timers: Timers,
}

/// A packet that is answered, and came from somewhere.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    /// Where its last copy came from. Somebody else may have sent that one on, and been quicker.
    from: Address,
    /// Whether a copy of the answer went there.
    is_answered: bool,
    /// How many did, for the last copy of the question.
    answers: u8,
}

impl Asked {
    /// No answer is longer than what it answers, so three times the bytes that came from an address go there at most.
    const ANSWERS: u8 = 3;

    pub(crate) const fn new(from: Address) -> Self {
        Self { from, is_answered: false, answers: 0 }
    }

    /// Another copy has come.
    fn again(&mut self, from: Address) {
        let is_answered = self.is_answered && self.from == from;
        *self = Self { is_answered, ..Self::new(from) };
    }

    /// Where a copy of the answer goes, when so many went out before: by turns to the session's address and to where the
    /// question came from. The address has the first: whoever is only quicker than the peer then gets no answer.
    //= ZSSP-ST-33  by turns
    pub(crate) fn answer(&mut self, shared: &Shared, copies: u32) -> Address {
        match shared.unless_here(self.from) {
            Some(address) if copies.is_multiple_of(2) || self.answers == Self::ANSWERS => address,
            _ => {
                self.is_answered = true;
                self.answers = Self::ANSWERS.min(self.answers + 1);
                self.from
            }
        }
    }

    /// The answer was answered. If that came from where it went, the peer is there.
    pub(crate) fn answered(self, shared: &Shared, from: Address) {
        if self.is_answered && self.from == from {
            shared.answered_from(from);
        }
    }
}

pub(crate) struct Steady {
    pub(crate) established: Established,
    /// When to start rekeying.
    pub(crate) rekey: Instant,
}

impl Steady {
    /// Whether it is time for another key, by the clock, by the key's bounds, or because the application wants it.
    pub(crate) fn wants_rekey(&self, now: Instant) -> bool {
        self.rekey <= now || self.established.shared.is_rekey_due()
    }

    /// When to see to that: at once if the application has asked while there was something else to be done.
    fn next_deadline(&self) -> Instant {
        let shared = &self.established.shared;
        let begun = shared.ring().filter(|_| shared.is_rekey_wanted()).map(|ring| ring.current().since);
        begun.unwrap_or(self.rekey)
    }
}

pub(crate) struct RekeyStarted {
    pub(crate) established: Established,
    pub(crate) kk: kk::AwaitFinish,
    /// Reserved for the packets under the new key.
    pub(crate) kid: KeyId,
    /// The inner K1; each copy gets a new outer layer.
    pub(crate) packet: Vec<u8>,
    /// Whether a hello was answered with the ratchet state that this began from: the peer may have done without the one
    /// of its K2 since, which must not be read any more.
    pub(crate) is_superseded: bool,
    pub(crate) timers: Timers,
}

pub(crate) struct RekeyAnswered {
    pub(crate) established: Established,
    /// The inner K2; each copy gets a new outer layer.
    pub(crate) packet: Vec<u8>,
    /// K1.
    pub(crate) asked: Asked,
    pub(crate) timers: Timers,
}

/// What all states from A3 and S1 on have in common.
#[derive(Clone)]
//= ZSSP-ST-25  the application is given it in S1 and S2
//= ZSSP-ST-26  packets reach it from A3 on
pub(crate) struct Established {
    pub(crate) shared: Arc<Shared>,
    /// The session's own copy of what the store holds, always equal to it.
    pub(crate) pair: Arc<RatchetPair>,
}

/// Header protection, both directions.
//= ZSSP-DEF-10  keys without a lock
#[derive(Clone)]
pub(crate) struct HeaderKeys {
    pub(crate) protect: Arc<dyn ProtectKey>,
    pub(crate) unprotect: Arc<dyn UnprotectKey>,
}

impl HeaderKeys {
    pub(crate) fn new(provider: &dyn crate::crypto::Provider, keys: &Directed) -> Self {
        Self {
            protect: provider.protect_key(&keys.send).into(),
            unprotect: provider.unprotect_key(&keys.receive).into(),
        }
    }
}

impl Phase {
    /// When the state next wants a task to run.
    //= ZSSP-ST-01  S2 has no deadline, so it sends nothing
    //= ZSSP-SEC-06  every other state has one
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let own = match self {
            Self::AwaitConfirm(state) => state.timers.next(),
            Self::AwaitResponse(state) => state.timers.next(),
            Self::Confirming(state) => state.timers.next(),
            Self::Opening(state) => state.at,
            Self::RekeyAnswered(state) => state.timers.next(),
            Self::RekeyStarted(state) => state.timers.next(),
            Self::Steady(state) => state.next_deadline(),
            Self::Busy(_) | Self::Closed => return None,
        };
        let give_up = self.attempt().and_then(|attempt| attempt.give_up);
        Some(give_up.map_or(own, |give_up| give_up.min(own)))
    }

    /// The key id that this state alone knows; those of a data path are with its keys.
    pub(crate) fn reserved_kid(&self) -> Option<KeyId> {
        match self {
            Self::AwaitResponse(state) => Some(state.kid),
            Self::RekeyStarted(state) => Some(state.kid),
            _ => None,
        }
    }

    /// Another copy of the state's packet goes out, the next in a second. Says where to; `None` in a state that sends
    /// nothing.
    pub(crate) fn resend(&mut self, now: Instant) -> Option<Address> {
        match self {
            //= ZSSP-ST-34  X3, wherever X2 came from
            Self::AwaitConfirm(state) => {
                state.timers.resend(now);
                Some(state.attempt.open.address)
            }
            Self::AwaitResponse(state) => {
                state.timers.resend(now);
                Some(state.attempt.open.address)
            }
            Self::Confirming(state) => {
                let copies = state.timers.resend(now);
                Some(state.asked.answer(&state.established.shared, copies))
            }
            Self::RekeyAnswered(state) => {
                let copies = state.timers.resend(now);
                Some(state.asked.answer(&state.established.shared, copies))
            }
            Self::RekeyStarted(state) => {
                let copies = state.timers.resend(now);
                Some(state.established.shared.asking(copies))
            }
            Self::Busy(_) | Self::Closed | Self::Opening(_) | Self::Steady(_) => None,
        }
    }

    /// Whether the state ends the session at this moment, and why.
    pub(crate) fn is_over(&self, now: Instant) -> Option<EndReason> {
        let expired = |timers: &Timers| timers.expire <= now;
        match self {
            //= ZSSP-ST-10  S1 ends the session after 60 s
            Self::Confirming(state) if expired(&state.timers) => Some(EndReason::Expired),
            //= ZSSP-ST-15  and so does R1
            Self::RekeyStarted(state) if expired(&state.timers) => Some(EndReason::Expired),
            //= ZSSP-ST-17  and R2
            Self::RekeyAnswered(state) if expired(&state.timers) => Some(EndReason::Expired),
            _ if self.attempt().and_then(|attempt| attempt.give_up).is_some_and(|at| at <= now) => {
                Some(EndReason::TimedOut)
            }
            _ if self.established().is_some_and(|established| established.shared.is_used_up()) => {
                Some(EndReason::KeyUsedUp)
            }
            _ => None,
        }
    }

    /// What opens the session, while it is not open.
    pub(crate) fn attempt(&self) -> Option<&Arc<Attempt>> {
        match self {
            Self::AwaitConfirm(state) => Some(&state.attempt),
            Self::AwaitResponse(state) => Some(&state.attempt),
            Self::Opening(state) => Some(&state.attempt),
            Self::Busy(_)
            | Self::Closed
            | Self::Confirming(_)
            | Self::RekeyAnswered(_)
            | Self::RekeyStarted(_)
            | Self::Steady(_) => None,
        }
    }

    /// The session's data path, where there is one, also while a task works on it.
    pub(crate) fn shared(&self) -> Option<&Arc<Shared>> {
        match self {
            Self::Busy(shared) => shared.as_ref(),
            _ => self.established().map(|established| &established.shared),
        }
    }

    /// The session's data path and what belongs to it, where the state has it.
    pub(crate) fn established(&self) -> Option<&Established> {
        match self {
            Self::AwaitConfirm(state) => Some(&state.established),
            Self::Confirming(state) => Some(&state.established),
            Self::RekeyAnswered(state) => Some(&state.established),
            Self::RekeyStarted(state) => Some(&state.established),
            Self::Steady(state) => Some(&state.established),
            Self::AwaitResponse(_) | Self::Busy(_) | Self::Closed | Self::Opening(_) => None,
        }
    }
}

/// A session as the dear path sees it, from the moment it is opened or accepted until it ends.
pub(crate) struct Cell {
    pub(crate) id: SessionId,
    pub(crate) peer: PublicKey,
    pub(crate) name: PeerName,
    phase: RankedMutex<{ rank::PHASE }, Phase>,
    /// What a write of this session that failed has left open.
    pub(crate) doubt: RankedMutex<{ rank::DOUBT }, Option<Box<Doubt>>>,
}

impl Cell {
    /// The peer, and the name under which its ratchet is stored.
    pub(crate) fn who(&self) -> (PublicKey, &PeerName) {
        (self.peer, &self.name)
    }

    pub(crate) fn new(id: SessionId, peer: PublicKey, name: PeerName, phase: Phase) -> Self {
        Self { id, peer, name, phase: RankedMutex::new(phase), doubt: RankedMutex::new(None) }
    }

    /// Takes the state out to compute with it, nothing locked. It goes back when the guard is dropped, or is replaced
    /// by [`Taken::commit`].
    pub(crate) fn take<'c>(&'c self, context: &'c Inner) -> Result<Taken<'c>, Fault> {
        let mut phase = self.phase.lock();
        match *phase {
            Phase::Busy(_) => Err(Fault::Busy),
            Phase::Closed => Err(Fault::Stale),
            _ => {
                let busy = Phase::Busy(phase.shared().cloned());
                let taken = core::mem::replace(&mut *phase, busy);
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
        self.phase.as_ref().unwrap_or(&Phase::Busy(None))
    }

    /// Another copy of what this state answers has come.
    //= ZSSP-ST-33  to where the last copy came from
    pub(crate) fn asked_again(&mut self, packet_type: PacketType, from: Address) {
        match (&mut self.phase, packet_type) {
            (Some(Phase::Confirming(state)), PacketType::RekeyFinish) => state.asked.again(from),
            (Some(Phase::RekeyAnswered(state)), PacketType::RekeyStart) => state.asked.again(from),
            _ => {}
        }
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
    pub(crate) fn adjust<T>(mut self, change: impl FnOnce(&mut Phase) -> T) -> Result<T, Fault> {
        let mut phase = self.phase.take().unwrap_or(Phase::Busy(None));
        let result = change(&mut phase);
        match self.put(phase) {
            Ok(()) => Ok(result),
            Err(phase) => {
                self.context.release(&phase);
                Err(Fault::Stale)
            }
        }
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
