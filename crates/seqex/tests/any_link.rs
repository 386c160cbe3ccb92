//! Whatever the link and the applications do, the guarantees of PROTOCOL 8.2 hold; and once the link
//! delivers again, everything comes to its end: in 20,480 random scripts, and in those that once failed.

mod support;

use std::time::Duration;

use proptest::prelude::*;
use seqex::{Adaptive, Capacity, Config, Feedback, Order, Resend, SeqNo};
use support::{Answer, Pair};

#[derive(Clone, Copy, Debug)]
enum Step {
    Advance(u16),
    Answer(usize, usize, Answer),
    Arrive { end: usize, pick: usize, copies: u8 },
    ArriveAll(usize),
    Deliver(usize),
    DeliverAll(usize),
    Drop(usize),
    Fill(usize, Order),
    Release(usize, usize),
    Send(usize, Order),
    TakeAnswer(usize),
    Transmit(usize, usize),
}

fn order() -> impl Strategy<Value = Order> {
    prop_oneof![Just(Order::Ordered), Just(Order::Unordered)]
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        3 => Just(Answer::Acknowledge),
        1 => Just(Answer::Abandon),
        6 => order().prop_map(Answer::Reply),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let end = || 0..2_usize;
    prop_oneof![
        2 => (0..600_u16).prop_map(Step::Advance),
        6 => (end(), any::<usize>(), answer()).prop_map(|(e, i, a)| Step::Answer(e, i, a)),
        6 => (end(), any::<usize>(), 0..3_u8).prop_map(|(end, pick, copies)| Step::Arrive { end, pick, copies }),
        1 => end().prop_map(Step::ArriveAll),
        4 => end().prop_map(Step::Deliver),
        1 => end().prop_map(Step::DeliverAll),
        1 => end().prop_map(Step::Drop),
        1 => (end(), order()).prop_map(|(e, o)| Step::Fill(e, o)),
        1 => (end(), any::<usize>()).prop_map(|(e, i)| Step::Release(e, i)),
        4 => (end(), order()).prop_map(|(e, o)| Step::Send(e, o)),
        1 => end().prop_map(Step::TakeAnswer),
        6 => (end(), 1..6_usize).prop_map(|(e, n)| Step::Transmit(e, n)),
    ]
}

fn config() -> impl Strategy<Value = Config> {
    // Wide windows take long.
    let capacity = prop_oneof![9 => Just(2), 9 => Just(4), 9 => Just(8), 9 => Just(64), 1 => Just(1024)];
    let first = prop_oneof![Just(0), u32::MAX - 100..=u32::MAX, any::<u32>()];
    let resend = prop_oneof![Just(Resend::BARE), Just(Resend::Adaptive(Adaptive::default())),];
    (capacity, first, resend).prop_map(|(capacity, first, resend)| config_of(capacity, first, resend))
}

fn config_of(capacity: u32, first: u32, resend: Resend) -> Config {
    Config {
        capacity: Capacity::new(capacity).expect("a power of two"),
        first_seq: SeqNo::new(first),
        resend,
        give_up_after: None,
        feedback: Feedback::Collect,
    }
}

fn take(pair: &mut Pair, step: Step) {
    match step {
        Step::Advance(ms) => pair.advance(Duration::from_millis(ms.into())),
        Step::Answer(end, pick, answer) => {
            if let Some(index) = pick.checked_rem(pair.ends[end].open.len()) {
                pair.answer(end, index, answer);
            }
        }
        Step::Arrive { end, pick, copies } => {
            if let Some(index) = pick.checked_rem(pair.link[end].len()) {
                let packet = pair.link[end].swap_remove(index);
                for _ in 0..copies {
                    pair.arrive(end, packet);
                }
                if pick % 5 == 0 {
                    pair.link[end].push(packet); // a copy that comes much later
                }
            }
        }
        Step::ArriveAll(end) => {
            pair.arrive_all(end);
        }
        Step::Deliver(end) => {
            pair.deliver(end);
        }
        Step::DeliverAll(end) => {
            pair.deliver_all(end);
        }
        Step::Drop(end) => pair.link[end].clear(),
        Step::Fill(end, order) => while pair.send(end, order).is_ok() {},
        Step::Release(end, pick) => {
            if let Some(index) = pick.checked_rem(pair.ends[end].open.len()) {
                pair.release(end, index);
            }
        }
        Step::Send(end, order) => drop(pair.send(end, order)),
        Step::TakeAnswer(end) => {
            pair.take_answer(end);
        }
        Step::Transmit(end, limit) => {
            pair.transmit(end, limit);
        }
    }
}

