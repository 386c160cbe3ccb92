//! Streams, over the same road.

use std::task::Waker;

use bytes::Buf;

use super::super::streams::{CONTROL_QUEUE, MAX_STREAMS};
use super::*;
use crate::error::{ReadError, WriteError};
use crate::frame::{CHUNK_OVERHEAD, Control, StreamId};

impl End {
    pub(super) fn open(&mut self) -> StreamId {
        self.state.open_stream().unwrap().unwrap()
    }

    /// Writes as much of `data` as there is room for, and takes that off its front.
    pub(super) fn write(
        &mut self,
        now: Instant,
        id: StreamId,
        data: &mut Bytes,
    ) -> Result<usize, WriteError> {
        let wanted = data.len().min(10_000);
        let waker = Some(Waker::noop().clone());
        let lent = self.with(now, |state, effects| state.lend(id, wanted, waker, effects))?;
        let Some(lent) = lent else { return Ok(0) };
        let (len, written) = lent.fill(data, &self.buffers);
        self.with(now, |state, effects| state.write(id, written, effects))?;
        data.advance(len);
        Ok(len)
    }

    pub(super) fn finish(&mut self, now: Instant, id: StreamId) {
        self.with(now, |state, effects| state.finish(id, effects)).unwrap();
    }

    pub(super) fn read(&mut self, now: Instant, id: StreamId) -> Result<Option<Option<Bytes>>, ReadError> {
        self.with(now, |state, effects| state.read(now, id, Some(Waker::noop().clone()), effects))
    }

    pub(super) fn let_go(&mut self, now: Instant, id: StreamId) {
        self.with(now, |state, effects| state.drop_writer(id, effects));
        self.with(now, |state, effects| state.drop_reader(now, id, &[], effects));
    }

    pub(super) fn open_streams(&mut self) -> usize {
        self.state
            .lanes
            .iter_mut()
            .filter(|(id, _)| matches!(id, LaneId::Stream(_)) && *id != LaneId::CONTROL)
            .count()
    }
}

/// What one side writes to a stream, and what it has read of it.
struct Side {
    unwritten: Bytes,
    finished: bool,
    read: Vec<u8>,
    ended: bool,
}

impl Side {
    fn new(data: Vec<u8>) -> Self {
        Self { unwritten: data.into(), finished: false, read: Vec::new(), ended: false }
    }

    fn act(&mut self, end: &mut End, now: Instant, id: StreamId) {
        while !self.unwritten.is_empty() && end.write(now, id, &mut self.unwritten).unwrap() > 0 {}
        if self.unwritten.is_empty() && !self.finished {
            end.finish(now, id);
            self.finished = true;
        }
        while !self.ended
            && let Some(chunk) = end.read(now, id).unwrap()
        {
            match chunk {
                Some(chunk) => self.read.extend_from_slice(&chunk),
                None => self.ended = true,
            }
        }
    }
}

fn content(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 3) as u8 ^ seed).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// Whatever is lost, all that is written is read, in both directions of every stream, and nothing stays behind.
    #[test]
    fn everything_written_is_read(
        seed in any::<u64>(),
        percent in 0u64..40,
        lengths in proptest::collection::vec((0usize..200_000, 0usize..200_000), 1..6),
    ) {
        let mut pair = Pair::with(Settings { give_up_after: Duration::from_secs(3600), ..settings() });
        let mut random = seed;
        pair.lost = Box::new(move |_, _| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % 100 < percent
        });
        let mut streams = Vec::new();
        for (number, &(here, there)) in lengths.iter().enumerate() {
            let seed = number as u8;
            // Both sides open some.
            let opener = number % 2;
            let sides = [Side::new(content(seed, here)), Side::new(content(!seed, there))];
            streams.push((pair.ends[opener].open(), opener, sides));
        }
        let mut accepted = Vec::new();
        pair.drive_with(Duration::from_secs(3600), |pair, side| {
            let now = pair.now;
            accepted.extend(std::iter::from_fn(|| pair.ends[side].state.accept_stream()));
            for (id, opener, sides) in &mut streams {
                if side == *opener || accepted.contains(id) {
                    sides[side].act(&mut pair.ends[side], now, *id);
                }
            }
        });
        let mut written = [0, 0];
        for ((_, _, [here, there]), (number, &(sent, answered))) in streams.iter().zip(lengths.iter().enumerate()) {
            prop_assert!(there.read == content(number as u8, sent));
            prop_assert!(here.read == content(!(number as u8), answered));
            written[0] += sent;
            written[1] += answered;
        }
        for (end, written) in pair.ends.iter_mut().zip(written) {
            prop_assert_eq!(end.open_streams(), 0, "a stream is left");
            prop_assert_eq!((end.state.flight.bytes(), end.state.received, end.freed), (0, 0, written));
            prop_assert_eq!(end.deadline, None, "a timer is left");
        }
    }
}

