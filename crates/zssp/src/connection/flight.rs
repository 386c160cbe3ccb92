//! What is under way, and how much more may be.

use std::time::{Duration, Instant};

use seqex::{Event, Timestamp};

use super::loss::Loss;
use super::pacer::{Pacer, Rate};
use super::rtt::Rtt;
use crate::congestion::{Acknowledged, Controller, Lost, Sent, Usage};

/// Timeouts in a row after which the road counts as collapsed: one may be chance.
const COLLAPSE_AFTER: u32 = 2;

/// How many payloads of the largest size fit the window at the least: exchanges have places for more.
const WINDOW_PAYLOADS: u64 = 32;

/// Bytes of each fragment that carry no payload: its header.
pub(super) const FRAGMENT_OVERHEAD: u64 = 16;

/// Bytes of each sealed payload that carry none: its tag.
pub(super) const PAYLOAD_OVERHEAD: u64 = 16;

/// Counts the bytes of messages under way in all exchanges and keeps them within the congestion window.
#[derive(Debug)]
pub(super) struct Flight {
    epoch: Instant,
    /// Bytes of a datagram.
    mtu: u64,
    controller: Box<dyn Controller>,
    pacer: Pacer,
    loss: Loss,
    rtt: Rtt,
    bytes: u64,
    /// The next transmission that is no question is a probe, which the window does not hold back.
    probe: bool,
    timeouts: u32,
    /// The losses to which the controller has reacted last.
    reaction: Option<Reaction>,
    /// When something that was sent was last heard to have arrived.
    arrived_at: Option<Instant>,
    /// When the last of the timeouts was counted: what was sent before belongs to it.
    timed_out: Instant,
}

/// One reaction to losses, and how many of them may be true.
#[derive(Debug)]
struct Reaction {
    /// When the first of them was noticed. What was sent before belongs to it.
    at: Instant,
    /// What was sent until then belongs to an earlier one.
    since: Option<Instant>,
    losses: u64,
}

impl Reaction {
    /// One to a loss that is true whatever comes late: a collapse, or another road.
    const fn final_at(at: Instant) -> Self {
        Self { at, since: Some(at), losses: 1 }
    }

    /// Whether the loss of what was sent at `sent` is one of those.
    fn is_to(&self, sent: Instant) -> bool {
        sent <= self.at && self.since.is_none_or(|since| sent > since)
    }
}

impl Flight {
    pub(super) fn new(epoch: Instant, mtu: usize, controller: Box<dyn Controller>) -> Self {
        Self {
            epoch,
            mtu: mtu as u64,
            controller,
            pacer: Pacer::default(),
            loss: Loss::default(),
            rtt: Rtt::default(),
            bytes: 0,
            probe: false,
            timeouts: 0,
            reaction: None,
            arrived_at: None,
            timed_out: epoch,
        }
    }

    /// Whether one more message may go. It may exceed the window by itself: whole messages are not divided here.
    pub(super) fn room(&self, now: Instant) -> Room {
        if self.probe {
            return Room::Open;
        }
        if self.bytes > 0 && self.bytes >= self.controller.window() {
            return Room::Full;
        }
        let paced = self.rate().and_then(|rate| self.pacer.next(rate, self.mtu));
        paced.filter(|&at| at > now).map_or(Room::Open, Room::Later)
    }

    /// A message of `len` bytes goes out, of which `before` bytes were under way already, or a part of one.
    pub(super) fn sent(&mut self, now: Instant, before: u32, len: u32) {
        self.forget(u64::from(before));
        self.bytes += u64::from(len);
        self.probe = false;
        if let Some(rate) = self.rate() {
            self.pacer.sent(now, rate, u64::from(len));
        }
        self.controller.sent(Sent { now, bytes: u64::from(len), in_flight: self.bytes });
    }

    /// A question of `len` bytes goes out, of which `before` bytes were under way already. The probe is yet to come:
    /// questions of many exchanges that wait for the window would take it away each time.
    pub(super) fn asked(&mut self, now: Instant, before: u32, len: u32) {
        let probe = self.probe;
        self.sent(now, before, len);
        self.probe = probe;
    }

    /// When something that was sent was last heard to have arrived.
    pub(super) fn arrived_at(&self) -> Option<Instant> {
        self.arrived_at
    }

    /// Whether nothing has been heard to arrive for so long.
    pub(super) fn is_silent(&self, now: Instant, time: Duration) -> bool {
        self.arrived_at.is_none_or(|at| now.saturating_duration_since(at) >= time)
    }