proptest! {
    // 10,240 scripts each, unless PROPTEST_CASES says otherwise.
    #![proptest_config(ProptestConfig { cases: 40 * ProptestConfig::default().cases, ..ProptestConfig::default() })]

    //= ZSSP-SEQ-02  all five kinds of packets
    //= ZSSP-SEQ-03  numbers that wrap
    //= ZSSP-SEQ-04  any first number
    //= ZSSP-SEQ-05  exactly once
    //= ZSSP-SEQ-06  after all that was sent before
    //= ZSSP-SEQ-08  one critical section at a time
    //= ZSSP-SEQ-09  answered exactly once
    //= ZSSP-SEQ-10  both ends agree on the links
    #[test]
    fn guarantees_hold_and_everything_ends(
        config in config(),
        script in proptest::collection::vec(step(), 0..300),
        replies in 0..300_usize,
    ) {
        let mut pair = Pair::new(config);
        for step in script {
            take(&mut pair, step);
        }
        pair.heal(replies);
    }

    //= ZSSP-SEQ-11  no deadlock
    /// Both applications fill their windows whenever they can, and answer everything by a reply.
    #[test]
    fn full_windows_that_only_reply_do_not_block(
        config in config(),
        script in proptest::collection::vec((0..2_usize, any::<usize>(), order(), 0..6_u8), 1..400),
    ) {
        let mut pair = Pair::new(config);
        for (end, pick, order, what) in script {
            take(&mut pair, match what {
                0 => Step::Fill(end, order),
                1 => Step::Transmit(end, usize::MAX),
                2 | 3 => Step::Arrive { end, pick, copies: 1 },
                4 => Step::Deliver(end),
                _ => Step::Answer(end, pick, Answer::Reply(order)),
            });
        }
        pair.heal(1000);
    }
}

/// A script that once took 27,000 rounds and 22 minutes on a link that was good by then: both windows were full of what the
/// other side held, and those of them whose answers had been lost were asked about ever more slowly.
#[test]
fn two_wide_windows_of_held_packets_are_emptied_soon() {
    let mut pair = Pair::new(config_of(1024, 0, Resend::default()));
    let script = [
        Step::Send(0, Order::Ordered),
        Step::Transmit(0, 1),
        Step::Arrive { end: 1, pick: 571661196785522716, copies: 1 },
        Step::Advance(250),
        Step::Release(0, 0),
        Step::Release(0, 0),
        Step::Advance(0),
        Step::Deliver(1),
        Step::Release(0, 0),
        Step::Release(0, 0),
        Step::Fill(0, Order::Unordered),
        Step::Release(0, 0),
        Step::Advance(0),
        Step::Answer(1, 0, Answer::Reply(Order::Ordered)),
        Step::Advance(0),
        Step::Transmit(0, 5),
        Step::Advance(500),
        Step::Advance(413),
        Step::Arrive { end: 1, pick: 297996010257328802, copies: 1 },
        Step::Arrive { end: 1, pick: 102262225682103222, copies: 0 },
        Step::Release(0, 0),
        Step::Transmit(0, 5),
        Step::Release(0, 0),
        Step::Arrive { end: 1, pick: 3334221102583981006, copies: 0 },
        Step::Arrive { end: 1, pick: 1165929619381192106, copies: 0 },
        Step::Transmit(0, 3),
        Step::Advance(587),
        Step::Arrive { end: 1, pick: 418510067877349715, copies: 1 },
        Step::Transmit(0, 4),
        Step::Advance(63),
        Step::DeliverAll(1),
        Step::Arrive { end: 1, pick: 4397940468213756488, copies: 0 },
        Step::Answer(1, 0, Answer::Acknowledge),
        Step::Arrive { end: 1, pick: 974117469017668, copies: 1 },
        Step::Transmit(0, 2),
        Step::Transmit(0, 2),
        Step::Arrive { end: 1, pick: 1339118832095397252, copies: 1 },
        Step::Advance(555),
        Step::Deliver(1),
        Step::Arrive { end: 1, pick: 2375449921700564028, copies: 1 },
        Step::Deliver(1),
        Step::Deliver(1),
        Step::Answer(1, 4538596472743675924, Answer::Acknowledge),
        Step::ArriveAll(1),
        Step::Transmit(1, 5),
        Step::Answer(1, 0, Answer::Acknowledge),
        Step::Advance(434),
        Step::ArriveAll(0),
        Step::DeliverAll(1),
        Step::Answer(1, 7241237817754793, Answer::Acknowledge),
        Step::Answer(0, 0, Answer::Acknowledge),
        Step::Answer(0, 0, Answer::Acknowledge),
        Step::Answer(1, 7329573689591351, Answer::Reply(Order::Ordered)),
        Step::Answer(1, 2499969396963023238, Answer::Acknowledge),
        Step::Fill(1, Order::Unordered),
        Step::Transmit(0, 2),
        Step::Answer(1, 0, Answer::Reply(Order::Ordered)),
        Step::Drop(1),
        Step::Transmit(1, 3),
        Step::Drop(0),
    ];
    for step in script {
        take(&mut pair, step);
    }
    let healed = pair.now;
    pair.heal(145);
    let took = pair.now - healed;
    assert!(took < Duration::from_secs(20), "{took:?}");
}
