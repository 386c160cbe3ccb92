//! Two exchanges, the packets between them, and a plain model of what must come of it.
//!
//! The link is a list of packets per direction; a test decides which of them arrive, in which order and
//! how often. The model is checked at every delivery: exactly once, in order where asked, one critical
//! section at a time, each answer with the very data it answers.

mod closing;
mod flights;
pub(crate) mod goodput;
#[cfg(all(feature = "std", not(loom)))]
pub(crate) mod link;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use flights::Flights;
use seqex::{
    Ack, AckKind, Answer as Answered, Config, Delivery, DropReason, GaveUp, Message, Order, Packet, Received,
    Refusal, Resend, SeqEx, SeqNo, Timestamp, Token,
};

/// What is sent: owned, and on purpose neither `Clone` nor `Copy`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Letter(pub(crate) u64);

/// A packet on the link; only the number of the letter travels.
pub(crate) type OnLink = Packet<u64>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Abandon,
    Acknowledge,
    Reply(Order),
}

/// How packets are drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drain {
    /// As they come.
    All,
    /// One kind after the other, as those do who limit what is transmitted. These prefer what is new.
    FreshFirst,
    /// As they come, all messages of one call in one datagram.
    Bundled,
}

/// Whether the peer is told what is held, where answers take their time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Telling {
    /// It finds out by its time-outs what has arrived.
    Never,
    Promptly,
}

/// What the model knows of one letter.
#[derive(Clone, Copy, Debug)]
struct Sent {
    order: Order,
    reply_to: Option<u64>,
    /// How many letters its sender had sent before.
    place: usize,
    at: Timestamp,
}

/// One end with its application.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) exchange: SeqEx<Letter, u64>,
    /// Delivered and not answered: the token and the number of the letter.
    pub(crate) open: Vec<(Token, u64)>,
    /// Letters of the peer that were taken, and those among them that were delivered.
    arrived: HashSet<u64>,
    delivered: HashSet<u64>,
    /// How many letters of the peer, from its first, were delivered without a gap.
    without_gap: usize,
    /// Letters of ours that were answered, with the reply if there was one.
    pub(crate) answered: HashMap<u64, Option<u64>>,
    /// Letters of ours in the order in which they were sent.
    sent: Vec<u64>,
    seqs: HashMap<u64, SeqNo>,
    /// Letters of ours whose answer goes to whoever asks for answers.
    claimed: HashSet<u64>,
    critical: Option<u64>,
    /// Letters of ours that somebody else brings to the peer.
    entrusted: Vec<u64>,
    flights: Flights,
    /// How many letters of ours, from the first, are known to be answered.
    oldest: usize,
    last_heard: Timestamp,
    failure: Option<GaveUp>,
}

#[derive(Debug)]
pub(crate) struct Pair {
    config: Config,
    pub(crate) now: Timestamp,
    pub(crate) ends: [End; 2],
    /// Packets under way to each end.
    pub(crate) link: [Vec<OnLink>; 2],
    letters: HashMap<u64, Sent>,
    /// Which letter answers which.
    replies: HashMap<u64, u64>,
    next_letter: u64,
}

impl Pair {
    pub(crate) fn new(config: Config) -> Self {
        let end = || End {
            exchange: SeqEx::new(config),
            open: vec![],
            arrived: HashSet::new(),
            delivered: HashSet::new(),
            without_gap: 0,
            answered: HashMap::new(),
            sent: vec![],
            seqs: HashMap::new(),
            claimed: HashSet::new(),
            critical: None,
            entrusted: vec![],
            flights: Flights::new(config.feedback),
            oldest: 0,
            last_heard: Duration::ZERO,
            failure: None,
        };
        Self {
            config,
            now: Duration::from_secs(1),
            ends: [end(), end()],
            link: [vec![], vec![]],
            letters: HashMap::new(),
            replies: HashMap::new(),
            next_letter: 0,
        }
    }

