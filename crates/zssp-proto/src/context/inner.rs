//! What a context's parts share, and the few steps that touch several of them.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::builder::ContextBuilder;
use super::load::Load;
use super::open::{Open, OpenError};
use super::outbox::{EndReason, Event, Outbox};
use super::peers::{Peers, Precedence, Side};
use super::pending::{Pending, PendingTable};
use super::routes::{Route, Routes};
use super::sessions::Sessions;
use super::stats::{Drops, Stats};
use crate::crypto::{Provider, ProviderError, Secret};
use crate::error::Fault;
use crate::identity::{PublicKey, StaticKey};
use crate::policy::{Hellos, Policy};
use crate::ratchet::{Fingerprint, PeerName};
use crate::session::{Session, SessionId};
use crate::suite::Suite;
use crate::sync::{RankedMutex, rank};
use crate::timers::Timers;
use crate::wire::{Completion, KeyId, MAX_FRAGMENTS};
use crate::zcp::{Challenger, Challenging};
use crate::zfp::{self, Budget, HelloCache};
use crate::zke::state::{
    ATTEMPT, Attempt, Cell, Established, Opening, Phase, REKEY, REKEY_JITTER, RESEND, Steady,
};

pub(crate) struct Inner {
    provider: Arc<dyn Provider>,
    pub(super) key: StaticKey,
    pub(super) suites: Vec<Suite>,
    pub(super) policy: Policy,
    challenging: Challenging,
    pub(super) challenger: Challenger,
    pub(super) load: RankedMutex<{ rank::LOAD }, Load>,
    pub(super) mtu: usize,
    max_sessions: usize,
    pub(super) session_reassembly: zfp::Limits,
    pub(super) handshake_reassembly: zfp::Limits,
    pub(super) routes: Routes,
    pub(super) hellos: RankedMutex<{ rank::HELLOS }, HelloCache>,
    pub(super) pending: RankedMutex<{ rank::PENDING_TABLE }, PendingTable>,
    pub(super) peers: RankedMutex<{ rank::PEERS }, Peers>,
    pub(super) sessions: RankedMutex<{ rank::SESSIONS }, Sessions>,
    pub(super) timers: RankedMutex<{ rank::TIMERS }, Timers<Owner>>,
    pub(super) drops: Drops,
    /// Set once. Of threads that are the first at the same time, either has a time that is right.
    started: OnceLock<Instant>,
}

/// Whose deadline it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Owner {
    /// A responder handshake, to be forgotten.
    Pending(KeyId),
    /// Incomplete packets of a session, to be dropped. Its key ids come and go.
    Fragments(SessionId),
    /// Incomplete packets of a handshake, to be dropped.
    HandshakeFragments(KeyId),
    /// A session.
    Session(SessionId),
}

impl Inner {
    pub(super) fn new(builder: ContextBuilder) -> Result<Self, ProviderError> {
        let ContextBuilder { key, provider, suites, limits, policy, challenging, mtu } = builder;
        let challenger = Challenger::new(&*provider)?;
        let mut salt = Secret::zero();
        provider.random(salt.expose_mut())?;
        let budget = Arc::new(Budget::new(limits.reassembly_bytes));
        Ok(Self {
            provider,
            key,
            suites,
            policy,
            challenging,
            challenger,
            load: RankedMutex::new(Load::default()),
            mtu,
            max_sessions: limits.sessions,
            session_reassembly: zfp::Limits {
                packets: MAX_INCOMPLETE_PACKETS,
                bytes: limits.reassembly_bytes_per_session,
                budget: budget.clone(),
            },
            handshake_reassembly: zfp::Limits { packets: 1, bytes: MAX_HANDSHAKE_BYTES, budget },
            routes: Routes::new(),
            hellos: RankedMutex::new(HelloCache::new(limits.hello_bytes, salt)),
            pending: RankedMutex::new(PendingTable::new(limits.pending_handshakes, limits.pending_bytes)),
            peers: RankedMutex::new(Peers::default()),
            sessions: RankedMutex::new(Sessions::default()),
            timers: RankedMutex::new(Timers::new()),
            drops: Drops::default(),
            started: OnceLock::new(),
        })
    }

    pub(super) fn provider(&self) -> &dyn Provider {
        &*self.provider
    }

    /// When this context did its first handshake work: nobody has heard of it before. What came before that is the work of
    /// a process that has died; when that was, nobody knows, so a context that was idle for long counts it all the same.
    pub(super) fn started(&self, now: Instant) -> Instant {
        *self.started.get_or_init(|| now)
    }

