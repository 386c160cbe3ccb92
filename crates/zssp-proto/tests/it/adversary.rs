//! What somebody on the line can do: flip, cut, splice, replay, forge, flood. Nothing of it may change more than a
//! counter in the statistics (PROTOCOL 6).

use std::time::{Duration, Instant};

use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use zssp_harness::pair::{Forgery, Happening, Pair, Peer, Pool, Setup, hostile};
use zssp_proto::{Challenging, Fault, Received, Scratch, Stats};
use zssp_sim::seeds;

const SECOND: Duration = Duration::from_secs(1);

const NAMES: [&str; 6] = ["X1", "X2", "X3", "C1", "C2", "P"];
/// Who receives which of them.
const RECEIVER_IS_BOB: [bool; 6] = [true, false, true, false, true, true];

/// All that one can see of a peer but what it dropped.
#[derive(Debug, PartialEq)]
struct Observed {
    sessions: usize,
    pending: usize,
    key_ids: usize,
    hello_bytes: usize,
    reassembly_bytes: usize,
    deadline: Option<Instant>,
    store_calls: u32,
}

fn observe(peer: &Peer) -> Observed {
    let Stats { sessions, pending_handshakes, key_ids, hello_bytes, reassembly_bytes, .. } = peer.stats();
    Observed {
        sessions,
        pending: pending_handshakes,
        key_ids,
        hello_bytes,
        reassembly_bytes,
        deadline: peer.next_deadline(),
        store_calls: peer.store.calls(),
    }
}

/// A pair in which the datagram number `place` of the handshake, or a payload, is just about to be received: it is
/// returned and does not arrive by itself.
fn about_to_receive(place: usize) -> (Pair, Vec<u8>) {
    let mut pair = Pair::with(1, &Setup { challenging: Challenging::Off, ..Setup::default() });
    pair.alice.open(&pair.bob);
    for _ in 0..place.min(5) {
        pair.pump();
        assert!(pair.deliver(None));
    }
    if place == 5 {
        pair.alice.send(&[7; 100]);
    }
    let sender = if RECEIVER_IS_BOB[place] { &mut pair.alice } else { &mut pair.bob };
    let (_, datagram) = sender.take_outgoing().pop().unwrap();
    for peer in [&mut pair.alice, &mut pair.bob] {
        peer.take_faults();
        peer.take_happenings();
    }
    (pair, datagram)
}

fn receiver(pair: &mut Pair, place: usize) -> (&mut Peer, u16) {
    if RECEIVER_IS_BOB[place] { (&mut pair.bob, 1) } else { (&mut pair.alice, 2) }
}

/// Whether a changed copy of the packet may be more than a counter: what can only fail inside a Noise handshake ends
/// that handshake (PROTOCOL 5.3), and a hello's last 32 bytes and reserved byte are under no tag.
fn may_change_state(place: usize, position: usize) -> bool {
    match NAMES[place] {
        "X1" => position == 6 || position >= 16 + 1749 - 32,
        "X2" | "X3" => position >= 20,
        _ => false,
    }
}

