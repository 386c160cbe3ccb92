use crate::wire::{FragmentHeader, MAX_FRAGMENTS, PacketNonce};

/// One packet on its way back from fragments (PROTOCOL 3.5).
///
/// Chunks are appended in the order in which they come. Nearly always that is their own order, and the buffer
/// then *is* the packet when the last has come; otherwise [`into_packet`](Self::into_packet) puts them right
/// in one more pass. What cannot be part of one canonical split is refused at once, so nothing odd can be
/// assembled, whatever comes.
#[derive(Debug)]
pub(crate) struct Assembly {
    nonce: PacketNonce,
    count: u8,
    /// One bit for each fragment that is here.
    received: u64,
    /// Those of them that are one byte longer than `short`.
    long: u64,
    /// Bytes of the shortest chunk here.
    short: usize,
    /// The numbers of the fragments here, in the order in which they came.
    order: [u8; MAX_FRAGMENTS],
    /// All chunks here, in the order in which they came.
    buffer: Vec<u8>,
}

/// What became of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// It was the last one missing.
    Completed,
    /// It is here already. Nothing changed.
    Duplicate,
    /// It belongs to another packet, or its length does not fit those here. Nothing changed.
    Misfit,
    /// It was added, and others are missing.
    More,
}

impl Assembly {
    /// An assembly that begins with this fragment, whichever it is. All the memory that it will need is taken
    /// here.
    pub(crate) fn start(header: &FragmentHeader, chunk: [&[u8]; 2], spares: &mut Spares) -> Self {
        let len = len(chunk);
        // The other chunks can be one byte longer than this one.
        let mut buffer = spares.take(usize::from(header.count) * (len + 1));
        chunk.iter().for_each(|part| buffer.extend_from_slice(part));
        let mut order = [0; MAX_FRAGMENTS];
        order[0] = header.number;
        Self {
            nonce: header.nonce,
            count: header.count,
            received: bit(header.number),
            long: 0,
            short: len,
            order,
            buffer,
        }
    }

    /// Adds a fragment.
    //= ZSSP-REA-02  fragments of a packet agree on the count
    pub(crate) fn insert(&mut self, header: &FragmentHeader, chunk: [&[u8]; 2]) -> Inserted {
        if header.nonce != self.nonce || header.count != self.count {
            return Inserted::Misfit;
        }
        self.add(header.number, chunk)
    }

    /// Adds all fragments that another assembly of the same packet has.
    pub(crate) fn absorb(&mut self, other: &Self) -> Inserted {
        if other.nonce != self.nonce || other.count != self.count {
            return Inserted::Misfit;
        }
        for (number, chunk) in other.chunks() {
            self.add(number, [chunk, &[]]);
        }
        if self.is_complete() { Inserted::Completed } else { Inserted::More }
    }

    /// The packet being assembled.
    pub(crate) const fn nonce(&self) -> PacketNonce {
        self.nonce
    }

    /// Whether no fragment is missing.
    pub(crate) const fn is_complete(&self) -> bool {
        self.received.count_ones() == self.count as u32
    }

    /// Bytes of memory held.
    pub(crate) fn held_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// The packet, or what there is of it, in order. Give the buffer to [`Spares::put`] afterwards.
    pub(crate) fn into_packet(self, spares: &mut Spares) -> Vec<u8> {
        if self.arrivals().is_sorted() {
            return self.buffer;
        }
        let mut starts = [0; MAX_FRAGMENTS];
        let mut start = 0;
        for number in self.arrivals() {
            starts[usize::from(*number)] = start;
            start += self.chunk_len(*number);
        }
        let mut packet = spares.take(self.buffer.len());
        for number in (0..self.count).filter(|number| self.received & bit(*number) != 0) {
            let chunk = &self.buffer[starts[usize::from(number)]..][..self.chunk_len(number)];
            packet.extend_from_slice(chunk);
        }
        spares.put(self.buffer);
        packet
    }

    /// Gives up, keeping the memory for others.
    pub(crate) fn recycle(self, spares: &mut Spares) {
        spares.put(self.buffer);
    }

    //= ZSSP-REA-03  duplicates and strangers are dropped
    fn add(&mut self, number: u8, chunk: [&[u8]; 2]) -> Inserted {
        let len = len(chunk);
        if self.received & bit(number) != 0 {
            return Inserted::Duplicate;
        }
        let received = self.received | bit(number);
        let (short, long) = if len == self.short {
            (self.short, self.long)
        } else if len == self.short + 1 {
            (self.short, self.long | bit(number))
        } else if len + 1 == self.short && self.long == 0 {
            (len, self.received)
        } else {
            return Inserted::Misfit;
        };
        // The long ones come first: all their bits lie below the lowest bit of a short one, of which there
        // is one at least.
        let shorts = received & !long;
        if long >= shorts & shorts.wrapping_neg() {
            return Inserted::Misfit;
        }
        let arrived = self.received.count_ones() as usize;
        (self.received, self.long, self.short) = (received, long, short);
        self.order[arrived] = number;
        chunk.iter().for_each(|part| self.buffer.extend_from_slice(part));
        if self.is_complete() { Inserted::Completed } else { Inserted::More }
    }

