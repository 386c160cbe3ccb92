//! How much may be under way without choking the road.
//!
//! A [`Controller`] is asked for its window before anything is sent and told what became of it. There are two,
//! [`Cubic`], the default, and [`NewReno`]; another of one's own is given to
//! [`Builder::congestion`](crate::Builder::congestion):
//!
//! ```
//! use std::time::{Duration, Instant};
//! use zssp::congestion::{Acknowledged, Controller, Lost};
//!
//! /// For a road of one's own whose rate is known, in bytes a second: losses there are no sign of congestion.
//! #[derive(Debug)]
//! struct Fixed {
//!     rate: u64,
//!     rtt: Duration,
//! }
//!
//! impl Controller for Fixed {
//!     fn window(&self) -> u64 {
//!         // Twice what is under way at that rate, so that an acknowledgement may be late.
//!         (self.rate as f64 * self.rtt.as_secs_f64() * 2.0) as u64
//!     }
//!     fn rate(&self) -> Option<u64> {
//!         Some(self.rate)
//!     }
//!     fn acknowledged(&mut self, acknowledged: Acknowledged) {
//!         self.rtt = acknowledged.rtt;
//!     }
//!     fn lost(&mut self, _: Lost) {}
//!     fn collapsed(&mut self, _now: Instant) {}
//! }
//!
//! # fn main() -> Result<(), zssp::KeyError> {
//! let key = zssp::SecretKey::generate()?;
//! let fixed = || Fixed { rate: 1_250_000, rtt: Duration::from_millis(100) };
//! let builder = zssp::Endpoint::builder(key).congestion(move |_datagram| Box::new(fixed()));
//! # Ok(()) }
//! ```
//!
//! One that looks for the rate of a road by itself, as BBR does, remembers what [`Controller::sent`] tells: how much had
//! arrived by then. How much more has when that is acknowledged, and how long it took, is the rate at which the road
//! delivers ([`Acknowledged::sent`] is the very moment that [`Sent::now`] was); [`Acknowledged::sample`] is the round trip.

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
///
/// ```
/// use std::time::Instant;
/// use zssp::congestion::{Acknowledged, Controller, Cubic, Lost};
///
/// /// CUBIC that leaves room to others: it never has more than so many bytes under way.
/// #[derive(Debug)]
/// struct Modest(Cubic, u64);
///
/// impl Controller for Modest {
///     fn window(&self) -> u64 {
///         self.0.window().min(self.1)
///     }
///     fn is_in_slow_start(&self) -> bool {
///         self.0.is_in_slow_start()
///     }
///     fn datagram_changed(&mut self, bytes: usize) {
///         self.0.datagram_changed(bytes);
///     }
///     fn acknowledged(&mut self, acknowledged: Acknowledged) {
///         self.0.acknowledged(acknowledged);
///     }
///     fn lost(&mut self, lost: Lost) {
///         self.0.lost(lost);
///     }
///     fn undo(&mut self) {
///         self.0.undo();
///     }
///     fn collapsed(&mut self, now: Instant) {
///         self.0.collapsed(now);
///     }
///     fn moved(&mut self, now: Instant) {
///         self.0.moved(now);
///     }
/// }
/// # assert_eq!(Modest(Cubic::new(1400), 5000).window(), 5000);
/// ```
pub trait Controller: fmt::Debug + Send {
    /// Bytes that may be under way.
    fn window(&self) -> u64;

    /// Bytes a second at which they go out; `None` spreads the window over the round trip. What two milliseconds carry, ten
    /// datagrams at the least, may always go at once, as timers are late; below a datagram a second it is one.
    fn rate(&self) -> Option<u64> {
        None
    }

    /// Whether the window grows with each round trip by as much as it has. What is sent is spread over the round trip,
    /// less so as long as this is so.
    fn is_in_slow_start(&self) -> bool {
        false
    }