#[test]
fn a_reader_that_does_not_read_stops_its_writer_and_no_other() {
    let mut pair = Pair::new();
    let [blocked, other] = [pair.ends[0].open(), pair.ends[0].open()];
    let mut endless = Bytes::from(vec![1; 4 * CREDIT]);
    let mut side = Side::new(content(2, 100_000));
    let mut there = Side::new(Vec::new());
    let mut opened = 0;
    pair.drive_with(Duration::from_secs(120), |pair, at| {
        let now = pair.now;
        if at == 0 {
            while pair.ends[0].write(now, blocked, &mut endless).unwrap() > 0 {}
            side.act(&mut pair.ends[0], now, other);
        } else {
            opened += std::iter::from_fn(|| pair.ends[1].state.accept_stream()).count();
            if opened == 2 {
                there.act(&mut pair.ends[1], now, other);
            }
        }
    });
    assert!(there.read == content(2, 100_000));
    let accepted = 4 * CREDIT - endless.len();
    assert!(
        (CREDIT / 2 - 10_000..=CREDIT / 2).contains(&accepted),
        "{accepted}: as much as is left to others"
    );
    assert!(pair.ends[1].state.received <= accepted);
    assert_eq!(pair.ends[0].state.ended(), None);
    // Once it reads, all that was accepted arrives.
    let mut read = 0;
    pair.drive_with(Duration::from_secs(120), |pair, at| {
        while at == 1
            && let Some(Some(chunk)) = pair.ends[1].read(pair.now, blocked).unwrap()
        {
            read += chunk.len();
        }
    });
    assert_eq!(read, accepted);
}

#[test]
fn what_has_a_higher_priority_goes_first() {
    let mut pair = Pair::new();
    let now = pair.now;
    let [low, high] = [pair.ends[0].open(), pair.ends[0].open()];
    pair.ends[0].state.set_priority(LaneId::Stream(high), 1);
    for id in [low, high] {
        let mut data = Bytes::from(vec![0; 500_000]);
        while pair.ends[0].write(now, id, &mut data).unwrap() > 0 {}
    }
    let mut arrived = Vec::new();
    pair.drive_with(Duration::from_secs(60), |pair, side| {
        if side == 1 {
            // What comes in the same moment counts for the urgent one.
            for id in [high, low] {
                while let Ok(Some(Some(chunk))) = pair.ends[1].read(pair.now, id) {
                    arrived.push((id, chunk.len()));
                }
            }
        }
    });
    let first_low = arrived.iter().position(|&(id, _)| id == low).unwrap();
    let before: usize = arrived[..first_low].iter().map(|&(_, len)| len).sum();
    assert_eq!(before, 500_000, "all of the urgent stream comes before any of the other");
    assert_eq!(arrived.iter().map(|&(_, len)| len).sum::<usize>(), 1_000_000);
}

/// A chunk of a stream as it is inside of a payload.
fn chunk(id: u64, seq: u32, content: &[u8]) -> Vec<u8> {
    let lane = LaneId::Stream(StreamId::new(id));
    let prefix = lane.group().prefix().unwrap();
    [&prefix[..], &[0x12], &lane.channel().to_be_bytes(), &seq.to_be_bytes(), content].concat()
}

//= ZSSP-STR-02  of this side's numbers, only those it has opened
#[test]
fn a_stream_that_nobody_can_have_opened_ends_the_connection() {
    for payload in [chunk(1, 0, &[0, 1]), chunk(2, 0, &[0, 1]), chunk(3, 0, &[]), chunk(3, 0, &[0])] {
        let mut pair = Pair::new();
        let now = pair.now;
        pair.ends[0].handle_payload(now, &payload);
        assert!(matches!(pair.ends[0].state.ended(), Some(CloseReason::Protocol(_))), "{payload:02x?}");
    }
}