    /// Sends one letter and returns it.
    pub(crate) fn send(&mut self, end: usize, order: Order) -> Result<u64, Refusal> {
        let letter = self.next_letter;
        let exchange = &mut self.ends[end].exchange;
        let (room, expected) = (exchange.room(), exchange.can_send());
        let result = exchange.send(self.now, order, Letter(letter));
        assert_eq!(result.is_ok(), room > 0, "room() and send() disagree");
        assert_eq!(result.as_ref().map(drop).map_err(|refused| refused.reason), expected);
        match result {
            Ok(seq) => Ok(self.record(end, seq, order, None)),
            Err(refused) => {
                assert_eq!(refused.data, Letter(letter), "refused data is given back");
                Err(refused.reason)
            }
        }
    }

    /// Answers the `index`th open packet.
    pub(crate) fn answer(&mut self, end: usize, index: usize, answer: Answer) {
        let (token, letter) = self.ends[end].open.remove(index);
        if self.ends[end].critical == Some(letter) {
            self.ends[end].critical = None;
        }
        match answer {
            Answer::Acknowledge => self.ends[end].exchange.acknowledge(token),
            Answer::Abandon => {
                let seq = token.seq();
                drop(token);
                assert!(self.ends[end].exchange.abandon(seq));
                assert!(!self.ends[end].exchange.abandon(seq), "abandoned twice");
            }
            Answer::Reply(order) => {
                let reply = self.next_letter;
                let seq = self.ends[end].exchange.reply(self.now, token, order, Letter(reply));
                let seq = seq.expect("there is always room for an answer");
                self.record(end, seq, order, Some(letter));
            }
        }
    }

    /// Releases the `index`th open packet's critical section.
    pub(crate) fn release(&mut self, end: usize, index: usize) {
        let end = &mut self.ends[end];
        let (token, letter) = &end.open[index];
        end.exchange.release(token);
        if end.critical == Some(*letter) {
            end.critical = None;
        }
    }

    /// Directs the answer to one of the letters sent to whoever asks for answers. It may be there already.
    pub(crate) fn claim(&mut self, end: usize, pick: usize) {
        let [first, second] = &mut self.ends;
        let (here, there) = if end == 0 { (first, second) } else { (second, first) };
        let Some(&letter) = pick.checked_rem(here.sent.len()).and_then(|index| here.sent.get(index)) else {
            return;
        };
        let seq = here.seqs[&letter];
        let sent = here.exchange.sent(seq);
        assert!(sent.is_none_or(|data| *data == Letter(letter)));
        let waits = sent.is_some();
        assert!(!waits || !here.answered.contains_key(&letter));
        assert!(!here.exchange.has_arrived(seq) || (waits && there.arrived.contains(&letter)));
        assert_eq!(here.exchange.claim(seq), waits);
        if waits {
            here.claimed.insert(letter);
        }
    }

    /// Has the peer told what is held.
    pub(crate) fn tell_held(&mut self, end: usize) {
        self.ends[end].exchange.tell_held();
    }

    /// Keeps numbers free for claimed answers.
    pub(crate) fn keep(&mut self, end: usize, count: u32) {
        self.ends[end].exchange.keep_for_answers(count);
    }

    /// There is a sign of life of the peer that is no packet.
    pub(crate) fn hear(&mut self, end: usize) {
        let end = &mut self.ends[end];
        end.exchange.heard(self.now);
        (end.last_heard, end.failure) = (self.now, None);
    }

    /// Leaves it to somebody else to bring one of the latest letters to the peer, if it is in flight.
    pub(crate) fn entrust(&mut self, end: usize, pick: usize) {
        let End { exchange, flights, sent, seqs, entrusted, .. } = &mut self.ends[end];
        let Some(&letter) = sent.iter().nth_back(pick % 8) else { return };
        flights.drain(exchange, self.now);
        if exchange.entrust(seqs[&letter]) {
            flights.entrust(seqs[&letter]);
            entrusted.push(letter);
        }
    }

