//! Streams that are stopped when all of them has arrived.

use super::*;
use crate::error::{ReadError, WriteError};

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
