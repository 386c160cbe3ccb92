//! What the owner of the link hears, and when it is told.

use std::time::Duration;

use seqex::{
    Ack, AckKind, Answer, ChannelLimits, Clock, Config, Ended, Event, Feedback, GaveUp, Link, Multiplexer,
    Order, Packet, Received,
};

use crate::support::link::{Letter, Task, ends, ends_with};

#[test]
fn a_dropped_driver_closes() {
    let (_, a, b) = ends(2);
    b.exchange.try_send(Order::Ordered, Letter(1)).expect("room");
    b.carry_to(&a);
    let (guard, _) = a.packet().expect("a packet");
    drop(a.driver);
    assert!(a.exchange.is_closed());
    assert_eq!(guard.reply(Order::Ordered, Letter(2)).unwrap_err().data, Letter(2));
}

/// The driver's own waiting, in a thread of its own, without any real time going by.
#[test]
fn a_driver_thread_needs_nothing_else() {
    let (_, a, b) = ends(4);
    std::thread::scope(|scope| {
        for (from, to) in [(&a, &b), (&b, &a)] {
            scope.spawn(|| {
                while from.driver.wait().is_ok() {
                    from.carry_to(to);
                }
            });
        }
        scope.spawn(|| while b.exchange.receive().wait().is_ok() {});
        for letter in 0..200 {
            let answer = a.exchange.request(Order::Ordered, Letter(letter)).wait().expect("an answer");
            assert!(matches!(answer, Answer::Acknowledged { sent: Letter(sent), .. } if sent == letter));
        }
        drop((a.exchange.close(), b.exchange.close()));
    });
}

#[test]
fn packets_that_do_not_fit_come_back() {
    let (_, a, b) = ends(2);
    a.exchange.try_send(Order::Ordered, Letter(5)).expect("room");
    let [Packet::Message(message)] = a.transmit()[..] else { panic!("not one message") };
    assert_eq!(b.driver.receive(Packet::Message(message)), Received::Taken);
    assert!(matches!(b.driver.receive(Packet::Message(message)), Received::Dropped { data: 5, .. }));
}

/// A resend is announced, and its answer comes before anybody has looked: the next packet is announced again.
//= ZSSP-DEF-23  what was announced in vain hides nothing
#[test]
fn what_became_pointless_hides_nothing_that_comes_after() {
    let (clock, a, b) = ends(8);
    let transmitter = Task::default();
    a.exchange.try_send(Order::Unordered, Letter(1)).expect("room");
    a.carry_to(&b);
    drop(b.packet());
    let late = b.transmit();
    let mut transmittable = a.driver.transmittable();
    assert!(transmitter.poll(&mut transmittable).is_pending());
    clock.advance(Duration::from_millis(300));
    a.driver.handle_timeout().expect("an open exchange");
    assert_eq!(transmitter.woken(), 1, "for the resend");
    for packet in late {
        a.driver.receive(packet);
    }
    assert!(transmitter.poll(&mut transmittable).is_pending());
    a.exchange.try_send(Order::Unordered, Letter(2)).expect("room");
    assert!(transmitter.woken() > 0);
    assert!(transmitter.poll(&mut transmittable).is_ready());
}

/// A deadline is announced, and vanishes before anybody has looked: the next one is announced, though it is later.
//= ZSSP-DEF-23  a deadline that has gone hides no later one
#[test]
fn a_deadline_that_has_gone_hides_none_that_comes_after() {
    let (clock, a, b) = ends(8);
    let timer = Task::default();
    let mut moved = a.driver.deadline_moved(a.driver.next_deadline());
    assert!(timer.poll(&mut moved).is_pending());
    a.exchange.try_send(Order::Unordered, Letter(1)).expect("room");
    a.carry_to(&b);
    drop(b.packet());
    b.carry_to(&a);
    assert!(timer.woken() > 0);
    assert!(timer.poll(&mut moved).is_pending(), "nothing is under way any more");
    clock.advance(Duration::from_secs(1));
    a.exchange.try_send(Order::Unordered, Letter(2)).expect("room");
    assert!(timer.woken() > 0, "for what there is to transmit");
    assert!(timer.poll(&mut moved).is_pending());
    a.transmit();
    assert!(timer.woken() > 0);
    assert!(timer.poll(&mut moved).is_ready());
}

