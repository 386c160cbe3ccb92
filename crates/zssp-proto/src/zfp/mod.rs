//! The ZeroTier Fragmentation Protocol (PROTOCOL 3): packets to datagrams and back.
//!
//! Sending: a packet is sealed at the end of a buffer, [`Split`] says how it falls apart, [`spread`] moves the
//! pieces forward to make room for headers, [`protect`] encrypts those; the buffer then holds all datagrams.
//! Receiving: [`unprotect`], [`admitted`], then an [`Assembly`] per packet, without shared memory while the
//! fragments of one packet come in one batch; what a batch leaves unfinished waits in the session's
//! [`Reassembly`]. Hellos have no session yet and meet in the [`HelloCache`].

mod protection;
mod split;

pub(crate) use protection::{protect, unprotect};
pub(crate) use split::{Split, SplitError, spread};