//= ZSSP-SEC-02  no forgery is accepted
//= ZSSP-ST-18  a failure inside a Noise handshake: the timeout transition at once
//= ZSSP-ST-19  any other is as if the packet had never come
//= ZSSP-PKT-14  the header's counter must match
//= ZSSP-DEF-03  a failed handshake restarts in every build: the debug and the release one run this
#[test]
fn a_bit_flipped_anywhere_in_any_packet() {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
    for (place, name) in NAMES.into_iter().enumerate() {
        let (mut pair, genuine) = about_to_receive(place);
        for position in 0..genuine.len() {
            let mut flipped = genuine.clone();
            flipped[position] ^= 1 << random.random_range(0..8);
            if may_change_state(place, position) {
                let (mut pair, genuine) = about_to_receive(place);
                let mut flipped = genuine.clone();
                flipped[position] ^= 1 << random.random_range(0..8);
                let (peer, from) = receiver(&mut pair, place);
                peer.receive(from, flipped);
                assert!(!peer.has_session() && peer.identities.is_empty(), "{name} byte {position}");
                if position % 16 == 4 {
                    peer.receive(from, genuine);
                    pair.drive_for(15 * SECOND);
                    assert!(pair.talk(), "{name} byte {position}: they come together all the same");
                }
                continue;
            }
            let (peer, from) = receiver(&mut pair, place);
            let before = observe(peer);
            peer.receive(from, flipped);
            peer.flush();
            assert_eq!(peer.take_faults().len(), 1, "{name} byte {position}");
            assert_eq!(observe(peer), before, "{name} byte {position}");
            assert_eq!(peer.take_happenings(), []);
            assert_eq!(peer.take_outgoing(), []);
            assert!(peer.take_payloads().is_empty());
        }
        let (peer, from) = receiver(&mut pair, place);
        peer.receive(from, genuine);
        assert_eq!(peer.take_faults(), [], "{name}: the genuine one is still welcome");
        pair.drive_for(15 * SECOND);
        assert!(pair.talk(), "{name}");
    }
}

//= ZSSP-HP-04  a fragment shorter than 32 bytes is dropped unread
#[test]
fn a_packet_cut_short_anywhere() {
    for (place, name) in NAMES.into_iter().enumerate() {
        let (mut pair, genuine) = about_to_receive(place);
        let is_handshake = ["X2", "X3"].contains(&name);
        for len in 0..genuine.len() {
            let (peer, from) = receiver(&mut pair, place);
            let before = observe(peer);
            peer.receive(from, genuine[..len].to_vec());
            let faults = peer.take_faults();
            assert_eq!(faults.len(), 1, "{name} cut to {len}");
            if len < 32 {
                assert_eq!(faults, [Fault::Malformed], "{name} cut to {len}");
            }
            // An X3 with a shorter identity is well formed, and fails inside the handshake: B2 is forgotten.
            if is_handshake && observe(peer) != before {
                assert_eq!(faults, [Fault::Forged]);
                break;
            }
            assert_eq!(observe(peer), before, "{name} cut to {len}");
        }
        let (peer, from) = receiver(&mut pair, place);
        peer.receive(from, genuine);
        pair.drive_for(15 * SECOND);
        assert!(pair.talk(), "{name}");
    }
}

/// A pair with small datagrams and two payloads of four fragments that did not arrive yet.
fn two_payloads() -> (Pair, [Vec<Vec<u8>>; 2]) {
    let mut pair = Pair::established(1, &Setup { mtu: 128, ..Setup::default() });
    let fragments = [1, 2].map(|byte| {
        pair.alice.send(&[byte; 400]);
        pair.alice.take_outgoing().into_iter().map(|(_, datagram)| datagram).collect::<Vec<_>>()
    });
    assert_eq!(fragments[0].len(), 4);
    (pair, fragments)
}

//= ZSSP-SEC-02  no forgery is accepted
#[test]
fn fragments_of_two_packets_spliced() {
    for number in 0..4 {
        let (mut pair, [one, other]) = two_payloads();
        // The content of one under the header of the other; bytes up to 20 belong to the header's block.
        let mut spliced = one.clone();
        spliced[number][20..].copy_from_slice(&other[number][20..]);
        let before = observe(&pair.bob);
        spliced.into_iter().for_each(|datagram| pair.bob.receive(1, datagram));
        pair.bob.flush();
        assert_eq!(pair.bob.take_faults(), [Fault::Forged]);
        assert_eq!(observe(&pair.bob), before);

        // The counter was not recorded: the genuine packets still arrive.
        one.into_iter().chain(other).for_each(|datagram| pair.bob.receive(1, datagram));
        assert_eq!(pair.bob.take_payloads(), [vec![1; 400], vec![2; 400]]);
    }
}

