//! When to transmit again: loss detection by evidence (RFC 9002, 6.1), time-outs (RFC 6298), and the
//! slow probing of packets that the peer says it holds.
//!
//! Transmissions are numbered in ascending order, the upper bits of a number being those of the datagram, and stand in a
//! log in that order, which is also the order of their times. A packet that is answered or transmitted anew leaves a stale entry behind,
//! skipped when it comes to the front; so each transmission costs O(1) and nothing ever walks the window.

use alloc::collections::VecDeque;

use crate::{
    Capacity, Event, Feedback, Resend, SeqNo,
    events::Events,
    nanos::Nanos,
    reordering::Reordering,
    rtt::RoundTrip,
    send_window::{Cause, Journey, Loss, SendWindow, Slot, Status},
};

/// How many held packets are asked about at a time, until all were once; and when nothing came of that.
const HELD_PROBES: usize = 16;
const FEW_HELD_PROBES: usize = 4;

/// How many answers on end must come too soon for that to be what a round trip takes.
const EARLY_ANSWERS: u32 = 3;

/// How often the peer may repeat itself, per packet transmitted. Two are natural: what one resend asks about may be
/// told twice.
const REPETITIONS: u64 = 4;

/// Numbers of transmissions that are alike above so many bits are of one datagram.
const DATAGRAM_BITS: u32 = 8;

/// One transmission of one packet, and when that or what followed from it happened.
#[derive(Clone, Copy, Debug)]
struct Transmission {
    seq: SeqNo,
    number: u64,
    at: Nanos,
}

/// The datagram that a transmission of that number went in.
fn datagram(number: u64) -> u64 {
    number >> DATAGRAM_BITS
}

/// How eagerly held packets are asked about.
#[derive(Clone, Copy, Debug)]
enum Asking {
    /// More answers may have been lost: about all that are due, a lot of them in each round trip.
    Eagerly {
        /// How many were asked about since an answer came.
        asked: usize,
        /// Whether the peer reacted to the last lot. If not, the link may have broken.
        heard: bool,
    },
    /// All were asked about, and none was answered. As long as the application answers nothing, hardly any answer can have
    /// been lost.
    Rarely {
        /// How often, since then.
        times: u32,
    },
}

#[derive(Debug)]
pub(crate) struct Recovery {
    resend: Resend,
    pub(crate) rtt: RoundTrip,
    reordering: Reordering,
    /// Packets in flight, by transmission. The front is never stale between calls.
    log: VecDeque<Transmission>,
    /// Packets to transmit again.
    queue: VecDeque<Transmission>,
    /// Packets the peer holds, by the time when they are to be asked about. The front is never stale between calls.
    held: VecDeque<Transmission>,
    /// The number of the next transmission, unless it shares the datagram of the last.
    next_number: u64,
    transmissions: u64,
    /// How much of what the peer said was known already, and how much of that is forgiven at any time.
    repetitions: u64,
    repetitions_limit: u64,
    /// One more than the number of the newest datagram known to have arrived: evidence against those before it. It stays
    /// zero in the bare protocol.
    evidence: u64,
    /// The same of packets transmitted more than once, since the last conclusions: any of their transmissions may be the
    /// one that arrived.
    doubtful: u64,
    /// Whether a packet transmitted once was heard of since. Then a time-out was only too short, and what arrived is what
    /// it had given up (as in RFC 5682).
    firsts_arrived: bool,
    /// Whether anything was heard since the last conclusions.
    has_news: bool,
    /// The newest transmission that gives a measurement in the feed call at work: its number, and when it was made.
    sample: Option<(u64, Nanos)>,
    /// When anything was heard the last time, news or not.
    heard_at: Nanos,
    /// The time-out runs from here, or from the oldest transmission if that is later.
    timer_from: Nanos,
    held_timer_from: Nanos,
    asking: Asking,
    /// On a quiet link the answers to what is asked about held packets are all that is heard of the peer.
    longest_held_timeout: Option<Nanos>,
    /// The first transmission after the last time-out. Of those before, the first answer may have been lost.
    measurable_from: u64,
    /// Answers on end that came sooner than any round trip is supposed to be, and the first transmission after the last
    /// of them: what made that one early may have made others so that were under way.
    early: u32,
    early_from: u64,
    in_flight: u32,
    events: Events,
}