    /// All that was entrusted arrives, and that is known. Returns how many these are.
    pub(crate) fn bring(&mut self, end: usize) -> usize {
        let letters = std::mem::take(&mut self.ends[end].entrusted);
        for &letter in &letters {
            let (seq, Sent { order, reply_to, .. }) = (self.ends[end].seqs[&letter], self.letters[&letter]);
            let reply_to = reply_to.map(|original| self.ends[1 - end].seqs[&original]);
            self.arrive(1 - end, Packet::Message(Message { seq, reply_to, order, data: letter }));
            self.arrive(end, Packet::Ack(Ack { kind: AckKind::Holding, first: seq, count: 1 }));
        }
        letters.len()
    }

    /// Puts up to `limit` packets of `end` on the link; returns how many.
    pub(crate) fn transmit(&mut self, end: usize, limit: usize, drain: Drain) -> usize {
        let End { exchange, flights, .. } = &mut self.ends[end];
        // Whoever has congestion control is told before, what it then lets out.
        flights.drain(exchange, self.now);
        let mut shares = false;
        for count in 0..limit {
            let expected = exchange.can_transmit();
            let packet = match drain {
                Drain::All | Drain::Bundled => {
                    exchange.poll_transmit(self.now).map(|packet| packet.map(|letter| letter.0))
                }
                Drain::FreshFirst => fresh_first(exchange, self.now),
            };
            assert_eq!(packet.is_some(), expected, "can_transmit() and its drains disagree");
            let Some(packet) = packet else { return count };
            if let Packet::Message(message) = &packet {
                flights.depart(message.seq, self.now);
                if drain == Drain::Bundled && std::mem::replace(&mut shares, true) {
                    exchange.share_datagram();
                }
            }
            self.link[1 - end].push(packet);
        }
        limit
    }

    /// Lets a packet arrive at `end`.
    pub(crate) fn arrive(&mut self, end: usize, packet: OnLink) {
        let here = &mut self.ends[end];
        (here.last_heard, here.failure) = (self.now, None);
        let Packet::Message(Message { seq, data: letter, .. }) = packet else {
            assert_eq!(here.exchange.receive(self.now, packet), Received::Taken);
            return;
        };
        let expected = here.exchange.expects(seq);
        match here.exchange.receive(self.now, packet) {
            Received::Taken => assert!(expected && here.arrived.insert(letter), "{letter} arrived twice"),
            Received::Dropped { reason, data } => {
                assert_eq!((expected, data), (false, letter));
                assert_eq!(reason == DropReason::Closed, here.exchange.is_closed());
                assert_ne!(reason, DropReason::Unmatched, "this takes an incorrect peer");
            }
        }
    }

    /// Lets all that is under way to `end` arrive in order.
    pub(crate) fn arrive_all(&mut self, end: usize) -> usize {
        let packets = std::mem::take(&mut self.link[end]);
        let count = packets.len();
        for packet in packets {
            self.arrive(end, packet);
        }
        count
    }

    /// Takes one delivery, or else one answer that was claimed, checked against the model. Returns whether there was
    /// one.
    pub(crate) fn deliver(&mut self, end: usize) -> bool {
        let exchange = &mut self.ends[end].exchange;
        let expected = exchange.can_deliver();
        let delivery = exchange.poll_deliver();
        assert_eq!(delivery.is_some(), expected, "can_deliver() and poll_deliver() disagree");
        match delivery {
            None => return self.take_answer(end),
            Some(Delivery::Acknowledged { seq, data }) => {
                assert!(!self.ends[end].claimed.contains(&data.0));
                self.check_answer(end, data.0, seq, None);
            }
            Some(Delivery::Payload { token, data }) => self.check_delivery(end, token, data, None),
            Some(Delivery::Reply { token, data, sent_seq, sent }) => {
                assert!(!self.ends[end].claimed.contains(&sent.0));
                self.check_answer(end, sent.0, sent_seq, Some(data));
                self.check_delivery(end, token, data, Some(sent.0));
            }
        }
        true
    }

