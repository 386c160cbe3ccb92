use std::hash::{DefaultHasher, Hasher};
use std::time::Instant;

use super::Split;
use super::reassembly::LIFETIME;
use crate::crypto::Secret;
use crate::wire::{FragmentHeader, HEADER_LEN, Hello, MAX_FRAGMENTS, MIN_MTU, PacketType};

/// Slots that a hello can be put in; the salt decides which.
const WAYS: usize = 8;

/// The most fragments of a hello, at the smallest MTU.
const MAX_COUNT: usize = Hello::LEN.div_ceil(MIN_MTU - HEADER_LEN);

const _: () = assert!(MAX_COUNT <= MAX_FRAGMENTS);

/// The most memory that a cache reserves, half a million hellos: a bound that means "any amount" must not take it all.
const MAX_BYTES: usize = 1 << 30;

/// Hellos of strangers on their way back from fragments: one buffer of fixed size for everyone
/// (PROTOCOL 3.5).
///
/// All hellos have one length, so the number and count of a fragment say exactly how long it must be and where
/// it goes; everything else is refused. A place is found by a salted hash of source address and packet nonce,
/// and in the few slots there the newcomer takes one that is free, or else one that the hash chose. So nobody
/// can aim at the place of another, nobody is locked out by hellos that never complete, and a flood costs
/// others a fragment only by chance, which the next resend repairs.
///
/// Challenges come from strangers too, but always fit one fragment and have nothing to wait for.
pub(crate) struct HelloCache {
    salt: Secret<16>,
    slots: Box<[Slot]>,
    /// The packet of each slot. Memory that no hello was ever put in is not touched.
    packets: Vec<[u8; Hello::LEN]>,
}

/// What became of a fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cached<'a> {
    /// It was the last one missing. The slot is free again: take a copy before the next call.
    Complete(&'a [u8; Hello::LEN]),
    /// It is here already.
    Duplicate,
    /// It cannot be a fragment of a hello, and was not looked at any further.
    Misfit,
    /// It is kept until the rest comes.
    Stored,
    /// The same, and an incomplete hello had to make room for it.
    StoredAfterEviction,
}

#[derive(Clone, Copy)]
struct Slot {
    /// Of source address and packet nonce.
    hash: u64,
    /// One bit for each fragment that is here.
    received: u64,
    count: u8,
    /// `None` when the slot is free.
    deadline: Option<Instant>,
}

impl Slot {
    const FREE: Self = Self { hash: 0, received: 0, count: 0, deadline: None };

    //= ZSSP-REA-04  forgotten after 5 s
    fn is_alive(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| now < deadline)
    }
}

impl HelloCache {
    /// A cache that holds at most `bytes` and [`MAX_BYTES`], or one group of slots (about 14 KiB) where that is more. The salt
    /// is random and never leaves.
    //= ZSSP-REA-08  one bounded buffer for all hellos
    //= ZSSP-SEC-04  memory stays within its bounds
    pub(crate) fn new(bytes: usize, salt: Secret<16>) -> Self {
        let slots = Self::slots(bytes);
        Self {
            salt,
            slots: vec![Slot::FREE; slots].into_boxed_slice(),
            packets: vec![[0; Hello::LEN]; slots],
        }
    }

    /// How many slots fit, in whole groups.
    fn slots(bytes: usize) -> usize {
        let group = WAYS * (size_of::<Slot>() + Hello::LEN);
        (bytes.min(MAX_BYTES) / group).max(1) * WAYS
    }

