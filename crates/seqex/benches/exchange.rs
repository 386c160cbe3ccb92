//! What one exchange costs, both ends together, in memory: `cargo bench -p seqex`.
//!
//! Each figure is the best of several runs, in nanoseconds per message with all that belongs to it.

use std::{
    hint::black_box,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use seqex::{Capacity, Clock, Config, Delivery, Driver, Exchange as Handle, Order, SeqEx, Timestamp};

type Exchange = SeqEx<[u64; 3]>;

/// Short runs, and many of them: some find the processor undisturbed.
const MESSAGES: u32 = 32_760;
const RUNS: u32 = 300;

fn main() {
    println!("message and acknowledgement, one at a time  {:6.1} ns", best(64, |ends| acknowledged(ends, 1)));
    println!(
        "message and acknowledgement, batches of 32  {:6.1} ns",
        best(64, |ends| acknowledged(ends, 32))
    );
    println!(
        "the same in a window of 4096, batches of 32 {:6.1} ns",
        best(4096, |ends| acknowledged(ends, 32))
    );
    println!(
        "the same in a window of 4096, full          {:6.1} ns",
        best(4096, |ends| acknowledged(ends, 4095))
    );
    println!("message, reply and acknowledgement          {:6.1} ns", best(64, replied));
    println!("message and acknowledgement, 1 in 16 lost   {:6.1} ns", best(1024, lossy));
    println!("shared handles, one thread                  {:6.1} ns", best_shared(one_thread));
    println!("the same with calls that block              {:6.1} ns", best_shared(one_blocking_thread));
    println!("shared handles, one thread for each end     {:6.1} ns", best_shared(two_threads));
    println!("the same with calls that block              {:6.1} ns", best_shared(two_blocking_threads));
}

/// Two ends and their time, used by all runs, so that what is measured is the steady state.
struct Ends {
    a: Exchange,
    b: Exchange,
    now: Timestamp,
}

fn best(capacity: u32, run: impl Fn(&mut Ends)) -> f64 {
    let capacity = Capacity::new(capacity).expect("a power of two");
    let end = || SeqEx::new(Config { capacity, ..Config::default() });
    let mut ends = Ends { a: end(), b: end(), now: Duration::ZERO };
    let nanos = |_| {
        let start = Instant::now();
        run(&mut ends);
        start.elapsed().as_nanos() as f64 / f64::from(MESSAGES)
    };
    (0..RUNS).map(nanos).fold(f64::INFINITY, f64::min)
}

/// Moves what `from` has to transmit to `to`, except what `lost` says.
fn carry(now: Timestamp, from: &mut Exchange, to: &mut Exchange, mut lost: impl FnMut() -> bool) {
    while let Some(packet) = from.poll_transmit(now) {
        if matches!(packet, seqex::Packet::Message(_)) && lost() {
            continue;
        }
        let packet = packet.map(|data| *data);
        to.receive(now, packet);
    }
}

fn acknowledged(Ends { a, b, now }: &mut Ends, batch: u32) {
    for _ in 0..MESSAGES / batch {
        *now += Duration::from_micros(1);
        for i in 0..batch {
            a.send(*now, Order::Ordered, [i.into(); 3]).expect("a window with room");
        }
        carry(*now, a, b, || false);
        acknowledge_all(b);
        carry(*now, b, a, || false);
        acknowledge_all(a);
    }
}

fn replied(Ends { a, b, now }: &mut Ends) {
    for i in 0..MESSAGES {
        *now += Duration::from_micros(1);
        a.send(*now, Order::Unordered, [i.into(); 3]).expect("a window with room");
        carry(*now, a, b, || false);
        while let Some(delivery) = b.poll_deliver() {
            if let Delivery::Payload { token, data } = delivery {
                b.reply(*now, token, Order::Unordered, data).expect("room for an answer");
            }
        }
        carry(*now, b, a, || false);
        acknowledge_all(a);
        carry(*now, a, b, || false);
    }
}

fn lossy(Ends { a, b, now }: &mut Ends) {
    let (mut sent, mut random) = (0, 1_u32);
    while sent < MESSAGES || a.unanswered() > 0 {
        *now += Duration::from_micros(100);
        a.handle_timeout(*now);
        for _ in 0..32 {
            if sent < MESSAGES && a.send(*now, Order::Unordered, [sent.into(); 3]).is_ok() {
                sent += 1;
            }
        }
        carry(*now, a, b, || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            random >> 28 == 0
        });
        acknowledge_all(b);
        carry(*now, b, a, || false);
        acknowledge_all(a);
    }
}

