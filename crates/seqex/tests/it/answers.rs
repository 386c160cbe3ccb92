//! Who is answered, how often, and what happens when answers, tokens or whole exchanges get lost.

use std::time::Duration;

use seqex::{
    Ack, AckKind, Capacity, Config, Delivery, DropReason, Message, Order, Packet, Received, Refusal, SeqEx,
    SeqNo, Timestamp, Token,
};

use crate::support::{Answer, Drain, Letter, Pair, Telling};

const NOW: Timestamp = Duration::from_secs(1);

fn config(capacity: u32) -> Config {
    Config { capacity: Capacity::new(capacity).expect("a power of two"), ..Config::default() }
}

fn payload(seq: u32, order: Order) -> Packet<u64> {
    Packet::Message(Message { seq: SeqNo::new(seq), reply_to: None, order, data: seq.into() })
}

fn answered(first: u32, count: u32) -> Packet<u64> {
    Packet::Ack(Ack { kind: AckKind::Answered, first: SeqNo::new(first), count })
}

//= ZSSP-SEQ-10  what was sent comes back
//= ZSSP-SEQ-17  a reply acknowledges
#[test]
fn answers_go_both_ways_and_bring_back_what_was_sent() {
    let mut pair = Pair::new(config(4));
    let question = pair.send(0, Order::Unordered).unwrap();
    pair.transmit(0, 9, Drain::All);
    pair.arrive_all(1);
    assert!(pair.deliver(1));
    pair.answer(1, 0, Answer::Reply(Order::Unordered));
    pair.transmit(1, 9, Drain::All);
    pair.arrive_all(0);
    assert!(pair.deliver(0));
    assert_eq!(pair.ends[0].answered.get(&question), Some(&Some(1)));
    pair.answer(0, 0, Answer::Acknowledge);
    pair.heal(0, Telling::Promptly);
    assert_eq!(pair.ends[1].answered.get(&1), Some(&None));
}

/// The reply has arrived and its taker is gone: neither its room nor its critical section may leak.
#[test]
fn a_lost_token_can_be_made_good() {
    let mut pair = Pair::new(config(4));
    for _ in 0..20 {
        pair.send(0, Order::Ordered).unwrap();
        pair.transmit(0, 9, Drain::All);
        pair.arrive_all(1);
        pair.deliver_all(1);
        pair.answer(1, 0, Answer::Reply(Order::Ordered));
        pair.transmit(1, 9, Drain::All);
        pair.arrive_all(0);
        pair.deliver_all(0);
        pair.answer(0, 0, Answer::Abandon);
        pair.transmit(0, 9, Drain::All);
        pair.arrive_all(1);
        pair.deliver_all(1);
    }
    assert_eq!(pair.ends[0].exchange.room(), 3);
    pair.heal(0, Telling::Promptly);
}

#[test]
fn a_token_that_was_abandoned_answers_nothing() {
    let mut b: SeqEx<Letter, u64> = SeqEx::new(config(4));
    b.receive(NOW, payload(0, Order::Ordered));
    let Some(Delivery::Payload { token, .. }) = b.poll_deliver() else { panic!("nothing delivered") };
    assert!(b.abandon(token.seq()));
    assert_eq!(b.poll_acks(), Some(Ack { kind: AckKind::Answered, first: SeqNo::new(0), count: 1 }));
    let refused = b.reply(NOW, token, Order::Ordered, Letter(7)).unwrap_err();
    assert_eq!(refused.data, Letter(7));
    assert_eq!(b.unanswered(), 0);
    assert_eq!(b.poll_acks(), None);
}

