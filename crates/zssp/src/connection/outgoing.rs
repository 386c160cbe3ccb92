//! A payload about to be sealed: a short head, and the application's bytes uncopied.

use bytes::Bytes;
use seqex::Ack;
use seqex::encoding::{self, ACK_LEN, MESSAGE_OVERHEAD};

use super::state::CHANNEL;

/// Acknowledgements that ride with a message.
pub(super) const RIDING_ACKS: usize = 8;

const HEAD_LEN: usize = RIDING_ACKS * ACK_LEN + MESSAGE_OVERHEAD;

/// A payload in two parts.
#[derive(Debug)]
pub(super) struct Outgoing {
    head: [u8; HEAD_LEN],
    head_len: usize,
    body: Bytes,
}

impl Outgoing {
    pub(super) fn new(body: Bytes) -> Self {
        Self { head: [0; HEAD_LEN], head_len: 0, body }
    }

    /// Appends a byte to the head.
    pub(super) fn byte(mut self, byte: u8) -> Self {
        if let Some(place) = self.head.get_mut(self.head_len) {
            *place = byte;
            self.head_len += 1;
        }
        self
    }

    /// Appends an acknowledgement to the head, which must not be full.
    pub(super) fn ack(mut self, ack: &Ack) -> Self {
        let written = encoding::put_ack(&mut self.head[self.head_len..], CHANNEL, ack);
        debug_assert!(written.is_ok(), "the head has room for what callers put into it");
        self.head_len += written.unwrap_or(0);
        self
    }

    /// Appends the header of the message whose data is the body. Nothing may follow it.
    pub(super) fn message_header(mut self, message: &seqex::Message<&[u8]>) -> Self {
        let written = encoding::put_message(&mut self.head[self.head_len..], CHANNEL, message);
        debug_assert!(written.is_ok(), "the head has room for what callers put into it");
        self.head_len += written.unwrap_or(0);
        self
    }

    /// Whether no further acknowledgement is sure to fit.
    pub(super) fn is_full(&self) -> bool {
        self.head_len + ACK_LEN > HEAD_LEN
    }

    pub(super) fn len(&self) -> usize {
        self.head_len + self.body.len()
    }

    /// The payload's parts in order.
    pub(super) fn parts(&self) -> [&[u8]; 2] {
        [&self.head[..self.head_len], &self.body]
    }
}
