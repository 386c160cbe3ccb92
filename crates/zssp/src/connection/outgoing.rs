//! A payload about to be sealed: a short head, and the application's bytes uncopied.

use bytes::Bytes;
use seqex::SeqEx;
use seqex::encoding::{AckWriter, MESSAGE_OVERHEAD, MessageHeader};

use super::state::CHANNEL;

/// Bytes of acknowledgements that travel in one payload at most: ten ranges at the least.
const ACKS_LEN: usize = 112;

/// A payload in two parts.
#[derive(Debug)]
pub(super) struct Outgoing {
    head: [u8; ACKS_LEN + MESSAGE_OVERHEAD],
    head_len: usize,
    body: Bytes,
}

impl Outgoing {
    pub(super) fn new(body: Bytes) -> Self {
        Self { head: [0; ACKS_LEN + MESSAGE_OVERHEAD], head_len: 0, body }
    }

    /// Puts as many acknowledgements into the head as there are, and as fit it and `room` bytes.
    pub(super) fn acks<S, R>(mut self, exchange: &mut SeqEx<S, R>, room: usize) -> (Self, Acks) {
        let mut writer = AckWriter::new(&mut self.head[..room.min(ACKS_LEN)], CHANNEL);
        let acks = loop {
            if !writer.has_room() {
                break Acks::Left;
            }
            let Some(ack) = exchange.poll_acks() else { break Acks::None };
            let written = writer.push(&ack);
            debug_assert!(written.is_ok(), "there is room, as was just asked");
        };
        self.head_len = writer.len();
        (self, acks)
    }

    /// Appends the start of a frame, at most [`MESSAGE_OVERHEAD`] bytes, whose rest is the body.
    pub(super) fn start(mut self, start: &[u8]) -> Self {
        let end = self.head_len + start.len();
        if let Some(place) = self.head.get_mut(self.head_len..end) {
            place.copy_from_slice(start);
            self.head_len = end;
        }
        self
    }

    /// Appends the header of the message whose data is the body.
    pub(super) fn header(self, header: &MessageHeader) -> Self {
        self.start(header)
    }

    pub(super) fn len(&self) -> usize {
        self.head_len + self.body.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The payload's parts in order.
    pub(super) fn parts(&self) -> [&[u8]; 2] {
        [&self.head[..self.head_len], &self.body]
    }
}

/// Whether acknowledgements wait for another payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acks {
    Left,
    None,
}