    fn arrivals(&self) -> &[u8] {
        &self.order[..self.received.count_ones() as usize]
    }

    fn chunk_len(&self, number: u8) -> usize {
        self.short + usize::from(self.long & bit(number) != 0)
    }

    fn chunks(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let mut rest = &self.buffer[..];
        self.arrivals().iter().map_while(move |number| {
            let (chunk, after) = rest.split_at_checked(self.chunk_len(*number))?;
            rest = after;
            Some((*number, chunk))
        })
    }
}

/// Bytes of a chunk. It comes in two parts, of which the second may be empty: a datagram that cannot be changed has the
/// first bytes of its chunk under the header's protection.
const fn len([head, tail]: [&[u8]; 2]) -> usize {
    head.len() + tail.len()
}

/// The bit of a fragment, whose number is below [`MAX_FRAGMENTS`].
const fn bit(number: u8) -> u64 {
    1 << number
}

/// A few emptied buffers, so that assembling packet after packet allocates nothing. One per receiving thread.
#[derive(Debug, Default)]
pub(crate) struct Spares(Vec<Vec<u8>>);

impl Spares {
    /// Buffers kept. Their sizes follow the traffic: the oldest makes room for the newest.
    const MAX: usize = 8;

    /// Buffers above this are not kept. A full packet of 9000-byte datagrams is below it.
    const MAX_CAPACITY: usize = 512 * 1024;

    /// An empty buffer with room for `len` bytes, not wastefully more.
    fn take(&mut self, len: usize) -> Vec<u8> {
        let fitting = len..=len.saturating_mul(4).max(4096);
        match self.0.iter().position(|buffer| fitting.contains(&buffer.capacity())) {
            Some(place) => self.0.remove(place),
            None => Vec::with_capacity(len),
        }
    }

