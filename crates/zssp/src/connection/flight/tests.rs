use super::*;
use crate::congestion::NewReno;

fn flight() -> Flight {
    Flight::new(Instant::now(), 1000, Box::new(NewReno::new(1000)))
}

const MS: Duration = Duration::from_millis(1);

fn alone(bytes: u32) -> Landed {
    Landed { bytes, joined: false }
}

fn acked(sent_at: Duration) -> Event {
    Event::Acked { seq: 0.into(), sent_at, rtt: Some(MS), transmissions: 1, in_flight: true }
}

fn timed_out(sent_at: Duration) -> Event {
    Event::TimedOut { seq: 0.into(), sent_at }
}

#[test]
fn the_window_holds_back_and_acknowledgements_let_go() {
    let (mut flight, now) = (flight(), Instant::now());
    for _ in 0..10 {
        assert_eq!(flight.room(now), Room::Open);
        flight.sent(now, 0, 1000);
    }
    assert_eq!(flight.room(now), Room::Full);
    flight.on_event(MS, acked(Duration::ZERO), alone(1000));
    assert_eq!((flight.bytes(), flight.window()), (9000, 11_000));
    assert_eq!(flight.room(now), Room::Open);
    assert_eq!(flight.rtt().smoothed(), Some(MS));
}

#[test]
fn a_timeout_lets_one_probe_out() {
    let (mut flight, now) = (flight(), Instant::now());
    flight.sent(now, 0, 60_000);
    assert_eq!(flight.room(now), Room::Full);
    flight.on_event(MS, timed_out(Duration::ZERO), alone(60_000));
    flight.sent(now, 0, 60_000);
    assert_eq!(flight.room(now), Room::Full, "the probe is larger than the window");
    flight.on_event(3 * MS, timed_out(2 * MS), alone(0));
    assert_eq!(flight.room(now), Room::Open);
    assert_eq!(flight.window(), 2000, "twice in a row: start over");
}

#[test]
fn payloads_shrink_with_the_window_and_with_loss() {
    let (mut flight, now) = (flight(), Instant::now());
    assert_eq!(flight.payload_limit(40_000), 4984, "half of the initial window");
    flight.sent(now, 0, 1_000_000);
    for _ in 0..10 {
        flight.on_event(MS, acked(Duration::ZERO), alone(100_000));
    }
    assert_eq!(flight.payload_limit(40_000), 40_000);
    for _ in 0..300 {
        flight.sent(now, 0, 2000);
        flight.on_event(MS, Event::Lost { seq: 0.into(), sent_at: Duration::ZERO }, alone(2000));
    }
    assert_eq!(flight.payload_limit(40_000), 968, "one fragment");
}

#[test]
fn a_window_is_spread_over_the_round_trip_but_for_a_probe() {
    let (mut flight, now) = (flight(), Instant::now());
    flight.sent(now, 0, 100_000);
    let event =
        Event::Acked { seq: 0.into(), sent_at: MS, rtt: Some(100 * MS), transmissions: 1, in_flight: true };
    flight.on_event(101 * MS, event, alone(100_000));
    assert_eq!(flight.payload_limit(60_000), 4384, "two milliseconds' worth");
    let mut sent = 0;
    while flight.room(now) == Room::Open {
        flight.sent(now, 0, 1000);
        sent += 1;
    }
    // The window is 110 kB, doubled each round trip at first: 2.2 kB a millisecond.
    assert_eq!(sent, 11);
    let Room::Later(later) = flight.room(now) else { panic!("there is room in the window") };
    assert!(later > now && later <= now + MS, "{:?}", later - now);
    assert_eq!(flight.room(later), Room::Open);
    flight.on_event(300 * MS, timed_out(102 * MS), alone(1000));
    assert_eq!(flight.room(now), Room::Open, "a probe does not wait");
}

/// For a road that is known to carry everything.
#[derive(Debug)]
struct Unlimited;

impl Controller for Unlimited {
    fn window(&self) -> u64 {
        u64::MAX
    }
    fn acknowledged(&mut self, _: Acknowledged) {}
    fn lost(&mut self, _: Lost) {}
    fn collapsed(&mut self, _now: Instant) {}
}

#[test]
fn an_even_payload_falls_into_equal_datagrams_and_is_nearly_as_long_as_it_may_be() {
    for mtu in 128..=9000 {
        let mut flight = Flight::new(Instant::now(), mtu, Box::new(Unlimited));
        flight.set_mtu(mtu);
        for max in [5000, 5344, 48 * (mtu - 16) - 16, 47 * (mtu - 16), 58_335]
            .map(|max| max.min(48 * (mtu - 16) - 16))
        {
            let even = flight.even_payload(max);
            let count = (even + 16).div_ceil(mtu - 16);
            assert!((even + 16).is_multiple_of(count), "{even} of {max} at {mtu}");
            assert!(even <= max && even + 48 > max, "{even} of {max} at {mtu}");
        }
    }
}

