//! What a [`Handshake`](super::Handshake) leaves behind: datagrams to send and things to know.

use crate::address::Address;
use crate::crypto::ProtectKey;
use crate::identity::PublicKey;
use crate::ratchet::StoreError;
use crate::session::{Sealed, Session, SessionId};
use crate::wire::{KeyId, PacketNonce};
use crate::zfp::{Split, SplitError, protect, spread};
use crate::zke::keys::Role;

use super::authorize::Authorize;

/// Filled by [`Handshake::run`](super::Handshake::run). Look at the events first, then send the datagrams: a session
/// is then known before the peer can answer on it.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Things the application should know or decide.
    pub events: Vec<Event>,
    /// Datagrams to send.
    pub transmits: Vec<Transmit>,
}

/// One packet's datagrams and where they go.
#[derive(Clone)]
pub struct Transmit {
    to: Address,
    buffer: Box<[u8]>,
    split: Split,
}

/// How a packet's header is made.
pub(crate) struct Envelope<'a> {
    pub(crate) to: Address,
    //= ZSSP-HP-03  hellos and challenges are not protected
    /// The receiver's key id and the key that protects the header; `None` for a hello.
    pub(crate) protection: Option<(KeyId, &'a dyn ProtectKey)>,
    pub(crate) nonce: PacketNonce,
    pub(crate) mtu: usize,
}

impl Transmit {
    /// Splits `packet` and protects its headers.
    pub(crate) fn new(envelope: &Envelope<'_>, packet: &[u8]) -> Result<Self, SplitError> {
        let split = Split::new(packet.len(), envelope.mtu)?;
        let mut buffer = vec![0; split.buffer_len()].into_boxed_slice();
        buffer[split.headers_len()..].copy_from_slice(packet);
        spread(&mut buffer, &split, envelope.protection.map(|(kid, _)| kid), envelope.nonce);
        //= ZSSP-HP-03  a hello is not protected
        if let Some((_, key)) = envelope.protection {
            protect(key, &mut buffer, &split);
        }
        Ok(Self { to: envelope.to, buffer, split })
    }

    /// The same, to somewhere else.
    pub(crate) fn sent_to(self, to: Address) -> Self {
        Self { to, ..self }
    }

    /// Where to.
    pub const fn to(&self) -> Address {
        self.to
    }

    /// The datagrams, each by itself.
    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        Sealed::of(self.split).datagrams(&self.buffer)
    }

    /// The datagrams as at most two runs of equal length, for segmented sends: the bytes of a run and the length of
    /// one datagram in it.
    pub fn runs(&self) -> impl Iterator<Item = (&[u8], usize)> {
        Sealed::of(self.split).runs(&self.buffer)
    }
}

impl core::fmt::Debug for Transmit {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Transmit")
            .field("to", &self.to)
            .field("datagrams", &self.split.count())
            .field("bytes", &self.buffer.len())
            .finish()
    }
}

/// Something the application should know or decide.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A peer has proven its static key and wants a session. Answer when you like; dropping it ignores the peer.
    Authorize(Authorize),
    /// The two sides did not start from the ratchet state this side expected: the peer has lost its ratchet, or
    /// somebody who has stolen its static key pretends so. Their ratchet begins anew, from the zero state. It has when this
    /// is told, as far as the store says, even if the handshake was over by then, and no session comes of it: the next one is no downgrade.
    Downgraded {
        /// The peer's static key.
        peer: PublicKey,
    },
    /// The peer has lost its ratchet, or somebody who has stolen its static key pretends so; the policy refuses a session
    /// that starts from the zero state. Presetting a one-time password on both sides lets the peer in again.
    DowngradeRefused {
        /// The peer's static key.
        peer: PublicKey,
    },
    /// A session has ended; its id will not be used again.
    Ended {
        /// The session.
        id: SessionId,
        /// Why.
        reason: EndReason,
    },
    /// A session is open: payloads can be sealed.
    Established {
        /// The handle.
        session: Session,
        /// Which side of the handshake this side was.
        role: Role,
    },
    /// The ratchet store failed. The session is as it was; whether what was to be written is there all the same, the next
    /// attempt finds out. The peer's resend tries again.
    StoreFailed {
        /// The static key of the peer whose ratchet it was about; `None` while a hello is read, which does not say who it
        /// is from.
        peer: Option<PublicKey>,
        /// What the store said.
        error: StoreError,
    },
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndReason {
    /// The application closed it.
    Closed,
    /// Another session with the peer has written the ratchet since, and won.
    Conflict,
    /// The peer did not answer within 60 s when a key had to be confirmed or agreed on; or it answered, and the answer was
    /// made with another ratchet state, suite or static key than this side's, which ends the session at once
    /// ([`Fault::RatchetMismatch`](crate::Fault::RatchetMismatch)). Or this side's store failed for as long, so that no answer
    /// could be read.
    Expired,
    /// The session's key was used as often as is safe, and the peer did not agree on another in time.
    KeyUsedUp,
    /// The peer refused.
    Rejected,
    /// There is one session per peer, and a newer one took this one's place; or both sides were opening one, and the
    /// peer's was the one to survive.
    Replaced {
        /// The session that took the place.
        by: SessionId,
    },
    /// No session came about in the time given by [`Open::give_up_after`](super::Open::give_up_after).
    TimedOut,
}
