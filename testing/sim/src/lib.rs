//! What tests of the protocols share: time, a network and recorded sessions, all of them values.
//!
//! - [`clock`]: time that moves when the test says so.
//! - [`network`]: links that delay, reorder, lose, duplicate, corrupt, limit, and can be cut, from a seed.
//! - [`seeds`]: a scenario run over many seeds, and again over the one that failed.
//! - [`vectors`]: recorded sessions, read from files and written to them.
//!
//! Nothing here knows the protocols, and nothing waits, opens a socket or starts a thread.
#![forbid(unsafe_code)]

pub mod clock;
mod hex;
pub mod network;
pub mod seeds;
pub mod vectors;

pub use clock::Clock;
pub use network::{Address, Conditions, Delivery, Network};
