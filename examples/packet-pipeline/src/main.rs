//! One session between two machines, driven by plain threads over raw Ethernet, without a runtime.
//!
//! ```text
//! frames -> [ring] -> ingress x N: open -> [window of a channel] -> worker x N: decompress, check
//! sources x N: compress -> [window of a channel] -> egress x N: seal, send in batches -> frames
//! ```
//!
//! Handshakes have a thread and a queue of their own. What is in brackets is bounded, and each says what it drops.

#[cfg(target_os = "linux")]
mod content;
#[cfg(target_os = "linux")]
mod counters;
#[cfg(target_os = "linux")]
mod demo;
#[cfg(target_os = "linux")]
mod egress;
#[cfg(target_os = "linux")]
mod handshakes;
#[cfg(target_os = "linux")]
mod ingress;
#[cfg(target_os = "linux")]
mod node;
#[cfg(target_os = "linux")]
mod pool;
#[cfg(target_os = "linux")]
mod program;
#[cfg(target_os = "linux")]
mod road;
#[cfg(target_os = "linux")]
mod sources;
#[cfg(target_os = "linux")]
mod tally;
#[cfg(target_os = "linux")]
mod workers;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    program::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("raw Ethernet is for Linux only");
}
