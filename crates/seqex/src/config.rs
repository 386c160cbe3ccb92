//! How an exchange is set up.

use core::time::Duration;

use crate::SeqNo;

/// How many packets each direction may have under way: a power of two from 2 to 2³⁰.
///
/// Both ends must use the same capacity; it is agreed upon like the first sequence number. A power of two, so that
/// the slots of neighbours stay apart where the numbers wrap; and at most 2³⁰, because a number is told to be before or
/// after another one by the shorter way around the 2³² that there are, and what is compared can be two windows apart.
/// A window takes memory for as many packets as there were in it at a time, not for all that there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Capacity(u32);

/// The number is not a power of two between 2 and 2³⁰.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a window holds a power of two of packets between 2 and 2^30")]
pub struct BadCapacity;

impl Capacity {
    /// A capacity of `packets`.
    ///
    /// # Errors
    /// [`BadCapacity`] unless it is a power of two from 2 to 2³⁰.
    pub const fn new(packets: u32) -> Result<Self, BadCapacity> {
        //= ZSSP-DEF-22  so that slots stay apart where numbers wrap
        if packets.is_power_of_two() && packets >= 2 && packets <= 1 << 30 {
            Ok(Self(packets))
        } else {
            Err(BadCapacity)
        }
    }

    /// The number of packets.
    pub const fn packets(self) -> u32 {
        self.0
    }
}

impl Default for Capacity {
    //= ZSSP-SEQ-13  64 slots by default
    /// 64 packets (PROTOCOL 8.3).
    fn default() -> Self {
        Self(64)
    }
}

/// When packets are sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resend {
    /// By the measured round trip and by evidence of loss.
    Adaptive(Adaptive),
    /// Each packet whenever this long has passed since its last transmission, as in the bare protocol;
    /// at least a millisecond.
    Fixed(Duration),
}

impl Resend {
    /// Every 250 ms: what the bare protocol does (PROTOCOL 8.3).
    pub const BARE: Self = Self::Fixed(Duration::from_millis(250));
}

impl Default for Resend {
    fn default() -> Self {
        Self::Adaptive(Adaptive::default())
    }
}

/// Bounds of the measured resend time-out (RFC 6298). None of them is taken for less than a millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adaptive {
    /// Before the first measurement.
    pub initial: Duration,
    /// The least it may become.
    pub min: Duration,
    /// The most it may become, back-off included.
    pub max: Duration,
}

impl Default for Adaptive {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(250),
            min: Duration::from_millis(10),
            max: Duration::from_secs(10),
        }
    }
}

/// Whether [`Event`](crate::Event)s are kept for [`SeqEx::poll_event`](crate::SeqEx::poll_event).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feedback {
    /// Kept until drained; for callers with congestion control.
    Collect,
    /// Not kept.
    Discard,
}

/// How an exchange is set up. `Config::default()` fits two programs on one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Packets under way per direction; the same on both ends.
    pub capacity: Capacity,
    //= ZSSP-SEQ-04  agreed, zero by default
    /// The number of the first packet in either direction; the same on both ends.
    pub first_seq: SeqNo,
    /// When packets are sent again.
    pub resend: Resend,
    /// How long a packet may stay without an answer, counted from when it was sent, before the exchange reports failure. That
    /// it was never transmitted counts as well: a link that takes nothing for so long is as good as broken.
    pub give_up_after: Option<Duration>,
    /// Whether events are collected.
    pub feedback: Feedback,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            capacity: Capacity::default(),
            first_seq: SeqNo::new(0),
            resend: Resend::default(),
            give_up_after: None,
            feedback: Feedback::Discard,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    //= ZSSP-DEF-22  and nothing else
    //= ZSSP-SEQ-13  64 by default
    #[test]
    fn a_window_is_a_power_of_two_of_which_four_fit_into_the_numbers() {
        for packets in [2, 64, 1 << 17, 1 << 30] {
            assert_eq!(Capacity::new(packets).map(Capacity::packets), Ok(packets));
        }
        assert_eq!(Capacity::default().packets(), 64);
        for packets in [0, 1, 3, 63, 65535, (1 << 30) + 1, 1 << 31, u32::MAX] {
            assert_eq!(Capacity::new(packets), Err(BadCapacity));
        }
    }
}
