//! C1 and C2: how both sides become certain of a key (PROTOCOL 5.3).

use std::sync::Arc;

use super::control::{self, Opened, Outgoing};
use super::handshake::Task;
use super::peers::Side;
use crate::address::Address;
use crate::error::Fault;
use crate::ratchet::{RatchetPair, Swap};
use crate::session::{KeyEpoch, Session, Shared};
use crate::wire::PacketType;
use crate::zke::state::{Cell, Established, Phase, Taken};

/// C1: the peer has the key.
pub(super) fn confirmation(task: &mut Task<'_>, cell: &Arc<Cell>, opened: Opened<'_>) -> Result<(), Fault> {
    let Opened { taken, epoch, from, .. } = opened;
    let established = taken.phase().established().ok_or(Fault::Stale)?.clone();
    let shared = established.shared.clone();
    let current = shared.ring().is_some_and(|ring| ring.current().local_kid == epoch.local_kid);
    match taken.phase() {
        //= ZSSP-ST-23  C1 in A3 moves to S2
        Phase::AwaitConfirm(_) => {
            let Some(next) = both_stored(task, cell, &established)? else {
                return control::lost(task, cell, taken);
            };
            taken.commit(next)?;
            let opened = (Session(shared.clone()), Side::Here);
            task.inner.opened(cell, opened, task.outbox)?;
        }
        //= ZSSP-ST-24  C1 for the next key in R2 moves to S2 and makes that key current
        Phase::RekeyAnswered(state) if !current => {
            let asked = state.asked;
            let Some(next) = both_stored(task, cell, &established)? else {
                return control::lost(task, cell, taken);
            };
            let ring = shared.ring().ok_or(Fault::Stale)?;
            task.inner.free(shared.publish(ring.confirmed().ok_or(Fault::Stale)?));
            taken.commit(next)?;
            asked.answered(&shared, from);
        }
        //= ZSSP-ST-12  C1 read: S2
        Phase::Confirming(_) if current => taken.commit(task.inner.steady(established, task.now))?,
        _ => drop(taken),
    }
    // C2 is not repeated by a timer, so it cannot take turns.
    //= ZSSP-ST-33  C2 goes to where its C1 came from, and to the session's address
    for to in [Some(from), shared.unless_here(from)].into_iter().flatten() {
        let answer = Outgoing { to, packet_type: PacketType::Acknowledgement, body: &[] };
        control::send(task, &shared, &epoch, answer)?;
    }
    Ok(())
}

/// The peer has stored the new state, so the one before it is not needed any more. S2, or `None` when another session
/// has won.
fn both_stored(
    task: &mut Task<'_>,
    cell: &Arc<Cell>,
    established: &Established,
) -> Result<Option<Phase>, Fault> {
    //= ZSSP-RAT-13  state 1 unchanged, state 2 none
    let pair = RatchetPair { first: established.pair.first.duplicate(), second: None };
    //= ZSSP-RAT-04  a mismatch ends the session
    if task.replace(cell, &established.pair, &pair)? == Swap::Conflict {
        return Ok(None);
    }
    //= ZSSP-RAT-14  the copy equals what was stored
    //= ZSSP-DEF-02  also after state 2 or a downgrade was used
    let established = Established { shared: established.shared.clone(), pair: Arc::new(pair) };
    Ok(Some(task.inner.steady(established, task.now)))
}

/// C2 in S1: the peer knows that this side has the key.
//= ZSSP-ST-12  C2 read: S2
pub(super) fn acknowledgement(task: &mut Task<'_>, opened: Opened<'_>) -> Result<(), Fault> {
    let Opened { taken, from, .. } = opened;
    let Phase::Confirming(state) = taken.phase() else {
        return Err(Fault::Stale);
    };
    let (established, asked) = (state.established.clone(), state.asked);
    let shared = established.shared.clone();
    taken.commit(task.inner.steady(established, task.now))?;
    asked.answered(&shared, from);
    Ok(())
}

/// S1's deadline: C1 again.
pub(super) fn timer(task: &mut Task<'_>, taken: Taken<'_>) -> Result<(), Fault> {
    let Phase::Confirming(state) = taken.phase() else { return Err(Fault::Stale) };
    let shared = state.established.shared.clone();
    let ring = shared.ring().ok_or(Fault::Stale)?;
    let to = taken.adjust(|phase| phase.resend(task.now))?.ok_or(Fault::Stale)?;
    send_confirmation(task, &shared, ring.current(), to)
}

/// C1 under a key that the peer already has.
pub(super) fn send_confirmation(
    task: &mut Task<'_>,
    shared: &Shared,
    epoch: &KeyEpoch,
    to: Address,
) -> Result<(), Fault> {
    control::send(task, shared, epoch, Outgoing { to, packet_type: PacketType::Confirmation, body: &[] })
}