    /// From when on it is certain what came of the X3s that this side has sent to a peer and that it has not confirmed,
    /// those of attempts that are over included, and of processes that have died. Before, it may still read one of them:
    /// it forgets a handshake 10 s after it answered it, which was before X3 was made.
    pub(super) fn settled_from(&self, peer: &PeerName, now: Instant) -> Instant {
        let last_process = self.started(now) + ATTEMPT;
        let unsettled = self.peers.lock().unsettled(peer);
        unsettled.map_or(last_process, |until| until.max(last_process))
    }

    pub(super) fn stats(&self) -> Stats {
        // One after the other: inside the expression below, each guard would live to its end.
        let sessions = self.sessions.lock().len();
        let pending = self.pending.lock();
        let (pending_handshakes, pending_bytes) = (pending.len(), pending.bytes());
        drop(pending);
        let hello_bytes = self.hellos.lock().held_bytes();
        Stats {
            sessions,
            pending_handshakes,
            pending_bytes,
            key_ids: self.routes.len(),
            hello_bytes,
            reassembly_bytes: self.session_reassembly.budget.held(),
            pending_evicted: self.drops.pending_evicted.get(),
            hellos_evicted: self.drops.hellos_evicted.get(),
            incomplete_evicted: self.drops.incomplete_evicted.get(),
            incomplete_expired: self.drops.incomplete_expired.get(),
        }
    }

    pub(super) fn open(&self, now: Instant, open: Open) -> Result<Arc<Cell>, OpenError> {
        if open.identity.len() > Open::MAX_IDENTITY_LEN {
            return Err(OpenError::IdentityTooLarge);
        }
        if open.peer == self.key.public() {
            return Err(OpenError::OwnKey);
        }
        let give_up = open.give_up_after.and_then(|time| now.checked_add(time));
        let (peer, name) = (open.peer, open.name.clone());
        let attempt = Arc::new(Attempt { open, begun: now, give_up, downgraded: AtomicBool::new(false) });
        // Should the first handshake be dropped instead of run, the deadline makes up for it.
        let phase = Phase::Opening(Opening { attempt, at: now + RESEND });
        let deadline = phase.next_deadline();
        let cell =
            self.add_session(0, |id| Cell::new(id, peer, name, phase)).ok_or(OpenError::TooManySessions)?;
        let mut peers = self.peers.lock();
        peers.forget_settled(now);
        let begun = peers.begin(&cell.name, cell.id);
        drop(peers);
        if let Err(id) = begun {
            self.dismantle(&cell);
            return Err(OpenError::AlreadyOpening { id });
        }
        self.arm(cell.id, deadline);
        Ok(cell)
    }

    /// Adds a session if there is room for it, or will be when so many others have made room.
    pub(super) fn add_session(
        &self,
        replaceable: usize,
        make: impl FnOnce(SessionId) -> Cell,
    ) -> Option<Arc<Cell>> {
        let mut sessions = self.sessions.lock();
        if sessions.len().saturating_sub(replaceable) >= self.max_sessions {
            None
        } else {
            sessions.insert(make)
        }
    }

    /// Whether there is room for a session that this peer opens, at this moment.
    pub(super) fn has_room(&self, peer: &PeerName) -> bool {
        let replaceable = self.peers.lock().replaceable(peer);
        self.sessions.lock().len().saturating_sub(replaceable) < self.max_sessions
    }

    /// S2, until it is time to rekey.
    //= ZSSP-ST-13  after a uniformly random 50..60 min
    pub(super) fn steady(&self, established: Established, now: Instant) -> Phase {
        let mut random = [0; 8];
        // Without randomness all sessions rekey at the same moment, which is no reason to lose one.
        let jitter = match self.provider().random(&mut random) {
            Ok(()) => u64::from_be_bytes(random) % REKEY_JITTER.as_millis() as u64,
            Err(ProviderError) => 0,
        };
        let rekey = now + REKEY + Duration::from_millis(jitter);
        Phase::Steady(Steady { established, rekey })
    }

    /// Frees key ids.
    pub(super) fn free(&self, kids: impl IntoIterator<Item = KeyId>) {
        for kid in kids {
            self.routes.remove(kid);
        }
    }

    pub(crate) fn schedule(&self, id: SessionId, deadline: Instant) {
        self.timers.lock().schedule(Owner::Session(id), deadline);
    }

