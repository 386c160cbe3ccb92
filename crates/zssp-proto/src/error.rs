//! Why a packet was dropped. Peers get silence; the caller gets one of these, cheap and without details of keys.

/// What is wrong with a packet, or with its moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
//= ZSSP-DEF-20  outcomes are named values
pub enum Fault {
    /// Another task is working on the session's state; the peer's resend will be read.
    #[error("the session is busy with another handshake packet")]
    Busy,
    /// The peer that this side opens to has lost its ratchet, and the policy does not go on without; an
    /// [`Event::DowngradeRefused`](crate::Event::DowngradeRefused) says who it is. Of a peer that opens to this side, the
    /// event alone tells.
    #[error("the peer has lost its ratchet, and the policy refuses to begin anew")]
    DowngradeRefused,
    /// A tag did not match.
    #[error("authentication failed")]
    Forged,
    /// A fragment that does not fit the others of its packet, or was there already.
    #[error("unusable fragment")]
    Fragment,
    /// The bounded memory for incomplete packets is used up.
    #[error("no memory for another incomplete packet")]
    Full,
    /// A length, count or type that no packet has.
    #[error("malformed packet")]
    Malformed,
    /// The cryptographic library failed; see [`ProviderError`](crate::crypto::ProviderError).
    #[error("the cryptographic library failed")]
    Provider,
    /// The packet is from the peer, and made with a ratchet state that this side does not have of it: the peer that was
    /// accepted is remembered under another name, or its ratchet was replaced while it was being accepted. In a session that
    /// rekeys, the two no longer have the same, or one side uses [`Suite::Zssp04`](crate::Suite::Zssp04) and the other
    /// [`Suite::Kyber1024`](crate::Suite::Kyber1024).
    #[error("the peer used a ratchet state, or a suite, that this side does not share with it")]
    RatchetMismatch,
    /// The packet's counter was received already, or is outside the replay window.
    #[error("replayed, too old or too far ahead")]
    Replayed,
    /// The state the packet belongs to is over.
    #[error("the state has moved on")]
    Stale,
    /// The ratchet store failed; an [`Event::StoreFailed`](crate::Event::StoreFailed) says why.
    #[error("the ratchet store failed")]
    Store,
    /// Another session with the peer survives: one that this side opened at the same time, so that the peer's is left without
    /// an answer, or one that the peer opened again while this one was set up.
    #[error("another session with the peer survives")]
    Superseded,
    /// There are as many sessions as [`Limits::sessions`](crate::Limits::sessions) allows, so the peer's is left without an
    /// answer.
    #[error("the context has as many sessions as its limits allow")]
    TooManySessions,
    /// The packet is not one that the state it is addressed to can read.
    #[error("unexpected packet")]
    Unexpected,
    /// The packet uses a ratchet state that a handshake cut off before may still replace on the peer's side; the two try
    /// again when it cannot any more.
    #[error("an interrupted handshake may still come to its end")]
    Unsettled,
    /// No state has this key id.
    #[error("unknown key id")]
    UnknownKeyId,
    /// The policy leaves the peer without an answer: its hello names no ratchet state of ours.
    #[error("left without an answer by policy")]
    Unwelcome,
}
