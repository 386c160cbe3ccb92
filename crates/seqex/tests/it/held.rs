//! What a peer holds and does not answer, on a perfect road: it is asked about now and then, and that is all.

use std::{collections::VecDeque, time::Duration};

use seqex::{
    Adaptive, Capacity, Config, Delivery, Event, Feedback, Order, Packet, Resend, SeqEx, SeqNo, Timestamp,
};

type Exchange = SeqEx<u64>;

const HOUR: Duration = Duration::from_secs(3600);
/// One way.
const LATENCY: Duration = Duration::from_millis(20);

/// How many messages fit the window.
const COUNT: u64 = 127;

fn exchange() -> Exchange {
    let longest = Duration::from_secs(2);
    SeqEx::new(Config {
        capacity: Capacity::new(128).expect("a power of two"),
        resend: Resend::Adaptive(Adaptive { max: longest, ..Adaptive::default() }),
        give_up_after: Some(Duration::from_secs(30)),
        feedback: Feedback::Collect,
        ..Config::default()
    })
}

struct Road {
    now: Timestamp,
    ends: [Exchange; 2],
    /// What is under way to each end, and when it arrives.
    inbound: [VecDeque<(Timestamp, Packet<u64>)>; 2],
    /// Answers to these packets are lost on the way to the first end.
    lost_answers: Vec<SeqNo>,
    resent: [usize; 2],
    timeouts: [usize; 2],
}

impl Road {
    fn new() -> Self {
        Self {
            now: Duration::ZERO,
            ends: [exchange(), exchange()],
            inbound: Default::default(),
            lost_answers: vec![],
            resent: [0; 2],
            timeouts: [0; 2],
        }
    }

    /// Lets `time` pass.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            for side in 0..2 {
                self.step(side);
            }
            let deadlines = self.ends.iter().filter_map(Exchange::next_deadline);
            let arrivals = self.inbound.iter().filter_map(|inbound| inbound.front().map(|(at, _)| *at));
            match deadlines.chain(arrivals).min() {
                Some(next) if next <= until => self.now = self.now.max(next),
                _ => break,
            }
        }
        self.now = until;
    }

    fn step(&mut self, side: usize) {
        let (now, end) = (self.now, &mut self.ends[side]);
        while self.inbound[side].front().is_some_and(|&(at, _)| at <= now)
            && let Some((_, packet)) = self.inbound[side].pop_front()
        {
            end.receive(now, packet);
        }
        end.handle_timeout(now);
        assert_eq!(end.failure(), None);
        end.tell_held();
        let mut out = vec![];
        while let Some(ack) = end.poll_acks() {
            out.push(Packet::Ack(ack));
        }
        while let Some(message) = end.poll_resend(now) {
            self.resent[side] += 1;
            out.push(Packet::Message(message.map(|data| *data)));
        }
        while let Some(message) = end.poll_fresh(now) {
            out.push(Packet::Message(message.map(|data| *data)));
        }
        while let Some(event) = end.poll_event() {
            assert!(!matches!(event, Event::Lost { .. }));
            self.timeouts[side] += usize::from(matches!(event, Event::TimedOut { .. }));
        }
        let lost = |packet: &Packet<u64>| match packet {
            Packet::Ack(ack) => side == 1 && self.lost_answers.contains(&ack.first),
            Packet::Message(_) => false,
        };
        out.retain(|packet| !lost(packet));
        self.inbound[1 - side].extend(out.into_iter().map(|packet| (now + LATENCY, packet)));
    }

    fn send_all(&mut self) {
        for number in 0..COUNT {
            self.ends[0].send(self.now, Order::Unordered, number).expect("room");
        }
    }
}

/// A question every half second, and twice that at first.
fn is_little(resent: usize) {
    assert!(resent < 2 * 3600 + 500, "{resent} resends");
}

//= ZSSP-SEQ-19  what is held is not taken for lost
#[test]
fn messages_that_nobody_takes_are_hardly_asked_about() {
    let mut road = Road::new();
    road.send_all();
    road.pass(HOUR);
    assert_eq!(road.timeouts, [0, 0]);
    assert_eq!(road.ends[0].unanswered(), COUNT as u32);
    is_little(road.resent[0]);
}

//= ZSSP-SEQ-19  nor are replies
#[test]
fn replies_that_nobody_takes_are_hardly_asked_about() {
    let mut road = Road::new();
    road.send_all();
    road.pass(2 * LATENCY);
    while let Some(Delivery::Payload { token, data }) = road.ends[1].poll_deliver() {
        road.ends[1].reply(road.now, token, Order::Unordered, data).expect("it is open");
    }
    road.pass(HOUR);
    assert_eq!(road.timeouts, [0, 0]);
    assert_eq!(road.ends[1].unanswered(), COUNT as u32);
    is_little(road.resent[1]);
}

/// Once there is something to learn, it is learned soon, however long there was nothing.
#[test]
fn lost_answers_are_fetched_again() {
    let mut road = Road::new();
    road.send_all();
    road.pass(HOUR / 10);
    let mut tokens = vec![];
    while let Some(Delivery::Payload { token, .. }) = road.ends[1].poll_deliver() {
        tokens.push(token);
    }
    // Every second one is answered, and no acknowledgement of those arrives.
    let (answered, kept): (Vec<_>, Vec<_>) =
        tokens.into_iter().partition(|token| token.seq().to_u32().is_multiple_of(2));
    road.lost_answers = answered.iter().map(|token| token.seq()).collect();
    let count = answered.len() as u32;
    answered.into_iter().for_each(|token| road.ends[1].acknowledge(token));
    road.pass(LATENCY);
    road.lost_answers.clear();
    road.pass(LATENCY);
    assert_eq!(road.ends[0].unanswered(), COUNT as u32, "they are lost");
    // Nothing was measured: the time-out, and so the least wait, is a long one, and sixteen are asked about at a time.
    road.pass(Duration::from_secs(20));
    assert_eq!(road.ends[0].unanswered(), COUNT as u32 - count);
    assert_eq!(kept.len() as u32, road.ends[0].unanswered());
}