    /// So many bytes are not under way any more; what became of them is known, or does not matter.
    pub(super) fn forget(&mut self, bytes: u64) {
        self.bytes -= bytes;
    }

    /// How fast messages may go: as fast as the controller says, or else somewhat faster than the window a round trip, so
    /// that it is filled. That is unknown as long as the round trip is.
    fn rate(&self) -> Option<Rate> {
        if let Some(bytes) = self.controller.rate() {
            return Some(Rate { bytes: bytes.max(self.mtu), time: Duration::from_secs(1) });
        }
        // A window of less still lets one datagram out each time.
        let window = self.controller.window().max(self.mtu);
        let more = if self.controller.is_in_slow_start() { window } else { window / 4 };
        Some(Rate { bytes: window.saturating_add(more), time: self.rtt.smoothed()? })
    }

    /// Takes in what an exchange found out about a message that was under way until now. `now` is the exchange's clock.
    pub(super) fn on_event(&mut self, now: Timestamp, event: Event, landed: Landed) {
        let (now, bytes) = (self.instant(now), u64::from(landed.bytes));
        let usage = self.landed(bytes);
        if bytes > 0 && !landed.joined {
            let fragments = bytes.div_ceil(self.mtu);
            match event {
                Event::Acked { .. } | Event::Held { .. } => self.loss.arrived(fragments),
                Event::Lost { .. } | Event::TimedOut { .. } => self.loss.lost(fragments),
                Event::Late { .. } => {}
            }
        }
        match event {
            Event::Acked { sent_at, in_flight: true, rtt, .. } => {
                if let Some(rtt) = rtt {
                    self.rtt.sample(rtt);
                }
                self.arrived(now, self.instant(sent_at), bytes, (usage, rtt));
            }
            Event::Held { sent_at, .. } => self.arrived(now, self.instant(sent_at), bytes, (usage, None)),
            // It had landed before: the peer held it, or it was taken for lost and was only late.
            Event::Acked { .. } => self.heard(now),
            Event::Late { sent_at, .. } => self.late(now, self.instant(sent_at)),
            Event::Lost { sent_at, .. } => self.lost(now, self.instant(sent_at), bytes),
            Event::TimedOut { sent_at, .. } => self.timed_out(now, self.instant(sent_at)),
        }
    }

    /// Takes in what became of a part of `len` bytes that was sent at `sent`.
    pub(super) fn on_part(&mut self, now: Instant, outcome: Outcome, sent: Instant, len: usize) {
        let bytes = len as u64;
        let usage = self.landed(bytes);
        match outcome {
            Outcome::Arrived { rtt } => {
                if let Some(rtt) = rtt {
                    self.rtt.sample(rtt);
                }
                self.arrived(now, sent, bytes, (usage, rtt));
            }
            Outcome::Lost => {
                self.loss.lost(1);
                self.lost(now, sent, bytes);
            }
            Outcome::TimedOut => {
                self.loss.lost(1);
                self.timed_out(now, sent);
            }
        }
    }

    /// What was sent at `sent` and told to be lost, by evidence, has arrived after all.
    pub(super) fn late(&mut self, now: Instant, sent: Instant) {
        self.heard(now);
        // Of an earlier one, it says nothing about the last.
        let Some(reaction) = self.reaction.as_mut().filter(|reaction| reaction.is_to(sent)) else { return };
        reaction.losses -= 1;
        if reaction.losses == 0 {
            // It is as if there had been no other since the one before.
            self.reaction = reaction.since.map(Reaction::final_at);
            self.controller.undo();
        }
    }

    /// A message has arrived in so many parts. It counts as one payload: whether a large one would arrive at once is not
    /// learned sooner by sending it in parts.
    pub(super) fn arrived_in_parts(&mut self, parts: u64) {
        self.loss.arrived(parts);
    }

    /// So many bytes are not under way any more. Yields how much was.
    fn landed(&mut self, bytes: u64) -> Usage {
        let usage = if self.bytes * 2 >= self.controller.window() { Usage::Full } else { Usage::Slack };
        self.forget(bytes);
        usage
    }

    fn arrived(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        (usage, sample): (Usage, Option<Duration>),
    ) {
        self.heard(now);
        let rtt = self.rtt.smoothed().unwrap_or_else(|| now.saturating_duration_since(sent));
        let in_flight = self.bytes;
        self.controller.acknowledged(Acknowledged { now, sent, bytes, in_flight, rtt, sample, usage });
    }

    /// Something that was sent has arrived.
    pub(super) fn heard(&mut self, now: Instant) {
        (self.timeouts, self.arrived_at) = (0, Some(now));
    }

