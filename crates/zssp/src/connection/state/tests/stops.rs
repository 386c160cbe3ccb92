//! Streams that are stopped when all of them has arrived, or end before there is room for them.

use super::super::streams::MAX_STREAMS;
use super::*;
use crate::error::{ReadError, WriteError};
use crate::frame::StreamId;

/// Whatever is lost of what the side that stops has to say.
//= ZSSP-STR-04  the stop is heard of, and not an answer
#[test]
fn a_finished_stream_that_is_stopped_does_not_count_as_read() {
    for read in [0, 3] {
        for lost in [None, Some(0), Some(1), Some(2)] {
            let mut pair = Pair::new();
            let (now, id) = (pair.now, pair.ends[0].open());
            let mut data = Bytes::from_static(b"all there is");
            pair.ends[0].write(now, id, &mut data).unwrap();
            pair.ends[0].finish(now, id);
            pair.drive(20 * MS, [true; 2], &mut Default::default());
            let (now, sent) = (pair.now, pair.sent[1]);
            pair.lost = Box::new(move |side, turn| side == 1 && lost.is_some_and(|lost| turn == sent + lost));
            let end = &mut pair.ends[1];
            let mut rest = Bytes::new();
            if read > 0 {
                rest = end.read(now, id).unwrap().unwrap().unwrap().split_off(read);
            }
            end.with(now, |state, effects| state.stop(now, (id, 7), &rest, effects));
            assert_eq!(end.read(now, id), Err(ReadError::Stopped));
            pair.settle();
            let told = pair.ends[0].state.written(id);
            assert_eq!(told, Some(Err(WriteError::Stopped(7))), "{read} bytes read, {lost:?} lost");
            let now = pair.now;
            for end in &mut pair.ends {
                end.let_go(now, id);
            }
            pair.settle();
            assert_eq!(pair.ends[0].freed, 12);
            for end in &mut pair.ends {
                assert_eq!((end.open_streams(), end.state.received), (0, 0));
            }
        }
    }
}

/// Its end comes by itself, as it does where the last bytes were sent before it was known that they were the last.
#[test]
fn a_stream_of_which_only_the_end_was_not_read_is_not_stopped() {
    for (reads, told) in [(true, Ok(())), (false, Err(WriteError::Stopped(7)))] {
        let mut pair = Pair::new();
        let (now, id) = (pair.now, pair.ends[0].open());
        pair.ends[0].write(now, id, &mut Bytes::from_static(b"all there is")).unwrap();
        pair.drive(20 * MS, [true; 2], &mut Default::default());
        let now = pair.now;
        pair.ends[0].finish(now, id);
        if reads {
            pair.ends[1].read(now, id).unwrap().unwrap().unwrap();
        }
        pair.drive(20 * MS, [true; 2], &mut Default::default());
        let now = pair.now;
        pair.ends[1].with(now, |state, effects| state.stop(now, (id, 7), &[], effects));
        pair.settle();
        assert_eq!(pair.ends[0].state.written(id), Some(told));
    }
}

/// The side that has opened them is done with all, the other still keeps its halves for writing.
fn full() -> (Pair, Vec<StreamId>) {
    let mut pair = Pair::with(Settings { keep_alive: Some(Duration::from_secs(5)), ..settings() });
    let now = pair.now;
    let ids: Vec<_> = (0..MAX_STREAMS).map(|_| pair.ends[0].open()).collect();
    for &id in &ids {
        pair.ends[0].let_go(now, id);
    }
    pair.drive_with(Duration::from_secs(10), |pair, side| {
        while side == 1
            && let Some(id) = pair.ends[1].state.accept_stream()
        {
            assert_eq!(pair.ends[1].read(pair.now, id), Ok(Some(None)));
        }
    });
    assert_eq!([pair.ends[0].open_streams(), pair.ends[1].open_streams()], [0, MAX_STREAMS]);
    (pair, ids)
}

//= ZSSP-STR-05  nor is a message about one
#[test]
fn the_end_of_a_stream_is_heard_of_when_there_is_room_for_it() {
    // A chunk that is not taken for so long as a peer may be silent ends the connection; what is about a stream does not.
    for (has_data, time) in [(true, Duration::from_secs(10)), (false, Duration::from_secs(100))] {
        let (mut pair, ids) = full();
        let (now, [reset, stopped]) = (pair.now, [(); 2].map(|()| pair.ends[0].open()));
        if has_data {
            pair.ends[0].write(now, reset, &mut Bytes::from_static(b"half")).unwrap();
            pair.ends[0].write(now, stopped, &mut Bytes::from_static(b"whole")).unwrap();
        }
        pair.ends[0].with(now, |state, effects| state.reset(now, reset, 7, effects)).unwrap();
        pair.ends[0].with(now, |state, effects| state.stop(now, (stopped, 8), &[], effects));
        pair.drive(time, [true; 2], &mut Default::default());
        assert_eq!(pair.ends[1].state.accept_stream(), None);

        let now = pair.now;
        for id in ids {
            pair.ends[1].let_go(now, id);
        }
        pair.drive(Duration::from_secs(10), [true; 2], &mut Default::default());
        let now = pair.now;
        let end = &mut pair.ends[1];
        assert_eq!([(); 2].map(|()| end.state.accept_stream()), [Some(reset), Some(stopped)]);
        assert_eq!(end.read(now, reset), Err(ReadError::Reset(7)));
        assert_eq!(end.state.written(stopped), Some(Err(WriteError::Stopped(8))));
    }
}
