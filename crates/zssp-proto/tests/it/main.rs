//! Sessions as an application and its peers see them. What needs a process of its own is beside this directory.
#![cfg(any(feature = "aws-lc", feature = "rust-crypto"))]
#![allow(clippy::unwrap_used, reason = "in a test it is the assertion")]

mod admission;
mod adversary;
mod challenge;
mod closing;
mod elsewhere;
mod handshake;
mod interrupted;
mod network;
mod policy;
mod providers;
mod ratchet;
mod rekey;
mod states;
mod store;
mod threads;
mod vectors;
mod week;
mod whose_failure;
