//! The faces in every order in which threads can meet:
//! `RUSTFLAGS="--cfg loom" cargo test -p seqex --lib --profile loom --target-dir target/loom loom`.
//!
//! A lost wake-up shows as a thread that parks for ever, which loom reports as a deadlock.

mod dropped;
mod multiplexer;
mod vanished;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use std::vec::Vec;

use loom::thread;

use crate::{
    Ack, AckKind, Answer, Capacity, Clock, Closed, Config, Delivery, Driver, Ended, Exchange, Guard, Link,
    Message, Order, Packet, Refusal, SeqNo, WhyUnanswered,
};

type Ends = (Exchange<u8>, Arc<Driver<u8>>);

/// An end with the smallest window, of which one packet fills the part that new packets may have.
fn end() -> Ends {
    let capacity = Capacity::new(2).expect("a power of two");
    let (exchange, driver) = Exchange::new(Config { capacity, ..Config::default() }, Clock::manual());
    (exchange, Arc::new(driver))
}

/// The same, with that one packet under way.
fn full() -> Ends {
    let (exchange, driver) = end();
    exchange.try_send(Order::Unordered, 0).expect("room");
    transmit(&driver);
    (exchange, driver)
}

fn transmit(driver: &Driver<u8>) -> Vec<Packet<u8>> {
    let mut transmits = driver.transmits();
    std::iter::from_fn(|| transmits.next_packet().map(|packet| packet.map(|data| *data))).collect()
}

fn message(seq: u32, reply_to: Option<u32>) -> Packet<u8> {
    let reply_to = reply_to.map(SeqNo::new);
    Packet::Message(Message { seq: SeqNo::new(seq), reply_to, order: Order::Ordered, data: 7 })
}

fn acknowledgement() -> Packet<u8> {
    Packet::Ack(Ack { kind: AckKind::Answered, first: SeqNo::new(0), count: 1 })
}

