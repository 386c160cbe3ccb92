//! What a side does, in the words of the recorded sessions, and where two accounts of it part.

use core::fmt;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use zssp_sim::vectors::{Op, Seen};

/// What one side has done so far, in order. Clones share it: the provider, the store and the side itself write here.
#[derive(Debug, Clone, Default)]
pub struct Trace(Arc<Mutex<Vec<Op>>>);

impl Trace {
    /// Adds what was done last.
    pub fn push(&self, op: Op) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(op);
    }

    /// What was done since the last call.
    pub fn take(&self) -> Vec<Op> {
        core::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Where one of our sides and a recorded one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Divergence(pub String);

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Divergence {}

/// Compares what a side did with what was recorded of it.
///
/// Header ciphers may be keyed at any time and as often as a side likes, so of those only the keys count; and the
/// reason of an error is in the recorder's own words. Everything else has to be equal, in the same order.
///
/// # Errors
/// The first difference, without any secret bytes.
pub fn compare(recorded: &[Op], ours: &[Op]) -> Result<(), Divergence> {
    let mut expected = recorded.iter().filter(|op| !is_header_key(op));
    let mut found = ours.iter().filter(|op| !is_header_key(op));
    for step in 0.. {
        match (expected.next(), found.next()) {
            (None, None) => break,
            (expected, found) => {
                if let Some(difference) = difference(expected, found) {
                    return Err(Divergence(format!("step {step}: {difference}")));
                }
            }
        }
    }
    if header_keys(recorded) != header_keys(ours) {
        return Err(Divergence("other header keys".into()));
    }
    Ok(())
}

fn is_header_key(op: &Op) -> bool {
    matches!(op, Op::HeaderKeyRecv { .. } | Op::HeaderKeySend { .. })
}

/// The keys of either direction.
fn header_keys(ops: &[Op]) -> [BTreeSet<[u8; 32]>; 2] {
    let mut keys = [BTreeSet::new(), BTreeSet::new()];
    for op in ops {
        match op {
            Op::HeaderKeyRecv { key } => keys[0].insert(*key),
            Op::HeaderKeySend { key } => keys[1].insert(*key),
            _ => continue,
        };
    }
    keys
}

fn difference(expected: Option<&Op>, found: Option<&Op>) -> Option<String> {
    match (expected, found) {
        (Some(Op::ReceiveError { .. }), Some(Op::ReceiveError { .. })) => None,
        (Some(Op::Send { fragments: expected, .. }), Some(Op::Send { fragments: found, .. })) => {
            datagrams(expected, found)
        }
        (expected, found) if expected == found => None,
        (expected, found) => {
            let name = |op: Option<&Op>| op.map_or_else(|| "nothing".into(), name);
            let (expected, found) = (name(expected), name(found));
            Some(if expected == found {
                format!("another {expected}")
            } else {
                format!("recorded {expected}, but we have {found}")
            })
        }
    }
}

fn datagrams(expected: &[Vec<u8>], found: &[Vec<u8>]) -> Option<String> {
    let lens = |all: &[Vec<u8>]| all.iter().map(Vec::len).collect::<Vec<_>>();
    if lens(expected) != lens(found) {
        return Some(format!("datagrams of {:?} bytes, recorded {:?}", lens(found), lens(expected)));
    }
    expected.iter().zip(found).enumerate().find_map(|(number, (expected, found))| {
        let at = expected.iter().zip(found).position(|(expected, found)| expected != found)?;
        Some(format!("datagram {number}, of {} bytes, differs from byte {at} on", found.len()))
    })
}

/// What a step is called in a report.
fn name(op: &Op) -> String {
    match op {
        Op::CheckAccept { identity, .. } => format!("check_accept with {} bytes of identity", identity.len()),
        Op::Event(Seen::Data { payload }) => format!("data of {} bytes", payload.len()),
        Op::Event(seen) => format!("event {seen:?}"),
        Op::HeaderKeyRecv { .. } => "header_key_recv".into(),
        Op::HeaderKeySend { .. } => "header_key_send".into(),
        Op::KemEncapsulate { .. } => "kem_encapsulate".into(),
        Op::KemKeypair { .. } => "kem_keypair".into(),
        Op::P384Keypair { .. } => "p384_keypair".into(),
        Op::P384StaticKeypair { .. } => "p384_static_keypair".into(),
        Op::ReceiveError { error } => format!("receive_error ({error})"),
        Op::SaveRatchet(change) => format!("save_ratchet, ok: {}", change.ok),
        Op::Send { fragments, .. } => format!("send of {} datagrams", fragments.len()),
        Op::SendPayload { payload } => format!("send_payload of {} bytes", payload.len()),
        Op::TransportKeys { .. } => "transport_keys".into(),
    }
}
