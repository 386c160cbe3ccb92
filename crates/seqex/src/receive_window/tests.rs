//! A window that grows is as one that has all its slots.

use alloc::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

type Window = ReceiveWindow<(), u8>;

const CAPACITY: u32 = 8;

fn window(first: SeqNo) -> Window {
    Window::new(Capacity::new(CAPACITY).unwrap(), first)
}

fn store(window: &mut Window, seq: SeqNo, order: Order, waiting: &BTreeSet<u32>) {
    if window.classify(seq) == Arrival::Crowded {
        window.make_room(seq, |reply| waiting.contains(&reply.to_u32()));
    }
    window.store(Message { seq, reply_to: None, order, data: 0 }, None, Taker::Anyone);
}

/// What there is to tell, in distances from the first packet: of those answered and of those held.
fn told(window: &mut Window, first: SeqNo) -> [BTreeSet<u32>; 2] {
    let mut told = [BTreeSet::new(), BTreeSet::new()];
    while let Some(ack) = window.poll_acks() {
        let kind = usize::from(ack.kind == AckKind::Holding);
        told[kind].extend((0..ack.count).map(|offset| ack.first.plus(offset).since(first)));
    }
    told
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Acknowledge(usize),
    /// A packet of the peer, so far from the next one.
    Arrive(i32, Order),
    Deliver,
    Reply(usize),
    /// The peer answers a reply.
    Settle(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let order = prop_oneof![3 => Just(Order::Unordered), 1 => Just(Order::Ordered)];
    prop_oneof![
        3 => any::<usize>().prop_map(Step::Acknowledge),
        8 => (-12..12_i32, order).prop_map(|(distance, order)| Step::Arrive(distance, order)),
        4 => Just(Step::Deliver),
        2 => any::<usize>().prop_map(Step::Reply),
        2 => any::<usize>().prop_map(Step::Settle),
    ]
}

proptest! {
    /// Whatever the peer sends, a window that grows is as one that has all its slots from the beginning, except that a
    /// duplicate may fetch more acknowledgements: but never one in place of a reply that the peer does not have.
    //= ZSSP-SEQ-13  as if there were all of them
    //= ZSSP-SEQ-16  acknowledged again, unless its answer is being made or under way
    #[test]
    fn slots_that_are_not_there_are_not_missed(
        first in any::<u32>().prop_map(SeqNo::new),
        script in proptest::collection::vec(step(), 0..200),
    ) {
        let [mut small, mut full] = [window(first), window(first)];
        while (full.slots.len() as u32) < CAPACITY {
            full.grow();
        }
        let (mut open, mut waiting, mut replies) = (Vec::new(), BTreeSet::new(), 0);
        // By the distance from the first.
        let (mut answers, mut arrived) = (BTreeMap::new(), BTreeSet::new());
        for step in script {
            match step {
                Step::Acknowledge(which) if !open.is_empty() => {
                    let seq: SeqNo = open.swap_remove(which % open.len());
                    prop_assert!(small.answer(seq, None) && full.answer(seq, None));
                    answers.insert(seq.since(first), None);
                }
                Step::Arrive(distance, order) => {
                    let seq = small.next.plus(distance as u32);
                    let [arrival, expected] = [&small, &full].map(|window| match window.classify(seq) {
                        Arrival::Crowded => Arrival::New,
                        arrival => arrival,
                    });
                    prop_assert_eq!(arrival, expected);
                    for window in [&mut small, &mut full] {
                        match arrival {
                            Arrival::Outside => {}
                            Arrival::Duplicate => {
                                window.on_duplicate(seq, |reply| waiting.contains(&reply.to_u32()));
                            }
                            Arrival::Crowded | Arrival::New => {
                                arrived.insert(seq.since(first));
                                store(window, seq, order, &waiting);
                            }
                        }
                    }
                }
                Step::Deliver => {
                    let [delivered, expected] = [&mut small, &mut full]
                        .map(|window| window.deliver(CAPACITY, Taker::Anyone).map(|(seq, _)| seq));
                    prop_assert_eq!(delivered, expected);
                    open.extend(delivered);
                }
                Step::Reply(which) if !open.is_empty() => {
                    let seq: SeqNo = open.swap_remove(which % open.len());
                    replies += 1;
                    let reply = Some(SeqNo::new(replies));
                    for window in [&mut small, &mut full] {
                        prop_assert!(window.answer(seq, reply));
                        window.on_reply_transmitted(seq);
                    }
                    waiting.insert(replies);
                    answers.insert(seq.since(first), Some(replies));
                }
                Step::Settle(which) if !waiting.is_empty() => {
                    let settled = *waiting.iter().nth(which % waiting.len()).unwrap();
                    waiting.remove(&settled);
                }
                Step::Acknowledge(_) | Step::Reply(_) | Step::Settle(_) => {}
            }
            prop_assert_eq!((small.next, small.beyond, small.stored), (full.next, full.beyond, full.stored));
            prop_assert!(small.slots.len() as u32 <= CAPACITY);
            let [[told, held], [least, expected]] = [&mut small, &mut full].map(|window| told(window, first));
            prop_assert_eq!(held, expected);
            prop_assert!(told.is_superset(&least), "{:?} of {:?}", told, least);
            for &more in told.difference(&least) {
                let answered = answers.get(&more).is_some_and(|reply| reply.is_none_or(|reply| !waiting.contains(&reply)));
                // By this the peer says that it has the answer, or it never sent such a packet.
                let is_known = arrived.contains(&more.wrapping_add(CAPACITY)) || (more as i32) < 0;
                prop_assert!(answered || is_known, "{} is not answered, or by what is under way", more);
            }
        }
    }
}

#[test]
fn there_are_as_many_slots_as_were_needed() {
    let (mut window, none, mut seq) =
        (window(SeqNo::new(u32::MAX - 2)), BTreeSet::new(), SeqNo::new(u32::MAX - 2));
    let slots = |at_a_time: u32| {
        for _ in 0..20 {
            for _ in 0..at_a_time {
                store(&mut window, seq, Order::Unordered, &none);
                seq = seq.next();
            }
            while let Some((delivered, _)) = window.deliver(CAPACITY, Taker::Anyone) {
                assert!(window.answer(delivered, None));
            }
        }
        window.slots.len()
    };
    assert_eq!([1, 2, 3, 5, 1].map(slots), [1, 2, 4, 8, 8]);
}
