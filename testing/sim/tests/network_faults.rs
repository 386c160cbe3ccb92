//! Each fault of the network comes when it should, as often as it should, and is counted.

use std::time::Duration;

use zssp_sim::network::{Burst, Rate};
use zssp_sim::{Clock, Conditions, Delivery, Network, seeds};

const MS: Duration = Duration::from_millis(1);

fn network(seed: u64, conditions: Conditions) -> Network {
    Network::new(seed).with_conditions(conditions)
}

/// Sends `count` numbered datagrams of 100 bytes, `gap` apart, and returns what arrives and when.
fn run(network: &mut Network, count: u32, gap: Duration) -> Vec<(Duration, Vec<u8>)> {
    let mut clock = Clock::new();
    let mut arrived = Vec::new();
    for number in 0..count {
        let mut bytes = number.to_be_bytes().to_vec();
        bytes.resize(100, 0);
        network.send(clock.now(), 1, 2, bytes);
        clock.advance(gap);
        drain(network, &mut clock, &mut arrived);
    }
    while let Some(arrival) = network.next_arrival() {
        clock.advance_to(arrival);
        drain(network, &mut clock, &mut arrived);
    }
    arrived
}

fn drain(network: &mut Network, clock: &mut Clock, arrived: &mut Vec<(Duration, Vec<u8>)>) {
    while let Some(delivery) = network.receive(clock.now()) {
        assert_eq!((delivery.from, delivery.to), (1, 2));
        arrived.push((clock.elapsed(), delivery.bytes));
    }
}

fn assert_between(value: u64, low: u64, high: u64) {
    assert!((low..=high).contains(&value), "{value} is not in {low}..={high}");
}

#[test]
fn without_faults_everything_arrives_in_order_after_the_latency() {
    let mut network = Network::new(1);
    let now = Clock::new().now();
    network.send(now, 1, 2, vec![1]);
    network.send(now, 2, 1, vec![2]);
    assert_eq!(network.next_arrival(), Some(now + 10 * MS));
    assert_eq!(network.receive(now + 9 * MS), None);
    assert_eq!(network.receive(now + 10 * MS), Some(Delivery { to: 2, from: 1, bytes: vec![1] }));
    assert_eq!(network.receive(now + 10 * MS), Some(Delivery { to: 1, from: 2, bytes: vec![2] }));
    assert_eq!((network.next_arrival(), network.receive(now + 99 * MS)), (None, None));
}

#[test]
fn a_seed_decides_everything() {
    let bad = Conditions {
        jitter: 20 * MS,
        loss: 0.2,
        burst: Some(Burst { start: 0.02, end: 0.3 }),
        duplication: 0.1,
        corruption: 0.1,
        ..Conditions::default()
    };
    let [one, same, other] = [7, 7, 8].map(|seed| {
        let mut network = network(seed, bad.clone());
        (run(&mut network, 500, MS), *network.statistics())
    });
    assert!(one == same);
    assert!(one != other);
}

#[test]
fn every_datagram_is_accounted_for() {
    seeds::run(50, |seed| {
        let conditions = Conditions {
            jitter: 30 * MS,
            loss: 0.1,
            burst: Some(Burst { start: 0.05, end: 0.5 }),
            duplication: 0.2,
            corruption: 0.2,
            rate: Some(Rate { bytes_per_second: 90_000, queue: 1000 }),
            ..Conditions::default()
        };
        let mut network = network(seed, conditions);
        network.drop_next(3);
        let arrived = run(&mut network, 300, MS);
        let s = network.statistics();
        assert_eq!((s.sent, s.delivered, s.scripted), (300, arrived.len() as u64, 3));
        assert_eq!(s.sent + s.duplicated, s.delivered + s.lost + s.overflowed + s.scripted);
    });
}

#[test]
fn loss_duplication_and_corruption_come_as_often_as_asked() {
    let conditions = Conditions { loss: 0.5, duplication: 0.25, corruption: 0.1, ..Conditions::default() };
    let mut network = network(3, conditions);
    let arrived = run(&mut network, 10_000, MS);
    let s = network.statistics();
    assert_between(s.lost, 4_800, 5_200);
    assert_between(s.duplicated, 1_150, 1_350);
    assert_between(s.corrupted, 550, 700);
    let intact = |bytes: &[u8]| bytes.len() == 100 && bytes[4..].iter().all(|&byte| byte == 0);
    // Flips in the number itself do not show here.
    assert_between(arrived.iter().filter(|(_, bytes)| !intact(bytes)).count() as u64, 500, s.corrupted);
}

