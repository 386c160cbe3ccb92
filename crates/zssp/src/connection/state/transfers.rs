//! Messages that travel in parts, each a payload of one datagram: what of them is to be sent, is under way, has arrived.
//!
//! Each transmission of a part has a number of its own, and the peer tells which numbers have come. So what is lost shows by
//! what overtook it (RFC 9002, 6.1), it alone is sent again, and each part that arrives makes room for the next.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::ops::{Range, RangeInclusive};
use std::time::Instant;

use seqex::SeqNo;

use super::LONGEST_TIMEOUT;
use super::divide::{data_len, part, question};
use super::lane::Transmission;
use super::reordering::{GivenUp, Reordering, Why};
use crate::connection::outgoing::Outgoing;
use crate::connection::rtt::Rtt;
use crate::frame::LaneId;

/// A message of an exchange.
pub(super) type Key = (LaneId, SeqNo);

/// All messages that travel in parts.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    messages: HashMap<Key, Transfer>,
    /// Those of which something is to be sent, in that order.
    waiting: BTreeMap<Rank, Key>,
    /// One of them of which a part goes first, whatever its priority: a time-out has let it out.
    hurried: Option<Key>,
    /// By their numbers, which is also by their time.
    under_way: BTreeMap<u64, Sent>,
    next_number: u64,
    begun: u64,
    /// The newest part known to have arrived: evidence against those before it.
    newest: Option<u64>,
    reordering: Reordering,
    /// When something was last heard of parts, or given up waiting for.
    timer_from: Option<Instant>,
    backoff: u32,
}

/// The highest priority goes first, and then what began first.
type Rank = (Reverse<i32>, u64);

#[derive(Debug)]
struct Transfer {
    message: Transmission,
    rank: Rank,
    /// What is to be sent of the data, in order, with gaps between.
    missing: Vec<Range<usize>>,
    under_way: usize,
    arrived: u64,
}

/// A part under way.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) key: Key,
    pub(super) at: Instant,
    /// Bytes of its payload.
    pub(super) len: usize,
    pub(super) range: Range<usize>,
}

/// What was left of a transfer when it ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ended {
    /// Parts that have arrived.
    pub(super) arrived: u64,
    /// Bytes under way.
    pub(super) bytes: usize,
}

/// Look.
impl Transfers {
    /// Whether a time-out has let a part out.
    pub(super) fn are_hurried(&self) -> bool {
        self.hurried.is_some()
    }

    /// Whether it is the turn of a part, where messages of that priority wait.
    pub(super) fn are_next(&self, others: Option<i32>) -> bool {
        self.waiting.first_key_value().is_some_and(|(&(Reverse(priority), _), _)| others <= Some(priority))
    }

    /// Whether a part waits to be sent.
    pub(super) fn wait(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether nothing of the message is to be sent or under way.
    pub(super) fn is_over(&self, key: Key) -> bool {
        self.messages.get(&key).is_some_and(|transfer| transfer.missing.is_empty() && transfer.under_way == 0)
    }

    /// Whether there has been a part of that number.
    pub(super) fn has_been(&self, number: u64) -> bool {
        number < self.next_number
    }

    /// When [`Transfers::lost`] or [`Transfers::timed_out`] has something.
    pub(super) fn deadline(&self, rtt: &Rtt) -> Option<Instant> {
        self.lost_from(rtt).or_else(|| self.timeout_at(rtt))
    }

    //= ZSSP-PRT-08  by evidence, RFC 9002
    /// When the oldest part under way counts as lost, if a later one has arrived.
    fn lost_from(&self, rtt: &Rtt) -> Option<Instant> {
        let (&number, sent) = self.under_way.first_key_value()?;
        let overtaken_by = self.newest.filter(|&newest| newest > number)? - number;
        Some(self.reordering.lost_from(rtt, sent.at, overtaken_by))
    }

    fn timeout_at(&self, rtt: &Rtt) -> Option<Instant> {
        let (_, sent) = self.under_way.first_key_value()?;
        let timeout = rtt.timeout().saturating_mul(1 << self.backoff.min(u32::BITS - 1));
        Some(self.timer_from.map_or(sent.at, |from| from.max(sent.at)) + timeout.min(LONGEST_TIMEOUT))
    }
}

/// Command.
impl Transfers {
    /// A message is to travel in parts.
    pub(super) fn begin(&mut self, key: Key, priority: i32, message: Transmission) {
        let rank = (Reverse(priority), self.begun);
        self.begun += 1;
        let missing = vec![Range { start: 0, end: data_len(&message) }];
        self.waiting.insert(rank, key);
        self.messages.insert(key, Transfer { message, rank, missing, under_way: 0, arrived: 0 });
    }

