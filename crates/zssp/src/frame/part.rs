//! A piece of a message that is too large for the road it has to be sent over again.

use seqex::Message;
use seqex::encoding::Frame;

use super::{CHUNK_OVERHEAD, Group, LaneId, Malformed, exchange};

pub(super) const PART: u8 = 0xD7;

/// Bytes before the payload that a part is in other respects.
const PREFIX_LEN: usize = 9;

/// Bytes before a part's content.
pub(crate) const PART_OVERHEAD: usize = PREFIX_LEN + CHUNK_OVERHEAD;

/// A part, read: its place is inside the message.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    pub(crate) lane: LaneId,
    /// Where its content begins in the message's data.
    pub(crate) offset: usize,
    /// Bytes of the message's data.
    pub(crate) total: usize,
    /// The message, with the part's content as its data.
    pub(crate) message: Message<&'a [u8]>,
}

impl<'a> Part<'a> {
    //= ZSSP-PRT-02  not empty, and not beyond the end
    /// Reads what follows the first byte.
    pub(super) fn parse(rest: &'a [u8]) -> Result<Self, Malformed> {
        let (offset, rest) = rest.split_first_chunk().ok_or(Malformed::Part)?;
        let (total, rest) = rest.split_first_chunk().ok_or(Malformed::Part)?;
        let (group, mut frames) = exchange(rest)?;
        let Some(Frame::Message(channel, message)) = frames.next().transpose()? else {
            return Err(Malformed::Part);
        };
        let [offset, total] = [offset, total].map(|bytes| u32::from_be_bytes(*bytes) as usize);
        let lane = group.lane(channel);
        let fits = offset.checked_add(message.data.len()).is_some_and(|end| end <= total);
        if message.data.is_empty() || !fits || lane == LaneId::CONTROL {
            return Err(Malformed::Part);
        }
        Ok(Self { lane, offset, total, message })
    }
}

//= ZSSP-PRT-01  where it belongs; then the message's own header
/// What stands before the header of a message of `group` of which only a part follows.
pub(crate) fn part(
    group: Group,
    offset: usize,
    total: usize,
) -> ([u8; PREFIX_LEN], Option<[u8; super::GROUP_LEN]>) {
    let mut prefix = [PART; PREFIX_LEN];
    // A message has less than 4 GiB.
    prefix[1..5].copy_from_slice(&(offset as u32).to_be_bytes());
    prefix[5..].copy_from_slice(&(total as u32).to_be_bytes());
    (prefix, group.prefix())
}

#[cfg(test)]
mod tests {
    use seqex::Order;
    use seqex::encoding::MessageHeader;

    use super::super::{Payload, StreamId};
    use super::*;

    fn bytes(lane: LaneId, offset: usize, total: usize, content: &[u8]) -> Vec<u8> {
        let (prefix, group) = part(lane.group(), offset, total);
        let message = Message { seq: 7.into(), reply_to: Some(9.into()), order: Order::Ordered, data: () };
        let header = MessageHeader::new(lane.channel(), &message);
        [&prefix[..], group.as_ref().map_or(&[], |group| &group[..]), &header, content].concat()
    }

    //= ZSSP-PRT-01  byte for byte, and back
    #[test]
    fn parts_survive_the_way() {
        let lanes = [LaneId::Channel(0x0102), LaneId::Stream(StreamId::new(0x0003_0004_0005))];
        for lane in lanes {
            let bytes = bytes(lane, 300, 1000, b"some");
            assert_eq!(bytes[..9], [0xD7, 0, 0, 1, 44, 0, 0, 3, 232]);
            let Ok(Payload::Part(part)) = Payload::parse(&bytes) else { panic!("no part") };
            assert_eq!(
                (part.lane, part.offset, part.total, part.message.data),
                (lane, 300, 1000, &b"some"[..])
            );
            assert_eq!((part.message.seq, part.message.reply_to), (7.into(), Some(9.into())));
        }
    }

    //= ZSSP-PRT-02  empty, beyond the end, of a message about streams, no message at all
    #[test]
    fn parts_that_cannot_be_are_refused() {
        let channel = LaneId::Channel(0);
        for (lane, offset, total, content) in [
            (channel, 0, 10, &b""[..]),
            (channel, 8, 10, b"long"),
            (channel, 4_294_967_295, 4_294_967_295, b"far"),
            (LaneId::CONTROL, 0, 10, b"some"),
        ] {
            assert_eq!(Payload::parse(&bytes(lane, offset, total, content)).unwrap_err(), Malformed::Part);
        }
        assert!(Payload::parse(&bytes(channel, 6, 10, b"last")).is_ok());
        let inside = [&[PART; 9][..], &bytes(channel, 0, 10, b"some")].concat();
        assert_eq!(Payload::parse(&inside).unwrap_err(), Malformed::Exchange);
        for len in 0..9 {
            assert_eq!(Payload::parse(&bytes(channel, 0, 10, b"some")[..=len]).unwrap_err(), Malformed::Part);
        }
    }
}
