//! Commands on streams, and the messages about them.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Instant;

use bytes::Bytes;
use seqex::{SeqNo, Token};
use zssp_proto::Role;

use super::lane::{Content, Lane};
use super::lanes::Turn;
use super::stream::{Lent, ReceiveHalf, SendHalf, Stream, Written};
use super::{Effects, Kind, State, urgency};
use crate::connection::acks::Urgency;
use crate::error::{CloseReason, ReadError, WriteError};
use crate::frame::{CHUNK_HEAD, CHUNK_OVERHEAD, Control, LaneId, Malformed, StreamId};

/// Streams that each side may have open at a time; both ends count on it.
pub(crate) const MAX_STREAMS: usize = 256;

/// Messages about streams that may wait for a place in their window. This side opens no streams while half as many wait; a
/// peer that does not take them and goes on opening streams breaks the rules.
pub(super) const CONTROL_QUEUE: usize = 8 * MAX_STREAMS;

/// What a writer gets room for at the least, where the buffer is small.
const LEAST: usize = 16 * 1024;

/// Answers to chunks of streams that are over, at most: a chunk that gets none comes again.
const LATE_ANSWERS: usize = 256;

/// What is known of a connection's streams as a whole.
#[derive(Debug)]
pub(super) struct Streams {
    /// The number of the next stream this side opens, and the peer.
    own_next: u64,
    peer_next: u64,
    own_open: usize,
    peer_open: usize,
    /// Opened by the peer, and not yet accepted.
    pub(super) accepting: VecDeque<StreamId>,
    /// Chunks that came for streams that are over.
    pub(super) late: VecDeque<(StreamId, SeqNo)>,
}

/// Where a message belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// There are too many streams open; there will be room when some end.
    Full,
    Here,
    /// The stream was there, and is over.
    Over,
}

impl Streams {
    pub(super) fn new(role: Role) -> Self {
        //= ZSSP-STR-02  even and odd, in sequence
        let (own_next, peer_next) = match role {
            Role::Initiator => (2, 3),
            Role::Responder => (3, 2),
        };
        let (accepting, late) = (VecDeque::new(), VecDeque::new());
        Self { own_next, peer_next, own_open: 0, peer_open: 0, accepting, late }
    }

    fn is_own(&self, id: StreamId) -> bool {
        id.number() % 2 == self.own_next % 2
    }
}

/// Look, and command.
impl State {
    /// Opens a stream, unless as many as may be are open. The peer hears of it with the first chunk.
    pub(in crate::connection) fn open_stream(&mut self) -> Result<Option<StreamId>, CloseReason> {
        self.may_send()?;
        if !self.may_open_stream() {
            return Ok(None);
        }
        let id = StreamId::new(self.streams.own_next);
        self.streams.own_next += 2;
        self.streams.own_open += 1;
        self.add_lane(LaneId::Stream(id), Content::Stream(Box::new(Stream::new())));
        Ok(Some(id))
    }

    pub(in crate::connection) fn may_open_stream(&self) -> bool {
        self.streams.own_open < MAX_STREAMS
            && self.control_backlog() < CONTROL_QUEUE / 2
            && StreamId::new(self.streams.own_next) <= StreamId::MAX
    }

    /// The next stream that the peer has opened.
    pub(in crate::connection) fn accept_stream(&mut self) -> Option<StreamId> {
        self.streams.accepting.pop_front()
    }

    pub(in crate::connection) fn has_streams(&self) -> bool {
        !self.streams.accepting.is_empty()
    }

    /// Takes room for a chunk of as many of `wanted` bytes as there may be now; where that is none, `waker` is told when to
    /// ask again. They must be written at once.
    pub(in crate::connection) fn writable(
        &mut self,
        id: StreamId,
        wanted: usize,
        waker: Option<Waker>,
        effects: &mut Effects,
    ) -> Result<usize, WriteError> {
        self.writing(id)?;
        Ok(self.take_piece(id, wanted.min(self.full_chunk()), waker, effects))
    }

