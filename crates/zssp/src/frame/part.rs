//! A piece of a message that is too large for the road it has to be sent over, and the news that some have arrived.

use std::ops::RangeInclusive;

use seqex::Message;
use seqex::encoding::Frame;

use super::{CHUNK_OVERHEAD, Group, LaneId, Malformed, exchange};

pub(super) const PART: u8 = 0xD7;
pub(super) const ARRIVALS: u8 = 0xD8;

/// Bytes before the payload that a part is in other respects.
const PREFIX_LEN: usize = 17;

/// Bytes before a part's content.
pub(crate) const PART_OVERHEAD: usize = PREFIX_LEN + CHUNK_OVERHEAD;

/// Ranges of parts that one payload may tell of.
pub(crate) const MAX_RANGES: usize = 16;

/// Bytes of one of them.
const RANGE_LEN: usize = 12;

/// Bytes of a payload that tells of as many as it may.
pub(crate) const ARRIVALS_LEN: usize = 1 + MAX_RANGES * RANGE_LEN;

/// A part, read: its place is inside the message.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    /// Which transmission of a part it is, of all in its direction.
    pub(crate) number: u64,
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
        let (number, rest) = rest.split_first_chunk().ok_or(Malformed::Part)?;
        let (offset, rest) = rest.split_first_chunk().ok_or(Malformed::Part)?;
        let (total, rest) = rest.split_first_chunk().ok_or(Malformed::Part)?;
        let (group, mut frames) = exchange(rest)?;
        let Some(Frame::Message(channel, message)) = frames.next().transpose()? else {
            return Err(Malformed::Part);
        };
        let number = u64::from_be_bytes(*number);
        let [offset, total] = [offset, total].map(|bytes| u32::from_be_bytes(*bytes) as usize);
        let lane = group.lane(channel);
        let fits = offset.checked_add(message.data.len()).is_some_and(|end| end <= total);
        if message.data.is_empty() || !fits || lane == LaneId::CONTROL {
            return Err(Malformed::Part);
        }
        Ok(Self { number, lane, offset, total, message })
    }
}

//= ZSSP-PRT-01  which one, and where it belongs; then the message's own header
/// What stands before the header of a message of `group` of which only a part follows.
pub(crate) fn part(
    number: u64,
    group: Group,
    offset: usize,
    total: usize,
) -> ([u8; PREFIX_LEN], Option<[u8; super::GROUP_LEN]>) {
    let mut prefix = [PART; PREFIX_LEN];
    prefix[1..9].copy_from_slice(&number.to_be_bytes());
    // A message has less than 4 GiB.
    prefix[9..13].copy_from_slice(&(offset as u32).to_be_bytes());
    prefix[13..].copy_from_slice(&(total as u32).to_be_bytes());
    (prefix, group.prefix())
}

/// The numbers of parts that have arrived, read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrivals<'a>(&'a [[u8; RANGE_LEN]]);

impl<'a> Arrivals<'a> {
    //= ZSSP-PRT-06  from one range to sixteen, none of them empty
    /// Reads what follows the first byte.
    pub(super) fn parse(rest: &'a [u8]) -> Result<Self, Malformed> {
        let (ranges, []) = rest.as_chunks() else { return Err(Malformed::Arrivals) };
        let is_range = |&(last, count): &(u64, u32)| count > 0 && last >= u64::from(count - 1);
        if !(1..=MAX_RANGES).contains(&ranges.len())
            || !ranges.iter().map(last_and_count).all(|range| is_range(&range))
        {
            return Err(Malformed::Arrivals);
        }
        Ok(Self(ranges))
    }

    pub(crate) fn ranges(self) -> impl Iterator<Item = RangeInclusive<u64>> + 'a {
        // That there are so many below the last was looked at.
        self.0
            .iter()
            .map(last_and_count)
            .map(|(last, count)| last.saturating_sub(u64::from(count) - 1)..=last)
    }
}

fn last_and_count(range: &[u8; RANGE_LEN]) -> (u64, u32) {
    let &[a, b, c, d, e, f, g, h, i, j, k, l] = range;
    (u64::from_be_bytes([a, b, c, d, e, f, g, h]), u32::from_be_bytes([i, j, k, l]))
}

/// Tells of parts that have arrived, [`MAX_RANGES`] at most.
pub(crate) fn arrivals<'a>(ranges: impl Iterator<Item = &'a RangeInclusive<u64>>) -> Vec<u8> {
    let mut frame = Vec::with_capacity(ARRIVALS_LEN);
    frame.push(ARRIVALS);
    for range in ranges.take(MAX_RANGES) {
        let count = u32::try_from(range.end() - range.start()).unwrap_or(u32::MAX).saturating_add(1);
        frame.extend_from_slice(&range.end().to_be_bytes());
        frame.extend_from_slice(&count.to_be_bytes());
    }
    frame
}

#[cfg(test)]
mod tests {
    use seqex::Order;
    use seqex::encoding::MessageHeader;

    use super::super::{Payload, StreamId};
    use super::*;

    fn bytes(lane: LaneId, offset: usize, total: usize, content: &[u8]) -> Vec<u8> {
        let (prefix, group) = part(0x0102_0304_0506_0708, lane.group(), offset, total);
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
            assert_eq!(bytes[..17], [0xD7, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 1, 44, 0, 0, 3, 232]);
            let Ok(Payload::Part(part)) = Payload::parse(&bytes) else { panic!("no part") };
            assert_eq!(
                (part.number, part.lane, part.offset, part.total, part.message.data),
                (0x0102_0304_0506_0708, lane, 300, 1000, &b"some"[..])
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
        let inside = [&[PART; 17][..], &bytes(channel, 0, 10, b"some")].concat();
        assert_eq!(Payload::parse(&inside).unwrap_err(), Malformed::Exchange);
        for len in 0..17 {
            assert_eq!(Payload::parse(&bytes(channel, 0, 10, b"some")[..=len]).unwrap_err(), Malformed::Part);
        }
    }

    //= ZSSP-PRT-06  byte for byte, and back
    #[test]
    fn arrivals_survive_the_way() {
        let ranges = [0x0102_0304_0506_0707..=0x0102_0304_0506_0708, 5..=5, 0..=2];
        let bytes = arrivals(ranges.iter());
        assert_eq!(bytes[..13], [0xD8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 2]);
        let Ok(Payload::Arrivals(read)) = Payload::parse(&bytes) else { panic!("no arrivals") };
        assert!(read.ranges().eq(ranges));
        let many = vec![7..=9; MAX_RANGES + 1];
        assert_eq!(arrivals(many.iter()).len(), ARRIVALS_LEN);
    }

    //= ZSSP-PRT-06  nothing, an empty range, more than there can have been, too many, half of one
    #[test]
    fn arrivals_that_cannot_be_are_refused() {
        let of = |last: u64, count: u32| [&last.to_be_bytes()[..], &count.to_be_bytes()].concat();
        let longest = of(u64::MAX, u32::MAX).repeat(MAX_RANGES);
        for (content, is_one) in [
            (vec![], false),
            (of(5, 0), false),
            (of(5, 6), true),
            (of(5, 7), false),
            ([of(9, 1), of(5, 7)].concat(), false),
            (longest.clone(), true),
            ([longest, of(5, 1)].concat(), false),
            (of(5, 1)[..11].to_vec(), false),
        ] {
            let read = Payload::parse(&[&[ARRIVALS], &content[..]].concat()).map(drop);
            assert_eq!(read, if is_one { Ok(()) } else { Err(Malformed::Arrivals) }, "{content:02x?}");
        }
    }
}