    /// Sets a session's only deadline.
    pub(crate) fn arm(&self, id: SessionId, deadline: Option<Instant>) {
        match deadline {
            Some(deadline) => self.schedule(id, deadline),
            None => self.timers.lock().cancel(Owner::Session(id)),
        }
    }

    /// The next session whose deadline has come; what needs no work of that kind is done on the way.
    pub(super) fn expired(&self, now: Instant) -> Option<Arc<Cell>> {
        loop {
            let owner = self.timers.lock().pop_expired(now)?;
            match owner {
                //= ZSSP-ST-05  B2 is forgotten after 10 s
                Owner::Pending(kid) => {
                    let pending = self.pending.lock().remove(kid);
                    if let Some(pending) = pending {
                        self.discard(&pending);
                    }
                }
                Owner::Fragments(_) | Owner::HandshakeFragments(_) => self.expire_fragments(owner, now),
                Owner::Session(id) => {
                    let cell = self.sessions.lock().find(id);
                    if let Some(cell) = cell {
                        // In case the work is never run; running it sets the right deadline.
                        self.schedule(id, now + RESEND);
                        return Some(cell);
                    }
                }
            }
        }
    }

    /// Ends a session and says why.
    pub(super) fn end(&self, cell: &Cell, outbox: &mut Outbox, reason: EndReason) {
        if self.dismantle(cell) {
            outbox.events.push(Event::Ended { id: cell.id, reason });
        }
    }

    /// Ends a session because the application wants it; `None` when it was over already.
    pub(super) fn close(&self, id: SessionId) -> Option<Event> {
        let cell = self.sessions.lock().find(id)?;
        self.dismantle(&cell).then_some(Event::Ended { id, reason: EndReason::Closed })
    }

    /// Takes a session out of every table; `true` for the one caller who did.
    fn dismantle(&self, cell: &Cell) -> bool {
        let Some(phase) = cell.close() else { return false };
        self.release(&phase);
        self.timers.lock().cancel(Owner::Session(cell.id));
        self.peers.lock().ended(&cell.name, cell.id);
        self.sessions.lock().remove(cell.id);
        true
    }

    /// Whose session survives when both sides open at once.
    pub(super) fn precedence(&self, peer: &PublicKey) -> Precedence {
        Precedence(if self.key.public() > *peer { Side::Here } else { Side::There })
    }

    /// What this side is opening with a peer, if one X1 after the other got no answer: whatever the peer opens then was
    /// not opened at the same time, and giving way to an attempt at a wrong address would lock the peer out for good.
    pub(super) fn stalled_attempt(&self, peer: &PeerName, now: Instant) -> Option<SessionId> {
        let id = self.peers.lock().attempt(peer)?;
        let cell = self.sessions.lock().find(id)?;
        let stalled = cell.with_phase(|phase| match phase {
            Phase::AwaitResponse(_) | Phase::Opening(_) => {
                phase.attempt().is_some_and(|attempt| attempt.begun + ATTEMPT <= now)
            }
            _ => false,
        });
        stalled.then_some(id)
    }

    /// A hello is to be answered with this ratchet state. Whoever is rekeying from it reads no K2 any more: the peer may
    /// have lost what K2 leads to by the time it arrives, for it opens a session with the state before.
    ///
    /// # Errors
    /// [`Fault::Busy`] when K2 may be being read just now: the hello comes again, and will find out.
    //= ZSSP-RAT-25  X2 with state 1 makes K2 void
    pub(super) fn supersede_rekeying(&self, from: &Fingerprint) -> Result<(), Fault> {
        let id = self.peers.lock().rekeying_from(from);
        let cell = id.and_then(|id| self.sessions.lock().find(id));
        cell.map_or(Ok(()), |cell| {
            cell.with_phase(|phase| match phase {
                Phase::Busy(_) => Err(Fault::Busy),
                Phase::RekeyStarted(state) if state.established.pair.first.fingerprint() == from => {
                    state.is_superseded = true;
                    Ok(())
                }
                _ => Ok(()),
            })
        })
    }

