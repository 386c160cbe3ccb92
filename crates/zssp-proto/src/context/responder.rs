//! Bob: from X1 to S1, with the application's decision in between (PROTOCOL 5.2, 5.3, 5.5).

use std::sync::Arc;
use std::time::Instant;

use super::Inner;
use super::authorize::{Authorize, Decision, Request};
use super::confirm;
use super::handshake::{Packet, Task};
use super::outbox::{Envelope, Event, Transmit};
use super::peers::{Admission, Precedence, Side};
use super::pending::{AwaitCompletion, Pending};
use super::routes::{Inbound, Route};
use crate::address::Address;
use crate::error::Fault;
use crate::policy::{Downgrade, Hellos, Policy, Rejection};
use crate::ratchet::{Fingerprint, PeerName, RatchetPair, RatchetState, Swap};
use crate::session::{NewSession, Sealing, Session, Shared, Used};
use crate::wire::{Completion, Hello, PacketNonce, PacketType, Response};
use crate::zke::keys::Role;
use crate::zke::state::{Asked, CONFIRM, Cell, Confirming, Established, HeaderKeys, Phase, Timers};
use crate::zke::{self, xk};

/// Reads X1 and answers with X2.
//= ZSSP-ST-04  B2 is entered when Bob read X1, and sends X2 once
pub(super) fn hello(
    task: &mut Task<'_>,
    nonce: PacketNonce,
    packet: &[u8],
    from: Address,
) -> Result<(), Fault> {
    let inner = task.inner;
    let provider = inner.provider();
    let x1 = Hello::parse(packet).map_err(|_| Fault::Malformed)?;
    //= ZSSP-PKT-14  the header's counter must match
    if x1.header_counter() != nonce.counter() {
        return Err(Fault::Forged);
    }
    let read = xk::SendResponse::read_hello(provider, &inner.key, &inner.suites, &x1)?;
    let ratchet = recognise(task, &read.fingerprints)?;
    //= ZSSP-FLG-01  silence for strangers
    if inner.policy.hellos == Hellos::WithKnownRatchet && ratchet.fingerprint().is_zero() {
        return Err(Fault::Unwelcome);
    }

    let kid = inner.routes.reserve(provider).map_err(|_| Fault::Provider)?;
    let pending = respond(task, read, ratchet, kid, from).inspect_err(|_| inner.routes.remove(kid))?;
    //= ZSSP-ST-04  B2 is entered when X1 was answered
    inner.add_pending(pending, task.now).inspect_err(|_| inner.routes.remove(kid))
}

/// Makes X2, and the state that waits for X3.
fn respond(
    task: &mut Task<'_>,
    hello: xk::SendResponse,
    ratchet: RatchetState,
    kid: crate::wire::KeyId,
    from: Address,
) -> Result<Pending, Fault> {
    let inner = task.inner;
    let provider = inner.provider();
    let header = HeaderKeys::new(provider, &hello.header_keys);
    let (remote_kid, suite) = (hello.kid, hello.suite);
    let (xk, packet) = hello.send_response(provider, ratchet, kid)?;
    let counter = Response::parse(&packet).map_err(|_| Fault::Malformed)?.header_counter();
    let envelope = Envelope {
        to: from,
        protection: Some((remote_kid, &*header.protect)),
        nonce: PacketNonce::new(PacketType::Response, counter),
        mtu: inner.mtu,
    };
    task.outbox.transmits.push(Transmit::new(&envelope, &packet).map_err(|_| Fault::Malformed)?);
    let since = inner.peers.lock().moment();
    let state = AwaitCompletion { xk, remote_kid, suite, address: from, header, doubt: None };
    Ok(Pending::new(kid, (since, task.now), state))
}

/// The first of Alice's ratchet states that the store knows, or the zero state.
//= ZSSP-RAT-17  rf1 is looked up, then rf2
//= ZSSP-RAT-18  none recognised: the zero key
//= ZSSP-DEF-01  each under its own value
fn recognise(task: &mut Task<'_>, fingerprints: &[Fingerprint; 2]) -> Result<RatchetState, Fault> {
    for fingerprint in fingerprints.iter().filter(|fingerprint| !fingerprint.is_zero()) {
        //= ZSSP-RAT-26  not while what comes of an X3 with it is written
        if !task.inner.peers.lock().may_answer(task.now, fingerprint) {
            return Err(Fault::Busy);
        }
        // Before looking: nothing can come to another state than the one that is found.
        task.inner.supersede_rekeying(fingerprint)?;
        //= ZSSP-DEF-01  each under its own value
        if let Some(state) = task.find(fingerprint)? {
            return Ok(state);
        }
    }
    Ok(RatchetState::zero())
}

