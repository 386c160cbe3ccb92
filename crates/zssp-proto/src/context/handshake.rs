use std::sync::Arc;
use std::time::Instant;

use super::authorize::{Decision, Request};
use super::outbox::Outbox;
use super::pending::Pending;
use super::{Context, confirm, control, initiator, rekey, responder};
use crate::address::Address;
use crate::error::Fault;
use crate::ratchet::RatchetStore;
use crate::session::SessionId;
use crate::wire::{ChallengePacket, KeyId, PacketNonce};
use crate::zke::state::{Cell, Phase, RESEND};

/// A piece of handshake work: up to a millisecond of public-key operations and a durable write.
///
/// It is a value, so that the thread that reads packets can hand it to whoever does such work. Run it on a bounded
/// pool; dropping it where the pool is full loses nothing for good, it is as if the network had lost the packet.
#[must_use = "nothing happens until it is run"]
pub struct Handshake {
    pub(super) context: Context,
    pub(super) work: Work,
}

/// A packet of the dear path, whole. X2 and X3 are not yet authenticated.
pub(super) struct Packet {
    /// The key id it came under.
    pub(super) kid: KeyId,
    pub(super) nonce: PacketNonce,
    /// The packet; of a session's, the body.
    pub(super) bytes: Vec<u8>,
    pub(super) from: Address,
}

pub(super) enum Work {
    /// A challenge to our X1.
    Challenge { cell: Arc<Cell>, packet: ChallengePacket },
    /// C1, C2, D, K1 or K2 for a session.
    Control { cell: Arc<Cell>, packet: Packet },
    /// X3 for B2.
    Completion { pending: Arc<Pending>, packet: Packet },
    /// The application has answered.
    Decide { request: Box<Request>, decision: Decision },
    /// X1 from anybody.
    Hello { nonce: PacketNonce, bytes: Box<[u8]>, from: Address },
    /// The application wants another key.
    Rekey { cell: Arc<Cell> },
    /// X2 for A1.
    Response { cell: Arc<Cell>, packet: Packet },
    /// A session's deadline has come.
    Timer { cell: Arc<Cell> },
}

/// Who has sent the packet that a [`Handshake`] is about, as far as that is known before it is run.
///
/// It is for whoever bounds the work that waits. Strangers can send any number of hellos, so give each kind room of its
/// own, and everybody a share of it: then no flood keeps sessions from agreeing on a new key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Whoever answers within a handshake, under this key id of ours: X2, X3 or a challenge. Not authenticated yet;
    /// anybody who has seen a packet with the key id may have sent it.
    Handshake([u8; 4]),
    /// The peer of this session: C1, C2, D, K1 or K2, authenticated and not received before.
    Session(SessionId),
    /// Anybody: a hello. The bytes are the same for all that come from what one sender cannot easily have many of: an IPv4
    /// address, half an IPv6 address, a link address. Unless it was challenged, that address may be false.
    Stranger([u8; 32]),
}

impl Handshake {
    /// Who has sent the packet; `None` for what this side does by itself: opening, rekeying, deadlines, decisions.
    ///
    /// ```
    /// use zssp_proto::{Handshake, Origin};
    ///
    /// /// Whether the work goes where hellos cannot take its place.
    /// fn is_of_somebody_known(handshake: &Handshake) -> bool {
    ///     !matches!(handshake.origin(), Some(Origin::Stranger(_)))
    /// }
    /// ```
    pub fn origin(&self) -> Option<Origin> {
        match &self.work {
            Work::Challenge { packet, .. } => Some(Origin::Handshake(packet.kid.to_bytes())),
            Work::Completion { packet, .. } | Work::Response { packet, .. } => {
                Some(Origin::Handshake(packet.kid.to_bytes()))
            }
            Work::Control { cell, .. } => Some(Origin::Session(cell.id)),
            Work::Decide { .. } | Work::Rekey { .. } | Work::Timer { .. } => None,
            Work::Hello { from, .. } => Some(Origin::Stranger(from.source())),
        }
    }

    /// The session that the work is for, open or being opened; `None` for a peer that has none yet: its hello, its X3, and
    /// the decision about it.
    ///
    /// ```
    /// use zssp_proto::{Fault, Handshake, SessionId};
    ///
    /// /// Which attempt or session does not get on, as the cryptographic library of this side fails. No packet of anybody
    /// /// brings that about.
    /// fn held_up(session: Option<SessionId>, result: Result<(), Fault>) -> Option<SessionId> {
    ///     session.filter(|_| result == Err(Fault::Provider))
    /// }
    /// # fn example(handshake: Handshake) -> Option<SessionId> { handshake.session() }
    /// ```
    pub fn session(&self) -> Option<SessionId> {
        match &self.work {
            Work::Challenge { cell, .. }
            | Work::Control { cell, .. }
            | Work::Rekey { cell }
            | Work::Response { cell, .. }
            | Work::Timer { cell } => Some(cell.id),
            Work::Completion { .. } | Work::Decide { .. } | Work::Hello { .. } => None,
        }
    }

