//! What is transmitted again, and when.

use std::time::Duration;

use seqex::{
    Ack, AckKind, Adaptive, Capacity, Config, Event, Feedback, Message, Order, Packet, Resend, SeqEx, SeqNo,
    Timestamp,
};

type Exchange = SeqEx<u64>;

fn millis(ms: u64) -> Timestamp {
    Duration::from_millis(ms)
}

fn seq(number: u32) -> SeqNo {
    SeqNo::new(number)
}

fn exchange(resend: Resend) -> Exchange {
    let capacity = Capacity::new(64).expect("a power of two");
    SeqEx::new(Config { capacity, resend, feedback: Feedback::Collect, ..Config::default() })
}

fn adaptive() -> Exchange {
    exchange(Resend::Adaptive(Adaptive { initial: millis(250), min: millis(20), max: millis(2000) }))
}

/// Sends and transmits `count` packets, one each millisecond from `at` on.
fn transmit(a: &mut Exchange, at: u64, count: u64) {
    for i in 0..count {
        a.send(millis(at + i), Order::Unordered, i).expect("room");
        assert!(a.poll_fresh(millis(at + i)).is_some());
    }
}

fn hear(a: &mut Exchange, at: u64, kind: AckKind, first: u32, count: u32) {
    a.receive(millis(at), Packet::Ack(Ack { kind, first: seq(first), count }));
}

/// Of a type that is stated: `serde_json`, beside these tests, makes `u32` comparable with other things too.
const NONE: [u32; 0] = [];

fn resends(a: &mut Exchange, at: u64) -> Vec<u32> {
    std::iter::from_fn(|| a.poll_resend(millis(at)).map(|m| m.seq.to_u32())).collect()
}

fn events(a: &mut Exchange) -> Vec<Event> {
    std::iter::from_fn(|| a.poll_event()).collect()
}

//= ZSSP-SEQ-18  every 250 ms
#[test]
fn the_bare_protocol_resends_each_packet_at_a_fixed_interval() {
    let mut a = exchange(Resend::BARE);
    transmit(&mut a, 0, 3);
    hear(&mut a, 10, AckKind::Answered, 2, 1);
    for round in 1..5 {
        assert_eq!(a.next_deadline(), Some(millis(250 * round)));
        a.handle_timeout(millis(250 * round - 1));
        assert_eq!(resends(&mut a, 250 * round - 1), NONE);
        a.handle_timeout(millis(250 * round));
        assert_eq!(resends(&mut a, 250 * round), [0]);
        a.handle_timeout(millis(250 * round + 1));
        assert_eq!(resends(&mut a, 250 * round + 1), [1]);
    }
    hear(&mut a, 2000, AckKind::Answered, 0, 2);
    assert_eq!(a.next_deadline(), None);
}

//= ZSSP-SEQ-19  by evidence
#[test]
fn a_packet_overtaken_by_three_is_resent_at_once() {
    let mut a = adaptive();
    transmit(&mut a, 0, 6);
    hear(&mut a, 50, AckKind::Answered, 1, 2);
    assert_eq!(resends(&mut a, 50), NONE, "two may have overtaken it");
    hear(&mut a, 51, AckKind::Answered, 3, 1);
    assert_eq!(resends(&mut a, 51), [0]);
    let lost = events(&mut a).into_iter().filter(|e| matches!(e, Event::Lost { .. }));
    assert_eq!(lost.collect::<Vec<_>>(), [Event::Lost { seq: seq(0), sent_at: millis(0) }]);
    hear(&mut a, 100, AckKind::Answered, 4, 2);
    assert_eq!(resends(&mut a, 100), NONE, "the second transmission is younger than these");
    assert_eq!((a.in_flight(), a.unanswered()), (1, 1));
}