impl Recovery {
    /// A peer is given up after being silent for `give_up_after`.
    pub(crate) fn new(
        resend: Resend,
        feedback: Feedback,
        capacity: Capacity,
        give_up_after: Option<Nanos>,
    ) -> Self {
        Self {
            resend,
            rtt: RoundTrip::new(resend),
            reordering: Reordering::new(),
            log: VecDeque::new(),
            queue: VecDeque::new(),
            held: VecDeque::new(),
            next_number: 0,
            transmissions: 0,
            repetitions: 0,
            repetitions_limit: REPETITIONS * u64::from(capacity.packets()),
            evidence: 0,
            doubtful: 0,
            firsts_arrived: false,
            has_news: false,
            sample: None,
            heard_at: Nanos::ZERO,
            timer_from: Nanos::ZERO,
            held_timer_from: Nanos::ZERO,
            asking: Asking::Eagerly { asked: 0, heard: false },
            longest_held_timeout: give_up_after.map(|after| after.part(3)),
            measurable_from: 0,
            early: 0,
            early_from: 0,
            in_flight: 0,
            events: Events::new(feedback, capacity),
        }
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    pub(crate) fn poll_event<S>(&mut self, window: &mut SendWindow<S>) -> Option<Event> {
        self.conclude(window);
        self.events.poll()
    }

    /// When the next time-out or loss is due.
    pub(crate) fn next_deadline(&self) -> Option<Nanos> {
        let timeout = self.rtt.timeout();
        let log = self.log.front().map(|front| {
            let timed_out = self.timer_start(front).plus(timeout);
            if self.has_evidence_against(front) { timed_out.min(self.lost_from(front)) } else { timed_out }
        });
        let held = self.held.front().map(|front| self.held_deadline(front));
        [log, held].into_iter().flatten().min()
    }

    /// Records that a packet goes out now.
    pub(crate) fn on_transmit<S>(&mut self, slot: &mut Slot<S>, now: Nanos, seq: SeqNo) {
        let number = self.next_number;
        self.next_number += 1 << DATAGRAM_BITS;
        self.transmissions += 1;
        slot.status = Status::InFlight;
        slot.transmissions = slot.transmissions.saturating_add(1);
        slot.number = number;
        slot.sent_at = now;
        self.in_flight += 1;
        self.log.push_back(Transmission { seq, number, at: now });
    }

    /// Records that the last packet travels with the one before it.
    pub(crate) fn share_datagram<S>(&mut self, window: &mut SendWindow<S>) {
        let mut newest = self.log.iter_mut().rev();
        let (Some(last), Some(previous)) = (newest.next(), newest.next()) else { return };
        let number = previous.number + 1;
        if datagram(number) == datagram(previous.number) && is_current(window, last, Status::InFlight) {
            last.number = number;
            // Also one that was given before: of a packet in flight, only its slot and the log have the number.
            self.next_number = (datagram(last.number) + 1) << DATAGRAM_BITS;
            window.slot_mut(last.seq).number = number;
        }
    }

    /// Takes a packet out of flight that somebody else sees to; `false` if it is not in flight.
    pub(crate) fn entrust<S>(&mut self, window: &mut SendWindow<S>, seq: SeqNo) -> bool {
        if !window.contains(seq) || window.slot(seq).status != Status::InFlight {
            return false;
        }
        window.slot_mut(seq).status = Status::Entrusted;
        self.in_flight -= 1;
        self.drop_stale(window);
        true
    }

    /// Records that a packet was answered. [`after_news`](Self::after_news) must follow.
    pub(crate) fn on_answer(&mut self, now: Nanos, seq: SeqNo, journey: Journey) {
        let in_flight = journey.status == Status::InFlight;
        let measures = self.measure(journey);
        if in_flight {
            self.in_flight -= 1;
        }
        if journey.may_answer_question() {
            self.asking = Asking::Eagerly { asked: 0, heard: true };
        }
        self.on_arrival(now, seq, journey);
        self.events.tell(|| Event::Acked {
            seq,
            sent_at: journey.sent_at.duration(),
            rtt: measures.then(|| now.since(journey.sent_at).duration()),
            transmissions: journey.transmissions,
            in_flight,
        });
        self.timer_from = now;
    }

    /// Records that the peer holds a packet. [`after_news`](Self::after_news) must follow. Returns whether that was
    /// new.
    pub(crate) fn on_held<S>(&mut self, window: &mut SendWindow<S>, now: Nanos, seq: SeqNo) -> bool {
        if !window.contains(seq) {
            return false;
        }
        let slot = window.slot_mut(seq);
        if !matches!(slot.status, Status::InFlight | Status::Queued | Status::Entrusted) {
            return false;
        }
        let journey = slot.journey();
        slot.status = Status::Held;
        slot.lost = None;
        // What was asked about is no news. Questions can come more often than time-outs, and would put them off for ever.
        if slot.holds == 0 {
            self.timer_from = now;
        }
        let due = now.plus(self.held_timeout(slot.holds));
        slot.holds = slot.holds.saturating_add(1);
        // What was held for long is behind, and there is not much of it.
        let place = self.held.partition_point(|held| held.at <= due);
        self.held.insert(place, Transmission { seq, number: journey.number, at: due });
        if let Asking::Eagerly { heard, .. } = &mut self.asking {
            *heard |= journey.may_answer_question();
        }
        // Where much is held, as behind a gap, hardly anything else measures.
        self.measure(journey);
        self.in_flight -= u32::from(journey.status == Status::InFlight);
        if journey.status != Status::Queued {
            self.events.tell(|| Event::Held { seq, sent_at: journey.sent_at.duration() });
        }
        self.on_arrival(now, seq, journey);
        true
    }

    /// Records that the peer said of one packet what was known already, and returns whether to go on listening. Without
    /// an end to this, each of the runs in a frame could cost as much as the window is large.
    ///
    /// What is not listened to is as good as lost, and nothing waits for it for ever: each run is read from the oldest
    /// packet without an answer, if it reaches that far back. So of each run that has it, that one is always heard;
    /// and it is transmitted again until it is.
    pub(crate) fn tolerates_repetition(&mut self) -> bool {
        let tolerable = self.transmissions.saturating_mul(REPETITIONS);
        let forgiven = tolerable.saturating_sub(self.repetitions_limit);
        self.repetitions = self.repetitions.max(forgiven);
        let tolerates = self.repetitions < tolerable;
        self.repetitions += u64::from(tolerates);
        tolerates
    }

    /// Ends what a packet says. What that proves about others is concluded when somebody asks: the next packet may well
    /// be about them.
    pub(crate) fn after_news<S>(&mut self, window: &SendWindow<S>, now: Nanos) {
        if let Some((_, sent_at)) = self.sample.take() {
            self.rtt.sample(now.since(sent_at));
        }
        self.drop_stale(window);
        (self.has_news, self.heard_at) = (true, now);
    }

    /// Lets time pass.
    pub(crate) fn handle_timeout<S>(&mut self, window: &mut SendWindow<S>, now: Nanos) {
        self.detect_losses(window, now);
        self.detect_timeouts(window, now);
        self.probe_held(window, now);
    }

    /// The next packet to transmit again, if it still waits for that.
    #[inline]
    pub(crate) fn poll_resend<S>(&mut self, window: &mut SendWindow<S>) -> Option<SeqNo> {
        self.conclude(window);
        if self.queue.is_empty() { None } else { self.pop_resend(window) }
    }

    #[cold]
    fn pop_resend<S>(&mut self, window: &SendWindow<S>) -> Option<SeqNo> {
        loop {
            let next = self.queue.pop_front()?;
            if is_current(window, &next, Status::Queued) {
                return Some(next.seq);
            }
        }
    }

    /// Whether [`poll_resend`](Self::poll_resend) has something.
    pub(crate) fn has_resends<S>(&mut self, window: &SendWindow<S>) -> bool {
        while let Some(front) = self.queue.front() {
            if is_current(window, front, Status::Queued) {
                return true;
            }
            self.queue.pop_front();
        }
        self.has_news && self.log.front().is_some_and(|front| self.is_lost(front, self.heard_at))
    }

    /// Forgets everything but the measurements.
    pub(crate) fn clear(&mut self) {
        self.log.clear();
        self.queue.clear();
        self.held.clear();
        self.events.clear();
        self.in_flight = 0;
    }

    /// Takes a packet heard of for a measurement, if it gives one and no later one does.
    #[inline]
    fn measure(&mut self, journey: Journey) -> bool {
        // Karn's rule; and a packet the peer said it held was kept waiting by the application, not by the network.
        let measures = journey.is_direct() && journey.number >= self.measurable_from;
        if measures && self.sample.is_none_or(|(newest, _)| newest < journey.number) {
            self.sample = Some((journey.number, journey.sent_at));
        }
        measures
    }

    /// What is heard of a packet is evidence against those transmitted before it.
    #[inline]
    fn on_arrival(&mut self, now: Nanos, seq: SeqNo, journey: Journey) {
        if journey.is_direct() {
            self.firsts_arrived = true;
            self.on_plausible_arrival(journey);
        } else {
            self.on_indirect_arrival(now, seq, journey);
        }
    }

    /// An answer to a packet transmitted more than once may be to any of its transmissions; one that
    /// comes sooner than any round trip is to an earlier one (RFC 8985, 6.2) and proves nothing about the latest.
    fn on_indirect_arrival(&mut self, now: Nanos, seq: SeqNo, journey: Journey) {
        let elapsed = now.since(journey.sent_at);
        let early = journey.transmissions > 1
            && elapsed < self.rtt.least()
            && !self.disproves_least(journey, elapsed);
        if !early {
            self.on_plausible_arrival(journey);
        }
        if let Some(Loss { cause: Cause::Evidence, sent_at }) = journey.lost {
            self.judge(now, early, journey);
            let is_queued = journey.status == Status::Queued;
            // Before there was a measurement, nobody knows what is early.
            if is_queued || early && self.rtt.min().is_some() {
                let (sent_at, resent_for) = (sent_at.duration(), (!is_queued).then(|| elapsed.duration()));
                self.events.tell(|| Event::Late { seq, sent_at, resent_for });
            }
        }
    }

    /// It may be the latest transmission that arrived.
    #[inline]
    fn on_plausible_arrival(&mut self, journey: Journey) {
        self.early = 0;
        self.rtt.on_plausible_answer();
        // Before the first measurement, whatever was transmitted again by evidence may be late only, since a round
        // trip takes longer than expected: as evidence itself, it would have everything transmitted twice, for ever.
        let proves = journey.lost_by() != Some(Cause::Evidence) || self.rtt.min().is_some();
        if proves && matches!(self.resend, Resend::Adaptive(_)) {
            let evidence = if journey.transmissions > 1 { &mut self.doubtful } else { &mut self.evidence };
            *evidence = (datagram(journey.number) + 1).max(*evidence);
        }
    }

    /// An answer came `elapsed` after the latest transmission, sooner than any round trip is supposed to be. Returns
    /// whether it is rather that which is wrong, and if so begins anew: where much is lost, what there was to measure
    /// may have been the answer to a packet whose first was lost, or nothing at all. Where packets are taken for lost by
    /// evidence, early answers are natural: they mean reordering, or that an acknowledgement was late.
    fn disproves_least(&mut self, journey: Journey, elapsed: Nanos) -> bool {
        if journey.lost_by() != Some(Cause::Timeout) || journey.number < self.early_from {
            return false;
        }
        self.early += 1;
        self.early_from = self.next_number;
        let disproved = self.early == EARLY_ANSWERS;
        if disproved {
            self.rtt.restart(elapsed);
        }
        disproved
    }

    /// Finds out whether a packet that was taken for lost was. One that is answered sooner than a packet transmitted
    /// again can be was not.
    fn judge(&mut self, now: Nanos, early: bool, journey: Journey) {
        if !early && journey.status != Status::Queued {
            self.reordering.on_true_loss();
        } else {
            self.reordering.on_false_loss(journey.sent_at, now.plus(self.rtt.least()));
        }
    }

    fn reordering_delay(&self) -> Nanos {
        self.rtt.reordering_delay(self.reordering.eighths())
    }

    fn evidence(&self) -> u64 {
        if self.firsts_arrived { self.evidence } else { self.evidence.max(self.doubtful) }
    }

    fn has_evidence_against(&self, transmission: &Transmission) -> bool {
        self.evidence() > datagram(transmission.number) + 1
    }

    /// When evidence against a transmission suffices: as soon as enough others have overtaken it, or when it is late.
    fn lost_from(&self, transmission: &Transmission) -> Nanos {
        if self.reordering.packets().is_some_and(|by| self.evidence() > datagram(transmission.number) + by) {
            transmission.at
        } else {
            transmission.at.plus(self.reordering_delay())
        }
    }

    fn is_lost(&self, transmission: &Transmission, now: Nanos) -> bool {
        self.has_evidence_against(transmission) && now >= self.lost_from(transmission)
    }

    /// Draws the conclusions from all that was heard up to now.
    #[inline]
    fn conclude<S>(&mut self, window: &mut SendWindow<S>) {
        if !self.has_news {
            return;
        }
        self.has_news = false;
        self.evidence = self.evidence();
        (self.doubtful, self.firsts_arrived) = (0, false);
        if self.log.front().is_some_and(|front| self.has_evidence_against(front)) {
            self.detect_losses(window, self.heard_at);
        }
    }

    //= ZSSP-SEQ-19  by evidence, RFC 9002
    #[cold]
    fn detect_losses<S>(&mut self, window: &mut SendWindow<S>, now: Nanos) {
        while let Some(&front) = self.log.front()
            && self.is_lost(&front, now)
        {
            self.requeue(window, front, Cause::Evidence);
            self.events.tell(|| Event::Lost { seq: front.seq, sent_at: front.at.duration() });
            self.drop_stale(window);
        }
    }

    //= ZSSP-SEQ-18  at a fixed interval in the bare protocol
    fn detect_timeouts<S>(&mut self, window: &mut SendWindow<S>, now: Nanos) {
        while let Some(&front) = self.log.front()
            && now >= self.timer_start(&front).plus(self.rtt.timeout())
        {
            self.requeue(window, front, Cause::Timeout);
            self.drop_stale(window);
            match self.resend {
                Resend::Fixed(_) => {
                    self.events.tell(|| Event::Lost { seq: front.seq, sent_at: front.at.duration() })
                }
                Resend::Adaptive(_) => {
                    // One packet to ask with is enough: its answer is the evidence about the others.
                    self.events.tell(|| Event::TimedOut { seq: front.seq, sent_at: front.at.duration() });
                    self.rtt.back_off();
                    (self.timer_from, self.measurable_from) = (now, self.next_number);
                    break;
                }
            }
        }
    }

    fn probe_held<S>(&mut self, window: &mut SendWindow<S>, now: Nanos) {
        if self.held.front().is_none_or(|front| now < self.held_deadline(front)) {
            return;
        }
        self.held_timer_from = now;
        let limit = match self.asking {
            Asking::Eagerly { .. } => HELD_PROBES,
            Asking::Rarely { .. } => FEW_HELD_PROBES,
        };
        let mut probes = 0;
        // The oldest holds up the window: it is one of them, whenever it was asked about.
        if let Some((seq, slot)) = window.oldest()
            && slot.status == Status::Held
        {
            let probe = Transmission { seq, number: slot.number, at: now };
            self.probe(window, probe);
            probes += 1;
        }
        while probes < limit
            && self.held.front().is_some_and(|probe| probe.at <= now)
            && let Some(probe) = self.held.pop_front()
        {
            if is_current(window, &probe, Status::Held) {
                self.probe(window, probe);
                probes += 1;
            }
        }
        self.drop_stale(window);
        self.asking = match self.asking {
            Asking::Eagerly { asked, .. } if asked < self.held.len() => {
                Asking::Eagerly { asked: asked + probes, heard: false }
            }
            Asking::Eagerly { .. } => Asking::Rarely { times: 0 },
            Asking::Rarely { times } => Asking::Rarely { times: times.saturating_add(1) },
        };
    }

    /// Asks about a packet by transmitting it again.
    fn probe<S>(&mut self, window: &mut SendWindow<S>, probe: Transmission) {
        window.slot_mut(probe.seq).status = Status::Queued;
        self.queue.push_back(probe);
    }

    /// Takes the oldest transmission out of flight, for it to be repeated.
    fn requeue<S>(&mut self, window: &mut SendWindow<S>, front: Transmission, cause: Cause) {
        self.log.pop_front();
        self.in_flight -= 1;
        let slot = window.slot_mut(front.seq);
        (slot.status, slot.lost) = (Status::Queued, Some(Loss { cause, sent_at: front.at }));
        self.queue.push_back(front);
    }

    /// Keeps what no longer applies from the fronts, on which the deadlines depend.
    #[inline]
    fn drop_stale<S>(&mut self, window: &SendWindow<S>) {
        while let Some(front) = self.log.front()
            && !is_current(window, front, Status::InFlight)
        {
            self.log.pop_front();
        }
        while let Some(front) = self.held.front()
            && !is_current(window, front, Status::Held)
        {
            self.held.pop_front();
        }
    }

    /// In the bare protocol each packet has a timer of its own; the measured one starts anew with each answer, with
    /// each packet that is told to be held for the first time, and with each time-out.
    fn timer_start(&self, transmission: &Transmission) -> Nanos {
        match self.resend {
            Resend::Adaptive(_) => transmission.at.max(self.timer_from),
            Resend::Fixed(_) => transmission.at,
        }
    }

    fn held_deadline(&self, held: &Transmission) -> Nanos {
        let pause = match self.asking {
            Asking::Eagerly { heard: true, .. } => self.rtt.expected(),
            Asking::Eagerly { heard: false, .. } => self.held_timeout(0),
            Asking::Rarely { times } => self.held_timeout(times),
        };
        held.at.max(self.held_timer_from.plus(pause))
    }

    fn held_timeout(&self, n: u32) -> Nanos {
        let timeout = self.rtt.held_timeout(n);
        self.longest_held_timeout.map_or(timeout, |longest| timeout.min(longest))
    }
}

/// Whether a packet is still where this transmission left it. Numbers are unique, so a slot that
/// has come to hold another packet never matches.
fn is_current<S>(window: &SendWindow<S>, transmission: &Transmission, status: Status) -> bool {
    let slot: &Slot<S> = window.slot(transmission.seq);
    slot.number == transmission.number && slot.status == status
}
