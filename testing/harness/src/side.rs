//! One peer in memory, driven a datagram at a time.

use std::sync::Arc;
use std::time::Duration;

use zssp_proto::crypto::{Provider, Secret};
use zssp_proto::{
    Address, Context, Downgrade, EndReason, Event, Handshake, Hellos, LinkAddress, Open, Outbox, PeerName,
    Policy, PublicKey, Received, Rejection, Role, Scratch, Session, StaticKey, Suite,
};
use zssp_sim::Clock;
use zssp_sim::vectors::{Flags, Op, RatchetPair, Seen, Who};

use crate::script::Script;
use crate::store::TracedStore;
use crate::tap::Tap;
use crate::trace::Trace;

/// What a side starts from.
#[derive(Debug)]
pub struct Setup {
    /// Which side it is.
    pub who: Who,
    /// What a session is opened with, or has to be opened with.
    pub suite: Suite,
    /// The datagram limit, in bytes.
    pub mtu: usize,
    /// The secret scalar of its static key.
    pub static_secret: [u8; 48],
    /// The peer's static public key.
    pub peer: [u8; 49],
    /// What it remembers of the peer.
    pub ratchets: RatchetPair,
    /// The security flags.
    pub policy: Policy,
    /// What Bob answers to whoever asks.
    pub verdict: Verdict,
    /// What is drawn instead of fresh keys.
    pub script: Option<Script>,
}

/// What Bob answers to whoever wants a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Welcome.
    Accept,
    /// Silence.
    Ignore,
    /// A rejection.
    Refuse,
}

impl Verdict {
    /// What a recording's flags say.
    pub fn of(flags: &Flags) -> Self {
        match (flags.reject, flags.responder_silently_rejects) {
            (false, _) => Self::Accept,
            (true, false) => Self::Refuse,
            (true, true) => Self::Ignore,
        }
    }
}

/// The policy that a recording's flags stand for.
pub fn policy(flags: &Flags) -> Policy {
    let downgrade = |refused| if refused { Downgrade::Refuse } else { Downgrade::Warn };
    let mut policy = Policy::OPPORTUNISTIC;
    if flags.hello_requires_recognized_ratchet {
        policy.hellos = Hellos::WithKnownRatchet;
    }
    policy.as_initiator = downgrade(flags.initiator_disallows_downgrade);
    policy.as_responder = downgrade(flags.responder_disallows_downgrade);
    if flags.responder_silently_rejects {
        policy.rejection = Rejection::Silent;
    }
    policy
}

/// A peer. What it does is written to its trace, and what it sends waits in [`take_sent`](Self::take_sent).
///
/// Its clock moves only in [`wait`](Self::wait): nothing is sent again, and nothing ends by itself.
pub struct Side {
    who: Who,
    suite: Suite,
    mtu: usize,
    peer: PublicKey,
    verdict: Verdict,
    context: Context,
    tap: Arc<Tap>,
    store: TracedStore,
    trace: Trace,
    clock: Clock,
    scratch: Scratch,
    session: Option<Session>,
    sent: Vec<Vec<u8>>,
}

/// How long a process waits for what the one before it may have left under way.
const CAREFUL: Duration = Duration::from_secs(10);

impl Side {
    /// A peer with the cryptography of `provider`.
    ///
    /// # Panics
    /// When a key is not valid or the MTU is too small.
    pub fn new(setup: Setup, provider: Arc<dyn Provider>) -> Self {
        let Setup { who, suite, mtu, static_secret, peer, ratchets, policy, verdict, script } = setup;
        let key = StaticKey::from_secret(&Secret::new(static_secret), &*provider).expect("a static key");
        let peer = PublicKey::from_bytes(peer, &*provider).expect("a public key");
        let trace = Trace::default();
        trace.push(Op::P384StaticKeypair { public: *key.public().as_bytes(), secret: static_secret });
        let tap = Arc::new(Tap::new(provider, script, trace.clone()));
        let context = Context::builder(key, tap.clone())
            .accept(accepted(suite))
            .policy(policy)
            .mtu(mtu)
            .build()
            .expect("settings");
        Self {
            who,
            suite,
            mtu,
            peer,
            verdict,
            context,
            tap,
            store: TracedStore::new(&PeerName::from(peer), &ratchets, trace.clone()),
            trace,
            clock: Clock::new(),
            scratch: Scratch::new(),
            session: None,
            sent: Vec::new(),
        }
    }

    /// Opens a session with the peer.
    pub fn open(&mut self, identity: &[u8]) {
        let open =
            Open::to(self.peer, address(self.who.peer())).identity(identity.to_vec()).suite(self.suite);
        // The first hellos of a process are careful about the older of two ratchet states (docs/protocol.md, 5.5), and
        // those who are recorded are not: this is a later one. An attempt that comes to nothing is the first.
        if let Ok((id, handshake)) = self.context.open(self.clock.now(), open.clone()) {
            self.context.close(id);
            let stale = handshake.run(self.clock.now(), &self.store, &mut Outbox::default());
            assert!(stale.is_err(), "it is closed");
            self.clock.advance(CAREFUL);
        }
        match self.context.open(self.clock.now(), open) {
            Ok((_, handshake)) => self.run(handshake, None),
            Err(error) => self.fault(error),
        }
    }

    /// Lets time pass, and does what is due then.
    pub fn wait(&mut self, time: Duration) {
        self.clock.advance(time);
        while let Some(handshake) = self.context.expired(self.clock.now()) {
            self.run(handshake, None);
        }
    }

