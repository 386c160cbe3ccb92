//! A peer that sends whatever it likes harms nobody but itself: nothing panics, no packet that is open
//! is lost or answered twice, and memory stays within the windows.

use std::time::Duration;

use proptest::prelude::*;
use seqex::{
    Ack, AckKind, Capacity, Config, Delivery, Feedback, Message, Order, Packet, SeqEx, SeqNo, Token,
};

#[derive(Clone, Copy, Debug)]
enum Step {
    Answer(bool),
    Deliver,
    Receive(Packet<u8>),
    Send,
    Time(u64),
    Transmit,
}

fn step() -> impl Strategy<Value = Step> {
    let seq = || {
        prop_oneof![9 => (0..24_u32).prop_map(|n| n.wrapping_sub(8)), 1 => any::<u32>()].prop_map(SeqNo::new)
    };
    let order = |ordered| if ordered { Order::Ordered } else { Order::Unordered };
    let message =
        (seq(), proptest::option::of(seq()), any::<bool>()).prop_map(move |(seq, reply_to, ordered)| {
            Packet::Message(Message { seq, reply_to, order: order(ordered), data: 0 })
        });
    let ack = (seq(), prop_oneof![0..5_u32, any::<u32>()], any::<bool>()).prop_map(|(first, count, held)| {
        Packet::Ack(Ack { kind: if held { AckKind::Holding } else { AckKind::Answered }, first, count })
    });
    prop_oneof![
        2 => any::<bool>().prop_map(Step::Answer),
        3 => Just(Step::Deliver),
        8 => prop_oneof![3 => message, 1 => ack].prop_map(Step::Receive),
        2 => Just(Step::Send),
        1 => prop_oneof![9 => 0..2_000_000_000_u64, 1 => any::<u64>()].prop_map(Step::Time),
        4 => Just(Step::Transmit),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8 * ProptestConfig::default().cases, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics_and_nothing_grows(script in proptest::collection::vec(step(), 0..400)) {
        let capacity = Capacity::new(4).expect("a power of two");
        let config = Config { capacity, feedback: Feedback::Collect, ..Config::default() };
        let mut exchange: SeqEx<Box<u32>, u8> = SeqEx::new(config);
        let mut now = Duration::ZERO;
        let mut open: Vec<Token> = vec![];
        let (mut sent, mut answered) = (0, 0);
        for step in script {
            match step {
                Step::Answer(reply) => {
                    let Some(token) = open.pop() else { continue };
                    if reply {
                        prop_assert!(exchange.reply(now, token, Order::Ordered, Box::new(sent)).is_ok());
                        sent += 1;
                    } else {
                        exchange.acknowledge(token);
                    }
                }
                Step::Deliver => match exchange.poll_deliver() {
                    None => {}
                    Some(Delivery::Acknowledged { .. }) => answered += 1,
                    Some(Delivery::Payload { token, .. }) => open.push(token),
                    Some(Delivery::Reply { token, .. }) => {
                        answered += 1;
                        open.push(token);
                    }
                },
                Step::Receive(packet) => {
                    exchange.receive(now, packet);
                }
                Step::Send => sent += u32::from(exchange.send(now, Order::Unordered, Box::new(sent)).is_ok()),
                Step::Time(nanos) => {
                    now = Duration::from_nanos(nanos); // backwards, too
                    exchange.handle_timeout(now);
                }
                Step::Transmit => {
                    exchange.poll_transmit(now);
                }
            }
            prop_assert!(open.len() <= 4 && exchange.unanswered() <= 4 && exchange.in_flight() <= exchange.unanswered());
            prop_assert!(std::iter::from_fn(|| exchange.poll_event()).count() <= 16);
        }
        let remains = exchange.close();
        answered += remains.acknowledged.len() as u32;
        answered += remains.undelivered.iter().filter(|(_, answers)| answers.is_some()).count() as u32;
        prop_assert_eq!(answered + remains.unanswered.len() as u32, sent, "each letter comes back exactly once");
    }
}

/// However many runs a frame has, what they cost is bounded by what was transmitted: a run that repeats what is known
/// is not followed to its end, once the peer has repeated itself for too often.
#[test]
fn acknowledgements_that_repeat_themselves_are_not_listened_to_for_ever() {
    let capacity = Capacity::new(1024).expect("a power of two");
    let mut exchange: SeqEx<u32> = SeqEx::new(Config { capacity, ..Config::default() });
    let transmit = |exchange: &mut SeqEx<u32>, count| {
        for data in 0..count {
            exchange.send(Duration::ZERO, Order::Unordered, data).expect("room");
            exchange.poll_transmit(Duration::ZERO);
        }
    };
    let hear = |exchange: &mut SeqEx<u32>, kind, first, count| {
        exchange.receive(Duration::ZERO, Packet::Ack(Ack { kind, first: SeqNo::new(first), count }));
        while exchange.poll_deliver().is_some() {}
        exchange.unanswered()
    };
    transmit(&mut exchange, 1000);
    assert_eq!(hear(&mut exchange, AckKind::Answered, 1, 400), 600);
    assert_eq!(hear(&mut exchange, AckKind::Answered, 1, 500), 500, "repetition as such is natural");
    for kind in [AckKind::Answered, AckKind::Holding] {
        for _ in 0..255 {
            assert_eq!(hear(&mut exchange, kind, 1, 500), 500);
        }
    }
    assert_eq!(hear(&mut exchange, AckKind::Answered, 1, 600), 500, "not followed to its end");
    assert_eq!(hear(&mut exchange, AckKind::Answered, 501, 100), 400, "news are always heard");
    transmit(&mut exchange, 20);
    assert_eq!(
        hear(&mut exchange, AckKind::Answered, 541, 80),
        400,
        "60 known ones, 20 news: 80 may be known"
    );
}

/// It may still say what is new behind what is known for ever: each time, the oldest packet without an answer is heard.
#[test]
fn nothing_waits_for_ever_behind_what_is_not_listened_to() {
    let capacity = Capacity::new(64).expect("a power of two");
    let mut exchange: SeqEx<u32> = SeqEx::new(Config { capacity, ..Config::default() });
    while exchange.send(Duration::ZERO, Order::Unordered, 0).is_ok() {
        exchange.poll_fresh(Duration::ZERO);
    }
    let mut hear = |first, count| {
        let ack = Ack { kind: AckKind::Answered, first: SeqNo::new(first), count };
        exchange.receive(Duration::ZERO, Packet::Ack(ack));
        exchange.unanswered()
    };
    for known in (1..63).step_by(2) {
        for _ in 0..300 {
            hear(known, 1);
        }
    }
    let left = hear(1, 1);
    assert_eq!((left, hear(1, 62)), (32, 32), "nothing behind what is known");
    for left in (0..32).rev() {
        assert_eq!(hear(0, 63), left);
    }
}
