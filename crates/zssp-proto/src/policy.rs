//! Security flags (PROTOCOL 5.6): what to do when two peers do not remember the same ratchet.

/// How strictly the ratchet is held to. Set for a context, and where possible for a single peer.
///
/// | | opportunistic | persistent |
/// |---|---|---|
/// | hellos are answered | to anybody | to those whose ratchet is recognised |
/// | the peer has lost its ratchet | the session goes on from zero, with a warning | there is no session |
/// | a peer that is not welcome | is told so | hears nothing |
///
/// The two interoperate.
///
/// # Security
/// The ratchet holds off whoever has stolen a static key but not what the last session left behind. A peer whose
/// ratchet was lost, by a reinstallation, say, looks just like that thief. Persistent mode locks both out until an
/// operator presets a one-time password on both sides; opportunistic mode lets both in and tells the application.
///
/// Two peers of this implementation do not lose each other's ratchet by whatever dies, is closed or is delayed in the
/// middle of a handshake, as long as their stores keep what they were given. An implementation that follows the
/// published text alone may: whoever can hold up its peer's answer to a rekeying, and has that peer open again, can make
/// the two forget each other (PROTOCOL 5.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// Flag 1: which hellos are answered at all. A setting of the context; a hello does not say who it is from.
    pub hellos: Hellos,
    /// Flag 2: what to do as initiator when the responder has lost the ratchet.
    pub as_initiator: Downgrade,
    /// Flag 3: what to do as responder when the initiator has lost the ratchet.
    pub as_responder: Downgrade,
    /// Flag 4: what a peer is told that is refused.
    pub rejection: Rejection,
}

impl Policy {
    /// None of the flags is set. The default.
    //= ZSSP-FLG-07  opportunistic mode and persistent mode
    pub const OPPORTUNISTIC: Self = Self {
        hellos: Hellos::FromAnybody,
        as_initiator: Downgrade::Warn,
        as_responder: Downgrade::Warn,
        rejection: Rejection::Told,
    };
    /// All of the flags are set.
    pub const PERSISTENT: Self = Self {
        hellos: Hellos::WithKnownRatchet,
        as_initiator: Downgrade::Refuse,
        as_responder: Downgrade::Refuse,
        rejection: Rejection::Silent,
    };
}

impl Default for Policy {
    fn default() -> Self {
        Self::OPPORTUNISTIC
    }
}

/// Flag 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hellos {
    /// Everybody is answered.
    FromAnybody,
    /// A hello that does not name a ratchet state of ours gets no answer, not even a challenge: the port looks closed
    /// to strangers. First contact then needs a one-time password on both sides.
    ///
    /// # Security
    /// Nobody is challenged, so whoever sends hellos without end costs this side an agreement of keys for each that it
    /// takes on, 0.2 ms, and takes the places of honest ones: while ten times as many come as it can do, peers wait ten
    /// seconds for a session, on average, and so on. Sessions that are open, and memory, are not affected. The other flags
    /// do not need this one.
    WithKnownRatchet,
}

/// Flags 2 and 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Downgrade {
    /// There is no session; an [`Event::DowngradeRefused`](crate::Event::DowngradeRefused) says why.
    Refuse,
    /// The session goes on from the zero state; an [`Event::Downgraded`](crate::Event::Downgraded) says so.
    Warn,
}

/// Flag 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// It waits until it gives up.
    Silent,
    /// It gets D, an authenticated packet.
    Told,
}
