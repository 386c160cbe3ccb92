//! Proof of address and of work before a hello costs anything, and floods (PROTOCOL 4).

mod flood;
mod silent;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use zssp_harness::pair::{Answer, Happening, Pair, Peer, Pool, Setup};
use zssp_proto::crypto::PROVIDERS;
use zssp_proto::{
    Challenging, EndReason, Fault, Hellos, Limits, Open, Outbox, PeerName, Policy, RatchetStore, Received,
    Role, Scratch,
};
use zssp_sim::{Conditions, seeds};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// A hello with its header, and where in it are: its key id, the `pow` at its end.
const HELLO: usize = 16 + 1749;
const KID: std::ops::Range<usize> = 16..20;
const POW: std::ops::Range<usize> = HELLO - 8..HELLO;
/// A challenge with its header, and where in it are: Alice's key id, the `pow` that it echoes.
const CHALLENGE: usize = 16 + 36;
const ECHO: std::ops::Range<usize> = CHALLENGE - 8..CHALLENGE;

fn with(challenging: Challenging) -> Setup {
    Setup { challenging, ..Setup::default() }
}

fn open_to(peer: &Peer) -> Open {
    Open::to(peer.public_key(), peer.address())
}

/// The lengths of all datagrams so far.
fn lengths(pair: &Pair) -> Vec<usize> {
    pair.wire.iter().map(|datagram| datagram.bytes.len()).collect()
}

/// How many hellos Bob has challenged so far.
fn challenges(pair: &Pair) -> usize {
    pair.sent_by(2).into_iter().filter(|datagram| datagram.len() == CHALLENGE).count()
}

/// The next datagram that `peer` sends, which does not enter the network.
fn take_one(peer: &mut Peer) -> Vec<u8> {
    let [(_, datagram)] = &peer.take_outgoing()[..] else { panic!("one datagram") };
    datagram.clone()
}

/// Bob challenges everybody; Alice has sent her hello and Bob his challenge, which has not arrived.
fn challenged() -> (Pair, Vec<u8>, Vec<u8>) {
    let mut pair = Pair::with(1, &with(Challenging::Always));
    pair.alice.open(&pair.bob);
    let hello = take_one(&mut pair.alice);
    pair.bob.receive(1, hello.clone());
    let challenge = take_one(&mut pair.bob);
    (pair, hello, challenge)
}

//= ZSSP-ZCP-04  by configuration
//= ZSSP-ZCP-14  Alice searches a pow and sends the hello again
//= ZSSP-ZCP-01  a response is appended to every hello
#[test]
fn a_challenged_peer_proves_itself_and_is_let_in() {
    for (challenging, challenges) in
        [(Challenging::Always, 1), (Challenging::default(), 0), (Challenging::Off, 0)]
    {
        let mut pair = Pair::with(1, &with(challenging));
        pair.alice.open(&pair.bob);
        pair.drive_for(SECOND);
        let of_hello = [HELLO, CHALLENGE].repeat(challenges);
        assert_eq!(lengths(&pair)[..2 * challenges], of_hello);
        assert_eq!(lengths(&pair).len(), 2 * challenges + 5);
        pair.assert_steady(&format!("{challenging:?}"));
    }
}