/// The owner of the link is told once that the peer is silent; time goes on, so that deadlines are noticed, and a peer
/// that is heard again may fall silent again.
#[test]
fn silence_is_told_once_and_ends_nothing_by_itself() {
    let (clock, a, b) =
        ends_with(Config { give_up_after: Some(Duration::from_secs(1)), ..Config::default() });
    let task = Task::default();
    let mut request = a.exchange.request(Order::Unordered, Letter(1)).within(Duration::from_secs(5));
    assert!(task.poll(&mut request).is_pending());
    let tick = || {
        clock.advance(Duration::from_millis(500));
        a.driver.handle_timeout().is_err()
    };
    drop(a.transmit());
    let told: Vec<bool> = (0..6).map(|_| tick()).collect();
    assert_eq!(told.iter().filter(|told| **told).count(), 1, "{told:?}");
    for _ in 0..6 {
        tick();
    }
    assert!(task.woken() > 0 && task.poll(&mut request).is_ready(), "its time is over");
    // Heard again, and silent again.
    a.carry_to(&b);
    drop(b.packet());
    b.carry_to(&a);
    a.exchange.try_send(Order::Unordered, Letter(2)).expect("room");
    drop(a.transmit());
    assert_eq!((0..6).filter(|_| tick()).count(), 1);
}

/// A deadline counts from when it is set, though the request was polled before, and another one takes its place.
#[test]
fn a_deadline_may_be_set_while_the_request_waits() {
    let (clock, a, _b) = ends_with(Config::default());
    let task = Task::default();
    for between in [None, Some(Duration::from_secs(10))] {
        let mut request = a.exchange.request(Order::Unordered, Letter(1));
        assert!(task.poll(&mut request).is_pending());
        if let Some(longer) = between {
            request = request.within(longer);
            assert!(task.poll(&mut request).is_pending());
        }
        request = request.within(Duration::from_millis(10));
        assert!(task.poll(&mut request).is_pending());
        task.woken();
        clock.advance(Duration::from_millis(11));
        let _ = a.driver.handle_timeout();
        assert!(task.woken() > 0, "the deadline has passed, {between:?} before");
        assert!(task.poll(&mut request).is_ready());
    }
}

/// Whoever waits for another deadline is told of the end, though there never was a deadline.
#[test]
fn closing_ends_the_wait_for_a_deadline() {
    let (_clock, a, _b) = ends_with(Config::default());
    let task = Task::default();
    let mut moved = a.driver.deadline_moved(None);
    assert!(task.poll(&mut moved).is_pending());
    drop(a.exchange.close());
    assert!(task.woken() > 0 && task.poll(&mut moved).is_ready());
}

/// One channel's packets all get lost, and its peer counts as silent: the other one's are sent again as before.
//= ZSSP-SEQ-01  a silent channel holds up no other
#[test]
fn a_silent_channel_stops_no_other() {
    let clock = Clock::manual();
    let limits = ChannelLimits { channels: 2, opened_by_peer: 0 };
    let config = Config { give_up_after: Some(Duration::from_secs(1)), ..Config::default() };
    let (multiplexer, driver) = Multiplexer::<u32>::new(config, limits, clock.clone());
    let [silent, other] = [1, 2].map(|id| multiplexer.open(id).expect("room for two"));
    silent.try_send(Order::Ordered, 1).expect("room");
    let transmit = || {
        let mut channels = Vec::new();
        while let Some((channel, driver)) = driver.next_channel() {
            while driver.transmit(|_| ()).is_some() {
                channels.push(channel);
            }
        }
        channels
    };
    transmit();
    let mut told = 0;
    for _ in 0..20 {
        clock.advance(Duration::from_millis(100));
        told += usize::from(driver.handle_timeout().is_err());
        transmit();
    }
    assert_eq!(told, 1);
    other.try_send(Order::Ordered, 2).expect("room");
    assert_eq!(transmit(), [2]);
    clock.advance(Duration::from_millis(900));
    assert_eq!(driver.handle_timeout(), Ok(()));
    assert!(transmit().contains(&2));
}

