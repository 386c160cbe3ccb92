//! R1 and R2: agreeing on the next key while payloads flow under this one (PROTOCOL 5.3, 5.4).

use std::sync::Arc;

use super::confirm;
use super::control::{self, Opened, Outgoing};
use super::handshake::Task;
use super::outbox::EndReason;
use super::routes::{Inbound, Route};
use crate::error::Fault;
use crate::ratchet::{RatchetPair, Swap};
use crate::session::{KeyRing, Sealing, Shared};
use crate::wire::{KeyId, PacketType, RekeyBody};
use crate::zke::keys::HandshakeKeys;
use crate::zke::kk::{self, Peers};
use crate::zke::state::{
    Asked, CONFIRM, Cell, Confirming, Established, Phase, RekeyAnswered, RekeyStarted, Taken, Timers,
};
use crate::zke::xk::XkError;

/// S2 is over: sends K1 and enters R1.
//= ZSSP-ST-14  by the rekey timer, by key use, or because the application asks
pub(super) fn start(task: &mut Task<'_>, cell: &Cell, taken: Taken<'_>) -> Result<(), Fault> {
    let Phase::Steady(steady) = taken.phase() else { return Err(Fault::Stale) };
    let (inner, established) = (task.inner, steady.established.clone());
    let shared = established.shared.clone();
    let ring = shared.ring().ok_or(Fault::Stale)?;
    let kid = inner.routes.reserve(inner.provider()).map_err(|_| Fault::Provider)?;
    let peers = Peers { key: &inner.key, peer: &shared.peer, suite: shared.suite };
    let made = kk::AwaitFinish::send_start(inner.provider(), &peers, &established.pair.first, kid);
    let (kk, packet) = made.inspect_err(|_| inner.routes.remove(kid))?;
    let timers = Timers::start(task.now, CONFIRM);
    inner.peers.lock().rekeying(established.pair.first.fingerprint(), cell.id);
    let next = RekeyStarted { established, kk, kid, packet: packet.clone(), is_superseded: false, timers };
    shared.rekeying();
    taken.commit(Phase::RekeyStarted(Box::new(next)))?;
    let start = Outgoing { to: shared.asking(0), packet_type: PacketType::RekeyStart, body: &packet };
    control::send(task, &shared, ring.current(), start)
}

/// K1: sends K2 and enters R2.
//= ZSSP-ST-16  R2 sends K2, the outer layer resealed
pub(super) fn start_read(task: &mut Task<'_>, cell: &Arc<Cell>, opened: Opened<'_>) -> Result<(), Fault> {
    let Opened { taken, epoch, body, from } = opened;
    let inner = task.inner;
    let provider = inner.provider();
    let Established { shared, pair } = taken.phase().established().ok_or(Fault::Stale)?.clone();
    // Both started at once and this side gives way: what it had reserved is free again, once that is certain.
    let own_kid = match taken.phase() {
        Phase::RekeyStarted(state) => Some(state.kid),
        _ => None,
    };
    let k1 = RekeyBody::parse(body).map_err(|_| Fault::Malformed)?;
    let peers = Peers { key: &inner.key, peer: &shared.peer, suite: shared.suite };
    let read = match kk::SendFinish::read_start(provider, &peers, &pair.first, &k1) {
        Ok(read) => read,
        Err(XkError::Provider) => return Err(Fault::Provider),
        Err(XkError::Unauthentic) => return fail(task, cell, taken),
    };
    let remote_kid = read.kid;

    let kid = inner.routes.reserve(provider).map_err(|_| Fault::Provider)?;
    let answered = read.send_finish(provider, &peers, &pair.first, kid).map_err(Fault::from).and_then(
        |(packet, keys)| {
            //= ZSSP-RAT-11  state 1 is the new one, state 2 the old state 1
            let new = RatchetPair { first: keys.ratchet.duplicate(), second: Some(pair.first.duplicate()) };
            Ok((packet, keys, task.replace(cell, &pair, &new)?, new))
        },
    );
    let (packet, keys, swap, new) = answered.inspect_err(|_| inner.routes.remove(kid))?;
    if swap == Swap::Conflict {
        inner.routes.remove(kid);
        return control::lost(task, cell, taken);
    }

    let established = Established { shared: shared.clone(), pair: Arc::new(new) };
    let timers = Timers::start(task.now, CONFIRM);
    let mut asked = Asked::new(from);
    let to = asked.answer(&shared, 0);
    let next = RekeyAnswered { established, packet: packet.clone(), asked, timers };
    let next_epoch = new_epoch(task, &shared, keys, (kid, remote_kid));
    // Readable before K2 goes out, in use only when C1 has come.
    publish(task, cell, &shared, next_epoch, KeyRing::with_next)?;
    shared.rekeying();
    taken.commit(Phase::RekeyAnswered(Box::new(next)))?;
    if own_kid.is_some() {
        inner.peers.lock().rekeyed(pair.first.fingerprint());
    }
    inner.free(own_kid);
    let answer = Outgoing { to, packet_type: PacketType::RekeyFinish, body: &packet };
    control::send(task, &shared, &epoch, answer)
}

