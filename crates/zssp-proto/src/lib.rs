//! The ZeroTier Secure Sessions Protocol, sans-IO.
#![forbid(unsafe_code)]

pub mod crypto;
#[cfg_attr(not(any(test, loom)), expect(dead_code, reason = "its users come with the data path"))]
mod session;
#[cfg_attr(not(any(test, loom)), expect(dead_code, reason = "its users come with the context"))]
mod sync;
pub mod wire;