    /// The same for bytes that are copied: into the chunk that was written last as long as it waits, so that chunks become
    /// full however small the writes are. It is lent, so that they are not copied under the lock.
    pub(in crate::connection) fn lend(
        &mut self,
        id: StreamId,
        wanted: usize,
        waker: Option<Waker>,
        effects: &mut Effects,
    ) -> Result<Option<Lent>, WriteError> {
        let full = self.full_chunk();
        let gap = self.writing(id)?.gap(full);
        let room = self.take_piece(id, wanted.min(gap), waker, effects);
        if room == 0 {
            return Ok(None);
        }
        Ok(Some(Lent { block: self.writing(id)?.lend(), room, is_filled: room == gap }))
    }

    /// Room for `wanted` bytes, or for as many as are worth a chunk: who took as little as was just answered would send the
    /// same small chunks for ever (RFC 1122 section 4.2.3.4).
    fn take_piece(
        &mut self,
        id: StreamId,
        wanted: usize,
        waker: Option<Waker>,
        effects: &mut Effects,
    ) -> usize {
        let least = wanted.min(LEAST.max(self.rooms.piece()));
        self.take_room(LaneId::Stream(id), least..=wanted, waker, effects)
    }

    /// Bytes of the largest chunk that by itself falls into equal datagrams.
    fn full_chunk(&self) -> usize {
        let largest = self.settings.max_payload - (CHUNK_OVERHEAD - CHUNK_HEAD);
        self.flight.even_payload(largest) - CHUNK_HEAD
    }

    /// Takes what was written, for which there is room. Where a close has begun meanwhile it goes all the same: what was lent
    /// has earlier writes in it.
    pub(in crate::connection) fn write(
        &mut self,
        id: StreamId,
        data: Written,
        effects: &mut Effects,
    ) -> Result<(), WriteError> {
        let may_go = self.phase.may_answer().is_ok();
        match self.stream(id) {
            Some(stream) if may_go && stream.sending == SendHalf::Open => stream.push(data),
            Some(stream) => {
                stream.discard();
                stream.account.answered(Kind::Message, data.len(), effects);
                // A close may wait for what was lent.
                effects.driver = true;
                return self.writing(id).map(drop);
            }
            None => return self.writing(id).map(drop),
        }
        self.lanes.ready(LaneId::Stream(id), Turn::Last);
        effects.driver = true;
        Ok(())
    }

    /// Ends the stream after what was written.
    pub(in crate::connection) fn finish(
        &mut self,
        id: StreamId,
        effects: &mut Effects,
    ) -> Result<(), WriteError> {
        match self.writing(id) {
            Ok(stream) => {
                stream.sending = SendHalf::Finishing;
                stream.account.withdraw(effects);
            }
            // There is nothing to end.
            Err(WriteError::Stopped(_)) => return Ok(()),
            Err(error) => return Err(error),
        }
        self.lanes.ready(LaneId::Stream(id), Turn::Last);
        effects.driver = true;
        Ok(())
    }

    /// Gives the stream up.
    pub(in crate::connection) fn reset(
        &mut self,
        now: Instant,
        id: StreamId,
        code: u32,
        effects: &mut Effects,
    ) -> Result<(), WriteError> {
        if self.ended().is_some() {
            return Ok(());
        }
        match self.stream(id) {
            Some(stream) => match stream.sending {
                SendHalf::Open | SendHalf::Finishing | SendHalf::Finished => {
                    stream.stop_sending(SendHalf::Reset, effects);
                }
                SendHalf::Stopped(code) => return Err(WriteError::Stopped(code)),
                SendHalf::Read => return Err(WriteError::Finished),
                SendHalf::Reset => return Err(WriteError::Reset),
            },
            None => return Err(WriteError::Finished),
        }
        self.send_control(now, Control::Reset(id, code), effects);
        Ok(())
    }

    /// How writing has ended, once it has: with all read, or stopped by the peer.
    pub(in crate::connection) fn written(&mut self, id: StreamId) -> Option<Result<(), WriteError>> {
        match self.stream(id).map(|stream| stream.sending) {
            Some(SendHalf::Open | SendHalf::Finishing | SendHalf::Finished) => {
                self.ended().cloned().map(|reason| Err(WriteError::ConnectionLost(reason)))
            }
            Some(SendHalf::Stopped(code)) => Some(Err(WriteError::Stopped(code))),
            Some(SendHalf::Reset) => Some(Err(WriteError::Reset)),
            Some(SendHalf::Read) | None => Some(Ok(())),
        }
    }

