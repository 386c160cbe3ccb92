//! On a link that neither loses nor reorders nothing is taken for lost, whatever is answered when, and how.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;
use seqex::{
    Ack, AckKind, Capacity, Config, Delivery, Event, Feedback, Message, Order, Packet, SeqEx, SeqNo,
    Timestamp, Token,
};

type Exchange = SeqEx<u32>;

fn millis(ms: u64) -> Timestamp {
    Duration::from_millis(ms)
}

fn exchange() -> Exchange {
    SeqEx::new(Config { feedback: Feedback::Collect, ..Config::default() })
}

fn ack(kind: AckKind, first: u32, count: u32) -> Ack {
    Ack { kind, first: SeqNo::new(first), count }
}

/// An exchange that has transmitted that many packets.
fn transmitted(count: u32) -> Exchange {
    let mut a = exchange();
    for data in 0..count {
        a.send(millis(0), Order::Unordered, data).expect("room");
        assert!(a.poll_fresh(millis(0)).is_some());
    }
    a
}

/// An exchange that has delivered that many packets of the peer, and what to answer them with.
fn delivered(count: u32) -> (Exchange, Vec<Option<Token>>) {
    let mut b = exchange();
    let deliver = |data| {
        let message = Message { seq: SeqNo::new(data), reply_to: None, order: Order::Unordered, data };
        b.receive(millis(0), Packet::Message(message));
        match b.poll_deliver() {
            Some(Delivery::Payload { token, .. }) => Some(token),
            other => panic!("{other:?}"),
        }
    };
    let tokens = (0..count).map(deliver).collect();
    (b, tokens)
}

fn losses(a: &mut Exchange) -> usize {
    std::iter::from_fn(|| a.poll_event()).filter(|event| matches!(event, Event::Lost { .. })).count()
}

fn acks(b: &mut Exchange) -> Vec<Ack> {
    std::iter::from_fn(|| b.poll_acks()).collect()
}

//= ZSSP-SEQ-19  all of one datagram is one piece of evidence
#[test]
fn runs_of_one_datagram_are_weighed_together() {
    let mut a = transmitted(20);
    for run in [ack(AckKind::Holding, 10, 10), ack(AckKind::Answered, 5, 5), ack(AckKind::Holding, 0, 5)] {
        a.receive(millis(50), Packet::Ack(run));
    }
    assert!(!a.can_transmit() && a.poll_resend(millis(50)).is_none());
    assert_eq!((losses(&mut a), a.in_flight()), (0, 0));
}

//= ZSSP-SEQ-19  a reply is evidence like any other
#[test]
fn a_reply_behind_acknowledgements_of_one_datagram_is_weighed_with_them() {
    let mut a = transmitted(4);
    a.receive(millis(50), Packet::Ack(ack(AckKind::Answered, 1, 3)));
    let reply =
        Message { seq: SeqNo::new(0), reply_to: Some(SeqNo::new(0)), order: Order::Unordered, data: 0 };
    a.receive(millis(50), Packet::Message(reply));
    assert_eq!((losses(&mut a), a.in_flight()), (0, 0));
}

#[test]
fn evidence_that_nobody_drains_is_weighed_when_time_passes() {
    let mut a = transmitted(20);
    a.receive(millis(50), Packet::Ack(ack(AckKind::Answered, 10, 10)));
    assert!(a.next_deadline().expect("something is lost") <= millis(50), "at once");
    assert_eq!(a.in_flight(), 10);
    a.handle_timeout(millis(50));
    assert_eq!(a.in_flight(), 0);
    assert!(a.next_deadline().is_none(), "all of them are to be transmitted");
    assert_eq!(losses(&mut a), 10);
}