//= ZSSP-SEQ-19  what is only late is not lost
#[test]
fn what_was_lost_is_told_to_be_late_where_nothing_else_explains_the_answer() {
    let late = |a: &mut Exchange| {
        let late = events(a).into_iter().filter(|event| matches!(event, Event::Late { .. }));
        late.collect::<Vec<_>>()
    };
    let (sent_at, resent) = (millis(0), |after| Some(millis(after)));
    for (resend, kind, at, expected) in [
        (None, AckKind::Answered, 60, vec![Event::Late { seq: seq(0), sent_at, resent_for: None }]),
        (Some(55), AckKind::Answered, 60, vec![Event::Late { seq: seq(0), sent_at, resent_for: resent(5) }]),
        (Some(55), AckKind::Holding, 104, vec![Event::Late { seq: seq(0), sent_at, resent_for: resent(49) }]),
        (Some(55), AckKind::Answered, 105, vec![]),
    ] {
        let mut a = adaptive();
        transmit(&mut a, 0, 4);
        hear(&mut a, 53, AckKind::Answered, 1, 3);
        assert_eq!(a.min_rtt(), Some(millis(50)));
        assert!(matches!(events(&mut a).last(), Some(Event::Lost { .. })));
        assert!(resend.is_none_or(|resend| resends(&mut a, resend) == [0]));
        hear(&mut a, at, kind, 0, 1);
        assert_eq!(late(&mut a), expected);
        hear(&mut a, at + 1, AckKind::Answered, 0, 1);
        assert_eq!(late(&mut a), [], "once");
    }
    // Nobody knows how long a round trip takes.
    let mut a = adaptive();
    transmit(&mut a, 0, 6);
    a.handle_timeout(millis(250));
    resends(&mut a, 250);
    hear(&mut a, 260, AckKind::Answered, 5, 1);
    assert_eq!(resends(&mut a, 260), [1, 2]);
    hear(&mut a, 261, AckKind::Answered, 1, 1);
    assert_eq!((a.min_rtt(), late(&mut a)), (None, vec![]));
}

#[test]
fn a_packet_overtaken_by_one_is_resent_after_nine_eighths_of_a_round_trip() {
    let mut a = adaptive();
    transmit(&mut a, 0, 2);
    hear(&mut a, 81, AckKind::Answered, 1, 1);
    assert_eq!(a.smoothed_rtt(), Some(millis(80)));
    assert_eq!(a.next_deadline(), Some(millis(90)));
    a.handle_timeout(millis(89));
    assert_eq!(resends(&mut a, 89), NONE);
    a.handle_timeout(millis(90));
    assert_eq!(resends(&mut a, 90), [0]);
}

#[test]
fn silence_is_probed_by_one_packet_with_exponential_back_off() {
    let mut a = adaptive();
    transmit(&mut a, 0, 10);
    events(&mut a);
    let mut probes = vec![];
    for _ in 0..6 {
        let at = a.next_deadline().unwrap();
        a.handle_timeout(at);
        let at = at.as_millis() as u64;
        probes.push((at, resends(&mut a, at)));
    }
    let expected = [(250, 0), (750, 1), (1750, 2), (3750, 3), (5750, 4), (7750, 5)];
    assert_eq!(probes, expected.map(|(at, seq)| (at, vec![seq])));
    assert!(events(&mut a).iter().all(|e| matches!(e, Event::TimedOut { .. })), "no loss is claimed");
    hear(&mut a, 8000, AckKind::Answered, 5, 1);
    // The answered probe was transmitted after all the others but nothing else came: 6 to 9 are lost for certain.
    assert_eq!(resends(&mut a, 8000)[..4], [6, 7, 8, 9]);
    assert_eq!(a.resend_timeout(), millis(2000), "who knows which transmission was answered");
    transmit(&mut a, 8000, 1);
    hear(&mut a, 8080, AckKind::Answered, 10, 1);
    assert_eq!(a.resend_timeout(), millis(240), "the back-off is over");
}

//= ZSSP-SEQ-19  by the measured round trip
#[test]
fn retransmitted_packets_measure_nothing() {
    let mut a = adaptive();
    transmit(&mut a, 0, 1);
    a.handle_timeout(millis(250));
    assert_eq!(resends(&mut a, 250), [0]);
    hear(&mut a, 260, AckKind::Answered, 0, 1);
    assert_eq!((a.smoothed_rtt(), a.min_rtt()), (None, None));
    let acked =
        Event::Acked { seq: seq(0), sent_at: millis(250), rtt: None, transmissions: 2, in_flight: true };
    assert_eq!(events(&mut a).last(), Some(&acked));
    transmit(&mut a, 300, 1);
    hear(&mut a, 340, AckKind::Answered, 1, 1);
    assert_eq!(a.smoothed_rtt(), Some(millis(40)));
    assert_eq!(a.rtt_variation(), Some(millis(20)));
    assert_eq!(a.resend_timeout(), millis(120));
}

