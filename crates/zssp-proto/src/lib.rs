//! The ZeroTier Secure Sessions Protocol, sans-IO.
#![forbid(unsafe_code)]

pub mod crypto;
pub mod wire;
#[cfg_attr(not(test), expect(dead_code, unused_imports, reason = "the session layer above is still to come"))]
mod zfp;
