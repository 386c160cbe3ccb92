//! A road of its own, of which the search knows nothing.

use super::*;

const MS: Duration = Duration::from_millis(1);
const RTT: Duration = Duration::from_millis(20);
const TIMEOUT: Duration = Duration::from_millis(50);

/// A road that carries datagrams of up to `width` bytes, `percent` of which it loses each way.
struct Road {
    now: Instant,
    width: usize,
    percent: u64,
    random: u64,
    probes: usize,
    number: u64,
    /// Whether something else is heard to arrive all the time.
    is_busy: bool,
}

impl Road {
    fn new(width: usize, percent: u64, seed: u64) -> Self {
        Self { now: Instant::now(), width, percent, random: seed, probes: 0, number: 0, is_busy: true }
    }

    fn loses(&mut self) -> bool {
        // A linear congruential step (Knuth's MMIX); its high bits are random enough.
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % 100 < self.percent
    }

    fn passes(&mut self, size: usize) -> bool {
        !self.loses() && size <= self.width
    }

    /// Lets probes go to and fro until there are none any more.
    fn settle(&mut self, mtu: &mut Mtu) {
        let mut answers: Vec<(Instant, Token)> = Vec::new();
        loop {
            while let Some(size) = mtu.next_probe(self.now, self.is_busy.then_some(self.now)) {
                self.number += 1;
                let token = self.number.to_be_bytes();
                mtu.sent(Probe { token, size, sent_at: self.now, deadline: self.now + TIMEOUT });
                self.probes += 1;
                if self.passes(size) && !self.loses() {
                    answers.push((self.now + RTT, token));
                }
            }
            let next = answers.first().map(|(at, _)| *at);
            match next.into_iter().chain(mtu.deadline()).min() {
                None => return,
                Some(at) => self.now = at,
            }
            while answers.first().is_some_and(|(at, _)| *at <= self.now) {
                let (_, token) = answers.remove(0);
                mtu.answered(self.now, token);
            }
        }
    }

    /// Sends payloads of a single datagram, as large as it may be.
    fn carry(&mut self, mtu: &mut Mtu, count: usize) {
        for _ in 0..count {
            self.now += MS;
            let payload = mtu.current() - 32;
            mtu.demand(self.now);
            let sent = self.now;
            self.now += MS;
            if self.passes(mtu.current()) {
                mtu.arrived(self.now, sent, payload);
            } else {
                mtu.lost(sent, payload);
            }
            self.settle(mtu);
        }
    }
}

#[test]
fn the_largest_is_found_with_few_probes() {
    for width in [1200, 1300, 1452, 1472, 4000, 8951, 8952, 9000] {
        for (is_busy, probes) in [(true, 30), (false, 2 * 30)] {
            let (mut mtu, mut road) = (Mtu::new(1200, 8952), Road::new(width, 0, 1));
            road.is_busy = is_busy;
            road.settle(&mut mtu);
            assert_eq!(road.probes, 0, "without demand nothing is asked");
            mtu.demand(road.now);
            road.settle(&mut mtu);
            let found = mtu.current();
            assert!(found <= width && found + PRECISION >= width.min(8952), "{found} of {width}");
            assert!(road.probes <= probes, "{} probes", road.probes);
        }
    }
}

#[test]
fn the_road_is_tried_again_later_and_not_before() {
    let (mut mtu, mut road) = (Mtu::new(1200, 1472), Road::new(1300, 0, 1));
    road.carry(&mut mtu, 100);
    let (narrow, probes) = (mtu.current(), road.probes);
    assert!((1284..=1300).contains(&narrow), "{narrow}");
    road.width = 1472;
    road.carry(&mut mtu, 100);
    assert_eq!((mtu.current(), road.probes), (narrow, probes));
    road.now += AGAIN;
    road.carry(&mut mtu, 1);
    assert_eq!((mtu.current(), road.probes), (1472, probes + 1));
    mtu.moved();
    assert_eq!(mtu.current(), 1200, "nothing is known of another road");
}

#[test]
fn a_road_that_narrows_is_noticed() {
    for percent in [0, 5, 30] {
        let (mut mtu, mut road) = (Mtu::new(1200, 1472), Road::new(1472, percent, 7));
        road.carry(&mut mtu, 100);
        assert_eq!(mtu.current(), 1472);
        road.width = 1300;
        let start = road.now;
        road.carry(&mut mtu, 100);
        assert_eq!(mtu.fallbacks(), 1, "{percent} % lost");
        assert!((1200..=1300).contains(&mtu.current()), "{}", mtu.current());
        println!("noticed with {percent} % lost, and settled after {:?}", road.now - start);
    }
}