    /// Datagrams have so many bytes from now on: the road has been found to carry larger ones than before, or no longer
    /// does.
    fn datagram_changed(&mut self, _bytes: usize) {}

    /// A message goes out, or a part of one. Datagrams, acknowledgements and probes are not told of, and do not count.
    fn sent(&mut self, _sent: Sent) {}

    /// Something has arrived. What was told to be lost, and arrives late, is not told of again.
    fn acknowledged(&mut self, acknowledged: Acknowledged);

    /// Something is lost. It is told for every message and part of one; those of one round trip are one sign of congestion.
    fn lost(&mut self, lost: Lost);

    /// All that made up the last sign of congestion has arrived after all: what that took away may be given back. It is never
    /// told of what belongs to a collapse or to another road.
    fn undo(&mut self) {}

    /// Nothing at all came through for several time-outs. It is told once, until something does; what was sent before and
    /// turns out to be lost belongs to it.
    fn collapsed(&mut self, now: Instant);

    /// All that follows travels on another road, of which nothing is known (RFC 9000 section 9.4).
    fn moved(&mut self, now: Instant) {
        self.collapsed(now);
    }
}

/// What goes out.
///
/// ```
/// use std::time::Instant;
/// use zssp::congestion::Sent;
///
/// /// Since when there has been something under way without a break: how long the road was used.
/// fn busy_since(since: &mut Option<Instant>, sent: &Sent) {
///     if sent.in_flight == sent.bytes || since.is_none() {
///         *since = Some(sent.now);
///     }
/// }
/// ```
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Sent {
    /// When it does.
    pub now: Instant,
    /// Its bytes.
    pub bytes: u64,
    /// Bytes under way, these included.
    pub in_flight: u64,
}

/// What has arrived.
///
/// ```
/// use zssp::congestion::{Acknowledged, Usage};
///
/// /// Reno's growth: by a datagram in each round trip, if the window was of use.
/// fn grow(window: &mut f64, datagram: f64, acknowledged: &Acknowledged) {
///     if acknowledged.usage == Usage::Full {
///         *window += datagram * acknowledged.bytes as f64 / *window;
///     }
/// }
/// ```
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Acknowledged {
    /// When that became known.
    pub now: Instant,
    /// When it was sent.
    pub sent: Instant,
    /// Its bytes.
    pub bytes: u64,
    /// Bytes that are still under way. Some are not any more of which nothing is told: the peer needed them no longer.
    pub in_flight: u64,
    /// The smoothed round trip.
    pub rtt: Duration,
    /// The round trip that it took, where that is known: it was sent once, and the peer did not keep it waiting.
    pub sample: Option<Duration>,
    /// Whether the window was what held the sender back: only such a window should grow.
    pub usage: Usage,
}

/// What is lost.
///
/// ```
/// use std::time::Instant;
/// use zssp::congestion::Lost;
///
/// /// Halves the window once in a round trip: what was sent before that belongs to it.
/// fn halve(window: &mut u64, halved: &mut Option<Instant>, lost: &Lost) {
///     if halved.is_none_or(|at| lost.sent > at) {
///         (*window, *halved) = (*window / 2, Some(lost.now));
///     }
/// }
/// ```
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Lost {
    /// When that became known.
    pub now: Instant,
    /// When it was sent.
    pub sent: Instant,
    /// Its bytes.
    pub bytes: u64,
    /// Bytes that are still under way.
    pub in_flight: u64,
}

/// Whether the window was what held the sender back.
///
/// ```
/// use zssp::congestion::Usage;
///
/// /// Slow start: as much more as has arrived, but a window that is not filled says nothing of what the road carries.
/// fn grow(window: u64, arrived: u64, usage: Usage) -> u64 {
///     match usage {
///         Usage::Full => window + arrived,
///         Usage::Slack => window,
///     }
/// }
/// assert_eq!(grow(12_000, 1_200, Usage::Full), 13_200);
/// assert_eq!(grow(12_000, 1_200, Usage::Slack), 12_000);
/// ```
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