/// Two channels fall silent at the same moment: each is told, with its name and once. One is heard and falls silent
/// again before time-outs are handled: it alone is told again.
#[test]
fn each_silent_channel_is_told_once() {
    let clock = Clock::manual();
    let limits = ChannelLimits { channels: 3, opened_by_peer: 0 };
    let config = Config { give_up_after: Some(Duration::from_secs(1)), ..Config::default() };
    let (multiplexer, driver) = Multiplexer::<u32>::new(config, limits, clock.clone());
    let exchanges = [1, 2, 3].map(|id| multiplexer.open(id).expect("room for three"));
    let mut sent = [0, 2].map(|index| {
        let seq = exchanges[index].try_send(Order::Ordered, 1).expect("room");
        GaveUp { seq, since: clock.now() }
    });
    let transmit = || {
        while let Some((_, driver)) = driver.next_channel() {
            while driver.transmit(|_| ()).is_some() {}
        }
    };
    transmit();
    clock.advance(Duration::from_secs(2));
    for (channel, gave_up) in [1, 3].into_iter().zip(sent) {
        assert_eq!(driver.wait(), Err(Ended::Silent { channel, gave_up }));
    }
    assert_eq!(driver.handle_timeout(), Ok(()));

    let ack = Ack { kind: AckKind::Answered, first: sent[1].seq, count: 1 };
    driver.receive(3, Packet::Ack(ack)).expect("an open channel");
    let seq = exchanges[2].try_send(Order::Ordered, 2).expect("room");
    sent[1] = GaveUp { seq, since: clock.now() };
    transmit();
    clock.advance(Duration::from_secs(2));
    assert_eq!(driver.wait(), Err(Ended::Silent { channel: 3, gave_up: sent[1] }));
    assert_eq!(driver.handle_timeout(), Ok(()));
}

#[test]
fn the_owner_of_the_link_learns_what_became_of_each_transmission() {
    let (clock, a, b) = ends_with(Config { feedback: Feedback::Collect, ..Config::default() });
    let events = || Vec::from_iter(std::iter::from_fn(|| a.driver.poll_event()));
    let seq = a.exchange.try_send(Order::Unordered, Letter(1)).expect("room");
    let sent_at = clock.now();
    drop(a.transmit());
    assert_eq!((a.driver.in_flight(), events()), (1, vec![]));
    clock.advance(Duration::from_millis(250));
    a.driver.handle_timeout().expect("an open exchange");
    assert_eq!(events(), [Event::TimedOut { seq, sent_at }]);
    a.carry_to(&b);
    drop(b.packet());
    b.carry_to(&a);
    assert!(matches!(events()[..], [Event::Acked { rtt: None, transmissions: 2, in_flight: true, .. }]));

    a.exchange.try_send(Order::Unordered, Letter(2)).expect("room");
    a.carry_to(&b);
    clock.advance(Duration::from_millis(40));
    drop(b.packet());
    b.carry_to(&a);
    let rtt = Some(Duration::from_millis(40));
    assert!(matches!(events()[..], [Event::Acked { rtt: measured, .. }] if measured == rtt));
    assert_eq!((a.driver.in_flight(), a.driver.smoothed_rtt()), (0, rtt));
}

/// All of a window is lost before anything was measured, and the application answers nothing. What arrives is told, so that
/// what does not is found out by evidence, and not by one time-out after the other.
#[test]
fn a_lost_window_is_repaired_while_nothing_is_answered() {
    let (clock, a, b) = ends(64);
    let sent = (0..64).take_while(|&n| a.exchange.try_send(Order::Unordered, Letter(n)).is_ok()).count();
    drop(a.transmit());
    let start = clock.now();
    let mut guards = Vec::new();
    while guards.len() < sent {
        let next = [&a, &b].into_iter().filter_map(|end| end.driver.next_deadline()).min();
        clock.advance(next.expect("something is under way").saturating_sub(clock.now()));
        for end in [&a, &b] {
            end.driver.handle_timeout().expect("an open exchange");
        }
        while a.carry_to(&b) + b.carry_to(&a) > 0 {}
        guards.extend(std::iter::from_fn(|| b.packet()));
    }
    let took = clock.now().saturating_sub(start);
    assert!(took < Duration::from_secs(3), "{took:?}");
}

/// Who answers at once has nothing to tell, and nothing to wait for: not even where a message was answered long before.
#[test]
fn what_is_answered_at_once_is_not_told_to_be_held() {
    let (clock, a, b) = ends(8);
    for letter in 0..3 {
        a.exchange.try_send(Order::Unordered, Letter(letter)).expect("room");
        a.carry_to(&b);
        let due = b.driver.next_deadline().expect("it is held");
        assert!(due > clock.now() && b.transmit().is_empty());
        drop(b.packet());
        assert_eq!(b.driver.next_deadline(), None);
        assert!(matches!(b.transmit()[..], [Packet::Ack(Ack { kind: AckKind::Answered, .. })]));
        clock.advance(Duration::from_secs(1));
    }
}
