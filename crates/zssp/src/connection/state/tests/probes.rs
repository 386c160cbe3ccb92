//! How large datagrams may be, found out beside everything else.

use super::*;

/// Of a message in parts no payload has more than one fragment; whole ones would have fewer if datagrams were larger.
#[test]
fn parts_make_larger_datagrams_worth_looking_for() {
    let mut pair = Pair::with(Settings { mtu: 1232, max_mtu: 1472, ..settings() });
    let now = pair.now;
    let id = LaneId::Channel(CHANNEL);
    pair.ends[0].send(now, Order::Ordered, &[1; 3000]).unwrap();
    let state = &mut pair.ends[0].state;
    let message = state.lanes.get_mut(id).unwrap().poll_message(id, Duration::ZERO, 3000).unwrap();
    state.divide(id, message);
    assert!(state.next_part(now).is_some());
    let [_, there] = pair.settle();
    assert_eq!(there.len(), 1);
    assert_eq!(pair.ends[0].state.stats().mtu, 1472);
}

/// What is lost while nothing gets through says nothing about sizes.
#[test]
fn a_road_that_is_cut_during_the_search_is_found_to_be_as_wide_as_before() {
    let mut pair = Pair::with(Settings { mtu: 1232, max_mtu: 1472, ..settings() });
    let now = pair.now;
    pair.ends[0].send(now, Order::Ordered, &[1; 3000]).unwrap();
    pair.lost = Box::new(|_, _| true);
    pair.drive(Duration::from_secs(20), [true, true], &mut Default::default());
    pair.lost = Box::new(|_, _| false);
    let [_, there] = pair.settle();
    assert_eq!(there.len(), 1);
    assert_eq!(pair.ends[0].state.stats().mtu, 1472);
}

//= ZSSP-LIV-07  the window does not notice
#[test]
fn lost_probes_are_no_congestion() {
    let mut pair = Pair::with(Settings { mtu: 1232, max_mtu: 1472, ..settings() });
    // Messages are larger than any probe, and acknowledgements smaller.
    pair.lost_by_content = Some(Box::new(|payload| (1233 - 32..3000).contains(&payload.len())));
    let window = pair.ends[0].state.flight.window();
    let now = pair.now;
    for number in 0..50u8 {
        pair.ends[0].send(now, Order::Ordered, &[number; 3000]).unwrap();
    }
    let [_, there] = pair.settle();
    let stats = pair.ends[0].state.stats();
    assert_eq!((there.len(), stats.messages_lost, stats.messages_resent, stats.timeouts), (50, 0, 0, 0));
    assert_eq!((stats.mtu, stats.mtu_fallbacks), (1232, 0));
    assert!(pair.sent[0] >= 50 + 3 * 3, "probes were sent: {}", pair.sent[0]);
    assert!(stats.congestion_window > window);
}