    /// Keeps the memory of a buffer that is no longer needed.
    pub(crate) fn put(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > Self::MAX_CAPACITY {
            return;
        }
        buffer.clear();
        if self.0.len() == Self::MAX {
            self.0.remove(0);
        }
        self.0.push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::PacketType;
    use crate::zfp::Split;

    const NONCE: PacketNonce = PacketNonce::new(PacketType::Payload, 5);

    fn header(number: u8, count: u8) -> FragmentHeader {
        FragmentHeader { kid: None, number, count, nonce: NONCE }
    }

    /// Begins with the first of `fragments`, given as number and length, and inserts the others.
    fn results(count: u8, fragments: &[(u8, usize)]) -> Vec<Inserted> {
        let [(number, len), rest @ ..] = fragments else { panic!("a first fragment") };
        let mut assembly =
            Assembly::start(&header(*number, count), [&vec![0; *len], &[]], &mut Spares::default());
        rest.iter()
            .map(|(number, len)| assembly.insert(&header(*number, count), [&vec![0; *len], &[]]))
            .collect()
    }

    //= ZSSP-REA-03  duplicates and strangers are dropped
    #[test]
    fn only_one_canonical_split_can_come_together() {
        use Inserted::{Completed, Duplicate, Misfit, More};
        for (count, fragments, expected) in [
            (3, &[(0, 20), (1, 20), (2, 20)][..], &[More, Completed][..]),
            (3, &[(0, 21), (1, 20), (2, 20)], &[More, Completed]),
            (3, &[(2, 20), (0, 21), (1, 21)], &[More, Completed]),
            (3, &[(1, 21), (2, 20), (0, 21)], &[More, Completed]),
            (3, &[(0, 20), (1, 21)], &[Misfit]),
            (3, &[(1, 20), (0, 19)], &[Misfit]),
            (3, &[(0, 20), (1, 22)], &[Misfit]),
            (3, &[(0, 20), (1, 18)], &[Misfit]),
            (3, &[(2, 20), (0, 21), (1, 22)], &[More, Misfit]),
            (3, &[(0, 21), (2, 20), (1, 19)], &[More, Misfit]),
            (4, &[(0, 21), (2, 21), (1, 20), (3, 20), (1, 21)], &[More, Misfit, More, Completed]),
            (2, &[(0, 20), (0, 20), (0, 25), (1, 20)], &[Duplicate, Duplicate, Completed]),
            (2, &[(1, 0), (0, 1)], &[Completed]),
            (2, &[(1, 0), (0, 0)], &[Completed]),
        ] {
            assert_eq!(results(count, fragments), expected, "{count} {fragments:?}");
        }
    }

    //= ZSSP-REA-02  fragments of a packet agree on the count
    //= ZSSP-REA-03  duplicates and strangers are dropped
    #[test]
    fn another_packet_or_count_is_a_misfit() {
        let mut spares = Spares::default();
        let mut assembly = Assembly::start(&header(0, 2), [&[0; 20], &[]], &mut spares);
        assert_eq!(assembly.insert(&header(1, 3), [&[0; 20], &[]]), Inserted::Misfit);
        let nonce = PacketNonce::new(PacketType::Payload, 6);
        let stranger = FragmentHeader { nonce, ..header(1, 2) };
        assert_eq!(assembly.insert(&stranger, [&[0; 20], &[]]), Inserted::Misfit);
        let other = Assembly::start(&stranger, [&[0; 20], &[]], &mut spares);
        assert_eq!(assembly.absorb(&other), Inserted::Misfit);
        assert_eq!(assembly.insert(&header(1, 2), [&[0; 20], &[]]), Inserted::Completed);
    }

    #[test]
    fn the_memory_of_one_packet_serves_the_next() {
        let mut spares = Spares::default();
        let mut address = None;
        for round in 0..3 {
            let mut assembly = Assembly::start(&header(0, 2), [&[round; 101], &[]], &mut spares);
            let held = assembly.held_bytes();
            assert_eq!(assembly.insert(&header(1, 2), [&[round; 100], &[]]), Inserted::Completed);
            assert_eq!(assembly.held_bytes(), held, "all memory is taken at the start");
            let packet = assembly.into_packet(&mut spares);
            assert_eq!(packet, [round; 201]);
            assert_eq!(*address.get_or_insert(packet.as_ptr()), packet.as_ptr());
            spares.put(packet);
        }
    }

    #[test]
    fn spares_are_few_and_fit() {
        let mut spares = Spares::default();
        for len in 1..100 {
            spares.put(Vec::with_capacity(len * 10_000));
        }
        assert_eq!(spares.0.len(), Spares::MAX);
        assert!(spares.0.iter().all(|buffer| buffer.capacity() <= Spares::MAX_CAPACITY));
        assert!(spares.take(16).capacity() < 10_000, "a small packet does not occupy a large buffer");
        assert_eq!(spares.0.len(), Spares::MAX);
        assert!(spares.take(400_000).capacity() >= 400_000);
        assert_eq!(spares.0.len(), Spares::MAX - 1);
    }

    /// A packet's length and count, and the numbers of its fragments in any order with repetitions.
    fn arrivals() -> impl Strategy<Value = (usize, usize, Vec<usize>)> {
        (1..=48_usize, 0..3000_usize).prop_flat_map(|(count, extra)| {
            let once = Just((0..count).collect::<Vec<_>>());
            let again = prop::collection::vec(0..count, 0..10);
            let order = (once, again).prop_map(|(once, again)| [once, again].concat()).prop_shuffle();
            (Just(count * 16 + extra), Just(count), order)
        })
    }

    proptest! {
        #[test]
        fn any_order_gives_the_packet_back((len, count, order) in arrivals(), pieces in 1..5_usize) {
            let packet: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let split = Split::into_pieces(len, count);
            let fragment = |number: usize| {
                (header(number as u8, count as u8), &packet[split.chunk(number)])
            };
            let mut spares = Spares::default();
            // As several batches, each assembled for itself.
            let mut whole: Option<Assembly> = None;
            for batch in order.chunks(order.len().div_ceil(pieces)) {
                let (first, chunk) = fragment(batch[0]);
                let mut assembly = Assembly::start(&first, [chunk, &[]], &mut spares);
                for number in &batch[1..] {
                    let (header, chunk) = fragment(*number);
                    prop_assert_ne!(assembly.insert(&header, [chunk, &[]]), Inserted::Misfit);
                }
                match &mut whole {
                    Some(whole) => {
                        prop_assert_ne!(whole.absorb(&assembly), Inserted::Misfit);
                        assembly.recycle(&mut spares);
                    }
                    None => whole = Some(assembly),
                }
            }
            let whole = whole.unwrap();
            prop_assert!(whole.is_complete());
            prop_assert_eq!(whole.into_packet(&mut spares), packet);
        }

        #[test]
        fn in_order_nothing_is_moved(len in 96..5000_usize, count in 1..=48_usize) {
            let split = Split::into_pieces(len, count);
            let mut assembly =
                Assembly::start(&header(0, count as u8), [&vec![1; split.chunk(0).len()], &[]], &mut Spares::default());
            for number in 1..count {
                assembly.insert(&header(number as u8, count as u8), [&vec![1; split.chunk(number).len()], &[]]);
            }
            let place = assembly.buffer.as_ptr();
            let packet = assembly.into_packet(&mut Spares::default());
            prop_assert_eq!((packet.as_ptr(), packet.len()), (place, len));
        }
    }
}
