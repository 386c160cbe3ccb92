use std::sync::Arc;
use std::time::{Duration, Instant};

use super::assembly::{Assembly, Inserted, Spares};
use super::budget::{Budget, Reservation};
use crate::wire::{FragmentHeader, PacketNonce};

/// How long an incomplete packet is kept (PROTOCOL 3.5).
pub(crate) const LIFETIME: Duration = Duration::from_secs(5);

/// The packets of one session whose fragments came in different batches (PROTOCOL 3.5).
///
/// It is empty nearly always and soon holds no memory then but its own few words: [`expire`](Self::expire) gives the list
/// back, which for so long need not be made anew for each packet. What it holds is bounded three times: packets and bytes
/// of this session, and a [`Budget`] shared with all others. When a bound is reached, the oldest packets of this session
/// go first.
#[derive(Debug, Default)]
pub(crate) struct Reassembly {
    /// Oldest first.
    entries: Vec<Entry>,
}

/// An idle session pays for this and nothing more.
const _: () = assert!(size_of::<Reassembly>() <= 24);

/// The bounds of every session's [`Reassembly`].
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Incomplete packets of one session.
    pub(crate) packets: usize,
    /// Bytes held by one session.
    pub(crate) bytes: usize,
    /// Bytes held by all sessions together.
    pub(crate) budget: Arc<Budget>,
}

#[derive(Debug)]
struct Entry {
    assembly: Assembly,
    deadline: Instant,
    memory: Reservation,
}

/// What a merge did.
#[derive(Debug)]
pub(crate) struct Merge {
    /// The packet, when this completed it.
    pub(crate) outcome: Outcome,
    /// Incomplete packets that went because their time was over.
    pub(crate) expired: usize,
    /// Incomplete packets that had to make room.
    pub(crate) evicted: usize,
}

/// What became of an assembly that was handed in.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The packet is complete and no longer held here.
    Complete(Assembly),
    /// It contradicts what is here of the same packet. The newcomer was dropped.
    Misfit,
    /// There is no room for it whatever else were given up here. It was dropped alone.
    NoRoom,
    /// It was kept until the rest comes.
    Stored,
}

impl Reassembly {
    /// Joins what one batch brought of a packet with what earlier ones brought.
    pub(crate) fn merge(
        &mut self,
        now: Instant,
        assembly: Assembly,
        limits: &Limits,
        spares: &mut Spares,
    ) -> Merge {
        let expired = self.drop_expired(now, spares);
        let (outcome, evicted) = match self.position(assembly.nonce()) {
            Some(place) => (self.join(place, assembly, spares), 0),
            None if assembly.is_complete() => (Outcome::Complete(assembly), 0),
            None => self.store(now, assembly, limits, spares),
        };
        Merge { outcome, expired, evicted }
    }

    /// Adds a fragment to what earlier batches brought of its packet, if they brought anything.
    pub(crate) fn go_on(
        &mut self,
        now: Instant,
        header: &FragmentHeader,
        chunk: [&[u8]; 2],
    ) -> Option<Outcome> {
        let place = self.position(header.nonce).filter(|&place| self.entries[place].deadline > now)?;
        let inserted = self.entries[place].assembly.insert(header, chunk);
        Some(self.outcome(place, inserted))
    }

    /// Drops the packets whose time is over and says how many they were, and the list's memory when none is left. Calling it
    /// early is harmless.
    //= ZSSP-REA-04  forgotten after 5 s
    //= ZSSP-REA-07  given back when the session is idle
    //= ZSSP-DEF-17  an idle session holds no slots
    pub(crate) fn expire(&mut self, now: Instant, spares: &mut Spares) -> usize {
        let expired = self.drop_expired(now, spares);
        if self.entries.is_empty() {
            self.entries = Vec::new();
        }
        expired
    }

    //= ZSSP-DEF-15  removed when they expire, and not before
    fn drop_expired(&mut self, now: Instant, spares: &mut Spares) -> usize {
        // Oldest first, so the dead ones stand in front.
        let dead = self.entries.partition_point(|entry| entry.deadline <= now);
        for entry in self.entries.drain(..dead) {
            entry.assembly.recycle(spares);
        }
        dead
    }

