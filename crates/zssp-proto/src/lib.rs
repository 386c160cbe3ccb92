//! The ZeroTier Secure Sessions Protocol, sans-IO.
#![forbid(unsafe_code)]

pub mod crypto;
#[cfg_attr(not(any(test, loom)), expect(dead_code, reason = "its users come with the data path"))]
mod session;
#[cfg_attr(not(any(test, loom)), expect(dead_code, reason = "its users come with the context"))]
mod sync;
#[cfg_attr(not(test), expect(dead_code, reason = "its users come with the context"))]
mod timers;
pub mod wire;