//= ZSSP-ZCP-08  Alice's own pow is echoed
//= ZSSP-ZCP-11  type 9, kid 0, no header protection
//= ZSSP-ZCP-12  Alice's kid, then the challenge
//= ZSSP-ZCP-02  the first response: no counter, no mac, a random pow
#[test]
fn a_challenge_is_small_and_names_the_hello_it_is_for() {
    let (_, hello, challenge) = challenged();
    assert_eq!((hello.len(), challenge.len()), (HELLO, CHALLENGE));
    assert_eq!(hello[POW.start - 24..POW.start], [0; 24]);
    let mut another = Pair::with(2, &with(Challenging::Always));
    another.alice.open(&another.bob);
    let other_pow = take_one(&mut another.alice)[POW].to_vec();
    assert!(hello[POW] != [0; 8] && hello[POW] != other_pow, "random");
    assert_eq!(challenge[..8], [0, 0, 0, 0, 0, 1, 0, 9]);
    assert_eq!((&challenge[16..20], &challenge[ECHO]), (&hello[KID], &hello[POW]));
    assert_eq!(challenge[20..28], 1u64.to_be_bytes(), "its counter");

    let (mut pair, hello, _) = challenged();
    let counters: Vec<Vec<u8>> = (0..3)
        .map(|_| {
            pair.bob.receive(1, hello.clone());
            take_one(&mut pair.bob)[8..16].to_vec()
        })
        .collect();
    assert!(counters[0] != counters[1] && counters[1] != counters[2], "random counters");

    // In fragments too, what goes back is less than what came.
    let mut pair = Pair::with(1, &Setup { mtu: 128, ..with(Challenging::Always) });
    pair.alice.open(&pair.bob);
    for (_, datagram) in pair.alice.take_outgoing() {
        assert!(datagram.len() > CHALLENGE);
        pair.bob.receive(1, datagram);
    }
    assert_eq!(take_one(&mut pair.bob).len(), CHALLENGE);
}

/// Whoever does not see Alice's packets cannot make her work.
//= ZSSP-ZCP-03  the response is under no hash: the hello before it stays the same
//= ZSSP-ZCP-13  a challenge that does not echo her pow is ignored
#[test]
fn forged_challenges_cost_alice_nothing() {
    let (mut pair, hello, genuine) = challenged();
    let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
    let before = (pair.alice.keys.hashes(), pair.alice.next_deadline());
    for round in 0..1000 {
        let mut forged = genuine.clone();
        random.fill(&mut forged[20..]);
        if round % 2 == 0 {
            forged[ECHO.start + round % 8..ECHO.end]
                .copy_from_slice(&genuine[ECHO.start + round % 8..ECHO.end]);
            forged[ECHO.start] = !genuine[ECHO.start];
        }
        pair.alice.receive(2, forged);
    }
    assert_eq!(pair.alice.take_faults(), [Fault::Stale; 1000]);
    // For somebody else, of another length, in fragments.
    let mut other = genuine.clone();
    other[16] ^= 1;
    let short = genuine[..CHALLENGE - 1].to_vec();
    let mut fragment = genuine.clone();
    fragment[5] = 2;
    for forged in [other, short, fragment] {
        pair.alice.receive(2, forged);
    }
    assert_eq!(pair.alice.take_faults(), [Fault::UnknownKeyId, Fault::Malformed, Fault::Malformed]);
    assert_eq!((pair.alice.keys.hashes(), pair.alice.next_deadline()), before);

    pair.alice.receive(2, genuine.clone());
    assert!(pair.alice.keys.hashes() > before.0, "the genuine one does");
    // Once: then her pow is another one.
    let after = pair.alice.keys.hashes();
    pair.alice.receive(2, genuine);
    assert_eq!((pair.alice.take_faults(), pair.alice.keys.hashes()), (vec![Fault::Stale], after));
    pair.drive_for(SECOND);
    let again = pair.sent_by(1)[0].to_vec();
    assert_eq!(again[..HELLO - 32], hello[..HELLO - 32], "the same hello");
    pair.assert_steady("after forged challenges");
}

/// Somebody on the line changes the challenge: Alice works in vain, once for each, and comes through when he is gone.
#[test]
fn a_challenge_that_was_changed_is_replaced_by_the_next() {
    for position in 20..ECHO.start {
        let (mut pair, _, mut challenge) = challenged();
        challenge[position] ^= 1;
        pair.alice.receive(2, challenge);
        pair.drive_for(2 * SECOND);
        pair.assert_steady(&format!("byte {position}"));
    }
}

//= ZSSP-ZCP-15  sent again after a random 50..250 ms
#[test]
fn the_answer_waits_for_a_random_moment() {
    let mut waits = Vec::new();
    for seed in 0..40 {
        let mut pair = Pair::with(seed, &with(Challenging::Always));
        pair.alice.open(&pair.bob);
        pair.settle();
        waits.push(pair.alice.next_deadline().unwrap() - pair.now());
    }
    waits.sort();
    assert!(waits[0] >= 50 * MS && waits[39] <= 250 * MS, "{waits:?}");
    assert!(waits[0] < 90 * MS && waits[39] > 210 * MS, "{waits:?}");
}