/// The answers to all were under way when the time-out struck: what comes first with others is not an answer to the
/// repeated transmission, which only comes alone.
//= ZSSP-SEQ-19  a time-out that was too short proves nothing
#[test]
fn what_comes_with_others_after_a_timeout_is_no_evidence_but_what_comes_alone_is() {
    for (count, expected) in [(10, 0), (1, 19)] {
        let mut a = transmitted(20);
        a.handle_timeout(millis(250));
        assert!(a.poll_resend(millis(250)).is_some_and(|again| again.seq == SeqNo::new(0)));
        a.receive(millis(600), Packet::Ack(ack(AckKind::Answered, 0, count)));
        assert_eq!(losses(&mut a), expected, "{count} answered");
    }
}

/// Datagrams of ten packets: the last of which anything is heard counts as one, as do those that are missing.
//= ZSSP-SEQ-19  datagrams are counted, not what is in them
#[test]
fn packets_of_one_datagram_overtake_as_one() {
    for (arrived, expected) in [(1, 0), (2, 0), (3, 10), (4, 20), (5, 30)] {
        let mut a = exchange();
        for data in 0..60 {
            a.send(millis(0), Order::Unordered, data).expect("room");
            assert!(a.poll_fresh(millis(0)).is_some());
            if data % 10 > 0 {
                a.share_datagram();
            }
        }
        a.receive(millis(50), Packet::Ack(ack(AckKind::Answered, arrived * 10 + 4, 1)));
        assert_eq!(losses(&mut a), expected, "datagram {arrived}");
        a.receive(millis(50), Packet::Ack(ack(AckKind::Answered, 0, 60)));
        assert_eq!((a.unanswered(), a.in_flight()), (0, 0), "each is known by its number");
    }
}

/// What the other travelled with may be answered already, and in a full datagram nothing travels any more.
#[test]
fn packets_that_cannot_share_a_datagram_do_not() {
    let mut a = transmitted(1);
    a.share_datagram();
    a.receive(millis(1), Packet::Ack(ack(AckKind::Answered, 0, 1)));
    a.send(millis(1), Order::Unordered, 1).expect("room");
    assert!(a.poll_fresh(millis(1)).is_some());
    a.share_datagram();
    a.receive(millis(2), Packet::Ack(ack(AckKind::Answered, 1, 1)));
    assert_eq!((a.unanswered(), a.in_flight()), (0, 0));
    let mut a = SeqEx::<u32>::new(Config {
        capacity: Capacity::new(2048).expect("a power of two"),
        feedback: Feedback::Collect,
        ..Config::default()
    });
    for data in 0..1024 {
        a.send(millis(0), Order::Unordered, data).expect("room");
        assert!(a.poll_fresh(millis(0)).is_some());
        a.share_datagram();
    }
    a.receive(millis(50), Packet::Ack(ack(AckKind::Answered, 1022, 1)));
    assert_eq!(losses(&mut a), 256, "of four datagrams the first");
}

#[test]
fn the_receiver_tells_the_oldest_first() {
    let (mut b, mut tokens) = delivered(9);
    for answered in [5, 1, 0, 7] {
        b.acknowledge(tokens[answered].take().expect("not answered"));
    }
    let expected = [
        ack(AckKind::Answered, 0, 2),
        ack(AckKind::Holding, 2, 3),
        ack(AckKind::Answered, 5, 1),
        ack(AckKind::Holding, 6, 1),
        ack(AckKind::Answered, 7, 1),
    ];
    assert_eq!(acks(&mut b), expected, "and nothing about 8, which nothing overtook");
}

#[test]
fn what_is_answered_by_a_reply_that_waits_is_told_to_be_held() {
    let (mut b, mut tokens) = delivered(8);
    let mut take = |index: usize| tokens[index].take().expect("not answered");
    for answered in 0..4 {
        b.reply(millis(0), take(answered), Order::Unordered, 0).expect("room");
    }
    assert!(b.poll_fresh(millis(0)).is_some());
    for answered in 4..8 {
        b.acknowledge(take(answered));
    }
    assert_eq!(acks(&mut b), [ack(AckKind::Holding, 1, 3), ack(AckKind::Answered, 4, 4)]);
}

/// What a peer's application does with a packet.
#[derive(Clone, Copy, Debug)]
enum Answering {
    Acknowledge,
    Reply,
}

