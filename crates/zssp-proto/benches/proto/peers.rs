//! Two contexts and the packets between them, without a network.

use std::sync::Arc;
use std::time::{Duration, Instant};

use zssp_proto::crypto::Provider;
use zssp_proto::{
    Address, Challenging, Context, Event, Handshake, Limits, LinkAddress, MemoryStore, Open, Outbox,
    Received, Scratch, Session, StaticKey,
};

/// A side of a session, and the time that its protocol work took.
pub(crate) struct Peer {
    pub(crate) context: Context,
    pub(crate) address: Address,
    pub(crate) scratch: Scratch,
    /// Inside of the library, since somebody last set it to zero.
    pub(crate) spent: Duration,
    store: MemoryStore,
    established: Option<Session>,
    out: Vec<Vec<u8>>,
}

impl Peer {
    pub(crate) fn new(name: &[u8], provider: Arc<dyn Provider>) -> Self {
        Self::with_limits(name, provider, Limits::default())
    }

    pub(crate) fn with_limits(name: &[u8], provider: Arc<dyn Provider>, limits: Limits) -> Self {
        let key = StaticKey::generate(&*provider).unwrap();
        Self {
            context: Context::builder(key, provider)
                .limits(limits)
                .challenging(Challenging::Off)
                .build()
                .unwrap(),
            address: Address::Link(LinkAddress::new(name).unwrap()),
            scratch: Scratch::new(),
            spent: Duration::ZERO,
            store: MemoryStore::new(),
            established: None,
            out: Vec::new(),
        }
    }

    /// Runs a handshake step, accepting whoever asks.
    fn run(&mut self, now: Instant, handshake: Handshake) {
        let mut next = Some(handshake);
        while let Some(handshake) = next.take() {
            let mut outbox = Outbox::default();
            let start = Instant::now();
            handshake.run(now, &self.store, &mut outbox).unwrap();
            self.spent += start.elapsed();
            for event in outbox.events {
                match event {
                    Event::Authorize(authorize) => {
                        let name = authorize.peer_key();
                        next = Some(authorize.accept(name));
                    }
                    Event::Established { session, .. } => self.established = Some(session),
                    // There is one session per peer: the one of the round before has ended.
                    Event::Ended { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
            for transmit in &outbox.transmits {
                self.out.extend(transmit.datagrams().map(<[u8]>::to_vec));
            }
        }
    }

    fn receive(&mut self, now: Instant, from: Address, datagrams: Vec<Vec<u8>>) {
        for mut datagram in datagrams {
            let start = Instant::now();
            let received = self.context.receive(now, from, &mut datagram, &mut self.scratch).unwrap();
            self.spent += start.elapsed();
            match received {
                Received::Handshake(handshake) => self.run(now, handshake),
                Received::Payload { .. } => panic!("nobody has sent a payload"),
                _ => {}
            }
        }
    }
}

/// Opens a session from `alice` to `bob`, and gives each its handle.
pub(crate) fn meet(now: Instant, alice: &mut Peer, bob: &mut Peer) -> (Session, Session) {
    let open = Open::to(bob.context.public_key(), bob.address);
    let start = Instant::now();
    let (_, handshake) = alice.context.open(now, open).unwrap();
    alice.spent += start.elapsed();
    alice.run(now, handshake);
    while !alice.out.is_empty() || !bob.out.is_empty() {
        let datagrams = std::mem::take(&mut alice.out);
        bob.receive(now, alice.address, datagrams);
        let datagrams = std::mem::take(&mut bob.out);
        alice.receive(now, bob.address, datagrams);
    }
    (alice.established.take().unwrap(), bob.established.take().unwrap())
}
