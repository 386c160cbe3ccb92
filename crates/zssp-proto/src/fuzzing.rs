//! What fuzz targets and property tests share: any bytes go in, and a panic is a finding.
//!
//! The stateful bodies read the bytes as a script and check each step against a slow, obvious model.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::crypto::Secret;
use crate::wire::{
    Challenge, ChallengePacket, Completion, Control, FragmentHeader, Hello, PacketNonce, PacketType, Rekey,
    RekeyBody, Response,
};
use crate::zfp::{
    Assembly, Budget, Cached, HelloCache, Inserted, Limits, Outcome, Reassembly, Spares, Split,
};

/// Every parser: what one accepts, it emits unchanged.
pub fn parsers(bytes: &[u8]) {
    macro_rules! round_trip {
        ($($view:ident)*) => {$(
            if let Ok(view) = $view::parse(bytes) {
                let mut emitted = Vec::new();
                view.emit(&mut emitted);
                assert_eq!(emitted, bytes, stringify!($view));
            }
        )*};
    }
    round_trip!(ChallengePacket Completion Control Hello Rekey RekeyBody Response);
    if let Ok(challenge) = bytes.try_into().map(Challenge::from_bytes) {
        assert_eq!(challenge.to_bytes(), bytes);
    }
    let mut datagram = bytes.to_vec();
    let kid = FragmentHeader::peek_kid(bytes);
    if let Ok((header, chunk)) = FragmentHeader::split_off(&mut datagram) {
        assert_eq!(kid, Ok(header.kid));
        assert!(header.number < header.count);
        assert_eq!([&header.emit()[..], chunk].concat(), bytes);
    }
}

/// `Split` for any packet and MTU: two lengths of four bytes each.
pub fn split(bytes: &[u8]) {
    let Some((packet_len, rest)) = bytes.split_first_chunk() else { return };
    let Some((mtu, _)) = rest.split_first_chunk() else { return };
    let (packet_len, mtu) = (u32::from_be_bytes(*packet_len) as usize, u32::from_be_bytes(*mtu) as usize);
    let Ok(split) = Split::new(packet_len, mtu) else { return };
    let fragments: usize = split.fragments().map(|fragment| fragment.len()).sum();
    let runs: usize = split.runs().map(|run| run.datagram_len * run.count).sum();
    assert_eq!((fragments, runs), (split.buffer_len(), split.buffer_len()));
    assert!(split.fragments().all(|fragment| (32..=mtu).contains(&fragment.len())));
    assert!(split.count() <= 48 && split.runs().count() <= 2);
}

/// `Assembly` and `Reassembly` against a map of maps, with room for everything.
pub fn reassembly(start: Instant, script: &[u8]) {
    let limits = Limits { packets: 100, bytes: 1 << 20, budget: Arc::new(Budget::new(1 << 20)) };
    let (mut table, mut spares) = (Reassembly::default(), Spares::default());
    let mut model: HashMap<PacketNonce, (Instant, Model)> = HashMap::new();
    let mut now = start;
    let mut steps = script.chunks_exact(3).enumerate().peekable();
    while let Some((step, bytes)) = steps.next() {
        let (header, chunk) = fragment(step, bytes);
        let mut batch = Assembly::start(&header, [&chunk, &[]], &mut spares);
        let mut batch_model = Model::new(header.count);
        assert!(batch_model.insert(header.number, &chunk));
        // A batch goes on until a step that says otherwise; what is not of this packet must bounce off.
        while let Some((step, bytes)) = steps.next_if(|(_, bytes)| bytes[2] & 0x0c != 0) {
            let (other, chunk) = fragment(step, bytes);
            let fits = other.nonce == header.nonce
                && other.count == header.count
                && batch_model.insert(other.number, &chunk);
            let inserted = batch.insert(&other, [&chunk, &[]]);
            assert_eq!(fits, matches!(inserted, Inserted::More | Inserted::Completed));
        }

        now += Duration::from_millis(u64::from(bytes[1]) * 4);
        model.retain(|_, (born, _)| now < *born + Duration::from_secs(5));
        let (_, known) = model.entry(header.nonce).or_insert((now, Model::new(header.count)));
        let counts_agree = known.count == batch_model.count;
        if counts_agree {
            for number in &batch_model.order {
                known.insert(*number, &batch_model.chunks[number]);
            }
        }
        let packet = known.packet();
        // A single fragment may go straight to those of its packet that are there.
        let alone = bytes[2] & 0x10 != 0 && batch_model.order.len() == 1;
        let begun = if alone {
            table.expire(now, &mut spares);
            table.go_on(now, &header, [&chunk, &[]])
        } else {
            None
        };
        match begun.unwrap_or_else(|| table.merge(now, batch, &limits, &mut spares).outcome) {
            Outcome::Complete(assembly) => {
                let assembled = assembly.into_packet(&mut spares);
                assert_eq!(Some(&assembled), packet.as_ref());
                spares.put(assembled);
                model.remove(&header.nonce);
            }
            // Of several that are merged, those with an odd length are just left out.
            Outcome::Misfit => assert!(!counts_agree || alone && packet.is_none()),
            Outcome::NoRoom => panic!("there is room for everything"),
            Outcome::Stored => assert!(counts_agree && packet.is_none()),
        }
        let incomplete = table.held_bytes() > 0;
        assert_eq!(incomplete, !model.is_empty());
        assert_eq!(table.held_bytes(), limits.budget.held());
        assert_eq!(
            table.next_deadline(),
            model.values().map(|(born, _)| *born + Duration::from_secs(5)).min()
        );
    }
}

