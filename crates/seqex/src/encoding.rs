//! Our encoding inside a session (PROTOCOL 8.4).

use crate::{Ack, Message};

/// Which of several exchanges in one session a frame belongs to.
pub type ChannelId = u16;

/// One frame of a sealed payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Acknowledgements; more frames may follow.
    Ack(ChannelId, Ack),
    /// A message; the last frame of its payload.
    Message(ChannelId, Message<&'a [u8]>),
}

/// Why bytes are not frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// A frame ends in the middle.
    #[error("the frame is cut short")]
    Short,
    /// The first byte names a version or kind this build does not know.
    #[error("unknown version or kind of frame {0:#04x}")]
    Unknown(u8),
    /// A field holds what it never may.
    #[error("a field of the frame is out of range")]
    Field,
}

/// The caller's buffer is too small. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the frame does not fit: {needed} bytes are needed")]
pub struct NoRoom {
    /// What the frame takes.
    pub needed: usize,
}

/// The most bytes that stand before the data of a message: what to leave of the payload limit.
pub const MESSAGE_OVERHEAD: usize = 11;

/// The most bytes of an acknowledgement frame.
pub const ACK_LEN: usize = 11;

/// How many bytes [`put_ack`] writes.
pub fn ack_len(_ack: &Ack) -> usize {
    ACK_LEN
}

/// How many bytes [`put_message`] writes before the data.
pub fn message_header_len(_message: &Message<&[u8]>) -> usize {
    MESSAGE_OVERHEAD
}

/// Writes an acknowledgement frame at the start of `buffer` and returns its length.
///
/// # Errors
/// [`NoRoom`], with nothing written.
pub fn put_ack(_buffer: &mut [u8], _channel: ChannelId, _ack: &Ack) -> Result<usize, NoRoom> {
    Err(NoRoom { needed: 0 })
}

/// Writes a message frame, data included, at the start of `buffer` and returns its length. It must be the last.
///
/// # Errors
/// [`NoRoom`], with nothing written.
pub fn put_message(
    _buffer: &mut [u8],
    _channel: ChannelId,
    _message: &Message<&[u8]>,
) -> Result<usize, NoRoom> {
    Err(NoRoom { needed: 0 })
}

/// Walks over the frames of a sealed payload, without copying. After an error it ends.
pub fn frames(payload: &[u8]) -> Frames<'_> {
    Frames { rest: payload }
}

/// Iterator over frames; see [`frames`].
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rest = &[];
        None
    }
}