//= ZSSP-ZCP-05  its counter is used once
//= ZSSP-ZCP-06  its mac is for the address that was challenged
#[test]
fn a_response_is_good_once_and_from_one_address() {
    let (mut pair, _, challenge) = challenged();
    pair.alice.receive(2, challenge);
    pair.stand_still_for(300 * MS);
    pair.alice.meet_deadlines();
    let answer = take_one(&mut pair.alice);
    let mut answered = |from: u16| {
        pair.bob.receive(from, answer.clone());
        take_one(&mut pair.bob).len()
    };
    assert_eq!(answered(3), CHALLENGE, "from elsewhere");
    assert_ne!(answered(1), CHALLENGE, "X2");
    assert_eq!(answered(1), CHALLENGE, "again");
}

#[test]
fn challenges_get_through_a_bad_network() {
    seeds::run(60, |seed| {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut pair = Pair::with(seed, &Setup { mtu: 1280, ..with(Challenging::Always) });
        let conditions = Conditions {
            loss: random.random_range(0.0..0.3),
            jitter: random.random_range(0..500) * MS,
            duplication: 0.2,
            corruption: 0.05,
            ..Conditions::default()
        };
        pair.network.set_conditions(conditions);
        pair.alice.open_with(open_to(&pair.bob).give_up_after(None)).unwrap();
        pair.drive_for(60 * SECOND);
        pair.network.set_conditions(Conditions::default());
        pair.drive_for(15 * SECOND);
        pair.assert_steady("in the end");
    });
}

//= ZSSP-ZCP-17  where a known ratchet is required there are no challenges: silence
#[test]
fn whoever_answers_the_known_only_does_not_challenge() {
    let mut policy = Policy::OPPORTUNISTIC;
    policy.hellos = Hellos::WithKnownRatchet;
    let bob = Setup { policy, ..with(Challenging::Always) };
    let mut pair = Pair::between(1, &Setup::default(), &bob);
    pair.alice.open_with(open_to(&pair.bob).give_up_after(5 * SECOND)).unwrap();
    pair.drive_for(10 * SECOND);
    assert!(pair.sent_by(2).is_empty());
    assert_eq!(pair.alice.take_happenings(), [Happening::Ended(EndReason::TimedOut)]);
}

//= ZSSP-ZCP-16  the search is on the dear path, under no lock: what comes meanwhile is done at once
//= ZSSP-DEF-08  under no lock
#[test]
fn a_search_holds_no_lock() {
    let (mut pair, _, challenge) = challenged();
    let (context, id) = (pair.alice.context.clone(), pair.alice.open_with(open_to(&pair.bob)));
    let Err(zssp_proto::OpenError::AlreadyOpening { id }) = id else { panic!("{id:?}") };
    let hashes = Arc::new(AtomicU64::new(0));
    let counted = hashes.clone();
    pair.alice.keys.on_hash(move || {
        // Takes every lock of the context, in the middle of the search.
        if counted.fetch_add(1, Ordering::Relaxed) == 5 {
            context.close(id);
            assert_eq!(context.stats().sessions, 0);
        }
        context.next_deadline();
    });
    pair.alice.receive(2, challenge);
    assert!(hashes.load(Ordering::Relaxed) > 5);
    assert_eq!(pair.alice.take_faults(), [Fault::Stale]);
    pair.assert_nothing_left();
}

