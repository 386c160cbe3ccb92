//! Messages that come in parts, until they are whole.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use seqex::{Message, Order, SeqNo};

use crate::frame::{LaneId, Malformed, Part};

/// Messages of which parts may have come, at most: what comes for others is dropped, and comes again.
const MESSAGES: usize = 256;

/// Gaps that one message may have. A part that would make more of them is dropped, and comes again.
const GAPS: usize = 256;

/// Bytes of a chunk's data that are its flags.
const CHUNK_FLAGS: usize = 1;

/// What has become of a part.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// There is no room for it.
    Dropped,
    Kept,
    /// It was the last that was missing.
    Whole(Message<Bytes>),
}

/// Messages of which parts have come, none of them yet received as a whole.
#[derive(Debug, Default)]
pub(super) struct Assemblies {
    all: BTreeMap<(LaneId, u32), Assembly>,
    /// Bytes of those that answer nothing of ours, the flags of chunks not counted.
    bytes: usize,
    /// Bytes of those that do.
    reply_bytes: usize,
}

#[derive(Debug)]
struct Assembly {
    reply_to: Option<SeqNo>,
    order: Order,
    data: Vec<u8>,
    /// What has not come.
    gaps: Vec<Range<usize>>,
}

impl Assemblies {
    /// Bytes that they will have, without replies.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes in a part of a message that has not arrived. There may be `room` bytes of messages, and `replies` of replies
    /// to what was asked.
    pub(super) fn add(&mut self, part: &Part<'_>, room: usize, replies: usize) -> Result<Taken, Malformed> {
        let Message { seq, reply_to, order, data: piece } = part.message;
        let key = (part.lane, seq.to_u32());
        if let Some(assembly) = self.all.get_mut(&key) {
            //= ZSSP-PRT-03  all parts say the same about their message
            if (assembly.data.len(), assembly.reply_to, assembly.order) != (part.total, reply_to, order) {
                return Err(Malformed::Part);
            }
        } else {
            let cost = cost(part.lane, part.total);
            let bytes = match reply_to {
                //= ZSSP-PRT-04  a message counts as a whole as soon as a part of it is there
                None if self.bytes + cost > room => return Err(Malformed::Credit),
                Some(_) if self.reply_bytes + cost > replies => return Ok(Taken::Dropped),
                _ if self.all.len() >= MESSAGES => return Ok(Taken::Dropped),
                None => &mut self.bytes,
                Some(_) => &mut self.reply_bytes,
            };
            *bytes += cost;
            let gaps = vec![Range { start: 0, end: part.total }];
            self.all.insert(key, Assembly { reply_to, order, data: vec![0; part.total], gaps });
        }
        let Some(assembly) = self.all.get_mut(&key) else { return Ok(Taken::Dropped) };
        if !assembly.fill(part.offset, piece) {
            return Ok(Taken::Dropped);
        }
        if !assembly.gaps.is_empty() {
            return Ok(Taken::Kept);
        }
        let data = self.remove(part.lane, seq).map(|assembly| assembly.data.into()).unwrap_or_default();
        Ok(Taken::Whole(Message { seq, reply_to, order, data }))
    }

    /// The message has arrived by itself.
    pub(super) fn forget(&mut self, lane: LaneId, seq: SeqNo) {
        // Nearly always there is none at all.
        if !self.all.is_empty() {
            drop(self.remove(lane, seq));
        }
    }

    /// The exchange is over.
    pub(super) fn forget_all(&mut self, lane: LaneId) {
        while let Some((&(_, seq), _)) = self.all.range((lane, 0)..=(lane, u32::MAX)).next() {
            drop(self.remove(lane, seq.into()));
        }
    }

    fn remove(&mut self, lane: LaneId, seq: SeqNo) -> Option<Assembly> {
        let assembly = self.all.remove(&(lane, seq.to_u32()))?;
        let bytes = if assembly.reply_to.is_some() { &mut self.reply_bytes } else { &mut self.bytes };
        *bytes -= cost(lane, assembly.data.len());
        Some(assembly)
    }
}

/// What a message whose data has `total` bytes counts.
fn cost(lane: LaneId, total: usize) -> usize {
    match lane {
        LaneId::Channel(_) => total,
        LaneId::Stream(_) => total.saturating_sub(CHUNK_FLAGS),
    }
}

