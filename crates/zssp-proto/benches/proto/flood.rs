//! What strangers cost: hellos that nobody who could answer them has sent, with and without a challenge.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use zssp_proto::crypto::AwsLc;
use zssp_proto::{
    Address, Challenging, Context, Event, Handshake, LinkAddress, MemoryStore, Open, Outbox, Received,
    Scratch, StaticKey, Transmit,
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
    if report.wants("flood/honest challenged") {
        honest(report, address);
    }
    if report.wants("flood/answer") {
        answer(report, address);
    }
    for (name, fragments) in [
        ("flood/wait", vec![forged_fragment(0, 1, 1749)]),
        ("flood/wait fragmented", vec![forged_fragment(0, 2, 875), forged_fragment(1, 2, 874)]),
        ("flood/wait unfinished", vec![forged_fragment(0, 2, 875)]),
    ] {
        if report.wants(name) {
            wait(report, address, (name, &fragments));
        }
    }
}

/// A fragment of a hello that nobody sent.
pub(crate) fn forged_fragment(number: u8, count: u8, len: usize) -> Vec<u8> {
    let mut fragment = vec![0x5a; 16 + len];
    fragment[..8].copy_from_slice(&[0, 0, 0, 0, number, count, 0, 0]);
    fragment
}

/// What an honest hello costs the responder where everybody is challenged: the challenge, the check of the answer, and
/// X2.
fn honest(report: &mut Report, address: Address) {
    let (bob, _) = context(Challenging::Always);
    let (store, mut scratch) = (MemoryStore::new(), Scratch::new());
    let mut times = Vec::new();
    for _ in 0..100 {
        let (alice, now, mut datagrams) = hello(&bob);
        let mut spent = Duration::ZERO;
        for _ in 0..2 {
            let mut outbox = Outbox::default();
            for mut datagram in core::mem::take(&mut datagrams) {
                let start = Instant::now();
                let received = bob.receive(now, address, &mut datagram, &mut scratch).unwrap();
                match received {
                    Received::Handshake(work) => {
                        work.run(now, &store, &mut Outbox::default()).unwrap();
                        spent += start.elapsed();
                    }
                    Received::Reply(mut challenge) => {
                        spent += start.elapsed();
                        let mut own = Scratch::new();
                        let received = alice.receive(now, address, &mut challenge, &mut own).unwrap();
                        let Received::Handshake(work) = received else { panic!("the challenge is ours") };
                        work.run(now, &store, &mut outbox).unwrap();
                        let again = alice.expired(now + Duration::from_millis(300));
                        again.unwrap().run(now, &store, &mut outbox).unwrap();
                    }
                    _ => spent += start.elapsed(),
                }
            }
            datagrams.extend(outbox.transmits.iter().flat_map(|it| it.datagrams()).map(<[u8]>::to_vec));
        }
        times.push(spent.as_secs_f64());
    }
    let median = crate::measure::quantile(&mut times, 0.5);
    report.line(&format!("{:<24} {:>10}", "flood/honest challenged", crate::measure::time(median)));
}

