//! Two shared exchanges with a clock that stands still, and a link of which a test decides what it carries.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use seqex::{Capacity, Clock, Config, Driver, Exchange, Guard, Link, Packet};

/// What is sent: owned, and on purpose neither `Clone` nor `Copy`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Letter(pub(crate) u64);

pub(crate) type Delivery = seqex::Delivered<Letter, u64>;

pub(crate) struct End {
    pub(crate) exchange: Exchange<Letter, u64>,
    pub(crate) driver: Driver<Letter, u64>,
}

pub(crate) fn ends(capacity: u32) -> (Clock, End, End) {
    ends_with(Config { capacity: Capacity::new(capacity).expect("a power of two"), ..Config::default() })
}

pub(crate) fn ends_with(config: Config) -> (Clock, End, End) {
    let clock = Clock::manual();
    let end = || {
        let (exchange, driver) = Exchange::new(config, clock.clone());
        End { exchange, driver }
    };
    (clock.clone(), end(), end())
}

impl End {
    /// Everything there is to transmit.
    pub(crate) fn transmit(&self) -> Vec<Packet<u64>> {
        let mut transmits = self.driver.transmits();
        std::iter::from_fn(|| transmits.next_packet().map(|packet| packet.map(|letter| letter.0))).collect()
    }

    /// Carries everything over; returns how much that was.
    pub(crate) fn carry_to(&self, to: &Self) -> usize {
        let packets = self.transmit();
        let count = packets.len();
        for packet in packets {
            to.driver.receive(packet);
        }
        count
    }

    /// The next packet, whatever it answers.
    pub(crate) fn packet(&self) -> Option<(Guard<Letter, u64>, u64)> {
        loop {
            match self.exchange.try_receive().expect("an open exchange")? {
                Delivery::Acknowledged { .. } => {}
                Delivery::Payload { token, data } | Delivery::Reply { token, data, .. } => {
                    return Some((token, data));
                }
            }
        }
    }
}

/// Carries everything in both directions, lets time pass where there is a deadline, and acknowledges whatever is
/// received, until nothing is left.
pub(crate) fn settle(clock: &Clock, a: &End, b: &End) {
    for _ in 0..10_000 {
        let mut moved = a.carry_to(b) + b.carry_to(a);
        for end in [a, b] {
            moved += usize::from(end.packet().is_some());
        }
        if moved == 0 {
            let next = [a, b].into_iter().filter_map(|end| end.driver.next_deadline()).min();
            let Some(next) = next else { return };
            clock.advance(next.saturating_sub(clock.now()).max(Duration::from_nanos(1)));
            for end in [a, b] {
                end.driver.handle_timeout().expect("nobody gives up");
            }
        }
    }
    panic!("no end");
}

/// A waker that counts, with polls of one future after the other.
#[derive(Default)]
pub(crate) struct Task(Arc<Calls>);

#[derive(Default)]
struct Calls(AtomicUsize);

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Task {
    pub(crate) fn poll<F: Future + Unpin>(&self, future: &mut F) -> Poll<F::Output> {
        let waker = Waker::from(Arc::clone(&self.0));
        Pin::new(future).poll(&mut Context::from_waker(&waker))
    }

    /// How often it was woken since the last look.
    pub(crate) fn woken(&self) -> usize {
        self.0.0.swap(0, Ordering::SeqCst)
    }
}
