//! How much memory strangers, peers and payloads take, measured by counting every allocation (PROTOCOL 3.5, 6).
//!
//! What AWS-LC allocates in C is not seen; the figures of the pure Rust provider are complete.
//!
//! A binary of its own: the allocator that counts would be that of every other test, and what maps take grows with the
//! number of threads that use any.
#![cfg(any(feature = "aws-lc", feature = "rust-crypto"))]
#![allow(clippy::unwrap_used, reason = "in a test it is the assertion")]

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use allocation_counter::measure;
use zssp_harness::pair::{Forgery, Pair, Setup};
use zssp_proto::{
    Address, Challenging, Context, Datagram, Fault, Limits, Open, PeerName, Received, Scratch, Session,
};
use zssp_sim::Clock;

const SECOND: Duration = Duration::from_secs(1);

/// The address of the `number`th stranger.
fn stranger(number: u32) -> Address {
    Address::from(SocketAddr::from((Ipv4Addr::from(number), 9993)))
}

/// A datagram that looks like the first of two fragments of somebody's hello.
fn first_fragment(counter: u64) -> Vec<u8> {
    let mut datagram = vec![0, 0, 0, 0, 0, 2, 0, 0];
    datagram.extend(counter.to_be_bytes());
    datagram.resize(16 + 1749usize.div_ceil(2), 7);
    datagram
}

//= ZSSP-REA-08  hellos from everyone share one bounded buffer
//= ZSSP-SEC-04  memory does not grow beyond the configured bounds
#[test]
fn a_hundred_thousand_strangers_share_one_buffer() {
    let pair = Pair::new(1);
    let (context, now) = (&pair.bob.context, pair.now());
    let bound = context.stats().hello_bytes;
    assert!(bound <= Limits::default().hello_bytes, "{bound}");
    let mut scratch = Scratch::new();
    let memory = measure(|| {
        for number in 0..100_000 {
            let mut datagram = first_fragment(u64::from(number));
            let received = context.receive(now, stranger(number), &mut datagram, &mut scratch);
            assert!(matches!(received, Ok(Received::Nothing)));
        }
    });
    assert_eq!(memory.bytes_current, 0, "not a byte more than there was");
    assert!(memory.bytes_max < 2000, "{memory:?}: one datagram of the test's own");
    let stats = context.stats();
    assert_eq!((stats.hello_bytes, stats.key_ids, stats.pending_handshakes), (bound, 0, 0));
    assert!(stats.hellos_evicted > 98_000, "{stats:?}");
}

/// A hello that was built for this context costs it one pending handshake, whoever sent it, up to the bound.
//= ZSSP-SEC-04  memory does not grow beyond the configured bounds
//= ZSSP-ST-05  earlier when many are pending
#[test]
fn complete_hellos_are_bounded_too() {
    assert_eq!(Limits::default().pending_handshakes, 1024);
    let cases = [(None, 1200), (Some(8), 100)];
    let cases = providers().into_iter().flat_map(|provider| cases.map(|case| (provider.clone(), case)));
    for (provider, (limit, hellos)) in cases {
        let provider = Some(provider);
        let mut setup = Setup { challenging: Challenging::Off, provider, ..Setup::default() };
        if let Some(limit) = limit {
            setup.limits.pending_handshakes = limit;
        }
        let limit = setup.limits.pending_handshakes;
        let mut pair = Pair::with(1, &setup);
        let id = pair.alice.open(&pair.bob);
        pair.alice.context.close(id);
        let (_, hello) = pair.alice.take_outgoing().pop().unwrap();

        let full = measure(|| {
            for source in 0..limit {
                pair.bob.receive(100 + source as u16, hello.clone());
                pair.bob.take_outgoing();
            }
        });
        assert_eq!(pair.bob.stats().pending_handshakes, limit);
        let each = full.bytes_current / limit as i64;
        println!("a pending handshake takes {each} bytes");
        let counted = pair.bob.stats().pending_bytes / limit;
        assert!(each <= counted as i64, "{each} bytes for each of {limit}, counted as {counted}");

        let beyond = measure(|| {
            for source in limit..hellos {
                pair.bob.receive(100 + source as u16, hello.clone());
                pair.bob.take_outgoing();
            }
        });
        assert_eq!(pair.bob.stats().pending_handshakes, limit);
        assert_eq!(pair.bob.stats().key_ids, limit);
        // Maps may grow a little as their places are used by others.
        assert!(
            beyond.bytes_current.abs() <= full.bytes_current / 4,
            "{} after {full:?}",
            beyond.bytes_current
        );

        // Ten seconds later all of it is given back.
        let after = measure(|| pair.drive_for(11 * SECOND));
        assert_eq!(pair.bob.stats().key_ids, 0);
        let kept = full.bytes_current + beyond.bytes_current + after.bytes_current;
        assert!(kept <= full.bytes_current / 4, "{kept} bytes of {full:?} were kept");
    }
}