/// Reads X3 and asks the application.
pub(super) fn completion(task: &mut Task<'_>, pending: Arc<Pending>, packet: &Packet) -> Result<(), Fault> {
    let x3 = Completion::parse(&packet.bytes).map_err(|_| Fault::Malformed)?;
    if pending.is_over(task.now) {
        return Err(Fault::Stale);
    }
    let random = task.inner.random_place()?;
    let state = pending.take().ok_or(Fault::Busy)?;
    match state.xk.read_completion(task.inner.provider(), &x3) {
        Ok(completion) => {
            task.inner.identified(&pending, (completion.identity.len(), random), task.now);
            if pending.is_over(task.now) {
                return Err(Fault::Stale);
            }
            let request = Request { pending, state, completion, from: packet.from };
            task.outbox.events.push(Event::Authorize(Authorize::new(task.inner.clone(), request)));
            Ok(())
        }
        Err(xk::XkError::Provider) => {
            pending.put_back(state);
            Err(Fault::Provider)
        }
        //= ZSSP-ST-18  failure inside a Noise handshake triggers the timeout transition at once: forget
        Err(xk::XkError::Unauthentic) => {
            task.inner.forget(&pending);
            Err(Fault::Forged)
        }
    }
}

/// Does what the application decided.
pub(super) fn decide(task: &mut Task<'_>, request: Request, decision: Decision) -> Result<(), Fault> {
    match decision {
        Decision::Accept { name, policy } => {
            let policy = policy.unwrap_or(task.inner.policy);
            accept(task, request, name, policy)
        }
        Decision::Refuse(rejection) => {
            let rejection = rejection.unwrap_or(task.inner.policy.rejection);
            refuse(task, &request, rejection)
        }
    }
}

/// Sends D, or nothing.
fn refuse(task: &mut Task<'_>, request: &Request, rejection: Rejection) -> Result<(), Fault> {
    let (inner, state) = (task.inner, &request.state);
    if !inner.forget(&request.pending) {
        return Err(Fault::Stale);
    }
    //= ZSSP-FLG-04  rejected silently
    //= ZSSP-FLG-05  otherwise a refused Alice is told
    if rejection == Rejection::Silent {
        return Ok(());
    }
    // The session that never was would have begun with this counter.
    let nonce = PacketNonce::new(PacketType::Rejection, 0);
    let key = &request.completion.keys.key_exchange.send;
    let tag = zke::control::seal(inner.provider(), key, nonce, &[]).map_err(|_| Fault::Provider)?;
    let protection = Some((state.remote_kid, &*state.header.protect));
    let envelope = Envelope { to: state.address, protection, nonce, mtu: inner.mtu };
    task.outbox.transmits.push(Transmit::new(&envelope, &tag).map_err(|_| Fault::Malformed)?);
    Ok(())
}

/// What is to be done with a peer that the application has accepted.
enum Verdict {
    /// It gets no answer.
    Forget(Fault),
    /// It is refused: it has lost its ratchet.
    Refuse,
    /// It gets its session.
    Welcome {
        /// Whether it has lost its ratchet.
        downgraded: bool,
    },
}

/// Settles who gives way if both sides opened at once, and compares the ratchet state that the peer used with what the
/// store holds. A session that gives way must not have touched the ratchet, so this comes before writing it.
fn judge(
    task: &Task<'_>,
    request: &Request,
    old: &RatchetPair,
    (name, policy): (&PeerName, Policy),
) -> Verdict {
    // Asked after loading: if this handshake was forgotten, another session may have come about since, whose ratchet
    // must not be replaced by that of a session that never will be.
    //= ZSSP-DEF-09  an answer that comes too late changes nothing
    if request.pending.is_over(task.now) {
        return Verdict::Forget(Fault::Stale);
    }
    // Before the ratchet: where a session of this side survives, it may have replaced the state that this one began from.
    //= ZSSP-ONE-03  the one with the smaller key gives way, whatever it began from
    let precedence = task.inner.precedence(&request.completion.initiator);
    let stalled = task.inner.stalled_attempt(name, task.now);
    let admission = task.inner.peers.lock().admit(name, (request.pending.since, precedence), stalled);
    if admission == Admission::Yield {
        return Verdict::Forget(Fault::Superseded);
    }
    let used = request.state.xk.ratchet.fingerprint();
    let known = old.contains(used);
    //= ZSSP-RAT-21  the state used must be one of hers
    if !known && !used.is_zero() {
        return Verdict::Forget(Fault::RatchetMismatch);
    }
    //= ZSSP-RAT-22  a downgrade is refused or warned of
    //= ZSSP-FLG-03  as the policy says
    if !known && policy.as_responder == Downgrade::Refuse {
        return Verdict::Refuse;
    }
    // The peer may be about to read the X3 of an attempt that is over: that one survives, as it would otherwise.
    //= ZSSP-RAT-24  as if the attempt that was cut off went on
    let is_early = request.pending.answered < task.inner.settled_from(name, task.now);
    if is_early && old.is_older(used) && precedence == Precedence(Side::Here) {
        return Verdict::Forget(Fault::Unsettled);
    }
    if !task.inner.has_room(name) {
        return Verdict::Forget(Fault::TooManySessions);
    }
    Verdict::Welcome { downgraded: !known }
}

/// No hello is answered with the state that an X3 was made with while what comes of it is written: whoever made it may have
/// died, and with a slow store even begun anew in the meantime.
//= ZSSP-RAT-26  from before it is known that the handshake is not over, to the end of the write
struct Writing<'a> {
    inner: &'a Inner,
    used: Fingerprint,
    /// Not earlier than any hello that was answered before.
    now: Instant,
}