//= ZSSP-STR-05  one beyond the limit is not taken; its peer will ask again
#[test]
fn the_peer_opens_no_more_streams_than_it_may() {
    let mut pair = Pair::new();
    let now = pair.now;
    let last = 3 + 2 * (MAX_STREAMS as u64 - 1);
    pair.ends[0].handle_payload(now, &chunk(last + 2, 0, &[0, 1]));
    assert_eq!(pair.ends[0].open_streams(), 0);
    pair.ends[0].handle_payload(now, &chunk(last, 0, &[0, 1]));
    assert_eq!(pair.ends[0].open_streams(), MAX_STREAMS, "those before it are opened with it");
    pair.ends[0].handle_payload(now, &chunk(last + 2, 0, &[0, 1]));
    assert_eq!(pair.ends[0].open_streams(), MAX_STREAMS);
    assert_eq!(pair.ends[0].state.ended(), None);
    // This side waits by itself.
    for _ in 0..MAX_STREAMS {
        pair.ends[1].open();
    }
    assert_eq!(pair.ends[1].state.open_stream(), Ok(None));
}

//= ZSSP-STR-06  one byte more than the receiver has allowed
#[test]
fn a_peer_that_sends_more_than_it_may_ends_the_connection() {
    let mut pair = Pair::new();
    let now = pair.now;
    let content = vec![0; 50_001];
    let mut left = CREDIT;
    for seq in 0.. {
        let (stream, seq) = (3 + 2 * (seq / 60), (seq % 60) as u32);
        pair.ends[0].handle_payload(now, &chunk(stream, seq, &content[..content.len().min(left + 1)]));
        assert_eq!(pair.ends[0].state.ended(), None);
        left = left.saturating_sub(50_000);
        if left == 0 {
            break;
        }
    }
    pair.ends[0].handle_payload(now, &chunk(203, 0, &[0, 1]));
    assert!(matches!(pair.ends[0].state.ended(), Some(CloseReason::Protocol(_))));
}

//= ZSSP-STR-07  again and again, without any memory of the stream
#[test]
fn chunks_of_a_stream_that_is_over_are_answered() {
    let mut pair = Pair::new();
    let now = pair.now;
    let last = chunk(3, 0, &[1]);
    pair.ends[0].handle_payload(now, &last);
    let id = pair.ends[0].state.accept_stream().unwrap();
    assert_eq!(pair.ends[0].read(now, id), Ok(Some(None)));
    pair.ends[0].let_go(now, id);
    // The chunk that ends the other direction is answered, too.
    let mut ack = LaneId::Stream(id).group().prefix().unwrap().to_vec();
    ack.extend_from_slice(&[0x18, 0, 3, 1, 0, 0, 0, 0, 0]);
    pair.step(0);
    pair.ends[0].handle_payload(now, &ack);
    pair.step(0);
    assert_eq!(pair.ends[0].open_streams(), 0);
    for _ in 0..3 {
        pair.ends[1].inbound.clear();
        pair.ends[0].handle_payload(now, &last);
        pair.step(0);
        let (_, answer) = pair.ends[1].inbound.pop_back().unwrap();
        assert_eq!(answer, ack);
    }
    assert_eq!(pair.ends[0].open_streams(), 0);
}

#[test]
fn a_reset_stream_leaves_nothing_behind() {
    let mut pair = Pair::new();
    let now = pair.now;
    let id = pair.ends[0].open();
    let mut data = Bytes::from(vec![7; 1_000_000]);
    while pair.ends[0].write(now, id, &mut data).unwrap() > 0 {}
    let mut received = [Vec::new(), Vec::new()];
    pair.drive(LATENCY, [true; 2], &mut received);
    let now = pair.now;
    pair.ends[0].with(now, |state, effects| state.reset(now, id, 5, effects)).unwrap();
    pair.settle();
    let now = pair.now;
    assert_eq!(pair.ends[1].read(now, id), Err(ReadError::Reset(5)));
    for end in &mut pair.ends {
        end.let_go(now, id);
    }
    pair.settle();
    assert_eq!(pair.ends[0].freed, 1_000_000);
    for end in &mut pair.ends {
        assert_eq!((end.open_streams(), end.state.received), (0, 0));
    }
}

/// A task's waker is foreign code when it is dropped, too.
struct Task;