//= ZSSP-SEQ-06  after every packet before it
//= ZSSP-SEQ-07  plain ones overtake
//= ZSSP-SEQ-08  critical section
#[test]
fn ordered_packets_wait_for_all_before_them_and_for_the_critical_section() {
    let mut b: SeqEx<Letter, u64> = SeqEx::new(config(8));
    let mut tokens = vec![];
    fn deliver(b: &mut SeqEx<Letter, u64>, tokens: &mut Vec<Token>) -> Option<u64> {
        let Delivery::Payload { token, data } = b.poll_deliver()? else { return None };
        tokens.push(token);
        Some(data)
    }
    for seq in [1, 2, 3] {
        b.receive(NOW, payload(seq, if seq == 2 { Order::Unordered } else { Order::Ordered }));
    }
    assert_eq!(deliver(&mut b, &mut tokens), Some(2), "the plain one overtakes");
    assert_eq!(deliver(&mut b, &mut tokens), None);
    b.receive(NOW, payload(0, Order::Unordered));
    assert_eq!(deliver(&mut b, &mut tokens), Some(0));
    assert_eq!(deliver(&mut b, &mut tokens), Some(1));
    assert_eq!(deliver(&mut b, &mut tokens), None, "critical section");
    b.receive(NOW, payload(4, Order::Unordered));
    assert_eq!(deliver(&mut b, &mut tokens), Some(4), "plain ones do not care");
    b.release(&tokens[2]);
    assert_eq!(deliver(&mut b, &mut tokens), Some(3));
    b.release(&tokens[2]);
    b.receive(NOW, payload(5, Order::Ordered));
    assert_eq!(deliver(&mut b, &mut tokens), None, "releasing again does not end another's critical section");
    b.acknowledge(tokens.remove(3));
    assert_eq!(deliver(&mut b, &mut tokens), None, "that was the plain one");
    b.acknowledge(tokens.remove(3));
    assert_eq!(deliver(&mut b, &mut tokens), Some(5));
}

//= ZSSP-SEQ-12  two reasons
#[test]
fn refusals_say_who_is_to_blame() {
    let mut pair = Pair::new(config(4));
    while pair.send(0, Order::Unordered).is_ok() {}
    assert_eq!(pair.send(0, Order::Unordered), Err(Refusal::RemoteBehind));
    pair.transmit(0, 9, Drain::All);
    pair.arrive_all(1);
    pair.deliver_all(1);
    assert_eq!(pair.ends[1].open.len(), 3);
    assert_eq!(pair.send(1, Order::Unordered), Err(Refusal::LocalUnanswered));
    pair.answer(1, 0, Answer::Acknowledge);
    assert!(pair.send(1, Order::Unordered).is_ok());
    pair.heal(0, Telling::Promptly);
}

#[test]
fn undrained_acknowledgements_do_not_pile_up() {
    let mut a: SeqEx<Letter, u64> = SeqEx::new(config(4));
    let mut sent = 0;
    while let Ok(seq) = a.send(NOW, Order::Unordered, Letter(sent)) {
        assert!(a.poll_transmit(NOW).is_some());
        a.receive(NOW, answered(seq.to_u32(), 1));
        sent += 1;
    }
    assert_eq!((sent, a.can_send()), (4, Err(Refusal::LocalUnanswered)));
    assert!(a.poll_deliver().is_some());
    assert_eq!(a.can_send(), Ok(()));
}

//= ZSSP-SEQ-16  acknowledged again
#[test]
fn a_lost_acknowledgement_is_fetched_by_a_duplicate() {
    let mut b: SeqEx<Letter, u64> = SeqEx::new(config(4));
    b.receive(NOW, payload(0, Order::Unordered));
    let Some(Delivery::Payload { token, .. }) = b.poll_deliver() else { panic!("nothing delivered") };
    let again = b.receive(NOW, payload(0, Order::Unordered));
    assert_eq!(again, Received::Dropped { reason: DropReason::Duplicate, data: 0 });
    assert_eq!(b.poll_acks().map(|a| a.kind), Some(AckKind::Holding), "its answer is still being made");
    b.acknowledge(token);
    for _ in 0..3 {
        assert_eq!(b.poll_acks(), Some(Ack { kind: AckKind::Answered, first: SeqNo::new(0), count: 1 }));
        assert_eq!(b.poll_acks(), None);
        b.receive(NOW, payload(0, Order::Unordered));
        assert_eq!(b.poll_deliver(), None);
    }
}

