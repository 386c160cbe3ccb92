//! Every packet as a typed view of bytes (PROTOCOL 3.1, 4 and 5.1).
//!
//! A view proves the length in its constructor; its getters cannot fail. No index arithmetic happens elsewhere.

mod challenge;
mod completion;
mod control;
mod header;
mod hello;
mod reader;
mod rekey;
mod response;

pub use challenge::{Challenge, ChallengePacket};
pub use completion::{Completion, SealedIdentity};
pub use control::Control;
pub use header::{FragmentHeader, KeyId, PacketNonce, PacketType};
pub use hello::Hello;
pub use rekey::{Rekey, RekeyBody};
pub use response::Response;

/// Bytes of a fragment header (PROTOCOL 3.1).
pub const HEADER_LEN: usize = 16;
/// Fragments one packet may have (PROTOCOL 3.1).
pub const MAX_FRAGMENTS: usize = 48;
/// The shortest fragment that is read at all (PROTOCOL 3.3).
pub const MIN_FRAGMENT_LEN: usize = 32;
/// The smallest MTU that packets can be split to (PROTOCOL 3.2).
pub const MIN_MTU: usize = 128;

/// Bytes that are not what their place says: a wrong length, count or type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed packet")]
pub struct Malformed;

// Nobody has others flooded by way of this side with more than he sends: what goes to where a packet came from, before
// that place has proven anything, is no longer than the packet. X3 can be longer than X2, and goes where X1 went.
const _: () = {
    // The answers to X1.
    assert!(ChallengePacket::LEN <= Hello::LEN && Response::LEN <= Hello::LEN);
    // C1 or D to X3, and C1 to K2. K2 has the form of K1, and C2 that of C1.
    assert!(Control::LEN <= Completion::MIN_LEN && Control::LEN <= Rekey::LEN);
    // Each of these is one datagram, whatever the MTU of either side.
    assert!(HEADER_LEN + Rekey::LEN <= MIN_MTU && HEADER_LEN + ChallengePacket::LEN <= MIN_MTU);
    // X2 is split as X1 is, unless Bob's datagrams are smaller than Alice's: then it has more headers, for a tenth at most.
    let x2 = Response::LEN + HEADER_LEN * Response::LEN.div_ceil(MIN_MTU - HEADER_LEN);
    assert!(10 * x2 <= 11 * (HEADER_LEN + Hello::LEN));
};

#[cfg(test)]
mod tests;
