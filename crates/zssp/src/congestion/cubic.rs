//! CUBIC (RFC 9438), in bytes.

use std::time::{Duration, Instant};

use super::{Acknowledged, Controller, INITIAL_DATAGRAMS, Lost, MINIMUM_DATAGRAMS, Usage};

/// How fast the window grows, in datagrams per second cubed (RFC 9438 section 5).
const C: f64 = 0.4;

/// What the window keeps on a loss (section 4.6).
const BETA: f64 = 0.7;

/// How much faster than by one datagram a round trip Reno must grow to be as strong as one that halves (section 4.3).
const RENO_GROWTH: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// The window of CUBIC: after a loss it returns quickly to near what it was, stays there for long, and only then looks
/// for more. How fast does not depend on the round trip, which makes it the better choice where that is long. It is what
/// connections have unless [`Builder::congestion`](crate::Builder::congestion) says otherwise.
///
/// ```
/// use zssp::congestion::{Controller, Cubic};
///
/// assert_eq!(Cubic::new(1400).window(), 14_000, "ten datagrams to begin with");
/// ```
#[derive(Debug, Clone)]
pub struct Cubic {
    datagram: f64,
    window: f64,
    threshold: f64,
    /// The window before the last reduction.
    max: f64,
    /// The curve in use, in congestion avoidance.
    curve: Option<Curve>,
    /// What was sent before this moment and is lost belongs to a loss already answered.
    recovery: Option<Instant>,
    /// What all was before the last reduction.
    before: Option<Box<Self>>,
}

/// One stretch without loss.
#[derive(Debug, Clone)]
struct Curve {
    start: Instant,
    /// Seconds from its start until it is back at the maximum.
    k: f64,
    /// The plateau.
    origin: f64,
    /// What Reno's window would be.
    reno: f64,
    /// The last time that the window was what held the sender back: time without that does not count.
    used: Instant,
}

impl Cubic {
    /// A window for datagrams of up to `datagram` bytes.
    pub fn new(datagram: usize) -> Self {
        let datagram = datagram as f64;
        Self {
            datagram,
            window: INITIAL_DATAGRAMS as f64 * datagram,
            threshold: f64::INFINITY,
            max: 0.0,
            curve: None,
            recovery: None,
            before: None,
        }
    }

    fn minimum(&self) -> f64 {
        MINIMUM_DATAGRAMS as f64 * self.datagram
    }

    fn new_curve(&self, now: Instant) -> Curve {
        let distance = (self.max - self.window).max(0.0) / self.datagram;
        Curve {
            start: now,
            k: (distance / C).cbrt(),
            origin: self.max.max(self.window),
            reno: self.window,
            used: now,
        }
    }

    fn avoid_congestion(&mut self, acknowledged: &Acknowledged) {
        let (now, rtt) = (acknowledged.now, acknowledged.rtt);
        let curve = match self.curve.take() {
            Some(curve) => curve,
            None => self.new_curve(now),
        };
        let curve = self.curve.insert(curve);
        if acknowledged.usage == Usage::Slack {
            curve.start += now.saturating_duration_since(curve.used);
            curve.used = now;
            return;
        }
        curve.used = now;
        let at = |time: Duration| {
            let offset = time.as_secs_f64() - curve.k;
            curve.origin + C * offset.powi(3) * self.datagram
        };
        let elapsed = now.saturating_duration_since(curve.start);
        // Where the curve is in a round trip, but never faster than by half in each (section 4.2).
        let target = at(elapsed + rtt).clamp(self.window, self.window * 1.5);
        let bytes = acknowledged.bytes as f64;
        let growth = if curve.reno < self.max { RENO_GROWTH } else { 1.0 };
        curve.reno += growth * self.datagram * bytes / self.window;
        if at(elapsed) < curve.reno {
            self.window = self.window.max(curve.reno);
        } else {
            self.window += (target - self.window) * bytes / self.window;
        }
    }
}

impl Controller for Cubic {
    fn window(&self) -> u64 {
        self.window as u64
    }

    fn is_in_slow_start(&self) -> bool {
        self.window < self.threshold
    }

    fn datagram_changed(&mut self, bytes: usize) {
        self.datagram = bytes as f64;
    }

