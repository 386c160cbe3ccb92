//! How much may be under way without choking the road.
//!
//! A [`Controller`] is asked for its window before anything is sent and told what became of it. There are two,
//! [`Cubic`], the default, and [`NewReno`]; another of one's own is given to
//! [`Builder::congestion`](crate::Builder::congestion):
//!
//! ```
//! use std::time::Instant;
//! use zssp::congestion::{Acknowledged, Controller};
//!
//! /// A window that never changes, for a road of one's own whose rate is known.
//! #[derive(Debug)]
//! struct Fixed(u64);
//!
//! impl Controller for Fixed {
//!     fn window(&self) -> u64 {
//!         self.0
//!     }
//!     fn acknowledged(&mut self, _: Acknowledged) {}
//!     fn lost(&mut self, _now: Instant, _sent: Instant) {}
//!     fn collapsed(&mut self) {}
//! }
//!
//! # fn main() -> Result<(), zssp::KeyError> {
//! let key = zssp::SecretKey::generate()?;
//! let builder = zssp::Endpoint::builder(key).congestion(|_datagram| Box::new(Fixed(1 << 20)));
//! # Ok(()) }
//! ```

mod cubic;
mod new_reno;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use cubic::Cubic;
pub use new_reno::NewReno;

/// The initial window, in datagrams (RFC 9002 section 7.2).
pub(crate) const INITIAL_DATAGRAMS: u64 = 10;

/// The window never falls below this many datagrams.
const MINIMUM_DATAGRAMS: u64 = 2;

/// Decides how many bytes of messages a connection may have under way.
///
/// A sender with nothing under way may always send one message, whatever its size and the window. Its methods are called
/// with the connection's state locked: they compute, and nothing else.
pub trait Controller: fmt::Debug + Send {
    /// Bytes that may be under way.
    fn window(&self) -> u64;

    /// Whether the window grows with each round trip by as much as it has. What is sent is spread over the round trip,
    /// less so as long as this is so.
    fn is_in_slow_start(&self) -> bool {
        false
    }

    /// Datagrams have so many bytes from now on: the road has been found to carry larger ones than before, or no longer
    /// does.
    fn datagram_changed(&mut self, _bytes: usize) {}

    /// Something has arrived.
    fn acknowledged(&mut self, acknowledged: Acknowledged);

    /// Something sent at `sent` is lost. It is told for every message; those of one round trip are one sign of congestion.
    fn lost(&mut self, now: Instant, sent: Instant);

    /// Nothing at all came through for several time-outs.
    fn collapsed(&mut self);
}

/// What has arrived.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Acknowledged {
    /// When that became known.
    pub now: Instant,
    /// When it was sent.
    pub sent: Instant,
    /// Its bytes.
    pub bytes: u64,
    /// The smoothed round trip.
    pub rtt: Duration,
    /// Whether the window was what held the sender back: only such a window should grow.
    pub usage: Usage,
}

/// Whether the window was what held the sender back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// The window was full.
    Full,
    /// There was nothing more to send, or another limit held.
    Slack,
}

/// Makes a controller for each connection, given the bytes of its datagrams.
#[derive(Clone)]
pub(crate) struct Factory(pub(crate) Arc<dyn Fn(usize) -> Box<dyn Controller> + Send + Sync>);

impl fmt::Debug for Factory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Factory")
    }
}