//= ZSSP-REA-02  fragments of one packet agree on the count
//= ZSSP-REA-03  what does not belong to the packet is dropped
#[test]
fn fragments_that_contradict_each_other() {
    let (mut pair, [one, _]) = two_payloads();
    let kid = *one[0].first_chunk().unwrap();
    pair.bob.receive(1, one[0].clone());
    // An insider's fragments of the same packet: another count, another length.
    let counter = pair.alice.session().packets_sealed() - 2;
    for (fragment, len) in [((1, 5), 104), ((1, 4), 50), ((1, 4), 106), ((0, 4), 104)] {
        let body = vec![9; len];
        let forgery = Forgery { fragment, body: &body, ..Forgery::whole(kid, 8, counter) };
        pair.bob.receive(1, pair.alice.keys.forge(&forgery));
        assert_eq!(pair.bob.take_faults(), [Fault::Fragment], "{fragment:?} {len}");
    }
    one[1..].iter().for_each(|datagram| pair.bob.receive(1, datagram.clone()));
    assert_eq!(pair.bob.take_payloads(), [vec![1; 400]]);
}

/// A stranger who sees the first half of a hello can spoil the second; the next copy is none the worse for it.
#[test]
fn a_hello_poisoned_on_the_way_is_sent_again() {
    let mut pair = Pair::with(1, &Setup { mtu: 1280, ..Setup::default() });
    pair.alice.open(&pair.bob);
    let halves: Vec<Vec<u8>> = pair.alice.take_outgoing().into_iter().map(|(_, datagram)| datagram).collect();
    let mut poison = halves[1].clone();
    poison[100] ^= 1;
    let before = observe(&pair.bob);
    for datagram in [&halves[0], &poison, &halves[1]] {
        pair.bob.receive(1, datagram.clone());
    }
    assert_eq!(pair.bob.take_faults(), [Fault::Forged]);
    assert_eq!(Observed { store_calls: 0, ..observe(&pair.bob) }, Observed { store_calls: 0, ..before });
    pair.drive_for(3 * SECOND);
    assert!(pair.talk());
}

/// Everything that was ever on the line, again and again, in any order, to either side.
//= ZSSP-SEC-03  no replay is accepted
//= ZSSP-RPL-02  a counter is recorded once its packet proved authentic
//= ZSSP-RPL-06  not received before
#[test]
fn everything_recorded_is_replayed() {
    seeds::run(20, |seed| {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut pair = Pair::with(seed, &Setup { mtu: 600, ..Setup::default() });
        pair.alice.open(&pair.bob);
        pair.settle();
        for len in [0, 100, 2000] {
            pair.alice.send(&vec![1; len]);
            pair.bob.send(&vec![2; len]);
        }
        pair.settle();
        assert_eq!((pair.alice.take_payloads().len(), pair.bob.take_payloads().len()), (3, 3));
        let ratchet = pair.bob.store.remembered(pair.alice.public_key());
        pair.alice.take_happenings();
        pair.bob.take_happenings();

        let mut recorded = pair.wire.clone();
        for _ in 0..3 {
            recorded.shuffle(&mut random);
            for datagram in &recorded {
                // Also to the wrong side, and from the wrong one.
                let (to, from) = if random.random_bool(0.8) { (datagram.to, datagram.from) } else { (1, 1) };
                let peer = if to == 1 { &mut pair.alice } else { &mut pair.bob };
                peer.receive(from, datagram.bytes.clone());
                if random.random_bool(0.2) {
                    peer.flush();
                }
            }
            pair.drive_for(SECOND);
        }
        assert!(pair.alice.take_payloads().is_empty() && pair.bob.take_payloads().is_empty());
        assert_eq!((pair.alice.take_happenings(), pair.bob.take_happenings()), (vec![], vec![]));
        assert!(pair.bob.store.remembered(pair.alice.public_key()).same(&ratchet));
        // The hellos among them were answered, and are forgotten.
        pair.drive_for(15 * SECOND);
        for peer in [&pair.alice, &pair.bob] {
            assert_eq!(observe(peer).sessions, 1);
            peer.assert_at_rest("after replays");
        }
        assert!(pair.talk());
    });
}