    /// Adds a fragment that came without a key id. `from` is whatever tells senders apart.
    pub(crate) fn insert<'a>(
        &'a mut self,
        now: Instant,
        from: &[u8],
        header: &FragmentHeader,
        chunk: &'a [u8],
    ) -> Cached<'a> {
        let chunk_place = Split::into_pieces(Hello::LEN, header.count.into()).chunk(header.number.into());
        if header.kid.is_some()
            || header.nonce.packet_type() != Some(PacketType::Hello)
            || usize::from(header.count) > MAX_COUNT
            || chunk.len() != chunk_place.len()
        {
            return Cached::Misfit;
        }
        if let Ok(whole) = chunk.try_into() {
            return Cached::Complete(whole);
        }

        let hash = self.hash(from, header);
        let Claim { place, evicted } = self.claim(now, hash, header.count);
        let (slot, packet) = (&mut self.slots[place], &mut self.packets[place]);
        let bit = 1 << header.number;
        if slot.count != header.count {
            return Cached::Misfit;
        }
        if slot.received & bit != 0 {
            return Cached::Duplicate;
        }
        packet[chunk_place].copy_from_slice(chunk);
        slot.received |= bit;
        if slot.received.count_ones() < slot.count.into() {
            return if evicted { Cached::StoredAfterEviction } else { Cached::Stored };
        }
        slot.deadline = None;
        Cached::Complete(packet)
    }

    /// Bytes of memory held, now and always.
    pub(crate) fn held_bytes(&self) -> usize {
        size_of_val(&*self.slots) + size_of_val(&*self.packets)
    }

    /// The slot of this hello: the one it has, or a new one.
    fn claim(&mut self, now: Instant, hash: u64, count: u8) -> Claim {
        let sets = self.slots.len() / WAYS;
        // The remainder is below `sets`, which is a usize.
        let first = (hash % sets as u64) as usize * WAYS;
        let set = &mut self.slots[first..first + WAYS];
        if let Some(way) = set.iter().position(|slot| slot.hash == hash && slot.is_alive(now)) {
            return Claim { place: first + way, evicted: false };
        }
        let free = set.iter().position(|slot| !slot.is_alive(now));
        // Bits that have no part in choosing the set, so every slot of it is as likely.
        let way = free.unwrap_or((hash >> 32) as usize % WAYS);
        set[way] = Slot { hash, received: 0, count, deadline: Some(now + LIFETIME) };
        Claim { place: first + way, evicted: free.is_none() }
    }

    /// SipHash with fixed keys, which the standard library offers, over a secret prefix: what is hashed
    /// afterwards meets a state of 128 unknown bits, as it would with secret keys. No more than where a hello
    /// is kept for milliseconds depends on it, and nobody outside ever sees a hash.
    //= ZSSP-REA-09  keyed by a salted hash of source address and packet nonce
    fn hash(&self, from: &[u8], header: &FragmentHeader) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write(self.salt.expose());
        hasher.write_usize(from.len());
        hasher.write(from);
        hasher.write(&header.nonce.to_bytes());
        hasher.finish()
    }
}

struct Claim {
    place: usize,
    evicted: bool,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::fuzzing;
    use crate::wire::{KeyId, PacketNonce};
    use crate::zfp::test_origin;

    const HEADER: FragmentHeader =
        FragmentHeader { kid: None, number: 0, count: 2, nonce: PacketNonce::new(PacketType::Hello, 1) };

    /// A hello's two fragments, as a sender with this header counter makes them.
    fn halves(counter: u64) -> [(FragmentHeader, Vec<u8>); 2] {
        [(0, 875), (1, 874)].map(|(number, len)| {
            let nonce = PacketNonce::new(PacketType::Hello, counter);
            (FragmentHeader { number, nonce, ..HEADER }, vec![number; len])
        })
    }

    fn cache(bytes: usize) -> HelloCache {
        HelloCache::new(bytes, Secret::new([9; 16]))
    }

    #[test]
    fn no_bound_takes_all_memory() {
        assert_eq!(HelloCache::slots(0), WAYS);
        let most = HelloCache::slots(usize::MAX);
        assert_eq!(most, HelloCache::slots(MAX_BYTES));
        assert!(most * (size_of::<Slot>() + Hello::LEN) <= MAX_BYTES);
    }

    #[test]
    fn what_no_hello_can_be_is_refused() {
        let (mut cache, now) = (cache(100_000), test_origin());
        let mut put = |header: FragmentHeader, len: usize| {
            let chunk = vec![0; len];
            cache.insert(now, b"a", &header, &chunk) != Cached::Misfit
        };
        assert!(put(HEADER, 875));
        assert!(!put(HEADER, 874) && !put(HEADER, 876) && !put(HEADER, 0));
        assert!(!put(FragmentHeader { number: 1, ..HEADER }, 875));
        assert!(!put(FragmentHeader { count: 3, ..HEADER }, 583), "another count under the same nonce");
        assert!(!put(FragmentHeader { kid: KeyId::new([1; 4]), ..HEADER }, 875));
        for packet_type in [PacketType::Challenge, PacketType::Response, PacketType::Payload] {
            let nonce = PacketNonce::new(packet_type, 2);
            assert!(!put(FragmentHeader { nonce, ..HEADER }, 875));
        }
        let nonce = PacketNonce::new(PacketType::Hello, 3);
        assert!(put(FragmentHeader { count: 16, nonce, ..HEADER }, 110));
        let nonce = PacketNonce::new(PacketType::Hello, 4);
        assert!(!put(FragmentHeader { count: 17, nonce, ..HEADER }, 103));
    }

