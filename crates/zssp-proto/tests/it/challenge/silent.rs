//! Hellos without end at a responder that answers known peers only, and so challenges nobody (PROTOCOL 4, 5.6).

use zssp_harness::pair::ToyCurve;
use zssp_proto::crypto::Secret;
use zssp_proto::{Fingerprint, RatchetPair, RatchetState};

use super::flood::{Flood, Sources};
use super::*;

/// One of many peers behind Alice's key: what she says about herself, what she calls the Bob of that one, and what the two
/// remember of each other.
fn acquaint(pair: &Pair, number: u8) -> Open {
    let state = RatchetState::new(Secret::new([number; 32]), Fingerprint::new([!number; 32]), 3);
    let shared = RatchetPair { first: state, second: None };
    let name = PeerName::new(&[number]);
    let in_eyes_of_bob = PeerName::new(&[pair.alice.public_key().as_bytes(), &[number][..]].concat());
    pair.bob.store.preset(in_eyes_of_bob, shared.duplicate());
    pair.alice.store.preset(name.clone(), shared);
    open_to(&pair.bob).name(name).identity(vec![number]).give_up_after(None)
}

fn persistent(seed: u64, mtu: usize) -> Pair {
    let beneath = ToyCurve::fastest();
    let setup = Setup { mtu, policy: Policy::PERSISTENT, beneath: Some(beneath), ..Setup::default() };
    let mut pair = Pair::with(seed, &setup);
    // Or Alice's hello, one a second, would meet Bob at the same point of his work each time.
    pair.network.set_conditions(Conditions { jitter: 10 * MS, ..Conditions::default() });
    pair
}

/// Bob has sent nothing to anybody but Alice.
fn assert_silent(pair: &Pair, flood: &Flood) {
    assert_eq!(flood.replies, 0);
    assert!(pair.wire.iter().all(|datagram| datagram.from != 2 || datagram.to == 1));
}

/// Five times as many hellos as Bob can read, so that one in five of Alice's gets a place: she has one a second, and
/// connects. Her session does not notice, for a rekeying waits behind no hellos.
//= ZSSP-ZCP-17  silence
//= ZSSP-FLG-01  silence, whoever it is and however many they are
//= ZSSP-SEC-04  and no memory
#[test]
fn known_peers_come_through_a_flood_that_is_not_challenged() {
    seeds::run(6, |seed| {
        let mtu = if seed % 2 == 0 { 9000 } else { 1280 };
        let mut pair = persistent(seed, mtu);
        let (known, returning) = (acquaint(&pair, 1), acquaint(&pair, 2));
        pair.alice.open_with(known).unwrap();
        pair.drive_for(SECOND);
        let session = pair.alice.session().clone();
        pair.bob.pool = Pool::Worker { each: MS, queue: 256 };
        let mut flood = Flood::new(seed, Sources::Spoofed, mtu);
        flood.in_a_millisecond = 5;
        (0..500).for_each(|_| flood.arrive(&mut pair));
        assert!(pair.bob.take_faults().iter().all(|fault| *fault == Fault::Forged));
        let asked = pair.bob.store.calls();

        let state = |pair: &Pair| *pair.alice.store.remembered(PeerName::new(&[1])).first.fingerprint();
        let before = state(&pair);
        pair.alice.rekey();
        pair.alice.open_with(returning).unwrap();
        let begun = pair.elapsed();
        let mut rekeyed = None;
        while pair.bob.sessions.len() < 2 || pair.alice.sessions.len() < 2 {
            flood.arrive(&mut pair);
            let (stats, limits) = (pair.bob.stats(), Limits::default());
            assert!(stats.hello_bytes <= limits.hello_bytes);
            assert!(stats.pending_handshakes <= 1 && stats.key_ids <= 4, "{stats:?}");
            rekeyed = rekeyed.or((state(&pair) != before).then(|| pair.elapsed() - begun));
            assert!(pair.elapsed() - begun < 60 * SECOND);
        }
        assert!(rekeyed.is_some_and(|time| time < 3 * SECOND), "{rekeyed:?}");
        assert!(session.seal(b"still", 1280, &mut [0; 100]).is_ok());
        println!("connected after {:?}, a new key after {rekeyed:?}", pair.elapsed() - begun);
        assert_silent(&pair, &flood);
        // K1, C1 of the rekeying; X1, X3 of the handshake.
        assert_eq!(pair.bob.store.calls() - asked, 2 + 3, "no forged hello asked the store");

        pair.drive_for(SECOND);
        assert_eq!(pair.bob.stats().pending_handshakes, 0);
        assert!(pair.talk());
    });
}

/// Anybody can make a hello; only those who name a state of Bob's are answered, and others leave nothing.
//= ZSSP-FLG-01  without a recognised ratchet Bob stays silent
#[test]
fn a_well_made_hello_of_a_stranger_costs_two_look_ups() {
    let mut pair = persistent(1, 9000);
    acquaint(&pair, 1);
    let forgotten = |number| RatchetState::new(Secret::new([number; 32]), Fingerprint::new([number; 32]), 3);
    let states = RatchetPair { first: forgotten(7), second: Some(forgotten(8)) };
    pair.alice.store.preset(pair.bob.public_key(), states);
    pair.alice.open(&pair.bob);
    let hello = take_one(&mut pair.alice);
    let mut flood = Flood::of(1, hello);
    (0..2).for_each(|_| flood.arrive(&mut pair));
    assert_eq!(pair.bob.take_faults(), vec![Fault::Unwelcome; 200]);
    assert_eq!(pair.bob.store.calls(), 2 * 200);
    assert_silent(&pair, &flood);
    let stats = pair.bob.stats();
    assert_eq!((stats.pending_handshakes, stats.key_ids), (0, 0));
}

/// Somebody has recorded a hello of a known peer that came to nothing, and sends it from everywhere: Bob answers as often as
/// he can, to nobody. Others connect all the same, and what the answers take is given back.
//= ZSSP-SEC-04  memory does not grow beyond the configured bounds
//= ZSSP-DEF-13  nobody can choose who is evicted
#[test]
fn a_recorded_hello_of_a_known_peer_is_answered_within_bounds() {
    seeds::run(3, |seed| {
        let mut pair = persistent(seed, 9000);
        let (recorded, honest) = (acquaint(&pair, 1), acquaint(&pair, 2));
        let id = pair.alice.open_with(recorded).unwrap();
        let hello = take_one(&mut pair.alice);
        pair.alice.close(id);
        pair.bob.pool = Pool::Worker { each: MS, queue: 256 };
        let mut flood = Flood::of(seed, hello);
        flood.in_a_millisecond = 3;
        (0..2000).for_each(|_| flood.arrive(&mut pair));
        let (stats, limits) = (pair.bob.stats(), Limits::default());
        assert_eq!(stats.pending_handshakes, limits.pending_handshakes);
        assert!(stats.pending_evicted > 500);

        pair.alice.open_with(honest).unwrap();
        let begun = pair.elapsed();
        while !(pair.alice.has_session() && pair.bob.has_session()) {
            flood.arrive(&mut pair);
            let stats = pair.bob.stats();
            assert!(stats.pending_handshakes <= limits.pending_handshakes);
            assert!(stats.pending_bytes <= limits.pending_bytes && stats.hello_bytes <= limits.hello_bytes);
            assert!(pair.elapsed() - begun < 60 * SECOND);
        }
        println!("connected after {:?}", pair.elapsed() - begun);
        pair.drive_for(11 * SECOND);
        pair.assert_steady("nothing is left of the answers");
    });
}
