//! Priorities that change while something waits.

use super::*;
use crate::connection::state::lanes::Turn;

/// What waited behind bulk would otherwise go on waiting there, for ever where bulk never ends.
#[test]
fn what_waits_already_has_the_new_priority() {
    for (urgent, is_first) in [(6, true), (4, false)] {
        let mut pair = Pair::new();
        let now = pair.now;
        let [bulk, other] = [pair.ends[0].open(), pair.ends[0].open()];
        pair.ends[0].state.set_priority(LaneId::Stream(bulk), 5);
        let mut data = Bytes::from(vec![0; 1_000_000]);
        while pair.ends[0].write(now, bulk, &mut data).unwrap() > 0 {}
        pair.ends[0].write(now, other, &mut Bytes::from_static(b"urgent")).unwrap();
        pair.ends[0].state.set_priority(LaneId::Stream(other), urgent);
        let (mut read, mut before) = (0, None);
        pair.drive_with(Duration::from_secs(60), |pair, side| {
            if side == 1 {
                if let Ok(Some(Some(_))) = pair.ends[1].read(pair.now, other) {
                    before = Some(read);
                }
                while let Ok(Some(Some(chunk))) = pair.ends[1].read(pair.now, bulk) {
                    read += chunk.len();
                }
            }
        });
        assert_eq!(read, 1_000_000);
        let before = before.expect("it has come");
        assert_eq!(before < 100_000, is_first, "{before} bytes came before what has priority {urgent}");
    }
}

/// As a program does that says it before each message.
#[test]
fn the_same_priority_again_costs_no_turn() {
    let mut end = End::new(Instant::now(), settings(), Role::Initiator);
    let ids = [end.open(), end.open()].map(LaneId::Stream);
    for id in ids {
        end.state.lanes.ready(id, Turn::Last);
    }
    end.state.set_priority(ids[0], 0);
    assert_eq!([(); 2].map(|()| end.state.lanes.next_ready()), ids.map(Some));
}
