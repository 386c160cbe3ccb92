//! Waiting and answering through the handles that threads and tasks share.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use seqex::{
    Answer, ChannelLimits, Clock, Closed, Config, Ended, Link, Multiplexer, Order, Received, Refusal,
    WhyUnanswered,
};

use crate::support::link::{Delivery, Letter, Task, ends, settle};

fn is_pending<T>(poll: &Poll<T>) -> bool {
    matches!(poll, Poll::Pending)
}

#[test]
fn a_request_brings_its_answer_and_what_was_sent() {
    let (clock, a, b) = ends(4);
    let task = Task::default();
    let mut request = a.exchange.request(Order::Unordered, Letter(1));
    assert!(is_pending(&task.poll(&mut request)));
    a.carry_to(&b);
    let (guard, data) = b.packet().expect("the question");
    assert_eq!(data, 1);
    guard.reply(Order::Unordered, Letter(2)).expect("an open packet");
    b.carry_to(&a);
    assert_eq!(task.woken(), 1);
    assert!(a.packet().is_none(), "the answer belongs to the request");
    let Poll::Ready(Ok(Answer::Reply { token, data: 2, sent: Letter(1), .. })) = task.poll(&mut request)
    else {
        panic!("no reply");
    };
    drop(token);
    a.carry_to(&b);
    let Ok(Some(Delivery::Acknowledged { data: Letter(2), .. })) = b.exchange.try_receive() else {
        panic!("the dropped guard did not acknowledge");
    };

    let mut request = a.exchange.request(Order::Unordered, Letter(3));
    assert!(is_pending(&task.poll(&mut request)));
    a.carry_to(&b);
    drop(b.packet());
    b.carry_to(&a);
    let answer = request.wait().expect("an answer");
    assert!(matches!(answer, Answer::Acknowledged { sent: Letter(3), .. }));
    settle(&clock, &a, &b);
    assert!(a.exchange.is_idle() && b.exchange.is_idle());
}

/// Whoever handles one packet can ask about it although others have arrived in between.
#[test]
fn answers_to_requests_overtake_what_nobody_has_received() {
    let (_, a, b) = ends(8);
    let task = Task::default();
    let mut request = a.exchange.request(Order::Unordered, Letter(0));
    assert!(is_pending(&task.poll(&mut request)));
    a.carry_to(&b);
    for letter in 1..4 {
        b.exchange.try_send(Order::Ordered, Letter(letter)).expect("room");
    }
    let (question, _) = b.packet().expect("the question");
    question.reply(Order::Unordered, Letter(9)).expect("an open packet");
    b.carry_to(&a);
    assert!(matches!(task.poll(&mut request), Poll::Ready(Ok(Answer::Reply { data: 9, .. }))));
    assert_eq!(a.packet().expect("the first of them").1, 1);
}

#[test]
fn replies_and_requests_make_a_conversation() {
    let (clock, a, b) = ends(4);
    let task = Task::default();
    let mut at_a = a.exchange.request(Order::Ordered, Letter(0));
    assert!(is_pending(&task.poll(&mut at_a)));
    a.carry_to(&b);
    let (guard, _) = b.packet().expect("the first word");
    let mut at_b = guard.request(Order::Ordered, Letter(1));
    for word in (2..20).step_by(2) {
        assert!(is_pending(&task.poll(&mut at_b)));
        b.carry_to(&a);
        let Poll::Ready(Ok(Answer::Reply { token, .. })) = task.poll(&mut at_a) else { panic!("silence") };
        at_a = token.request(Order::Ordered, Letter(word));
        assert!(is_pending(&task.poll(&mut at_a)));
        a.carry_to(&b);
        let Poll::Ready(Ok(Answer::Reply { token, data, .. })) = task.poll(&mut at_b) else {
            panic!("silence")
        };
        assert_eq!(data, word);
        at_b = token.request(Order::Ordered, Letter(word + 1));
    }
    drop((at_a, at_b));
    settle(&clock, &a, &b);
    assert!(a.exchange.is_idle() && b.exchange.is_idle());
}

