//! Two peers, the simulated network between them, and a clock that only the test moves.
//!
//! ```
//! # if zssp_proto::crypto::PROVIDERS.is_empty() { return }
//! use std::time::Duration;
//! use zssp_harness::pair::Pair;
//!
//! let mut pair = Pair::new(7);
//! pair.network.drop_next(1); // the hello
//! pair.alice.open(&pair.bob);
//! pair.drive_for(Duration::from_secs(2)); // it is sent again after one
//!
//! pair.alice.send(b"hello");
//! pair.settle();
//! assert_eq!(pair.bob.take_payloads(), [b"hello"]);
//! ```

mod hostile;
mod keylog;
mod ledger;
mod meanwhile;
mod peer;
mod store;
mod toy_curve;

use std::time::{Duration, Instant};

use zssp_proto::Fingerprint;
use zssp_sim::network::Network;
use zssp_sim::{Clock, Delivery};

pub use hostile::hostile;
pub use keylog::{Forgery, KeyLog};
pub use ledger::{Ledger, Tally};
pub use peer::{Answer, Happening, Peer, Pool, Setup};
pub use store::FlakyStore;
pub use toy_curve::ToyCurve;

/// Alice, who opens in most scenarios, Bob, and what is between them.
///
/// Peers put datagrams into their own outgoing queues; they enter the network when the pair is driven.
#[derive(Debug)]
pub struct Pair {
    /// Node 1.
    pub alice: Peer,
    /// Node 2.
    pub bob: Peer,
    /// What is between them: a latency of 10 ms, until the test says otherwise.
    pub network: Network,
    /// Every datagram that entered the network so far, lost ones too.
    pub wire: Vec<Delivery>,
    /// What became of the payloads of [`send_numbered`](Self::send_numbered).
    pub ledger: Ledger,
    clock: Clock,
}

impl Pair {
    /// Two peers who never met.
    ///
    /// # Panics
    /// When this build contains no cryptographic provider.
    pub fn new(seed: u64) -> Self {
        Self::with(seed, &Setup::default())
    }

    /// Two peers who never met, both with this setup.
    ///
    /// # Panics
    /// As [`new`](Self::new), and when the setup is not one that a context accepts.
    pub fn with(seed: u64, setup: &Setup) -> Self {
        Self::between(seed, setup, setup)
    }

    /// Two peers who never met, Alice with one setup and Bob with the other.
    ///
    /// # Panics
    /// As [`with`](Self::with).
    pub fn between(seed: u64, alice: &Setup, bob: &Setup) -> Self {
        let clock = Clock::new();
        Self {
            alice: Peer::new(1, seed, alice, clock.now()),
            bob: Peer::new(2, seed, bob, clock.now()),
            network: Network::new(seed),
            wire: Vec::new(),
            ledger: Ledger::default(),
            clock,
        }
    }

    /// Two peers with an established session that Alice opened, both certain of it (state S2), nothing under way.
    ///
    /// # Panics
    /// As [`with`](Self::with).
    pub fn established(seed: u64, setup: &Setup) -> Self {
        let mut pair = Self::with(seed, setup);
        pair.alice.open(&pair.bob);
        pair.settle();
        for peer in [&mut pair.alice, &mut pair.bob] {
            peer.take_happenings();
        }
        pair
    }

    /// The present.
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// How much time has passed since the pair was made.
    pub fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    /// What the peers have sent enters the network.
    pub fn pump(&mut self) {
        for peer in [&mut self.alice, &mut self.bob] {
            let from = peer.node;
            for (to, bytes) in peer.take_outgoing() {
                self.wire.push(Delivery { to, from, bytes: bytes.clone() });
                self.network.send(self.clock.now(), from, to, bytes);
            }
        }
    }

    /// Waits for the next arrival, but not beyond `until`, and delivers all that has arrived by then as one batch.
    /// `false`: nothing arrives.
    pub fn deliver(&mut self, until: Option<Instant>) -> bool {
        let Some(arrival) = self.network.next_arrival() else { return false };
        if until.is_some_and(|until| arrival > until) {
            return false;
        }
        self.advance_to(arrival);
        let (now, mut batch) = (self.clock.now(), Vec::new());
        let before = self.read_by_both();
        while let Some(Delivery { to, from, bytes }) = self.network.receive(now) {
            for peer in [&mut self.alice, &mut self.bob] {
                if peer.node == to {
                    peer.receive(from, bytes.clone());
                    batch.push((to, bytes.clone()));
                }
            }
        }
        self.alice.flush();
        self.bob.flush();
        // A session that ends in the middle of a batch is none that the rest of it can rely on.
        let after = self.read_by_both();
        for (to, bytes) in batch {
            let side = usize::from(to != self.alice.node);
            let sessions = before[side].iter().filter(|session| after[side].contains(session));
            self.ledger.arrive(now, &bytes, sessions);
        }
        true
    }