/// Acknowledgements of many packets travel, and get lost, in one.
#[test]
fn a_duplicate_fetches_the_acknowledgements_of_those_after_it_too() {
    let mut b: SeqEx<Letter, u64> = SeqEx::new(config(16));
    for seq in 0..10 {
        b.receive(NOW, payload(seq, Order::Ordered));
        let Some(Delivery::Payload { token, .. }) = b.poll_deliver() else { panic!("nothing delivered") };
        if seq == 7 {
            b.reply(NOW, token, Order::Ordered, Letter(1)).expect("room");
            assert!(b.poll_fresh(NOW).is_some());
        } else {
            b.acknowledge(token);
        }
    }
    let answered = |first: u32, count| Some(Ack { kind: AckKind::Answered, first: SeqNo::new(first), count });
    let acks =
        |b: &mut SeqEx<Letter, u64>| std::iter::from_fn(|| b.poll_acks()).map(Some).collect::<Vec<_>>();
    assert_eq!(acks(&mut b), [answered(0, 7), answered(8, 2)]);
    for seq in [2, 3, 4] {
        b.receive(NOW, payload(seq, Order::Ordered));
    }
    assert_eq!(acks(&mut b), [answered(2, 5)], "the reply to the next one will be sent again by itself");
}

//= ZSSP-SEQ-16  not while the reply is in the send window
#[test]
fn a_reply_under_way_is_not_undercut_by_an_acknowledgement() {
    let mut b: SeqEx<Letter, u64> = SeqEx::new(config(4));
    b.receive(NOW, payload(0, Order::Unordered));
    let Some(Delivery::Payload { token, .. }) = b.poll_deliver() else { panic!("nothing delivered") };
    let reply = b.reply(NOW, token, Order::Unordered, Letter(9)).unwrap();
    assert!(b.poll_fresh(NOW).is_some());
    b.receive(NOW, payload(0, Order::Unordered));
    assert_eq!(b.poll_acks(), None, "the reply itself will be resent");
    b.receive(NOW, answered(reply.to_u32(), 1));
    assert_eq!(b.poll_deliver(), Some(Delivery::Acknowledged { seq: reply, data: Letter(9) }));
    b.receive(NOW, payload(0, Order::Unordered));
    assert_eq!(b.poll_acks().map(|a| a.kind), Some(AckKind::Answered));
}

//= ZSSP-SEQ-14  the bounds of the window
//= ZSSP-SEQ-15  beyond it
#[test]
fn packets_outside_the_window_and_unmatched_replies_are_given_back() {
    let mut b: SeqEx<Letter, u64> = SeqEx::new(config(4));
    let dropped = |packet: Received<u64>| match packet {
        Received::Dropped { reason, .. } => Some(reason),
        Received::Taken => None,
    };
    assert_eq!(dropped(b.receive(NOW, payload(4, Order::Unordered))), Some(DropReason::OutsideWindow));
    assert_eq!(dropped(b.receive(NOW, payload(1 << 31, Order::Unordered))), Some(DropReason::OutsideWindow));
    let reply = |seq: u32, to: u32| {
        let (seq, reply_to) = (SeqNo::new(seq), Some(SeqNo::new(to)));
        Packet::Message(Message { seq, reply_to, order: Order::Unordered, data: 0 })
    };
    assert_eq!(dropped(b.receive(NOW, reply(0, 0))), Some(DropReason::Unmatched));
    b.send(NOW, Order::Unordered, Letter(1)).unwrap();
    assert_eq!(dropped(b.receive(NOW, reply(0, 0))), Some(DropReason::Unmatched), "it was never transmitted");
    assert!(b.poll_fresh(NOW).is_some());
    assert_eq!(dropped(b.receive(NOW, reply(0, 0))), None);
    assert_eq!(dropped(b.receive(NOW, reply(1, 0))), Some(DropReason::Unmatched), "answered already");
    assert!(!DropReason::Unmatched.natural() && DropReason::Duplicate.natural());
}

