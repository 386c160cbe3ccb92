//! What strangers cost: hellos that nobody who could answer them has sent, with and without a challenge.

use std::sync::Arc;
use std::time::Instant;

use zssp_proto::crypto::AwsLc;
use zssp_proto::{
    Address, Challenging, Context, Handshake, LinkAddress, MemoryStore, Open, Outbox, Received, Scratch,
    StaticKey,
};

use crate::measure::Report;

/// Where the ciphertext of the KEM key lies in the second datagram of a hello: the point before it stays valid, so the
/// responder has to do its Diffie-Hellman before it finds out.
const INSIDE_E1: usize = 200;

pub(crate) fn strangers(report: &mut Report) {
    let address = Address::Link(LinkAddress::new(b"alice").unwrap());
    for (name, challenging) in
        [("flood/forged", Challenging::Off), ("flood/forged challenged", Challenging::Always)]
    {
        if report.wants(name) {
            let (bob, _) = context(challenging);
            let (_, _, mut forged) = hello(&bob);
            forged[1][INSIDE_E1] ^= 1;
            let (store, mut scratch, mut outbox) = (MemoryStore::new(), Scratch::new(), Outbox::default());
            let now = Instant::now();
            report.single(name, || {
                for datagram in &forged {
                    let mut datagram = datagram.clone();
                    match bob.receive(now, address, &mut datagram, &mut scratch).unwrap() {
                        Received::Handshake(work) => assert!(work.run(now, &store, &mut outbox).is_err()),
                        Received::Reply(_) | Received::Nothing => {}
                        Received::Payload { .. } => panic!("a stranger has no session"),
                    }
                }
            });
        }
    }
    if report.wants("flood/answer") {
        answer(report, address);
    }
}

/// What the challenge costs an honest initiator: on average 8192 hashes.
fn answer(report: &mut Report, address: Address) {
    let (bob, _) = context(Challenging::Always);
    let (store, mut scratch) = (MemoryStore::new(), Scratch::new());
    report.single("flood/answer", || {
        let (alice, now, datagrams) = hello(&bob);
        for mut datagram in datagrams {
            if let Ok(Received::Reply(mut challenge)) = bob.receive(now, address, &mut datagram, &mut scratch)
            {
                let mut own = Scratch::new();
                let received = alice.receive(now, address, &mut challenge, &mut own).unwrap();
                let Received::Handshake(work) = received else { panic!("the challenge is ours") };
                work.run(now, &store, &mut Outbox::default()).unwrap();
            }
        }
    });
}

fn context(challenging: Challenging) -> (Context, Arc<AwsLc>) {
    let provider = Arc::new(AwsLc);
    let key = StaticKey::generate(&*provider).unwrap();
    let context = Context::builder(key, provider.clone()).challenging(challenging).build().unwrap();
    (context, provider)
}

/// Somebody new, and the datagrams of its hello to `bob`.
fn hello(bob: &Context) -> (Context, Instant, Vec<Vec<u8>>) {
    let (alice, _) = context(Challenging::Off);
    let now = Instant::now();
    let address = Address::Link(LinkAddress::new(b"bob").unwrap());
    let (_, work): (_, Handshake) = alice.open(now, Open::to(bob.public_key(), address)).unwrap();
    let mut outbox = Outbox::default();
    work.run(now, &MemoryStore::new(), &mut outbox).unwrap();
    let datagrams = outbox.transmits[0].datagrams().map(<[u8]>::to_vec).collect();
    (alice, now, datagrams)
}