/// K2: both sides have the new key. Sends C1 under it and enters S1.
//= ZSSP-ST-11  the rekey starter has read K2: S1
pub(super) fn finish_read(task: &mut Task<'_>, cell: &Arc<Cell>, opened: Opened<'_>) -> Result<(), Fault> {
    let Opened { taken, body, from, .. } = opened;
    let Phase::RekeyStarted(state) = taken.phase() else { return Err(Fault::Stale) };
    //= ZSSP-RAT-25  not after the peer was answered with the state before
    if state.is_superseded {
        return Err(Fault::Stale);
    }
    let Established { shared, pair } = state.established.clone();
    let (inner, kid) = (task.inner, state.kid);
    let k2 = RekeyBody::parse(body).map_err(|_| Fault::Malformed)?;
    let peers = Peers { key: &inner.key, peer: &shared.peer, suite: shared.suite };
    let (keys, remote_kid) = match state.kk.read_finish(inner.provider(), &peers, &pair.first, &k2) {
        Ok(read) => read,
        Err(XkError::Provider) => return Err(Fault::Provider),
        Err(XkError::Unauthentic) => return fail(task, cell, taken),
    };
    //= ZSSP-RAT-12  state 1 is the new one, state 2 none
    let new = RatchetPair { first: keys.ratchet.duplicate(), second: None };
    if task.replace(cell, &pair, &new)? == Swap::Conflict {
        return control::lost(task, cell, taken);
    }

    let established = Established { shared: shared.clone(), pair: Arc::new(new) };
    let timers = Timers::start(task.now, CONFIRM);
    let epoch = new_epoch(task, &shared, keys, (kid, remote_kid));
    publish(task, cell, &shared, epoch.clone(), KeyRing::switched_to)?;
    let mut asked = Asked::new(from);
    let to = asked.answer(&shared, 0);
    taken.commit(Phase::Confirming(Box::new(Confirming { established, asked, timers })))?;
    inner.peers.lock().rekeyed(pair.first.fingerprint());
    confirm::send_confirmation(task, &shared, &epoch.epoch, to)
}

/// A K1 or a K2 that the peer has sealed, and whose inside is wrong: the two do not have the same ratchet or suite. S2 finds out
/// for itself, R1 is over.
//= ZSSP-ST-18  failure inside a Noise handshake triggers the timeout transition at once
fn fail(task: &mut Task<'_>, cell: &Cell, taken: Taken<'_>) -> Result<(), Fault> {
    if matches!(taken.phase(), Phase::Steady(_)) {
        start(task, cell, taken)?;
    } else {
        drop(taken);
        task.inner.end(cell, task.outbox, EndReason::Expired);
    }
    Err(Fault::RatchetMismatch)
}

