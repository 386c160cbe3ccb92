//! Alice: A1 and A3 (PROTOCOL 5.2, 5.3).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::handshake::{Packet, Task};
use super::outbox::{Envelope, Event, Transmit};
use super::routes::{Inbound, Ingress, Route};
use super::{Inner, control};
use crate::error::Fault;
use crate::policy::Downgrade;
use crate::ratchet::{Fingerprint, RatchetPair, RatchetState, Swap};
use crate::session::{NewSession, Sealing, Shared, Used};
use crate::wire::{Challenge, ChallengePacket, Completion, Hello, PacketNonce, PacketType, Response};
use crate::zcp;
use crate::zke::keys::Role;
use crate::zke::state::{
    ATTEMPT, AwaitConfirm, AwaitResponse, Cell, Established, HeaderKeys, Opening, Phase, RESEND, Taken,
    Timers,
};
use crate::zke::xk::{self, XkError};

/// A1's and A3's deadlines: the packet again, or a new X1.
pub(super) fn timer(task: &mut Task<'_>, cell: &Arc<Cell>, taken: Taken<'_>) -> Result<(), Fault> {
    let transmit = match taken.phase() {
        Phase::AwaitConfirm(state) if state.timers.expire > task.now => state.completion.clone(),
        Phase::AwaitResponse(state) if state.timers.expire > task.now => task.inner.hello_transmit(state)?,
        //= ZSSP-ST-03  a wholly new X1 after 10 s in A1
        //= ZSSP-ST-07  and after 10 s in A3
        _ => return hello(task, cell, taken),
    };
    let to = taken.adjust(|phase| phase.resend(task.now))?.ok_or(Fault::Stale)?;
    task.outbox.transmits.push(transmit.sent_to(to));
    Ok(())
}

/// Sends a new X1 and enters A1.
//= ZSSP-ST-02  A1 sends X1, again every second
fn hello(task: &mut Task<'_>, cell: &Arc<Cell>, taken: Taken<'_>) -> Result<(), Fault> {
    let attempt = taken.phase().attempt().ok_or(Fault::Stale)?.clone();
    let open = &attempt.open;
    let (inner, now) = (task.inner, task.now);
    let provider = inner.provider();
    let pair = task.load(cell.who())?;

    let kid = inner.routes.reserve(provider).map_err(|_| Fault::Provider)?;
    //= ZSSP-XK-11  a missing second fingerprint is sent as zeros
    let second = pair.second.as_ref().map_or(Fingerprint::ZERO, |state| *state.fingerprint());
    let opening = xk::Opening {
        suite: open.suite,
        responder: &open.peer,
        kid,
        fingerprints: [*pair.first.fingerprint(), second],
    };
    let made = xk::AwaitResponse::send_hello(provider, &opening)
        .map_err(Fault::from)
        .and_then(|(xk, keys, packet)| Ok((xk, keys, inner.with_first_response(packet)?)));
    let (xk, keys, hello) = match made {
        Ok(made) => made,
        Err(fault) => {
            inner.routes.remove(kid);
            return Err(fault);
        }
    };

    // What the old state could receive under is over: its key id leads nowhere from here on.
    let old_kid = match taken.phase() {
        Phase::AwaitConfirm(state) => Some(state.kid),
        Phase::AwaitResponse(state) => Some(state.kid),
        _ => None,
    };
    let header = HeaderKeys::new(provider, &keys);
    let ingress = Arc::new(Ingress::new(header.clone()));
    let timers = Timers::start(now, ATTEMPT);
    let attempt = attempt.clone();
    let next = AwaitResponse { attempt, xk, kid, header, pair, hello, made: now, timers };
    let transmit = inner.hello_transmit(&next);
    // What the old state has tried to write does not matter any more: this one's own copy is what is there.
    *cell.doubt.lock() = None;
    // Before the state is in its place: whoever takes it from there, or finds the session closed, frees the key id, and it
    // must not lead anywhere after that.
    inner.routes.set(kid, Route::AwaitResponse { ingress, cell: cell.clone() });
    taken.commit(Phase::AwaitResponse(Box::new(next)))?;
    inner.free(old_kid);
    task.outbox.transmits.push(transmit?);
    Ok(())
}

/// Whether a challenge is an answer to the hello that was sent last.
//= ZSSP-ZCP-13  a challenge that does not echo her pow is ignored
fn echoes(phase: &Phase, packet: &ChallengePacket) -> bool {
    let Phase::AwaitResponse(state) = phase else { return false };
    let pow = Hello::parse(&state.hello).map(|hello| hello.response.pow);
    state.kid == packet.kid && pow == Ok(packet.challenge.pow)
}

