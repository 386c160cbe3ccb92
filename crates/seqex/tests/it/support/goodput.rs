//! What of a link is used for data, over delay, loss and window.
//!
//! Link and clock are simulated, so the figures are the same on every machine. The link has a delay and loses at random,
//! in both directions; its rate has no limit, so that what limits is the window and how soon a loss is noticed: the most
//! there can be is a window of messages per round trip.

use std::collections::VecDeque;
use std::time::Duration;

use seqex::{Capacity, Config, Delivery, Order, Packet, SeqEx, Timestamp};

type End = SeqEx<u32>;

/// Messages are acknowledged at once, and counted for this long after a second to settle.
const MEASURED: Duration = Duration::from_secs(10);
const SEEDS: u64 = 2;

/// Over round trip, window and loss.
pub(crate) fn table() -> String {
    let mut table =
        String::from("| round trip | window | loss | unordered | ordered |\n|---|---|---|---|---|\n");
    for millis in [10, 50, 200] {
        for window in [64, 1024] {
            for percent in [0, 1, 5] {
                let share = |order| {
                    let runs = (0..SEEDS).map(|seed| goodput(millis, window, percent, (order, seed)));
                    let rate = runs.sum::<f64>() / SEEDS as f64;
                    let most = f64::from(window - 1) * 1000.0 / millis as f64;
                    format!("{rate:.0}/s, {:.0} %", 100.0 * rate / most)
                };
                let (unordered, ordered) = (share(Order::Unordered), share(Order::Ordered));
                table += &format!("| {millis} ms | {window} | {percent} % | {unordered} | {ordered} |\n");
            }
        }
    }
    table
}

/// Delivered messages per second.
fn goodput(millis: u64, window: u32, percent: u64, (order, seed): (Order, u64)) -> f64 {
    let capacity = Capacity::new(window).expect("a power of two");
    let end = || End::new(Config { capacity, ..Config::default() });
    let mut ends = [end(), end()];
    let mut under_way: VecDeque<(Timestamp, usize, Packet<u32>)> = VecDeque::new();
    let mut random = seed;
    let mut lost = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 32) % 100 < percent
    };
    let (mut now, mut delivered) = (Duration::ZERO, 0_u64);
    let start = Duration::from_secs(1);
    while now < start + MEASURED {
        while ends[0].send(now, order, 0).is_ok() {}
        while let Some(delivery) = ends[1].poll_deliver() {
            if let Delivery::Payload { token, .. } = delivery {
                ends[1].acknowledge(token);
                delivered += u64::from(now >= start);
            }
        }
        while ends[0].poll_deliver().is_some() {}
        for (end, exchange) in ends.iter_mut().enumerate() {
            while let Some(packet) = exchange.poll_transmit(now) {
                if !lost() {
                    let arrival = now + Duration::from_micros(millis * 500);
                    under_way.push_back((arrival, 1 - end, packet.map(|&data| data)));
                }
            }
        }
        let deadlines = ends.iter().filter_map(End::next_deadline);
        let arrival = under_way.front().map(|&(at, ..)| at);
        now = deadlines.chain(arrival).min().expect("something is under way").max(now);
        while under_way.front().is_some_and(|&(at, ..)| at <= now)
            && let Some((_, end, packet)) = under_way.pop_front()
        {
            ends[end].receive(now, packet);
        }
        ends.iter_mut().for_each(|exchange| exchange.handle_timeout(now));
    }
    delivered as f64 / MEASURED.as_secs_f64()
}