#[test]
fn nothing_passes_when_all_is_lost() {
    let mut network = network(3, Conditions { loss: 1.0, ..Conditions::default() });
    assert!(run(&mut network, 100, MS).is_empty());
    assert_eq!(network.statistics().lost, 100);
}

#[test]
fn bursts_are_as_long_as_asked() {
    let burst = Some(Burst { start: 0.01, end: 0.1 });
    let mut network = network(5, Conditions { burst, ..Conditions::default() });
    let numbers: Vec<u32> = run(&mut network, 50_000, MS)
        .into_iter()
        .map(|(_, bytes)| u32::from_be_bytes(bytes[..4].try_into().unwrap()))
        .collect();
    let bursts = numbers.windows(2).filter(|pair| pair[1] != pair[0] + 1).count() as u64;
    assert_between(network.statistics().lost / bursts, 8, 12);
}

#[test]
fn jitter_reorders() {
    let mut network = network(1, Conditions { jitter: 5 * MS, ..Conditions::default() });
    let arrived = run(&mut network, 1000, MS);
    assert_eq!(arrived.len(), 1000);
    assert!(!arrived.is_sorted_by_key(|(_, bytes)| bytes));
    assert_between(network.statistics().reordered, 300, 800);

    let mut steady = Network::new(1);
    assert!(run(&mut steady, 1000, MS).is_sorted_by_key(|(_, bytes)| bytes));
    assert_eq!(steady.statistics().reordered, 0);
}

#[test]
fn long_datagrams_vanish() {
    let mut network = network(1, Conditions { mtu: 100, ..Conditions::default() });
    let now = Clock::new().now();
    network.send(now, 1, 2, vec![0; 101]);
    network.send(now, 1, 2, vec![0; 100]);
    assert_eq!(network.receive(now + 10 * MS).map(|delivery| delivery.bytes.len()), Some(100));
    assert_eq!((network.statistics().oversized, network.next_arrival()), (1, None));
}

#[test]
fn a_rate_spaces_datagrams_and_its_queue_overflows() {
    // A datagram of 100 bytes takes 10 ms; five fit.
    let rate = Some(Rate { bytes_per_second: 10_000, queue: 500 });
    let mut network = network(1, Conditions { rate, ..Conditions::default() });
    let times: Vec<_> = run(&mut network, 8, Duration::ZERO).into_iter().map(|(time, _)| time).collect();
    assert_eq!(times, [20, 30, 40, 50, 60].map(|ms| ms * MS));
    assert_eq!(network.statistics().overflowed, 3);

    let later = Clock::new().now() + 1000 * MS;
    network.send(later, 1, 2, vec![0; 100]);
    assert_eq!(network.next_arrival(), Some(later + 20 * MS), "the queue has emptied");
}

#[test]
fn scripted_faults_hit_exactly_what_they_name() {
    let now = Clock::new().now();
    let mut network = Network::new(1);
    network.drop_next(1);
    network.drop_next_on(2, 1, 1);
    network.partition(3, 1);
    for (from, to) in [(1, 2), (1, 2), (2, 1), (2, 1), (1, 3), (3, 1), (3, 2)] {
        network.send(now, from, to, vec![]);
    }
    let mut arrived =
        || std::iter::from_fn(|| network.receive(now + 10 * MS)).map(|d| (d.from, d.to)).collect::<Vec<_>>();
    assert_eq!(arrived(), [(1, 2), (2, 1), (3, 2)]);
    assert_eq!((network.statistics().scripted, network.statistics().partitioned), (2, 2));
    network.heal(1, 3);
    network.send(now, 3, 1, vec![]);
    assert!(network.receive(now + 10 * MS).is_some());
}

#[test]
fn a_link_can_have_its_own_conditions() {
    let now = Clock::new().now();
    let mut network = Network::new(1);
    network.set_link(1, 2, Conditions { loss: 1.0, ..Conditions::default() });
    network.send(now, 1, 2, vec![]);
    network.send(now, 2, 1, vec![]);
    assert_eq!(network.receive(now + 10 * MS).map(|delivery| delivery.to), Some(1));
    network.set_conditions(Conditions { latency: MS, ..Conditions::default() });
    network.send(now, 1, 2, vec![]);
    assert_eq!(network.next_arrival(), Some(now + MS));
}
