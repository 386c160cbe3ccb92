//! A recorded session against one of our own sides.

use core::fmt;
use std::sync::Arc;

use zssp_proto::crypto::Provider;
use zssp_sim::vectors::{Event, Op, RatchetPair, Scenario, Who};

use crate::script::Script;
use crate::side::{Setup, Side, Verdict};
use crate::trace::{Divergence, compare};

/// How much of a scenario can be replayed with what is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Nothing.
    Nothing(Reason),
    /// The first so many events.
    UpTo(usize, Reason),
    /// Everything.
    Whole,
}

/// Why a scenario, or the rest of one, cannot be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Bob challenges the hello.
    Challenge,
    /// A security flag decides the outcome.
    Flag(&'static str),
    /// A packet is lost, and the recorded clock is not known.
    Loss,
    /// The session rekeys.
    Rekey,
    /// The variant is not one of [`VARIANTS`](crate::VARIANTS).
    Variant,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Challenge => f.write_str("it challenges"),
            Self::Flag(name) => write!(f, "its flag {name} decides the outcome"),
            Self::Loss => f.write_str("it loses packets"),
            Self::Rekey => f.write_str("it rekeys"),
            Self::Variant => f.write_str("its variant is unknown"),
        }
    }
}

/// How much of `scenario` can be replayed. Computed from what is in it, whatever it is called.
pub fn scope(scenario: &Scenario) -> Scope {
    if crate::suite(&scenario.variant).is_none() {
        return Scope::Nothing(Reason::Variant);
    }
    if scenario.flags.bob.challenge {
        return Scope::Nothing(Reason::Challenge);
    }
    if scenario.events.iter().any(|event| matches!(event.op, Op::Send { dropped: true, .. })) {
        return Scope::Nothing(Reason::Loss);
    }
    if let Some(flag) = decisive_flag(scenario) {
        return Scope::Nothing(Reason::Flag(flag));
    }
    match rekeying(&scenario.events) {
        Some(start) => Scope::UpTo(start, Reason::Rekey),
        None => Scope::Whole,
    }
}

/// The flag without which the session would have gone on differently. Most are set where they change nothing. What
/// Bob's application decides is not among them: it decides in a replay too.
fn decisive_flag(scenario: &Scenario) -> Option<&'static str> {
    let (alice, bob) = (&scenario.initial_ratchets.alice, &scenario.initial_ratchets.bob);
    let recognised = named(alice).any(|fingerprint| named(bob).any(|other| other == fingerprint));
    if recognised {
        return None;
    }
    let flags = &scenario.flags;
    if flags.bob.hello_requires_recognized_ratchet {
        return Some("hello_requires_recognized_ratchet");
    }
    if flags.alice.initiator_disallows_downgrade && named(alice).count() > 0 {
        return Some("initiator_disallows_downgrade");
    }
    if flags.bob.responder_disallows_downgrade && named(bob).count() > 0 {
        return Some("responder_disallows_downgrade");
    }
    None
}

/// The fingerprints of a pair that are not zero.
fn named(pair: &RatchetPair) -> impl Iterator<Item = &[u8; 32]> {
    let states = core::iter::once(&pair.state1).chain(&pair.state2);
    states.map(|state| &state.fingerprint).filter(|fingerprint| **fingerprint != [0; 32])
}

/// Where the first side generates its second ephemeral key pair.
fn rekeying(events: &[Event]) -> Option<usize> {
    let mut generated = [0; 2];
    events.iter().position(|event| {
        let count = &mut generated[usize::from(event.who == Who::Bob)];
        *count += usize::from(matches!(event.op, Op::P384Keypair { .. }));
        *count > 1
    })
}

/// Has our core play `who` with the cryptography of `provider`, and the recording the other side. Everything our side
/// sends, stores, tells and keys its ciphers with has to be what was recorded, as far as [`scope`] says.
///
/// # Errors
/// The first difference.
pub fn replay(scenario: &Scenario, who: Who, provider: Arc<dyn Provider>) -> Result<(), Divergence> {
    let malformed = |what: &str| Divergence(format!("not a session: {what}"));
    let suite = crate::suite(&scenario.variant).ok_or_else(|| malformed("unknown variant"))?;
    let (events, is_whole) = match scope(scenario) {
        Scope::Nothing(reason) => return Err(Divergence(format!("not replayed: {reason}"))),
        Scope::UpTo(count, _) => (&scenario.events[..count], false),
        Scope::Whole => (&scenario.events[..], true),
    };
    let (static_secret, _) = static_pair(events, who).ok_or_else(|| malformed("no static key"))?;
    let (_, peer) = static_pair(events, who.peer()).ok_or_else(|| malformed("no static key of the peer"))?;
    let setup = Setup {
        who,
        suite,
        mtu: scenario.mtu,
        static_secret,
        peer,
        ratchets: scenario.initial_ratchets.of(who).clone(),
        verdict: Verdict::of(&scenario.flags.bob),
        script: Some(Script::of(who, events)),
    };
    let mut side = Side::new(setup, provider);
    if who == Who::Alice {
        // Only Bob was told it, so a session that did not come that far needs none.
        side.open(identity(events).unwrap_or(&[]));
    }
    for event in events {
        match &event.op {
            Op::Send { fragments, .. } if event.who != who => {
                fragments.iter().for_each(|datagram| side.receive(datagram));
            }
            Op::SendPayload { payload } if event.who == who => side.send_payload(payload),
            _ => {}
        }
    }

    let recorded: Vec<Op> =
        events.iter().filter(|event| event.who == who).map(|event| event.op.clone()).collect();
    compare(&recorded, &side.take_trace())?;
    if !side.is_spent() {
        return Err(Divergence("not every recorded key was used".into()));
    }
    if is_whole && side.remembered() != *scenario.final_ratchets.of(who) {
        return Err(Divergence("other ratchets remain".into()));
    }
    Ok(())
}

fn static_pair(events: &[Event], who: Who) -> Option<([u8; 48], [u8; 49])> {
    events.iter().find_map(|event| match event.op {
        Op::P384StaticKeypair { public, secret } if event.who == who => Some((secret, public)),
        _ => None,
    })
}

fn identity(events: &[Event]) -> Option<&[u8]> {
    events.iter().find_map(|event| match &event.op {
        Op::CheckAccept { identity, .. } => Some(&identity[..]),
        _ => None,
    })
}