impl std::task::Wake for Task {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn no_waker_is_dropped_under_the_lock() {
    let mut pair = Pair::new();
    let (now, state) = (pair.now, &mut pair.ends[0].state);
    let (id, task, mut effects) = (state.open_stream().unwrap().unwrap(), Arc::new(Task), Effects::default());
    let waker = || Some(Waker::from(task.clone()));
    // All the room that one writer gets; then it waits twice.
    while state.writable(id, usize::MAX, None, &mut effects).unwrap() > 0 {}
    for _ in 0..2 {
        assert_eq!(state.writable(id, CREDIT, waker(), &mut effects), Ok(0));
        assert!(state.read(now, id, waker(), &mut effects).unwrap().is_none());
    }
    assert_eq!(Arc::strong_count(&task), 1 + 4, "two wait, two wait for the lock to be released");
    state.handle_session_end(CloseReason::TimedOut, &mut effects);
    assert_eq!(Arc::strong_count(&task), 1 + 4);
    drop(effects);
    assert_eq!(Arc::strong_count(&task), 1);
}

/// They are a few bytes each, and end transfers that nobody wants any more.
#[test]
fn messages_about_streams_go_before_whatever_has_the_highest_priority() {
    let mut pair = Pair::new();
    let now = pair.now;
    let [bulk, given_up] = [pair.ends[0].open(), pair.ends[0].open()];
    pair.ends[0].state.set_priority(LaneId::Stream(bulk), 5);
    pair.ends[0].write(now, given_up, &mut Bytes::from_static(b"once")).unwrap();
    pair.drive(10 * MS, [true; 2], &mut [Vec::new(), Vec::new()]);
    let now = pair.now;
    let mut data = Bytes::from(vec![0; 1_000_000]);
    while pair.ends[0].write(now, bulk, &mut data).unwrap() > 0 {}
    pair.step(0);
    pair.ends[0].with(now, |state, effects| state.reset(now, given_up, 5, effects)).unwrap();
    let (mut read, mut before) = (0, None);
    pair.drive_with(Duration::from_secs(60), |pair, side| {
        if side == 1 {
            if before.is_none() && matches!(pair.ends[1].read(pair.now, given_up), Err(ReadError::Reset(5))) {
                before = Some(read);
            }
            while let Ok(Some(Some(chunk))) = pair.ends[1].read(pair.now, bulk) {
                read += chunk.len();
            }
        }
    });
    assert_eq!(read, 1_000_000);
    let before = before.expect("the reset has come");
    assert!(before < 100_000, "{before} bytes of the other stream came before the reset");
}

#[test]
fn a_peer_that_does_not_take_messages_about_streams_is_told_and_left() {
    let mut pair = Pair::new();
    let now = pair.now;
    let id = pair.ends[0].open();
    for _ in 0..=CONTROL_QUEUE {
        assert_eq!(pair.ends[0].state.ended(), None);
        pair.ends[0].with(now, |state, effects| state.send_control(now, Control::Stop(id, 0), effects));
    }
    assert!(matches!(pair.ends[0].state.ended(), Some(CloseReason::Protocol(_))));
    pair.settle();
    let told = pair.ends[1].state.ended();
    assert!(matches!(told, Some(CloseReason::Peer { code: frame::PROTOCOL_VIOLATION, .. })), "{told:?}");
    assert!(pair.ends[0].over && pair.ends[1].over);
}

/// The driver would look again and again at what cannot be said any more.
#[test]
fn a_command_that_ends_the_connection_leaves_no_timer() {
    let mut pair = Pair::new();
    let now = pair.now;
    let id = pair.ends[1].open();
    pair.ends[1].write(now, id, &mut Bytes::from_static(b"not read")).unwrap();
    pair.drive(10 * MS, [true; 2], &mut [Vec::new(), Vec::new()]);
    let now = pair.now;
    assert_eq!(pair.ends[0].state.accept_stream(), Some(id));
    for _ in 0..CONTROL_QUEUE {
        pair.ends[0].with(now, |state, effects| state.send_control(now, Control::Stop(id, 0), effects));
    }
    assert_eq!(pair.ends[0].state.ended(), None);
    pair.ends[0].with(now, |state, effects| state.stop(now, (id, 0), &[], effects));
    assert!(matches!(pair.ends[0].state.ended(), Some(CloseReason::Protocol(_))));
    assert_eq!(pair.ends[0].state.acks.deadline(), None);
}

/// Each leaves two messages about it.
#[test]
fn opening_and_giving_up_streams_waits_for_the_peer_to_hear_of_it() {
    let mut pair = Pair::new();
    let mut opened = 0;
    while opened < 2 * CONTROL_QUEUE {
        let now = pair.now;
        let before = opened;
        while let Some(id) = pair.ends[0].state.open_stream().unwrap() {
            opened += 1;
            pair.ends[0].with(now, |state, effects| state.reset(now, id, 1, effects)).unwrap();
            pair.ends[0].let_go(now, id);
        }
        assert!(opened - before <= CONTROL_QUEUE, "{} at once", opened - before);
        pair.drive_with(Duration::from_secs(1), |pair, side| {
            let now = pair.now;
            while let Some(id) = pair.ends[side].state.accept_stream() {
                pair.ends[side].let_go(now, id);
            }
        });
        assert!(opened > before, "no more are opened");
    }
    pair.settle();
    for end in &mut pair.ends {
        assert_eq!(end.open_streams(), 0);
        assert_eq!(end.state.ended(), None);
    }
}

/// What is written while nothing can be sent goes in chunks as large as they may be, not in as many as there were writes.
#[test]
fn small_writes_that_wait_fill_whole_chunks() {
    let (mut pair, limit) = (Pair::new(), settings().max_payload - CHUNK_OVERHEAD);
    let (now, id) = (pair.now, pair.ends[0].open());
    let written: Vec<u8> = (0..300_000).map(|at| (at / 1000) as u8).collect();
    for write in written.chunks(8 * 1024) {
        let mut write = Bytes::copy_from_slice(write);
        while !write.is_empty() {
            assert!(pair.ends[0].write(now, id, &mut write).unwrap() > 0, "there is room");
        }
    }
    let stream = pair.ends[0].state.stream(id).unwrap();
    let chunks: Vec<Bytes> =
        std::iter::from_fn(|| stream.next_chunk(limit)).map(|sending| sending.data).collect();
    let (last, whole) = chunks.split_last().unwrap();
    let full = whole[0].len();
    assert!(whole.iter().all(|chunk| chunk.len() == full) && last.len() == 300_000 % full);
    assert!((limit - 50..=limit + 4).contains(&full), "{full}");
    assert_eq!(chunks.concat(), written);
}

/// So that those of one payload go out together with those of the next.
#[test]
fn bulk_falls_into_equal_datagrams() {
    let mut pair = Pair::new();
    let (tell, told) = std::sync::mpsc::channel();
    pair.lost_by_content = Some(Box::new(move |payload| tell.send(payload.len()).is_err()));
    let id = pair.ends[0].open();
    let mut sides = [Side::new(content(1, 2_000_000)), Side::new(Vec::new())];
    let mut is_accepted = false;
    pair.drive_with(Duration::from_secs(60), |pair, side| {
        let now = pair.now;
        is_accepted |= pair.ends[side].state.accept_stream().is_some();
        if side == 0 || is_accepted {
            sides[side].act(&mut pair.ends[side], now, id);
        }
    });
    assert_eq!(sides[1].read.len(), 2_000_000);
    let packets = told.try_iter().map(|payload| payload + 16).filter(|packet| *packet > 59_000);
    let (mut even, mut other) = (0, 0);
    for packet in packets {
        match packet % packet.div_ceil(settings().mtu - 16) {
            0 => even += 1,
            _ => other += 1,
        }
    }
    assert!(even >= 10 && other <= 1, "{even} payloads of equal datagrams, {other} others");
}

/// A writer has the last chunk in its hands.
#[test]
fn what_is_being_written_is_waited_for_by_a_close() {
    let mut pair = Pair::new();
    let (now, id) = (pair.now, pair.ends[0].open());
    pair.ends[0].write(now, id, &mut Bytes::from_static(b"this, ")).unwrap();
    let end = &mut pair.ends[0];
    let lent = end.with(now, |state, effects| state.lend(id, 4, None, effects)).unwrap().unwrap();
    end.with(now, |state, effects| state.close(now, 0, b"", effects));
    pair.drive(50 * MS, [true; 2], &mut [Vec::new(), Vec::new()]);
    let now = pair.now;
    assert!(pair.ends[0].state.ended().is_none());
    let (len, written) = lent.fill(b"that", &pair.ends[0].buffers.clone());
    assert_eq!(len, 4);
    pair.ends[0].with(now, |state, effects| state.write(id, written, effects)).unwrap();
    assert_eq!(
        pair.ends[0].write(now, id, &mut Bytes::from_static(b"more")),
        Err(WriteError::ConnectionLost(CloseReason::Local))
    );
    pair.ends[0].let_go(now, id);
    let mut read = Vec::new();
    pair.drive_with(Duration::from_secs(10), |pair, side| {
        let now = pair.now;
        if side == 1 {
            pair.ends[1].state.accept_stream();
            while let Ok(Some(Some(chunk))) = pair.ends[1].read(now, id) {
                read.extend_from_slice(&chunk);
            }
        }
    });
    assert_eq!(read, b"this, that");
    assert_eq!(pair.ends[0].state.ended(), Some(&CloseReason::Local));
}

#[test]
fn the_room_of_what_is_being_written_comes_back_when_the_peer_stops_the_stream() {
    let mut pair = Pair::new();
    let (now, id) = (pair.now, pair.ends[0].open());
    pair.ends[0].write(now, id, &mut Bytes::from_static(b"this, ")).unwrap();
    let end = &mut pair.ends[0];
    let lent = end.with(now, |state, effects| state.lend(id, 4, None, effects)).unwrap().unwrap();
    end.with(now, |state, effects| {
        state.handle_control(now, &Control::Stop(id, 9).to_bytes(), effects).unwrap();
    });
    assert_eq!(end.freed, 0, "it is still being written");
    let (_, written) = lent.fill(b"that", &end.buffers.clone());
    let refused = end.with(now, |state, effects| state.write(id, written, effects));
    assert_eq!(refused, Err(WriteError::Stopped(9)));
    assert_eq!(end.freed, 10);
    end.let_go(now, id);
    pair.settle();
    assert_eq!(pair.ends[0].open_streams(), 0);
}

//= ZSSP-STR-07  whatever they came in
#[test]
fn many_late_answers_travel_together() {
    let mut pair = Pair::new();
    let (tell, told) = std::sync::mpsc::channel();
    pair.lost_by_content = Some(Box::new(move |payload| tell.send(payload.to_vec()).is_err()));
    let mut streams: Vec<_> =
        (0..20).map(|_| (pair.ends[0].open(), [Side::new(vec![1]), Side::new(vec![])])).collect();
    let mut accepted = Vec::new();
    pair.drive_with(Duration::from_secs(60), |pair, side| {
        let now = pair.now;
        accepted.extend(std::iter::from_fn(|| pair.ends[side].state.accept_stream()));
        for (id, sides) in &mut streams {
            if side == 0 || accepted.contains(id) {
                sides[side].act(&mut pair.ends[side], now, *id);
            }
        }
    });
    assert_eq!(pair.ends[1].open_streams(), 0);
    let bundle = told.try_iter().find(|payload| payload[0] == 0xD9).expect("twenty chunks");
    let (now, before) = (pair.now, pair.sent[1]);
    pair.ends[1].handle_payload(now, &bundle);
    pair.step(1);
    assert!((1..=2).contains(&(pair.sent[1] - before)), "{}", pair.sent[1] - before);
}

#[test]
fn a_writer_dropped_while_its_connection_is_being_closed_ends_no_stream() {
    let mut pair = Pair::new();
    let now = pair.now;
    let id = pair.ends[0].open();
    pair.ends[0].write(now, id, &mut Bytes::from_static(b"half of it")).unwrap();
    pair.ends[0].with(now, |state, effects| state.close(now, 7, b"", effects));
    pair.ends[0].let_go(now, id);
    let (mut read, mut end) = (Vec::new(), None);
    pair.drive_with(Duration::from_secs(10), |pair, side| {
        let now = pair.now;
        while side == 1 && end.is_none() {
            match pair.ends[1].read(now, id) {
                // Before the stream is there, reading it looks like its end.
                _ if read.is_empty() && pair.ends[1].open_streams() == 0 => return,
                Ok(None) => return,
                Ok(Some(Some(chunk))) => read.extend_from_slice(&chunk),
                Ok(Some(None)) => end = Some(Ok(())),
                Err(error) => end = Some(Err(error)),
            }
        }
    });
    assert_eq!(read, b"half of it");
    let closed = CloseReason::Peer { code: 7, reason: b""[..].into() };
    assert_eq!(end, Some(Err(ReadError::ConnectionLost(closed))), "half of it is not taken for all");
    assert!(pair.ends[0].over && pair.ends[1].over);
}
