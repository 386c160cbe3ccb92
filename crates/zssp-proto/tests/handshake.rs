//! Two peers and no network between them: the handshake packet by packet.
#![cfg(feature = "aws-lc")]
#![allow(clippy::unwrap_used, reason = "in a test it is the assertion")]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zssp_proto::crypto::AwsLc;
use zssp_proto::{
    Address, Context, Event, Handshake, LinkAddress, MemoryStore, Open, Outbox, Received, Role, Scratch,
    Session, StaticKey,
};

struct Peer {
    context: Context,
    store: MemoryStore,
    address: Address,
    scratch: Scratch,
    sessions: Vec<Session>,
    payloads: Vec<Vec<u8>>,
    out: VecDeque<(Address, Vec<u8>)>,
    identities: Vec<Vec<u8>>,
}

impl Peer {
    fn new(name: &str) -> Self {
        let provider = Arc::new(AwsLc);
        let key = StaticKey::generate(&*provider).unwrap();
        Self {
            context: Context::builder(key, provider).build().unwrap(),
            store: MemoryStore::new(),
            address: Address::Link(LinkAddress::new(name.as_bytes()).unwrap()),
            scratch: Scratch::new(),
            sessions: Vec::new(),
            payloads: Vec::new(),
            out: VecDeque::new(),
            identities: Vec::new(),
        }
    }

    fn run(&mut self, now: Instant, handshake: Handshake) {
        let mut outbox = Outbox::default();
        handshake.run(now, &self.store, &mut outbox).unwrap();
        for event in outbox.events {
            match event {
                Event::Authorize(authorize) => {
                    self.identities.push(authorize.identity().to_vec());
                    let name = authorize.peer_key();
                    self.run(now, authorize.accept(name));
                }
                Event::Established { session, .. } => self.sessions.push(session),
                other => panic!("{other:?}"),
            }
        }
        for transmit in &outbox.transmits {
            self.out.extend(transmit.datagrams().map(|datagram| (transmit.to(), datagram.to_vec())));
        }
    }

    fn receive(&mut self, now: Instant, from: Address, mut datagram: Vec<u8>) {
        match self.context.receive(now, from, &mut datagram, &mut self.scratch).unwrap() {
            Received::Handshake(handshake) => self.run(now, handshake),
            Received::Payload { bytes, .. } => self.payloads.push(bytes.to_vec()),
            Received::Nothing => {}
        }
    }
}

fn settle(now: Instant, alice: &mut Peer, bob: &mut Peer) {
    while !alice.out.is_empty() || !bob.out.is_empty() {
        while let Some((to, datagram)) = alice.out.pop_front() {
            assert_eq!(to, bob.address);
            bob.receive(now, alice.address, datagram);
        }
        while let Some((to, datagram)) = bob.out.pop_front() {
            assert_eq!(to, alice.address);
            alice.receive(now, bob.address, datagram);
        }
    }
}

#[test]
fn two_strangers_meet() {
    let now = Instant::now();
    let (mut alice, mut bob) = (Peer::new("alice"), Peer::new("bob"));
    let open = Open::to(bob.context.public_key(), bob.address).identity(b"alice@example".to_vec());
    let (id, handshake) = alice.context.open(now, open).unwrap();
    alice.run(now, handshake);
    settle(now, &mut alice, &mut bob);

    assert_eq!(bob.identities, [b"alice@example"]);
    let (a, b) = (alice.sessions[0].clone(), bob.sessions[0].clone());
    assert_eq!((a.id(), a.role(), b.role()), (id, Role::Initiator, Role::Responder));
    assert_eq!(a.peer_key(), bob.context.public_key());
    assert_eq!(b.peer_key(), alice.context.public_key());

    let payload: Vec<u8> = (0..60_000u32).map(|i| i as u8).collect();
    let mut buffer = vec![0; 70_000];
    for (mtu, len) in [(1500, 0), (1500, 1), (1500, 1468), (1500, 1469), (1500, 60_000), (128, 5000)] {
        for (session, back) in [(&a, false), (&b, true)] {
            let sealed = session.seal(&payload[..len], mtu, &mut buffer).unwrap();
            let (from, peer) = if back { (bob.address, &mut alice) } else { (alice.address, &mut bob) };
            for datagram in sealed.datagrams(&buffer) {
                assert!(datagram.len() <= mtu);
                peer.receive(now, from, datagram.to_vec());
            }
            assert_eq!(peer.payloads.pop().unwrap(), payload[..len], "mtu {mtu} length {len}");
        }
    }
    assert_eq!(alice.context.next_deadline(), None);
    assert_eq!(bob.context.expired(now + Duration::from_secs(3600)).map(|_| ()), None);
}