/// An answer that comes sooner than light can is to the first transmission, and says nothing of the second.
#[test]
fn an_answer_to_the_first_transmission_is_no_evidence_for_the_second() {
    let mut a = adaptive();
    transmit(&mut a, 0, 1);
    hear(&mut a, 100, AckKind::Answered, 0, 1);
    transmit(&mut a, 200, 4); // 1 to 4
    a.handle_timeout(a.next_deadline().unwrap());
    let probe_at = 600;
    assert_eq!(resends(&mut a, probe_at), [1]);
    hear(&mut a, probe_at + 5, AckKind::Answered, 1, 1);
    assert_eq!(resends(&mut a, probe_at + 5), NONE, "2 to 4 may have arrived just after the first copy of 1");
}

#[test]
fn what_the_peer_holds_is_neither_lost_nor_in_flight() {
    let mut a = adaptive();
    transmit(&mut a, 0, 8);
    hear(&mut a, 40, AckKind::Answered, 2, 6);
    let mut timeout = a.resend_timeout();
    hear(&mut a, 40, AckKind::Holding, 0, 2);
    assert_eq!(resends(&mut a, 40), NONE);
    assert_eq!((a.in_flight(), a.unanswered()), (0, 2));
    assert!(events(&mut a).contains(&Event::Held { seq: seq(0), sent_at: millis(0) }));
    // But the answer may get lost, so it is asked for, ever more rarely.
    let mut heard = millis(40);
    for timeouts in [4, 8, 16] {
        let wait = timeout * timeouts;
        assert_eq!(a.next_deadline(), Some(heard + wait));
        a.handle_timeout(heard + wait);
        assert_eq!(resends(&mut a, (heard + wait).as_millis() as u64), [0, 1]);
        heard += wait + millis(40);
        timeout = a.resend_timeout();
        hear(&mut a, heard.as_millis() as u64, AckKind::Holding, 0, 2);
    }
    hear(&mut a, heard.as_millis() as u64, AckKind::Answered, 0, 2);
    assert_eq!((a.in_flight(), a.unanswered(), a.next_deadline()), (0, 0, None));
    assert!(!events(&mut a).iter().any(|e| matches!(e, Event::Lost { .. })));
}

/// The receiver's side of it: it tells just in time that slow packets are held, and a gap is seen at once.
#[test]
fn the_receiver_tells_what_it_holds_before_it_counts_as_lost() {
    let mut b = adaptive();
    let arrive = |b: &mut Exchange, number: u32, order| {
        b.receive(
            millis(1),
            Packet::Message(Message { seq: seq(number), reply_to: None, order, data: number.into() }),
        );
    };
    let mut tokens = vec![];
    for number in 0..5 {
        arrive(&mut b, number, Order::Unordered);
        match b.poll_deliver() {
            Some(seqex::Delivery::Payload { token, .. }) => tokens.push(token),
            other => panic!("{other:?}"),
        }
    }
    for token in tokens.drain(2..) {
        b.acknowledge(token);
    }
    assert_eq!(b.poll_acks(), Some(Ack { kind: AckKind::Holding, first: seq(0), count: 2 }));
    assert_eq!(b.poll_acks(), Some(Ack { kind: AckKind::Answered, first: seq(2), count: 3 }));
    assert_eq!(b.poll_acks(), None);

    arrive(&mut b, 6, Order::Ordered);
    arrive(&mut b, 7, Order::Ordered);
    assert_eq!(b.poll_acks(), Some(Ack { kind: AckKind::Holding, first: seq(6), count: 2 }), "5 is missing");
    arrive(&mut b, 5, Order::Ordered);
    assert_eq!(
        b.poll_acks().map(|ack| (ack.kind, ack.first)),
        Some((AckKind::Holding, seq(5))),
        "it came late"
    );
    // One duplicate tells about all.
    arrive(&mut b, 8, Order::Ordered);
    arrive(&mut b, 9, Order::Ordered);
    assert_eq!(b.poll_acks(), None);
    arrive(&mut b, 8, Order::Ordered);
    assert_eq!(b.poll_acks(), Some(Ack { kind: AckKind::Holding, first: seq(8), count: 2 }));
}

#[test]
fn a_silent_peer_is_given_up_but_a_slow_one_is_not() {
    let config = Config { give_up_after: Some(millis(5000)), ..Config::default() };
    let mut a: Exchange = SeqEx::new(config);
    transmit(&mut a, 100, 2);
    hear(&mut a, 4000, AckKind::Holding, 0, 1);
    a.handle_timeout(millis(8999));
    assert_eq!(a.failure(), None);
    while let Some(deadline) = a.next_deadline().filter(|d| *d < millis(9000)) {
        a.handle_timeout(deadline);
        resends(&mut a, deadline.as_millis() as u64);
    }
    a.handle_timeout(millis(9000));
    assert_eq!(a.failure(), Some(seqex::GaveUp { seq: seq(0), since: millis(100) }));
}

