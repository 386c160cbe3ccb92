//! What strangers cost a responder that answers known peers only: nobody is challenged, so a flood takes the places of
//! honest hellos.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use zssp_proto::crypto::{AwsLc, Secret};
use zssp_proto::{
    Address, Context, Fingerprint, Handshake, Limits, LinkAddress, MemoryStore, Open, Origin, Outbox,
    PeerName, Policy, RatchetPair, RatchetState, Received, Scratch, StaticKey,
};

use crate::flood::{self, Done, forged_fragment};
use crate::measure::{Dice, Report, quantile};

const MS: Duration = Duration::from_millis(1);

pub(crate) fn strangers(report: &mut Report) {
    for (name, is_known) in [("flood/unknown silent", false), ("flood/recorded silent", true)] {
        if report.wants(name) {
            well_made(report, name, is_known);
        }
    }
    for in_a_millisecond in [10, 100] {
        let name = format!("flood/wait silent {in_a_millisecond},000");
        if report.wants(&name) {
            wait(report, &name, in_a_millisecond);
        }
    }
}

/// A hello that names two states: of a peer that the responder knows, recorded, so that it is answered, or of nobody.
fn well_made(report: &mut Report, name: &str, is_known: bool) {
    let bob = Peer::new(0);
    let mut alice = Peer::new(1);
    let pair = RatchetPair { first: state(1), second: Some(state(2)) };
    alice.store.preset(bob.name.clone(), pair.duplicate());
    if is_known {
        bob.store.preset(alice.name.clone(), pair);
    }
    let now = Instant::now();
    alice.open(now, &bob);
    let (mut scratch, mut outbox) = (Scratch::new(), Outbox::default());
    let hello: Vec<Vec<u8>> = alice.sent.into_iter().map(|(_, datagram)| datagram).collect();
    report.single(name, || {
        for mut datagram in hello.clone() {
            let received = bob.context.receive(now, alice.address, &mut datagram, &mut scratch).unwrap();
            if let Received::Handshake(work) = received {
                assert_eq!(work.run(now, &bob.store, &mut outbox).is_ok(), is_known);
                outbox.transmits.clear();
            }
        }
    });
}

/// How long known peers wait that open, one after the other, while forged hellos arrive at a responder that does a piece of
/// handshake work a millisecond. On a clock of its own: whether a hello finds a place is a matter of chance and not of the
/// machine.
fn wait(report: &mut Report, name: &str, in_a_millisecond: usize) {
    const PEERS: u8 = 200;
    let begin = Instant::now();
    let mut bob = Peer::new(0);
    let mut peers: Vec<Peer> = (1..=PEERS).map(Peer::new).collect();
    for peer in &mut peers {
        let pair = RatchetPair { first: state(peer.number), second: None };
        bob.store.preset(peer.name.clone(), pair.duplicate());
        peer.store.preset(bob.name.clone(), pair);
    }
    // When all places are taken.
    let opens = |number: u8| begin + 500 * MS + 25 * MS * u32::from(number);
    let forged = forged_fragment(0, 1, 1749);
    let (mut waits, mut places, mut arrived, mut dice) = (Vec::new(), 0u32, 0u32, Dice(1));
    let mut now = begin;
    while waits.len() <= usize::from(PEERS) / 2 {
        now += MS;
        // Those of the millisecond, the honest ones at random places among them.
        let mut honest: Vec<_> = peers
            .iter_mut()
            .flat_map(|peer| {
                if now == opens(peer.number) {
                    peer.open(now, &bob);
                }
                peer.meet_deadlines(now);
                core::mem::take(&mut peer.sent).into_iter().map(|(_, datagram)| (peer.address, datagram))
            })
            .map(|arrival| (dice.below(in_a_millisecond), arrival))
            .collect();
        honest.sort_by_key(|(place, _)| *place);
        let mut honest = honest.into_iter().peekable();
        // The worker takes a piece at a random moment of the millisecond, too.
        let turn = dice.below(in_a_millisecond);
        for place in 0..in_a_millisecond {
            if place == turn {
                bob.do_one(now);
            }
            while let Some((_, (from, mut datagram))) = honest.next_if(|(at, _)| *at == place) {
                bob.receive(now, from, &mut datagram);
            }
            arrived += 1;
            let from = Address::from(SocketAddr::from((Ipv4Addr::from(arrived), 9993)));
            places += u32::from(bob.receive(now, from, &mut forged.clone()));
        }
        for (to, mut datagram) in core::mem::take(&mut bob.sent) {
            let peer = peers.iter_mut().find(|peer| peer.address == to).unwrap();
            let was_open = peer.is_open;
            peer.receive(now, bob.address, &mut datagram);
            peer.do_all(now);
            if peer.is_open && !was_open {
                waits.push((now - opens(peer.number)).as_secs_f64());
            }
        }
        let (stats, limits) = (bob.context.stats(), Limits::default());
        assert!(stats.pending_bytes <= limits.pending_bytes && stats.hello_bytes <= limits.hello_bytes);
    }
    let share = 100.0 * f64::from(places) / f64::from(arrived);
    let [first, half] = [0.0, 1.0].map(|part| quantile(&mut waits, part));
    report.line(&format!(
        "{name:<24} {share:>7.1} % find a place; of {PEERS} peers the first waits {first:.0} s, half of them {half:.0} s",
    ));
}