    /// The application lets go of the sending half, which ends the stream where that can still be said.
    pub(in crate::connection) fn drop_writer(&mut self, id: StreamId, effects: &mut Effects) {
        if self.writing(id).is_ok() {
            let finished = self.finish(id, effects);
            debug_assert!(finished.is_ok(), "it can be written to");
        }
        if let Some(stream) = self.stream(id) {
            stream.has_writer = false;
        }
        self.sweep(LaneId::Stream(id), effects);
    }

    /// The next chunk; `Ok(Some(None))` at the end of the stream, `Ok(None)` where there is none yet: then `waker` is told. The
    /// chunk before it is answered by this.
    pub(in crate::connection) fn read(
        &mut self,
        now: Instant,
        id: StreamId,
        waker: Option<Waker>,
        effects: &mut Effects,
    ) -> Result<Option<Option<Bytes>>, ReadError> {
        let read = self.stream(id).and_then(Stream::take_read);
        if self.ended().is_none() {
            self.answer(now, id, read, effects);
        }
        let ended = self.ended().cloned();
        // Without an exchange it is over, which only the end of the stream or of the connection can bring about here.
        let Some(stream) = self.stream(id) else {
            return ended.map_or(Ok(Some(None)), |reason| Err(ReadError::ConnectionLost(reason)));
        };
        match stream.receiving {
            ReceiveHalf::Ended => return Ok(Some(None)),
            ReceiveHalf::Reset(code) => return Err(ReadError::Reset(code)),
            ReceiveHalf::Stopping | ReceiveHalf::Stopped => return Err(ReadError::Stopped),
            ReceiveHalf::Open | ReceiveHalf::Last => {}
        }
        if let Some(reason) = ended {
            return Err(ReadError::ConnectionLost(reason));
        }
        match stream.read() {
            None => {
                if let Some(waker) = waker {
                    effects.idle.extend(stream.reader.replace(waker));
                }
                Ok(None)
            }
            // Only the last chunk may be empty.
            Some(data) if data.is_empty() => {
                let read = stream.take_read();
                self.answer(now, id, read, effects);
                Ok(Some(None))
            }
            Some(data) => {
                self.release_next(now, id, effects);
                Ok(Some(Some(data)))
            }
        }
    }

    /// The application reads no more. `rest` is what it has not taken of the chunk in front of it.
    pub(in crate::connection) fn stop(
        &mut self,
        now: Instant,
        (id, code): (StreamId, u32),
        rest: &[u8],
        effects: &mut Effects,
    ) {
        if self.ended().is_some() {
            return;
        }
        let Some(stream) = self.stream(id) else { return };
        let unread = match stream.receiving {
            ReceiveHalf::Open | ReceiveHalf::Last if rest.is_empty() && stream.ends_here() => {
                // There is nothing left to be stopped.
                stream.stop_receiving(ReceiveHalf::Ended, effects)
            }
            ReceiveHalf::Open | ReceiveHalf::Last => {
                let unread = stream.stop_receiving(ReceiveHalf::Stopping, effects);
                self.send_control(now, Control::Stop(id, code), effects);
                unread
            }
            ReceiveHalf::Ended | ReceiveHalf::Reset(_) | ReceiveHalf::Stopping | ReceiveHalf::Stopped => {
                return;
            }
        };
        self.answer(now, id, unread, effects);
    }

    //= ZSSP-STR-04  the peer knows of the stop before the last chunk is answered
    /// The peer has taken in a message about streams.
    pub(super) fn control_answered(&mut self, now: Instant, message: &[u8], effects: &mut Effects) {
        // There is room for another.
        effects.openings = true;
        if let Ok(Control::Stop(id, _)) = Control::parse(message)
            && let Some(stream) = self.stream(id)
        {
            let withheld = stream.stop_is_known();
            self.answer(now, id, withheld, effects);
            self.sweep(LaneId::Stream(id), effects);
        }
    }