/// On a quiet link nothing is heard of the peer but that it still holds what it is asked about.
#[test]
fn a_peer_that_takes_its_time_is_not_given_up() {
    for give_up_after in [1000, 5000, 30_000] {
        let config = Config { give_up_after: Some(millis(give_up_after)), ..Config::default() };
        let mut a: Exchange = SeqEx::new(config);
        transmit(&mut a, 0, 2);
        hear(&mut a, 10, AckKind::Answered, 0, 1);
        hear(&mut a, 10, AckKind::Holding, 1, 1);
        let mut asked = 0;
        while let Some(deadline) = a.next_deadline().filter(|deadline| *deadline < millis(120_000)) {
            a.handle_timeout(deadline);
            assert_eq!(a.failure(), None, "at {deadline:?}, after {give_up_after} ms");
            let now = deadline.as_millis() as u64 + 1;
            if !resends(&mut a, now).is_empty() {
                asked += 1;
                hear(&mut a, now + 10, AckKind::Holding, 1, 1);
            }
        }
        assert!((10..500).contains(&asked), "asked {asked} times");
    }
}

/// What the peer says of one packet, again and again, is no news of another. The questions come sooner than the time-out here,
/// and the answers sooner than any that was measured, so that they prove nothing.
//= ZSSP-SEQ-18  unacknowledged packets are resent
#[test]
fn questions_about_a_held_packet_do_not_put_off_the_time_out_of_another() {
    let mut a: Exchange = SeqEx::new(Config { give_up_after: Some(millis(900)), ..Config::default() });
    transmit(&mut a, 0, 2);
    a.handle_timeout(millis(250));
    assert_eq!(resends(&mut a, 250), [0]);
    hear(&mut a, 260, AckKind::Holding, 0, 1);
    let mut asked = 0;
    loop {
        let now = a.next_deadline().expect("a packet is in flight").as_millis() as u64;
        assert!(now <= 760, "a time-out after the last news, which was at 260");
        a.handle_timeout(millis(now));
        match resends(&mut a, now)[..] {
            [0] => asked += 1,
            [1] => break,
            ref other => panic!("{other:?}"),
        }
        hear(&mut a, now + 10, AckKind::Holding, 0, 1);
    }
    assert!(asked > 0);
}

#[test]
fn events_that_nobody_drains_are_bounded() {
    let mut a: Exchange = SeqEx::new(Config {
        capacity: Capacity::new(2).expect("a power of two"),
        feedback: Feedback::Collect,
        ..Config::default()
    });
    for number in 0..100 {
        transmit(&mut a, 0, 1);
        hear(&mut a, 1, AckKind::Answered, number, 1);
        a.poll_deliver();
    }
    assert_eq!(events(&mut a).len(), 8);
}

#[test]
fn hearing_that_a_fresh_packet_is_held_ends_the_back_off() {
    let mut a = adaptive();
    transmit(&mut a, 0, 2);
    let (mut now, mut gaps) = (0, vec![]);
    for _ in 0..2 {
        let due = a.next_deadline().expect("packets are in flight").as_millis() as u64;
        gaps.push(due - now);
        now = due;
        a.handle_timeout(millis(now));
        assert_eq!(resends(&mut a, now).len(), 1);
    }
    assert_eq!(gaps, [250, 500], "nothing is heard: ever more slowly");
    transmit(&mut a, now, 1);
    hear(&mut a, now + 10, AckKind::Holding, 0, 1);
    assert_eq!(a.resend_timeout(), millis(1000), "who knows which transmission has arrived");
    hear(&mut a, now + 80, AckKind::Holding, 2, 1);
    assert_eq!((a.smoothed_rtt(), a.resend_timeout()), (Some(millis(80)), millis(240)));
}

//= ZSSP-SEQ-19  by measured round trips
#[test]
fn what_was_sent_before_a_timeout_measures_nothing() {
    let mut a = adaptive();
    transmit(&mut a, 0, 3);
    a.handle_timeout(millis(252));
    assert_eq!(resends(&mut a, 252), [0]);
    // The peer had all three long ago, and what it said of that was lost.
    hear(&mut a, 262, AckKind::Answered, 0, 3);
    assert_eq!(a.smoothed_rtt(), None);
    transmit(&mut a, 300, 1);
    hear(&mut a, 310, AckKind::Answered, 3, 1);
    assert_eq!(a.smoothed_rtt(), Some(millis(10)));
}