    /// Takes one answer that was claimed, whatever else is there to deliver.
    pub(crate) fn take_answer(&mut self, end: usize) -> bool {
        match self.ends[end].exchange.poll_answer() {
            None => return false,
            Some(Answered::Acknowledged { sent_seq, sent }) => {
                assert!(self.ends[end].claimed.contains(&sent.0));
                self.check_answer(end, sent.0, sent_seq, None);
            }
            Some(Answered::Reply { token, data, sent_seq, sent }) => {
                assert!(self.ends[end].claimed.contains(&sent.0));
                self.check_answer(end, sent.0, sent_seq, Some(data));
                self.check_delivery(end, token, data, Some(sent.0));
            }
        }
        true
    }

    pub(crate) fn deliver_all(&mut self, end: usize) -> usize {
        (0..).take_while(|_| self.deliver(end)).count()
    }

    pub(crate) fn advance(&mut self, by: Duration) {
        self.now += by;
        for end in [0, 1] {
            let exchange = &mut self.ends[end].exchange;
            exchange.handle_timeout(self.now);
            let deadline = exchange.next_deadline();
            assert!(deadline.is_none_or(|d| d > self.now), "handling a deadline did not remove it");
            self.check_failure(end);
            self.check_measurements(end);
        }
    }

    /// The link loses nothing any more, applications answer everything, the first `replies` packets
    /// by a reply. Everything must come to an end, with each letter delivered and answered.
    pub(crate) fn heal(&mut self, mut replies: usize, telling: Telling) {
        for _round in 0..20_000 {
            let mut moved = 0;
            for end in [0, 1] {
                moved += self.transmit(end, usize::MAX, Drain::All) + self.arrive_all(1 - end);
                moved += self.bring(end) + self.deliver_all(end);
                while !self.ends[end].open.is_empty() {
                    let answer = match replies.checked_sub(1) {
                        None => Answer::Acknowledge,
                        Some(left) => {
                            replies = left;
                            Answer::Reply(if left % 3 == 0 { Order::Ordered } else { Order::Unordered })
                        }
                    };
                    self.answer(end, 0, answer);
                    moved += 1;
                }
            }
            if moved > 0 {
                continue;
            }
            if telling == Telling::Promptly {
                for end in [0, 1] {
                    self.tell_held(end);
                    moved += self.transmit(end, usize::MAX, Drain::All) + self.arrive_all(1 - end);
                }
            }
            if moved > 0 {
                continue;
            }
            if self.ends.iter().all(|end| end.exchange.is_idle()) {
                self.check_complete();
                return;
            }
            let deadline = self.ends.iter().filter_map(|end| end.exchange.next_deadline()).min();
            let deadline = deadline.unwrap_or_else(|| panic!("deadlock: {}", self.summary()));
            self.advance(deadline.saturating_sub(self.now));
        }
        panic!("no end at {:?}: {}", self.now, self.summary());
    }

    /// What is left to do, in a few words: there may be a thousand packets in a window.
    fn summary(&self) -> String {
        let end = |End { exchange, open, sent, answered, .. }: &End| {
            let [open, sent, answered] = [open.len(), sent.len(), answered.len()];
            format!(
                "{open} open, {answered} of {sent} answered, {} in flight, failure {:?}",
                exchange.in_flight(),
                exchange.failure()
            )
        };
        self.ends.each_ref().map(end).join("; ")
    }

    fn record(&mut self, end: usize, seq: SeqNo, order: Order, reply_to: Option<u64>) -> u64 {
        let letter = self.next_letter;
        self.next_letter += 1;
        // One in four at once.
        if letter % 4 == 3 {
            assert!(self.ends[end].exchange.claim(seq));
            self.ends[end].claimed.insert(letter);
        }
        let place = self.ends[end].sent.len();
        self.letters.insert(letter, Sent { order, reply_to, place, at: self.now });
        self.ends[end].sent.push(letter);
        self.ends[end].seqs.insert(letter, seq);
        if let Some(original) = reply_to {
            self.replies.insert(original, letter);
        }
        letter
    }