/// A hello that the network repeats is challenged twice.
//= ZSSP-ZCP-16  a second genuine challenge begins no second search
#[test]
fn a_challenge_during_a_search_begins_no_other() {
    let (mut pair, hello, challenge) = challenged();
    pair.bob.receive(1, hello);
    let second = take_one(&mut pair.bob);
    assert_ne!(challenge, second);
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let (context, store, kept) = (pair.alice.context.clone(), pair.alice.store.clone(), outcomes.clone());
    let (now, bob, hashes) = (pair.now(), pair.bob.address(), AtomicU64::new(0));
    pair.alice.keys.on_hash(move || {
        if hashes.fetch_add(1, Ordering::Relaxed) != 5 {
            return;
        }
        let (mut datagram, mut scratch) = (second.clone(), Scratch::new());
        let received = context.receive(now, bob, &mut datagram, &mut scratch);
        let Ok(Received::Handshake(handshake)) = received else { panic!("{received:?}") };
        let outcome = handshake.run(now, &*store, &mut Outbox::default());
        kept.lock().unwrap().push(outcome);
    });
    pair.alice.receive(2, challenge);
    assert_eq!(*outcomes.lock().unwrap(), [Err(Fault::Stale)]);
    assert_eq!(pair.alice.take_faults(), [], "the first search goes on");
    pair.drive_for(SECOND);
    pair.assert_steady("with the answer to the first");
}

/// Few hellos, but more than Bob can wait for.
//= ZSSP-ZCP-04  under load
#[test]
fn challenges_begin_when_bob_has_too_much_to_do() {
    // The application's own pool is full.
    let mut pair = Pair::new(1);
    pair.bob.context.report_overload(pair.now());
    pair.alice.open(&pair.bob);
    pair.drive_for(SECOND);
    assert_eq!(challenges(&pair), 1);
    pair.assert_steady("when the pool was full");

    // More than three quarters of the places for handshakes are taken.
    let mut setup = Setup::default();
    setup.limits.pending_handshakes = 16;
    let mut pair = Pair::with(1, &setup);
    let id = pair.alice.open(&pair.bob);
    let hello = take_one(&mut pair.alice);
    pair.alice.context.close(id);
    let answers: Vec<usize> = (100..120)
        .map(|source| {
            pair.bob.receive(source, hello.clone());
            take_one(&mut pair.bob).len()
        })
        .collect();
    assert_eq!(answers.iter().position(|len| *len == CHALLENGE), Some(13));
    assert!(answers[13..].iter().all(|len| *len == CHALLENGE));
    assert_eq!(pair.bob.stats().pending_handshakes, 13);
}

/// Whoever pretends to be a peer could otherwise have the peer's handshakes make room for his, slowly and from an address
/// at which he hears nothing.
//= ZSSP-ZCP-04  under load
//= ZSSP-DEF-13  nobody can choose who is evicted
#[test]
fn a_source_with_more_than_its_share_is_challenged() {
    let mut setup = Setup::default();
    setup.limits.pending_handshakes = 64;
    let mut pair = Pair::with(1, &setup);
    let id = pair.alice.open(&pair.bob);
    let hello = take_one(&mut pair.alice);
    pair.alice.context.close(id);
    let answers: Vec<usize> = (0..20)
        .map(|_| {
            pair.bob.receive(99, hello.clone());
            take_one(&mut pair.bob).len()
        })
        .collect();
    let first = 64 / 8 + 1;
    assert_eq!(
        answers.iter().position(|len| *len == CHALLENGE),
        Some(first),
        "after the first that made room"
    );
    assert!(answers[first..].iter().all(|len| *len == CHALLENGE));
    assert_eq!(pair.bob.stats().pending_evicted, 1);
}

/// Goes through a handshake from `node` as somebody who says so much about himself, up to the question to Bob.
fn ask(pair: &mut Pair, (node, number): (u16, u16), identity_len: usize) {
    let mut identity = vec![0; identity_len];
    identity[..2].copy_from_slice(&number.to_be_bytes());
    pair.alice
        .open_with(open_to(&pair.bob).name(PeerName::new(&number.to_be_bytes())).identity(identity))
        .unwrap();
    for _ in 0..2 {
        let sent = pair.alice.take_outgoing();
        sent.into_iter().for_each(|(_, datagram)| pair.bob.receive(node, datagram));
        pair.bob.flush();
        let sent = pair.bob.take_outgoing();
        sent.into_iter().for_each(|(_, datagram)| pair.alice.receive(2, datagram));
    }
}