/// A peer with a larger window than agreed cannot push out what is not answered.
#[test]
fn unanswered_packets_keep_their_place() {
    let mut b: SeqEx<Letter, u64> = SeqEx::new(config(2));
    b.receive(NOW, payload(0, Order::Unordered));
    let Some(Delivery::Payload { token, .. }) = b.poll_deliver() else { panic!("nothing delivered") };
    let pushed = b.receive(NOW, payload(2, Order::Unordered));
    assert_eq!(pushed, Received::Dropped { reason: DropReason::OutsideWindow, data: 2 });
    b.acknowledge(token);
    assert_eq!(b.receive(NOW, payload(2, Order::Unordered)), Received::Taken);
}

//= ZSSP-ENC-02  one range for many
#[test]
fn acknowledgements_travel_in_runs() {
    let mut pair = Pair::new(config(64));
    for _ in 0..40 {
        pair.send(0, Order::Unordered).unwrap();
    }
    pair.transmit(0, 64, Drain::All);
    pair.arrive_all(1);
    pair.deliver_all(1);
    while !pair.ends[1].open.is_empty() {
        pair.answer(1, 0, Answer::Acknowledge);
    }
    let exchange = &mut pair.ends[1].exchange;
    assert_eq!(exchange.poll_acks(), Some(Ack { kind: AckKind::Answered, first: SeqNo::new(0), count: 40 }));
    assert_eq!(exchange.poll_acks(), None);
}

//= ZSSP-SEQ-21  for every method
#[test]
fn closing_is_final_and_hands_everything_back() {
    let mut a: SeqEx<Letter, u64> = SeqEx::new(config(8));
    for letter in 0..4 {
        a.send(NOW, Order::Unordered, Letter(letter)).unwrap();
    }
    while a.poll_fresh(NOW).is_some() {}
    a.receive(NOW, answered(1, 1));
    a.receive(NOW, payload(0, Order::Ordered));
    assert_eq!(a.poll_deliver(), Some(Delivery::Acknowledged { seq: SeqNo::new(1), data: Letter(1) }));
    let Some(Delivery::Payload { token, .. }) = a.poll_deliver() else { panic!("nothing delivered") };
    a.receive(NOW, answered(3, 1));
    a.receive(NOW, payload(1, Order::Ordered));
    let reply =
        Message { seq: SeqNo::new(2), reply_to: Some(SeqNo::new(2)), order: Order::Ordered, data: 22 };
    a.receive(NOW, Packet::Message(reply));

    let remains = a.close();
    assert_eq!(remains.unanswered, [(SeqNo::new(0), Letter(0))]);
    assert_eq!(remains.acknowledged, [(SeqNo::new(3), Letter(3))]);
    assert_eq!(remains.undelivered, [(1, None), (22, Some((SeqNo::new(2), Letter(2))))]);

    assert!(a.is_closed() && a.is_idle());
    assert_eq!(a.send(NOW, Order::Ordered, Letter(9)).unwrap_err().reason, Refusal::Closed);
    assert_eq!(a.reply(NOW, token, Order::Ordered, Letter(9)).unwrap_err().data, Letter(9));
    let late = a.receive(NOW, payload(3, Order::Ordered));
    assert_eq!(late, Received::Dropped { reason: DropReason::Closed, data: 3 });
    a.receive(NOW, answered(0, 9));
    a.handle_timeout(NOW + Duration::from_secs(1000));
    assert!(a.poll_deliver().is_none() && a.poll_transmit(NOW).is_none());
    assert_eq!((a.next_deadline(), a.failure(), a.room()), (None, None, 0));
}
