//! Packets that somebody else brings to the peer: the exchange waits for them, and draws no conclusions.

use std::time::Duration;

use seqex::{
    Ack, AckKind, Config, Delivery, Event, Feedback, GaveUp, Message, Order, Packet, SeqEx, SeqNo, Timestamp,
};

type Exchange = SeqEx<u64>;

const MS: Duration = Duration::from_millis(1);
const GIVE_UP: Duration = Duration::from_secs(30);

/// An exchange that has transmitted so many packets.
fn sending(count: u64) -> (Exchange, Vec<SeqNo>) {
    let mut exchange = Exchange::new(Config {
        feedback: Feedback::Collect,
        give_up_after: Some(GIVE_UP),
        ..Config::default()
    });
    let send = |data| exchange.send(Duration::ZERO, Order::Unordered, data).expect("there is room");
    let seqs = (0..count).map(send).collect();
    while exchange.poll_transmit(Duration::ZERO).is_some() {}
    (exchange, seqs)
}

fn ack(kind: AckKind, first: SeqNo, count: u32) -> Packet<u64> {
    Packet::Ack(Ack { kind, first, count })
}

fn events(exchange: &mut Exchange) -> Vec<Event> {
    std::iter::from_fn(|| exchange.poll_event()).collect()
}

/// What is transmitted again until `end`, looking every ten milliseconds.
fn resent(exchange: &mut Exchange, start: Timestamp, end: Timestamp) -> Vec<SeqNo> {
    let mut resent = Vec::new();
    let mut now = start;
    while now < end {
        exchange.handle_timeout(now);
        while let Some(Message { seq, .. }) = exchange.poll_resend(now) {
            resent.push(seq);
        }
        now += 10 * MS;
    }
    resent
}

#[test]
fn neither_time_nor_evidence_has_it_transmitted_again() {
    let (mut exchange, seqs) = sending(6);
    assert!(exchange.entrust(seqs[0]));
    assert!(!exchange.entrust(seqs[0]), "it is not in flight any more");
    assert_eq!(exchange.in_flight(), 5);
    exchange.receive(40 * MS, ack(AckKind::Answered, seqs[1], 5));
    assert_eq!(resent(&mut exchange, 40 * MS, GIVE_UP / 2), []);
    assert!(events(&mut exchange).iter().all(|event| matches!(event, Event::Acked { .. })));
    exchange.receive(GIVE_UP / 2, ack(AckKind::Answered, seqs[0], 1));
    let answered = events(&mut exchange);
    let [Event::Acked { in_flight: false, rtt: None, .. }] = answered[..] else { panic!("{answered:?}") };
    assert_eq!(std::iter::from_fn(|| exchange.poll_deliver()).count(), 6);
    assert!(exchange.is_idle());
}

#[test]
fn once_it_has_arrived_its_answer_is_asked_for() {
    let (mut exchange, seqs) = sending(1);
    assert!(exchange.entrust(seqs[0]));
    let arrival = GIVE_UP / 3;
    exchange.receive(arrival, ack(AckKind::Holding, seqs[0], 1));
    assert!(matches!(events(&mut exchange)[..], [Event::Held { .. }]), "that it arrived is told");
    assert!(exchange.has_arrived(seqs[0]));
    assert_eq!(exchange.smoothed_rtt(), None, "how long it took says nothing about the road");
    // Four time-outs of a link of which nothing is known.
    let asked = arrival + 1000 * MS;
    assert_eq!(resent(&mut exchange, arrival, asked), []);
    assert_eq!(resent(&mut exchange, asked, asked + 10 * MS), [seqs[0]]);
    exchange.receive(GIVE_UP, ack(AckKind::Answered, seqs[0], 1));
    assert_eq!(exchange.poll_deliver(), Some(Delivery::Acknowledged { seq: seqs[0], data: 0 }));
}

/// Whoever brings the packet hears the peer where the exchange does not.
#[test]
fn a_peer_that_is_heard_is_not_given_up() {
    let (mut exchange, seqs) = sending(1);
    assert!(exchange.entrust(seqs[0]));
    exchange.heard(GIVE_UP - MS);
    exchange.handle_timeout(GIVE_UP);
    assert_eq!(exchange.failure(), None);
    exchange.handle_timeout(2 * GIVE_UP);
    assert_eq!(exchange.failure(), Some(GaveUp { seq: seqs[0], since: Duration::ZERO }));
    exchange.heard(2 * GIVE_UP);
    assert_eq!(exchange.failure(), None);
}

#[test]
fn only_what_is_in_flight_can_be_entrusted() {
    let (mut exchange, seqs) = sending(2);
    exchange.receive(MS, ack(AckKind::Answered, seqs[0], 1));
    exchange.receive(MS, ack(AckKind::Holding, seqs[1], 1));
    let fresh = exchange.send(MS, Order::Ordered, 9).expect("there is room");
    for seq in [seqs[0], seqs[1], fresh, fresh.next()] {
        assert!(!exchange.entrust(seq));
    }
}

/// What was entrusted was not asked about: the peer is asked about the others no sooner because of its answer.
#[test]
fn the_answer_to_an_entrusted_packet_answers_no_question() {
    let (mut exchange, seqs) = sending(10);
    let mut now = 20 * MS;
    exchange.receive(now, ack(AckKind::Holding, seqs[0], 10));
    // About all of them, and then, as nothing comes of it, about a few.
    for _ in 0..2 {
        now = exchange.next_deadline().expect("the peer is asked");
        exchange.handle_timeout(now);
        let asked: Vec<SeqNo> = std::iter::from_fn(|| Some(exchange.poll_resend(now)?.seq)).collect();
        now += 20 * MS;
        for seq in asked {
            exchange.receive(now, ack(AckKind::Holding, seq, 1));
        }
    }
    let seq = exchange.send(now, Order::Unordered, 10).expect("there is room");
    exchange.poll_transmit(now);
    assert!(exchange.entrust(seq));
    let deadline = exchange.next_deadline();
    exchange.receive(now + 20 * MS, ack(AckKind::Answered, seq, 1));
    assert_eq!(exchange.next_deadline(), deadline);
}
