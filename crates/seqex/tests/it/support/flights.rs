//! What a sender must hear of its transmissions: each is in flight until an event says that it no longer is.

use std::collections::{HashMap, HashSet};

use seqex::{Event, Feedback, SeqEx, SeqNo, Timestamp};

use super::Letter;

#[derive(Debug)]
pub(crate) struct Flights {
    feedback: Feedback,
    /// How often each packet was transmitted, and when the last time.
    transmitted: HashMap<SeqNo, (u32, Timestamp)>,
    in_flight: HashSet<SeqNo>,
    /// When the transmission was made that was last told to be lost.
    lost: HashMap<SeqNo, Timestamp>,
    entrusted: HashSet<SeqNo>,
    acked: HashSet<SeqNo>,
}

impl Flights {
    pub(crate) fn new(feedback: Feedback) -> Self {
        Self {
            feedback,
            transmitted: HashMap::new(),
            in_flight: HashSet::new(),
            lost: HashMap::new(),
            entrusted: HashSet::new(),
            acked: HashSet::new(),
        }
    }

    /// All events were drained before.
    pub(crate) fn depart(&mut self, seq: SeqNo, now: Timestamp) {
        let (times, at) = self.transmitted.entry(seq).or_default();
        (*times, *at) = (*times + 1, now);
        assert!(!self.acked.contains(&seq), "{seq} transmitted although it was answered");
        assert!(
            self.feedback == Feedback::Discard || self.in_flight.insert(seq),
            "{seq} transmitted although it is in flight"
        );
    }

    /// Somebody else brings a packet to the peer.
    pub(crate) fn entrust(&mut self, seq: SeqNo) {
        let was_in_flight = self.in_flight.remove(&seq);
        assert!(
            self.feedback == Feedback::Discard || was_in_flight,
            "{seq} entrusted, and it is not in flight"
        );
        self.entrusted.insert(seq);
    }

    pub(crate) fn drain(&mut self, exchange: &mut SeqEx<Letter, u64>, now: Timestamp) {
        while let Some(event) = exchange.poll_event() {
            match event {
                Event::Acked { seq, sent_at, rtt, transmissions, in_flight } => {
                    assert!(self.acked.insert(seq), "{seq} acknowledged twice");
                    assert_eq!((transmissions, sent_at), self.transmitted[&seq]);
                    assert_eq!(in_flight, self.in_flight.remove(&seq));
                    let measures = |rtt| in_flight && transmissions == 1 && sent_at + rtt <= now;
                    assert!(rtt.is_none_or(measures), "{event:?} measures nothing");
                }
                Event::Late { seq, sent_at, resent_for } => {
                    assert_eq!(self.lost.remove(&seq), Some(sent_at), "{event:?} was not lost");
                    let (_, last) = self.transmitted[&seq];
                    assert!(!self.acked.contains(&seq), "{event:?} after its answer");
                    assert!(resent_for.map_or(last == sent_at, |time| sent_at <= last && last + time <= now));
                }
                // By whoever was to bring it.
                Event::Held { seq, sent_at } if self.entrusted.remove(&seq) => {
                    assert_eq!(sent_at, self.transmitted[&seq].1);
                }
                Event::Held { seq, sent_at }
                | Event::Lost { seq, sent_at }
                | Event::TimedOut { seq, sent_at } => {
                    assert_eq!(sent_at, self.transmitted[&seq].1);
                    assert!(self.in_flight.remove(&seq), "{event:?}, and it is not in flight");
                    if let Event::Lost { .. } = event {
                        self.lost.insert(seq, sent_at);
                    }
                }
            }
        }
        if self.feedback == Feedback::Collect {
            assert_eq!(exchange.in_flight() as usize, self.in_flight.len());
        }
        assert!(self.feedback == Feedback::Collect || self.acked.is_empty(), "events nobody asked for");
    }

    /// How many packets were acknowledged, if that was to be told.
    pub(crate) fn acked(&self) -> Option<usize> {
        (self.feedback == Feedback::Collect).then_some(self.acked.len())
    }
}