/// Whoever sent a hello knows the header keys of the state that waits for his X3.
//= ZSSP-REA-05  bounded per session
//= ZSSP-REA-06  bounded in total
#[test]
fn fragments_for_a_pending_handshake_are_bounded() {
    let mut pair = Pair::new(1);
    pair.alice.open(&pair.bob);
    for _ in 0..2 {
        pair.pump();
        pair.deliver(None);
    }
    let (_, completion) = pair.alice.take_outgoing().pop().unwrap();
    let kid = *completion.first_chunk().unwrap();
    let memory = measure(|| {
        for number in 0..2000u32 {
            let count = 2 + (number % 47) as u8;
            let body = vec![0; 100 + number as usize * 7 % 8800];
            let forgery = Forgery { fragment: (0, count), body: &body, ..Forgery::whole(kid, 2, 0) };
            pair.bob.receive(1, pair.alice.keys.forge(&forgery));
            pair.bob.flush();
        }
        pair.bob.take_faults();
    });
    let bytes = pair.bob.stats().reassembly_bytes;
    assert!(bytes <= 4300, "{bytes} bytes: the longest X3 and no more");
    assert!(memory.bytes_current < 1 << 20, "{memory:?}: spare buffers of the receiving thread");
    pair.drive_for(6 * SECOND);
    assert_eq!(pair.bob.stats().reassembly_bytes, 0);
}

/// A peer that went bad fills what one session may hold, and not what all may hold.
//= ZSSP-REA-05  bounded per session
//= ZSSP-REA-07  and given back when the session is idle
//= ZSSP-DEF-17  an idle session holds no reassembly slots
#[test]
fn fragments_for_a_session_are_bounded() {
    for (per_session, total) in [(None, None), (Some(100_000), None), (None, Some(50_000))] {
        let mut setup = Setup::default();
        setup.limits.reassembly_bytes_per_session = per_session.unwrap_or(512 << 10);
        setup.limits.reassembly_bytes = total.unwrap_or(64 << 20);
        let bound = per_session.unwrap_or(512 << 10).min(total.unwrap_or(64 << 20));
        let mut pair = Pair::established(1, &setup);
        assert_eq!(pair.bob.stats().reassembly_bytes, 0);
        pair.alice.send(b"shows the key id");
        let (_, datagram) = pair.alice.take_outgoing().pop().unwrap();
        let kid = *datagram.first_chunk().unwrap();
        let mut most = 0;
        for counter in 10..2000 {
            let forgery = Forgery { fragment: (0, 48), body: &[0; 1000], ..Forgery::whole(kid, 8, counter) };
            pair.bob.receive(1, pair.alice.keys.forge(&forgery));
            pair.bob.flush();
            most = most.max(pair.bob.stats().reassembly_bytes);
        }
        assert!((bound / 2..=bound).contains(&most), "{most} of {bound}");
        assert!(pair.talk(), "unfragmented payloads are not in their way");
        pair.drive_for(6 * SECOND);
        assert_eq!(pair.bob.stats().reassembly_bytes, 0);
        assert!(pair.talk());
    }
}