/// A peer in persistent mode.
struct Peer {
    number: u8,
    name: PeerName,
    address: Address,
    context: Context,
    scratch: Scratch,
    store: MemoryStore,
    hellos: VecDeque<Handshake>,
    /// Everything else, which goes first.
    others: VecDeque<Handshake>,
    sent: Vec<(Address, Vec<u8>)>,
    is_open: bool,
}

impl Peer {
    /// Hellos that may wait.
    const PLACES: usize = 256;

    fn new(number: u8) -> Self {
        let provider = Arc::new(AwsLc);
        let key = StaticKey::generate(&*provider).unwrap();
        let name = PeerName::from(key.public());
        let context = Context::builder(key, provider).policy(Policy::PERSISTENT).build().unwrap();
        Self {
            number,
            name,
            address: Address::Link(LinkAddress::new(&[number]).unwrap()),
            context,
            scratch: Scratch::new(),
            store: MemoryStore::new(),
            hellos: VecDeque::new(),
            others: VecDeque::new(),
            sent: Vec::new(),
            is_open: false,
        }
    }

    fn open(&mut self, now: Instant, peer: &Self) {
        let open = Open::to(peer.context.public_key(), peer.address).give_up_after(None);
        let (_, work) = self.context.open(now, open).unwrap();
        self.run(now, work);
    }

    /// `true` when a hello has found a place.
    fn receive(&mut self, now: Instant, from: Address, datagram: &mut [u8]) -> bool {
        let Ok(Received::Handshake(work)) = self.context.receive(now, from, datagram, &mut self.scratch)
        else {
            return false;
        };
        let is_hello = matches!(work.origin(), Some(Origin::Stranger(_)));
        let has_place = is_hello && self.hellos.len() < Self::PLACES;
        if has_place {
            self.hellos.push_back(work);
        } else if !is_hello {
            self.others.push_back(work);
        }
        has_place
    }

    fn meet_deadlines(&mut self, now: Instant) {
        while let Some(work) = self.context.expired(now) {
            self.run(now, work);
        }
    }

    fn do_one(&mut self, now: Instant) {
        self.others.extend(self.context.expired(now));
        if let Some(work) = self.others.pop_front().or_else(|| self.hellos.pop_front()) {
            self.run(now, work);
        }
    }

    fn do_all(&mut self, now: Instant) {
        while let Some(work) = self.others.pop_front() {
            self.run(now, work);
        }
    }

    fn run(&mut self, now: Instant, work: Handshake) {
        let Done { accepted, is_open, transmits } = flood::run(now, work, &self.store);
        if let Some(accepted) = accepted {
            self.others.push_front(accepted);
        }
        self.is_open |= is_open;
        for transmit in &transmits {
            self.sent.extend(transmit.datagrams().map(|datagram| (transmit.to(), datagram.to_vec())));
        }
    }
}

fn state(number: u8) -> RatchetState {
    RatchetState::new(Secret::new([number; 32]), Fingerprint::new([!number; 32]), 1)
}