/// R1's and R2's deadline: the packet again, under a new outer layer.
pub(super) fn timer(task: &mut Task<'_>, taken: Taken<'_>) -> Result<(), Fault> {
    let (established, packet_type, packet) = match taken.phase() {
        Phase::RekeyAnswered(state) => (&state.established, PacketType::RekeyFinish, state.packet.clone()),
        Phase::RekeyStarted(state) => (&state.established, PacketType::RekeyStart, state.packet.clone()),
        _ => return Err(Fault::Stale),
    };
    let shared = established.shared.clone();
    // The keys of this state: when it is back in its place, another task may go on to the next.
    let ring = shared.ring().ok_or(Fault::Stale)?;
    let to = taken.adjust(|phase| phase.resend(task.now))?.ok_or(Fault::Stale)?;
    control::send(task, &shared, ring.current(), Outgoing { to, packet_type, body: &packet })
}

/// The new keys, for the packets of the same session: its header keys stay.
//= ZSSP-KK-06  header keys are kept
fn new_epoch(task: &Task<'_>, shared: &Shared, keys: HandshakeKeys, kids: (KeyId, KeyId)) -> Sealing {
    Sealing::new(task.inner.provider(), keys, kids, (shared.usage.epoch_start(), task.now))
}

/// Publishes the ring that `change` makes with a new epoch, leads its key id to the session, and frees the key id of the
/// epoch that fell out.
fn publish(
    task: &Task<'_>,
    cell: &Arc<Cell>,
    shared: &Arc<Shared>,
    epoch: Sealing,
    change: impl FnOnce(&KeyRing, Sealing) -> KeyRing,
) -> Result<(), Fault> {
    let kid = epoch.epoch.local_kid;
    let Some(ring) = shared.ring() else {
        task.inner.routes.remove(kid);
        return Err(Fault::Stale);
    };
    let inbound = Inbound::new(shared, &epoch.epoch, cell);
    // The route first: whoever ends the session now finds the key id in one of the two rings, and frees it.
    task.inner.routes.set(kid, Route::Session(inbound));
    task.inner.free(shared.publish(change(&ring, epoch)));
    Ok(())
}

#[cfg(all(test, any(feature = "aws-lc", feature = "rust-crypto")))]
#[allow(clippy::unwrap_used, reason = "in a test it is the assertion")]
mod tests {

    use std::time::{Duration, Instant};

    use zssp_sim::Clock;

    use crate::context::{Context, EndReason, Event, Handshake, Open, Outbox, Received, Scratch};
    use crate::error::Fault;
    use crate::identity::StaticKey;
    use crate::ratchet::{MemoryStore, RatchetStore};
    use crate::session::{SealError, Session};
    use crate::{Address, LinkAddress};

    struct Peer {
        context: Context,
        store: MemoryStore,
        sessions: Vec<Session>,
        ended: Vec<EndReason>,
        sent: Vec<Vec<u8>>,
        payloads: Vec<Vec<u8>>,
    }

    impl Peer {
        fn new() -> Self {
            #[cfg(feature = "aws-lc")]
            let provider = std::sync::Arc::new(crate::crypto::AwsLc);
            #[cfg(not(feature = "aws-lc"))]
            let provider = std::sync::Arc::new(crate::crypto::RustCrypto);
            let key = StaticKey::generate(&*provider).unwrap();
            let context = Context::builder(key, provider).mtu(9000).build().unwrap();
            let store = MemoryStore::new();
            let (sessions, ended) = (Vec::new(), Vec::new());
            Self { context, store, sessions, ended, sent: Vec::new(), payloads: Vec::new() }
        }

        fn run(&mut self, now: Instant, work: Handshake) {
            let mut outbox = Outbox::default();
            work.run(now, &self.store, &mut outbox).unwrap();
            let transmits = outbox.transmits.iter();
            self.sent.extend(transmits.flat_map(|transmit| transmit.datagrams()).map(<[u8]>::to_vec));
            for event in outbox.events {
                match event {
                    Event::Authorize(authorize) => {
                        let key = authorize.peer_key();
                        self.run(now, authorize.accept(key));
                    }
                    Event::Ended { reason, .. } => self.ended.push(reason),
                    Event::Established { session, .. } => self.sessions.push(session),
                    other => panic!("{other:?}"),
                }
            }
        }

