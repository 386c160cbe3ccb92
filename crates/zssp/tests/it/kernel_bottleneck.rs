//! A road of the kernel's own with a slow piece, and a queue in front of it.

use std::time::{Duration, Instant};

use crate::common::road::{LEFT, RIGHT, Road, address};
use crate::common::simulation::transfer;
use crate::common::{builder, connect_to, content, run};

/// Bits a second.
const RATE: u64 = 20_000_000;

/// Bytes that wait at most, and how long that takes them.
const QUEUE: u64 = 125_000;
const WAIT: Duration = Duration::from_millis(50);

/// Measured in five pieces, of which two may find the machine busy with something else.
#[test]
fn bulk_fills_the_rate_of_a_real_queue_and_leaves_most_of_its_datagrams_room() {
    const LEN: usize = 1 << 20;
    run(async {
        let Some(road) = Road::new() else { return };
        let Some(()) = road.narrow(RIGHT, RATE, QUEUE) else { return };
        let [client, server] = [LEFT, RIGHT].map(|host| builder().bind_link(road.bind(host)).unwrap());
        let (here, there) = connect_to(address(RIGHT), &client, &server).await;
        let (mut times, mut round_trips) = (Vec::new(), Vec::new());
        for seed in 0..5 {
            let (start, sent) = (Instant::now(), content(seed, LEN));
            let received = transfer(here.clone(), there.clone(), sent.clone()).await;
            assert!(received == sent, "every byte once and in order");
            times.push(start.elapsed());
            round_trips.extend(here.stats().rtt);
        }
        let (lost, stats) = (road.lost(RIGHT), here.stats());
        println!("{lost} lost; {times:?}, round trips of {round_trips:?}; {stats:?}");
        times.sort_unstable();
        round_trips.sort_unstable();
        let share = LEN as f64 * 8.0 / RATE as f64 / times[2].as_secs_f64();
        assert!(share > 0.5, "{:.1} % of the rate", share * 100.0);
        assert!(share < 1.2, "{:.1} % of the rate: the road is not that slow", share * 100.0);
        assert!(round_trips[2] < 3 * WAIT, "{round_trips:?}");
        let sent = 5 * LEN as u64 / 1400;
        assert!(lost > 10 && lost < sent / 10, "{lost} of some {sent} were lost");
        assert!(stats.messages_lost + stats.parts_lost > 0, "{stats:?}");
        assert_eq!(client.stats().send_errors, 0);
        here.close(0, b"").await;
    });
}