    /// The next part is one of that message, which has just begun.
    pub(super) fn hurry(&mut self, key: Key) {
        self.hurried = Some(key);
    }

    /// The peer has the message: none of its parts is needed any more.
    pub(super) fn end(&mut self, key: Key) -> Option<Ended> {
        // Nearly always there is none at all.
        if self.messages.is_empty() {
            return None;
        }
        let Transfer { rank, under_way, arrived, .. } = self.messages.remove(&key)?;
        self.waiting.remove(&rank);
        self.hurried.take_if(|hurried| *hurried == key);
        let mut bytes = 0;
        if under_way > 0 {
            self.under_way.retain(|_, sent| {
                let stays = sent.key != key;
                bytes += if stays { 0 } else { sent.len };
                stays
            });
        }
        Some(Ended { arrived, bytes })
    }
}

/// Feed.
impl Transfers {
    /// Takes out the oldest part under way with one of these numbers: it has arrived.
    pub(super) fn arrived(&mut self, now: Instant, numbers: &RangeInclusive<u64>) -> Option<(u64, Sent)> {
        let (&number, _) = self.under_way.range(numbers.clone()).next()?;
        let sent = self.under_way.remove(&number)?;
        self.heard(now, number);
        if let Some(transfer) = self.messages.get_mut(&sent.key) {
            transfer.under_way -= 1;
            transfer.arrived += 1;
        }
        Some((number, sent))
    }

    /// Takes out the oldest part with one of these numbers that was given up, and is not sent again as far as that has not
    /// happened yet: it was only late.
    pub(super) fn arrived_late(&mut self, now: Instant, numbers: &RangeInclusive<u64>) -> Option<GivenUp> {
        let (number, late) = self.reordering.arrived(numbers, self.next_number)?;
        self.heard(now, number);
        if let Some(transfer) = self.messages.get_mut(&late.sent.key) {
            transfer.arrived += 1;
            transfer.find(&late.sent.range);
            if transfer.missing.is_empty() {
                self.waiting.remove(&transfer.rank);
                self.hurried.take_if(|hurried| *hurried == late.sent.key);
            }
        }
        Some(late)
    }

    fn heard(&mut self, now: Instant, number: u64) {
        self.newest = self.newest.max(Some(number));
        (self.timer_from, self.backoff) = (Some(now), 0);
    }

    /// The next part that later ones show to be lost. It is sent again.
    pub(super) fn lost(&mut self, now: Instant, rtt: &Rtt) -> Option<Sent> {
        self.lost_from(rtt).filter(|&from| from <= now)?;
        self.give_up_oldest(Why::Evidence)
    }

    /// The oldest part, if nothing was heard of any for a time-out. It is sent again: its answer is the evidence about the
    /// others.
    pub(super) fn timed_out(&mut self, now: Instant, rtt: &Rtt) -> Option<Sent> {
        if self.lost_from(rtt).is_some() || self.timeout_at(rtt)? > now {
            return None;
        }
        self.timer_from = Some(now);
        self.backoff = self.backoff.saturating_add(1);
        let sent = self.give_up_oldest(Why::TimeOut)?;
        self.hurried = Some(sent.key);
        Some(sent)
    }

