//! NewReno, in bytes (RFC 9002 section 7).

use std::time::Instant;

use super::{Acknowledged, Controller, INITIAL_DATAGRAMS, Lost, MINIMUM_DATAGRAMS, Usage};

/// How much the window keeps on a loss, as a ratio.
const KEEP: (u64, u64) = (1, 2);

/// The window of NewReno: it doubles every round trip up to the first loss, and from then on grows by a datagram a round
/// trip and halves on a loss.
///
/// ```
/// use zssp::congestion::NewReno;
/// use zssp::{Endpoint, SecretKey};
/// # fn main() -> Result<(), zssp::KeyError> {
/// let key = SecretKey::generate()?;
/// let builder = Endpoint::builder(key).congestion(|datagram| Box::new(NewReno::new(datagram)));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct NewReno {
    datagram: u64,
    window: u64,
    threshold: u64,
    /// Bytes acknowledged towards the next increase in congestion avoidance.
    credit: u64,
    /// What was sent before this moment and is lost belongs to a loss already answered.
    recovery: Option<Instant>,
    /// What all was before the last reduction.
    before: Option<Box<Self>>,
}

impl NewReno {
    /// A window for datagrams of up to `datagram` bytes.
    pub fn new(datagram: usize) -> Self {
        let datagram = datagram as u64;
        Self {
            datagram,
            window: INITIAL_DATAGRAMS * datagram,
            threshold: u64::MAX,
            credit: 0,
            recovery: None,
            before: None,
        }
    }

    fn minimum(&self) -> u64 {
        MINIMUM_DATAGRAMS * self.datagram
    }

    fn reduced(&self) -> u64 {
        (self.window / KEEP.1 * KEEP.0).max(self.minimum())
    }
}

impl Controller for NewReno {
    fn window(&self) -> u64 {
        self.window
    }

    fn is_in_slow_start(&self) -> bool {
        self.window < self.threshold
    }

    fn datagram_changed(&mut self, bytes: usize) {
        self.datagram = bytes as u64;
    }

    fn acknowledged(&mut self, Acknowledged { sent, bytes, usage, .. }: Acknowledged) {
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

    fn lost(&mut self, Lost { now, sent, .. }: Lost) {
        if self.recovery.is_some_and(|start| sent <= start) {
            return;
        }
        self.before = None;
        self.before = Some(Box::new(self.clone()));
        self.recovery = Some(now);
        self.credit = 0;
        self.window = self.reduced();
        self.threshold = self.window;
    }

    fn undo(&mut self) {
        if let Some(before) = self.before.take() {
            let (datagram, window) = (self.datagram, self.window.max(before.window));
            *self = Self { datagram, window, ..*before };
        }
    }

    fn collapsed(&mut self, now: Instant) {
        self.threshold = self.threshold.min(self.reduced());
        self.window = self.minimum();
        (self.recovery, self.credit, self.before) = (Some(now), 0, None);
    }

    fn moved(&mut self, now: Instant) {
        *self = Self { recovery: Some(now), ..Self::new(self.datagram as usize) };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn acknowledge(reno: &mut NewReno, sent: Instant, bytes: u64, usage: Usage) {
        let acknowledged =
            Acknowledged { now: sent, sent, bytes, in_flight: 0, rtt: MS, sample: Some(MS), usage };
        reno.acknowledged(acknowledged);
    }

    fn lose(reno: &mut NewReno, now: Instant, sent: Instant) {
        reno.lost(Lost { now, sent, bytes: 1000, in_flight: 0 });
    }

    #[test]
    fn slow_start_doubles_each_round() {
        let (mut reno, start) = (NewReno::new(1000), Instant::now());
        assert_eq!(reno.window(), 10_000);
        acknowledge(&mut reno, start, 10_000, Usage::Full);
        assert_eq!(reno.window(), 20_000);
        acknowledge(&mut reno, start, 10_000, Usage::Slack);
        assert_eq!(reno.window(), 20_000, "an idle window does not grow");
    }

    #[test]
    fn one_round_of_losses_halves_once_then_grows_by_a_datagram() {
        let (mut reno, start) = (NewReno::new(1000), Instant::now());
        acknowledge(&mut reno, start, 10_000, Usage::Full);
        lose(&mut reno, start + 2 * MS, start + MS);
        lose(&mut reno, start + 3 * MS, start + 2 * MS);
        assert_eq!(reno.window(), 10_000);
        acknowledge(&mut reno, start + MS, 5_000, Usage::Full);
        assert_eq!(reno.window(), 10_000, "what was sent before the loss earns nothing");
        acknowledge(&mut reno, start + 4 * MS, 10_000, Usage::Full);
        assert_eq!(reno.window(), 11_000);
        lose(&mut reno, start + 6 * MS, start + 5 * MS);
        assert_eq!(reno.window(), 5_500, "a loss of the next round counts");
    }

    #[test]
    fn the_window_has_a_floor() {
        let (mut reno, start) = (NewReno::new(1000), Instant::now());
        for i in 0..20 {
            lose(&mut reno, start + i * MS, start + i * MS);
        }
        assert_eq!(reno.window(), 2_000);
    }

    #[test]
    fn after_a_collapse_slow_start_leads_back_to_half() {
        let (mut reno, start) = (NewReno::new(1000), Instant::now());
        reno.collapsed(start);
        assert_eq!(reno.window(), 2_000);
        lose(&mut reno, start + MS, start);
        assert_eq!(reno.threshold, 5_000, "what was lost before belongs to it");
        acknowledge(&mut reno, start + MS, 2_000, Usage::Full);
        acknowledge(&mut reno, start + 2 * MS, 1_000, Usage::Full);
        assert_eq!(reno.window(), 5_000, "doubling up to the threshold");
        acknowledge(&mut reno, start + 3 * MS, 5_000, Usage::Full);
        assert_eq!(reno.window(), 6_000, "then a datagram a round");
    }

    #[test]
    fn a_reduction_for_what_was_only_late_is_taken_back() {
        let (mut reno, start) = (NewReno::new(1000), Instant::now());
        lose(&mut reno, start + MS, start);
        assert_eq!(reno.window(), 5_000);
        reno.undo();
        assert_eq!((reno.window(), reno.is_in_slow_start()), (10_000, true));
        lose(&mut reno, start + 2 * MS, start);
        reno.collapsed(start + 3 * MS);
        reno.undo();
        assert_eq!(reno.window(), 2_000, "nothing came through");
    }

    #[test]
    fn another_road_is_a_new_beginning() {
        let (mut reno, start) = (NewReno::new(1000), Instant::now());
        lose(&mut reno, start, start);
        reno.moved(start + MS);
        lose(&mut reno, start + 2 * MS, start);
        acknowledge(&mut reno, start, 5_000, Usage::Full);
        assert_eq!((reno.window(), reno.is_in_slow_start()), (10_000, true), "what is heard of the old one");
    }
}