/// Bob has challenged X1: does the work and sends X1 again with the response to it.
//= ZSSP-DEF-08  nothing is locked while it searches
//= ZSSP-ZCP-16  the state is out while the search lasts, so there is one at a time
pub(super) fn challenged(
    task: &mut Task<'_>,
    cell: &Arc<Cell>,
    packet: &ChallengePacket,
) -> Result<(), Fault> {
    let provider = task.inner.provider();
    // Anybody who sees the hello can send one: nothing is taken out before it proves to be worth it.
    if !cell.with_phase(|phase| echoes(phase, packet)) {
        return Err(Fault::Stale);
    }
    let taken = cell.take(task.inner)?;
    if !echoes(taken.phase(), packet) {
        return Err(Fault::Stale);
    }
    //= ZSSP-ZCP-14  the search
    let response = zcp::respond(provider, &packet.challenge).map_err(|_| Fault::Provider)?;
    let mut random = [0; 2];
    provider.random(&mut random).map_err(|_| Fault::Provider)?;
    //= ZSSP-ZCP-15  again after a random 50..250 ms
    let wait = Duration::from_millis(50 + u64::from(u16::from_be_bytes(random)) % 201);
    let resend = task.now + wait;
    taken.adjust(|phase| {
        if let Phase::AwaitResponse(state) = phase {
            state.hello.truncate(Hello::LEN - Challenge::LEN);
            state.hello.extend_from_slice(&response.to_bytes());
            state.timers.resend = resend;
        }
    })
}

/// Reads X2 and sends X3.
//= ZSSP-ST-06  A3 is entered when Alice read X2, and sends X3, again every second
pub(super) fn response(task: &mut Task<'_>, cell: &Arc<Cell>, packet: &Packet) -> Result<(), Fault> {
    let (inner, now) = (task.inner, task.now);
    let provider = inner.provider();
    let x2 = Response::parse(&packet.bytes).map_err(|_| Fault::Malformed)?;
    //= ZSSP-PKT-12  the counter in the header is the end of the key id's tag
    if x2.header_counter() != packet.nonce.counter() {
        return Err(Fault::Forged);
    }
    let taken = cell.take(task.inner)?;
    let Phase::AwaitResponse(state) = taken.phase() else { return Err(Fault::Stale) };
    if state.kid != packet.kid {
        return Err(Fault::Stale);
    }
    let open = &state.attempt.open;

    //= ZSSP-RAT-19  state 1, state 2, and finally the zero key
    let zero = RatchetState::zero();
    let fallback = (!state.pair.contains(&Fingerprint::ZERO)).then_some(&zero);
    let candidates = state.pair.states().chain(fallback);
    let (used, completion) = match state.xk.read_response(provider, &x2, candidates) {
        Ok(read) => read,
        Err(XkError::Provider) => return Err(Fault::Provider),
        //= ZSSP-DEF-03  the work is done in every build
        Err(XkError::Unauthentic) => return start_over(task, cell, taken, Fault::Forged),
    };
    //= ZSSP-RAT-23  not with state 2, as long as the peer may still come to state 1
    let settled_from = inner.settled_from(&cell.name, now);
    if state.made < settled_from && state.pair.is_older(used.fingerprint()) {
        return wait(taken, settled_from);
    }
    let downgraded = used.fingerprint().is_zero() && fallback.is_some();
    //= ZSSP-FLG-02  a downgrade is refused where the policy says so
    let policy = open.policy.unwrap_or(inner.policy);
    if downgraded && policy.as_initiator == Downgrade::Refuse {
        task.outbox.events.push(Event::DowngradeRefused { peer: cell.peer });
        return start_over(task, cell, taken, Fault::DowngradeRefused);
    }
    let remote_kid = completion.kid;
    let (body, keys) = completion.send_completion(provider, &inner.key, &open.identity, used)?;

    //= ZSSP-RAT-08  state 2 becomes the one that X2 opened with
    //= ZSSP-RAT-09  after a downgrade it stays as it was
    let second = if downgraded {
        state.pair.second.as_ref().map(RatchetState::duplicate)
    } else {
        Some(used.duplicate())
    };
    let pair = RatchetPair { first: keys.ratchet.duplicate(), second };
    let completion = Transmit::new(
        &Envelope {
            to: open.address,
            protection: Some((remote_kid, &*state.header.protect)),
            nonce: PacketNonce::new(PacketType::Completion, Completion::HEADER_COUNTER),
            mtu: inner.mtu,
        },
        &body,
    )
    .map_err(|_| Fault::Malformed)?;
    if task.replace(cell, &state.pair, &pair)? == Swap::Conflict {
        return control::lost(task, cell, taken);
    }

    let new = NewSession {
        id: cell.id,
        peer: cell.peer,
        role: Role::Initiator,
        suite: open.suite,
        downgraded: state.attempt.downgraded.fetch_or(downgraded, Ordering::Relaxed) || downgraded,
        //= ZSSP-ST-34  where X1 went
        address: open.address,
        header: state.header.clone(),
        context: Arc::downgrade(inner),
    };
    let sealing = Sealing::new(provider, keys, (packet.kid, remote_kid), (Used::none(Role::Initiator), now));
    let epoch = sealing.epoch.clone();
    let shared = Arc::new(Shared::new(new, sealing));
    let inbound = Inbound::new(&shared, &epoch, cell);
    // Whoever sees X2 can send it on, and be quicker. What came from where X1 went also says which address of this host it
    // came to, and X3 leaves from that.
    //= ZSSP-ST-34  to where X1 went, wherever X2 came from
    let to = shared.unless_here(packet.from).unwrap_or(packet.from);
    let next = AwaitConfirm {
        attempt: state.attempt.clone(),
        established: Established { shared, pair: Arc::new(pair) },
        kid: packet.kid,
        completion: completion.clone(),
        timers: Timers::start(now, ATTEMPT),
    };
    //= ZSSP-RAT-24  whatever becomes of the attempt, before X3 leaves
    inner.peers.lock().completing(&cell.name, cell.id, next.timers.expire);
    // Before the state is in its place, as for X1.
    inner.routes.set(packet.kid, Route::Session(inbound));
    taken.commit(Phase::AwaitConfirm(Box::new(next)))?;
    if downgraded {
        //= ZSSP-RAT-20  Alice is told that Bob lost the ratchet
        task.outbox.events.push(Event::Downgraded { peer: cell.peer });
    }
    task.outbox.transmits.push(completion.sent_to(to));
    Ok(())
}