impl Assembly {
    /// Puts a piece into its place, which is inside, unless that makes too many gaps. What came before stays: parts overlap
    /// where a message was divided in another way the second time.
    fn fill(&mut self, offset: usize, piece: &[u8]) -> bool {
        let (start, end) = (offset, offset + piece.len());
        let first = self.gaps.partition_point(|gap| gap.end <= start);
        let last = self.gaps.partition_point(|gap| gap.start < end);
        let mut left: Vec<Range<usize>> = Vec::with_capacity(2);
        for gap in &self.gaps[first..last.max(first)] {
            if gap.start < start {
                left.push(gap.start..start);
            }
            if gap.end > end {
                left.push(end..gap.end);
            }
        }
        if self.gaps.len() + left.len() > GAPS + (last.max(first) - first) {
            return false;
        }
        for gap in &self.gaps[first..last.max(first)] {
            let (from, to) = (gap.start.max(start), gap.end.min(end));
            self.data[from..to].copy_from_slice(&piece[from - start..to - start]);
        }
        self.gaps.splice(first..last.max(first), left);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LANE: LaneId = LaneId::Channel(3);

    fn part(seq: u32, offset: usize, total: usize, data: &[u8]) -> Part<'_> {
        let message = Message { seq: seq.into(), reply_to: None, order: Order::Ordered, data };
        Part { number: 0, lane: LANE, offset, total, message }
    }

    fn reply(part: Part<'_>) -> Part<'_> {
        Part { message: Message { reply_to: Some(1.into()), ..part.message }, ..part }
    }

    proptest! {
        /// Whatever the order, the overlaps and the repeats: whole exactly when every byte has come, and then as it was.
        #[test]
        fn a_message_is_whole_when_all_of_it_has_come(
            total in 1usize..300,
            pieces in proptest::collection::vec((0usize..300, 1usize..100), 1..80),
        ) {
            let data: Vec<u8> = (0..total).map(|place| (place * 7) as u8).collect();
            let (mut assemblies, mut seen) = (Assemblies::default(), vec![false; total]);
            for (offset, len) in pieces {
                let offset = offset % total;
                let end = (offset + len).min(total);
                seen[offset..end].fill(true);
                let whole = assemblies.add(&part(5, offset, total, &data[offset..end]), 1000, 0).unwrap();
                let is_whole = seen.iter().all(|&seen| seen);
                prop_assert_eq!(assemblies.bytes(), if is_whole { 0 } else { total });
                match whole {
                    Taken::Whole(whole) => {
                        prop_assert!(is_whole);
                        prop_assert_eq!(&whole.data[..], &data[..]);
                        break;
                    }
                    taken => prop_assert_eq!((taken, is_whole), (Taken::Kept, false)),
                }
            }
        }
    }

    //= ZSSP-PRT-03  another length, another kind
    #[test]
    fn parts_that_contradict_each_other_are_refused() {
        let mut assemblies = Assemblies::default();
        assert_eq!(assemblies.add(&part(5, 0, 10, b"some"), 100, 100), Ok(Taken::Kept));
        assert_eq!(assemblies.add(&part(5, 4, 11, b"some"), 100, 100).unwrap_err(), Malformed::Part);
        assert_eq!(assemblies.add(&reply(part(5, 4, 10, b"some")), 100, 100).unwrap_err(), Malformed::Part);
    }

    //= ZSSP-PRT-04  messages end the connection, replies wait
    #[test]
    fn memory_is_bounded() {
        let mut assemblies = Assemblies::default();
        assert_eq!(assemblies.add(&part(1, 0, 60, b"x"), 100, 100), Ok(Taken::Kept));
        assert_eq!(assemblies.add(&part(2, 0, 60, b"x"), 100, 100).unwrap_err(), Malformed::Credit);
        assert_eq!(assemblies.add(&reply(part(3, 0, 60, b"x")), 100, 100), Ok(Taken::Kept));
        assert_eq!(assemblies.add(&reply(part(4, 0, 60, b"x")), 100, 100), Ok(Taken::Dropped));
        assert_eq!((assemblies.bytes, assemblies.reply_bytes, assemblies.all.len()), (60, 60, 2));
        assemblies.forget(LANE, 1.into());
        assert_eq!((assemblies.bytes, assemblies.all.len()), (0, 1));
        assemblies.forget_all(LANE);
        assert_eq!((assemblies.reply_bytes, assemblies.all.len()), (0, 0));
        for seq in 0..2 * MESSAGES as u32 {
            let taken = if seq < MESSAGES as u32 { Taken::Kept } else { Taken::Dropped };
            assert_eq!(assemblies.add(&part(seq, 0, 2, b"x"), 10_000, 0), Ok(taken));
        }
        assert_eq!((assemblies.bytes, assemblies.all.len()), (2 * MESSAGES, MESSAGES));
    }

    #[test]
    fn a_message_full_of_holes_is_bounded_and_still_comes_together() {
        let (mut assemblies, total) = (Assemblies::default(), 4 * GAPS);
        for offset in (0..total).step_by(2) {
            let taken = if offset < 2 * GAPS { Taken::Kept } else { Taken::Dropped };
            assert_eq!(assemblies.add(&part(1, offset, total, b"x"), total, 0), Ok(taken), "{offset}");
        }
        assert!(assemblies.all[&(LANE, 1)].gaps.len() <= GAPS);
        let taken = assemblies.add(&part(1, 0, total, &vec![b'x'; total]), total, 0);
        let Ok(Taken::Whole(whole)) = taken else { panic!("{taken:?}") };
        assert_eq!(whole.data, vec![b'x'; total]);
    }
}
