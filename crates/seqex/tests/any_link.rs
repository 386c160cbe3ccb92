//! Whatever the link and the applications do, the guarantees of PROTOCOL 8.2 hold; and once the link
//! delivers again, everything comes to its end.

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
    let capacity = prop_oneof![Just(2), Just(4), Just(8), Just(64)];
    let first = prop_oneof![Just(0), u32::MAX - 100..=u32::MAX, any::<u32>()];
    let resend = prop_oneof![Just(Resend::BARE), Just(Resend::Adaptive(Adaptive::default())),];
    (capacity, first, resend).prop_map(|(capacity, first, resend)| Config {
        capacity: Capacity::new(capacity).expect("a power of two"),
        first_seq: SeqNo::new(first),
        resend,
        give_up_after: None,
        feedback: Feedback::Collect,
    })
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
    // Six thousand scripts each, unless PROPTEST_CASES says otherwise.
    #![proptest_config(ProptestConfig { cases: 24 * ProptestConfig::default().cases, ..ProptestConfig::default() })]

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