/// Both ends send a packet every `gap` and answer each after its own time. All acknowledgements that there are travel in one
/// datagram, every message in one of its own, for `latency`. Fresh packets have to wait until something is allowed to go, every `pace`; acknowledgements never.
fn losses_on_a_perfect_link([latency, gap, pace]: [u64; 3], answers: &[(u64, Answering)]) -> usize {
    let mut ends = [exchange(), exchange()];
    let mut under_way: VecDeque<(u64, usize, Vec<Packet<u32>>)> = VecDeque::new();
    let mut at_work: Vec<(u64, usize, Token, Answering)> = Vec::new();
    let mut plan = answers.iter().cycle();
    let mut lost = 0;
    for ms in 0..2000 {
        let now = millis(ms);
        while under_way.front().is_some_and(|&(arrival, ..)| arrival <= ms)
            && let Some((_, end, datagram)) = under_way.pop_front()
        {
            for packet in datagram {
                ends[end].receive(now, packet);
            }
            lost += losses(&mut ends[end]);
        }
        for end in &mut ends {
            end.handle_timeout(now);
            if ms % gap == 0 && ms < 1000 {
                let _ = end.send(now, Order::Unordered, 0);
            }
        }
        for (index, end) in ends.iter_mut().enumerate() {
            while let Some(delivery) = end.poll_deliver() {
                if let Delivery::Payload { token, .. } | Delivery::Reply { token, .. } = delivery {
                    let &(time, answering) = plan.next().expect("a cycle");
                    at_work.push((ms + time, index, token, answering));
                }
            }
        }
        let (done, rest) = at_work.into_iter().partition(|&(at, ..)| at <= ms);
        at_work = rest;
        for (_, index, token, answering) in done {
            match answering {
                Answering::Acknowledge => ends[index].acknowledge(token),
                Answering::Reply if ms > 1000 => ends[index].acknowledge(token),
                Answering::Reply => drop(ends[index].reply(now, token, Order::Unordered, 0)),
            }
        }
        for (index, end) in ends.iter_mut().enumerate() {
            let mut depart = |datagram| under_way.push_back((ms + latency, 1 - index, datagram));
            depart(acks(end).into_iter().map(Packet::Ack).collect());
            let message = |message: Message<&u32>| vec![Packet::Message(message.map(|&data| data))];
            while let Some(resent) = end.poll_resend(now) {
                depart(message(resent));
            }
            if ms % pace == 0
                && let Some(fresh) = end.poll_fresh(now)
            {
                depart(message(fresh));
            }
            lost += losses(end);
        }
    }
    assert!(ends.iter().all(|end| end.unanswered() < 64));
    lost
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    //= ZSSP-SEQ-19  slow answers are no losses
    #[test]
    fn nothing_is_lost_on_a_perfect_link(
        latency in 1..40_u64,
        gap in 1..10_u64,
        pace in 1..10_u64,
        answers in proptest::collection::vec(
            (0..60_u64, prop_oneof![Just(Answering::Acknowledge), Just(Answering::Reply)]),
            1..40,
        ),
    ) {
        prop_assert_eq!(losses_on_a_perfect_link([latency, gap, pace], &answers), 0);
    }
}

/// What is weighed is weighed at the time at which it was heard, even if it says nothing new: a packet that has become late
/// since the last news is found then, without waiting for a deadline.
#[test]
fn what_is_heard_again_finds_what_is_late_by_then() {
    let mut a = transmitted(1);
    a.receive(millis(40), Packet::Ack(ack(AckKind::Answered, 0, 1)));
    for data in 1..3 {
        a.send(millis(100), Order::Unordered, data).expect("room");
        a.poll_fresh(millis(100));
    }
    a.receive(millis(140), Packet::Ack(ack(AckKind::Answered, 2, 1)));
    assert!(a.poll_resend(millis(140)).is_none(), "a round trip is not late");
    a.receive(millis(150), Packet::Ack(ack(AckKind::Answered, 2, 1)));
    assert!(a.poll_resend(millis(150)).is_some());
}