    /// The application lets go of the receiving half.
    pub(in crate::connection) fn drop_reader(
        &mut self,
        now: Instant,
        id: StreamId,
        rest: &[u8],
        effects: &mut Effects,
    ) {
        self.stop(now, (id, 0), rest, effects);
        if let Some(stream) = self.stream(id) {
            stream.has_reader = false;
        }
        self.sweep(LaneId::Stream(id), effects);
    }

    /// The stream, if the application may still write to it.
    fn writing(&mut self, id: StreamId) -> Result<&mut Stream, WriteError> {
        self.may_send()?;
        match self.stream(id) {
            Some(stream) => match stream.sending {
                SendHalf::Open => Ok(stream),
                SendHalf::Stopped(code) => Err(WriteError::Stopped(code)),
                SendHalf::Reset => Err(WriteError::Reset),
                SendHalf::Finishing | SendHalf::Finished | SendHalf::Read => Err(WriteError::Finished),
            },
            None => Err(WriteError::Finished),
        }
    }

    pub(super) fn stream(&mut self, id: StreamId) -> Option<&mut Stream> {
        match self.lanes.get_mut(LaneId::Stream(id)).map(|lane| &mut lane.content) {
            Some(Content::Stream(stream)) => Some(stream),
            _ => None,
        }
    }

    fn answer(
        &mut self,
        now: Instant,
        id: StreamId,
        read: impl IntoIterator<Item = (Token, usize)>,
        effects: &mut Effects,
    ) {
        let id = LaneId::Stream(id);
        let mut answered = false;
        for (token, len) in read {
            self.received -= len;
            if let Some(lane) = self.lanes.get_mut(id) {
                lane.exchange.acknowledge(token);
            }
            self.note(id, now, urgency(len), effects);
            answered = true;
        }
        if answered {
            self.settle_own(id, now, effects);
        }
    }

    /// A chunk is on its way to the reader: the next may come out of the exchange.
    fn release_next(&mut self, now: Instant, id: StreamId, effects: &mut Effects) {
        let id = LaneId::Stream(id);
        if let Some(Lane { exchange, content: Content::Stream(stream), .. }) = self.lanes.get_mut(id) {
            stream.release_next(exchange);
            self.settle_own(id, now, effects);
        }
    }
}

/// What the peer says.
impl State {
    /// Where a chunk belongs; its stream is made if it is new, with all that the peer has opened before.
    pub(super) fn place_of(&mut self, id: StreamId, effects: &mut Effects) -> Result<Place, Malformed> {
        if self.lanes.get(LaneId::Stream(id)).is_some() {
            return Ok(Place::Here);
        }
        let is_new = match self.streams.is_own(id) {
            true if id.number() < self.streams.own_next => false,
            true => return Err(Malformed::Stream),
            false => id.number() >= self.streams.peer_next,
        };
        if !is_new {
            return if id.number() < 2 { Err(Malformed::Stream) } else { Ok(Place::Over) };
        }
        let new = (id.number() - self.streams.peer_next) / 2 + 1;
        //= ZSSP-STR-05  those beyond the limit have to wait
        if new > (MAX_STREAMS - self.streams.peer_open) as u64 {
            return Ok(Place::Full);
        }
        while self.streams.peer_next <= id.number() {
            let opened = StreamId::new(self.streams.peer_next);
            self.streams.peer_next += 2;
            self.streams.peer_open += 1;
            self.streams.accepting.push_back(opened);
            self.add_lane(LaneId::Stream(opened), Content::Stream(Box::new(Stream::new())));
        }
        effects.streams = true;
        Ok(Place::Here)
    }

    //= ZSSP-STR-05  a reset of one beyond the limit has to wait as its chunks do
    /// Whether a message about streams is about one that there is no room for yet.
    pub(super) fn has_to_wait(&mut self, message: &[u8], effects: &mut Effects) -> Result<bool, Malformed> {
        match Control::parse(message)? {
            Control::Credit(_) => Ok(false),
            Control::Reset(id, _) | Control::Stop(id, _) => Ok(self.place_of(id, effects)? == Place::Full),
        }
    }

