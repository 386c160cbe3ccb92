//! Numbers that are kept for answers: two ends that take in nothing new while replies of theirs wait go on taking replies.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;
use seqex::{
    Ack, AckKind, Answer, Capacity, Config, Delivery, Message, Order, Packet, Refusal, SeqEx, SeqNo, Token,
};

const NOW: Duration = Duration::from_secs(1);

fn exchange(capacity: u32, kept: u32) -> SeqEx<u32> {
    let capacity = Capacity::new(capacity).expect("a power of two");
    let mut exchange = SeqEx::new(Config { capacity, ..Config::default() });
    exchange.keep_for_answers(kept);
    exchange
}

fn message(seq: u32, reply_to: Option<u32>) -> Packet<u32> {
    let (seq, reply_to) = (SeqNo::new(seq), reply_to.map(SeqNo::new));
    Packet::Message(Message { seq, reply_to, order: Order::Unordered, data: 0 })
}

/// So many packets, from the first, are acknowledged.
fn answered(count: u32) -> Packet<u32> {
    Packet::Ack(Ack { kind: AckKind::Answered, first: SeqNo::new(0), count })
}

#[test]
fn what_is_new_leaves_as_many_numbers_as_are_kept() {
    let mut a = exchange(8, 3);
    assert_eq!(a.room(), 4);
    for number in 0..4 {
        let seq = a.send(NOW, Order::Unordered, number).expect("room");
        assert!(a.claim(seq));
        a.poll_transmit(NOW);
    }
    assert_eq!((a.room(), a.can_send()), (0, Err(Refusal::RemoteBehind)));
    // The last one that is not kept goes to the next in sequence alone.
    a.receive(NOW, message(1, None));
    assert!(!a.can_deliver() && a.poll_deliver().is_none());
    a.receive(NOW, message(0, None));
    assert!(
        matches!(a.poll_deliver(), Some(Delivery::Payload { token, .. }) if token.seq() == SeqNo::new(0))
    );
    assert!(a.poll_deliver().is_none());
    // Claimed answers take those that are kept: two in any order, and the last one the next in sequence.
    for (seq, asked) in [(2, 1), (3, 2), (4, 3)] {
        a.receive(NOW, message(seq, Some(asked)));
    }
    let mut taken = || a.poll_answer().map(|_| ());
    assert_eq!([taken(), taken(), taken()], [Some(()), Some(()), None]);
}

#[test]
fn no_more_are_kept_than_leave_two() {
    let mut a = exchange(8, u32::MAX);
    assert_eq!(a.room(), 1);
    a.keep_for_answers(0);
    assert_eq!(a.room(), 7);
}

#[test]
fn none_are_kept_of_those_in_use() {
    let mut a = exchange(8, 0);
    for number in 0..7 {
        a.send(NOW, Order::Unordered, number).expect("room");
        a.poll_transmit(NOW);
    }
    // The last one stays the one for the packet that is next, or two such ends would wait for each other.
    a.keep_for_answers(1);
    a.receive(NOW, message(0, None));
    assert!(a.can_deliver());
    a.receive(NOW, answered(7));
    assert_eq!(a.room(), 6, "now one is kept");
}

#[test]
fn a_reply_to_a_claimed_answer_takes_one_that_was_kept_until_there_is_room() {
    let mut a = exchange(8, 3);
    for number in 0..4 {
        let seq = a.send(NOW, Order::Unordered, number).expect("room");
        assert!(a.claim(seq));
        a.poll_transmit(NOW);
    }
    a.receive(NOW, message(0, Some(1)));
    a.receive(NOW, message(1, None));
    let Some(Answer::Reply { token, .. }) = a.poll_answer() else { panic!("no answer") };
    assert!(!a.can_deliver(), "as long as a number is reserved beside those that are kept");
    a.reply(NOW, token, Order::Unordered, 4).expect("there is always room");
    a.poll_transmit(NOW);
    assert!(a.can_deliver() && a.room() == 0);
    a.receive(NOW, answered(5));
    assert_eq!(a.room(), 4, "three are kept again");
}

#[test]
fn a_reply_to_a_claimed_answer_leaves_as_many_kept_where_there_is_room() {
    let mut a = exchange(8, 3);
    let seq = a.send(NOW, Order::Unordered, 0).expect("room");
    assert!(a.claim(seq));
    a.poll_transmit(NOW);
    a.receive(NOW, message(0, Some(0)));
    let Some(Answer::Reply { token, .. }) = a.poll_answer() else { panic!("no answer") };
    a.reply(NOW, token, Order::Unordered, 1).expect("there is always room");
    assert_eq!((a.kept_for_answers(), a.room()), (3, 3));
}

/// One end with an application that always wants to send, replies to every payload, and takes no payload while a reply of
/// its own waits: there may be `limit` that the peer has not dealt with. Most of the replies it gets it replies to in turn,
/// where that leaves `floor` numbers kept.
struct End {
    exchange: SeqEx<u32>,
    limit: usize,
    floor: u32,
    unsent: u32,
    replies: usize,
    waiting: VecDeque<Token>,
    answered: u32,
    thanks: u32,
}