//= ZSSP-DEF-21  at each moment of the request's life, many times over
#[test]
fn a_dropped_request_leaks_neither_room_nor_the_critical_section() {
    for moment in 0..4 {
        let (clock, a, b) = ends(4);
        for round in 0..20 {
            let task = Task::default();
            let mut request = a.exchange.request(Order::Unordered, Letter(round));
            if moment > 0 {
                assert!(is_pending(&task.poll(&mut request)));
            }
            let mut request = Some(request);
            if moment == 1 {
                request = None;
            }
            a.carry_to(&b);
            if let Some((guard, _)) = b.packet() {
                guard.reply(Order::Ordered, Letter(100 + round)).expect("an open packet");
            }
            if moment == 2 {
                request = None;
            }
            b.carry_to(&a);
            drop(request);
            settle(&clock, &a, &b);
        }
        assert!(a.exchange.is_idle() && b.exchange.is_idle());
        b.exchange.try_send(Order::Ordered, Letter(1)).expect("room");
        b.carry_to(&a);
        assert_eq!(a.packet().expect("the critical section is free").1, 1);
    }
}

//= ZSSP-DEF-23  each condition, awaited before it comes true
#[test]
fn whoever_waits_is_woken_by_what_it_waits_for() {
    let (clock, a, b) = ends(2);
    let (receiver, sender, requester, transmitter, timer) =
        (Task::default(), Task::default(), Task::default(), Task::default(), Task::default());

    let mut transmittable = a.driver.transmittable();
    let mut moved = a.driver.deadline_moved(a.driver.next_deadline());
    assert!(is_pending(&transmitter.poll(&mut transmittable)) && is_pending(&timer.poll(&mut moved)));
    let mut request = a.exchange.request(Order::Unordered, Letter(0));
    assert!(is_pending(&requester.poll(&mut request)));
    assert_eq!(transmitter.woken(), 1, "something to transmit");
    assert!(transmitter.poll(&mut transmittable).is_ready());

    let mut sending = a.exchange.send(Order::Unordered, Letter(1));
    assert!(is_pending(&sender.poll(&mut sending)), "the window is full");
    let mut receiving = b.exchange.receive();
    assert!(is_pending(&receiver.poll(&mut receiving)));
    timer.woken();
    assert!(is_pending(&timer.poll(&mut moved)));
    a.carry_to(&b);
    assert_eq!(receiver.woken(), 1, "a packet");
    assert!(timer.woken() > 0, "a deadline, now that a packet is under way");
    assert!(timer.poll(&mut moved).is_ready());
    let Poll::Ready(Ok(Delivery::Payload { token, .. })) = receiver.poll(&mut receiving) else {
        panic!("no packet")
    };

    token.acknowledge();
    assert_eq!((sender.woken(), requester.woken()), (0, 0));
    b.carry_to(&a);
    assert_eq!((sender.woken(), requester.woken()), (1, 1), "room, and an answer");
    assert!(matches!(sender.poll(&mut sending), Poll::Ready(Ok(_))));
    assert!(requester.poll(&mut request).is_ready());

    // The acknowledgement of the letter that was sent, and a deadline for a request that comes nearer than others.
    let mut receiving = a.exchange.receive();
    assert!(is_pending(&receiver.poll(&mut receiving)));
    let mut moved = a.driver.deadline_moved(a.driver.next_deadline());
    assert!(is_pending(&timer.poll(&mut moved)));
    let mut late = a.exchange.request(Order::Unordered, Letter(2)).within(Duration::from_millis(1));
    assert!(is_pending(&requester.poll(&mut late)));
    assert!(timer.woken() > 0 && timer.poll(&mut moved).is_ready());
    assert_eq!(a.driver.next_deadline(), Some(Duration::from_millis(1)));
    clock.advance(Duration::from_millis(1));
    a.driver.handle_timeout().expect("an open exchange");
    assert_eq!(requester.woken(), 1);
    let Poll::Ready(Err(unanswered)) = requester.poll(&mut late) else { panic!("no time-out") };
    assert_eq!((unanswered.why, unanswered.unsent), (WhyUnanswered::TimedOut, Some(Letter(2))));
    settle(&clock, &b, &a);
    assert_eq!(receiver.woken(), 1);
}

