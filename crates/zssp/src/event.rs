//! What an operator should hear of, and whom it is about.

use zssp_proto::{PublicKey, StoreError};

/// Something that happened to an endpoint, or that it did not do, for an operator to look into. Sent to whom
/// [`Builder::events`](crate::Builder::events) names.
///
/// What a program has to decide about is where it decides: [`Connection::is_downgraded`](crate::Connection::is_downgraded),
/// and the [`ConnectError`](crate::ConnectError) of whoever connects or accepts. Why a connection ended, its
/// [`closed`](crate::Connection::closed) says.
///
/// A peer's lost ratchet has no event where the policy leaves hellos without an answer, as
/// [`Policy::PERSISTENT`](crate::Policy::PERSISTENT) does: they do not say who they are from.
/// [`EndpointStats::unwelcome`](crate::EndpointStats::unwelcome) counts them.
///
/// ```
/// use zssp::EndpointEvent;
///
/// /// What is written into the log, and whether somebody should be called.
/// fn line(event: &EndpointEvent) -> (String, bool) {
///     match event {
///         EndpointEvent::Downgraded { peer } => {
///             (format!("{peer:?} begins anew, without its ratchet"), true)
///         }
///         EndpointEvent::DowngradeRefused { peer } => (format!("{peer:?} has no ratchet"), true),
///         EndpointEvent::StoreFailed { error, .. } => (error.to_string(), false),
///         other => (format!("{other:?}"), false),
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndpointEvent {
    /// A peer that shared a ratchet with this side has none of it, or an older one, and the policy goes on without: its
    /// store was lost or restored from an older copy, or this side's was, or somebody pretends to be the peer who has stolen
    /// its secret key. Ask its operator, by another way. The two begin anew (PROTOCOL 5.5), as often as it takes: no
    /// connection need come of it.
    Downgraded {
        /// The peer's static key.
        peer: PublicKey,
    },
    /// The same, but the policy does not go on without. A [one-time password](crate::OneTimePassword) that is preset on
    /// both sides does.
    DowngradeRefused {
        /// The peer's static key.
        peer: PublicKey,
    },
    /// The store of ratchets failed. No connection has changed, and the handshake packet is as if it had been lost; it is
    /// tried again with the next copy of it, which also finds out whether what was to be written is there all the same.
    /// Attempts to connect that see no end of it fail with [`ConnectError::Store`](crate::ConnectError::Store), and sessions
    /// that are to change their key end with [`CloseReason::Expired`](crate::CloseReason::Expired) after a minute.
    StoreFailed {
        /// The static key of the peer whose ratchet it was about; `None` while a hello was read, which does not say who it
        /// is from.
        peer: Option<PublicKey>,
        /// What the store said.
        error: StoreError,
    },
}
