//! A payload about to be sealed: a short head, and the application's bytes uncopied.

use bytes::Bytes;
use seqex::encoding::{AckWriter, ChannelId};
use seqex::{Ack, AckKind, SeqEx, SeqNo};

use super::flight::{FRAGMENT_OVERHEAD, PAYLOAD_OVERHEAD};
use crate::frame::{self, CHUNK_OVERHEAD, Group, Token};
use crate::link::{MAX_SEND, Path};

/// Bytes of acknowledgements that travel in one payload at most: ten ranges at the least.
const ACKS_LEN: usize = 112;

/// What a head holds at most: a prefix, acknowledgements, and the start of a message.
const HEAD_LEN: usize = ACKS_LEN + CHUNK_OVERHEAD;

/// What fills a probe.
static ZEROS: [u8; MAX_SEND] = [0; MAX_SEND];

/// A payload in two parts.
#[derive(Debug)]
pub(crate) struct Outgoing {
    head: [u8; HEAD_LEN],
    head_len: usize,
    body: Bytes,
    path: Option<Path>,
    /// Bytes of its datagrams at most, if that is settled.
    mtu: Option<usize>,
    joins: bool,
}

impl Outgoing {
    pub(super) fn new(body: Bytes) -> Self {
        Self { head: [0; HEAD_LEN], head_len: 0, body, path: None, mtu: None, joins: false }
    }

    /// A short payload for another path than the connection's.
    pub(super) fn aside(path: Option<Path>, frame: &[u8]) -> Self {
        Self { path, ..Self::new(Bytes::new()).start(frame) }
    }

    //= ZSSP-LIV-05  a token, and zeros that make a datagram of that size
    /// A ping in a datagram of exactly `size` bytes.
    pub(super) fn probe(token: Token, size: usize) -> Self {
        let head = frame::probe(token);
        let padding = size.saturating_sub((FRAGMENT_OVERHEAD + PAYLOAD_OVERHEAD) as usize + head.len());
        let body = Bytes::from_static(&ZEROS[..padding.min(ZEROS.len())]);
        Self { mtu: Some(size), ..Self::new(body).start(&head) }
    }

    /// Its datagrams have `mtu` bytes at most, unless that is settled already. Yields whether it takes several of them.
    pub(super) fn settle_mtu(&mut self, mtu: usize) -> bool {
        is_fragmented(self.len(), *self.mtu.get_or_insert(mtu))
    }

    /// The same head with another body.
    pub(super) fn with_body(self, body: Bytes) -> Self {
        Self { body, ..self }
    }

    /// Bytes of its datagrams at most, if that is settled.
    pub(super) fn mtu(&self) -> Option<usize> {
        self.mtu
    }

    /// It goes in a bundle with the one before it.
    pub(super) fn join(&mut self) {
        self.joins = true;
    }

    pub(super) fn joins(&self) -> bool {
        self.joins
    }

    /// Where it goes, if not the way that the connection's payloads go.
    pub(super) fn path(&self) -> Option<Path> {
        self.path
    }

    /// The start of a payload with frames of the exchanges of `group`.
    pub(super) fn of(group: Group, body: Bytes) -> Self {
        let outgoing = Self::new(body);
        match group.prefix() {
            Some(prefix) => outgoing.start(&prefix),
            None => outgoing,
        }
    }

    /// Puts as many acknowledgements of an exchange into the head as there are, and as fit it and `room` bytes.
    pub(super) fn put_acks<S, R>(
        &mut self,
        channel: ChannelId,
        exchange: &mut SeqEx<S, R>,
        room: usize,
    ) -> Acks {
        let mut writer = self.writer(channel, room);
        let acks = loop {
            if !writer.has_room() {
                break Acks::Left;
            }
            let Some(ack) = exchange.poll_acks() else { break Acks::None };
            let written = writer.push(&ack);
            debug_assert!(written.is_ok(), "there is room, as was just asked");
        };
        self.head_len += writer.len();
        acks
    }

    /// Answers one message of an exchange that is over, if there is room.
    pub(super) fn put_answer(&mut self, channel: ChannelId, seq: SeqNo) -> Acks {
        let mut writer = self.writer(channel, ACKS_LEN);
        let written = writer.push(&Ack { kind: AckKind::Answered, first: seq, count: 1 });
        self.head_len += writer.len();
        if written.is_ok() { Acks::None } else { Acks::Left }
    }

    fn writer(&mut self, channel: ChannelId, room: usize) -> AckWriter<'_> {
        let end = self.head_len.saturating_add(room).clamp(self.head_len, ACKS_LEN.max(self.head_len));
        AckWriter::new(&mut self.head[self.head_len..end], channel)
    }

    /// Appends the start of a frame, whose rest is the body.
    pub(super) fn start(mut self, start: &[u8]) -> Self {
        let end = self.head_len + start.len();
        if let Some(place) = self.head.get_mut(self.head_len..end) {
            place.copy_from_slice(start);
            self.head_len = end;
        }
        self
    }

    pub(super) fn len(&self) -> usize {
        self.head_len + self.body.len()
    }

    /// The payload's parts in order.
    pub(super) fn parts(&self) -> [&[u8]; 2] {
        [&self.head[..self.head_len], &self.body]
    }
}

/// Whether a payload of `len` bytes takes several datagrams of `mtu` bytes.
pub(super) fn is_fragmented(len: usize, mtu: usize) -> bool {
    len + (FRAGMENT_OVERHEAD + PAYLOAD_OVERHEAD) as usize > mtu
}

/// Whether acknowledgements wait for another payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acks {
    Left,
    None,
}