//= ZSSP-DEF-23  a wake-up that reaches nobody goes to the next
#[test]
fn whoever_goes_away_after_being_called_leaves_its_turn_to_the_next() {
    let (_, a, b) = ends(2);
    let (first, second) = (Task::default(), Task::default());
    let (mut one, mut two) = (b.exchange.receive(), b.exchange.receive());
    assert!(is_pending(&first.poll(&mut one)) && is_pending(&second.poll(&mut two)));
    a.exchange.try_send(Order::Unordered, Letter(1)).expect("room");
    a.carry_to(&b);
    assert_eq!((first.woken(), second.woken()), (1, 0));
    drop(one);
    assert_eq!(second.woken(), 1);
    assert!(second.poll(&mut two).is_ready());
    drop(two);

    let full = a.exchange.send(Order::Unordered, Letter(2));
    let (mut one, mut two) = (full, a.exchange.request(Order::Unordered, Letter(3)));
    assert!(is_pending(&first.poll(&mut one)) && is_pending(&second.poll(&mut two)));
    b.carry_to(&a);
    assert_eq!((first.woken(), second.woken()), (1, 0));
    drop(one);
    assert_eq!(second.woken(), 1);
    assert!(is_pending(&second.poll(&mut two)));
    assert_eq!(a.transmit().len(), 1, "the request was sent, and what was dropped was not");
}

//= ZSSP-DEF-24  whatever they wait for
//= ZSSP-SEQ-20  with an error
#[test]
fn closing_ends_all_waiting() {
    let (_, a, _b) = ends(2);
    let tasks: [Task; 8] = std::array::from_fn(|_| Task::default());
    let [under_way, unsent, receiver, other_receiver, sender, other_sender, transmitter, timer] = &tasks;

    let mut request = a.exchange.request(Order::Unordered, Letter(1));
    assert!(is_pending(&under_way.poll(&mut request)));
    a.transmit();
    let mut waiting = a.exchange.request(Order::Unordered, Letter(2)).within(Duration::from_secs(1));
    assert!(is_pending(&unsent.poll(&mut waiting)));
    let mut receiving = [receiver, other_receiver].map(|task| (task, a.exchange.receive()));
    let mut sending = [sender, other_sender].map(|task| (task, a.exchange.send(Order::Ordered, Letter(3))));
    let (mut transmittable, mut moved) =
        (a.driver.transmittable(), a.driver.deadline_moved(a.driver.next_deadline()));
    assert!(receiving.iter_mut().all(|(task, future)| is_pending(&task.poll(future))));
    assert!(sending.iter_mut().all(|(task, future)| is_pending(&task.poll(future))));
    assert!(is_pending(&transmitter.poll(&mut transmittable)) && is_pending(&timer.poll(&mut moved)));
    for task in &tasks {
        task.woken();
    }

    let remains = a.exchange.close();
    assert_eq!(Vec::from_iter(remains.unanswered.into_iter().map(|(_, letter)| letter)), [Letter(1)]);
    assert!(tasks.iter().all(|task| task.woken() > 0));
    for (request, data) in [(&mut request, None), (&mut waiting, Some(Letter(2)))] {
        let Poll::Ready(Err(unanswered)) = unsent.poll(request) else { panic!("still waiting") };
        assert_eq!((unanswered.why, unanswered.unsent), (WhyUnanswered::Closed, data));
    }
    for (task, future) in &mut receiving {
        assert!(matches!(task.poll(future), Poll::Ready(Err(Closed))));
    }
    for (task, future) in &mut sending {
        let Poll::Ready(Err(refused)) = task.poll(future) else { panic!("still waiting") };
        assert_eq!((refused.reason, refused.data), (Refusal::Closed, Letter(3)));
    }
    assert_eq!(transmitter.poll(&mut transmittable), Poll::Ready(Err(Ended::Closed)));
    assert_eq!(timer.poll(&mut moved), Poll::Ready(Err(Ended::Closed)));
}