    fn acknowledged(&mut self, acknowledged: Acknowledged) {
        if self.recovery.is_some_and(|start| acknowledged.sent <= start) {
            return;
        }
        if self.window < self.threshold {
            if acknowledged.usage == Usage::Full {
                self.window += acknowledged.bytes as f64;
            }
        } else {
            self.avoid_congestion(&acknowledged);
        }
    }

    fn lost(&mut self, Lost { now, sent, .. }: Lost) {
        if self.recovery.is_some_and(|start| sent <= start) {
            return;
        }
        self.before = None;
        self.before = Some(Box::new(self.clone()));
        self.recovery = Some(now);
        // Fast convergence (section 4.7): one that did not get back to where it was leaves room to newcomers.
        self.max = if self.window < self.max { self.window * (1.0 + BETA) / 2.0 } else { self.window };
        self.window = (self.window * BETA).max(self.minimum());
        self.threshold = self.window;
        self.curve = None;
    }

    /// Section 4.9.2.
    fn undo(&mut self) {
        if let Some(before) = self.before.take() {
            let (datagram, window) = (self.datagram, self.window.max(before.window));
            *self = Self { datagram, window, ..*before };
        }
    }

    fn collapsed(&mut self, now: Instant) {
        self.max = self.window.max(self.max);
        self.threshold = (self.window * BETA).max(self.minimum()).min(self.threshold);
        self.window = self.minimum();
        (self.recovery, self.curve, self.before) = (Some(now), None, None);
    }

