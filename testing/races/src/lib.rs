//! Interleavings of a few threads on what `zssp` shares without a lock. The sources are its own: tokio has no sockets where
//! loom is, so that crate as a whole cannot be built for it.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p zssp-races --lib --profile loom --target-dir target/loom loom
//! ```

#![cfg(all(loom, test))]
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a model that cannot go on says where")]

#[path = "../../../crates/zssp/src/connection/datagrams/inbox.rs"]
mod inbox;
#[path = "../../../crates/zssp/src/connection/datagrams/outbox.rs"]
mod outbox;
mod sync;

mod arriving;
mod leaving;
