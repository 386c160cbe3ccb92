//! Datagrams that several tasks deliver while the application reads.

use std::iter;

use bytes::Bytes;
use loom::sync::Arc;
use loom::thread;

use crate::inbox::{Inbox, cost};

const DATAGRAM: &[u8] = b"datagram";

const COST: usize = cost(DATAGRAM.len());

/// What becomes of three datagrams, one of which was there before.
struct Fates {
    dropped: usize,
    read: usize,
    /// In the end.
    left: usize,
}

/// Has `TASKS` tasks `deliver` a datagram at a time, two in all, which says how many are dropped for that; and the
/// application read one meanwhile. There is room for so many.
///
/// For every interleaving of at most four preemptions, unless `LOOM_MAX_PREEMPTIONS` says otherwise.
fn model<const TASKS: usize>(room: usize, deliver: fn(&Inbox, Bytes) -> usize, check: fn(Fates)) {
    let datagram = || Bytes::from_static(DATAGRAM);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(4);
    builder.check(move || {
        let inbox = Arc::new(Inbox::new(room * COST));
        assert!(inbox.push_if_room(datagram()));
        let tasks = [(); TASKS].map(|()| {
            let inbox = inbox.clone();
            thread::spawn(move || (0..2 / TASKS).map(|_| deliver(&inbox, datagram())).sum::<usize>())
        });
        let read = usize::from(inbox.pop().is_some());
        let dropped = tasks.map(|task| task.join().unwrap()).iter().sum();
        let held = inbox.held();
        let left = iter::from_fn(|| inbox.pop()).count();
        assert!(inbox.is_empty());
        assert_eq!((held, inbox.held()), (left * COST, 0), "it counts what is there");
        assert_eq!(dropped + read + left, 3);
        check(Fates { dropped, read, left });
    });
}

#[test]
fn loom_the_newest_are_dropped_where_there_is_no_room_and_only_there() {
    let deliver = |inbox: &Inbox, data| {
        let has_room = inbox.push_if_room(data);
        assert!(inbox.held() <= 2 * COST);
        usize::from(!has_room)
    };
    model::<2>(2, deliver, |fates| {
        assert_eq!(fates.read, 1, "nobody takes what was there first");
        assert!(fates.dropped <= 1, "one of them always finds room");
    });
}

#[test]
fn loom_the_oldest_are_dropped_until_there_is_room() {
    let deliver = |inbox: &Inbox, data| usize::try_from(inbox.push_for_oldest(data)).unwrap();
    model::<1>(1, deliver, |fates| assert!(fates.left <= 1));
    model::<2>(2, deliver, |fates| assert!(fates.dropped <= 2, "not the last to arrive"));
}
