//! The two halves of a stream, on one exchange: what one side writes is chunks, which the other answers when they are
//! read. So the window of the exchange is the stream's flow control, and nothing else is needed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use seqex::{SeqEx, Token};

use super::room::Account;
use super::{Effects, Kind, Sending};
use crate::buffers::{Block, Buffers};
use crate::frame::Chunk;

/// Chunks taken out of the exchange before they are read: one is read, one is ready. Each takes a place of the window
/// that carries our own chunks, so all others wait inside.
const TAKEN: usize = 2;

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) sending: SendHalf,
    /// Accepted, and waiting for a place in the window.
    chunks: VecDeque<Bytes>,
    /// The last chunk, which has room for more.
    open: Block,
    /// The writer has the last chunk, and is filling it.
    is_lent: bool,
    pub(super) account: Account,
    pub(super) receiving: ReceiveHalf,
    inbox: VecDeque<(Token, Bytes, Chunk)>,
    /// The chunk that is being read.
    reading: Option<(Token, usize)>,
    /// The last chunk of a stream that was stopped before it was read, until the peer knows that. Otherwise its answer might
    /// come first, and say that it was read.
    withheld: Option<(Token, usize)>,
    /// Waits for the next.
    pub(super) reader: Option<Waker>,
    /// Whether the application has, or is yet to get, each half.
    pub(super) has_writer: bool,
    pub(super) has_reader: bool,
}

/// How far writing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SendHalf {
    Open,
    /// There is nothing more to come; the last chunk still has to be told so.
    Finishing,
    /// The last chunk is under way.
    Finished,
    /// The last chunk was read.
    Read,
    Reset,
    /// The peer reads no more.
    Stopped(u32),
}

/// How far reading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReceiveHalf {
    Open,
    /// The last chunk is the one in front of the reader.
    Last,
    /// The reader has seen the end.
    Ended,
    /// The peer gave up.
    Reset(u32),
    /// This side gave up, and the peer may not know it yet.
    Stopping,
    /// This side gave up, and the peer knows it.
    Stopped,
}

impl Stream {
    pub(super) fn new() -> Self {
        Self {
            sending: SendHalf::Open,
            chunks: VecDeque::new(),
            open: Block::default(),
            is_lent: false,
            account: Account::default(),
            receiving: ReceiveHalf::Open,
            inbox: VecDeque::new(),
            reading: None,
            withheld: None,
            reader: None,
            has_writer: true,
            has_reader: true,
        }
    }

    /// How many bytes the last chunk still takes until it has `full`.
    pub(super) fn gap(&mut self, full: usize) -> usize {
        if self.open.len() >= full {
            self.end_chunk();
        }
        full - self.open.len()
    }

    /// The last chunk, to be filled and [given back](Self::push).
    pub(super) fn lend(&mut self) -> Block {
        self.is_lent = true;
        std::mem::take(&mut self.open)
    }

    /// Adds what was written.
    pub(super) fn push(&mut self, data: Written) {
        self.is_lent = false;
        match data {
            Written::Open(block) => self.open = block,
            Written::Whole(data) => {
                self.end_chunk();
                self.chunks.push_back(data);
            }
        }
    }

    /// What was lent is not written any more.
    pub(super) fn discard(&mut self) {
        self.is_lent = false;
    }

    fn end_chunk(&mut self) {
        if !self.open.is_empty() {
            self.chunks.push_back(std::mem::take(&mut self.open).into_bytes());
        }
    }

    /// The next chunk, of up to `limit` bytes.
    pub(super) fn next_chunk(&mut self, limit: usize) -> Option<Sending> {
        if self.chunks.is_empty() {
            self.end_chunk();
        }
        let data = match self.chunks.front_mut() {
            Some(front) if front.len() > limit => front.split_to(limit),
            Some(_) => self.chunks.pop_front()?,
            None if self.sending == SendHalf::Finishing => Bytes::new(),
            None => return None,
        };
        let is_last = self.sending == SendHalf::Finishing && self.is_drained_of_data();
        let chunk = if is_last { Chunk::Last } else { Chunk::Middle };
        if is_last {
            self.sending = SendHalf::Finished;
        }
        let cost = data.len();
        Some(Sending { chunk: Some(chunk), ..Sending::new(data, cost) })
    }

    fn is_drained_of_data(&self) -> bool {
        self.chunks.is_empty() && self.open.is_empty() && !self.is_lent
    }

    /// Whether everything written is in the exchange.
    pub(super) fn is_drained(&self) -> bool {
        self.is_drained_of_data() && self.sending != SendHalf::Finishing
    }

    /// Sends nothing more. What waits is given up, and its room with it.
    pub(super) fn stop_sending(&mut self, why: SendHalf, effects: &mut Effects) {
        self.sending = why;
        let waiting = self.chunks.iter().map(Bytes::len).sum::<usize>() + self.open.len();
        self.account.answered(Kind::Message, waiting, effects);
        self.account.withdraw(effects);
        effects.discarded.extend(self.chunks.drain(..));
        self.open = Block::default();
    }

