//! The `zssp` command as a user uses it: real processes, real UDP on the loopback interface.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking, in its helpers too")]

mod endings;
#[cfg(all(feature = "ethernet", target_os = "linux"))]
mod ethernet;
mod harness;
mod keys;
mod measuring;
mod ratchets;
mod relay;
mod resuming;
mod storage;
mod transfers;
