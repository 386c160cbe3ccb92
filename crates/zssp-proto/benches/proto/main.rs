//! How far the protocol is from the cryptography it is made of.
//!
//! Every figure stands beside its *floor*: the calls of the cryptographic library that nobody can leave out, made
//! directly, on the same bytes, in the same run, alternating with ours. The ratio of the two survives a busy machine;
//! the nanoseconds do not. See `docs/performance.md`.
//!
//! ```text
//! cargo bench -p zssp-proto                     # everything but 100,000 sessions and more
//! cargo bench -p zssp-proto -- open             # what has `open` in its name
//! cargo bench -p zssp-proto -- sessions/1000000 # only when asked for by its whole name
//! cargo bench -p zssp-proto -- --loop seal/1400 # for a profiler: ours alone, a fixed number of times
//! ```
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a benchmark that fails has nothing to say")]
#![allow(clippy::disallowed_methods, reason = "measuring is what the clock is for")]

mod flood;
mod floor;
mod handshake;
mod measure;
mod packets;
mod peers;
mod sessions;
mod silent;
mod threads;

fn main() {
    let mut report = measure::Report::from_args(std::env::args().skip(1));
    report.section("one thread, one session, MTU 1500");
    packets::seal(&mut report);
    packets::open(&mut report);
    report.section("handshake, each side by itself");
    handshake::sides(&mut report);
    handshake::primitives(&mut report);
    report.section("two threads on one session, times the packets of one thread");
    threads::scaling(&mut report);
    report.section("packets of 1400 bytes to one of many sessions, each packet to another");
    sessions::many(&mut report);
    report.section(
        "a hello from a stranger, and what its sender pays for a challenge (with the making of its hello)",
    );
    flood::strangers(&mut report);
    report.section("the same where only known peers are answered, and nobody is challenged");
    silent::strangers(&mut report);
}