        /// Sends a payload; the key id under which it leaves, and whether it reached a bound of its key.
        fn send(&mut self, payload: &[u8]) -> ([u8; 4], bool) {
            let mut buffer = vec![0; 1280];
            let sealed = self.sessions[0].seal(payload, 1280, &mut buffer).unwrap();
            buffer.truncate(sealed.len());
            let kid = *buffer.first_chunk().unwrap();
            self.sent.push(buffer);
            (kid, sealed.is_rekey_due())
        }

        fn meet_deadlines(&mut self, now: Instant) {
            while let Some(work) = self.context.expired(now) {
                self.run(now, work);
            }
        }
    }

    fn here() -> Address {
        Address::Link(LinkAddress::new(b"here").unwrap())
    }

    /// Both read what the other sent until nothing is under way.
    fn settle(now: Instant, peers: &mut [Peer; 2]) {
        let mut receiver = 0;
        while peers.iter().any(|peer| !peer.sent.is_empty()) {
            receiver = 1 - receiver;
            pass(now, peers, receiver);
        }
    }

    /// One of them reads what the other has sent so far.
    fn pass(now: Instant, peers: &mut [Peer; 2], receiver: usize) {
        for mut datagram in core::mem::take(&mut peers[1 - receiver].sent) {
            let (peer, mut scratch) = (&mut peers[receiver], Scratch::new());
            let received = peer.context.receive(now, here(), &mut datagram, &mut scratch);
            match received {
                Ok(Received::Handshake(work)) => peer.run(now, work),
                Ok(Received::Payload { bytes, .. }) => peer.payloads.push(bytes.to_vec()),
                _ => {}
            }
        }
    }

    fn established(now: Instant) -> [Peer; 2] {
        let mut peers = [Peer::new(), Peer::new()];
        let open = Open::to(peers[1].context.public_key(), here());
        let (_, work) = peers[0].context.open(now, open).unwrap();
        peers[0].run(now, work);
        settle(now, &mut peers);
        peers
    }

    fn keys(peers: &[Peer; 2]) -> u64 {
        peers[0].store.load(&peers[1].context.public_key().into()).unwrap().first.chain_length()
    }

    /// The use of a key that reaches the bound has the session rekey at once, whoever's it is.
    //= ZSSP-ST-30  2^30 uses of one key start a rekey early
    //= ZSSP-ST-14  R1 is entered by key use
    #[test]
    fn a_key_that_was_used_often_is_replaced() {
        let now = Clock::new().now();
        for side in [0, 1] {
            let mut peers = established(now);
            let session = peers[side].sessions[0].clone();
            let uses = (1 << 30) - 2;
            session.0.advance_counter(uses);
            peers[1 - side].sessions[0].0.expect_counter(uses);
            let mut buffer = [0; 100];
            let rekey_due: Vec<bool> =
                (0..4).map(|_| session.seal(b"often", 1280, &mut buffer).unwrap().is_rekey_due()).collect();
            assert_eq!(rekey_due.iter().filter(|due| **due).count(), 1, "{rekey_due:?}");
            assert!(peers[side].context.next_deadline().unwrap() <= now);
            peers[side].meet_deadlines(now);
            settle(now, &mut peers);
            assert_eq!(keys(&peers), 2);
            assert!(peers[side].context.next_deadline().unwrap() > now + Duration::from_secs(3000));
            assert!(!session.seal(b"seldom", 1280, &mut buffer).unwrap().is_rekey_due());
        }
    }