/// What a session holds while nothing happens in it, both sides taken together and halved. The aim is 6 KiB. A store
/// comes on top of it, and has one entry for each peer, not for each session.
//= ZSSP-DEF-17  an idle session holds no reassembly slots
#[test]
fn an_idle_session_is_small() {
    const SESSIONS: i64 = 500;
    for provider in providers() {
        let name = provider.name();
        let mut pair = Pair::with(1, &Setup { provider: Some(provider), ..Setup::default() });
        let mut met = 0u32;
        let mut meet = |sessions: i64| {
            for _ in 0..sessions {
                // One machine that is many peers, told apart by what it says of itself.
                met += 1;
                let identity = met.to_be_bytes();
                let name = PeerName::new(&identity);
                let open = Open::to(pair.bob.public_key(), pair.bob.address()).name(name);
                pair.alice.open_with(open.identity(identity.to_vec())).unwrap();
                pair.settle();
                // Only then it has all that it will have: the key before is kept for late packets.
                pair.alice.rekey();
                pair.settle();
                (pair.alice.keys_per_session, pair.bob.keys_per_session) = (2, 2);
                pair.wire.clear();
                for peer in [&mut pair.alice, &mut pair.bob] {
                    peer.identities.clear();
                    peer.take_happenings();
                }
            }
        };
        meet(24);
        let memory = measure(|| meet(SESSIONS));
        let each = memory.bytes_current / SESSIONS / 2;
        println!("{name}: an idle session takes {each} bytes");
        assert!(each <= 6 << 10, "{name}: {each} bytes");
        assert_eq!(pair.alice.stats().sessions as i64, SESSIONS + 24);
        assert!(pair.alice.is_idle() && pair.bob.is_idle());
    }
}

fn providers() -> Vec<Arc<dyn zssp_proto::crypto::Provider>> {
    vec![
        #[cfg(feature = "aws-lc")]
        Arc::new(zssp_proto::crypto::AwsLc),
        #[cfg(feature = "rust-crypto")]
        Arc::new(zssp_proto::crypto::RustCrypto),
    ]
}

/// Seals, receives and opens packets of one fragment and of 42, and counts allocations: there are none.
#[test]
fn the_data_path_allocates_nothing() {
    for provider in providers() {
        let pair = Pair::established(1, &Setup { provider: Some(provider), ..Setup::default() });
        for (len, fragments) in [(100, 1), (1400, 1), (61_000, 42)] {
            let payload = vec![5; len];
            let mut path = Path::new(&pair, len);
            // In order the buffer of the first fragment becomes the packet; in reverse a second one is needed.
            let mut order: Vec<usize> = (0..fragments).collect();
            for direction in ["in order", "in reverse"] {
                (0..20).for_each(|_| path.carry(&payload, &order));
                let memory = measure(|| (0..1000).for_each(|_| path.carry(&payload, &order)));
                assert_eq!(memory.count_total, 0, "{len} bytes {direction}");
                (0..20).for_each(|_| path.carry_into(&payload, &order));
                let memory = measure(|| (0..1000).for_each(|_| path.carry_into(&payload, &order)));
                assert_eq!(memory.count_total, 0, "{len} bytes {direction}, into buffers of the caller's");
                order.reverse();
            }
        }
    }
}

/// The same on two threads at once, each with its own packets of one session, whose counters they take in turns.
#[test]
fn nor_does_it_when_two_threads_share_a_session() {
    // As many packets as the replay window remembers: whichever thread is held up, nothing of it is too old.
    const EACH: usize = 900;
    for provider in providers() {
        let pair = Pair::established(1, &Setup { provider: Some(provider), ..Setup::default() });
        for (len, fragments) in [(1400, 1), (61_000, 42)] {
            let start = Barrier::new(2);
            let carry = || {
                let (mut path, payload) = (Path::new(&pair, len), vec![5; len]);
                let order: Vec<usize> = (0..fragments).collect();
                (0..20).for_each(|_| path.carry(&payload, &order));
                start.wait();
                measure(|| (0..EACH).for_each(|_| path.carry(&payload, &order))).count_total
            };
            let allocations = thread::scope(|scope| {
                [(); 2].map(|()| scope.spawn(carry)).map(|thread| thread.join().unwrap())
            });
            assert_eq!(allocations, [0, 0], "{len} bytes");
        }
    }
}

