//! The ZeroTier Secure Sessions Protocol, sans-IO.
#![forbid(unsafe_code)]

mod address;
mod context;
pub mod crypto;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod wire;
#[allow(dead_code, unused_imports, reason = "the session layer above is still to come")]
mod zfp;