    fn moved(&mut self, now: Instant) {
        *self = Self { recovery: Some(now), ..Self::new(self.datagram as usize) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const DATAGRAM: usize = 1000;

    fn lose(cubic: &mut Cubic, now: Instant, sent: Instant) {
        cubic.lost(Lost { now, sent, bytes: DATAGRAM as u64, in_flight: 0 });
    }

    fn acknowledged(now: Instant, sent: Instant, bytes: u64, usage: Usage) -> Acknowledged {
        let rtt = now - sent;
        Acknowledged { now, sent, bytes, in_flight: 0, rtt, sample: Some(rtt), usage }
    }

    /// A road with a round trip of `rtt` on which each window arrives whole, for `time`. Yields the window over time.
    fn grow(cubic: &mut Cubic, now: &mut Instant, rtt: Duration, time: Duration) -> Vec<u64> {
        let end = *now + time;
        let mut windows = Vec::new();
        while *now < end {
            let sent = *now;
            *now += rtt;
            let mut left = cubic.window();
            while left > 0 {
                let bytes = left.min(DATAGRAM as u64);
                cubic.acknowledged(acknowledged(*now, sent, bytes, Usage::Full));
                left -= bytes;
            }
            windows.push(cubic.window());
        }
        windows
    }

    #[test]
    fn slow_start_doubles_each_round() {
        let (mut cubic, mut now) = (Cubic::new(DATAGRAM), Instant::now());
        assert_eq!(grow(&mut cubic, &mut now, 100 * MS, 300 * MS), [20_000, 40_000, 80_000]);
    }

    #[test]
    fn after_a_loss_the_window_returns_on_the_curve_of_the_rfc() {
        let (mut cubic, mut now) = (Cubic::new(DATAGRAM), Instant::now());
        grow(&mut cubic, &mut now, 100 * MS, 700 * MS);
        let max = cubic.window();
        assert_eq!(max, 1_280_000);
        now += MS;
        lose(&mut cubic, now, now - MS);
        assert_eq!(cubic.window(), max / 10 * 7);
        lose(&mut cubic, now + MS, now - MS);
        assert_eq!(cubic.window(), max / 10 * 7, "a round of losses counts once");
        now += MS;
        // K is the cube root of 0.3 * 1280 / 0.4 datagrams: 9.9 s.
        let windows = grow(&mut cubic, &mut now, 100 * MS, Duration::from_secs(20));
        let after = |seconds: usize| windows[seconds * 10 - 1] as f64 / max as f64;
        assert!((0.90..0.97).contains(&after(4)), "concave at first: {}", after(4));
        assert!((0.99..1.01).contains(&after(10)), "a plateau at the old maximum: {}", after(10));
        assert!(after(20) > 1.2, "then convex: {}", after(20));
        assert!(windows.windows(2).all(|pair| pair[0] <= pair[1]));
    }

    #[test]
    fn on_a_short_road_it_is_as_fast_as_reno() {
        let (mut cubic, mut now) = (Cubic::new(DATAGRAM), Instant::now());
        grow(&mut cubic, &mut now, MS, MS);
        now += MS;
        lose(&mut cubic, now, now);
        now += MS;
        let start = cubic.window();
        grow(&mut cubic, &mut now, MS, 100 * MS);
        // About one datagram a round trip.
        assert!(cubic.window() - start > 50_000, "{}", cubic.window() - start);
    }

    #[test]
    fn a_sender_with_nothing_to_send_does_not_grow() {
        let (mut cubic, mut now) = (Cubic::new(DATAGRAM), Instant::now());
        lose(&mut cubic, now, now);
        let window = cubic.window();
        for _ in 0..1000 {
            now += 100 * MS;
            cubic.acknowledged(acknowledged(now, now - 100 * MS + MS, 1000, Usage::Slack));
        }
        assert_eq!(cubic.window(), window);
        // And the time it was idle is not made good at once.
        cubic.acknowledged(acknowledged(now, now - MS, 1000, Usage::Full));
        assert!(cubic.window() < window + 2000, "{}", cubic.window());
    }

    #[test]
    fn a_collapse_starts_over_and_the_window_has_a_floor() {
        let (mut cubic, now) = (Cubic::new(DATAGRAM), Instant::now());
        cubic.collapsed(now);
        assert_eq!(cubic.window(), 2000);
        for round in 1..10 {
            lose(&mut cubic, now + round * MS, now + round * MS);
        }
        assert_eq!(cubic.window(), 2000);
    }

    /// What was under way when nothing came through is taken for lost when something does again.
    #[test]
    fn losses_from_before_a_collapse_leave_the_way_back_as_it_is() {
        let (mut cubic, mut now) = (Cubic::new(DATAGRAM), Instant::now());
        grow(&mut cubic, &mut now, 100 * MS, 300 * MS);
        let sent = now;
        now += 100 * MS;
        cubic.collapsed(now);
        lose(&mut cubic, now + 100 * MS, sent);
        assert!(cubic.is_in_slow_start());
        now += MS;
        assert_eq!(grow(&mut cubic, &mut now, 100 * MS, 500 * MS)[..4], [4000, 8000, 16_000, 32_000]);
    }

    #[test]
    fn a_reduction_for_what_was_only_late_is_taken_back() {
        let (mut cubic, mut now) = (Cubic::new(DATAGRAM), Instant::now());
        grow(&mut cubic, &mut now, 100 * MS, 300 * MS);
        now += MS;
        lose(&mut cubic, now, now - MS);
        assert_eq!((cubic.window(), cubic.is_in_slow_start()), (56_000, false));
        cubic.undo();
        assert_eq!((cubic.window(), cubic.is_in_slow_start()), (80_000, true));
        cubic.undo();
        assert_eq!(cubic.window(), 80_000, "once");
        // On the curve it goes on from where it was.
        lose(&mut cubic, now, now);
        now += MS;
        grow(&mut cubic, &mut now, 100 * MS, 2000 * MS);
        let (window, mut same) = (cubic.window(), cubic.clone());
        now += MS;
        lose(&mut cubic, now, now - MS);
        assert!(cubic.window() < window);
        cubic.undo();
        let mut later = now;
        let windows = grow(&mut cubic, &mut now, 100 * MS, 2000 * MS);
        assert_eq!(windows, grow(&mut same, &mut later, 100 * MS, 2000 * MS));
        // After a collapse there is nothing to take back.
        now += MS;
        lose(&mut cubic, now, now);
        cubic.collapsed(now);
        cubic.undo();
        assert_eq!(cubic.window(), 2000);
    }

    #[test]
    fn another_road_is_a_new_beginning() {
        let (mut cubic, mut now) = (Cubic::new(DATAGRAM), Instant::now());
        grow(&mut cubic, &mut now, 100 * MS, 300 * MS);
        let sent = now;
        now += MS;
        lose(&mut cubic, now, sent);
        now += MS;
        cubic.moved(now);
        lose(&mut cubic, now + MS, sent);
        cubic.acknowledged(acknowledged(now + MS, sent, 10_000, Usage::Full));
        assert_eq!(
            (cubic.window(), cubic.is_in_slow_start()),
            (10_000, true),
            "what is heard of the old one"
        );
    }
}