    /// Reads one datagram of the peer's.
    pub fn receive(&mut self, datagram: &[u8]) {
        let kid = datagram.first_chunk::<4>().copied();
        let (now, from, mut datagram) = (self.clock.now(), address(self.who.peer()), datagram.to_vec());
        match self.context.receive(now, from, &mut datagram, &mut self.scratch) {
            Ok(Received::Handshake(handshake)) => self.run(handshake, kid),
            Ok(Received::Nothing) => {}
            Ok(Received::Reply(challenge)) => self.send(vec![challenge.to_vec()]),
            Ok(Received::Payload { bytes, .. }) => {
                self.trace.push(Op::Event(Seen::Data { payload: bytes.to_vec() }));
            }
            Err(fault) => self.fault(fault),
        }
    }

    /// Sends a payload.
    pub fn send_payload(&mut self, payload: &[u8]) {
        self.trace.push(Op::SendPayload { payload: payload.to_vec() });
        let Some(session) = &self.session else { return self.fault("there is no session") };
        let mut buffer = vec![0; Session::sealed_len(payload.len(), self.mtu).unwrap_or(0)];
        match session.seal(payload, self.mtu, &mut buffer) {
            Ok(sealed) => {
                let datagrams = sealed.datagrams(&buffer).map(<[u8]>::to_vec).collect();
                self.send(datagrams);
            }
            Err(error) => self.fault(error),
        }
    }

    /// The datagrams sent since the last call.
    pub fn take_sent(&mut self) -> Vec<Vec<u8>> {
        core::mem::take(&mut self.sent)
    }

    /// What the side did since the last call.
    pub fn take_trace(&self) -> Vec<Op> {
        self.trace.take()
    }

    /// What its store holds of the peer.
    pub fn remembered(&self) -> RatchetPair {
        self.store.remembered(&PeerName::from(self.peer))
    }

    /// Whether everything in its script was drawn.
    pub fn is_spent(&self) -> bool {
        self.tap.is_spent()
    }

    /// Runs a handshake, and what its events ask for. `kid` is that of the packet it came from.
    fn run(&mut self, handshake: Handshake, kid: Option<[u8; 4]>) {
        let mut outbox = Outbox::default();
        let ran = handshake.run(self.clock.now(), &self.store, &mut outbox);
        // A packet of an opening or open session that the application need not know of.
        if ran.is_ok() && outbox.events.is_empty() && kid.is_some_and(|kid| kid != [0; 4]) {
            self.trace.push(Op::Event(Seen::Control));
        }
        let downgraded = outbox.events.iter().any(|event| matches!(event, Event::Downgraded { .. }));
        for event in outbox.events {
            self.handle(event, downgraded);
        }
        let mut datagrams = Vec::new();
        for transmit in &outbox.transmits {
            assert_eq!(transmit.to(), address(self.who.peer()), "sent to a stranger");
            datagrams.extend(transmit.datagrams().map(<[u8]>::to_vec));
        }
        if !datagrams.is_empty() {
            self.send(datagrams);
        }
        if let Err(fault) = ran {
            self.fault(fault);
        }
    }

    fn handle(&mut self, event: Event, downgraded: bool) {
        match event {
            Event::Authorize(authorize) => {
                let peer = authorize.peer_key();
                self.trace.push(Op::CheckAccept {
                    identity: authorize.identity().to_vec(),
                    remote_static: *peer.as_bytes(),
                });
                match self.verdict {
                    Verdict::Accept => self.run(authorize.accept(peer), None),
                    Verdict::Ignore => {
                        self.fault("Rejected");
                        authorize.ignore();
                    }
                    Verdict::Refuse => {
                        self.fault("Rejected");
                        self.run(authorize.refuse(), None);
                    }
                }
            }
            // Bob's comes with his session and is told with it.
            Event::Downgraded { .. } if self.who == Who::Bob => {}
            Event::Downgraded { .. } => self.trace.push(Op::Event(Seen::DowngradedRatchetKey)),
            Event::Ended { reason: EndReason::Rejected, .. } => self.trace.push(Op::Event(Seen::Rejected)),
            Event::DowngradeRefused { .. } => self.fault("FailedAuth"),
            Event::Established { session, role } => {
                assert_eq!((session.suite(), session.peer_key()), (self.suite, self.peer));
                self.session = Some(session);
                self.trace.push(Op::Event(match (role, downgraded) {
                    (Role::Initiator, _) => Seen::Established,
                    (Role::Responder, false) => Seen::NewSession,
                    (Role::Responder, true) => Seen::NewDowngradedSession,
                }));
            }
            other => self.fault(format_args!("{other:?}")),
        }
    }

    fn send(&mut self, datagrams: Vec<Vec<u8>>) {
        self.trace.push(Op::Send { dropped: false, fragments: datagrams.clone() });
        self.sent.extend(datagrams);
    }

    fn fault(&self, error: impl core::fmt::Display) {
        self.trace.push(Op::ReceiveError { error: error.to_string() });
    }
}

/// What Bob accepts: the suite in question, after one that he has to try in vain.
fn accepted(suite: Suite) -> [Suite; 2] {
    match suite {
        Suite::Kyber1024 | Suite::Zssp04 => [Suite::MlKem1024, suite],
        Suite::MlKem1024 => [Suite::Kyber1024, suite],
    }
}

fn address(who: Who) -> Address {
    let name: &[u8] = match who {
        Who::Alice => b"alice",
        Who::Bob => b"bob",
    };
    Address::Link(LinkAddress::new(name).expect("a short name"))
}