    /// Whether the list has memory: whoever finds it without and with some later has to see to it that
    /// [`expire`](Self::expire) is called, once.
    pub(crate) fn is_released(&self) -> bool {
        self.entries.capacity() == 0
    }

    /// When [`expire`](Self::expire) has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.entries.first().map(|entry| entry.deadline)
    }

    /// Incomplete packets held.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of chunks held.
    pub(crate) fn held_bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.memory.bytes()).sum()
    }

    //= ZSSP-REA-01  keyed by packet nonce
    fn position(&self, nonce: PacketNonce) -> Option<usize> {
        self.entries.iter().position(|entry| entry.assembly.nonce() == nonce)
    }

    fn join(&mut self, place: usize, newcomer: Assembly, spares: &mut Spares) -> Outcome {
        let joined = self.entries[place].assembly.absorb(&newcomer);
        newcomer.recycle(spares);
        self.outcome(place, joined)
    }

    fn outcome(&mut self, place: usize, inserted: Inserted) -> Outcome {
        match inserted {
            //= ZSSP-DEF-16  removed when complete
            Inserted::Completed => Outcome::Complete(self.entries.remove(place).assembly),
            Inserted::Misfit => Outcome::Misfit,
            Inserted::Duplicate | Inserted::More => Outcome::Stored,
        }
    }

    //= ZSSP-REA-05  bounded per session
    //= ZSSP-REA-06  bounded in total
    //= ZSSP-SEC-04  memory stays within its bounds
    fn store(
        &mut self,
        now: Instant,
        assembly: Assembly,
        limits: &Limits,
        spares: &mut Spares,
    ) -> (Outcome, usize) {
        let bytes = assembly.held_bytes();
        let mut evicted = 0;
        // Nothing is given up for a newcomer that cannot fit even then.
        let attainable = limits.bytes.min(self.held_bytes().saturating_add(limits.budget.left()));
        if bytes > attainable || limits.packets == 0 {
            assembly.recycle(spares);
            return (Outcome::NoRoom, evicted);
        }
        loop {
            let fits = self.entries.len() < limits.packets && self.held_bytes() + bytes <= limits.bytes;
            if let Some(memory) = fits.then(|| limits.budget.reserve(bytes)).flatten() {
                // Threads take the time before they take turns here; the order must not suffer from that.
                let latest = self.entries.last().map_or(now, |last| last.deadline);
                let deadline = latest.max(now + LIFETIME);
                self.entries.push(Entry { assembly, deadline, memory });
                return (Outcome::Stored, evicted);
            }
            // Another session may have been quicker with what was left of the budget.
            if self.entries.is_empty() {
                assembly.recycle(spares);
                return (Outcome::NoRoom, evicted);
            }
            self.entries.remove(0).assembly.recycle(spares);
            evicted += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzzing;
    use crate::wire::PacketType;
    use crate::zfp::test_origin;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits(packets: usize, bytes: usize, budget: usize) -> Limits {
        Limits { packets, bytes, budget: Arc::new(Budget::new(budget)) }
    }

    /// One fragment of 100 bytes of a packet of three: 303 bytes are held for it.
    fn part(counter: u64, number: u8) -> Assembly {
        let nonce = PacketNonce::new(PacketType::Payload, counter);
        let header = FragmentHeader { kid: None, number, count: 3, nonce };
        Assembly::start(&header, [&[number; 100], &[]], &mut Spares::default())
    }

    struct Bench {
        table: Reassembly,
        limits: Limits,
        spares: Spares,
    }

    impl Bench {
        fn new(limits: Limits) -> Self {
            Self { table: Reassembly::default(), limits, spares: Spares::default() }
        }

        fn merge(&mut self, now: Instant, assembly: Assembly) -> Merge {
            self.table.merge(now, assembly, &self.limits, &mut self.spares)
        }
    }

    //= ZSSP-REA-07  given back when the session is idle
    //= ZSSP-DEF-16  removed when complete
    //= ZSSP-DEF-17  an idle session holds no slots
    #[test]
    fn stragglers_meet_and_leave_nothing_behind() {
        let (mut bench, now) = (Bench::new(limits(8, 10_000, 10_000)), test_origin());
        for number in [2, 0] {
            assert!(matches!(bench.merge(now, part(1, number)).outcome, Outcome::Stored));
        }
        assert_eq!((bench.table.held_bytes(), bench.limits.budget.held()), (303, 303));
        let Outcome::Complete(assembly) = bench.merge(now, part(1, 1)).outcome else { panic!("complete") };
        assert_eq!(assembly.into_packet(&mut bench.spares), [[0; 100], [1; 100], [2; 100]].concat());
        assert_eq!((bench.table.held_bytes(), bench.limits.budget.held()), (0, 0));
        assert_eq!(bench.table.next_deadline(), None);
        assert!(!bench.table.is_released(), "a list for each packet");
        bench.table.expire(now + LIFETIME, &mut bench.spares);
        assert!(bench.table.is_released());
    }

    //= ZSSP-REA-04  forgotten after 5 s, whatever else comes of it
    #[test]
    fn what_an_earlier_batch_began_goes_on_fragment_by_fragment() {
        let (mut bench, now) = (Bench::new(limits(8, 10_000, 10_000)), test_origin());
        let fragment = |table: &mut Reassembly, now: Instant, number: u8| {
            let nonce = PacketNonce::new(PacketType::Payload, 1);
            let header = FragmentHeader { kid: None, number, count: 3, nonce };
            table.go_on(now, &header, [&[number; 100], &[]])
        };
        let late = now + LIFETIME - Duration::from_nanos(1);
        for (time, begun) in [(late, true), (now + LIFETIME, false)] {
            assert!(fragment(&mut bench.table, now, 1).is_none(), "nothing was begun");
            bench.merge(now, part(1, 1));
            assert!(matches!(fragment(&mut bench.table, time, 2), Some(Outcome::Stored)) == begun);
            assert!(matches!(fragment(&mut bench.table, time, 0), Some(Outcome::Complete(_))) == begun);
            assert_eq!(bench.table.len(), usize::from(!begun));
        }
    }

    //= ZSSP-REA-05  bounded per session
    //= ZSSP-REA-06  bounded in total
    #[test]
    fn the_oldest_make_room() {
        for limits in [limits(2, 10_000, 10_000), limits(8, 700, 10_000), limits(8, 10_000, 700)] {
            let (mut bench, now) = (Bench::new(limits), test_origin());
            assert_eq!(bench.merge(now, part(1, 0)).evicted, 0);
            assert_eq!(bench.merge(now, part(2, 0)).evicted, 0);
            assert_eq!(bench.merge(now, part(3, 0)).evicted, 1);
            assert_eq!(bench.limits.budget.held(), 606);
            // The second is still there; the first is not, and begins anew in the place that the second leaves.
            bench.merge(now, part(2, 1));
            assert!(matches!(bench.merge(now, part(2, 2)).outcome, Outcome::Complete(_)));
            bench.merge(now, part(1, 1));
            assert!(matches!(bench.merge(now, part(1, 2)).outcome, Outcome::Stored), "fragment 0 is gone");
        }
    }

    #[test]
    fn what_never_fits_is_dropped_alone() {
        for limits in [limits(0, 10_000, 10_000), limits(8, 302, 10_000), limits(8, 10_000, 302)] {
            let (mut bench, now) = (Bench::new(limits), test_origin());
            let merge = bench.merge(now, part(1, 0));
            assert!(matches!(merge.outcome, Outcome::NoRoom));
            assert_eq!((merge.evicted, bench.limits.budget.held()), (0, 0));
        }
    }

    //= ZSSP-REA-06  bounded in total
    #[test]
    fn sessions_share_one_budget() {
        let now = test_origin();
        let mut first = Bench::new(limits(8, 10_000, 700));
        let mut second = Bench::new(first.limits.clone());
        first.merge(now, part(1, 0));
        first.merge(now, part(2, 0));
        assert!(matches!(second.merge(now, part(1, 0)).outcome, Outcome::NoRoom));
        first.table = Reassembly::default();
        assert!(matches!(second.merge(now, part(1, 0)).outcome, Outcome::Stored));

        // A larger one cannot be had by giving up what is here, so that is kept.
        first.merge(now, part(1, 0));
        let nonce = PacketNonce::new(PacketType::Payload, 2);
        let header = FragmentHeader { kid: None, number: 0, count: 3, nonce };
        let large = Assembly::start(&header, [&[0; 150], &[]], &mut second.spares);
        let merge = second.merge(now, large);
        assert!(matches!(merge.outcome, Outcome::NoRoom));
        assert_eq!((merge.evicted, second.table.held_bytes()), (0, 303));
    }

    //= ZSSP-REA-04  forgotten after 5 s
    //= ZSSP-DEF-15  removed when they expire, and not before
    #[test]
    fn packets_die_after_five_seconds() {
        let (mut bench, now) = (Bench::new(limits(8, 10_000, 10_000)), test_origin());
        bench.merge(now, part(1, 0));
        bench.merge(now + SECOND, part(2, 0));
        assert_eq!(bench.table.next_deadline(), Some(now + LIFETIME));
        let just_before = now + LIFETIME - Duration::from_nanos(1);
        assert_eq!(bench.table.expire(just_before, &mut bench.spares), 0);
        // More fragments do not prolong it.
        bench.merge(just_before, part(1, 1));
        let merge = bench.merge(now + LIFETIME, part(1, 2));
        assert!(matches!(merge.outcome, Outcome::Stored));
        assert_eq!(merge.expired, 1);
        assert_eq!(bench.table.expire(now + LIFETIME + LIFETIME, &mut bench.spares), 2);
        assert_eq!((bench.table.held_bytes(), bench.limits.budget.held()), (0, 0));
        assert_eq!(bench.table.entries.capacity(), 0);
    }

    #[test]
    fn a_clock_that_lags_a_little_changes_no_order() {
        let (mut bench, now) = (Bench::new(limits(8, 10_000, 10_000)), test_origin());
        bench.merge(now + SECOND, part(1, 0));
        bench.merge(now, part(2, 0));
        assert_eq!(bench.table.expire(now + LIFETIME, &mut bench.spares), 0);
        assert_eq!(bench.table.expire(now + LIFETIME + SECOND, &mut bench.spares), 2);
    }

    #[test]
    fn a_different_count_is_a_misfit() {
        let (mut bench, now) = (Bench::new(limits(8, 10_000, 10_000)), test_origin());
        bench.merge(now, part(1, 0));
        let nonce = PacketNonce::new(PacketType::Payload, 1);
        let header = FragmentHeader { kid: None, number: 1, count: 2, nonce };
        let stranger = Assembly::start(&header, [&[0; 100], &[]], &mut bench.spares);
        assert!(matches!(bench.merge(now, stranger).outcome, Outcome::Misfit));
        bench.merge(now, part(1, 1));
        assert!(matches!(bench.merge(now, part(1, 2)).outcome, Outcome::Complete(_)));
    }

    proptest! {
        //= ZSSP-REA-01  keyed by packet nonce
        //= ZSSP-REA-03  duplicates and strangers are dropped
        #[test]
        fn behaves_as_a_map_would(script in prop::collection::vec(any::<u8>(), 0..2000)) {
            fuzzing::reassembly(test_origin(), &script);
        }

        //= ZSSP-REA-05  bounded per session
        //= ZSSP-REA-06  bounded in total
        //= ZSSP-SEC-04  memory stays within its bounds
        #[test]
        fn no_bound_is_ever_passed(parts in prop::collection::vec((0..12_u64, 0..3_u8, 0..900_u64), 0..200)) {
            let mut bench = Bench::new(limits(5, 1300, 1000));
            let mut now = test_origin();
            for (counter, number, wait) in parts {
                now += Duration::from_millis(wait);
                bench.merge(now, part(counter, number));
                prop_assert!(bench.table.entries.len() <= 5);
                prop_assert!(bench.table.held_bytes() <= 1000);
                prop_assert_eq!(bench.table.held_bytes(), bench.limits.budget.held());
            }
            bench.table.expire(now + LIFETIME, &mut bench.spares);
            prop_assert_eq!(bench.limits.budget.held(), 0);
        }
    }
}