/// Threads, whether they began to wait before that or after.
#[test]
fn closing_ends_the_waits_of_threads() {
    let (_, a, _b) = ends(2);
    a.exchange.try_send(Order::Unordered, Letter(1)).expect("room");
    std::thread::scope(|scope| {
        let receivers = [(); 3].map(|()| scope.spawn(|| a.exchange.receive().wait().map(drop)));
        let senders =
            [(); 3].map(|()| scope.spawn(|| a.exchange.send(Order::Ordered, Letter(3)).wait().map(drop)));
        let requester = scope.spawn(|| a.exchange.request(Order::Ordered, Letter(4)).wait().map(drop));
        a.transmit();
        let driver = scope.spawn(|| a.driver.wait());
        drop(a.exchange.close());
        for receiver in receivers {
            assert_eq!(receiver.join().unwrap(), Err(Closed));
        }
        for sender in senders {
            let refused = sender.join().unwrap().unwrap_err();
            assert_eq!((refused.reason, refused.data), (Refusal::Closed, Letter(3)));
        }
        let unanswered = requester.join().unwrap().unwrap_err();
        assert_eq!((unanswered.why, unanswered.unsent), (WhyUnanswered::Closed, Some(Letter(4))));
        assert_eq!(driver.join().unwrap(), Err(Ended::Closed));
    });
    assert!(matches!(a.exchange.try_receive(), Err(Closed)));
    assert_eq!(a.driver.handle_timeout(), Err(Ended::Closed));
}

//= ZSSP-SEQ-12  for those who do not wait, and for those who have waited long enough
#[test]
fn whoever_does_not_wait_learns_who_has_to_act() {
    let (_, a, b) = ends(2);
    a.exchange.try_send(Order::Unordered, Letter(1)).expect("room");
    let refused = a.exchange.try_send(Order::Unordered, Letter(2)).unwrap_err();
    assert_eq!((refused.reason, refused.data), (Refusal::RemoteBehind, Letter(2)));
    let refused = a.exchange.send(Order::Unordered, Letter(3)).wait_timeout(Duration::ZERO).unwrap_err();
    assert_eq!((refused.reason, refused.data), (Refusal::RemoteBehind, Letter(3)));
    let unanswered =
        a.exchange.request(Order::Unordered, Letter(4)).wait_timeout(Duration::ZERO).unwrap_err();
    assert_eq!((unanswered.why, unanswered.unsent), (WhyUnanswered::TimedOut, Some(Letter(4))));
    a.carry_to(&b);
    let held = b.packet().expect("a packet");
    assert_eq!(b.exchange.can_send(), Err(Refusal::LocalUnanswered));
    assert!(b.exchange.receive().wait_timeout(Duration::ZERO).expect("an open exchange").is_none());
    drop(held);
    assert_eq!(b.exchange.can_send(), Ok(()));
}

//= ZSSP-SEQ-08  released ahead of the answer
//= ZSSP-SEQ-09  also when its handler panics
#[test]
fn guards_answer_once_whatever_happens() {
    let (clock, a, b) = ends(8);
    for letter in 0..3 {
        a.exchange.try_send(Order::Ordered, Letter(letter)).expect("room");
    }
    a.carry_to(&b);
    let (first, _) = b.packet().expect("the first");
    assert!(b.packet().is_none(), "the critical section");
    assert_eq!(first.order(), Order::Ordered);
    first.release();
    let (second, data) = b.packet().expect("the second");
    assert_eq!(data, 1);
    first.release();
    assert!(b.packet().is_none(), "a critical section is released once");
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _second = second;
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    let (third, data) = b.packet().expect("the third");
    assert_eq!(data, 2);
    third.acknowledge();
    first.reply(Order::Ordered, Letter(7)).expect("an open packet");
    settle(&clock, &a, &b);
    assert!(a.exchange.is_idle() && b.exchange.is_idle());
}