    //= ZSSP-REA-09  keyed by source address and packet nonce
    #[test]
    fn halves_of_different_sources_do_not_meet() {
        let (mut cache, now) = (cache(100_000), test_origin());
        let [(first, a), (second, b)] = halves(7);
        assert_eq!(cache.insert(now, b"1", &first, &a), Cached::Stored);
        assert_eq!(cache.insert(now, b"2", &second, &b), Cached::Stored);
        assert_eq!(cache.insert(now, b"1", &first, &a), Cached::Duplicate);
        let Cached::Complete(hello) = cache.insert(now, b"1", &second, &b) else { panic!("complete") };
        assert_eq!(hello[..], [&a[..], &b].concat());
    }

    //= ZSSP-REA-04  forgotten after 5 s
    #[test]
    fn a_half_is_forgotten_after_five_seconds() {
        let (mut cache, now) = (cache(100_000), test_origin());
        let [(first, a), (second, b)] = halves(7);
        assert_eq!(cache.insert(now, b"1", &first, &a), Cached::Stored);
        assert_eq!(cache.insert(now + LIFETIME, b"1", &second, &b), Cached::Stored);
        let later = now + LIFETIME + LIFETIME - Duration::from_nanos(1);
        assert!(matches!(cache.insert(later, b"1", &first, &a), Cached::Complete(_)));
    }

    //= ZSSP-REA-08  one bounded buffer for all hellos
    //= ZSSP-SEC-04  memory stays within its bounds
    //= ZSSP-DEF-13  no slot is the one that is always evicted
    #[test]
    fn a_flood_neither_grows_the_cache_nor_locks_others_out() {
        let limit = 1 << 20;
        let (mut cache, now) = (cache(limit), test_origin());
        let [(first, a), (second, b)] = halves(7);
        let mut evictions = 0_u32;
        for source in 0..100_000_u32 {
            let cached = cache.insert(now, &source.to_be_bytes(), &first, &a);
            evictions += u32::from(cached == Cached::StoredAfterEviction);
            assert!(cache.held_bytes() <= limit);
        }
        // Every slot was filled once; all else had to push somebody out.
        assert_eq!(evictions as usize, 100_000 - cache.slots.len());
        assert!(cache.slots.len() * (size_of::<Slot>() + Hello::LEN) == cache.held_bytes());

        // While it goes on, with a dozen of its hellos between the two halves of an honest one.
        let completed = (0..1000_u32).filter(|honest| {
            let from = [b"honest", &honest.to_be_bytes()[..]].concat();
            cache.insert(now, &from, &first, &a);
            for source in 0..12 {
                cache.insert(now, &[honest.to_be_bytes(), [source; 4]].concat(), &first, &a);
            }
            matches!(cache.insert(now, &from, &second, &b), Cached::Complete(_))
        });
        assert!(completed.count() > 950);
    }

    //= ZSSP-REA-09  nobody without the salt can aim at a slot
    #[test]
    fn the_salt_decides_who_meets_whom() {
        let sets = |salt: u8| -> Vec<usize> {
            let mut cache = HelloCache::new(1 << 20, Secret::new([salt; 16]));
            let place = |source: u8| {
                let hash = cache.hash(&[source], &HEADER);
                cache.claim(test_origin(), hash, 2).place / WAYS
            };
            (0..32).map(place).collect()
        };
        assert_eq!(sets(1), sets(1));
        assert_ne!(sets(1), sets(2));
    }

    proptest! {
        #[test]
        fn behaves_as_a_map_would(script in prop::collection::vec(any::<u8>(), 0..2000)) {
            fuzzing::hello_cache(test_origin(), &script);
        }
    }
}