    /// The ratchet states of the sessions in which Alice, and Bob, can read payloads now.
    fn read_by_both(&self) -> [Vec<Fingerprint>; 2] {
        [self.alice.reads(self.bob.public_key()), self.bob.reads(self.alice.public_key())]
    }

    /// Sends a payload of `len` bytes whose fate is accounted for, in the latest session of `node`, if that has one.
    ///
    /// # Panics
    /// When there is no room for its number, 8 bytes.
    pub fn send_numbered(&mut self, node: zssp_sim::Address, len: usize) {
        assert!(len >= 8, "{len} bytes");
        let Self { alice, bob, ledger, clock, .. } = self;
        let (peer, other) = if node == alice.node { (alice, bob) } else { (bob, alice) };
        let Some(bond) = peer.bond() else { return };
        let (before, payload) = (peer.take_outgoing(), ledger.draw(len));
        let is_sealed = peer.try_send(&payload);
        let sent = peer.take_outgoing();
        if is_sealed {
            let datagrams: Vec<Vec<u8>> = sent.iter().map(|(_, datagram)| datagram.clone()).collect();
            ledger.send(clock.now(), (other.node, bond), payload, &datagrams);
        }
        before.into_iter().chain(sent).for_each(|(to, datagram)| peer.put_back(to, datagram));
    }

    /// Accounts for what was delivered since the last call, numbered payloads all.
    ///
    /// # Panics
    /// When a payload was delivered that should not have been, or was not that should have been. See [`Ledger`].
    pub fn account(&mut self) {
        for peer in [&mut self.alice, &mut self.bob] {
            self.ledger.deliver(peer.node, peer.take_payloads());
        }
        self.ledger.close(self.clock.now());
    }

    /// Delivers until nothing is under way. Time passes as datagrams travel, but no timer is looked at.
    pub fn settle(&mut self) {
        self.pump();
        while self.deliver(None) {
            self.pump();
        }
    }

    /// Lets `time` pass: whatever arrives is delivered, and every deadline is met at its moment.
    ///
    /// # Panics
    /// When a peer has an endless number of things to do at one moment.
    pub fn drive_for(&mut self, time: Duration) {
        let end = self.clock.now() + time;
        let (mut moment, mut steps) = (self.clock.now(), 0);
        loop {
            self.pump();
            let next = [self.network.next_arrival(), self.alice.next_deadline(), self.bob.next_deadline()]
                .into_iter()
                .flatten()
                .min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.advance_to(next);
            self.deliver(Some(self.clock.now()));
            self.alice.meet_deadlines();
            self.bob.meet_deadlines();

            steps = if self.clock.now() == moment { steps + 1 } else { 0 };
            moment = self.clock.now();
            assert!(steps < 10_000, "somebody is never done at {:?}", self.elapsed());
        }
        self.advance_to(end);
    }

    /// Lets time pass in which nothing happens: what arrives and what is due waits.
    pub fn stand_still_for(&mut self, time: Duration) {
        self.advance_to(self.clock.now() + time);
    }

    fn advance_to(&mut self, instant: Instant) {
        self.clock.advance_to(instant);
        self.alice.set_now(self.clock.now());
        self.bob.set_now(self.clock.now());
    }

    /// Whether payloads go through in both directions, each once, over the latest session of each side.
    pub fn talk(&mut self) -> bool {
        if !self.alice.has_session() || !self.bob.has_session() {
            return false;
        }
        self.alice.take_payloads();
        self.bob.take_payloads();
        let (long, short) = (vec![7; 3000], b"back".to_vec());
        let sent = self.alice.try_send(&long) && self.bob.try_send(&short);
        self.settle();
        sent && self.bob.take_payloads() == [long] && self.alice.take_payloads() == [short]
    }

    /// Both are in S2 with one session: they talk, nobody has anything left to do, and nothing is held for anybody.
    ///
    /// # Panics
    /// When that is not so; `what` says in which case.
    pub fn assert_steady(&mut self, what: &str) {
        assert!(self.talk(), "{what}: payloads go both ways");
        for peer in [&self.alice, &self.bob] {
            assert_eq!(peer.stats().sessions, 1, "{what}: node {}", peer.node);
            peer.assert_at_rest(what);
        }
    }

    /// Nothing is left of any attempt.
    ///
    /// # Panics
    /// When something is.
    pub fn assert_nothing_left(&self) {
        for peer in [&self.alice, &self.bob] {
            assert_eq!(peer.stats().sessions, 0, "node {}", peer.node);
            peer.assert_at_rest("nothing is left");
        }
    }

    /// The datagrams that `node` sent so far.
    pub fn sent_by(&self, node: zssp_sim::Address) -> Vec<&[u8]> {
        self.wire
            .iter()
            .filter(|datagram| datagram.from == node)
            .map(|datagram| &datagram.bytes[..])
            .collect()
    }
}