impl<'a> Writing<'a> {
    fn begin(inner: &'a Inner, now: Instant, used: Fingerprint) -> Self {
        let now = inner.peers.lock().accepting(now, &used);
        Self { inner, used, now }
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.inner.peers.lock().accepted(&self.used);
    }
}

/// Checks and writes the ratchet, enters S1 and sends C1.
fn accept(task: &mut Task<'_>, mut request: Request, name: PeerName, policy: Policy) -> Result<(), Fault> {
    let inner = task.inner;
    let writing = Writing::begin(inner, task.now, *request.state.xk.ratchet.fingerprint());
    task.now = writing.now;
    let who = (request.completion.initiator, &name);
    let stored = match task.load(who) {
        Ok(stored) => stored,
        // The next copy of X3 asks the application again.
        Err(fault) => {
            request.pending.put_back(request.state);
            return Err(fault);
        }
    };
    // An earlier copy of X3 may have been accepted, and its write have failed.
    let old = match &request.state.doubt {
        Some(doubt) => doubt.undo(stored),
        None => stored,
    };
    let downgraded = match judge(task, &request, &old, (&name, policy)) {
        Verdict::Forget(fault) => {
            inner.forget(&request.pending);
            return Err(fault);
        }
        Verdict::Refuse => {
            task.outbox.events.push(Event::DowngradeRefused { peer: request.completion.initiator });
            return refuse(task, &request, policy.rejection);
        }
        Verdict::Welcome { downgraded } => downgraded,
    };

    //= ZSSP-RAT-10  state 1 is the new one, state 2 none
    let new = RatchetPair { first: request.completion.keys.ratchet.duplicate(), second: None };
    let was_in_doubt = request.state.doubt.is_some();
    let swap = task.compare_and_swap(who, (&old, &mut request.state.doubt), &new);
    let may_be_stored = matches!(swap, Ok(Swap::Stored)) || request.state.doubt.is_some();
    if downgraded && may_be_stored && !was_in_doubt {
        // Whatever becomes of the handshake: the next one will not show it.
        task.outbox.events.push(Event::Downgraded { peer: request.completion.initiator });
    }
    match swap {
        Ok(Swap::Stored) => {}
        Ok(Swap::Conflict) => {
            inner.forget(&request.pending);
            return Err(Fault::Stale);
        }
        Err(fault) => {
            request.pending.put_back(request.state);
            return Err(fault);
        }
    }
    establish(task, request, (name, new), downgraded)
}

/// Makes the session, whose ratchet is written already.
//= ZSSP-ST-08  X3 read: S1, which sends C1
fn establish(
    task: &mut Task<'_>,
    request: Request,
    (name, pair): (PeerName, RatchetPair),
    downgraded: bool,
) -> Result<(), Fault> {
    let inner = task.inner;
    let Request { pending, state, completion, from } = request;
    // From here on the key id belongs to the session. A handshake that was forgotten meanwhile, because the
    // application took too long, is over: Alice will open again, with the ratchet state she stored at X2.
    if !inner.take_over(&pending) {
        return Err(Fault::Stale);
    }
    let (peer, role, remote_kid) = (completion.initiator, Role::Responder, state.remote_kid);
    let begin = (Used::none(role), task.now);
    let kids = (pending.kid, remote_kid);
    let sealing = Sealing::new(inner.provider(), completion.keys, kids, begin);
    let epoch = sealing.epoch.clone();
    let (suite, address, header) = (state.suite, state.address, state.header);
    let context = Arc::downgrade(inner);
    let pair = Arc::new(pair);
    let timers = Timers::start(task.now, CONFIRM);
    let (mut made, mut asked) = (None, Asked::new(from));
    let replaceable = inner.peers.lock().replaceable(&name);
    let cell = inner.add_session(replaceable, |id| {
        let new = NewSession { id, peer, role, suite, downgraded, address, header, context };
        let established = Established { shared: Arc::new(Shared::new(new, sealing)), pair };
        let to = asked.answer(&established.shared, 0);
        made = Some((established.shared.clone(), to));
        let phase = Phase::Confirming(Box::new(Confirming { established, asked, timers }));
        Cell::new(id, peer, name, phase)
    });
    let (Some(cell), Some((shared, to))) = (cell, made) else {
        inner.routes.remove(pending.kid);
        return Err(Fault::TooManySessions);
    };
    // The state is out until everything leads to it: who replaces the session before is found out when it goes back, and who
    // ends it after that frees the key id. Nobody else knows yet that there is a state to be taken.
    let taken = cell.take(inner)?;
    // Before its first packet can be read: nothing can end it that does not find it here.
    inner.opened(&cell, (Session(shared.clone()), Side::There), task.outbox)?;
    inner.routes.set(pending.kid, Route::Session(Inbound::new(&shared, &epoch, &cell)));
    if taken.adjust(|_| ()).is_err() {
        inner.routes.remove(pending.kid);
        return Err(Fault::Superseded);
    }
    confirm::send_confirmation(task, &shared, &epoch, to)
}