//= ZSSP-HP-05  the state is found by kid
//= ZSSP-HP-06  the nonce is verified before anything is stored
//= ZSSP-HP-07  and nothing else relies on the header
#[test]
fn headers_are_guessed() {
    let (mut pair, genuine) = about_to_receive(5);
    let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
    let before = observe(&pair.bob);
    for len in [32, 100, 1400] {
        for _ in 0..50_000 {
            let mut datagram = vec![0; len];
            random.fill(&mut datagram[..40.min(len)]);
            datagram[..4].copy_from_slice(&genuine[..4]);
            pair.bob.receive(1, datagram);
        }
        pair.bob.flush();
    }
    let faults = pair.bob.take_faults();
    assert_eq!(faults.len(), 150_000);
    let passed = faults.iter().filter(|fault| **fault == Fault::Forged).count();
    assert_eq!(passed, 0, "no header passed by luck");
    assert_eq!(observe(&pair.bob), before);
    assert!(pair.talk());
}

/// Random bytes of any length, with no key id, a wrong one or the right one.
#[test]
fn a_flood_of_rubbish() {
    let (mut pair, genuine) = about_to_receive(5);
    let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
    let before = observe(&pair.bob);
    for round in 0..100_000 {
        let len = if round % 10 == 0 { random.random_range(0..3000) } else { random.random_range(0..64) };
        let mut datagram = vec![0; len];
        random.fill(&mut datagram[..]);
        match round % 3 {
            0 => datagram.iter_mut().take(4).for_each(|byte| *byte = 0),
            1 => datagram.iter_mut().zip(&genuine[..4]).for_each(|(byte, kid)| *byte = *kid),
            _ => {}
        }
        pair.bob.receive(1, datagram);
        if round % 7 == 0 {
            pair.bob.flush();
        }
    }
    assert_eq!(observe(&pair.bob), before);
    assert_eq!((pair.bob.take_outgoing(), pair.bob.take_happenings()), (vec![], vec![]));
    assert!(pair.bob.take_payloads().is_empty());
    assert!(pair.talk());
}