/// One poll by somebody who does not wait.
fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Models with three threads, or with two that do much, look at every order with up to three preemptions.
fn bounded_model(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

#[test]
fn loom_a_receiver_hears_of_a_packet() {
    loom::model(|| {
        let (exchange, driver) = end();
        // The driver outlives the wait: were it dropped, it would close the exchange and so end the wait, too.
        let link = thread::spawn({
            let driver = Arc::clone(&driver);
            move || driver.receive(message(0, None))
        });
        assert!(matches!(exchange.receive().wait(), Ok(Delivery::Payload { data: 7, .. })));
        link.join().expect("no panic");
    });
}

#[test]
fn loom_a_sender_hears_of_room() {
    loom::model(|| {
        let (exchange, driver) = full();
        let link = thread::spawn({
            let driver = Arc::clone(&driver);
            move || driver.receive(acknowledgement())
        });
        // The data that comes back with the acknowledgement does not need the window.
        assert_eq!(exchange.send(Order::Unordered, 1).wait(), Ok(SeqNo::new(1)));
        link.join().expect("no panic");
    });
}

#[test]
fn loom_a_request_hears_of_its_answer() {
    loom::model(|| {
        let (exchange, driver) = end();
        let link = thread::spawn({
            let driver = Arc::clone(&driver);
            move || {
                driver.wait().expect("something to transmit");
                assert_eq!(transmit(&driver).len(), 1);
                driver.receive(message(0, Some(0)))
            }
        });
        let answer = exchange.request(Order::Unordered, 1).wait();
        assert!(matches!(answer, Ok(Answer::Reply { data: 7, sent: 1, .. })));
        link.join().expect("no panic");
    });
}

#[test]
fn loom_a_request_hears_of_its_deadline() {
    loom::model(|| {
        let (exchange, driver) = end();
        driver.exchange().shared.clock.advance(Duration::from_secs(1));
        let link = thread::spawn({
            let driver = Arc::clone(&driver);
            move || driver.handle_timeout()
        });
        let unanswered =
            exchange.request(Order::Unordered, 1).within(Duration::ZERO).wait().expect_err("no answer");
        assert_eq!(unanswered.why, WhyUnanswered::TimedOut);
        link.join().expect("no panic").expect("an open exchange");
    });
}

/// The driver must hear of the first deadline although it has looked when there was none.
#[test]
fn loom_a_timer_hears_of_a_nearer_deadline() {
    loom::model(|| {
        let (exchange, driver) = full();
        let seen = driver.next_deadline();
        let requester = thread::spawn(move || {
            let mut kept = exchange.request(Order::Unordered, 1).within(Duration::from_nanos(1));
            assert!(poll_once(&mut kept).is_pending());
            kept
        });
        let moved = super::block::block_on(&mut driver.deadline_moved(seen));
        assert_eq!(moved, Ok(()));
        drop(requester.join().expect("no panic"));
    });
}

//= ZSSP-DEF-21  while the reply arrives
#[test]
fn loom_a_request_dropped_at_any_moment_leaks_nothing() {
    loom::model(|| {
        let (exchange, driver) = end();
        let mut request = exchange.request(Order::Unordered, 1);
        assert!(poll_once(&mut request).is_pending());
        transmit(&driver);
        let link = thread::spawn({
            let driver = Arc::clone(&driver);
            move || driver.receive(message(0, Some(0)))
        });
        drop(request);
        link.join().expect("no panic");
        assert_eq!(transmit(&driver).len(), 1, "the reply is acknowledged");
        assert!(exchange.is_idle());
        driver.receive(message(1, None));
        assert!(matches!(exchange.try_receive(), Ok(Some(_))), "the critical section is free");
    });
}

//= ZSSP-DEF-23  although whoever is called first goes away
#[test]
fn loom_a_dropped_receiver_leaves_its_turn() {
    bounded_model(|| {
        let (exchange, driver) = end();
        let mut fickle = exchange.receive();
        let polled = poll_once(&mut fickle);
        assert!(polled.is_pending());
        let link = thread::spawn({
            let driver = Arc::clone(&driver);
            move || driver.receive(message(0, None))
        });
        let receiver = thread::spawn({
            let exchange = exchange.clone();
            move || exchange.receive().wait().map(drop)
        });
        drop(fickle);
        assert_eq!(receiver.join().expect("no panic"), Ok(()));
        link.join().expect("no panic");
    });
}

#[test]
fn loom_a_dropped_sender_leaves_its_turn() {
    bounded_model(|| {
        let (exchange, driver) = full();
        let mut fickle = exchange.send(Order::Unordered, 8);
        assert!(poll_once(&mut fickle).is_pending());
        let link = thread::spawn({
            let driver = Arc::clone(&driver);
            move || driver.receive(acknowledgement())
        });
        let sender = thread::spawn({
            let exchange = exchange.clone();
            move || exchange.send(Order::Unordered, 9).wait()
        });
        drop(fickle);
        assert_eq!(sender.join().expect("no panic"), Ok(SeqNo::new(1)));
        link.join().expect("no panic");
    });
}

//= ZSSP-DEF-23  also when it was to send a request
#[test]
fn loom_a_dropped_request_that_was_not_sent_leaves_its_turn() {
    bounded_model(|| {
        let (exchange, driver) = full();
        let mut fickle = exchange.request(Order::Unordered, 8);
        assert!(poll_once(&mut fickle).is_pending());
        let link = thread::spawn({
            let driver = Arc::clone(&driver);
            move || driver.receive(acknowledgement())
        });
        let sender = thread::spawn({
            let exchange = exchange.clone();
            move || exchange.send(Order::Unordered, 9).wait()
        });
        drop(fickle);
        assert_eq!(sender.join().expect("no panic"), Ok(SeqNo::new(1)));
        link.join().expect("no panic");
    });
}

//= ZSSP-DEF-24  at whatever moment
#[test]
fn loom_closing_ends_every_wait() {
    loom::model(|| {
        let (exchange, _driver) = full();
        let closer = thread::spawn({
            let exchange = exchange.clone();
            move || exchange.close().unanswered.len()
        });
        let refused = exchange.send(Order::Unordered, 1).wait().expect_err("closed");
        assert_eq!((refused.reason, refused.data), (Refusal::Closed, 1));
        assert_eq!(closer.join().expect("no panic"), 1);
    });
    loom::model(|| {
        let (exchange, _driver) = end();
        let closer = thread::spawn({
            let exchange = exchange.clone();
            move || exchange.close().unanswered.len()
        });
        let unanswered = exchange.request(Order::Unordered, 1).wait().expect_err("closed");
        // Either it was not sent and its data comes back here, or whoever closed has got it.
        let unsent = usize::from(unanswered.unsent.is_some());
        assert_eq!(closer.join().expect("no panic") + unsent, 1);
    });
    loom::model(|| {
        let (exchange, driver) = end();
        let closer = thread::spawn({
            let exchange = exchange.clone();
            move || drop(exchange.close())
        });
        assert!(matches!(exchange.receive().wait(), Err(Closed)));
        closer.join().expect("no panic");
        assert_eq!(driver.wait(), Err(Ended::Closed));
    });
    loom::model(|| {
        let (exchange, driver) = end();
        let closer = thread::spawn(move || drop(exchange.close()));
        assert_eq!(driver.wait(), Err(Ended::Closed));
        closer.join().expect("no panic");
    });
}

#[test]
fn loom_two_receivers_share_two_packets() {
    bounded_model(|| {
        let (exchange, driver) = end();
        let receiver = || {
            let exchange = exchange.clone();
            thread::spawn(move || exchange.receive().wait().map(drop))
        };
        let receivers = [receiver(), receiver()];
        driver.receive(message(0, None));
        driver.receive(message(1, None));
        for receiver in receivers {
            assert_eq!(receiver.join().expect("no panic"), Ok(()));
        }
    });
}
