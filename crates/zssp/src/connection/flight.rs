//! What is under way, and how much more may be.

use std::time::Instant;

use seqex::{Capacity, Event, SeqNo, Timestamp};

use crate::congestion::{NewReno, Usage};

/// Timeouts in a row after which the road counts as collapsed: one may be chance.
const COLLAPSE_AFTER: u32 = 2;

/// Counts the bytes of messages under way and keeps them within the congestion window.
#[derive(Debug)]
pub(super) struct Flight {
    epoch: Instant,
    reno: NewReno,
    /// Bytes of each message under way, by its sequence number's place in the window; 0: not under way.
    sizes: Box<[u32]>,
    bytes: u64,
    /// The next transmission is a probe, which the window does not hold back.
    probe: bool,
    timeouts: u32,
}

impl Flight {
    pub(super) fn new(epoch: Instant, capacity: Capacity, mtu: usize) -> Self {
        Self {
            epoch,
            reno: NewReno::new(mtu),
            sizes: vec![0; capacity.packets() as usize].into_boxed_slice(),
            bytes: 0,
            probe: false,
            timeouts: 0,
        }
    }

    /// Whether one more message may go. It may exceed the window by itself: messages are not divided here.
    pub(super) fn has_room(&self) -> bool {
        self.bytes < self.reno.window() || self.probe
    }

    /// A message of `len` bytes goes out, for the first time or again.
    pub(super) fn sent(&mut self, seq: SeqNo, len: usize) {
        self.landed(seq);
        let len = u32::try_from(len).unwrap_or(u32::MAX).max(1);
        let place = self.place(seq);
        self.sizes[place] = len;
        self.bytes += u64::from(len);
        self.probe = false;
    }

    /// Takes in what the exchange found out. `now` is its clock.
    pub(super) fn on_event(&mut self, now: Timestamp, event: Event) {
        match event {
            Event::Acked { seq, sent_at, in_flight: true, .. } | Event::Held { seq, sent_at } => {
                self.timeouts = 0;
                let usage = if self.bytes * 2 >= self.reno.window() { Usage::Full } else { Usage::Slack };
                let bytes = self.landed(seq);
                self.reno.acknowledged(self.instant(sent_at), bytes, usage);
            }
            // It had landed before: the peer held it, or it was taken for lost and was only late.
            Event::Acked { .. } => self.timeouts = 0,
            Event::Lost { seq, sent_at } => {
                self.landed(seq);
                self.reno.lost(self.instant(now), self.instant(sent_at));
            }
            Event::TimedOut { seq, .. } => {
                self.landed(seq);
                self.probe = true;
                self.timeouts += 1;
                if self.timeouts >= COLLAPSE_AFTER {
                    self.reno.collapsed();
                }
            }
        }
    }

    /// Bytes under way.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that may be under way.
    pub(super) fn window(&self) -> u64 {
        self.reno.window()
    }

    /// The message is not under way any more; how many bytes it had there.
    fn landed(&mut self, seq: SeqNo) -> u64 {
        let place = self.place(seq);
        let len = u64::from(std::mem::take(&mut self.sizes[place]));
        self.bytes -= len;
        len
    }

    /// `sizes` has a power of two of places, so the mask stays inside.
    fn place(&self, seq: SeqNo) -> usize {
        seq.to_u32() as usize & (self.sizes.len() - 1)
    }

    fn instant(&self, at: Timestamp) -> Instant {
        self.epoch.checked_add(at).unwrap_or(self.epoch)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn acked(seq: u32, sent_at: Duration) -> Event {
        Event::Acked { seq: seq.into(), sent_at, rtt: Some(MS), transmissions: 1, in_flight: true }
    }

    #[test]
    fn the_window_holds_back_and_acknowledgements_let_go() {
        let mut flight = Flight::new(Instant::now(), Capacity::default(), 1000);
        for seq in 0..10 {
            assert!(flight.has_room());
            flight.sent(seq.into(), 1000);
        }
        assert!(!flight.has_room());
        flight.on_event(MS, acked(0, Duration::ZERO));
        assert_eq!((flight.bytes(), flight.window()), (9000, 11_000));
        assert!(flight.has_room());
    }

    #[test]
    fn a_resend_is_counted_once() {
        let mut flight = Flight::new(Instant::now(), Capacity::default(), 1000);
        flight.sent(1.into(), 700);
        flight.sent(1.into(), 700);
        assert_eq!(flight.bytes(), 700);
        flight.on_event(MS, Event::Lost { seq: 1.into(), sent_at: Duration::ZERO });
        flight.on_event(MS, acked(1, Duration::ZERO));
        assert_eq!(flight.bytes(), 0);
    }

    #[test]
    fn a_timeout_lets_one_probe_out() {
        let mut flight = Flight::new(Instant::now(), Capacity::default(), 1000);
        flight.sent(0.into(), 60_000);
        assert!(!flight.has_room());
        flight.sent(1.into(), 60_000);
        let timed_out = Event::TimedOut { seq: 0.into(), sent_at: Duration::ZERO };
        flight.on_event(MS, timed_out);
        assert!(flight.has_room());
        flight.sent(0.into(), 60_000);
        assert!(!flight.has_room());
        flight.on_event(MS, timed_out);
        assert_eq!(flight.window(), 2000, "twice in a row: start over");
    }
}