//= ZSSP-SEQ-19  by measured round trips
#[test]
fn a_timeout_stays_backed_off_until_something_is_measured() {
    let mut a = adaptive();
    transmit(&mut a, 0, 1);
    a.handle_timeout(millis(250));
    assert_eq!(resends(&mut a, 250), [0]);
    // A round trip of 300 ms: this is the answer to the first transmission.
    hear(&mut a, 300, AckKind::Answered, 0, 1);
    transmit(&mut a, 400, 1);
    assert_eq!(a.next_deadline(), Some(millis(900)), "or every packet would be transmitted twice");
    hear(&mut a, 700, AckKind::Answered, 1, 1);
    assert_eq!(a.smoothed_rtt(), Some(millis(300)));
}

//= ZSSP-SEQ-19  by measured round trips
#[test]
fn a_round_trip_that_is_too_long_is_found_out() {
    let mut a = adaptive();
    transmit(&mut a, 0, 1);
    hear(&mut a, 200, AckKind::Answered, 0, 1);
    assert_eq!(a.smoothed_rtt(), Some(millis(200)));
    transmit(&mut a, 1000, 8);
    let mut at = 1000;
    for packet in 1..4 {
        at = u64::try_from(a.next_deadline().expect("a time-out").as_millis()).expect("small");
        a.handle_timeout(millis(at));
        assert_eq!(resends(&mut a, at), [packet]);
        hear(&mut a, at + 10, AckKind::Answered, packet, 1);
    }
    assert_eq!(a.smoothed_rtt(), Some(millis(10)), "three came after ten milliseconds");
    assert_eq!(resends(&mut a, at + 10), [4, 5, 6, 7, 8], "so they are evidence against the others");
}

/// Sends a packet whenever `gap` has passed and, with no gap, whenever the last one is answered. Each transmission is
/// answered after `rtt`. Returns how often a packet was transmitted until something was measured.
fn transmissions_until_measured(rtt: u64, gap: Option<u64>) -> usize {
    let mut a = exchange(Resend::default());
    let (mut now, mut next_send, mut count) = (0, Some(0), 0);
    let mut answers: Vec<(u64, u32)> = vec![];
    while a.smoothed_rtt().is_none() && now < 60_000 {
        a.handle_timeout(millis(now));
        answers.retain(|&(at, number)| {
            if at == now {
                hear(&mut a, now, AckKind::Answered, number, 1);
            }
            at != now
        });
        while a.poll_deliver().is_some() {
            next_send = next_send.or(Some(now));
        }
        if next_send == Some(now) && a.send(millis(now), Order::Unordered, 0).is_ok() {
            next_send = gap.map(|gap| now + gap);
        }
        while let Some(Packet::Message(message)) = a.poll_transmit(millis(now)) {
            answers.push((now + rtt, message.seq.to_u32()));
            count += 1;
        }
        now += 1;
    }
    count
}

//= ZSSP-SEQ-19  by measured round trips, however much longer than expected
#[test]
fn a_round_trip_longer_than_the_first_time_outs_is_measured() {
    for rtt in [260, 400, 600, 1000, 1500, 2100, 3000] {
        let alone = transmissions_until_measured(rtt, None);
        assert!(alone <= 12, "{alone} at {rtt} ms");
        let many = transmissions_until_measured(rtt, Some(100));
        assert!(many <= 90, "{many} at {rtt} ms");
    }
}

//= ZSSP-SEQ-19  one late packet is one piece of evidence
#[test]
fn late_answers_to_many_packets_do_not_disprove_the_round_trip() {
    let mut a = adaptive();
    transmit(&mut a, 0, 1);
    hear(&mut a, 200, AckKind::Answered, 0, 1);
    transmit(&mut a, 1000, 12);
    hear(&mut a, 1215, AckKind::Answered, 12, 1);
    assert_eq!(resends(&mut a, 1215), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    a.handle_timeout(millis(1250));
    assert_eq!(resends(&mut a, 1250), [10, 11]);
    // The answers to the first transmissions were in one packet, which comes late.
    hear(&mut a, 1255, AckKind::Answered, 1, 11);
    assert_eq!(a.min_rtt(), Some(millis(200)));
}
