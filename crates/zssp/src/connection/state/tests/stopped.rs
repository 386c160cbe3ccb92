//! A machine that is stopped in the middle, and goes on much later: nobody has been silent.

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn pair() -> Pair {
    let [idle, alive] = [30, 10].map(Duration::from_secs);
    Pair::with(Settings { idle_timeout: Some(idle), keep_alive: Some(alive), ..settings() })
}

/// From some time on everything is lost: first of all so many messages.
fn cut_off_with(messages: usize) -> Pair {
    let mut pair = pair();
    pair.drive(Duration::from_secs(60), [true, true], &mut Default::default());
    pair.lost = Box::new(|_, _| true);
    for _ in 0..messages {
        let now = pair.now;
        pair.ends[0].send(now, Order::Ordered, b"a question").unwrap();
    }
    pair.step(0);
    pair
}

/// Lets time pass in which nobody looks at a clock, and then a few seconds as usual.
fn stop(pair: &mut Pair) -> [Vec<Bytes>; 2] {
    pair.now += HOUR;
    let mut received = [Vec::new(), Vec::new()];
    pair.drive(Duration::from_secs(5), [true, true], &mut received);
    received
}

#[test]
fn a_peer_that_was_not_listened_to_is_not_silent() {
    for messages in [0, 1] {
        let mut pair = cut_off_with(messages);
        pair.lost = Box::new(|_, _| false);
        let [_, there] = stop(&mut pair);
        assert_eq!(there.len(), messages);
        assert_eq!([0, 1].map(|side| pair.ends[side].state.ended()), [None, None]);
    }
}

/// Perhaps it has no network yet when it goes on, or looks at nothing but its clock.
#[test]
fn a_machine_that_is_stopped_again_as_soon_as_it_goes_on_listens_again() {
    for messages in [0, 1] {
        let mut pair = cut_off_with(messages);
        for _ in 0..3 {
            pair.now += HOUR;
            pair.drive(Duration::from_millis(500), [true, true], &mut Default::default());
        }
        pair.lost = Box::new(|_, _| false);
        let [_, there] = stop(&mut pair);
        assert_eq!(there.len(), messages);
        assert_eq!([0, 1].map(|side| pair.ends[side].state.ended()), [None, None]);
    }
}

#[test]
fn a_close_goes_on() {
    let mut pair = pair();
    let now = pair.now;
    pair.lost = Box::new(|_, _| true);
    pair.ends[0].send(now, Order::Ordered, b"a question").unwrap();
    pair.ends[0].with(now, |state, effects| state.close(now, 7, b"done", effects));
    (0..2).for_each(|side| pair.step(side));
    pair.lost = Box::new(|_, _| false);
    let [_, there] = stop(&mut pair);
    assert_eq!(there.len(), 1);
    let reason = CloseReason::Peer { code: 7, reason: b"done"[..].into() };
    assert_eq!([0, 1].map(|side| pair.ends[side].state.ended()), [Some(&CloseReason::Local), Some(&reason)]);
}

#[test]
fn a_peer_that_is_gone_by_then_is_noticed() {
    for messages in [0, 1] {
        let mut pair = cut_off_with(messages);
        stop(&mut pair);
        for end in &pair.ends {
            assert_eq!(end.state.ended(), Some(&CloseReason::TimedOut));
        }
    }
}
