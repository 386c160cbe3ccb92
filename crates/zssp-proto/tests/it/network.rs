//! Two peers and every kind of bad network, over many seeds: either both are connected, or both have given up, and
//! nothing is ever stuck. A seed that fails is printed; `ZSSP_SEED` runs it alone.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use zssp_harness::pair::{Answer, Happening, Pair, Pool, Setup};
use zssp_proto::{EndReason, Open, Session};
use zssp_sim::network::Burst;
use zssp_sim::{Conditions, seeds};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// A network as bad as they come.
fn conditions(random: &mut Xoshiro256PlusPlus) -> Conditions {
    let mut up_to = |most: f64| if random.random_bool(0.3) { 0.0 } else { random.random_range(0.0..most) };
    let (loss, duplication, corruption, bursts) = (up_to(0.5), up_to(0.3), up_to(0.2), up_to(0.05));
    let burst = (bursts > 0.0).then_some(Burst { start: bursts, end: 0.3 });
    let latency = random.random_range(1..200) * MS;
    let jitter = random.random_range(0..800) * MS;
    Conditions { latency, jitter, loss, burst, duplication, corruption, ..Conditions::default() }
}

/// The MTU of half the peers is one that is common, that of the others any.
fn mtu(random: &mut Xoshiro256PlusPlus) -> usize {
    if random.random_bool(0.5) {
        [128, 576, 1280, 1500, 9000][random.random_range(0..5)]
    } else {
        random.random_range(128..=9000)
    }
}

/// `count` payloads of any length from each side to the other over whatever network there is. They may be lost, but
/// each arrives at most once, and as it was.
fn exchange(pair: &mut Pair, random: &mut Xoshiro256PlusPlus, (count, mtu): (u8, usize)) {
    let largest = Session::max_payload_len(mtu).min(5000);
    let payloads: Vec<Vec<u8>> = (0..2 * count)
        .map(|number| {
            let len = random.random_range(1..=largest);
            vec![number; len]
        })
        .collect();
    for (number, payload) in payloads.iter().enumerate() {
        let sender = if number % 2 == 0 { &mut pair.alice } else { &mut pair.bob };
        sender.try_send(payload);
        if random.random_bool(0.3) {
            pair.drive_for(50 * MS);
        }
    }
    pair.drive_for(10 * SECOND);
    for (parity, receiver) in [(1, &mut pair.alice), (0, &mut pair.bob)] {
        let mut seen = BTreeSet::new();
        for payload in receiver.take_payloads() {
            let number = payload[0];
            assert!(seen.insert(number), "payload {number} arrived twice");
            assert_eq!((usize::from(number % 2), &payload), (parity, &payloads[usize::from(number)]));
        }
    }
}

//= ZSSP-SEC-06  no stuck state
//= ZSSP-ST-32  all timers are local
#[test]
fn both_are_connected_or_both_have_given_up() {
    let (connected, gave_up) = (Cell::new(0), Cell::new(0));
    seeds::run(300, |seed| {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mtu = mtu(&mut random);
        let mut pair = Pair::with(seed, &Setup { mtu, ..Setup::default() });
        pair.network.set_conditions(conditions(&mut random));
        if random.random_bool(0.3) {
            let losing = Pool::Losing(random.random_range(0.0..0.3));
            (pair.alice.pool, pair.bob.pool) = (losing, losing);
        }
        let identity = vec![1; random.random_range(0..=4096)];
        let open = Open::to(pair.bob.public_key(), pair.bob.address());
        pair.alice.open_with(open.identity(identity.clone())).unwrap();
        // She gives up after 60 s, and later when the pool loses that very piece of work again and again.
        pair.drive_for(75 * SECOND);

        let happenings = pair.alice.take_happenings();
        let is_connected = pair.alice.stats().sessions == 1;
        assert_eq!(is_connected, pair.alice.has_session());
        assert_eq!(!is_connected, happenings.contains(&Happening::Ended(EndReason::TimedOut)));
        assert!(pair.bob.identities.iter().all(|seen| *seen == identity));
        if is_connected {
            exchange(&mut pair, &mut random, (20, mtu));
        }

        // The weather clears up.
        (pair.alice.pool, pair.bob.pool) = (Pool::AtOnce, Pool::AtOnce);
        pair.network.set_conditions(Conditions::default());
        pair.drive_for(75 * SECOND);
        if is_connected {
            connected.set(connected.get() + 1);
            assert!(pair.talk(), "both have the same keys");
            assert_eq!((pair.alice.stats().sessions, pair.bob.stats().sessions), (1, 1));
        } else {
            gave_up.set(gave_up.get() + 1);
            assert_eq!((pair.alice.stats().sessions, pair.bob.stats().sessions), (0, 0));
        }
        pair.alice.assert_at_rest("in the end");
        pair.bob.assert_at_rest("in the end");
        assert!(
            ![&mut pair.alice, &mut pair.bob]
                .iter_mut()
                .any(|peer| peer.take_happenings().contains(&Happening::Downgraded))
        );

        for peer in [&pair.alice, &pair.bob] {
            peer.sessions.iter().for_each(|session| drop(peer.context.close(session.id())));
            peer.assert_at_rest("closed");
            assert_eq!(peer.stats().key_ids, 0);
        }
    });
    let (connected, gave_up) = (connected.get(), gave_up.get());
    println!("{connected} connected, {gave_up} gave up");
    assert!(connected + gave_up == 1 || connected > 2 * gave_up, "most networks are good enough");
}

