//! A recorded session against one of our own sides.

use std::sync::Arc;
use std::time::Duration;

use zssp_proto::crypto::Provider;
use zssp_sim::vectors::{Event, Op, Scenario, Who};

use crate::script::Script;
use crate::side::{Setup, Side, Verdict, policy};
use crate::trace::{Divergence, compare};

/// Whether a side starts rekeying with event `index`: it generates an ephemeral key pair that no packet of the peer's
/// asks for, and not its first.
fn starts_rekeying(events: &[Event], index: usize) -> bool {
    let is_generated = |event: &&Event| matches!(event.op, Op::P384Keypair { .. });
    let event = &events[index];
    let before = &events[..index];
    is_generated(&event)
        && before.iter().filter(is_generated).any(|earlier| earlier.who == event.who)
        && !before.last().is_some_and(|last| matches!(last.op, Op::Send { .. }))
}

/// Whether Bob sends a challenge here.
fn is_challenge(event: &Event) -> bool {
    // A key id of zero in the header, and type 9.
    let is_type_9 = |datagram: &Vec<u8>| datagram.starts_with(&[0; 4]) && datagram.get(7) == Some(&9);
    matches!(&event.op, Op::Send { fragments, .. } if fragments.first().is_some_and(is_type_9))
}

/// Whether the last packet was a challenge.
fn is_challenge_answered(before: &[Event]) -> bool {
    before.last().is_some_and(is_challenge)
}

/// Whether Bob, played by our core, would have to answer a hello with a challenge. Its mac comes from a salt that was
/// not recorded: our Bob does not challenge, and hears of the hello when its response has come.
fn is_challenged(who: Who, after: &[Event]) -> bool {
    who == Who::Bob
        && after.iter().find(|event| matches!(event.op, Op::Send { .. })).is_some_and(is_challenge)
}

/// Has our core play `who` with the cryptography of `provider`, and the recording the other side. Everything our side
/// sends, stores, tells and keys its ciphers with has to be what was recorded.
///
/// # Errors
/// The first difference; or that the variant is not one of [`VARIANTS`](crate::VARIANTS), or a packet is lost, which
/// cannot be replayed.
pub fn replay(scenario: &Scenario, who: Who, provider: Arc<dyn Provider>) -> Result<(), Divergence> {
    let malformed = |what: &str| Divergence(format!("not a session: {what}"));
    let suite = crate::suite(&scenario.variant).ok_or_else(|| malformed("unknown variant"))?;
    let events = &scenario.events[..];
    if events.iter().any(|event| matches!(event.op, Op::Send { dropped: true, .. })) {
        // When its copy was sent is not recorded.
        return Err(malformed("it loses packets"));
    }
    let (static_secret, _) = static_pair(events, who).ok_or_else(|| malformed("no static key"))?;
    let (_, peer) = static_pair(events, who.peer()).ok_or_else(|| malformed("no static key of the peer"))?;
    let setup = Setup {
        who,
        suite,
        mtu: scenario.mtu,
        static_secret,
        peer,
        ratchets: scenario.initial_ratchets.of(who).clone(),
        policy: policy(scenario.flags.of(who)),
        verdict: Verdict::of(&scenario.flags.bob),
        script: Some(Script::of(who, events)),
    };
    let mut side = Side::new(setup, provider);
    if who == Who::Alice {
        // Only Bob was told it, so a session that did not come that far needs none.
        side.open(identity(events).unwrap_or(&[]));
    }
    for (index, event) in events.iter().enumerate() {
        let before = &events[..index];
        match &event.op {
            Op::P384Keypair { .. } if event.who == who && starts_rekeying(events, index) => {
                side.wait(Duration::from_secs(3600));
            }
            //= ZSSP-ZCP-14  the hello again, with the response to the challenge
            Op::Send { .. } if event.who == who && is_challenge_answered(before) => {
                side.wait(Duration::from_secs(1));
            }
            Op::Send { fragments, .. } if event.who != who && !is_challenged(who, &events[index + 1..]) => {
                fragments.iter().for_each(|datagram| side.receive(datagram));
            }
            Op::SendPayload { payload } if event.who == who => side.send_payload(payload),
            _ => {}
        }
    }

    let own = events.iter().enumerate().filter(|(_, event)| event.who == who);
    let recorded: Vec<Op> = own
        .filter(|(index, event)| !is_challenge(event) && !events.get(index + 1).is_some_and(is_challenge))
        .map(|(_, event)| event.op.clone())
        .collect();
    compare(&recorded, &side.take_trace())?;
    if !side.is_spent() {
        return Err(Divergence("not every recorded key was used".into()));
    }
    if side.remembered() != *scenario.final_ratchets.of(who) {
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
