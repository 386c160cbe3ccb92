//! The ZeroTier Fragmentation Protocol (PROTOCOL 3): packets to datagrams and back.
//!
//! Sending: a packet is sealed at the end of a buffer, [`Split`] says how it falls apart, [`spread`] moves the
//! pieces forward to make room for headers, [`protect`] encrypts those; the buffer then holds all datagrams.
//! Receiving: [`unprotect`], [`admitted`], then an [`Assembly`] per packet, without shared memory while the
//! fragments of one packet come in one batch; what a batch leaves unfinished waits in the session's
//! [`Reassembly`]. Hellos have no session yet and meet in the [`HelloCache`].

mod assembly;
mod budget;
mod hello_cache;
mod nonce;
mod protection;
mod reassembly;
mod split;

pub(crate) use assembly::{Assembly, Inserted, Spares};
pub(crate) use budget::Budget;
pub(crate) use hello_cache::{Cached, HelloCache};
pub(crate) use nonce::{Route, admitted};
pub(crate) use protection::{protect, unprotect, unprotected};
pub(crate) use reassembly::{Limits, Outcome, Reassembly};
pub(crate) use split::{Run, Split, SplitError, spread};

/// Where a test's clock starts: at any instant.
#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "an origin to add to, never compared with real time")]
pub(crate) fn test_origin() -> std::time::Instant {
    std::time::Instant::now()
}