/// Processes die and come back, at any moment. As long as their stores live, neither side is ever told that the other
/// has lost its ratchet, and the next attempt always succeeds.
///
/// Alice may open again at once. What her crash cut off is waited out by herself.
//= ZSSP-RAT-14  the copy always equals what was stored
//= ZSSP-RAT-23  also where an old X3 comes after the next X1
#[test]
fn crashes_never_break_the_ratchet() {
    seeds::run(100, |seed| {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut pair = Pair::with(seed, &Setup { mtu: 1280, ..Setup::default() });
        let losing = Pool::Losing(random.random_range(0.0..0.3));
        for _ in 0..random.random_range(1..6) {
            pair.network.set_conditions(Conditions { corruption: 0.05, ..conditions(&mut random) });
            (pair.alice.pool, pair.bob.pool) = (losing, losing);
            if random.random_bool(0.2) {
                let store = if random.random_bool(0.5) { &pair.alice.store } else { &pair.bob.store };
                store.fail_after(random.random_range(0..3));
            }
            pair.alice.open(&pair.bob);
            pair.drive_for(random.random_range(0..15_000) * MS);
            pair.alice.restart();
            if random.random_bool(0.4) {
                pair.bob.restart();
            }
            pair.drive_for(random.random_range(0..11_000) * MS);
        }
        for peer in [&mut pair.alice, &mut pair.bob] {
            peer.restart();
            peer.pool = Pool::AtOnce;
            peer.store.heal();
            assert!(!peer.take_happenings().contains(&Happening::Downgraded));
        }
        pair.network.set_conditions(Conditions::default());
        pair.drive_for(15 * SECOND);
        pair.alice.open(&pair.bob);
        pair.drive_for(12 * SECOND);
        assert!(pair.talk());
        for peer in [&mut pair.alice, &mut pair.bob] {
            assert!(!peer.take_happenings().contains(&Happening::Downgraded), "node {}", peer.node);
        }
    });
}

/// Applications that accept, refuse, ignore and dither at random, on both sides at once.
//= ZSSP-SEC-06  no stuck state
#[test]
fn nothing_is_stuck_whatever_the_applications_do() {
    seeds::run(60, |seed| {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut pair = Pair::with(seed, &Setup { mtu: 1280, ..Setup::default() });
        pair.network.set_conditions(conditions(&mut random));
        for _ in 0..20 {
            let peers = [&mut pair.alice, &mut pair.bob];
            for peer in peers {
                let choices = [Answer::Accept, Answer::Refuse, Answer::Ignore, Answer::Later];
                peer.answer = choices[random.random_range(0..choices.len())];
                if !peer.undecided.is_empty() && random.random_bool(0.5) {
                    peer.decide([Answer::Accept, Answer::Refuse][random.random_range(0..2)]);
                }
                if random.random_bool(0.2)
                    && let Some(session) = peer.sessions.last()
                {
                    peer.context.close(session.id());
                }
            }
            // Refused while there is an attempt already.
            if random.random_bool(0.3) {
                let _ = pair.alice.open_with(Open::to(pair.bob.public_key(), pair.bob.address()));
            }
            if random.random_bool(0.3) {
                let _ = pair.bob.open_with(Open::to(pair.alice.public_key(), pair.alice.address()));
            }
            pair.drive_for(random.random_range(0..3000) * MS);
        }
        pair.network.set_conditions(Conditions::default());
        pair.alice.answer = Answer::Ignore;
        pair.bob.answer = Answer::Ignore;
        pair.drive_for(140 * SECOND);
        pair.alice.assert_at_rest("in the end");
        pair.bob.assert_at_rest("in the end");
    });
}

/// What comes after it in the same batch must not overtake it.
//= ZSSP-REA-01  keyed by packet nonce within a session
#[test]
fn a_packet_that_began_in_an_earlier_batch_is_whole_with_its_last_fragment() {
    for begun in 1..5 {
        let mut pair = Pair::established(1, &Setup { mtu: 1280, ..Setup::default() });
        pair.alice.send(&[7; 6000]);
        let fragments = pair.alice.take_outgoing();
        assert_eq!(fragments.len(), 5);
        for (number, (_, fragment)) in fragments.into_iter().enumerate() {
            if number == begun {
                pair.bob.flush();
            }
            assert!(pair.bob.take_payloads().is_empty());
            pair.bob.receive(1, fragment);
        }
        assert_eq!(pair.bob.take_payloads(), [[7; 6000]]);
        assert_eq!(pair.bob.stats().reassembly_bytes, 0);
    }
}
