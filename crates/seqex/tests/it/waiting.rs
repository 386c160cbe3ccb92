//! Tasks that receive, ask about what they received, and receive the next when they have been answered.

use std::task::Poll;

use seqex::{Answer, Order, Request};

use crate::support::link::{Delivery, End, Letter, Task, ends};

/// One end with an application whose tasks request something whenever they may, while one receives, and answers by a request.
struct Asking {
    end: End,
    task: Task,
    unsent: u32,
    questions: Vec<Request<Letter, u64>>,
    answered: u32,
    asking: Option<Request<Letter, u64>>,
}

impl Asking {
    fn new(end: End, count: u32) -> Self {
        Self { end, task: Task::default(), unsent: count, questions: vec![], answered: 0, asking: None }
    }

    /// Whether anything happened.
    fn act(&mut self) -> bool {
        let before = (self.unsent, self.answered, self.asking.is_some());
        while self.unsent > 0 && self.end.exchange.can_send().is_ok() {
            let mut question = self.end.exchange.request(Order::Unordered, Letter(1));
            assert!(self.task.poll(&mut question).is_pending());
            self.questions.push(question);
            self.unsent -= 1;
        }
        self.questions.retain_mut(|question| match self.task.poll(question) {
            Poll::Pending => true,
            Poll::Ready(answer) => {
                assert!(matches!(answer, Ok(Answer::Reply { data: 2, .. })));
                self.answered += 1;
                false
            }
        });
        loop {
            if let Some(asking) = &mut self.asking {
                match self.task.poll(asking) {
                    Poll::Pending => break,
                    Poll::Ready(answer) => assert!(matches!(answer, Ok(Answer::Acknowledged { .. }))),
                }
            }
            match self.end.exchange.try_receive().expect("an open exchange") {
                Some(Delivery::Payload { token, data: 1 }) => {
                    self.asking = Some(token.request(Order::Unordered, Letter(2)));
                }
                Some(other) => panic!("{other:?}"),
                None => {
                    self.asking = None;
                    break;
                }
            }
        }
        before != (self.unsent, self.answered, self.asking.is_some())
    }
}

//= ZSSP-SEQ-11  no deadlock
#[test]
fn two_that_ask_about_what_they_receive_get_on() {
    for capacity in [4, 8, 64] {
        let count = 10 * capacity;
        let (_, a, b) = ends(capacity);
        let (mut a, mut b) = (Asking::new(a, count), Asking::new(b, count));
        while a.act() | b.act() | (a.end.carry_to(&b.end) + b.end.carry_to(&a.end) > 0) {}
        assert_eq!([a.answered, b.answered], [count, count]);
        assert!(a.end.exchange.is_idle() && b.end.exchange.is_idle());
    }
}

/// Those who wait are told that there is room now.
#[test]
fn keeping_less_makes_room_for_those_who_wait() {
    let (_, a, _b) = ends(16);
    a.exchange.keep_for_answers(14);
    while a.exchange.try_send(Order::Unordered, Letter(0)).is_ok() {}
    let (task, mut sending) = (Task::default(), a.exchange.send(Order::Unordered, Letter(1)));
    assert!(task.poll(&mut sending).is_pending());
    a.exchange.keep_for_answers(2);
    assert_eq!(task.woken(), 1);
    assert!(task.poll(&mut sending).is_ready());
}
