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

#[cfg(test)]
mod tests;
