use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use zssp_proto::crypto::{PROVIDERS, Provider, Secret};
use zssp_proto::{
    Address, Authorize, Challenging, Context, Datagram, EndReason, Event, Fault, Fingerprint, Handshake,
    Limits, LinkAddress, Open, OpenError, Origin, Outbox, PeerName, Policy, Received, Rejection, Role,
    Scratch, Session, SessionId, StaticKey, Stats, Suite,
};

use super::keylog::KeyLog;
use super::store::FlakyStore;

/// A node of the simulated network.
type Node = zssp_sim::Address;

/// How long a session rests at least between one key and the next, a little less (PROTOCOL 5.3).
const REST: Duration = Duration::from_secs(45 * 60);

/// What a peer is made with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// When others must prove themselves.
    pub challenging: Challenging,
    /// Bounds of memory.
    pub limits: Limits,
    /// The largest datagram of any packet. At the default, 9000, every packet of the handshake is one.
    pub mtu: usize,
    /// The security flags.
    pub policy: Policy,
    /// `None`: [`beneath`](Self::beneath), with the peer's [`Peer::keys`] in front of it.
    pub provider: Option<Arc<dyn Provider>>,
    /// What does the work for [`Peer::keys`]; `None`: the fastest provider of this build.
    pub beneath: Option<&'static dyn Provider>,
    /// The suites that are accepted.
    pub suites: Vec<Suite>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            challenging: Challenging::default(),
            limits: Limits::default(),
            mtu: 9000,
            policy: Policy::default(),
            provider: None,
            beneath: None,
            suites: vec![Suite::MlKem1024, Suite::Kyber1024],
        }
    }
}

/// What the application does about somebody who wants a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is welcome.
    Accept,
    /// It is welcome under these flags.
    AcceptWith(Policy),
    /// It gets no answer.
    Ignore,
    /// The question is put aside until [`Peer::decide`].
    Later,
    /// It is told that it is not, or hears nothing, as the flags say.
    Refuse,
    /// It is told that it is not, or hears nothing.
    RefuseWith(Rejection),
}

/// Who does handshake work, and when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pool {
    /// It is done at once.
    AtOnce,
    /// It is done so much later.
    Late(Duration),
    /// It is done when [`Peer::run_held`] is called.
    Held,
    /// A piece of work is lost with this probability, done at once otherwise.
    Losing(f64),
    /// One after the other, each taking so long, and hellos last. No hello waits where that many do: it is lost, and the
    /// context told that there is too much.
    Worker {
        /// How long each takes.
        each: Duration,
        /// How many may wait.
        queue: usize,
    },
}

/// What the application was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// Somebody wants a session.
    Asked,
    /// The ratchet states did not fit.
    Downgraded,
    /// They did not fit, and that is not allowed.
    DowngradeRefused,
    /// A session has ended by itself.
    Ended(EndReason),
    /// A session is open.
    Established(Role),
    /// The store failed.
    StoreFailed,
}

/// A context, its store, and an application that behaves as told and remembers what happened.
#[derive(Debug)]
pub struct Peer {
    /// Where it is.
    pub node: Node,
    /// Its context; another one after [`restart`](Self::restart).
    pub context: Context,
    /// Its memory.
    pub store: Arc<FlakyStore>,
    /// What it does about others.
    pub answer: Answer,
    /// How it does handshake work.
    pub pool: Pool,
    /// The keys it sent with, unless the setup had a provider of its own.
    pub keys: KeyLog,
    /// How many keys each of its sessions can read under: 1, from the first rekeying on 2.
    pub keys_per_session: usize,
    /// Sessions that were established, the latest last; ended ones too.
    pub sessions: Vec<Session>,
    /// What others said about themselves.
    pub identities: Vec<Vec<u8>>,
    /// Questions put aside.
    pub undecided: VecDeque<Authorize>,
    /// Whether its process lives.
    is_alive: bool,
    /// The latest session, while it is open, and the ratchet state with which it opened.
    bond: Option<(SessionId, Fingerprint)>,
    /// Whether it has read X2, and waits for C1.
    is_completing: bool,
    setup: Setup,
    key: StaticKey,
    now: Instant,
    random: Xoshiro256PlusPlus,
    scratch: Scratch,
    /// Whether the last datagram was read in place.
    in_place: bool,
    /// Where a payload goes that is not.
    payload: Vec<u8>,
    held: VecDeque<(Instant, Handshake)>,
    outgoing: Vec<(Node, Vec<u8>)>,
    happenings: Vec<Happening>,
    setbacks: Vec<(SessionId, Fault)>,
    payloads: Vec<Vec<u8>>,
    faults: Vec<Fault>,
}