/// Datagrams of an insider, who can protect headers: `change` makes a forgery out of an honest header, with a genuine
/// tag for the nonce without the reserved byte.
fn insider(change: impl Fn(Forgery<'_>) -> Forgery<'_>) -> (Vec<Fault>, Vec<Vec<u8>>) {
    let (mut pair, genuine) = about_to_receive(5);
    let kid = *genuine.first_chunk().unwrap();
    let body = pair.alice.keys.seal(8, 8, 1000, b"by an insider").unwrap();
    let datagram = pair.alice.keys.forge(&change(Forgery { body: &body, ..Forgery::whole(kid, 8, 1000) }));
    let before = observe(&pair.bob);
    pair.bob.receive(1, datagram);
    pair.bob.flush();
    let result = (pair.bob.take_faults(), pair.bob.take_payloads());
    assert!(result.1.len() == 1 || observe(&pair.bob) == before);
    assert!(pair.talk());
    result
}

//= ZSSP-HDR-05  the number is below the count
//= ZSSP-HDR-06  the count is 1 to 48
//= ZSSP-HDR-07  a changed reserved byte fails authentication by itself
//= ZSSP-HDR-08  the type is that of the packet
//= ZSSP-HDR-09  the counter too
//= ZSSP-HDR-10  type and counter are in the AEAD nonce
#[test]
fn every_field_of_a_header_matters() {
    let refused = |fault| (vec![fault], Vec::<Vec<u8>>::new());
    assert_eq!(insider(|honest| honest), (vec![], vec![b"by an insider".to_vec()]));
    for fragment in [(0, 0), (0, 49), (48, 49), (0, 255), (1, 1), (48, 48), (255, 1)] {
        let outcome = insider(|honest| Forgery { fragment, ..honest });
        assert_eq!(outcome, refused(Fault::Malformed), "{fragment:?}");
    }
    for reserved in [1, 128, 255] {
        assert_eq!(insider(|honest| Forgery { reserved, ..honest }), refused(Fault::Forged));
    }
    for packet_type in [0, 1, 2, 9, 10, 255] {
        let outcome = insider(|honest| Forgery { packet_type, ..honest });
        assert_eq!(outcome, refused(Fault::Unexpected), "{packet_type}");
    }
    for packet_type in 3..=7 {
        assert_eq!(insider(|honest| Forgery { packet_type, ..honest }), refused(Fault::Forged));
    }
    assert_eq!(insider(|honest| Forgery { counter: 1001, ..honest }), refused(Fault::Forged));
    assert_eq!(insider(|honest| Forgery { kid: [1; 4], ..honest }), refused(Fault::UnknownKeyId));
}

//= ZSSP-RPL-09  without a key id come hellos and challenges only
//= ZSSP-HDR-04  zero for a hello and for a challenge
#[test]
fn without_a_key_id_there_are_only_hellos() {
    let (mut pair, _) = about_to_receive(5);
    let before = observe(&pair.bob);
    for packet_type in 1..=255 {
        for len in [16, 1653, 1749] {
            let mut datagram = vec![0, 0, 0, 0, 0, 1, 0, packet_type, 0, 0, 0, 0, 0, 0, 0, 0];
            datagram.resize(16 + len, 0);
            pair.bob.receive(1, datagram);
        }
    }
    let faults = pair.bob.take_faults();
    // A challenge has one length.
    assert_eq!(faults[24..27], [Fault::Malformed; 3]);
    assert!(faults[..24].iter().chain(&faults[27..]).all(|fault| *fault == Fault::Unexpected));
    // A hello whose counter is not the end of its tag, and one that is right in everything but its content.
    for counter in [0u8, 1] {
        let mut datagram = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, counter];
        datagram.extend([1, 1, 1, 1]);
        datagram.resize(16 + 1749, 0);
        pair.bob.receive(1, datagram);
    }
    assert_eq!(pair.bob.take_faults(), [Fault::Forged, Fault::Forged]);
    assert_eq!(observe(&pair.bob), before);
}

/// Payloads with genuine tags and counters of all kinds.
//= ZSSP-RPL-06  not received before
//= ZSSP-RPL-07  not older than the window
//= ZSSP-RPL-08  at most 2^24 above the highest received
//= ZSSP-DEF-18  at least 2048 counters are remembered
#[test]
fn counters_far_ahead_and_long_ago() {
    let (mut pair, genuine) = about_to_receive(5);
    let kid = *genuine.first_chunk().unwrap();
    let mut delivers = |counter: u64| {
        let body = pair.alice.keys.seal(8, 8, counter, b"").unwrap();
        let forgery = Forgery { body: &body, ..Forgery::whole(kid, 8, counter) };
        pair.bob.receive(1, pair.alice.keys.forge(&forgery));
        match (pair.bob.take_payloads().len(), pair.bob.take_faults().pop()) {
            (1, None) => true,
            (0, Some(Fault::Replayed)) => false,
            other => panic!("{other:?}"),
        }
    };
    // C2 had counter 0, the payload that was lost 1.
    let far = (1 << 24) + 1000;
    for (counter, expected) in [
        (0, false),
        (1000, true),
        (1000, false),
        (1, true),
        (far + 1, false),
        (u64::MAX, false),
        (far, true),
        (far, false),
        (2, false),
        // The window holds whole stretches of 128, and `far` is the 105th counter of one.
        (far - 2153, false),
        (far - 2152, true),
        (far - 2152, false),
        (far - 2048, true),
        (far + 24, true),
        (far - 2025, false),
        (far - 2024, true),
        (1 << 59, false),
    ] {
        assert_eq!(delivers(counter), expected, "{counter}");
    }
}