#[test]
fn a_whole_time_out_is_enough_of_a_suspicion_and_payloads_are_small_at_once() {
    let (mut mtu, mut road) = (Mtu::new(1200, 1472), Road::new(1472, 0, 1));
    road.carry(&mut mtu, 1);
    let sent = road.now + MS;
    mtu.timed_out(sent, 1168);
    assert_eq!(mtu.current(), 1472, "a payload in datagrams of the base says nothing");
    mtu.timed_out(sent, 60_000);
    assert_eq!(mtu.current(), 1200);
    road.settle(&mut mtu);
    assert_eq!((mtu.current(), mtu.fallbacks()), (1472, 0), "the road is as it was");
}

#[test]
fn what_nobody_acknowledges_is_verified_now_and_then() {
    let (mut mtu, mut road) = (Mtu::new(1200, 1472), Road::new(1472, 0, 1));
    mtu.unacknowledged(road.now, 60_000);
    road.carry(&mut mtu, 1);
    let (start, probes) = (road.now, road.probes);
    for _ in 0..100 {
        road.now += CONFIRMATION / 10;
        mtu.unacknowledged(road.now, 1168);
        assert_eq!(road.probes, probes, "datagrams of the base need no proof");
    }
    while road.now < start + 20 * CONFIRMATION {
        road.now += CONFIRMATION / 10;
        mtu.unacknowledged(road.now, 60_000);
        road.settle(&mut mtu);
        assert_eq!(mtu.current(), 1472);
    }
    // One large probe and one small each time.
    assert!((18..=22).contains(&(road.probes - probes)), "{}", road.probes - probes);
    road.width = 1300;
    road.now += CONFIRMATION;
    mtu.unacknowledged(road.now, 60_000);
    assert_eq!(mtu.current(), 1200);
    road.settle(&mut mtu);
    assert_eq!(mtu.fallbacks(), 1);
    assert!((1284..=1300).contains(&mtu.current()), "{}", mtu.current());
}

#[test]
fn random_loss_is_no_black_hole() {
    let mut fallbacks = 0;
    for seed in 0..200 {
        let (mut mtu, mut road) = (Mtu::new(1200, 1472), Road::new(1472, 30, seed));
        road.carry(&mut mtu, 1000);
        fallbacks += mtu.fallbacks();
    }
    println!("{fallbacks} in 200 roads of 1000 payloads");
    assert_eq!(fallbacks, 0);
}

#[test]
fn a_search_goes_on_where_a_suspicion_interrupted_it() {
    let (mut mtu, mut road) = (Mtu::new(1200, 8952), Road::new(8952, 0, 1));
    let mut answer = |mtu: &mut Mtu, passes: bool| {
        let size = mtu.next_probe(road.now, Some(road.now)).unwrap();
        road.number += 1;
        let token = road.number.to_be_bytes();
        mtu.sent(Probe { token, size, sent_at: road.now, deadline: road.now + TIMEOUT });
        road.now += TIMEOUT;
        if passes {
            assert_eq!(mtu.answered(road.now, token), Some(TIMEOUT));
        }
        (size, road.now)
    };
    mtu.demand(Instant::now());
    for _ in 0..ATTEMPTS {
        assert_eq!(answer(&mut mtu, false).0, 8952);
    }
    let (size, now) = answer(&mut mtu, true);
    assert_eq!((size, mtu.current()), (5076, 5076));
    // One more is asked for when all large payloads seem to be lost, and nothing is the matter.
    mtu.timed_out(now + MS, 60_000);
    assert_eq!(answer(&mut mtu, true).0, 5076);
    let now = now + 10 * TIMEOUT;
    assert_eq!(mtu.next_probe(now, Some(now)), Some(7014), "and not the largest again");
}

#[test]
fn a_search_on_a_road_that_carries_nothing_ends_without_a_conclusion() {
    let (mut mtu, mut road) = (Mtu::new(1200, 1472), Road::new(1472, 100, 1));
    road.is_busy = false;
    mtu.demand(road.now);
    road.settle(&mut mtu);
    assert_eq!(road.probes, 1 + ROUNDS as usize, "a large one, and then whether anything passes");
    road.percent = 0;
    road.now += AGAIN;
    mtu.demand(road.now);
    road.settle(&mut mtu);
    assert_eq!(mtu.current(), 1472);
}

#[test]
fn a_road_that_carries_nothing_is_not_asked_for_ever() {
    let (mut mtu, mut road) = (Mtu::new(1200, 1472), Road::new(1472, 0, 1));
    road.carry(&mut mtu, 1);
    road.percent = 100;
    mtu.timed_out(road.now + MS, 60_000);
    let before = road.probes;
    road.settle(&mut mtu);
    assert_eq!((mtu.fallbacks(), mtu.current()), (0, 1472));
    assert_eq!(road.probes - before, 2 * ROUNDS as usize);
}
