//! Endpoints and connections as an application uses them. What needs a process of its own is beside this directory.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod blocked;
mod bottleneck;
mod bridge;
mod bundles;
mod cancelled;
mod channel;
mod close;
mod common;
mod connect;
mod controller;
mod datagrams;
mod early;
mod ending;
mod ends;
mod flood;
mod held;
#[cfg(target_os = "linux")]
mod kernel_bottleneck;
#[cfg(target_os = "linux")]
mod kernel_loss;
#[cfg(target_os = "linux")]
mod kernel_mtu;
#[cfg(target_os = "linux")]
mod local_address;
mod lossy;
mod mtu;
mod offload;
mod operator;
mod options;
mod parallel;
mod receive_errors;
mod replies;
mod roaming;
mod room;
mod runtimes;
mod send_errors;
mod sessions;
mod simulated;
mod stream;
mod unproven_address;
mod without_waiting;
