//! NewReno, in bytes (RFC 9002 section 7).

use std::time::Instant;

/// How much the window keeps on a loss, as a ratio.
const KEEP: (u64, u64) = (1, 2);
/// The initial window, in datagrams.
const INITIAL_DATAGRAMS: u64 = 10;
/// The window never falls below this many datagrams.
const MINIMUM_DATAGRAMS: u64 = 2;

/// The window of bytes that may be under way.
///
/// A sender with nothing under way may always send one payload, whatever its size: payloads are not divided
/// here, and one that is larger than the window would otherwise wait forever.
#[derive(Debug)]
pub(crate) struct NewReno {
    datagram: u64,
    window: u64,
    threshold: u64,
    /// Bytes acknowledged towards the next increase in congestion avoidance.
    credit: u64,
    /// What was sent before this moment and is lost belongs to a loss already answered.
    recovery: Option<Instant>,
}

impl NewReno {
    /// A window for datagrams of up to `datagram` bytes.
    pub(crate) fn new(datagram: usize) -> Self {
        let datagram = datagram as u64;
        Self {
            datagram,
            window: INITIAL_DATAGRAMS * datagram,
            threshold: u64::MAX,
            credit: 0,
            recovery: None,
        }
    }

    /// Bytes that may be under way.
    pub(crate) fn window(&self) -> u64 {
        self.window
    }

    /// `bytes` sent at `sent` have arrived. Only a window that was in use grows.
    pub(crate) fn acknowledged(&mut self, sent: Instant, bytes: u64, usage: Usage) {
        if usage == Usage::Slack || self.recovery.is_some_and(|start| sent <= start) {
            return;
        }
        if self.window < self.threshold {
            self.window = self.window.saturating_add(bytes);
            return;
        }
        self.credit += bytes;
        if self.credit >= self.window {
            self.credit -= self.window;
            self.window = self.window.saturating_add(self.datagram);
        }
    }

    /// Something sent at `sent` is lost. Everything lost of one round trip counts once.
    pub(crate) fn lost(&mut self, now: Instant, sent: Instant) {
        if self.recovery.is_some_and(|start| sent <= start) {
            return;
        }
        self.recovery = Some(now);
        self.credit = 0;
        self.window = (self.window / KEEP.1 * KEEP.0).max(self.minimum());
        self.threshold = self.window;
    }

    /// Nothing at all came through for several timeouts: start over from the minimum.
    pub(crate) fn collapsed(&mut self) {
        self.recovery = None;
        self.credit = 0;
        self.window = self.minimum();
    }

    fn minimum(&self) -> u64 {
        MINIMUM_DATAGRAMS * self.datagram
    }
}

/// Whether the window was what held the sender back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    /// The window was full.
    Full,
    /// There was nothing more to send, or another limit held.
    Slack,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn slow_start_doubles_each_round() {
        let (mut reno, start) = (NewReno::new(1000), Instant::now());
        assert_eq!(reno.window(), 10_000);
        reno.acknowledged(start, 10_000, Usage::Full);
        assert_eq!(reno.window(), 20_000);
        reno.acknowledged(start, 10_000, Usage::Slack);
        assert_eq!(reno.window(), 20_000, "an idle window does not grow");
    }

    #[test]
    fn one_round_of_losses_halves_once_then_grows_by_a_datagram() {
        let (mut reno, start) = (NewReno::new(1000), Instant::now());
        reno.acknowledged(start, 10_000, Usage::Full);
        reno.lost(start + 2 * MS, start + MS);
        reno.lost(start + 3 * MS, start + 2 * MS);
        assert_eq!(reno.window(), 10_000);
        reno.acknowledged(start + MS, 5_000, Usage::Full);
        assert_eq!(reno.window(), 10_000, "what was sent before the loss earns nothing");
        reno.acknowledged(start + 4 * MS, 10_000, Usage::Full);
        assert_eq!(reno.window(), 11_000);
        reno.lost(start + 6 * MS, start + 5 * MS);
        assert_eq!(reno.window(), 5_500, "a loss of the next round counts");
    }

    #[test]
    fn the_window_has_a_floor() {
        let (mut reno, start) = (NewReno::new(1000), Instant::now());
        for i in 0..20 {
            reno.lost(start + i * MS, start + i * MS);
        }
        assert_eq!(reno.window(), 2_000);
    }

    #[test]
    fn after_a_collapse_slow_start_leads_back_to_half() {
        let (mut reno, start) = (NewReno::new(1000), Instant::now());
        reno.lost(start, start);
        assert_eq!(reno.window(), 5_000);
        reno.collapsed();
        assert_eq!(reno.window(), 2_000);
        reno.acknowledged(start + MS, 2_000, Usage::Full);
        reno.acknowledged(start + 2 * MS, 1_000, Usage::Full);
        assert_eq!(reno.window(), 5_000, "doubling up to the threshold");
        reno.acknowledged(start + 3 * MS, 5_000, Usage::Full);
        assert_eq!(reno.window(), 6_000, "then a datagram a round");
    }
}