type SharedEnd = (Handle<[u64; 3]>, Driver<[u64; 3]>);

/// Two ends of the handles that threads share.
struct SharedEnds {
    a: SharedEnd,
    b: SharedEnd,
}

fn best_shared(run: impl Fn(&SharedEnds)) -> f64 {
    let capacity = Capacity::new(1024).expect("a power of two");
    let end = || Handle::new(Config { capacity, ..Config::default() }, Clock::default());
    let ends = SharedEnds { a: end(), b: end() };
    let nanos = |_| {
        let start = Instant::now();
        run(&ends);
        start.elapsed().as_nanos() as f64 / f64::from(MESSAGES)
    };
    (0..RUNS / 10).map(nanos).fold(f64::INFINITY, f64::min)
}

/// Moves up to a batch, so that the lock of one end is never held while that of the other is taken.
fn carry_shared(from: &Driver<[u64; 3]>, to: &Driver<[u64; 3]>) {
    loop {
        let mut batch = [None; 32];
        let mut transmits = from.transmits();
        for slot in &mut batch {
            *slot = transmits.next_packet().map(|packet| packet.map(|data| *data));
        }
        drop(transmits);
        for packet in batch {
            let Some(packet) = packet else { return };
            to.receive(packet);
        }
    }
}

fn one_thread(SharedEnds { a, b }: &SharedEnds) {
    for _ in 0..MESSAGES / 32 {
        for i in 0..32 {
            a.0.try_send(Order::Ordered, [i; 3]).expect("a window with room");
        }
        carry_shared(&a.1, &b.1);
        while let Ok(Some(delivery)) = b.0.try_receive() {
            black_box(delivery);
        }
        carry_shared(&b.1, &a.1);
        while let Ok(Some(delivery)) = a.0.try_receive() {
            black_box(delivery);
        }
    }
}

/// One end sends and gets its acknowledgements, the other receives and acknowledges, each in a thread that also
/// carries what it has to transmit.
fn two_threads(SharedEnds { a, b }: &SharedEnds) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let mut received = 0;
                while let Ok(Some(delivery)) = b.0.try_receive() {
                    black_box(delivery);
                    received += 1;
                }
                if received > 0 {
                    carry_shared(&b.1, &a.1);
                } else {
                    thread::yield_now();
                }
            }
        });
        let (mut sent, mut answered) = (0, 0);
        while answered < MESSAGES {
            while sent < MESSAGES && a.0.try_send(Order::Ordered, [sent.into(); 3]).is_ok() {
                sent += 1;
                if sent % 32 == 0 {
                    break;
                }
            }
            carry_shared(&a.1, &b.1);
            let before = answered;
            while let Ok(Some(delivery)) = a.0.try_receive() {
                black_box(delivery);
                answered += 1;
            }
            if before == answered {
                thread::yield_now();
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// Full batches, and how many of them the blocking sender is ahead of its answers at most.
const BATCHES: u32 = MESSAGES / 32;
const AHEAD: u32 = 16;

fn send_batch((exchange, _): &SharedEnd) {
    for i in 0..32 {
        exchange.send(Order::Ordered, [i; 3]).wait().expect("an open exchange");
    }
}

fn receive_batch((exchange, _): &SharedEnd) {
    for _ in 0..32 {
        black_box(exchange.receive().wait().expect("an open exchange"));
    }
}

fn one_blocking_thread(SharedEnds { a, b }: &SharedEnds) {
    for _ in 0..BATCHES {
        send_batch(a);
        carry_shared(&a.1, &b.1);
        receive_batch(b);
        carry_shared(&b.1, &a.1);
        receive_batch(a);
    }
}

/// Each thread sleeps when it is ahead of the other one, and is woken by it.
fn two_blocking_threads(SharedEnds { a, b }: &SharedEnds) {
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..BATCHES {
                receive_batch(b);
                carry_shared(&b.1, &a.1);
            }
        });
        for batch in 0..BATCHES + AHEAD {
            if batch < BATCHES {
                send_batch(a);
                carry_shared(&a.1, &b.1);
            }
            if batch >= AHEAD {
                receive_batch(a);
            }
        }
    });
}

fn acknowledge_all(exchange: &mut Exchange) {
    while let Some(delivery) = exchange.poll_deliver() {
        black_box(&delivery);
        match delivery {
            Delivery::Acknowledged { .. } => {}
            Delivery::Payload { token, .. } | Delivery::Reply { token, .. } => exchange.acknowledge(token),
        }
    }
}
