//! C1, C2 and D: how both sides become certain (PROTOCOL 5.3).

use std::sync::Arc;

use super::handshake::{Packet, Task};
use super::outbox::{EndReason, Envelope, Event, Transmit};
use crate::error::Fault;
use crate::ratchet::{RatchetPair, Swap};
use crate::session::{KeyEpoch, Session, Shared};
use crate::wire::{PacketNonce, PacketType};
use crate::zke;
use crate::zke::keys::Role;
use crate::zke::state::{Cell, Confirming, Established, Phase, RESEND, Taken};

/// Reads a control packet of a session.
pub(super) fn control(task: &mut Task<'_>, cell: &Arc<Cell>, packet: &Packet) -> Result<(), Fault> {
    let packet_type = packet.nonce.packet_type().ok_or(Fault::Malformed)?;
    let taken = cell.take(task.inner)?;
    let established = taken.phase().established().ok_or(Fault::Stale)?.clone();
    let shared = &established.shared;
    let epoch = shared.epoch(packet.kid).ok_or(Fault::Stale)?;
    let expected = match taken.phase() {
        Phase::AwaitConfirm(_) => [PacketType::Confirmation, PacketType::Rejection].contains(&packet_type),
        Phase::Confirming(_) => {
            [PacketType::Confirmation, PacketType::Acknowledgement].contains(&packet_type)
        }
        _ => packet_type == PacketType::Confirmation,
    };
    if !expected {
        return Err(Fault::Unexpected);
    }
    authenticate(task, shared, &epoch, packet)?;
    *shared.address.lock() = packet.from;

    match (taken.phase(), packet_type) {
        (Phase::AwaitConfirm(_), PacketType::Confirmation) => confirmed(task, cell, taken, established),
        (_, PacketType::Rejection) => {
            drop(taken);
            task.inner.end(cell, task.outbox, EndReason::Rejected);
            Ok(())
        }
        (Phase::Confirming(_), PacketType::Acknowledgement) => {
            //= ZSSP-ST-12  C2 read: S2
            taken.commit(Phase::Steady(established))
        }
        _ => {
            //= ZSSP-ST-21  a valid C1 is always answered
            let shared = shared.clone();
            taken.commit(Phase::Steady(established))?;
            send(task, &shared, PacketType::Acknowledgement)
        }
    }
}

/// The tag first, then the counter: a forgery changes nothing.
//= ZSSP-ST-19  any other authentication failure is as if the packet had never come
fn authenticate(task: &Task<'_>, shared: &Shared, epoch: &KeyEpoch, packet: &Packet) -> Result<(), Fault> {
    let key = &epoch.key_exchange.receive;
    zke::confirm::open(task.inner.provider(), key, packet.nonce, &packet.bytes).map_err(|_| Fault::Forged)?;
    shared.commit_counter(packet.nonce)
}

/// C1 in A3: Bob has stored the new state, so the old one is not needed any more.
//= ZSSP-ST-23  C1 in A3 moves to S2
fn confirmed(
    task: &mut Task<'_>,
    cell: &Arc<Cell>,
    taken: Taken<'_>,
    established: Established,
) -> Result<(), Fault> {
    //= ZSSP-RAT-13  state 1 unchanged, state 2 none
    let pair = RatchetPair { first: established.pair.first.duplicate(), second: None };
    //= ZSSP-RAT-04  a mismatch ends the session
    if task.compare_and_swap(&cell.name, &established.pair, &pair)? == Swap::Conflict {
        drop(taken);
        task.inner.end(cell, task.outbox, EndReason::Conflict);
        return Err(Fault::Stale);
    }
    let shared = established.shared;
    //= ZSSP-RAT-14  the copy equals what was stored
    //= ZSSP-DEF-02  also after state 2 or a downgrade was used
    let steady = Established { shared: shared.clone(), pair: Arc::new(pair) };
    taken.commit(Phase::Steady(steady))?;
    let session = Session(shared.clone());
    task.outbox.events.push(Event::Established { session, role: Role::Initiator });
    send(task, &shared, PacketType::Acknowledgement)
}

/// S1's deadlines: C1 again, or the end.
pub(super) fn timer(task: &mut Task<'_>, cell: &Arc<Cell>, taken: Taken<'_>) -> Result<(), Fault> {
    let Phase::Confirming(state) = taken.phase() else { return Err(Fault::Stale) };
    //= ZSSP-ST-10  S1 ends the session after 60 s
    if state.timers.expire <= task.now {
        drop(taken);
        task.inner.end(cell, task.outbox, EndReason::Expired);
        return Ok(());
    }
    let Confirming { established, mut timers } = state.clone();
    timers.resend = task.now + RESEND;
    let shared = established.shared.clone();
    taken.commit(Phase::Confirming(Confirming { established, timers }))?;
    send(task, &shared, PacketType::Confirmation)
}

/// Sends C1 or C2 under the key in use.
//= ZSSP-ST-09  each is sealed with a fresh counter
pub(super) fn send(task: &mut Task<'_>, shared: &Shared, packet_type: PacketType) -> Result<(), Fault> {
    let epoch = shared.sending().ok_or(Fault::Stale)?;
    let counter = shared.next_counter();
    if !epoch.may_seal(counter) {
        return Err(Fault::Stale);
    }
    let nonce = PacketNonce::new(packet_type, counter);
    let tag = zke::confirm::seal(task.inner.provider(), &epoch.key_exchange.send, nonce)
        .map_err(|_| Fault::Provider)?;
    let envelope = Envelope {
        to: *shared.address.lock(),
        protection: Some((epoch.remote_kid, &*shared.ingress.header.protect)),
        nonce,
        mtu: task.inner.mtu,
    };
    task.outbox.transmits.push(Transmit::new(&envelope, &tag).map_err(|_| Fault::Malformed)?);
    Ok(())
}