/// The peer has answered, and it is too early to go on from there: the next X1 comes when it is time, and none before.
fn wait(taken: Taken<'_>, settled_from: Instant) -> Result<(), Fault> {
    taken.adjust(|phase| {
        let Phase::AwaitResponse(state) = phase else { return };
        state.timers.expire = state.timers.expire.min(settled_from);
        state.timers.resend = state.timers.expire;
    })?;
    Err(Fault::Unsettled)
}

/// `fault`, inside the handshake, ends A1 at once, as its timeout would. The next X1 is not sent sooner than a resend
/// would be: nobody who spoils answers can make this side work faster than that.
//= ZSSP-ST-18  failure inside a Noise handshake triggers the timeout transition at once
//= ZSSP-DEF-03  in every build
fn start_over(task: &mut Task<'_>, cell: &Arc<Cell>, taken: Taken<'_>, fault: Fault) -> Result<(), Fault> {
    let Phase::AwaitResponse(state) = taken.phase() else { return Err(Fault::Stale) };
    let at = state.made + RESEND;
    if at <= task.now {
        hello(task, cell, taken)?;
    } else {
        let (attempt, kid) = (state.attempt.clone(), state.kid);
        taken.commit(Phase::Opening(Opening { attempt, at }))?;
        task.inner.routes.remove(kid);
    }
    Err(fault)
}

impl Inner {
    /// X1 with the first ZCP response: no counter, no mac, a random `pow`.
    //= ZSSP-ZCP-01  a response is appended to every hello
    //= ZSSP-ZCP-02  the first one
    //= ZSSP-ZCP-03  after everything that is hashed
    fn with_first_response(&self, mut hello: Vec<u8>) -> Result<Vec<u8>, Fault> {
        let mut pow = [0; 8];
        self.provider().random(&mut pow).map_err(|_| Fault::Provider)?;
        hello.extend_from_slice(&Challenge { counter: 0, mac: [0; 16], pow }.to_bytes());
        Ok(hello)
    }

    /// X1's datagrams.
    fn hello_transmit(&self, state: &AwaitResponse) -> Result<Transmit, Fault> {
        //= ZSSP-PKT-11  the counter in the header is the end of the fingerprints' tag
        let counter = Hello::parse(&state.hello).map_err(|_| Fault::Malformed)?.header_counter();
        let nonce = PacketNonce::new(PacketType::Hello, counter);
        let to = state.attempt.open.address;
        Transmit::new(&Envelope { to, protection: None, nonce, mtu: self.mtu }, &state.hello)
            .map_err(|_| Fault::Malformed)
    }
}

impl From<XkError> for Fault {
    fn from(error: XkError) -> Self {
        match error {
            XkError::Provider => Self::Provider,
            XkError::Unauthentic => Self::Forged,
        }
    }
}