/// What is dropped by the exchange itself is dropped with nothing locked.
#[test]
fn data_that_uses_the_exchange_when_dropped_does_not_block() {
    use seqex::{Clock, Config, Driver, Exchange};

    struct Meddler(Option<Exchange<Meddler>>);
    impl Drop for Meddler {
        fn drop(&mut self) {
            if let Some(exchange) = self.0.take() {
                assert!(!exchange.is_idle() || exchange.can_send().is_ok() || exchange.is_closed());
            }
        }
    }
    fn carry(from: &Driver<Meddler>, to: &Driver<Meddler>, exchange: &Exchange<Meddler>) {
        // Not inside the loop: what is lent is lent under the lock.
        let mut packets = vec![];
        let mut transmits = from.transmits();
        while let Some(packet) = transmits.next_packet() {
            packets.push(packet.map(|_| Meddler(Some(exchange.clone()))));
        }
        drop(transmits);
        for packet in packets {
            if let Received::Dropped { data, .. } = to.receive(packet) {
                drop(data);
            }
        }
    }

    let (a, a_driver) = Exchange::new(Config::default(), Clock::manual());
    let (b, b_driver) = Exchange::new(Config::default(), Clock::manual());
    let meddler = || Meddler(Some(a.clone()));
    let task = Task::default();
    // Given up before its answer arrives, and after.
    for early in [true, false] {
        let mut request = a.request(Order::Ordered, meddler());
        assert!(is_pending(&task.poll(&mut request)));
        let mut request = Some(request).filter(|_| !early);
        carry(&a_driver, &b_driver, &b);
        let Ok(Some(seqex::Delivery::Payload { token, .. })) = b.try_receive() else { panic!("nothing") };
        token.reply(Order::Ordered, Meddler(Some(b.clone()))).ok().expect("an open packet");
        carry(&b_driver, &a_driver, &a);
        drop(request.take());
        carry(&a_driver, &b_driver, &b);
        while let Ok(Some(delivery)) = b.try_receive() {
            drop(delivery);
        }
    }
    drop(a.send(Order::Ordered, meddler()));
    drop(a.request(Order::Ordered, meddler()));
    a.try_send(Order::Ordered, meddler()).ok().expect("room");
    drop(a_driver);
    drop(a.try_send(Order::Ordered, meddler()));
    assert!(a.is_closed());
}

/// Any number of threads on either side, over a link that loses a third; time moves when nothing else does.
#[test]
fn many_threads_share_an_exchange() {
    const THREADS: u64 = 4;
    const LETTERS: u64 = 100;
    let (clock, a, b) = ends(16);
    let mut random = 1_u32;
    let mut lost = || {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        random >> 16 < 0x5555
    };
    std::thread::scope(|scope| {
        let server = || {
            let mut seen = vec![];
            while let Ok(delivery) = b.exchange.receive().wait() {
                if let Delivery::Payload { token, data } = delivery {
                    seen.push(data);
                    token.reply(Order::Unordered, Letter(data + 1_000_000)).expect("an open packet");
                }
            }
            seen
        };
        let servers = [(); 3].map(|()| scope.spawn(server));
        let clients: Vec<_> = (0..THREADS)
            .map(|thread| {
                let exchange = a.exchange.clone();
                scope.spawn(move || {
                    for letter in (0..LETTERS).map(|n| thread * LETTERS + n) {
                        let order = if letter % 3 == 0 { Order::Ordered } else { Order::Unordered };
                        let answer = exchange.request(order, Letter(letter)).wait().expect("an answer");
                        let Answer::Reply { data, sent, .. } = answer else { panic!("no reply") };
                        assert_eq!((data, sent), (letter + 1_000_000, Letter(letter)));
                    }
                })
            })
            .collect();
        while !clients.iter().all(|client| client.is_finished()) {
            let mut moved = 0;
            for (from, to) in [(&a, &b), (&b, &a)] {
                for packet in from.transmit() {
                    moved += 1;
                    if !lost() {
                        to.driver.receive(packet);
                    }
                }
            }
            if moved == 0 {
                clock.advance(Duration::from_millis(1));
                for end in [&a, &b] {
                    end.driver.handle_timeout().expect("nobody gives up");
                }
                std::thread::yield_now();
            }
        }
        for client in clients {
            client.join().unwrap();
        }
        drop(b.exchange.close());
        let mut seen: Vec<_> = servers.into_iter().flat_map(|server| server.join().unwrap()).collect();
        seen.sort_unstable();
        assert_eq!(seen, Vec::from_iter(0..THREADS * LETTERS), "each exactly once");
    });
}