/// What others say about themselves is kept until the application has an answer.
//= ZSSP-SEC-04  memory does not grow beyond the configured bounds
//= ZSSP-DEF-13  nobody can choose who is evicted
#[test]
fn identities_are_bounded_and_shared_fairly() {
    let mut setup = with(Challenging::Off);
    setup.limits.pending_bytes = 128 << 10;
    let bound = setup.limits.pending_bytes;
    let mut pair = Pair::with(1, &setup);
    pair.bob.answer = Answer::Later;
    // Ten honest ones, and between them somebody who talks a lot, from one address.
    for number in 0..10 {
        ask(&mut pair, (100 + number, number), 2);
        for greedy in 0..10 {
            ask(&mut pair, (99, 1000 + 10 * number + greedy), 4096);
            assert!(pair.bob.stats().pending_bytes <= bound);
        }
    }
    let stats = pair.bob.stats();
    assert_eq!(stats.pending_handshakes, 10 + 2, "an eighth of the bytes for each source");
    assert_eq!(stats.pending_evicted, 100 - 2);
    let greedy = pair.bob.stats().pending_bytes - 10 * ((4 << 10) + 2);
    assert_eq!(greedy, 2 * (8 << 10));
    for identity in core::mem::take(&mut pair.bob.identities) {
        let fault = if identity.len() == 2 { None } else { Some(Fault::Stale) };
        pair.bob.take_faults();
        pair.bob.decide(Answer::Accept);
        let faults = pair.bob.take_faults();
        assert!(faults.is_empty() || faults == Vec::from_iter(fault), "{faults:?}");
    }
    assert_eq!((pair.bob.stats().sessions, pair.bob.stats().pending_bytes), (12, 0));

    // From everywhere: whoever it is, somebody has to go.
    for number in 0..100 {
        ask(&mut pair, (200 + number, 2000 + number), 4096);
        assert!(pair.bob.stats().pending_bytes <= bound);
    }
    assert_eq!(pair.bob.stats().pending_handshakes, 16);
    pair.network.partition(1, 2);
    pair.drive_for(11 * SECOND);
    assert_eq!((pair.bob.stats().pending_handshakes, pair.bob.stats().pending_bytes), (0, 0));
}

/// One handshake always has room, whatever the bounds are.
#[test]
fn the_smallest_bounds_let_one_peer_in() {
    let mut setup = with(Challenging::Off);
    (setup.limits.pending_handshakes, setup.limits.pending_bytes) = (0, 0);
    let mut pair = Pair::with(1, &setup);
    pair.alice.open(&pair.bob);
    pair.settle();
    pair.assert_steady("with room for one");
}

/// Somebody with a real address, who proves it and his work each time, or whom nobody asks to.
//= ZSSP-DEF-13  nobody can choose who is evicted
#[test]
fn one_source_does_not_take_the_places_of_others() {
    let mut setup = with(Challenging::Off);
    setup.limits.pending_handshakes = 64;
    let mut pair = Pair::with(1, &setup);
    let id = pair.alice.open(&pair.bob);
    let hello = take_one(&mut pair.alice);
    pair.alice.context.close(id);

    pair.bob.answer = Answer::Later;
    let flood = |pair: &mut Pair| {
        for _ in 0..200 {
            pair.bob.receive(99, hello.clone());
            pair.bob.take_outgoing();
        }
    };
    for honest in 0..20u8 {
        let name = PeerName::new(&[honest]);
        pair.alice.open_with(open_to(&pair.bob).name(name).identity(vec![honest])).unwrap();
        for _ in 0..2 {
            let sent = pair.alice.take_outgoing();
            sent.into_iter().for_each(|(_, datagram)| pair.bob.receive(100 + u16::from(honest), datagram));
            let sent = pair.bob.take_outgoing();
            sent.into_iter().for_each(|(_, datagram)| pair.alice.receive(2, datagram));
        }
        flood(&mut pair);
    }
    let stats = pair.bob.stats();
    assert_eq!(stats.pending_handshakes, 20 + 64 / 8, "an eighth for each source");
    assert_eq!(stats.pending_evicted, 20 * 200 - 64 / 8);
    for _ in 0..20 {
        pair.bob.decide(Answer::Accept);
    }
    assert_eq!(pair.bob.take_faults(), [], "all honest ones were still there");
    assert_eq!(pair.bob.stats().sessions, 20);
}
