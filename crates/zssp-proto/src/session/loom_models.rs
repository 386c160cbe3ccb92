//! Interleavings of threads that seal with the task that changes the session's key, and with the end of the session.
//! Those that open are in the models of `context/routes.rs`, for a route is what they open with.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p zssp-proto --lib --release --target-dir target/loom loom
//! ```

use std::collections::BTreeSet;
use std::sync::Weak;

use loom::thread;
use zssp_sim::Clock;

use super::*;
use crate::address::LinkAddress;
use crate::crypto::{Nonce, PROVIDERS, Secret};
use crate::ratchet::RatchetState;
use crate::wire::{FragmentHeader, PacketNonce, PacketType};
use crate::zfp::unprotect;
use crate::zke::keys::{Directed, HandshakeKeys};

/// Both directions' key of this epoch.
fn transport(number: u8) -> Secret<32> {
    Secret::new([number; 32])
}

pub(crate) fn kid(number: u8) -> KeyId {
    KeyId::new([number; 4]).expect("not zero")
}

/// The epoch of this number, whose keys and key ids are made of it.
pub(crate) fn epoch(number: u8, before: Used) -> Sealing {
    let directed = || Directed { send: transport(number), receive: transport(number) };
    let keys =
        HandshakeKeys { ratchet: RatchetState::zero(), key_exchange: directed(), transport: directed() };
    Sealing::new(PROVIDERS[0], keys, (kid(number), kid(number)), (before, Clock::new().now()))
}

/// An initiator's session with its first epoch.
pub(crate) fn session() -> Arc<Shared> {
    let header = Directed { send: Secret::zero(), receive: Secret::zero() };
    let new = NewSession {
        id: SessionId { index: 0, generation: 0 },
        peer: PublicKey::agreed_with([2; 49]),
        role: Role::Initiator,
        suite: Suite::MlKem1024,
        downgraded: false,
        address: Address::Link(LinkAddress::new(b"nowhere").expect("short enough")),
        header: HeaderKeys::new(PROVIDERS[0], &header),
        context: Weak::new(),
    };
    let shared = Shared::new(new, epoch(1, Used::none(Role::Initiator)));
    shared.usage.start_a_run();
    Arc::new(shared)
}

/// A packet of the peer under this epoch, without its header.
pub(crate) fn packet(number: u8, counter: u64) -> (PacketNonce, Vec<u8>) {
    let nonce = PacketNonce::new(PacketType::Payload, counter);
    let mut packet = vec![0; 7 + 16];
    let key = PROVIDERS[0].seal_key(&transport(number));
    key.seal(&nonce.aead(), &[], &[b"payload"], &mut packet).expect("room for the tag");
    (nonce, packet)
}

/// Seals a packet and reads it as its receiver does: the number of its epoch and its counter.
fn seal(session: &Session) -> Result<(u8, u64), SealError> {
    let mut packet = [0; 64];
    let sealed = session.seal(b"payload", 128, &mut packet)?;
    let packet = &mut packet[..sealed.len()];
    unprotect(&*session.0.ingress.header.unprotect, packet);
    let number = packet[0];
    let (header, body) = FragmentHeader::split_off(packet).expect("a header");
    let nonce: PacketNonce = header.nonce;
    let aead: Nonce = nonce.aead();
    let mut payload = [0; 7];
    PROVIDERS[0].open_key(&transport(number)).open(&aead, &[], body, &mut payload).expect("authentic");
    assert_eq!(payload, *b"payload");
    Ok((number, nonce.counter()))
}

/// Two packets are sealed while the key changes; each is under the key that its key id names, no counter is used
/// twice, and nobody goes back to an older key.
//= ZSSP-ST-28  sending switches when the key is confirmed
//= ZSSP-ST-29  the counter goes on
#[test]
fn loom_sealing_while_the_key_changes() {
    loom::model(|| {
        let shared = session();
        let sealing = {
            let session = Session(shared.clone());
            thread::spawn(move || [seal(&session), seal(&session)].map(|sealed| sealed.expect("a key")))
        };
        let next = epoch(2, shared.usage.epoch_start());
        let ring = shared.ring().expect("a ring");
        assert_eq!(shared.publish(ring.with_next(next.clone())), []);
        let ring = shared.ring().expect("a ring");
        assert_eq!(shared.publish(ring.switched_to(next)), []);
        let last = seal(&Session(shared)).expect("a key");
        assert_eq!(last.0, 2, "the key was in use already");

        let [first, second] = sealing.join().expect("the thread does not panic");
        assert!(first.0 <= second.0);
        let all = [first, second, last];
        assert_eq!(all.iter().map(|sealed| sealed.1).collect::<BTreeSet<_>>().len(), 3);
    });
}

/// Whoever finds the session closed finds it closed for good, and what is sealed before that is whole.
#[test]
fn loom_sealing_while_the_session_ends() {
    loom::model(|| {
        let shared = session();
        let sealing = {
            let session = Session(shared.clone());
            thread::spawn(move || [seal(&session), seal(&session)])
        };
        shared.end();
        assert_eq!(seal(&Session(shared)), Err(SealError::Closed));
        match sealing.join().expect("the thread does not panic") {
            [Ok((1, 0)), Ok((1, 1)) | Err(SealError::Closed)] => {}
            [Err(SealError::Closed), Err(SealError::Closed)] => {}
            other => panic!("{other:?}"),
        }
    });
}

/// A session that ends while its key changes stays ended, and each key id is given back to be freed.
#[test]
fn loom_ending_while_the_key_changes() {
    loom::model(|| {
        let shared = session();
        let ending = {
            let shared = shared.clone();
            thread::spawn(move || shared.end())
        };
        let published = shared.ring().map(|ring| {
            let next = epoch(2, shared.usage.epoch_start());
            shared.publish(ring.switched_to(next))
        });
        let mut freed = ending.join().expect("the thread does not panic");
        freed.extend(published.iter().flatten());
        assert!(shared.ring().is_none() && freed.contains(&kid(1)));
        assert_eq!(published.is_some(), freed.contains(&kid(2)));
        assert_eq!(seal(&Session(shared)), Err(SealError::Closed));
    });
}