#[test]
fn a_window_without_end_is_one() {
    let now = Instant::now();
    let mut flight = Flight::new(now, 1000, Box::new(Unlimited));
    flight.sent(now, 0, 1000);
    flight.on_event(MS, acked(Duration::ZERO), alone(1000));
    for _ in 0..1000 {
        assert_eq!(flight.room(now), Room::Open);
        flight.sent(now, 0, 60_000);
    }
    assert_eq!(flight.payload_limit(40_000), 40_000);
}

/// Allows nothing at all.
#[derive(Debug)]
struct Shut;

impl Controller for Shut {
    fn window(&self) -> u64 {
        0
    }
    fn acknowledged(&mut self, _: Acknowledged) {}
    fn lost(&mut self, _: Lost) {}
    fn collapsed(&mut self, _now: Instant) {}
}

#[test]
fn with_nothing_under_way_one_message_may_go_whatever_the_window() {
    let start = Instant::now();
    let mut flight = Flight::new(start, 1000, Box::new(Shut));
    for round in 0..100 {
        let now = start + 10 * MS * round;
        assert_eq!(flight.room(now), Room::Open, "round {round}");
        flight.sent(now, 0, 1000);
        assert_eq!(flight.room(now), Room::Full);
        flight.on_event(10 * MS * round + MS, acked(10 * MS * round), alone(1000));
    }
    assert!(flight.payload_limit(40_000) > 0);
}

fn lost(flight: &mut Flight, now: Instant, sent: Instant) {
    flight.sent(sent, 0, 1000);
    flight.on_part(now, Outcome::Lost, sent, 1000);
}

#[test]
fn what_was_only_late_is_no_congestion_unless_something_is_lost_beside_it() {
    let (mut flight, start) = (flight(), Instant::now());
    lost(&mut flight, start + MS, start);
    lost(&mut flight, start + 2 * MS, start);
    assert_eq!(flight.window(), 5000);
    flight.late(start + 3 * MS, start);
    assert_eq!(flight.window(), 5000, "of two, one is late");
    flight.late(start + 3 * MS, start);
    assert_eq!(flight.window(), 10_000);
    // What is of an earlier round says nothing of the last, even if it is found out at the same time or later.
    let at = |ms: u32| start + MS * ms;
    lost(&mut flight, at(5), at(4));
    lost(&mut flight, at(7), at(5));
    lost(&mut flight, at(7), at(6));
    lost(&mut flight, at(8), at(5));
    assert_eq!(flight.window(), 2500);
    (0..3).for_each(|_| flight.late(at(8), at(5)));
    assert_eq!(flight.window(), 2500);
    flight.late(at(8), at(6));
    assert_eq!(flight.window(), 5000);
    // Nor once the last is taken back.
    lost(&mut flight, at(10), at(9));
    assert_eq!(flight.window(), 2500);
    flight.late(at(11), at(5));
    assert_eq!(flight.window(), 2500);
    flight.late(at(11), at(9));
    assert_eq!(flight.window(), 5000);
}

/// What was sent before the collapse belongs to it, for the controller and here: else what comes late then would take back
/// a reaction to something else.
#[test]
fn what_was_only_late_takes_back_no_other_reaction_after_a_collapse() {
    let (mut flight, start) = (flight(), Instant::now());
    for round in 0..2 {
        flight.sent(start, 0, 1000);
        flight.on_event(100 * MS * round + MS, timed_out(100 * MS * round), alone(1000));
    }
    let at = |ms: u32| start + 200 * MS + MS * ms;
    let grown = 100 * 1000;
    flight.sent(at(0), 0, grown);
    flight.on_event(201 * MS, acked(200 * MS), alone(grown));
    lost(&mut flight, at(2), start);
    lost(&mut flight, at(4), at(2));
    let reduced = flight.window();
    lost(&mut flight, at(6), at(4));
    assert_eq!(flight.window(), reduced, "one sign of congestion");
    flight.late(at(7), at(4));
    assert_eq!(flight.window(), reduced, "what was sent at 2 ms is still lost");
}

/// A road that is cut for a while is found again in slow start, however often that was tried in the meantime.
#[test]
fn a_silence_is_one_collapse() {
    let (mut flight, now) = (flight(), Instant::now());
    for round in 0..10 {
        flight.sent(now, 0, 1000);
        flight.on_event(100 * MS * round + MS, timed_out(100 * MS * round), alone(1000));
    }
    assert_eq!(flight.window(), 2000);
    flight.sent(now, 0, 2000);
    flight.on_event(2000 * MS, acked(1500 * MS), alone(2000));
    assert_eq!((flight.window(), flight.controller.is_in_slow_start()), (4000, true), "up to 5000");
}

#[test]
fn timeouts_of_several_exchanges_at_once_are_one() {
    let (mut flight, now) = (flight(), Instant::now());
    for _ in 0..5 {
        flight.sent(now, 0, 1000);
    }
    for _ in 0..5 {
        flight.on_event(10 * MS, timed_out(Duration::ZERO), alone(1000));
    }
    assert_eq!(flight.window(), 10_000);
}
