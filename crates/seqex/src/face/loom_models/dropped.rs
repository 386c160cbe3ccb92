//! Futures and guards that go away just when they are called, and just when everything ends.

use std::pin::Pin;
use std::task::Wake;

use loom::thread;

use super::*;

/// A task of which it shows whether anybody still means to wake it.
struct Task(Arc<Woken>);

struct Woken;

impl Wake for Woken {
    fn wake(self: Arc<Self>) {}
}

impl Task {
    fn new() -> Self {
        Self(Arc::new(Woken))
    }

    fn poll<F: Future + Unpin>(&self, future: &mut F) -> Poll<F::Output> {
        let waker = Waker::from(Arc::clone(&self.0));
        Pin::new(future).poll(&mut Context::from_waker(&waker))
    }

    fn is_forgotten(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

fn closer(exchange: &Exchange<u8>) -> thread::JoinHandle<usize> {
    let exchange = exchange.clone();
    thread::spawn(move || exchange.close().unanswered.len())
}

/// Its first poll, too: the deadline may be found to have passed, or not yet.
#[test]
fn loom_a_request_dropped_while_its_time_ends_leaves_nothing() {
    loom::model(|| {
        let ((exchange, driver), task) = (end(), Task::new());
        let mut request = exchange.request(Order::Unordered, 1).within(Duration::from_secs(1));
        let timer = thread::spawn({
            let driver = Arc::clone(&driver);
            move || {
                driver.exchange().shared.clock.advance(Duration::from_secs(1));
                driver.handle_timeout()
            }
        });
        let was_sent = task.poll(&mut request).is_pending();
        drop(request);
        timer.join().expect("no panic").expect("an open exchange");
        assert!(task.is_forgotten());
        assert_eq!(driver.next_deadline(), None);
        assert_eq!(transmit(&driver).len(), usize::from(was_sent));
        if was_sent {
            driver.receive(message(0, Some(0)));
            assert_eq!(transmit(&driver).len(), 1, "the late reply is acknowledged");
        }
        assert!(exchange.is_idle());
    });
}

//= ZSSP-DEF-23  whether it was called for the room, for its time, or for both
#[test]
fn loom_a_request_dropped_while_its_time_ends_leaves_its_turn() {
    bounded_model(|| {
        let (exchange, driver) = full();
        let mut fickle = exchange.request(Order::Unordered, 8).within(Duration::from_secs(1));
        assert!(poll_once(&mut fickle).is_pending());
        exchange.shared.clock.advance(Duration::from_secs(1));
        let link = thread::spawn({
            let driver = Arc::clone(&driver);
            move || {
                let open = driver.handle_timeout();
                driver.receive(acknowledgement());
                open
            }
        });
        let sender = thread::spawn({
            let exchange = exchange.clone();
            move || exchange.send(Order::Unordered, 9).wait()
        });
        drop(fickle);
        assert_eq!(sender.join().expect("no panic"), Ok(SeqNo::new(1)));
        link.join().expect("no panic").expect("an open exchange");
        assert_eq!(transmit(&driver).len(), 1, "what was dropped was not sent");
    });
}

//= ZSSP-DEF-24  also for whoever goes away
#[test]
fn loom_a_future_dropped_while_the_exchange_closes_leaves_nothing() {
    bounded_model(|| {
        let ((exchange, driver), task) = (full(), Task::new());
        let mut fickle = exchange.request(Order::Unordered, 1).within(Duration::from_secs(1));
        assert!(task.poll(&mut fickle).is_pending());
        let requester = thread::spawn({
            let exchange = exchange.clone();
            move || exchange.request(Order::Unordered, 2).wait().map(drop)
        });
        let closer = closer(&exchange);
        drop(fickle);
        let unanswered = requester.join().expect("no panic").expect_err("closed");
        assert_eq!((unanswered.why, unanswered.unsent), (WhyUnanswered::Closed, Some(2)));
        assert_eq!(closer.join().expect("no panic"), 1, "the one under way");
        assert!(task.is_forgotten());
        assert_eq!(driver.next_deadline(), None);
    });
    bounded_model(|| {
        let ((exchange, _driver), task) = (end(), Task::new());
        let mut fickle = exchange.receive();
        assert!(task.poll(&mut fickle).is_pending());
        let receiver = thread::spawn({
            let exchange = exchange.clone();
            move || exchange.receive().wait().map(drop)
        });
        let closer = closer(&exchange);
        drop(fickle);
        assert_eq!(receiver.join().expect("no panic"), Err(Closed));
        closer.join().expect("no panic");
        assert!(task.is_forgotten());
    });
}

/// An end with a packet that was received.
fn received() -> (Exchange<u8>, Arc<Driver<u8>>, Guard<u8, u8>) {
    let (exchange, driver) = end();
    driver.receive(message(0, None));
    let Ok(Some(Delivery::Payload { token, .. })) = exchange.try_receive() else { panic!("no packet") };
    (exchange, driver, token)
}

//= ZSSP-DEF-24  also for whoever is about to answer
#[test]
fn loom_a_guard_used_while_the_exchange_closes_answers_nothing() {
    loom::model(|| {
        let (exchange, driver, guard) = received();
        let closer = closer(&exchange);
        drop(guard);
        assert_eq!(closer.join().expect("no panic"), 0);
        assert_eq!(transmit(&driver), []);
        assert!(exchange.is_idle());
    });
    loom::model(|| {
        let (exchange, driver, guard) = received();
        let closer = closer(&exchange);
        let unanswered = guard.request(Order::Unordered, 1).wait().expect_err("closed");
        assert_eq!(unanswered.why, WhyUnanswered::Closed);
        let unsent = usize::from(unanswered.unsent.is_some());
        assert_eq!(closer.join().expect("no panic") + unsent, 1, "the data comes back, and once");
        assert_eq!(transmit(&driver), []);
    });
}