const QUESTION: u32 = 0;
const REPLY: u32 = 1;
const THANKS: u32 = 2;

impl End {
    fn new(exchange: SeqEx<u32>, count: u32, limit: usize, floor: u32) -> Self {
        Self {
            exchange,
            limit,
            floor,
            unsent: count,
            replies: 0,
            waiting: VecDeque::new(),
            answered: 0,
            thanks: 0,
        }
    }

    fn reply(&mut self, token: Token, data: u32) {
        let seq = self.exchange.reply(NOW, token, Order::Unordered, data).expect("there is always room");
        assert!(self.exchange.claim(seq));
    }

    /// Whether anything happened.
    fn act(&mut self) -> bool {
        let state = |end: &Self| (end.unsent, end.replies, end.waiting.len(), end.answered, end.thanks);
        let before = state(self);
        loop {
            match self.exchange.poll_answer() {
                Some(Answer::Acknowledged { sent: REPLY, .. }) => self.replies -= 1,
                Some(Answer::Acknowledged { sent: THANKS, .. }) => self.thanks -= 1,
                Some(Answer::Acknowledged { .. }) => panic!("all questions are replied to"),
                Some(Answer::Reply { token, sent: REPLY, .. }) => {
                    self.replies -= 1;
                    self.exchange.acknowledge(token);
                }
                Some(Answer::Reply { token, .. }) => {
                    self.answered += 1;
                    if !self.answered.is_multiple_of(4) && self.exchange.kept_for_answers() > self.floor {
                        self.reply(token, THANKS);
                        self.thanks += 1;
                    } else {
                        self.exchange.acknowledge(token);
                    }
                }
                None => break,
            }
        }
        while self.replies < self.limit
            && let Some(token) = self.waiting.pop_front()
        {
            self.reply(token, REPLY);
            self.replies += 1;
        }
        while self.waiting.is_empty()
            && let Some(delivery) = self.exchange.poll_deliver()
        {
            let Delivery::Payload { token, .. } = delivery else { panic!("answers are claimed") };
            self.waiting.push_back(token);
        }
        while self.unsent > 0
            && let Ok(seq) = self.exchange.send(NOW, Order::Unordered, QUESTION)
        {
            assert!(self.exchange.claim(seq));
            self.unsent -= 1;
        }
        state(self) != before
    }

    fn is_done(&self) -> bool {
        self.exchange.is_idle() && (self.unsent, self.replies, self.thanks) == (0, 0, 0)
    }
}

/// Each round one packet arrives somewhere, in the order that `picks` makes, and its application acts, until nothing
/// happens any more. Returns whether everything came to its end.
fn run(mut ends: [End; 2], mut picks: impl FnMut() -> usize) -> bool {
    let mut link: [Vec<Packet<u32>>; 2] = Default::default();
    loop {
        let mut happens = false;
        for end in 0..2 {
            happens |= ends[end].act();
            while let Some(packet) = ends[end].exchange.poll_transmit(NOW) {
                link[1 - end].push(packet.map(|&data| data));
            }
        }
        let pick = picks();
        let end = if link[pick % 2].is_empty() { 1 - pick % 2 } else { pick % 2 };
        if !link[end].is_empty() {
            let packet = link[end].remove(pick / 2 % link[end].len());
            ends[end].exchange.receive(NOW, packet);
            happens = true;
        }
        if !happens {
            return ends.iter().all(End::is_done);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4 * ProptestConfig::default().cases, ..ProptestConfig::default() })]

    //= ZSSP-SEQ-11  no deadlock
    /// As long as two numbers stay kept, or nothing waits.
    #[test]
    fn two_that_take_nothing_new_while_replies_wait_get_on(
        capacity in prop_oneof![Just(4_u32), Just(8), Just(32)],
        kept in prop_oneof![Just([2_u32, 2]), Just([2, 5]), Just([4, 4])],
        limit in prop_oneof![1..4_usize, Just(usize::MAX)],
        order in proptest::collection::vec(any::<usize>(), 1..200),
    ) {
        let floor = if limit == usize::MAX { 0 } else { 2 };
        let ends = kept.map(|kept| End::new(exchange(capacity, kept), 8 * capacity, limit, floor));
        let mut order = order.into_iter().cycle();
        prop_assert!(run(ends, || order.next().unwrap_or_default()));
    }
}

/// What the documentation says of it is exact: of two numbers that are kept, none is to spare.
#[test]
fn two_that_wait_need_two_numbers_each() {
    for (capacity, kept) in [(8, 2), (16, 4), (32, 4), (128, 16)] {
        let gets_on = |floor| {
            let ends = [(); 2].map(|()| End::new(exchange(capacity, kept), 8 * capacity, 1, floor));
            // To both ends in turn, in the order in which they were sent.
            let mut round = 0;
            run(ends, || {
                round += 1;
                round % 2
            })
        };
        assert!(gets_on(2), "{capacity}, {kept}");
        assert!(!gets_on(1), "{capacity}, {kept}");
    }
}
