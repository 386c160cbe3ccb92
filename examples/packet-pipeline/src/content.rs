//! What travels, so that the receiver can tell whether it is what was sent.

use std::io;

use seqex::encoding::ChannelId;
use zstd::bulk::{Compressor, Decompressor};

/// Few and ordered: where the transfer is.
pub(crate) const CONTROL: ChannelId = 0;
/// Many and unordered.
pub(crate) const BULK: ChannelId = 1;

/// The largest content. A message has 48 fragments at most, and so little less at an MTU of 1500.
pub(crate) const MAX_LEN: usize = 72_000;
/// The number of the message in front.
pub(crate) const MIN_LEN: usize = 8;

/// Bytes of which each message's content is a piece, the same on both sides. They compress to about a half.
pub(crate) struct Pattern(Vec<u8>);

impl Pattern {
    const LEN: usize = 1 << 20;

    pub(crate) fn new() -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            b'a' + (state >> 60) as u8
        };
        Self(std::iter::repeat_with(next).take(Self::LEN).collect())
    }

    /// The content of message `number` of so many bytes.
    pub(crate) fn write(&self, number: u64, len: usize, content: &mut Vec<u8>) {
        content.clear();
        content.extend_from_slice(&number.to_be_bytes());
        content.extend_from_slice(self.piece(number, len.saturating_sub(MIN_LEN)));
    }

    /// The number of the message, if that is its content to the last byte.
    pub(crate) fn check(&self, content: &[u8]) -> Option<u64> {
        let (number, rest) = content.split_first_chunk()?;
        let number = u64::from_be_bytes(*number);
        (content.len() <= MAX_LEN && rest == self.piece(number, rest.len())).then_some(number)
    }

    /// `len` is at most `MAX_LEN`.
    fn piece(&self, number: u64, len: usize) -> &[u8] {
        let start = number.wrapping_mul(7919) as usize % (Self::LEN - MAX_LEN);
        &self.0[start..start + len]
    }
}

/// How the content of a message lies in it: the last byte says.
const STORED: u8 = 0;
const ZSTD: u8 = 1;

/// Below this, compressing costs more than it saves.
const WORTH_COMPRESSING: usize = 256;

pub(crate) struct Packer(Option<Compressor<'static>>);

impl Packer {
    pub(crate) fn new(level: Option<i32>) -> io::Result<Self> {
        level.map(Compressor::new).transpose().map(Self)
    }

    /// Appends `content` to the empty `message`, compressed if that makes it smaller.
    pub(crate) fn pack(&mut self, content: &[u8], message: &mut Vec<u8>) -> io::Result<()> {
        if let Some(compressor) = self.0.as_mut().filter(|_| content.len() >= WORTH_COMPRESSING) {
            // A `Vec` takes what fits its capacity, from its start.
            message.reserve(zstd::zstd_safe::compress_bound(content.len()) + 1);
            let len = compressor.compress_to_buffer(content, message)?;
            if len < content.len() {
                // The kind goes to the end, where it moves nothing.
                message.push(ZSTD);
                return Ok(());
            }
            message.clear();
        }
        message.extend_from_slice(content);
        message.push(STORED);
        Ok(())
    }
}

pub(crate) struct Unpacker(Decompressor<'static>);

impl Unpacker {
    pub(crate) fn new() -> io::Result<Self> {
        Decompressor::new().map(Self)
    }

    /// The content of a message, which may end up in `room`.
    pub(crate) fn unpack<'a>(&mut self, message: &'a [u8], room: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
        match message.split_last() {
            Some((&STORED, content)) => Ok(content),
            Some((&ZSTD, compressed)) => {
                room.clear();
                room.reserve(MAX_LEN);
                self.0.decompress_to_buffer(compressed, room)?;
                Ok(room)
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_comes_back_and_a_changed_byte_is_found() {
        let pattern = Pattern::new();
        for (level, len) in [(None, 60_000), (Some(1), MIN_LEN), (Some(1), 60_000), (Some(1), MAX_LEN)] {
            let (mut content, mut message, mut room) = (Vec::new(), Vec::new(), Vec::new());
            pattern.write(77, len, &mut content);
            Packer::new(level).unwrap().pack(&content, &mut message).unwrap();
            assert!(level.is_none() || len < WORTH_COMPRESSING || message.len() < len * 2 / 3);
            let mut unpacker = Unpacker::new().unwrap();
            assert_eq!(pattern.check(unpacker.unpack(&message, &mut room).unwrap()), Some(77));
            *content.last_mut().unwrap() ^= 1;
            assert_ne!(pattern.check(&content), Some(77));
        }
    }

    #[test]
    fn content_that_is_too_long_is_wrong_wherever_it_begins() {
        let pattern = Pattern::new();
        let mut content = vec![0; 2 * MAX_LEN];
        for number in 0..1000u64 {
            content[..MIN_LEN].copy_from_slice(&number.to_be_bytes());
            assert_eq!(pattern.check(&content), None);
        }
        assert_eq!(pattern.check(&content[..MIN_LEN - 1]), None);
    }
}