    fn give_up_oldest(&mut self, why: Why) -> Option<Sent> {
        let (number, sent) = self.under_way.pop_first()?;
        if let Some(transfer) = self.messages.get_mut(&sent.key) {
            transfer.under_way -= 1;
            transfer.miss(sent.range.clone());
            self.waiting.insert(transfer.rank, sent.key);
        }
        let part = GivenUp { sent: sent.clone(), why };
        self.reordering.give_up((number, part), self.newest, self.next_number);
        Some(sent)
    }
}

/// Drain.
impl Transfers {
    /// The next part, with up to `limit` bytes of data.
    pub(super) fn send(&mut self, now: Instant, limit: usize) -> Option<Outgoing> {
        let first = || self.waiting.first_key_value().map(|(_, &key)| key);
        let key @ (id, _) = self.hurried.take().or_else(first)?;
        let transfer = self.messages.get_mut(&key)?;
        let range = transfer.take_missing(limit)?;
        if transfer.missing.is_empty() {
            self.waiting.remove(&transfer.rank);
        }
        transfer.under_way += 1;
        //= ZSSP-PRT-07  one number after the other
        let outgoing = part(self.next_number, id.group(), &transfer.message, range.clone());
        self.under_way.insert(self.next_number, Sent { key, at: now, len: outgoing.len(), range });
        self.next_number += 1;
        Some(outgoing)
    }

    /// What asks for the answer to a message that the peer has. That it arrives is not looked at.
    pub(super) fn ask(&mut self, id: LaneId, message: &Transmission) -> Outgoing {
        self.next_number += 1;
        question(self.next_number - 1, id.group(), message)
    }
}

impl Transfer {
    /// Takes up to `limit` bytes off the front, so that what is left of a gap is in pieces of about the same size.
    fn take_missing(&mut self, limit: usize) -> Option<Range<usize>> {
        let gap = self.missing.first_mut()?;
        let pieces = gap.len().div_ceil(limit.max(1)).max(1);
        let range = gap.start..gap.start + gap.len().div_ceil(pieces);
        gap.start = range.end;
        if gap.start == gap.end {
            self.missing.remove(0);
        }
        Some(range)
    }

    /// These bytes are to be sent again. None of them is missing already.
    fn miss(&mut self, mut range: Range<usize>) {
        let place = self.missing.partition_point(|gap| gap.end < range.start);
        while let Some(gap) = self.missing.get(place)
            && gap.start <= range.end
        {
            range = range.start.min(gap.start)..range.end.max(gap.end);
            self.missing.remove(place);
        }
        self.missing.insert(place, range);
    }