/// Whoever was called and overtaken is still the first.
#[test]
fn the_oldest_stays_the_first_though_others_are_faster() {
    let (_, a, b) = ends(2);
    let answered = || {
        a.carry_to(&b);
        drop(b.packet());
        b.carry_to(&a);
        drop(a.exchange.try_receive());
    };
    a.exchange.try_send(Order::Unordered, Letter(0)).expect("room");
    let (first, other) = (Task::default(), Task::default());
    let mut oldest = a.exchange.send(Order::Unordered, Letter(1));
    let mut later = a.exchange.send(Order::Unordered, Letter(2));
    assert!(first.poll(&mut oldest).is_pending() && other.poll(&mut later).is_pending());
    answered();
    assert_eq!(first.woken(), 1);
    a.exchange.try_send(Order::Unordered, Letter(3)).expect("room");
    assert!(first.poll(&mut oldest).is_pending());
    answered();
    assert_eq!(first.woken(), 1);
    assert!(first.poll(&mut oldest).is_ready());
}

/// A waker that panics.
struct Bomb;

impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        panic!("on purpose");
    }
}

fn poll_with_bomb<F: Future + Unpin>(future: &mut F) -> bool {
    let waker = Waker::from(Arc::new(Bomb));
    Pin::new(future).poll(&mut Context::from_waker(&waker)).is_pending()
}

//= ZSSP-DEF-23  although another one's waker panics
#[test]
fn a_waker_that_panics_keeps_nobody_else_from_being_woken() {
    let panics = |act: &dyn Fn()| catch_unwind(AssertUnwindSafe(act)).is_err();
    let task = Task::default();

    let (_, a, b) = ends(8);
    let (mut first, mut second) = (a.driver.transmittable(), a.driver.transmittable());
    assert!(poll_with_bomb(&mut first) && is_pending(&task.poll(&mut second)));
    assert!(panics(&|| drop(a.exchange.try_send(Order::Unordered, Letter(1)))));
    assert_eq!(task.woken(), 1, "something to transmit");

    let (mut first, mut second) = (b.exchange.receive(), b.exchange.receive());
    assert!(poll_with_bomb(&mut first) && is_pending(&task.poll(&mut second)));
    assert!(panics(&|| drop(b.exchange.close())));
    assert_eq!(task.woken(), 1, "closed");

    let limits = ChannelLimits { channels: 2, opened_by_peer: 0 };
    let (multiplexer, _driver) = Multiplexer::<u32>::new(Config::default(), limits, Clock::manual());
    let [one, two] = [1, 2].map(|id| multiplexer.open(id).expect("room for two"));
    let (mut first, mut second) = (one.receive(), two.receive());
    let mut acceptor = multiplexer.accept();
    assert!(poll_with_bomb(&mut first) && is_pending(&task.poll(&mut second)));
    assert!(is_pending(&task.poll(&mut acceptor)));
    assert!(panics(&|| multiplexer.close()));
    assert_eq!(task.woken(), 2, "every channel is closed, and nobody waits for one");
}

#[test]
fn futures_that_have_sent_something_are_over() {
    let (_, a, b) = ends(8);
    let task = Task::default();
    let mut sending = a.exchange.send(Order::Unordered, Letter(1));
    assert!(task.poll(&mut sending).is_ready());
    let mut request = a.exchange.request(Order::Unordered, Letter(2));
    assert!(is_pending(&task.poll(&mut request)));
    assert_eq!(a.carry_to(&b), 2);
    while b.packet().is_some() {}
    b.carry_to(&a);
    assert!(task.poll(&mut request).is_ready());
    assert!(catch_unwind(AssertUnwindSafe(|| task.poll(&mut sending))).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| task.poll(&mut request))).is_err());
    assert_eq!(a.transmit(), [], "nothing is sent twice");
}