impl Peer {
    pub(super) fn new(node: Node, seed: u64, setup: &Setup, now: Instant) -> Self {
        let Some(provider) = setup.beneath.or(PROVIDERS.first().copied()) else {
            panic!("this build has no cryptographic provider")
        };
        let seed = seed << 16 | u64::from(node);
        let keys = KeyLog::new(provider, seed);
        let key = static_key(&keys, seed);
        Self {
            node,
            context: context(&key, setup, &keys),
            store: Arc::default(),
            answer: Answer::Accept,
            pool: Pool::AtOnce,
            keys,
            keys_per_session: 1,
            sessions: Vec::new(),
            identities: Vec::new(),
            undecided: VecDeque::new(),
            is_alive: true,
            bond: None,
            is_completing: false,
            setup: setup.clone(),
            key,
            now,
            random: Xoshiro256PlusPlus::seed_from_u64(seed),
            scratch: Scratch::new(),
            in_place: false,
            payload: Vec::new(),
            held: VecDeque::new(),
            outgoing: Vec::new(),
            happenings: Vec::new(),
            setbacks: Vec::new(),
            payloads: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// Its static public key.
    pub fn public_key(&self) -> zssp_proto::PublicKey {
        self.key.public()
    }

    /// Its address, as the context of others sees it.
    pub fn address(&self) -> Address {
        address(self.node)
    }

    /// What its context holds.
    pub fn stats(&self) -> Stats {
        self.context.stats()
    }

    /// The process dies and comes back: all sessions are gone, the key and the store are there.
    pub fn restart(&mut self) {
        self.kill();
        self.is_alive = true;
    }

    /// The process dies: it hears and says nothing before [`restart`](Self::restart). Its store can do that too, see
    /// [`FlakyStore::kill_after`].
    pub fn kill(&mut self) {
        self.context = context(&self.key, &self.setup, &self.keys);
        self.scratch = Scratch::new();
        self.held.clear();
        self.undecided.clear();
        self.outgoing.clear();
        self.sessions.clear();
        self.keys_per_session = 1;
        self.bond = None;
        self.is_completing = false;
        self.is_alive = false;
    }

    /// Whether the process lives.
    pub fn is_alive(&self) -> bool {
        self.is_alive
    }

    /// The ratchet state with which the latest session opened, as long as it is open: the same on both sides, and of no
    /// other session.
    pub fn bond(&self) -> Option<Fingerprint> {
        self.bond.map(|(_, fingerprint)| fingerprint)
    }

    /// The ratchet states of the sessions with `peer` in which it can read payloads: that of the latest, and that of one
    /// whose X2 it has read (state A3).
    pub(super) fn reads(&self, peer: zssp_proto::PublicKey) -> Vec<Fingerprint> {
        let completing = if self.is_completing { self.store.look(peer) } else { None };
        self.bond().into_iter().chain(completing.map(|pair| *pair.first.fingerprint())).collect()
    }

    /// The application closes a session, or gives up opening it.
    pub fn close(&mut self, id: SessionId) {
        self.context.close(id);
        self.bond.take_if(|(bound, _)| *bound == id);
        self.is_completing = false;
    }

    /// The disk dies too: nobody is remembered. To be followed by [`restart`](Self::restart).
    pub fn forget_everyone(&mut self) {
        self.store = Arc::default();
    }

    /// Opens a session with `peer`.
    ///
    /// # Panics
    /// When that is refused.
    pub fn open(&mut self, peer: &Self) -> SessionId {
        self.open_with(Open::to(peer.public_key(), peer.address()))
            .unwrap_or_else(|error| panic!("not opened: {error}"))
    }

    /// Opens a session as `open` says.
    ///
    /// # Errors
    /// Those of [`Context::open`].
    pub fn open_with(&mut self, open: Open) -> Result<SessionId, OpenError> {
        let (id, handshake) = self.context.open(self.now, open)?;
        self.submit(handshake);
        Ok(id)
    }

    /// Agrees with the peer on another key for the latest session.
    ///
    /// # Panics
    /// When there is no such session.
    pub fn rekey(&mut self) {
        let id = self.session().id();
        let Some(handshake) = self.context.rekey(id) else { panic!("node {} has no session", self.node) };
        self.submit(handshake);
    }

    /// The latest session.
    ///
    /// # Panics
    /// When none was ever established.
    pub fn session(&self) -> &Session {
        self.sessions.last().unwrap_or_else(|| panic!("node {} never had a session", self.node))
    }

    /// Whether a session was ever established.
    pub fn has_session(&self) -> bool {
        !self.sessions.is_empty()
    }

    /// Sends a payload in the latest session.
    ///
    /// # Panics
    /// When it cannot be sealed.
    pub fn send(&mut self, payload: &[u8]) {
        assert!(self.try_send(payload), "node {} cannot seal", self.node);
    }

    /// Sends a payload in the latest session; `false` when it cannot be sealed.
    pub fn try_send(&mut self, payload: &[u8]) -> bool {
        let session = self.session().clone();
        let Ok(len) = Session::sealed_len(payload.len(), self.setup.mtu) else { return false };
        let mut buffer = vec![0; len];
        let Ok(sealed) = session.seal(payload, self.setup.mtu, &mut buffer) else { return false };
        let to = node(session.address());
        self.outgoing.extend(sealed.datagrams(&buffer).map(|datagram| (to, datagram.to_vec())));
        true
    }

    /// Reads a datagram that came from node `from`: in place and out of a buffer that stays as it is, by turns, for
    /// both must lead to the same.
    pub fn receive(&mut self, from: Node, mut datagram: Vec<u8>) {
        if !self.is_alive {
            return;
        }
        self.in_place = !self.in_place;
        let (now, address) = (self.now, address(from));
        let received = if self.in_place {
            self.context.receive(now, address, &mut datagram, &mut self.scratch)
        } else {
            let datagram = Datagram { from: address, bytes: &datagram };
            self.context.receive_into(now, datagram, &mut self.scratch, &mut self.payload)
        };
        match received {
            Ok(Received::Handshake(handshake)) => self.submit(handshake),
            Ok(Received::Reply(datagram)) => self.outgoing.push((from, datagram.to_vec())),
            Ok(Received::Nothing) => {}
            Ok(Received::Payload { bytes, .. }) => self.payloads.push(bytes.to_vec()),
            Err(fault) => self.faults.push(fault),
        }
    }

    /// Ends a batch of datagrams.
    pub fn flush(&mut self) {
        loop {
            let flushed = if self.in_place {
                self.context.flush(self.now, &mut self.scratch)
            } else {
                self.context.flush_into(self.now, &mut self.scratch, &mut self.payload)
            };
            match flushed {
                Ok(Received::Handshake(handshake)) => self.submit(handshake),
                Ok(Received::Nothing | Received::Reply(_)) => return,
                Ok(Received::Payload { bytes, .. }) => self.payloads.push(bytes.to_vec()),
                Err(fault) => self.faults.push(fault),
            }
        }
    }

    /// When it next wants to do something.
    pub fn next_deadline(&self) -> Option<Instant> {
        let held = match self.pool {
            Pool::Late(_) | Pool::Worker { .. } => self.held.iter().map(|(ready, _)| *ready).min(),
            _ => None,
        };
        held.into_iter().chain(self.context.next_deadline()).min()
    }

    /// Does what is due.
    pub fn meet_deadlines(&mut self) {
        while let Some(handshake) = self.context.expired(self.now) {
            self.submit(handshake);
        }
        if let Pool::Late(_) | Pool::Worker { .. } = self.pool {
            let (due, rest) = self.held.drain(..).partition(|(ready, _)| *ready <= self.now);
            self.held = rest;
            let due: VecDeque<_> = due;
            due.into_iter().for_each(|(_, handshake)| self.run(handshake));
        }
    }

    /// Does all the work that was held back.
    pub fn run_held(&mut self) {
        for (_, handshake) in core::mem::take(&mut self.held) {
            self.run(handshake);
        }
    }

    /// Forgets all the work that was held back, and says how much it was.
    pub fn drop_held(&mut self) -> usize {
        core::mem::take(&mut self.held).len()
    }

    /// Answers the question that has waited longest.
    ///
    /// # Panics
    /// When there is none.
    pub fn decide(&mut self, answer: Answer) {
        let Some(authorize) = self.undecided.pop_front() else { panic!("nobody asked") };
        self.answer(authorize, answer);
    }

    /// No handshake waits, no fragment is kept, each key id is that of a session, and there is nothing left to do before
    /// the sessions rekey.
    ///
    /// # Panics
    /// When that is not so; `what` says in which case.
    pub fn assert_at_rest(&self, what: &str) {
        let stats = self.stats();
        assert_eq!((stats.pending_handshakes, stats.reassembly_bytes), (0, 0), "{what}: node {}", self.node);
        let key_ids = stats.sessions * self.keys_per_session;
        assert_eq!(stats.key_ids, key_ids, "{what}: node {}", self.node);
        assert!(self.is_idle(), "{what}: node {}", self.node);
    }

    /// Whether there is nothing to do before the sessions rekey.
    pub fn is_idle(&self) -> bool {
        self.next_deadline().is_none_or(|deadline| deadline > self.now + REST)
    }

    /// What happened since the last call.
    pub fn take_happenings(&mut self) -> Vec<Happening> {
        core::mem::take(&mut self.happenings)
    }

    /// The payloads that came since the last call.
    pub fn take_payloads(&mut self) -> Vec<Vec<u8>> {
        core::mem::take(&mut self.payloads)
    }

    /// Why packets were dropped since the last call.
    pub fn take_faults(&mut self) -> Vec<Fault> {
        core::mem::take(&mut self.faults)
    }

    /// Whose work led nowhere since the last call, and why.
    pub fn take_setbacks(&mut self) -> Vec<(SessionId, Fault)> {
        core::mem::take(&mut self.setbacks)
    }

    /// The datagrams sent since the last call that have not entered the network, with their receivers.
    pub fn take_outgoing(&mut self) -> Vec<(Node, Vec<u8>)> {
        core::mem::take(&mut self.outgoing)
    }

    /// Has `datagram` leave for `to` with whatever else waits to enter the network.
    pub fn put_back(&mut self, to: Node, datagram: Vec<u8>) {
        self.outgoing.push((to, datagram));
    }

    pub(super) fn set_now(&mut self, now: Instant) {
        self.now = now;
    }

    fn submit(&mut self, handshake: Handshake) {
        match self.pool {
            Pool::AtOnce => self.run(handshake),
            Pool::Held => self.held.push_back((self.now, handshake)),
            Pool::Late(time) => self.held.push_back((self.now + time, handshake)),
            Pool::Worker { queue, .. } if self.held.len() >= queue && is_hello(&handshake) => {
                self.context.report_overload(self.now);
            }
            Pool::Worker { each, .. } => {
                let first_hello = || self.held.iter().position(|(_, held)| is_hello(held));
                let last = self.held.len();
                let place = if is_hello(&handshake) { last } else { first_hello().unwrap_or(last) };
                let before = place.checked_sub(1).map_or(self.now, |before| self.held[before].0);
                self.held.range_mut(place..).for_each(|(ready, _)| *ready += each);
                self.held.insert(place, (before.max(self.now) + each, handshake));
            }
            Pool::Losing(probability) => {
                if !self.random.random_bool(probability) {
                    self.run(handshake);
                }
            }
        }
    }

    fn run(&mut self, handshake: Handshake) {
        let mut outbox = Outbox::default();
        if !self.is_alive {
            return;
        }
        let is_answer = matches!(handshake.origin(), Some(Origin::Handshake(_)));
        let session = handshake.session();
        if let Err(fault) = handshake.run(self.now, &*self.store, &mut outbox) {
            self.faults.push(fault);
            self.setbacks.extend(session.map(|session| (session, fault)));
        }
        if self.store.has_killed() {
            self.kill();
            return;
        }
        // Of the answers X2, X3 and a challenge, only X2 has something sent: X3, or another hello, which has no key id.
        for transmit in &outbox.transmits {
            let is_hello = transmit.datagrams().any(|datagram| datagram.starts_with(&[0; 4]));
            self.is_completing = !is_hello && (is_answer || self.is_completing);
        }
        for event in outbox.events {
            let happening = match event {
                Event::Authorize(authorize) => {
                    self.happenings.push(Happening::Asked);
                    self.identities.push(authorize.identity().to_vec());
                    self.answer(authorize, self.answer);
                    continue;
                }
                Event::Downgraded { .. } => Happening::Downgraded,
                Event::DowngradeRefused { .. } => Happening::DowngradeRefused,
                Event::Ended { id, reason } => {
                    self.bond.take_if(|(bound, _)| *bound == id);
                    self.is_completing = false;
                    Happening::Ended(reason)
                }
                Event::Established { session, role } => {
                    self.is_completing = false;
                    let pair = self.store.look(session.peer_key());
                    self.bond = pair.map(|pair| (session.id(), *pair.first.fingerprint()));
                    self.sessions.push(session);
                    Happening::Established(role)
                }
                Event::StoreFailed { .. } => Happening::StoreFailed,
                other => panic!("an event that nobody told the harness about: {other:?}"),
            };
            self.happenings.push(happening);
        }
        for transmit in &outbox.transmits {
            let to = node(transmit.to());
            self.outgoing.extend(transmit.datagrams().map(|datagram| (to, datagram.to_vec())));
        }
    }

    fn answer(&mut self, authorize: Authorize, answer: Answer) {
        match answer {
            Answer::Accept => {
                let name = peer_name(authorize.peer_key(), authorize.identity());
                self.submit(authorize.accept(name));
            }
            Answer::AcceptWith(policy) => {
                let name = peer_name(authorize.peer_key(), authorize.identity());
                self.submit(authorize.accept_with(name, policy));
            }
            Answer::Ignore => authorize.ignore(),
            Answer::Later => self.undecided.push_back(authorize),
            Answer::Refuse => self.submit(authorize.refuse()),
            Answer::RefuseWith(rejection) => self.submit(authorize.refuse_with(rejection)),
        }
    }
}

fn is_hello(handshake: &Handshake) -> bool {
    matches!(handshake.origin(), Some(Origin::Stranger(_)))
}

fn context(key: &StaticKey, setup: &Setup, keys: &KeyLog) -> Context {
    let provider = setup.provider.clone().unwrap_or_else(|| Arc::new(keys.clone()));
    Context::builder(key.clone(), provider)
        .accept(setup.suites.clone())
        .challenging(setup.challenging)
        .limits(setup.limits)
        .mtu(setup.mtu)
        .policy(setup.policy)
        .build()
        .unwrap_or_else(|error| panic!("no context: {error}"))
}

/// The static key that this seed stands for: of two peers, the same one always has the larger.
fn static_key(provider: &KeyLog, seed: u64) -> StaticKey {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(!seed);
    let mut secret = [0; 48];
    loop {
        random.fill(&mut secret);
        // Only a scalar above the order of the group is none, which is one in 2^190.
        if let Ok(key) = StaticKey::from_secret(&Secret::new(secret), provider) {
            return key;
        }
    }
}

/// The link address of a node.
fn address(node: Node) -> Address {
    LinkAddress::new(&node.to_be_bytes())
        .map_or_else(|| panic!("two bytes are a link address"), Address::Link)
}

/// The node of a link address.
fn node(address: Address) -> Node {
    match address {
        Address::Link(link) => link.as_bytes().try_into().map_or(0, Node::from_be_bytes),
        Address::Socket(_) => 0,
    }
}

/// Who a peer is: its key, and one of many under that key if it says so.
fn peer_name(key: zssp_proto::PublicKey, identity: &[u8]) -> PeerName {
    PeerName::new(&[&key.as_bytes()[..], identity].concat())
}