    /// A session is open, and takes the place of what there is with that peer.
    ///
    /// # Errors
    /// [`Fault::Stale`] when another session was quicker: this one is ending, and the application hears nothing of it
    /// but that.
    pub(super) fn opened(
        &self,
        cell: &Cell,
        (session, opened_by): (Session, Side),
        outbox: &mut Outbox,
    ) -> Result<(), Fault> {
        let replaced = self.peers.lock().opened(&cell.name, cell.id, opened_by).ok_or(Fault::Stale)?;
        let role = session.role();
        outbox.events.push(Event::Established { session, role });
        for id in replaced.into_iter().flatten() {
            let replaced = self.sessions.lock().find(id);
            if let Some(replaced) = replaced {
                self.end(&replaced, outbox, EndReason::Replaced { by: cell.id });
            }
        }
        Ok(())
    }

    /// Frees what a state of a closed session holds outside of itself: key ids, and keys that others can reach. What else
    /// a task holds of it is released when the task finds the session closed.
    pub(crate) fn release(&self, phase: &Phase) {
        if let Phase::RekeyStarted(state) = phase {
            self.peers.lock().rekeyed(state.established.pair.first.fingerprint());
        }
        self.free(phase.reserved_kid());
        if let Some(shared) = phase.shared() {
            self.free(shared.end());
        }
    }

    /// Whether a hello that has just arrived must prove itself before it is read.
    //= ZSSP-ZCP-17  where a known ratchet is required, there are no challenges
    pub(super) fn demands_response(&self, now: Instant) -> bool {
        self.policy.hellos == Hellos::FromAnybody && self.load.lock().demands_response(now, self.challenging)
    }

    /// Enters B2.
    pub(super) fn add_pending(&self, pending: Pending, now: Instant) -> Result<(), Fault> {
        let random = self.random_place()?;
        let pending = Arc::new(pending);
        let kid = pending.kid;
        self.routes.set(kid, Route::Pending(pending.clone()));
        self.timers.lock().schedule(Owner::Pending(kid), now + ATTEMPT);
        let mut table = self.pending.lock();
        let evicted = table.insert(pending, random);
        let is_filling = table.is_filling();
        drop(table);
        if is_filling {
            self.load.lock().overloaded(now);
        }
        self.evict(&evicted, now);
        Ok(())
    }

    /// X3 was read, with an identity that has to be kept until the application answers. `random` says who makes room
    /// for it, which may be the handshake itself: it is over then.
    pub(super) fn identified(&self, pending: &Pending, (identity_len, random): (usize, u64), now: Instant) {
        let evicted = self.pending.lock().identified(pending.kid, identity_len, random);
        self.evict(&evicted, now);
    }

    /// A place among the responder handshakes that nobody can foresee.
    pub(super) fn random_place(&self) -> Result<u64, Fault> {
        let mut random = [0; 8];
        self.provider().random(&mut random).map_err(|_| Fault::Provider)?;
        Ok(u64::from_be_bytes(random))
    }

    /// Ends responder handshakes that made room for others. Where that is needed, all have to prove their address: a
    /// source may be one that somebody else pretends to be, who wants its handshakes to make room.
    //= ZSSP-ZCP-04  under load
    fn evict(&self, evicted: &[Arc<Pending>], now: Instant) {
        if evicted.is_empty() {
            return;
        }
        self.load.lock().overloaded(now);
        self.drops.pending_evicted.add(evicted.len());
        for pending in evicted {
            self.timers.lock().cancel(Owner::Pending(pending.kid));
            self.discard(pending);
        }
    }

    /// Ends a responder handshake and frees its key id; `true` for the one caller who did.
    pub(super) fn forget(&self, pending: &Pending) -> bool {
        let ended = self.take_over(pending);
        if ended {
            self.routes.remove(pending.kid);
        }
        ended
    }

    /// Ends a responder handshake whose key id lives on in a session; `true` for the one caller who did.
    pub(super) fn take_over(&self, pending: &Pending) -> bool {
        let ended = pending.end();
        if ended {
            drop(self.pending.lock().remove(pending.kid));
            self.timers.lock().cancel(Owner::Pending(pending.kid));
        }
        ended
    }

    /// What is left to do for a handshake that is out of the table already.
    fn discard(&self, pending: &Pending) {
        if pending.end() {
            self.routes.remove(pending.kid);
        }
    }
}

/// Incomplete packets that one session may have: what several receiving threads interleave, several times over.
const MAX_INCOMPLETE_PACKETS: usize = 64;

/// Bytes that an incomplete X2 or X3 may take. Whoever sent the hello knows the header keys of B2, so this is what a
/// stranger can fill.
const MAX_HANDSHAKE_BYTES: usize = Completion::MAX_LEN + MAX_FRAGMENTS;