    /// Lets the exchange hand out the next chunk, unless enough wait to be read: until then the newest of them is the one
    /// whose critical section lasts.
    pub(super) fn release_next(&self, exchange: &mut SeqEx<Sending, Bytes>) {
        if self.inbox.len() < TAKEN
            && let Some((newest, ..)) = self.inbox.back()
        {
            exchange.release(newest);
        }
    }

    pub(super) fn arrived(&mut self, token: Token, data: Bytes, chunk: Chunk, effects: &mut Effects) {
        self.inbox.push_back((token, data, chunk));
        effects.wakers.extend(self.reader.take());
    }

    /// The chunk that was being read is read. Yields what to answer, and how many bytes it had.
    pub(super) fn take_read(&mut self) -> Option<(Token, usize)> {
        let read = self.reading.take();
        if read.is_some() && self.receiving == ReceiveHalf::Last {
            self.receiving = ReceiveHalf::Ended;
        }
        read
    }

    /// The next chunk to be read.
    pub(super) fn read(&mut self) -> Option<Bytes> {
        let (token, data, chunk) = self.inbox.pop_front()?;
        self.reading = Some((token, data.len()));
        if chunk == Chunk::Last {
            self.receiving = ReceiveHalf::Last;
        }
        Some(data)
    }

    /// Whether nothing but the end is left to be read behind the chunk in front of the reader.
    pub(super) fn ends_here(&self) -> bool {
        match self.inbox.front() {
            None => self.receiving == ReceiveHalf::Last,
            Some((_, data, chunk)) => data.is_empty() && *chunk == Chunk::Last,
        }
    }

    /// Reads nothing more. Yields what is to be answered because of it.
    pub(super) fn stop_receiving(&mut self, why: ReceiveHalf, effects: &mut Effects) -> Vec<(Token, usize)> {
        let current = if self.receiving == ReceiveHalf::Last { Chunk::Last } else { Chunk::Middle };
        self.receiving = why;
        effects.wakers.extend(self.reader.take());
        let reading = self.reading.take().map(|(token, len)| (token, len, current));
        let unread = self.inbox.drain(..).map(|(token, data, chunk)| (token, data.len(), chunk));
        let unread: Vec<_> = reading.into_iter().chain(unread).collect();
        unread.into_iter().filter_map(|(token, len, chunk)| self.discard_chunk(token, len, chunk)).collect()
    }

    /// A chunk is not read. Yields it again if it is to be answered now.
    pub(super) fn discard_chunk(&mut self, token: Token, len: usize, chunk: Chunk) -> Option<(Token, usize)> {
        if self.receiving == ReceiveHalf::Stopping && chunk == Chunk::Last {
            self.withheld = Some((token, len));
            return None;
        }
        Some((token, len))
    }

    /// The peer knows that the stream was stopped. Yields what is to be answered because of it.
    pub(super) fn stop_is_known(&mut self) -> Option<(Token, usize)> {
        if self.receiving == ReceiveHalf::Stopping {
            self.receiving = ReceiveHalf::Stopped;
        }
        self.withheld.take()
    }

    /// The connection is over.
    pub(super) fn close(&mut self, effects: &mut Effects) {
        effects.discarded.extend(self.chunks.drain(..));
        effects.wakers.extend(self.account.writer.take());
        effects.wakers.extend(self.reader.take());
    }

    /// Whether both halves are done with, and the application knows.
    pub(super) fn is_over(&self) -> bool {
        let sent = match self.sending {
            SendHalf::Open | SendHalf::Finishing | SendHalf::Finished => false,
            SendHalf::Read => true,
            SendHalf::Reset | SendHalf::Stopped(_) => !self.has_writer,
        };
        let received = match self.receiving {
            ReceiveHalf::Open | ReceiveHalf::Last | ReceiveHalf::Stopping => false,
            ReceiveHalf::Ended => true,
            ReceiveHalf::Reset(_) | ReceiveHalf::Stopped => !self.has_reader,
        };
        sent && received
    }
}

/// What an application has written.
#[derive(Debug)]
pub(in crate::connection) enum Written {
    /// A chunk that has room for more, and more may be written before it goes.
    Open(Block),
    Whole(Bytes),
}

impl Written {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Open(block) => block.len(),
            Self::Whole(data) => data.len(),
        }
    }
}

/// A chunk for its writer to fill with as many bytes as there was room for.
#[derive(Debug)]
#[must_use = "the stream waits for it"]
pub(in crate::connection) struct Lent {
    pub(super) block: Block,
    pub(super) room: usize,
    /// Nothing more fits then.
    pub(super) is_filled: bool,
}

impl Lent {
    /// Fills it from the front of `data`, and yields how many bytes that took, and what is to be given back at once.
    pub(in crate::connection) fn fill(mut self, data: &[u8], buffers: &Arc<Buffers>) -> (usize, Written) {
        let len = self.room.min(data.len());
        buffers.append(&mut self.block, &data[..len]);
        let is_whole = self.is_filled && len == self.room;
        (len, if is_whole { Written::Whole(self.block.into_bytes()) } else { Written::Open(self.block) })
    }
}
