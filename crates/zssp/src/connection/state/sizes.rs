//! How large the messages under way of one exchange are.

use std::collections::VecDeque;

use seqex::SeqNo;

use crate::connection::flight::Landed;

/// In the size of a message that goes in a bundle with the one before it.
const JOINED: u32 = 1 << 31;

/// Bytes of each message under way, from the oldest to the newest of them: as many as fit the window of its exchange.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    first: SeqNo,
    /// With [`JOINED`]; 0 is none under way.
    sizes: VecDeque<u32>,
}

impl Sizes {
    /// A message of `len` bytes goes under way. Yields how many bytes of it already were.
    pub(super) fn put(&mut self, seq: SeqNo, len: u32) -> u32 {
        if self.sizes.is_empty() {
            self.first = seq;
        }
        // What is sent again may be older than all that is under way.
        if seq.since(self.first) > u32::MAX / 2 {
            for _ in 0..self.first.since(seq) {
                self.sizes.push_front(0);
            }
            self.first = seq;
        }
        let place = seq.since(self.first) as usize;
        if place >= self.sizes.len() {
            self.sizes.resize(place + 1, 0);
        }
        std::mem::replace(&mut self.sizes[place], len.clamp(1, !JOINED)) & !JOINED
    }

    /// A message under way joins the one before it.
    pub(super) fn join(&mut self, seq: SeqNo) {
        if let Some(size) = self.sizes.get_mut(seq.since(self.first) as usize) {
            *size |= JOINED;
        }
    }

    /// A message is not under way any more.
    pub(super) fn take(&mut self, seq: SeqNo) -> Landed {
        let size = self.sizes.get_mut(seq.since(self.first) as usize).map_or(0, std::mem::take);
        while let Some(0) = self.sizes.front() {
            self.sizes.pop_front();
            self.first = self.first.next();
        }
        while let Some(0) = self.sizes.back() {
            self.sizes.pop_back();
        }
        Landed { bytes: size & !JOINED, joined: size & JOINED != 0 }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is sent again, and lands in whichever order.
        #[test]
        fn sizes_are_those_of_what_is_under_way(
            start in any::<u32>(),
            steps in proptest::collection::vec((0..16_u32, 0..4_u32), 0..200),
        ) {
            let (mut sizes, mut model) = (Sizes::default(), BTreeMap::new());
            for (moved, &(offset, what)) in (0..).zip(&steps) {
                let oldest = model.keys().next().copied().unwrap_or(10_000 + moved);
                // Also older than all that is under way.
                let key = oldest + offset - 4;
                let seq = SeqNo::new(start).plus(key);
                if what < 3 {
                    let before = model.insert(key, (what, false)).map_or(0, |(bytes, _): (u32, bool)| bytes.max(1));
                    prop_assert_eq!(sizes.put(seq, what), before);
                    if what == 2 {
                        sizes.join(seq);
                        model.insert(key, (what, true));
                    }
                } else {
                    let (bytes, joined) = model.remove(&key).map_or((0, false), |(bytes, joined)| (bytes.max(1), joined));
                    prop_assert_eq!(sizes.take(seq), Landed { bytes, joined });
                }
                let span = model.keys().next_back().map_or(0, |last| last - model.keys().next().unwrap() + 1);
                prop_assert_eq!(sizes.sizes.len(), span as usize);
            }
        }
    }
}
