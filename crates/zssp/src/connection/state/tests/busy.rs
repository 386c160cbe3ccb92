//! A close does not depend on the peer's coming to an end.

use super::*;

/// Replies to everything, or asks again for each answer.
fn ask_on(pair: &mut Pair, side: usize) {
    let now = pair.now;
    if side == 1 {
        while pair.ends[1].receive(now).is_some() && pair.ends[1].state.ended().is_none() {
            pair.ends[1].send(now, Order::Unordered, b"and this?").unwrap();
        }
        return;
    }
    while let Some(Arrived { token, data, answers }) = pair.ends[0].take(now) {
        let (answering, reply) = (answering(token, &data, answers.as_ref()), Bytes::from_static(b"yes"));
        // Refused once the close is on its way.
        let _ = pair.ends[0].with(now, |state, effects| state.reply(now, answering, reply, effects));
    }
}

#[test]
fn a_close_ends_though_the_peer_asks_on() {
    let mut pair = Pair::new();
    let start = pair.now;
    for _ in 0..10 {
        pair.ends[1].send(start, Order::Unordered, b"is it so?").unwrap();
    }
    pair.drive_with(100 * MS, ask_on);
    let now = pair.now;
    pair.ends[0].with(now, |state, effects| state.close(now, 3, b"", effects));
    pair.drive_with(settings().give_up_after + 100 * MS, ask_on);
    assert_eq!(
        pair.ends[0].state.ended(),
        Some(&CloseReason::Local),
        "nothing of its own was left unanswered"
    );
    assert!(matches!(pair.ends[1].state.ended(), Some(CloseReason::Peer { code: 3, .. })));
}