    /// The payload that reaches the bound has the session rekey at once, whoever's it is, and payloads flow meanwhile in
    /// both directions, one with every packet of the rekeying. The next key lasts for as much again.
    //= ZSSP-ST-30  2^34 blocks under one key start a rekey early
    //= ZSSP-ST-25  payloads are sent in S1, S2, R1 and R2
    //= ZSSP-ST-28  then under the new key
    #[test]
    fn a_key_that_has_sealed_much_is_replaced_while_payloads_flow() {
        let now = Clock::new().now();
        for side in [0, 1] {
            let mut peers = established(now);
            let (mut expected, mut kids) = ([Vec::new(), Vec::new()], Vec::new());
            for round in 0..3 {
                // Each payload has 64 blocks, its tag included.
                peers[side].sessions[0].0.leave_blocks(9 * 64 + 1);
                let mut due = Vec::new();
                for number in 0..30u8 {
                    for sender in [side, 1 - side] {
                        let payload = [&[round, number][..], &[7; 1006]].concat();
                        let (kid, is_due) = peers[sender].send(&payload);
                        expected[1 - sender].push(payload);
                        if sender == side {
                            kids.push(kid);
                            due.extend(is_due.then_some(number));
                        }
                        peers[sender].meet_deadlines(now);
                        pass(now, &mut peers, 1 - sender);
                    }
                }
                let [due] = due[..] else { panic!("{due:?}") };
                assert!(
                    (9..9 + 16).contains(&due),
                    "the tenth payload reaches the bound, its thread's next run tells"
                );
                assert_eq!(keys(&peers), u64::from(round) + 2);
            }
            settle(now, &mut peers);
            for (peer, expected) in peers.iter().zip(&expected) {
                assert!(peer.payloads == *expected, "every payload, once and in order");
                assert_eq!(peer.ended, []);
            }
            kids.dedup();
            assert_eq!(kids.len(), 4, "one key after the other");
        }
    }

    /// What a thread keeps holds the last payload that was joined from fragments.
    //= ZSSP-SEC-09  Debug shows no plaintext
    #[test]
    fn what_a_thread_keeps_does_not_show_payloads() {
        let now = Clock::new().now();
        let peers = established(now);
        let mut buffer = [0; 2000];
        let sealed = peers[0].sessions[0].seal(&[201; 1500], 1280, &mut buffer).unwrap();
        let mut scratch = Scratch::new();
        for datagram in sealed.datagrams(&buffer) {
            peers[1].context.receive(now, here(), &mut datagram.to_vec(), &mut scratch).unwrap();
        }
        assert!(!format!("{scratch:?}").contains("201, 201"));
    }

    /// More payloads than the replay window remembers overtake each handshake packet between its arrival and its turn
    /// on the pool.
    //= ZSSP-RPL-02  the counter is recorded when the packet proved authentic, not when it is its turn
    #[test]
    fn a_busy_session_rekeys_although_handshake_packets_wait_for_their_turn() {
        let now = Clock::new().now();
        let mut peers = established(now);
        let id = peers[0].sessions[0].id();
        let work = peers[0].context.rekey(id).unwrap();
        peers[0].run(now, work);
        let mut receiver = 1;
        while !peers[1 - receiver].sent.is_empty() {
            for mut datagram in core::mem::take(&mut peers[1 - receiver].sent) {
                let mut scratch = Scratch::new();
                let context = peers[receiver].context.clone();
                let received = context.receive(now, here(), &mut datagram, &mut scratch);
                let Ok(Received::Handshake(work)) = received else { panic!("{received:?}") };
                for _ in 0..2100 {
                    let mut buffer = [0; 100];
                    let sealed = peers[1 - receiver].sessions[0].seal(b"faster", 1280, &mut buffer).unwrap();
                    let mut scratch = Scratch::new();
                    let received = context.receive(now, here(), &mut buffer[..sealed.len()], &mut scratch);
                    assert!(matches!(received, Ok(Received::Payload { .. })));
                }
                peers[receiver].run(now, work);
            }
            receiver = 1 - receiver;
        }
        assert_eq!(keys(&peers), 2);
        let deadlines = peers.iter().map(|peer| peer.context.next_deadline().unwrap());
        assert!(deadlines.min().unwrap() > now + Duration::from_secs(3000), "both are certain");
    }