/// A refusal cannot be forged, nor taken from another handshake.
//= ZSSP-PKT-08  D is a tag under the session's own key
#[test]
fn only_bob_can_refuse() {
    let (mut pair, genuine) = about_to_receive(3);
    let kid = *genuine.first_chunk().unwrap();
    for counter in 0..5 {
        let forged = pair.bob.keys.forge(&Forgery::whole(kid, 7, counter));
        pair.alice.receive(2, forged);
    }
    assert_eq!(pair.alice.take_faults(), [Fault::Forged; 5]);
    assert_eq!(pair.alice.take_happenings(), []);
    // A confirmation's tag under the header of a refusal.
    let forged = pair.bob.keys.forge(&Forgery { body: &genuine[16..], ..Forgery::whole(kid, 7, 0) });
    pair.alice.receive(2, forged);
    assert_eq!(pair.alice.take_faults(), [Fault::Forged]);
    pair.alice.receive(2, genuine);
    pair.settle();
    assert!(matches!(pair.alice.take_happenings()[..], [Happening::Established(_)]));
    assert!(pair.talk());
}

/// The body of the fuzz target `receive`, for a moment.
//= ZSSP-SEC-02  no forgery is accepted
//= ZSSP-SEC-03  no replay is accepted
//= ZSSP-SEC-06  no stuck state
#[test]
fn whatever_somebody_on_the_line_does() {
    seeds::run(150, |seed| {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut script = vec![0; random.random_range(0..2000)];
        random.fill(&mut script[..]);
        hostile(&script);
    });
}

/// The copy comes while the first one still waits for the pool.
//= ZSSP-RPL-02  a counter is recorded once the packet proved authentic
//= ZSSP-RPL-03  recording is the decision
#[test]
fn a_replay_of_what_waits_for_the_pool() {
    for place in [3, 4] {
        let (mut pair, genuine) = about_to_receive(place);
        let (peer, from) = receiver(&mut pair, place);
        peer.pool = Pool::Held;
        for _ in 0..3 {
            peer.receive(from, genuine.clone());
        }
        peer.run_held();
        assert_eq!(peer.take_faults(), [Fault::Replayed; 2], "{}", NAMES[place]);
        assert_eq!(peer.take_outgoing().len(), usize::from(place == 3), "one answer");
        peer.pool = Pool::AtOnce;
        pair.drive_for(3 * SECOND);
        assert!(pair.talk());
    }
}

/// A thread that serves several contexts has one place to work at.
#[test]
fn no_context_takes_a_datagram_for_one_of_another() {
    let [mut one, two] = [1, 2].map(|seed| Pair::established(seed, &Setup::default()));
    let mut scratch = Scratch::new();
    for number in 0..20u8 {
        one.alice.send(&[number; 20]);
        let (_, mut datagram) = one.alice.take_outgoing().remove(0);
        let (now, from) = (one.now(), one.alice.address());
        let mut copy = datagram.clone();
        let strange = two.bob.context.receive(now, from, &mut copy, &mut scratch);
        assert!(matches!(strange, Err(Fault::UnknownKeyId)), "{number}");
        let received = one.bob.context.receive(now, from, &mut datagram, &mut scratch);
        assert!(matches!(received, Ok(Received::Payload { bytes, .. }) if *bytes == [number; 20]));
    }
    // It has a run of datagrams under one key id now only if nobody came in between.
    for number in 0..20u8 {
        one.alice.send(&[number; 20]);
        let (_, mut datagram) = one.alice.take_outgoing().remove(0);
        let context = if number < 10 { &one.bob.context } else { &two.bob.context };
        let received = context.receive(one.now(), one.alice.address(), &mut datagram, &mut scratch);
        assert_eq!(matches!(received, Ok(Received::Payload { .. })), number < 10, "{number}");
    }
}