    /// These bytes have arrived: what of them is missing is not.
    fn find(&mut self, range: &Range<usize>) {
        let mut place = self.missing.partition_point(|gap| gap.end <= range.start);
        while let Some(gap) = self.missing.get_mut(place)
            && gap.start < range.end
        {
            let after = range.end..gap.end;
            gap.end = gap.end.min(range.start.max(gap.start));
            if gap.start == gap.end {
                self.missing.remove(place);
            } else {
                place += 1;
            }
            if after.start < after.end {
                self.missing.insert(place, after);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use bytes::Bytes;
    use proptest::prelude::*;
    use seqex::encoding::MessageHeader;
    use seqex::{Message, Order};

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const ID: LaneId = LaneId::Channel(0);

    fn message(seq: u32, len: usize) -> Transmission {
        let message = Message { seq: seq.into(), reply_to: None, order: Order::Unordered, data: () };
        Transmission {
            header: MessageHeader::new(ID.channel(), &message),
            chunk: None,
            body: Bytes::from(vec![7; len]),
            seq: seq.into(),
            is_reply: false,
            again: false,
            is_held: false,
        }
    }

    fn key(seq: u32) -> Key {
        (ID, seq.into())
    }

    /// A road whose round trip is known to be so long.
    fn rtt(time: Duration) -> Rtt {
        let mut rtt = Rtt::default();
        (0..100).for_each(|_| rtt.sample(time));
        rtt
    }

    fn send_all(transfers: &mut Transfers, now: Instant, limit: usize) -> usize {
        std::iter::from_fn(|| transfers.send(now, limit)).count()
    }

    fn arrive(transfers: &mut Transfers, now: Instant, number: u64) {
        assert!(transfers.arrived(now, &(number..=number)).is_some());
    }

    proptest! {
        /// Whatever is lost, and however it is divided the next time: every byte is to be sent, or under way, or has
        /// arrived, and in the end all have.
        #[test]
        fn each_byte_is_in_one_place(
            total in 1usize..3000,
            rounds in proptest::collection::vec((1usize..500, 0usize..10, any::<u64>()), 1..40),
        ) {
            let (mut transfers, rtt, mut now) = (Transfers::default(), rtt(40 * MS), Instant::now());
            transfers.begin(key(5), 0, message(5, total));
            let mut places = vec![0; total];
            // The last rounds lose nothing.
            let last = [(100, usize::MAX, u64::MAX); 3];
            for (limit, sent, fate) in rounds.into_iter().chain(last) {
                for _ in 0..sent {
                    let Some(part) = transfers.send(now, limit) else { break };
                    prop_assert!(part.parts()[1].len() <= limit);
                }
                let numbers: Vec<u64> = transfers.under_way.keys().copied().collect();
                for number in numbers {
                    if fate >> (number % 64) & 1 == 1 {
                        let (_, sent) = transfers.arrived(now, &(number..=number)).unwrap();
                        sent.range.for_each(|byte| places[byte] += 1);
                    }
                }
                now += 3 * LONGEST_TIMEOUT;
                while transfers.lost(now, &rtt).is_some() {}
                transfers.timed_out(now, &rtt);
                let mut all = places.clone();
                let transfer = &transfers.messages[&key(5)];
                let under_way = transfers.under_way.values().map(|sent| &sent.range);
                for range in transfer.missing.iter().chain(under_way) {
                    range.clone().for_each(|byte| all[byte] += 1);
                }
                prop_assert!(all.iter().all(|&count| count == 1), "{all:?}");
                prop_assert_eq!(transfers.wait(), !transfer.missing.is_empty());
                prop_assert_eq!(transfers.is_over(key(5)), places.iter().all(|&count| count == 1));
            }
            prop_assert!(transfers.is_over(key(5)));
        }
    }

    proptest! {
        /// Against a set of bytes, whatever is given up and comes late.
        #[test]
        fn what_is_missing_is_what_is_left(
            ranges in proptest::collection::vec((0usize..60, 1usize..20, any::<bool>()), 1..40),
        ) {
            let (rank, message) = ((Reverse(0), 0), message(0, 80));
            let mut transfer = Transfer { message, rank, missing: Vec::new(), under_way: 0, arrived: 0 };
            let mut model = BTreeSet::new();
            for (start, len, missed) in ranges {
                let range = start..start + len;
                // What is missing is not missed again.
                if missed && range.clone().all(|byte| !model.contains(&byte)) {
                    model.extend(range.clone());
                    transfer.miss(range);
                } else {
                    model.retain(|byte| !range.contains(byte));
                    transfer.find(&range);
                }
                prop_assert!(transfer.missing.iter().flat_map(Clone::clone).eq(model.iter().copied()));
                prop_assert!(transfer.missing.windows(2).all(|pair| pair[0].end < pair[1].start));
                prop_assert!(transfer.missing.iter().all(|gap| gap.start < gap.end));
            }
        }
    }

    /// A time-out had let it out, and it was yet to go: what goes instead is not held up.
    #[test]
    fn a_part_that_was_only_late_leaves_its_turn_to_others() {
        let (mut transfers, rtt, start) = (Transfers::default(), rtt(40 * MS), Instant::now());
        transfers.begin(key(0), 0, message(0, 200));
        assert_eq!(send_all(&mut transfers, start, 100), 2);
        assert!(transfers.timed_out(start + LONGEST_TIMEOUT, &rtt).is_some());
        transfers.begin(key(1), 0, message(1, 100));
        assert!(transfers.arrived_late(start + LONGEST_TIMEOUT, &(0..=0)).is_some());
        assert_eq!(send_all(&mut transfers, start + LONGEST_TIMEOUT, 100), 1);
    }

    /// It need not be sent again, and others are waited for longer.
    #[test]
    fn a_part_that_was_only_late_is_learned_from() {
        let (mut transfers, rtt, start) = (Transfers::default(), rtt(40 * MS), Instant::now());
        transfers.begin(key(0), 0, message(0, 1000));
        assert_eq!(send_all(&mut transfers, start, 100), 10);
        let now = start + 40 * MS;
        (2..5).for_each(|number| arrive(&mut transfers, now, number));
        assert!(transfers.lost(now, &rtt).is_some());
        assert!(transfers.wait());
        let late = transfers.arrived_late(now + MS, &(0..=9)).unwrap();
        assert_eq!((late.sent.at, late.why), (start, Why::Evidence));
        assert!(transfers.arrived_late(now + MS, &(0..=9)).is_none(), "once");
        assert!(!transfers.wait(), "it has arrived");
        assert_eq!(
            transfers.deadline(&rtt),
            Some(start + 50 * MS),
            "a quarter of a round trip, not an eighth"
        );
        assert!(transfers.lost(start + 49 * MS, &rtt).is_none());
        assert!(transfers.lost(start + 50 * MS, &rtt).is_some());
        // One that is under way again goes on.
        transfers.send(start + 50 * MS, 100).unwrap();
        assert!(transfers.arrived_late(start + 51 * MS, &(1..=1)).is_some());
        (5..=10).for_each(|number| arrive(&mut transfers, start + 90 * MS, number));
        assert!(transfers.is_over(key(0)));
    }

    //= ZSSP-PRT-08  by three, by time, and by nothing at all
    #[test]
    fn a_part_is_lost_when_others_overtake_it_or_nothing_comes() {
        let (mut transfers, rtt, start) = (Transfers::default(), rtt(40 * MS), Instant::now());
        transfers.begin(key(0), 0, message(0, 1000));
        assert_eq!(send_all(&mut transfers, start, 100), 10);
        let now = start + 40 * MS;
        arrive(&mut transfers, now, 1);
        arrive(&mut transfers, now, 2);
        assert!(transfers.lost(now, &rtt).is_none(), "overtaken by two");
        assert_eq!(transfers.deadline(&rtt), Some(start + 45 * MS));
        arrive(&mut transfers, now, 3);
        assert_eq!(transfers.lost(now, &rtt).unwrap().range, 0..100);
        assert!(transfers.lost(now, &rtt).is_none());
        arrive(&mut transfers, now, 5);
        assert!(transfers.lost(start + 44 * MS, &rtt).is_none());
        assert_eq!(transfers.lost(start + 45 * MS, &rtt).unwrap().range, 400..500);
        // From here on nothing is heard. One part at a time asks, ever more rarely.
        let mut from = now;
        for timeout in [43, 86, 172, 344, 688, 1376, 2000, 2000].map(|ms| ms * MS) {
            assert_eq!(transfers.deadline(&rtt), Some(from + timeout));
            assert!(transfers.timed_out(from + timeout - MS, &rtt).is_none());
            assert!(transfers.timed_out(from + timeout, &rtt).is_some());
            from += timeout;
            assert!(send_all(&mut transfers, from, 100) > 0);
        }
        let (_, sent) = transfers.arrived(from, &(0..=u64::MAX)).unwrap();
        let timeout = from.max(sent.at) + 43 * MS;
        assert_eq!(transfers.deadline(&rtt), Some(timeout), "and what is heard ends that");
    }

    //= ZSSP-PRT-07  also of those that are sent again, and of questions
    #[test]
    fn each_transmission_has_a_number_of_its_own() {
        let (mut transfers, rtt, now) = (Transfers::default(), rtt(40 * MS), Instant::now());
        transfers.begin(key(0), 0, message(0, 200));
        let mut parts: Vec<Outgoing> = (0..2).map(|_| transfers.send(now, 100).unwrap()).collect();
        parts.push(transfers.ask(ID, &message(3, 100)));
        assert!(transfers.timed_out(now + LONGEST_TIMEOUT, &rtt).is_some());
        parts.push(transfers.send(now, 100).unwrap());
        for (number, part) in (0u64..).zip(&parts) {
            assert_eq!(part.parts()[0][1..9], number.to_be_bytes());
            assert!(transfers.has_been(number));
        }
        assert!(!transfers.has_been(4));
    }

    #[test]
    fn what_has_a_higher_priority_goes_first_and_then_what_began_first() {
        let (mut transfers, now) = (Transfers::default(), Instant::now());
        for (seq, priority) in [(0, 1), (1, 2), (2, 1)] {
            transfers.begin(key(seq), priority, message(seq, 150));
        }
        assert!(transfers.are_next(Some(2)) && transfers.are_next(None) && !transfers.are_next(Some(3)));
        assert_eq!(send_all(&mut transfers, now, 100), 6);
        let order: Vec<u32> = transfers.under_way.values().map(|sent| sent.key.1.to_u32()).collect();
        assert_eq!(order, [1, 1, 0, 0, 2, 2]);
        assert!(!transfers.are_next(None) && !transfers.wait());
    }

    #[test]
    fn what_a_time_out_lets_out_goes_first_once() {
        let (mut transfers, rtt, start) = (Transfers::default(), rtt(40 * MS), Instant::now());
        transfers.begin(key(0), 0, message(0, 300));
        transfers.send(start, 100).unwrap();
        transfers.begin(key(1), 1, message(1, 300));
        let now = start + LONGEST_TIMEOUT;
        assert_eq!(transfers.timed_out(now, &rtt).unwrap().key, key(0));
        assert!(transfers.are_hurried());
        transfers.send(now, 100).unwrap();
        assert!(!transfers.are_hurried());
        transfers.send(now, 100).unwrap();
        let order: Vec<Key> = transfers.under_way.values().map(|sent| sent.key).collect();
        assert_eq!(order, [key(0), key(1)]);
        transfers.hurry(key(0));
        transfers.end(key(0));
        assert!(!transfers.are_hurried(), "nobody waits for it");
    }

    #[test]
    fn a_message_that_the_peer_has_leaves_nothing_behind() {
        let (mut transfers, now) = (Transfers::default(), Instant::now());
        assert_eq!(transfers.end(key(0)), None);
        for seq in 0..2 {
            transfers.begin(key(seq), 0, message(seq, 250));
        }
        let sent: Vec<usize> = (0..2).map(|_| transfers.send(now, 100).unwrap().len()).collect();
        arrive(&mut transfers, now, 0);
        assert_eq!(transfers.end(key(0)), Some(Ended { arrived: 1, bytes: sent[1] }));
        assert_eq!(transfers.end(key(0)), None);
        assert_eq!(send_all(&mut transfers, now, 100), 3, "the other one goes on");
        for number in 2..5 {
            arrive(&mut transfers, now, number);
        }
        assert!(transfers.is_over(key(1)));
        assert_eq!(transfers.end(key(1)), Some(Ended { arrived: 3, bytes: 0 }));
        assert!(
            transfers.messages.is_empty() && transfers.waiting.is_empty() && transfers.under_way.is_empty()
        );
    }
}