    /// Takes in a message about streams.
    pub(super) fn handle_control(
        &mut self,
        now: Instant,
        message: &[u8],
        effects: &mut Effects,
    ) -> Result<(), Malformed> {
        match Control::parse(message)? {
            Control::Credit(bytes) => {
                self.rooms.grow(self.settings.send_buffer.min(bytes as usize), &self.settings);
                effects.driver = true;
            }
            Control::Reset(id, code) => {
                if self.place_of(id, effects)? != Place::Here {
                    return Ok(());
                }
                let Some(stream) = self.stream(id) else { return Ok(()) };
                if stream.receiving == ReceiveHalf::Open {
                    let unread = stream.stop_receiving(ReceiveHalf::Reset(code), effects);
                    self.answer(now, id, unread, effects);
                    self.settle(LaneId::Stream(id), now, effects)?;
                    self.sweep(LaneId::Stream(id), effects);
                }
            }
            Control::Stop(id, code) => {
                if self.place_of(id, effects)? != Place::Here {
                    return Ok(());
                }
                let Some(lane) = self.lanes.get_mut(LaneId::Stream(id)) else { return Ok(()) };
                if let Content::Stream(stream) = &mut lane.content
                    && matches!(stream.sending, SendHalf::Open | SendHalf::Finishing | SendHalf::Finished)
                {
                    stream.stop_sending(SendHalf::Stopped(code), effects);
                    lane.tell_settled(effects);
                    self.sweep(LaneId::Stream(id), effects);
                }
            }
        }
        Ok(())
    }

    pub(super) fn send_control(&mut self, now: Instant, control: Control, effects: &mut Effects) {
        self.need_control();
        if let Some(Lane { content: Content::Control(queue), .. }) = self.lanes.get_mut(LaneId::CONTROL) {
            if queue.len() >= CONTROL_QUEUE {
                self.refuse(now, Malformed::Backlog, effects);
                return;
            }
            queue.push_back(control.to_bytes().into());
        }
        self.lanes.ready(LaneId::CONTROL, Turn::Next);
        effects.driver = true;
    }

    /// How many messages about streams wait for a place in their window.
    fn control_backlog(&self) -> usize {
        match self.lanes.get(LaneId::CONTROL).map(|lane| &lane.content) {
            Some(Content::Control(queue)) => queue.len(),
            _ => 0,
        }
    }

    /// Makes the exchange of messages about streams if it is not there.
    pub(super) fn need_control(&mut self) {
        if self.lanes.get(LaneId::CONTROL).is_none() {
            self.add_lane(LaneId::CONTROL, Content::Control(VecDeque::new()));
        }
    }

    //= ZSSP-STR-07  without any memory of it
    /// A chunk has come for a stream that is over: the peer has not heard the answer.
    pub(super) fn answer_late(&mut self, now: Instant, id: StreamId, seq: SeqNo, effects: &mut Effects) {
        if self.streams.late.len() < LATE_ANSWERS {
            self.streams.late.push_back((id, seq));
            self.schedule_acks(now, Urgency::Now, effects);
        }
    }

    /// Forgets the stream if it is over.
    pub(super) fn sweep(&mut self, id: LaneId, effects: &mut Effects) {
        let LaneId::Stream(number) = id else { return };
        let Some(lane) = self.lanes.get(id) else { return };
        let Content::Stream(stream) = &lane.content else { return };
        if stream.is_over() && lane.is_drained() && lane.exchange.is_idle() && !lane.has_acks {
            if let Some(mut lane) = self.lanes.remove(id) {
                self.rooms.forget(id, &mut lane.content);
            }
            self.assemblies.forget_all(id);
            if self.streams.is_own(number) {
                self.streams.own_open -= 1;
                effects.openings = true;
            } else {
                self.streams.peer_open -= 1;
            }
        }
    }
}

impl From<CloseReason> for WriteError {
    fn from(reason: CloseReason) -> Self {
        Self::ConnectionLost(reason)
    }
}