/// The way of a payload from one side to the other.
struct Path<'a> {
    session: &'a Session,
    context: &'a Context,
    arrival: (Instant, Address),
    buffer: Vec<u8>,
    scratch: Scratch,
    pool: Vec<Vec<u8>>,
}

impl<'a> Path<'a> {
    fn new(pair: &'a Pair, len: usize) -> Self {
        Self {
            session: pair.alice.session(),
            context: &pair.bob.context,
            arrival: (pair.now(), pair.alice.address()),
            buffer: vec![0; Session::sealed_len(len, 1500).unwrap()],
            scratch: Scratch::new(),
            pool: Vec::new(),
        }
    }

    /// Seals a payload, whose fragments arrive in this order: where each of them lies.
    fn seal<'o>(
        &mut self,
        payload: &[u8],
        order: &'o [usize],
    ) -> impl Iterator<Item = Range<usize>> + use<'o> {
        let sealed = self.session.seal(payload, 1500, &mut self.buffer).unwrap();
        assert_eq!(sealed.count(), order.len());
        let (longs, long, short) = {
            let mut runs = sealed.runs(&self.buffer).map(|(run, len)| (run.len() / len, len));
            let (longs, long) = runs.next().unwrap();
            (longs, long, runs.next().map_or(0, |(_, len)| len))
        };
        order.iter().map(move |&number| {
            let len = if number < longs { long } else { short };
            let start = number.min(longs) * long + number.saturating_sub(longs) * short;
            start..start + len
        })
    }

    /// Carries one payload, received out of memory that stays as it is, into buffers that go round: as many are in the
    /// hands of others as one receiver may have to wait for.
    fn carry_into(&mut self, payload: &[u8], order: &[usize]) {
        let (now, from) = self.arrival;
        let places = self.seal(payload, order);
        let mut delivered = 0;
        for place in places {
            let mut bytes = if self.pool.len() < 4 { Vec::new() } else { self.pool.remove(0) };
            let datagram = Datagram { from, bytes: &self.buffer[place] };
            match self.context.receive_into(now, datagram, &mut self.scratch, &mut bytes) {
                Ok(Received::Payload { .. }) => {
                    assert_eq!(bytes, payload);
                    delivered += 1;
                }
                Ok(Received::Nothing) => {}
                other => panic!("{other:?}"),
            }
            self.pool.push(bytes);
        }
        assert_eq!(delivered, 1);
    }

    /// Carries one payload, whose fragments arrive in this order.
    fn carry(&mut self, payload: &[u8], order: &[usize]) {
        let (now, from) = self.arrival;
        let places = self.seal(payload, order);
        let mut delivered = 0;
        for place in places {
            let datagram = &mut self.buffer[place];
            match self.context.receive(now, from, datagram, &mut self.scratch) {
                Ok(Received::Payload { bytes, .. }) => {
                    assert_eq!(bytes, payload);
                    delivered += 1;
                }
                Ok(Received::Nothing) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(delivered, 1);
    }
}

/// Datagrams that belong to nobody cost nothing at all.
#[test]
fn rubbish_allocates_nothing() {
    let pair = Pair::established(1, &Setup::default());
    let (context, now, from) = (&pair.bob.context, Clock::new().now(), pair.alice.address());
    let mut scratch = Scratch::new();
    let memory = measure(|| {
        for number in 0..10_000u32 {
            let mut datagram = [number as u8; 100];
            datagram[..4].copy_from_slice(&(number | 1).to_be_bytes());
            let received = context.receive(now, from, &mut datagram, &mut scratch);
            assert!(matches!(received, Err(Fault::UnknownKeyId | Fault::Malformed | Fault::Unexpected)));
        }
    });
    assert_eq!(memory.count_total, 0);
}
