//! The packets of a session that are not payloads: C1, C2, D, K1, K2. Each was authenticated when it arrived.

use std::sync::Arc;

use super::handshake::{Packet, Task};
use super::outbox::{EndReason, Envelope, Transmit};
use super::{confirm, rekey};
use crate::address::Address;
use crate::error::Fault;
use crate::session::{KeyEpoch, KeyUse, Shared};
use crate::wire::{PacketNonce, PacketType};
use crate::zke;
use crate::zke::keys::Role;
use crate::zke::state::{Cell, Phase, Taken};

/// A control packet and the state it came to.
pub(super) struct Opened<'c> {
    pub(super) taken: Taken<'c>,
    /// The epoch under which it came.
    pub(super) epoch: Arc<KeyEpoch>,
    pub(super) body: &'c [u8],
    /// Where it came from. It need not be where the peer is: somebody who saw the packet may have sent it on, and have been
    /// quicker.
    pub(super) from: Address,
}

/// A control packet to be sent.
pub(super) struct Outgoing<'a> {
    pub(super) to: Address,
    pub(super) packet_type: PacketType,
    pub(super) body: &'a [u8],
}

/// Reads a control packet that was opened already.
pub(super) fn read(task: &mut Task<'_>, cell: &Arc<Cell>, packet: &Packet) -> Result<(), Fault> {
    use PacketType as T;
    let packet_type = packet.nonce.packet_type().ok_or(Fault::Malformed)?;
    let mut taken = cell.take(task.inner)?;
    let shared = taken.phase().established().ok_or(Fault::Stale)?.shared.clone();
    shared.seen(packet.from);
    let ring = shared.ring().ok_or(Fault::Stale)?;
    let epoch = ring.by_local_kid(packet.kid).ok_or(Fault::Stale)?.clone();

    let current = epoch.local_kid == ring.current().local_kid;
    let expected = match (taken.phase(), packet_type) {
        (Phase::AwaitConfirm(_), T::Confirmation | T::Rejection) => true,
        //= ZSSP-ST-21  C1 is answered in S1 and S2
        //= ZSSP-ST-22  and in R1 and R2
        (_, T::Confirmation) => true,
        (Phase::Confirming(_), T::Acknowledgement) | (Phase::RekeyStarted(_), T::RekeyFinish) => current,
        (Phase::Steady(_), T::RekeyStart) => current,
        //= ZSSP-ST-20  both started at once: Bob of the first handshake gives way
        (Phase::RekeyStarted(_), T::RekeyStart) => current && shared.role == Role::Responder,
        _ => false,
    };
    if !expected {
        taken.asked_again(packet_type, packet.from);
        return Err(Fault::Unexpected);
    }

    let opened = Opened { taken, epoch, body: &packet.bytes, from: packet.from };
    match packet_type {
        T::Confirmation => confirm::confirmation(task, cell, opened),
        T::Acknowledgement => confirm::acknowledgement(task, opened),
        T::RekeyStart => rekey::start_read(task, cell, opened),
        T::RekeyFinish => rekey::finish_read(task, cell, opened),
        _ => {
            drop(opened);
            task.inner.end(cell, task.outbox, EndReason::Rejected);
            Ok(())
        }
    }
}

/// Sends a control packet under the keys of `epoch`.
//= ZSSP-ST-09  each copy is sealed with a fresh counter
pub(super) fn send(
    task: &mut Task<'_>,
    shared: &Shared,
    epoch: &KeyEpoch,
    Outgoing { to, packet_type, body }: Outgoing<'_>,
) -> Result<(), Fault> {
    let (counter, key_use) = shared.usage.take(epoch, 0);
    match key_use {
        KeyUse::Good => {}
        KeyUse::RekeyDue => shared.wake(epoch),
        KeyUse::UsedUp => return Err(Fault::Stale),
    }
    let nonce = PacketNonce::new(packet_type, counter);
    let packet = zke::control::seal(task.inner.provider(), &epoch.key_exchange.send, nonce, body)
        .map_err(|_| Fault::Provider)?;
    let envelope = Envelope {
        to,
        protection: Some((epoch.remote_kid, &*shared.ingress.header.protect)),
        nonce,
        mtu: task.inner.mtu,
    };
    task.outbox.transmits.push(Transmit::new(&envelope, &packet).map_err(|_| Fault::Malformed)?);
    Ok(())
}

/// Another session with the peer has written the ratchet since.
//= ZSSP-RAT-04  this one ends
pub(super) fn lost(task: &mut Task<'_>, cell: &Arc<Cell>, taken: Taken<'_>) -> Result<(), Fault> {
    drop(taken);
    task.inner.end(cell, task.outbox, EndReason::Conflict);
    Err(Fault::Stale)
}
