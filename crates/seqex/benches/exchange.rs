//! What one exchange costs, both ends together, in memory: `cargo bench -p seqex`.
//!
//! Each figure is the best of several runs, in nanoseconds per message with all that belongs to it.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use seqex::{Capacity, Config, Delivery, Message, Order, Packet, SeqEx, Timestamp};

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
        let packet = match packet {
            Packet::Ack(ack) => Packet::Ack(ack),
            Packet::Message(Message { seq, reply_to, order, data }) => {
                if lost() {
                    continue;
                }
                Packet::Message(Message { seq, reply_to, order, data: *data })
            }
        };
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

fn acknowledge_all(exchange: &mut Exchange) {
    while let Some(delivery) = exchange.poll_deliver() {
        black_box(&delivery);
        match delivery {
            Delivery::Acknowledged { .. } => {}
            Delivery::Payload { token, .. } | Delivery::Reply { token, .. } => exchange.acknowledge(token),
        }
    }
}