    fn check_delivery(&mut self, at: usize, token: Token, letter: u64, answers: Option<u64>) {
        let sent = self.letters[&letter];
        let [first, second] = &mut self.ends;
        let (here, there) = if at == 0 { (first, second) } else { (second, first) };
        assert!(here.arrived.contains(&letter), "{letter} never arrived");
        assert!(here.delivered.insert(letter), "{letter} delivered twice");
        assert_eq!(sent.reply_to, answers, "the link of {letter}");
        assert_eq!((token.seq(), token.order()), (there.seqs[&letter], sent.order));
        while there.sent.get(here.without_gap).is_some_and(|letter| here.delivered.contains(letter)) {
            here.without_gap += 1;
        }
        if sent.order == Order::Ordered {
            assert!(
                here.without_gap > sent.place,
                "ordered {letter} overtook {}",
                there.sent[here.without_gap]
            );
            assert_eq!(here.critical, None, "{letter} delivered into a critical section");
            here.critical = Some(letter);
        }
        here.open.push((token, letter));
    }

    fn check_answer(&mut self, at: usize, letter: u64, seq: SeqNo, reply: Option<u64>) {
        assert_eq!(self.ends[at].seqs[&letter], seq, "the data that was sent under this number");
        let former = self.ends[at].answered.insert(letter, reply);
        assert_eq!(former, None, "{letter} answered twice");
    }

    /// Whether the peer counts as silent, which it is found to be when time passes and until it is heard.
    fn check_failure(&mut self, end: usize) {
        let End { exchange, sent, seqs, oldest, last_heard, failure, .. } = &mut self.ends[end];
        while sent.get(*oldest).is_some_and(|letter| exchange.sent(seqs[letter]).is_none()) {
            *oldest += 1;
        }
        if let Some(letter) = sent.get(*oldest)
            && let Some(patience) = self.config.give_up_after
        {
            let since = self.letters[letter].at;
            let silent = self.now >= since.max(*last_heard) + patience;
            *failure = failure.or(silent.then_some(GaveUp { seq: seqs[letter], since }));
        }
        assert_eq!(exchange.failure(), *failure);
    }

    fn check_measurements(&self, end: usize) {
        let exchange = &self.ends[end].exchange;
        let (smoothed, min) = (exchange.smoothed_rtt(), exchange.min_rtt());
        assert_eq!((smoothed.is_some(), exchange.rtt_variation().is_some()), (min.is_some(), min.is_some()));
        assert!(min <= smoothed, "{min:?}, and {smoothed:?} on average");
        let bounds = match self.config.resend {
            Resend::Adaptive(adaptive) => adaptive.min..=adaptive.max,
            Resend::Fixed(interval) => interval..=interval,
        };
        assert!(bounds.contains(&exchange.resend_timeout()), "{:?}", exchange.resend_timeout());
    }

    fn check_complete(&mut self) {
        for end in &mut self.ends {
            end.flights.drain(&mut end.exchange, self.now);
        }
        for end in [0, 1] {
            let (from, to) = (&self.ends[end], &self.ends[1 - end]);
            assert_eq!(to.delivered.len(), from.sent.len(), "everything is delivered");
            assert_eq!(from.answered.len(), from.sent.len(), "everything is answered");
            for (letter, reply) in &from.answered {
                assert_eq!(
                    self.replies.get(letter),
                    reply.as_ref(),
                    "both ends agree how {letter} was answered"
                );
            }
            assert!(from.flights.acked().is_none_or(|acked| acked == from.sent.len()), "told of everything");
            assert_eq!(from.exchange.in_flight(), 0);
            assert_eq!(from.exchange.unanswered(), 0);
            assert_eq!(from.exchange.next_deadline(), None);
        }
    }
}

fn fresh_first(exchange: &mut SeqEx<Letter, u64>, now: Timestamp) -> Option<OnLink> {
    if let Some(ack) = exchange.poll_acks() {
        return Some(Packet::Ack(ack));
    }
    let fresh = exchange.poll_fresh(now).map(|message| message.map(|letter| letter.0));
    let message = fresh.or_else(|| Some(exchange.poll_resend(now)?.map(|letter| letter.0)));
    message.map(Packet::Message)
}