    fn lost(&mut self, now: Instant, sent: Instant, bytes: u64) {
        match &mut self.reaction {
            Some(reaction) if sent <= reaction.at => reaction.losses += u64::from(reaction.is_to(sent)),
            reaction => {
                let since = reaction.as_ref().map(|earlier| earlier.at);
                *reaction = Some(Reaction { at: now, since, losses: 1 });
            }
        }
        self.controller.lost(Lost { now, sent, bytes, in_flight: self.bytes });
    }

    fn timed_out(&mut self, now: Instant, sent: Instant) {
        self.probe = true;
        // Every exchange has a timer of its own: what was sent before the last timeout says nothing new.
        if self.timeouts == 0 || sent > self.timed_out {
            self.timed_out = now;
            self.timeouts += 1;
            // Once: what the window was is known from before.
            if self.timeouts == COLLAPSE_AFTER {
                self.reaction = Some(Reaction::final_at(now));
                self.controller.collapsed(now);
            }
        }
    }

    /// A round trip was measured otherwise than with a whole message.
    pub(super) fn measured(&mut self, rtt: Duration) {
        self.rtt.sample(rtt);
    }

    /// Bytes a payload should have, at most `max`, where that can be chosen: the fewer the more fragments are lost, and
    /// less than what may be under way.
    pub(super) fn payload_limit(&self, max: usize) -> usize {
        let fragment = self.mtu.saturating_sub(FRAGMENT_OVERHEAD);
        let fragments = self.loss.best_fragments((max as u64).div_ceil(fragment));
        let window = self.controller.window();
        // A payload goes at once, and so should be short beside the round trip; but the window has to be filled with them.
        let burst = self.rate().map_or(u64::MAX, |rate| rate.payload(self.mtu).max(window / WINDOW_PAYLOADS));
        let limit = fragments.saturating_mul(fragment).min(window / 2).min(burst).max(fragment);
        max.min(usize::try_from(limit.saturating_sub(PAYLOAD_OVERHEAD)).unwrap_or(usize::MAX))
    }

    /// The largest payload of up to `max` bytes, more than a datagram's, that falls into equal datagrams (PROTOCOL 3.2): such
    /// payloads, one after the other, go out in one run.
    pub(super) fn even_payload(&self, max: usize) -> usize {
        let (packet, fragment) = (max as u64 + PAYLOAD_OVERHEAD, self.mtu.saturating_sub(FRAGMENT_OVERHEAD));
        let fragment = fragment.max(1);
        let count = packet.div_ceil(fragment).max(1);
        // Rounded down far enough, it takes one datagram less: as many whole ones are even as well, and longer.
        (packet / count * count).max((count - 1) * fragment).saturating_sub(PAYLOAD_OVERHEAD) as usize
    }

    /// Whether enough was lost of late that it does not pay to try with payloads above the limit.
    pub(super) fn is_lossy(&self) -> bool {
        self.loss.is_noticeable()
    }

    /// Bytes of a payload that takes a single datagram.
    pub(super) fn fragment(&self) -> usize {
        self.mtu.saturating_sub(FRAGMENT_OVERHEAD + PAYLOAD_OVERHEAD) as usize
    }

    /// Datagrams have so many bytes from now on.
    pub(super) fn set_mtu(&mut self, mtu: usize) {
        if std::mem::replace(&mut self.mtu, mtu as u64) != mtu as u64 {
            self.controller.datagram_changed(mtu);
        }
    }

    /// The messages travel on another road from now on: nothing is known of it.
    pub(super) fn moved(&mut self, now: Instant) {
        self.controller.moved(now);
        self.reaction = Some(Reaction::final_at(now));
        self.rtt = Rtt::default();
        self.pacer.forgive();
    }

    pub(super) fn rtt(&self) -> &Rtt {
        &self.rtt
    }

    /// Bytes under way.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that may be under way.
    pub(super) fn window(&self) -> u64 {
        self.controller.window()
    }

    fn instant(&self, at: Timestamp) -> Instant {
        self.epoch.checked_add(at).unwrap_or(self.epoch)
    }
}

/// A message that is not under way any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Landed {
    /// How much of it was.
    pub(super) bytes: u32,
    /// It had joined others in a datagram, for which the first of them stands.
    pub(super) joined: bool,
}

/// Whether one more message may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// Not before something is acknowledged.
    Full,
    /// Not before then.
    Later(Instant),
    Open,
}

/// What became of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It gives a measurement if it is the newest.
    Arrived { rtt: Option<Duration> },
    /// Later ones have arrived.
    Lost,
    /// None has, for a whole time-out.
    TimedOut,
}

#[cfg(test)]
mod tests;