    /// Does the work and puts what comes of it into `outbox`. `store` is called with nothing locked and may block.
    ///
    /// # Errors
    /// A [`Fault`] when the packet that caused the work led nowhere: for statistics, there is nothing to be done about
    /// it. Handle the outbox all the same.
    //= ZSSP-DEF-07  the store is called here, and the application and its sockets by the caller
    pub fn run(self, now: Instant, store: &dyn RatchetStore, outbox: &mut Outbox) -> Result<(), Fault> {
        let inner = &self.context.0;
        // Whatever it is, it is the first that others can hear of this context.
        inner.started(now);
        let mut task = Task { inner, now, store, outbox };
        match self.work {
            Work::Challenge { cell, packet } => initiator::challenged(&mut task, &cell, &packet),
            Work::Control { cell, packet } => control::read(&mut task, &cell, &packet),
            Work::Completion { pending, packet } => responder::completion(&mut task, pending, &packet),
            Work::Decide { request, decision } => responder::decide(&mut task, *request, decision),
            Work::Hello { nonce, bytes, from } => responder::hello(&mut task, nonce, &bytes, from),
            Work::Rekey { cell } => rekey_now(&mut task, &cell),
            Work::Response { cell, packet } => initiator::response(&mut task, &cell, &packet),
            Work::Timer { cell } => timer(&mut task, &cell),
        }
    }
}

impl core::fmt::Debug for Handshake {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Handshake(")?;
        f.write_str(match self.work {
            Work::Challenge { .. } => "challenge",
            Work::Control { .. } => "control",
            Work::Completion { .. } => "completion",
            Work::Decide { .. } => "decision",
            Work::Hello { .. } => "hello",
            Work::Rekey { .. } => "rekey",
            Work::Response { .. } => "response",
            Work::Timer { .. } => "timer",
        })?;
        f.write_str(")")
    }
}

/// A session's deadline has come: resend, start over, rekey, or end.
fn timer(task: &mut Task<'_>, cell: &Arc<Cell>) -> Result<(), Fault> {
    let taken = cell.take(task.inner)?;
    if let Some(reason) = taken.phase().is_over(task.now) {
        drop(taken);
        task.inner.end(cell, task.outbox, reason);
        return Ok(());
    }
    match taken.phase() {
        Phase::AwaitConfirm(_) | Phase::AwaitResponse(_) | Phase::Opening(_) => {
            initiator::timer(task, cell, taken)
        }
        Phase::Confirming(_) => confirm::timer(task, taken),
        Phase::RekeyAnswered(_) | Phase::RekeyStarted(_) => rekey::timer(task, taken),
        Phase::Steady(state) if state.wants_rekey(task.now) => rekey::start(task, cell, taken),
        // The deadline of a state that was over by the time somebody came to it.
        Phase::Busy(_) | Phase::Closed | Phase::Steady(_) => taken.adjust(|_| ()),
    }
}

/// The application wants another key: at once in S2, and when it comes to S2 from a state in which another task works, or
/// that waits for the peer.
//= ZSSP-ST-14  because the application asks
fn rekey_now(task: &mut Task<'_>, cell: &Arc<Cell>) -> Result<(), Fault> {
    // Whoever works on the state and puts it back as it was leaves the deadline alone.
    let retry = task.now + RESEND;
    let is_steady = cell.with_phase(|phase| match phase {
        Phase::Steady(state) => {
            state.established.shared.want_rekey();
            task.inner.schedule(cell.id, retry);
            Ok(true)
        }
        Phase::Busy(Some(shared)) => {
            shared.want_rekey();
            task.inner.schedule(cell.id, retry);
            Ok(false)
        }
        Phase::Confirming(state) => {
            state.established.shared.want_rekey();
            Ok(false)
        }
        // There is no key yet or any more, or another is being agreed on.
        Phase::AwaitConfirm(_)
        | Phase::AwaitResponse(_)
        | Phase::Busy(None)
        | Phase::Closed
        | Phase::Opening(_)
        | Phase::RekeyAnswered(_)
        | Phase::RekeyStarted(_) => Err(Fault::Stale),
    })?;
    if is_steady { timer(task, cell) } else { Ok(()) }
}

/// What a piece of work works with.
pub(super) struct Task<'a> {
    pub(super) inner: &'a Arc<super::Inner>,
    pub(super) now: Instant,
    pub(super) store: &'a dyn RatchetStore,
    pub(super) outbox: &'a mut Outbox,
}