/// `HelloCache` against a map of maps, with no more hellos under way than one group of slots holds.
pub fn hello_cache(start: Instant, script: &[u8]) {
    let mut cache = HelloCache::new(0, Secret::new([3; 16]));
    let mut model: HashMap<(u8, PacketNonce), (Instant, Model)> = HashMap::new();
    let mut now = start;
    for (step, bytes) in script.chunks_exact(3).enumerate() {
        let [who, what, len] = [bytes[0], bytes[1], bytes[2]];
        let (from, nonce) = (who & 1, PacketNonce::new(PacketType::Hello, u64::from(who >> 1 & 3)));
        let count = [1, 2, 2, 3, 3, 16, 17, 48][usize::from(who >> 5)];
        let header = FragmentHeader { kid: None, number: what % count, count, nonce };
        let exact = Hello::LEN / usize::from(count)
            + usize::from(usize::from(header.number) < Hello::LEN % usize::from(count));
        let chunk = vec![step as u8; exact + usize::from(len & 0x0f == 0)];
        now += Duration::from_millis(u64::from(len) * 4);

        model.retain(|_, (born, _)| now < *born + Duration::from_secs(5));
        let possible = chunk.len() == exact && count <= 16;
        let cached = cache.insert(now, &[from], &header, &chunk);
        if !possible {
            assert_eq!(cached, Cached::Misfit);
            continue;
        }
        if count == 1 {
            assert!(matches!(cached, Cached::Complete(hello) if hello[..] == chunk));
            continue;
        }
        let key = (from, nonce);
        let (_, known) = model.entry(key).or_insert((now, Model::new(count)));
        if known.count != count {
            assert_eq!(cached, Cached::Misfit);
        } else if !known.insert(header.number, &chunk) {
            assert_eq!(cached, Cached::Duplicate);
        } else if let Some(packet) = known.packet() {
            assert!(matches!(cached, Cached::Complete(hello) if hello[..] == packet));
            model.remove(&key);
        } else {
            assert_eq!(cached, Cached::Stored);
        }
    }
}

/// A fragment out of few packets, few counts and few lengths, so that they meet; its bytes are its own.
fn fragment(step: usize, bytes: &[u8]) -> (FragmentHeader, Vec<u8>) {
    let [a, b, c] = [bytes[0], bytes[1], bytes[2]];
    let nonce = PacketNonce::new(PacketType::Payload, u64::from(a & 1));
    let count = [2, 2, 2, 3, 3, 4, 5, 48][usize::from(a >> 1 & 7)];
    let header = FragmentHeader { kid: None, number: b % count, count, nonce };
    (header, vec![step as u8; 16 + usize::from(c & 3)])
}

/// A packet under way, in the most obvious form.
struct Model {
    count: u8,
    chunks: BTreeMap<u8, Vec<u8>>,
    /// Numbers as they came.
    order: Vec<u8>,
}

impl Model {
    fn new(count: u8) -> Self {
        Self { count, chunks: BTreeMap::new(), order: Vec::new() }
    }

    /// Whether the chunk is new, and some packet splits into it and all that is here.
    fn insert(&mut self, number: u8, chunk: &[u8]) -> bool {
        if self.chunks.contains_key(&number) {
            return false;
        }
        self.chunks.insert(number, chunk.to_vec());
        let count = usize::from(self.count);
        let fits = |packet_len: usize| {
            let len = |number: u8| packet_len / count + usize::from(usize::from(number) < packet_len % count);
            self.chunks.iter().all(|(number, chunk)| chunk.len() == len(*number))
        };
        if (chunk.len().saturating_sub(1) * count..(chunk.len() + 1) * count).any(fits) {
            self.order.push(number);
            return true;
        }
        self.chunks.remove(&number);
        false
    }

    fn packet(&self) -> Option<Vec<u8>> {
        (self.chunks.len() == usize::from(self.count))
            .then(|| self.chunks.values().flatten().copied().collect())
    }
}