/// How long an honest peer, whose own hello is two fragments, waits while 100,000 forged hellos a second, of these
/// fragments each, arrive at a responder that does a piece of handshake work each millisecond. Real time, with both sides
/// and the flood on this one thread.
fn wait(report: &mut Report, address: Address, (name, fragments): (&str, &[Vec<u8>])) {
    const PER_SECOND: f64 = 100_000.0;
    let mut waits = Vec::new();
    for _ in 0..10 {
        let (mut alice, mut bob) = (Side::new(), Side::new());
        let (start, mut arrived, mut opened) = (Instant::now(), 0u32, None);
        let waited = loop {
            let now = Instant::now();
            let due = (now - start).as_secs_f64() * PER_SECOND;
            // What the thread cannot keep up with is lost, as in a socket's buffer.
            arrived = arrived.max((due - 1000.0) as u32);
            while f64::from(arrived) < due {
                arrived += 1;
                let from = Address::from(SocketAddr::from((Ipv4Addr::from(arrived), 9993)));
                fragments.iter().for_each(|fragment| bob.receive(now, from, &mut fragment.clone()));
            }
            if opened.is_none() && now - start > Duration::from_millis(300) {
                let (_, work) = alice.context.open(now, Open::to(bob.context.public_key(), address)).unwrap();
                alice.work.push_back(work);
                opened = Some(now);
            }
            bob.do_one(now);
            alice.do_one(now);
            core::mem::take(&mut alice.sent).iter_mut().for_each(|it| bob.receive(now, address, it));
            core::mem::take(&mut bob.sent).iter_mut().for_each(|it| alice.receive(now, address, it));
            if let (Some(opened), true) = (opened, alice.is_open && bob.is_open) {
                break now - opened;
            }
        };
        waits.push(waited.as_secs_f64());
    }
    let [median, most] = [0.5, 1.0].map(|part| crate::measure::quantile(&mut waits, part));
    report.line(&format!("{name:<24} {:>7.0} ms, {:.0} ms at most", median * 1e3, most * 1e3));
}

/// A context whose handshake work is done one piece a millisecond.
struct Side {
    context: Context,
    scratch: Scratch,
    store: MemoryStore,
    work: VecDeque<Handshake>,
    busy_until: Option<Instant>,
    sent: Vec<Vec<u8>>,
    is_open: bool,
}

impl Side {
    /// Pieces of work that may wait.
    const QUEUE: usize = 256;

    fn new() -> Self {
        let (context, _) = context(Challenging::default());
        Self {
            context,
            scratch: Scratch::new(),
            store: MemoryStore::new(),
            work: VecDeque::new(),
            busy_until: None,
            sent: Vec::new(),
            is_open: false,
        }
    }

    fn receive(&mut self, now: Instant, from: Address, datagram: &mut [u8]) {
        match self.context.receive(now, from, datagram, &mut self.scratch) {
            Ok(Received::Handshake(work)) if self.work.len() < Self::QUEUE => self.work.push_back(work),
            Ok(Received::Handshake(_)) => self.context.report_overload(now),
            // Nobody hears the answers to the flood.
            Ok(Received::Reply(datagram)) if matches!(from, Address::Link(_)) => {
                self.sent.push(datagram.to_vec());
            }
            _ => {}
        }
    }

    fn do_one(&mut self, now: Instant) {
        self.work.extend(self.context.expired(now));
        if self.busy_until.is_some_and(|until| now < until) {
            return;
        }
        let Some(work) = self.work.pop_front() else { return };
        self.busy_until = Some(now + Duration::from_millis(1));
        let Done { accepted, is_open, transmits } = run(now, work, &self.store);
        if let Some(accepted) = accepted {
            self.work.push_front(accepted);
        }
        self.is_open |= is_open;
        self.sent.extend(transmits.iter().flat_map(|it| it.datagrams()).map(<[u8]>::to_vec));
    }
}

/// What a piece of handshake work led to.
pub(crate) struct Done {
    /// What is to be done next: whoever asks is welcome.
    pub(crate) accepted: Option<Handshake>,
    /// Whether a session is there.
    pub(crate) is_open: bool,
    pub(crate) transmits: Vec<Transmit>,
}

pub(crate) fn run(now: Instant, work: Handshake, store: &MemoryStore) -> Done {
    let mut outbox = Outbox::default();
    // Forged hellos are errors.
    let _ = work.run(now, store, &mut outbox);
    let mut done = Done { accepted: None, is_open: false, transmits: outbox.transmits };
    for event in outbox.events {
        match event {
            Event::Authorize(authorize) => {
                let name = authorize.peer_key();
                done.accepted = Some(authorize.accept(name));
            }
            Event::Established { .. } => done.is_open = true,
            _ => {}
        }
    }
    done
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
