//! A link that loses nothing and reorders: what is late is not taken for lost for long.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use seqex::{Capacity, Config, Delivery, Order, Packet, SeqEx, Timestamp};

/// In each half of the time: how many packets were sent, and how often one was transmitted, be it again.
#[derive(Debug, Default)]
struct Counts {
    sent: [u32; 2],
    transmitted: [u32; 2],
}

const HALF: Duration = Duration::from_secs(5);

/// Each packet takes `delay` and up to `jitter` more; a new one is sent every `gap`, while there is room.
fn run(capacity: u32, [delay, jitter, gap]: [Duration; 3], order: Order, seed: u64) -> Counts {
    let capacity = Capacity::new(capacity).expect("a power of two");
    let end = || SeqEx::<u32>::new(Config { capacity, ..Config::default() });
    let mut ends = [end(), end()];
    // By arrival; the number keeps apart what arrives at once.
    let mut under_way: BTreeMap<(Timestamp, u64), (usize, Packet<u32>)> = BTreeMap::new();
    let mut random = seed;
    let (mut now, mut next_send, mut transmitted) = (Duration::ZERO, Duration::ZERO, 0_u64);
    let mut counts = Counts::default();
    while now < 2 * HALF {
        let half = usize::from(now >= HALF);
        if now >= next_send {
            counts.sent[half] += u32::from(ends[0].send(now, order, 0).is_ok());
            next_send = now + gap;
        }
        while let Some(delivery) = ends[1].poll_deliver() {
            if let Delivery::Payload { token, .. } = delivery {
                ends[1].acknowledge(token);
            }
        }
        while ends[0].poll_deliver().is_some() {}
        for (end, exchange) in ends.iter_mut().enumerate() {
            while let Some(packet) = exchange.poll_transmit(now) {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let late = jitter.mul_f64((random >> 32) as f64 / f64::from(u32::MAX));
                counts.transmitted[half] += u32::from(matches!(packet, Packet::Message(_)));
                transmitted += 1;
                under_way.insert((now + delay + late, transmitted), (1 - end, packet.map(|&data| data)));
            }
        }
        let arrival = under_way.first_key_value().map(|(&(at, _), _)| at);
        let deadlines = ends.iter().filter_map(SeqEx::next_deadline);
        now = deadlines.chain(arrival).chain([next_send]).min().expect("the next to be sent").max(now);
        while let Some(first) = under_way.first_entry()
            && first.key().0 <= now
        {
            let (end, packet) = first.remove();
            ends[end].receive(now, packet);
        }
        ends.iter_mut().for_each(|exchange| exchange.handle_timeout(now));
    }
    counts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    //= ZSSP-SEQ-19  what is only late is not lost
    #[test]
    fn reordering_alone_makes_no_storm_of_resends(
        capacity in prop_oneof![Just(16_u32), Just(64), Just(1024)],
        delay in 1_000..50_000_u64,
        share in 0.0..1.5_f64,
        gap in 100..2_000_u64,
        ordered in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let micros = Duration::from_micros;
        let order = if ordered { Order::Ordered } else { Order::Unordered };
        let counts = run(capacity, [micros(delay), micros(delay).mul_f64(share), micros(gap)], order, seed);
        let [sent, transmitted] = [counts.sent, counts.transmitted].map(|halves| halves.map(f64::from));
        prop_assert!(sent[1] > 250.0 && transmitted[0] < 1.25 * sent[0], "{counts:?}");
        prop_assert!(transmitted[1] < 10.0 + 1.005 * sent[1], "what a link does is learnt: {counts:?}");
    }
}
