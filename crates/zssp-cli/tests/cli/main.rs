//! The `zssp` command as a user uses it: real processes, real UDP on the loopback interface.
#![cfg(unix)]

mod endings;
mod harness;
mod keys;
mod storage;
mod transfers;
