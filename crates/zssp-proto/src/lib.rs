//! The ZeroTier Secure Sessions Protocol, sans-IO.
#![forbid(unsafe_code)]

pub mod crypto;
pub mod wire;