    /// Right after it was accepted, this side does not know yet that the peer has the key.
    //= ZSSP-ST-14  the application asks in S1: R1 is entered from S2
    #[test]
    fn a_request_that_comes_before_the_key_is_confirmed_is_not_forgotten() {
        let now = Clock::new().now();
        let mut peers = [Peer::new(), Peer::new()];
        let open = Open::to(peers[1].context.public_key(), here());
        let (_, work) = peers[0].context.open(now, open).unwrap();
        peers[0].run(now, work);
        for receiver in [1, 0, 1] {
            pass(now, &mut peers, receiver);
        }
        let id = peers[1].sessions[0].id();
        let work = peers[1].context.rekey(id).unwrap();
        peers[1].run(now, work);
        settle(now, &mut peers);
        assert_eq!(keys(&peers), 1);
        peers[1].meet_deadlines(now);
        settle(now, &mut peers);
        assert_eq!(keys(&peers), 2);
        peers[1].meet_deadlines(now);
        assert!(peers[1].sent.is_empty(), "once");
    }

    /// Another task has the state, and puts it back as it was, or in the place of another.
    //= ZSSP-ST-14  the application asks
    #[test]
    fn a_request_that_comes_while_a_task_has_the_state_is_not_forgotten() {
        for is_changed in [false, true] {
            let now = Clock::new().now();
            let mut peers = established(now);
            let context = peers[0].context.clone();
            let id = peers[0].sessions[0].id();
            let cell = context.0.sessions.lock().find(id).unwrap();
            let taken = cell.take(&context.0).unwrap();
            peers[0].run(now, context.rekey(id).unwrap());
            if is_changed {
                taken.adjust(|_| ()).unwrap()
            } else {
                drop(taken)
            }
            assert!(peers[0].sent.is_empty());
            peers[0].meet_deadlines(now + Duration::from_secs(1));
            settle(now, &mut peers);
            assert_eq!(keys(&peers), 2, "{is_changed}");
        }
    }

    /// The peer opens anew with the state that this side rekeys from, while something else that was made with it is written.
    //= ZSSP-RAT-26  it gets no answer
    //= ZSSP-RAT-25  so K2 is read
    #[test]
    fn a_hello_that_is_not_answered_does_not_void_a_rekeying() {
        let now = Clock::new().now();
        let mut peers = established(now);
        let work = peers[0].context.rekey(peers[0].sessions[0].id()).unwrap();
        let name = peers[1].context.public_key().into();
        let used = *peers[0].store.load(&name).unwrap().first.fingerprint();
        peers[0].run(now, work);

        let open = Open::to(peers[0].context.public_key(), here());
        let (_, work) = peers[1].context.open(now, open).unwrap();
        peers[1].run(now, work);
        peers[0].context.0.peers.lock().accepting(now, &used);
        let mut hello = core::mem::take(&mut peers[1].sent).remove(0);
        let mut scratch = Scratch::new();
        let received = peers[0].context.receive(now, here(), &mut hello, &mut scratch);
        let Ok(Received::Handshake(work)) = received else { panic!("{received:?}") };
        assert_eq!(work.run(now, &peers[0].store, &mut Outbox::default()), Err(Fault::Busy));

        settle(now, &mut peers);
        assert_eq!(keys(&peers), 2);
    }

    //= ZSSP-ST-31  2^32 - 1 uses of one key end the session
    #[test]
    fn a_key_that_is_used_up_ends_the_session() {
        let now = Clock::new().now();
        let mut peers = established(now);
        let session = peers[0].sessions[0].clone();
        session.0.advance_counter((1 << 32) - 2);
        let mut buffer = [0; 100];
        assert!(session.seal(b"the last", 1280, &mut buffer).is_ok());
        for _ in 0..3 {
            assert_eq!(session.seal(b"one more", 1280, &mut buffer), Err(SealError::KeyUsedUp));
        }
        assert!(!session.has_ended());
        peers[0].meet_deadlines(now);
        assert_eq!(peers[0].ended, [EndReason::KeyUsedUp]);
        assert!(session.has_ended());
        assert_eq!(peers[0].context.stats().key_ids, 0);
        assert_eq!(session.seal(b"ended", 1280, &mut buffer), Err(SealError::Closed));
    }
}
