//! Sessions between two of our own sides, recorded in the format of `testing/vectors`.

use std::sync::Arc;

use zssp_proto::crypto::{Provider, ProviderError};
use zssp_proto::{Policy, Session, StaticKey};
use zssp_sim::vectors::{Event, Flags, RatchetPair, RatchetState, Scenario, Sides, Who};

use crate::side::{Setup, Side, Verdict};

/// A session to be recorded.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its name.
    pub name: &'static str,
    /// What is special about it, in words.
    pub description: &'static str,
    /// The datagram limit of both sides, in bytes.
    pub mtu: usize,
    /// What Alice says about herself.
    pub identity: Vec<u8>,
    /// What the sides remember of each other.
    pub ratchets: Sides<RatchetPair>,
    /// What Bob's application decides.
    pub verdict: Verdict,
    /// The lengths of the payloads and who sends them.
    pub payloads: Vec<(Who, usize)>,
}

/// The sessions that [`record`] is for: first contact in every state that the ratchets can be in, both ways to be
/// turned away, and packets of every size class.
pub fn plans() -> Vec<Plan> {
    let never_met = || RatchetPair { state1: state(0, 0), state2: None };
    let plan = |name, description| Plan {
        name,
        description,
        mtu: 1500,
        identity: b"alice".to_vec(),
        ratchets: Sides { alice: never_met(), bob: never_met() },
        verdict: Verdict::Accept,
        payloads: vec![(Who::Alice, 1)],
    };
    let remembering =
        |name, description, alice, bob| Plan { ratchets: Sides { alice, bob }, ..plan(name, description) };
    let one = |chain_len| RatchetPair { state1: state(chain_len, 1), state2: None };
    let two = || RatchetPair { state1: state(6, 1), state2: Some(state(5, 1)) };
    let largest = Session::max_payload_len(1280);

    vec![
        Plan {
            payloads: [0, 1, 3, 4, 100, 1467, 1468, 1469, 4000, 16384]
                .into_iter()
                .flat_map(|len| [(Who::Alice, len), (Who::Bob, len + 1)])
                .collect(),
            ..plan("fresh", "first contact with empty ratchets, data both ways")
        },
        Plan {
            mtu: 128,
            identity: Vec::new(),
            payloads: vec![(Who::Alice, 5000), (Who::Bob, 777)],
            ..plan("fresh-small-mtu", "first contact at the smallest MTU")
        },
        Plan {
            mtu: 9000,
            payloads: vec![(Who::Alice, 8968), (Who::Bob, 8969)],
            ..plan("jumbo-frames", "first contact in which every handshake packet is one datagram")
        },
        Plan {
            mtu: 1280,
            payloads: vec![(Who::Alice, largest), (Who::Bob, largest)],
            ..plan("largest-payload", "payloads of 48 fragments")
        },
        Plan { mtu: 1280, identity: bytes(4096), ..plan("max-identity", "4096-byte identity") },
        remembering("known-ratchet", "both remember one ratchet state", one(5), one(5)),
        remembering("downgrade", "responder lost its ratchet", one(6), never_met()),
        remembering(
            "downgrade-with-two",
            "responder lost its ratchet, initiator holds two",
            two(),
            never_met(),
        ),
        remembering("initiator-lost", "initiator lost its ratchet", never_met(), one(6)),
        remembering("responder-behind", "initiator holds two states, responder the first", two(), one(6)),
        remembering("responder-older", "initiator holds two states, responder the second", two(), one(5)),
        remembering(
            "responder-holds-two",
            "initiator holds one state, responder it and one before",
            one(6),
            two(),
        ),
        Plan {
            verdict: Verdict::Refuse,
            payloads: Vec::new(),
            ..plan("rejected", "responder rejects the identity")
        },
        Plan {
            verdict: Verdict::Ignore,
            payloads: Vec::new(),
            ..plan("rejected-silently", "responder ignores the identity")
        },
    ]
}

/// Runs a session and writes down what both sides do.
///
/// # Errors
/// When the provider fails.
///
/// # Panics
/// When `variant` is not one of [`VARIANTS`](crate::VARIANTS), or the MTU is too small.
pub fn record(plan: &Plan, variant: &str, provider: &Arc<dyn Provider>) -> Result<Scenario, ProviderError> {
    let suite = crate::suite(variant).expect("a known variant");
    let keys = Sides { alice: StaticKey::generate(&**provider)?, bob: StaticKey::generate(&**provider)? };
    let side = |who: Who| {
        let setup = Setup {
            who,
            suite,
            mtu: plan.mtu,
            static_secret: *keys.of(who).secret().expose(),
            peer: *keys.of(who.peer()).public().as_bytes(),
            ratchets: plan.ratchets.of(who).clone(),
            policy: Policy::default(),
            verdict: plan.verdict,
            script: None,
        };
        Side::new(setup, provider.clone())
    };
    let mut pair = Pair { sides: Sides { alice: side(Who::Alice), bob: side(Who::Bob) }, events: Vec::new() };
    pair.note();
    pair.step(Who::Alice, |alice| alice.open(&plan.identity));
    for (who, len) in &plan.payloads {
        pair.step(*who, |side| side.send_payload(&bytes(*len)));
    }

    let Pair { sides, events } = pair;
    Ok(Scenario {
        variant: variant.into(),
        description: plan.description.into(),
        events,
        final_ratchets: Sides { alice: sides.alice.remembered(), bob: sides.bob.remembered() },
        flags: Sides {
            alice: Flags::default(),
            bob: Flags {
                reject: plan.verdict != Verdict::Accept,
                responder_silently_rejects: plan.verdict == Verdict::Ignore,
                ..Flags::default()
            },
        },
        initial_ratchets: plan.ratchets.clone(),
        mtu: plan.mtu,
        name: plan.name.into(),
    })
}

/// Two sides and nothing between them.
struct Pair {
    sides: Sides<Side>,
    events: Vec<Event>,
}

impl Pair {
    /// Has `who` do something, and then both read what the other sent until nothing is under way.
    fn step(&mut self, who: Who, action: impl FnOnce(&mut Side)) {
        action(self.side(who));
        self.note();
        let mut receiver = who.peer();
        loop {
            let datagrams = self.side(receiver.peer()).take_sent();
            if datagrams.is_empty() {
                return;
            }
            for datagram in datagrams {
                self.side(receiver).receive(&datagram);
                self.note();
            }
            receiver = receiver.peer();
        }
    }

    fn side(&mut self, who: Who) -> &mut Side {
        match who {
            Who::Alice => &mut self.sides.alice,
            Who::Bob => &mut self.sides.bob,
        }
    }

    fn note(&mut self) {
        for who in [Who::Alice, Who::Bob] {
            let done = self.sides.of(who).take_trace();
            self.events.extend(done.into_iter().map(|op| Event { op, who }));
        }
    }
}

/// A ratchet state that both sides can be given. `seed` 0 is the state of peers that never met.
fn state(chain_len: u64, seed: u8) -> RatchetState {
    // The chain length tells the states of one seed apart.
    let byte = seed.wrapping_mul(chain_len as u8);
    RatchetState { chain_len, fingerprint: [byte.wrapping_mul(2); 32], key: [byte.wrapping_mul(3); 32] }
}

/// Bytes of a payload that say how many there are and where each belongs.
fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (len + 7 * i) as u8).collect()
}
