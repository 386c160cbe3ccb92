//! The first contact between two peers: every packet lost, late or twice, every timer, every answer (PROTOCOL 5.3).
#![cfg(any(feature = "aws-lc", feature = "rust-crypto"))]
#![allow(clippy::unwrap_used, reason = "in a test it is the assertion")]

use std::time::{Duration, Instant};

use zssp_harness::pair::{Answer, Happening, Pair, Pool, Setup};
use zssp_proto::{
    BuildError, Context, EndReason, Fault, Open, OpenError, PeerName, Role, SealError, Session, Suite,
};
use zssp_sim::Conditions;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const MS: Duration = Duration::from_millis(1);

/// The packets of an undisturbed handshake, in order. At the default MTU each is one datagram.
const PACKETS: [&str; 5] = ["X1", "X2", "X3", "C1", "C2"];

fn open_to(peer: &zssp_harness::pair::Peer) -> Open {
    Open::to(peer.public_key(), peer.address())
}

/// Both are in S2: they talk, nobody has anything left to do, and nothing is held for anybody.
fn assert_steady(pair: &mut Pair, what: &str) {
    assert!(pair.talk(), "{what}: payloads go both ways");
    let now = pair.now();
    for peer in [&mut pair.alice, &mut pair.bob] {
        let stats = peer.stats();
        assert_eq!((stats.sessions, stats.key_ids), (1, 1), "{what}: node {}", peer.node);
        assert_eq!((stats.pending_handshakes, stats.reassembly_bytes), (0, 0), "{what}: node {}", peer.node);
        assert!(is_idle(peer, now), "{what}: node {}", peer.node);
    }
}

/// Whether a peer has nothing to do before its session rekeys.
fn is_idle(peer: &zssp_harness::pair::Peer, now: Instant) -> bool {
    peer.next_deadline().is_none_or(|deadline| deadline > now + 45 * MINUTE)
}

/// Nothing is left of any attempt.
fn assert_nothing_left(pair: &Pair) {
    for peer in [&pair.alice, &pair.bob] {
        let stats = peer.stats();
        assert_eq!(
            (stats.sessions, stats.key_ids, stats.pending_handshakes),
            (0, 0, 0),
            "node {}",
            peer.node
        );
        assert_eq!(stats.reassembly_bytes, 0, "node {}", peer.node);
        assert_eq!(peer.next_deadline(), None, "node {}", peer.node);
    }
}

/// The datagrams that `node` sent so far.
fn sent_by(pair: &Pair, node: u16) -> Vec<Vec<u8>> {
    pair.wire.iter().filter(|datagram| datagram.from == node).map(|datagram| datagram.bytes.clone()).collect()
}

//= ZSSP-ST-02  A1 is entered when Alice opens, and sends X1
//= ZSSP-ST-04  B2 answers X1 with X2
//= ZSSP-ST-06  A3 is entered when Alice read X2, and sends X3
//= ZSSP-ST-08  S1 is entered when Bob read X3, and sends C1
//= ZSSP-ST-12  S2 is entered when C1 or C2 was read
//= ZSSP-ST-23  C1 in A3 moves to S2
#[test]
fn two_strangers_meet() {
    let mut pair = Pair::new(1);
    let id = pair.alice.open_with(open_to(&pair.bob).identity(b"alice@example".to_vec())).unwrap();
    pair.settle();

    assert_eq!(pair.alice.take_happenings(), [Happening::Established(Role::Initiator)]);
    assert_eq!(pair.bob.take_happenings(), [Happening::Asked, Happening::Established(Role::Responder)]);
    assert_eq!(pair.bob.identities, [b"alice@example"]);
    let (alice, bob) = (pair.alice.session(), pair.bob.session());
    assert_eq!((alice.id(), alice.role(), bob.role()), (id, Role::Initiator, Role::Responder));
    assert_eq!((alice.peer_key(), bob.peer_key()), (pair.bob.public_key(), pair.alice.public_key()));
    assert_eq!((alice.suite(), bob.suite()), (Suite::MlKem1024, Suite::MlKem1024));
    assert_eq!(pair.wire.len(), PACKETS.len());
    assert_steady(&mut pair, "an undisturbed handshake");
}

//= ZSSP-ST-01  no heartbeat
//= ZSSP-ST-12  S2 sends nothing by itself
#[test]
fn an_established_session_is_silent() {
    let mut pair = Pair::established(1, &Setup::default());
    let sent = pair.wire.len();
    pair.drive_for(49 * MINUTE);
    assert_eq!(pair.wire.len(), sent);
    assert!(pair.talk());
}

#[test]
fn payloads_of_every_shape() {
    let pair = &mut Pair::established(1, &Setup::default());
    let payload: Vec<u8> = (0..60_000u32).map(|i| i as u8).collect();
    let mut buffer = vec![0; 70_000];
    for (mtu, len) in [(1500, 0), (1500, 1), (1500, 1468), (1500, 1469), (1500, 60_000), (128, 5000)] {
        for back in [false, true] {
            let (from, to) = if back { (&pair.bob, &mut pair.alice) } else { (&pair.alice, &mut pair.bob) };
            let sealed = from.session().seal(&payload[..len], mtu, &mut buffer).unwrap();
            for datagram in sealed.datagrams(&buffer) {
                assert!(datagram.len() <= mtu);
                to.receive(from.node, datagram.to_vec());
            }
            assert_eq!(to.take_payloads(), [&payload[..len]], "mtu {mtu} length {len}");
        }
    }
}

//= ZSSP-ST-02  X1 is sent again
//= ZSSP-ST-04  an X2 that was lost is sent again for the next X1 only
//= ZSSP-ST-06  X3 is sent again
//= ZSSP-ST-08  C1 is sent again
//= ZSSP-ST-21  and always answered
#[test]
fn any_packet_may_be_lost() {
    for (place, name) in PACKETS.into_iter().enumerate() {
        for copies in 1..=3 {
            let mut pair = Pair::new(1);
            pair.alice.open(&pair.bob);
            for _ in 0..place {
                pair.pump();
                assert!(pair.deliver(None));
            }
            pair.network.drop_next(1);
            pair.pump();
            let sender = [1, 2, 1, 2, 1][place];
            if copies > 1 {
                pair.network.drop_next_on(sender, 3 - sender, copies - 1);
            }
            pair.drive_for(6 * SECOND);
            assert!(pair.talk(), "{name} lost {copies} times");
            // Whatever was answered twice is forgotten by then.
            pair.drive_for(10 * SECOND);
            assert_steady(&mut pair, &format!("{name} lost {copies} times"));
        }
    }
}

#[test]
fn any_packet_may_be_late() {
    for (place, name) in PACKETS.into_iter().enumerate() {
        for delay in [1500 * MS, 2500 * MS, 9500 * MS, 12_500 * MS] {
            let mut pair = Pair::new(1);
            pair.alice.open(&pair.bob);
            for _ in 0..place {
                pair.pump();
                assert!(pair.deliver(None));
            }
            pair.network.set_conditions(Conditions { latency: delay, ..Conditions::default() });
            pair.pump();
            pair.network.set_conditions(Conditions::default());
            pair.drive_for(30 * SECOND);
            assert_steady(&mut pair, &format!("{name} {delay:?} late"));
        }
    }
}

#[test]
fn every_packet_may_come_twice() {
    let mut pair = Pair::new(1);
    pair.network.set_conditions(Conditions { duplication: 1.0, ..Conditions::default() });
    pair.alice.open(&pair.bob);
    pair.drive_for(12 * SECOND);
    pair.network.set_conditions(Conditions::default());
    assert_steady(&mut pair, "everything twice");
    assert_eq!((pair.alice.sessions.len(), pair.bob.sessions.len()), (1, 1));
}

//= ZSSP-ST-02  X1 every second
//= ZSSP-ST-03  a wholly new X1 after 10 s, with a new kid
#[test]
fn a_hello_is_repeated_every_second_and_renewed_after_ten() {
    let mut pair = Pair::new(1);
    pair.network.partition(1, 2);
    pair.alice.open(&pair.bob);
    pair.drive_for(9500 * MS);
    let first = sent_by(&pair, 1);
    assert_eq!(first.len(), 10, "at 0 s, 1 s, ... 9 s");
    assert!(first.iter().all(|hello| *hello == first[0]), "the same hello");

    pair.drive_for(10 * SECOND);
    let second = &sent_by(&pair, 1)[10..];
    assert_eq!(second.len(), 10);
    assert!(second.iter().all(|hello| *hello == second[0]));
    let (kid, ephemeral) = (16..20, 20..69);
    assert_ne!(first[0][kid.clone()], second[0][kid]);
    assert_ne!(first[0][ephemeral.clone()], second[0][ephemeral]);
    assert_eq!(pair.alice.stats().key_ids, 1, "the old kid was given back");

    pair.network.heal(1, 2);
    pair.drive_for(SECOND);
    assert_steady(&mut pair, "after 19 s alone");
}

//= ZSSP-ST-06  X3 every second
//= ZSSP-ST-07  back to A1 with a new X1 after 10 s
#[test]
fn a_completion_is_repeated_every_second_and_given_up_after_ten() {
    let mut pair = Pair::new(1);
    pair.alice.open(&pair.bob);
    pair.pump();
    pair.deliver(None);
    pair.pump();
    pair.network.partition(1, 2);
    pair.deliver(None);
    pair.drive_for(9500 * MS);
    let sent = sent_by(&pair, 1);
    let completions = &sent[1..];
    assert_eq!(completions.len(), 10);
    assert!(completions.iter().all(|completion| *completion == completions[0]));

    pair.drive_for(SECOND);
    let renewed = &sent_by(&pair, 1)[11..];
    assert_eq!(renewed.len(), 1);
    assert_eq!(renewed[0][..4], [0; 4], "a hello");
    assert_ne!(renewed[0], sent[0]);
    assert_eq!(pair.alice.stats().key_ids, 1);
    pair.network.heal(1, 2);
    pair.drive_for(2 * SECOND);
    assert_steady(&mut pair, "after a lost completion");
}

//= ZSSP-ST-04  B2 sends nothing again
//= ZSSP-ST-05  and is forgotten after 10 s
#[test]
fn bob_forgets_a_handshake_that_goes_silent() {
    let mut pair = Pair::new(1);
    let id = pair.alice.open(&pair.bob);
    pair.pump();
    pair.deliver(None);
    pair.alice.context.close(id);
    pair.drive_for(9900 * MS);
    assert_eq!((pair.bob.stats().pending_handshakes, pair.bob.stats().key_ids), (1, 1));
    pair.drive_for(200 * MS);
    assert_eq!(sent_by(&pair, 2).len(), 1);
    assert_nothing_left(&pair);
}

//= ZSSP-ST-05  forgotten earlier when many are pending
//= ZSSP-DEF-13  and not always in one and the same slot
#[test]
fn strangers_make_room_for_each_other() {
    let mut setup = Setup::default();
    setup.limits.pending_handshakes = 4;
    let mut pair = Pair::with(1, &setup);
    pair.bob.answer = Answer::Later;
    for stranger in 0..60u8 {
        pair.alice.open_with(open_to(&pair.bob).name(PeerName::new(&[stranger]))).unwrap();
        pair.settle();
    }
    let stats = pair.bob.stats();
    assert_eq!((stats.pending_handshakes, stats.key_ids, stats.pending_evicted), (4, 4, 56));
    // Were it always the same slot, the second, third and fourth would still be there.
    let alive: Vec<usize> = (0..60)
        .filter(|_| {
            pair.bob.decide(Answer::Refuse);
            pair.bob.take_faults().is_empty()
        })
        .collect();
    assert_eq!(alive.len(), 4);
    assert_ne!(alive[..3], [1, 2, 3]);
    assert_nothing_left_of_bob(&pair);
}

fn assert_nothing_left_of_bob(pair: &Pair) {
    let stats = pair.bob.stats();
    assert_eq!((stats.sessions, stats.key_ids, stats.pending_handshakes), (0, 0, 0));
    assert_eq!(pair.bob.next_deadline(), None);
}

//= ZSSP-ST-08  C1 every second
//= ZSSP-ST-09  each resealed with a fresh counter
//= ZSSP-ST-10  and the session ends after 60 s
#[test]
fn a_session_that_is_never_confirmed_ends() {
    let mut pair = Pair::new(1);
    pair.alice.open(&pair.bob);
    for _ in 0..2 {
        pair.pump();
        pair.deliver(None);
    }
    pair.pump();
    pair.network.partition(1, 2);
    pair.deliver(None);
    pair.drive_for(59_900 * MS);
    let sent = sent_by(&pair, 2);
    let confirmations = &sent[1..];
    assert_eq!(confirmations.len(), 60);
    for (place, confirmation) in confirmations.iter().enumerate() {
        assert!(!confirmations[..place].contains(confirmation), "each is sealed anew");
    }
    assert_eq!(pair.bob.session().packets_sealed(), 60);

    pair.drive_for(200 * MS);
    assert_eq!(
        pair.bob.take_happenings(),
        [Happening::Asked, Happening::Established(Role::Responder), Happening::Ended(EndReason::Expired)]
    );
    assert_eq!((pair.bob.stats().sessions, pair.bob.stats().key_ids), (0, 0));
    assert!(!pair.bob.try_send(b"too late"));
}

//= ZSSP-ST-21  a valid C1 in S2 is always answered
#[test]
fn every_confirmation_is_answered() {
    let mut pair = Pair::new(1);
    pair.alice.open(&pair.bob);
    for _ in 0..3 {
        pair.pump();
        pair.deliver(None);
    }
    // From here on Bob hears nothing: he goes on confirming, and Alice, who is in S2, goes on answering.
    pair.network.set_link(1, 2, Conditions { loss: 1.0, ..Conditions::default() });
    let before = sent_by(&pair, 1).len();
    pair.drive_for(5500 * MS);
    assert_eq!(sent_by(&pair, 1).len() - before, 6);
    assert_eq!(pair.alice.take_happenings(), [Happening::Established(Role::Initiator)]);
    pair.network.set_conditions(Conditions::default());
    pair.drive_for(SECOND);
    assert_steady(&mut pair, "after six answers");
}

//= ZSSP-ST-25  payloads are sent in S1
//= ZSSP-ST-26  and received in A3 and S1
#[test]
fn payloads_may_overtake_the_confirmation() {
    let mut pair = Pair::new(1);
    pair.alice.open(&pair.bob);
    for _ in 0..2 {
        pair.pump();
        pair.deliver(None);
    }
    pair.pump();
    pair.deliver(None);
    assert!(!pair.alice.has_session(), "in A3 there is nothing to send with");
    pair.network.drop_next(1);
    pair.pump();
    pair.bob.send(b"early");
    pair.settle();
    assert_eq!(pair.alice.take_payloads(), [b"early"]);
    assert!(!pair.alice.has_session());
    pair.drive_for(SECOND);
    assert_steady(&mut pair, "after an early payload");
}

//= ZSSP-FLG-05  a refused Alice is told
#[test]
fn a_refused_peer_is_told() {
    let mut pair = Pair::new(1);
    pair.bob.answer = Answer::Refuse;
    pair.alice.open(&pair.bob);
    pair.settle();
    assert_eq!(pair.alice.take_happenings(), [Happening::Ended(EndReason::Rejected)]);
    assert_eq!(pair.bob.take_happenings(), [Happening::Asked]);
    assert_nothing_left(&pair);
    assert!(pair.bob.store.remembered(pair.alice.public_key()).is_never_met());
}

#[test]
fn a_refusal_that_was_lost_is_repeated_by_the_next_attempt() {
    let mut pair = Pair::new(1);
    pair.bob.answer = Answer::Refuse;
    pair.alice.open(&pair.bob);
    for _ in 0..2 {
        pair.pump();
        pair.deliver(None);
    }
    pair.pump();
    pair.deliver(None);
    pair.network.drop_next(1);
    pair.drive_for(9 * SECOND);
    assert_eq!(pair.alice.take_happenings(), []);
    pair.drive_for(2 * SECOND);
    assert_eq!(pair.alice.take_happenings(), [Happening::Ended(EndReason::Rejected)]);
    assert_eq!(pair.bob.take_happenings(), [Happening::Asked, Happening::Asked]);
    assert_nothing_left(&pair);
}

//= ZSSP-SEC-06  no stuck state: it ends by the initiator's own time
#[test]
fn an_ignored_peer_gives_up() {
    let mut pair = Pair::new(1);
    pair.bob.answer = Answer::Ignore;
    pair.alice.open_with(open_to(&pair.bob).give_up_after(35 * SECOND)).unwrap();
    pair.drive_for(36 * SECOND);
    assert_eq!(pair.alice.take_happenings(), [Happening::Ended(EndReason::TimedOut)]);
    assert_eq!(pair.bob.take_happenings(), [Happening::Asked; 4], "once for each hello");
    pair.drive_for(10 * SECOND);
    assert_nothing_left(&pair);
}

#[test]
fn giving_up_takes_the_time_that_was_given() {
    for (given, tried) in [(Some(3 * SECOND), 3), (Some(60 * SECOND), 60), (None, 600)] {
        let mut pair = Pair::new(1);
        pair.network.partition(1, 2);
        pair.alice.open_with(open_to(&pair.bob).give_up_after(given)).unwrap();
        pair.drive_for(tried * SECOND - 100 * MS);
        assert_eq!(pair.alice.take_happenings(), [], "{given:?}");
        if given.is_some() {
            pair.drive_for(SECOND);
            assert_eq!(pair.alice.take_happenings(), [Happening::Ended(EndReason::TimedOut)]);
            assert_nothing_left(&pair);
        }
    }
}

/// Bob asks again only for the next copy of X3 that can be read, so a slow application is asked once.
#[test]
fn an_application_may_take_its_time() {
    let mut pair = Pair::new(1);
    pair.bob.answer = Answer::Later;
    pair.alice.open(&pair.bob);
    pair.drive_for(5 * SECOND);
    assert_eq!(pair.bob.take_happenings(), [Happening::Asked]);
    pair.bob.decide(Answer::Accept);
    pair.settle();
    assert_steady(&mut pair, "answered after 5 s");
}

//= ZSSP-DEF-09  an answer for a state that has passed changes nothing
#[test]
fn an_answer_that_comes_too_late_changes_nothing() {
    for late in [Answer::Accept, Answer::Refuse] {
        let mut pair = Pair::new(1);
        pair.bob.answer = Answer::Later;
        pair.alice.open(&pair.bob);
        pair.drive_for(9 * SECOND);
        pair.network.partition(1, 2);
        pair.drive_for(5 * SECOND);
        pair.bob.decide(late);
        assert_eq!(pair.bob.take_faults().pop(), Some(Fault::Stale));
        assert_eq!(pair.bob.stats().sessions, 0);
        assert!(pair.bob.store.remembered(pair.alice.public_key()).is_never_met(), "nothing was stored");

        pair.network.heal(1, 2);
        pair.bob.answer = Answer::Accept;
        pair.drive_for(10 * SECOND);
        assert_steady(&mut pair, "the next attempt");
    }
}

/// The handshake of the late answer is long over, and another session has taken its place.
//= ZSSP-DEF-09  an answer for a state that has passed changes nothing
#[test]
fn a_late_answer_does_not_spoil_the_ratchet_of_a_later_session() {
    let mut pair = Pair::new(1);
    pair.bob.answer = Answer::Later;
    pair.alice.open(&pair.bob);
    pair.settle();
    pair.network.partition(1, 2);
    pair.drive_for(15 * SECOND);
    pair.network.heal(1, 2);
    pair.bob.answer = Answer::Accept;
    pair.drive_for(10 * SECOND);
    assert_steady(&mut pair, "the later session");
    let stored = pair.bob.store.remembered(pair.alice.public_key());

    pair.bob.decide(Answer::Accept);
    assert!(pair.bob.store.remembered(pair.alice.public_key()).same(&stored));
    assert_eq!((pair.bob.stats().sessions, pair.bob.stats().key_ids), (1, 1));
    assert_eq!(pair.bob.take_faults().pop(), Some(Fault::Stale));
}

#[test]
fn an_answer_that_never_comes_is_as_good_as_none() {
    let mut pair = Pair::new(1);
    pair.bob.answer = Answer::Later;
    pair.alice.open(&pair.bob);
    pair.drive_for(75 * SECOND);
    assert_eq!(pair.alice.take_happenings(), [Happening::Ended(EndReason::TimedOut)]);
    assert_nothing_left(&pair);
}

//= ZSSP-DEF-04  sending before establishment is impossible, after the end an error; no counter is used up
#[test]
fn a_session_that_ended_seals_nothing() {
    let pair = Pair::established(1, &Setup::default());
    let session = pair.alice.session().clone();
    pair.alice.context.close(session.id());
    let sealed = session.packets_sealed();
    assert_eq!(session.seal(b"late", 1280, &mut [0; 100]), Err(SealError::Closed));
    assert_eq!(session.packets_sealed(), sealed);
    pair.alice.context.close(session.id());
    assert_eq!((pair.alice.stats().sessions, pair.alice.stats().key_ids), (0, 0));
}

//= ZSSP-DEF-19  a buffer that is too short is an error
//= ZSSP-SPL-04  more than 48 fragments are refused before anything is sent
//= ZSSP-DEF-04  and neither uses up a counter
#[test]
fn a_payload_that_does_not_fit_is_refused() {
    let pair = Pair::established(1, &Setup::default());
    let (session, limit) = (pair.alice.session(), Session::max_payload_len(1280));
    let sealed = session.packets_sealed();
    let needed = Session::sealed_len(1000, 1280).unwrap();
    assert_eq!(
        session.seal(&[0; 1000], 1280, &mut vec![0; needed - 1]),
        Err(SealError::BufferTooSmall { needed })
    );
    let mut buffer = vec![0; 100_000];
    assert_eq!(session.seal(&vec![0; limit + 1], 1280, &mut buffer), Err(SealError::TooLarge { limit }));
    assert_eq!(session.seal(&[], 127, &mut buffer), Err(SealError::MtuTooSmall { mtu: 127 }));
    assert_eq!(session.packets_sealed(), sealed);
    assert!(session.seal(&vec![0; limit], 1280, &mut buffer).is_ok_and(|sealed| sealed.count() == 48));
}

/// Whoever closes where, both sides come to rest and nothing is left.
//= ZSSP-SEC-06  no stuck state
#[test]
fn closing_is_possible_in_every_state() {
    for steps in 0..=PACKETS.len() {
        for close_alice in [true, false] {
            let mut pair = Pair::new(1);
            let id = pair.alice.open_with(open_to(&pair.bob).give_up_after(30 * SECOND)).unwrap();
            for _ in 0..steps {
                pair.pump();
                pair.deliver(None);
            }
            if close_alice {
                pair.alice.context.close(id);
                assert_eq!((pair.alice.stats().sessions, pair.alice.stats().key_ids), (0, 0));
            } else if let Some(session) = pair.bob.sessions.last() {
                pair.bob.context.close(session.id());
                assert_eq!((pair.bob.stats().sessions, pair.bob.stats().key_ids), (0, 0));
            }
            pair.drive_for(120 * SECOND);
            let now = pair.now();
            for peer in [&mut pair.alice, &mut pair.bob] {
                assert!(is_idle(peer, now), "after {steps} packets, node {}", peer.node);
                assert_eq!(peer.stats().pending_handshakes, 0);
                assert_eq!(peer.stats().sessions, peer.stats().key_ids);
            }
        }
    }
}

/// The work is done, or lost, when the session it is for is over.
#[test]
fn work_for_a_closed_session_leaves_nothing_behind() {
    for steps in 0..PACKETS.len() {
        for lost in [true, false] {
            let mut pair = Pair::new(1);
            if steps == 0 {
                pair.alice.pool = Pool::Held;
            }
            let id = pair.alice.open(&pair.bob);
            for step in 1..=steps {
                pair.pump();
                if step == steps {
                    (pair.alice.pool, pair.bob.pool) = (Pool::Held, Pool::Held);
                }
                pair.deliver(None);
            }
            pair.alice.context.close(id);
            pair.bob.sessions.iter().for_each(|session| pair.bob.context.close(session.id()));
            for peer in [&mut pair.alice, &mut pair.bob] {
                if lost {
                    peer.drop_held();
                } else {
                    peer.run_held();
                }
                peer.pool = Pool::AtOnce;
                peer.take_outgoing();
            }
            pair.drive_for(75 * SECOND);
            assert_eq!(pair.alice.stats().key_ids, 0, "after {steps} packets");
            assert_eq!(pair.bob.stats().key_ids, pair.bob.stats().sessions, "after {steps} packets");
        }
    }
}

#[test]
fn work_that_is_done_late_is_done_well() {
    for delay in [100 * MS, 900 * MS, 1100 * MS, 3000 * MS] {
        let mut pair = Pair::new(1);
        (pair.alice.pool, pair.bob.pool) = (Pool::Late(delay), Pool::Late(delay));
        pair.alice.open_with(open_to(&pair.bob).give_up_after(None)).unwrap();
        pair.drive_for(60 * SECOND);
        (pair.alice.pool, pair.bob.pool) = (Pool::AtOnce, Pool::AtOnce);
        pair.drive_for(30 * SECOND);
        assert_steady(&mut pair, &format!("work {delay:?} late"));
    }
}

#[test]
fn one_does_not_open_a_session_with_oneself() {
    let mut pair = Pair::new(1);
    let open = Open::to(pair.alice.public_key(), pair.bob.address());
    assert_eq!(pair.alice.open_with(open), Err(OpenError::OwnKey));
    assert_nothing_left(&pair);
}

//= ZSSP-PKT-03  an identity of 0 to 4096 bytes
#[test]
fn an_identity_has_up_to_4096_bytes() {
    for len in [0, 1, 4095, 4096] {
        for mtu in [128, 1280, 9000] {
            let mut pair = Pair::with(1, &Setup { mtu, ..Setup::default() });
            let identity: Vec<u8> = (0..len).map(|i| i as u8).collect();
            pair.alice.open_with(open_to(&pair.bob).identity(identity.clone())).unwrap();
            pair.settle();
            assert_eq!(pair.bob.identities, [identity], "{len} bytes, mtu {mtu}");
            assert!(pair.wire.iter().all(|datagram| datagram.bytes.len() <= mtu));
        }
    }
    let mut pair = Pair::new(1);
    let open = open_to(&pair.bob).identity(vec![0; 4097]);
    assert_eq!(pair.alice.open_with(open), Err(OpenError::IdentityTooLarge));
    assert_nothing_left(&pair);
}

#[test]
fn there_are_as_many_sessions_as_the_limits_say() {
    let mut setup = Setup::default();
    setup.limits.sessions = 2;
    let mut pair = Pair::with(1, &setup);
    for name in [b"one", b"two"] {
        pair.alice.open_with(open_to(&pair.bob).name(PeerName::new(name))).unwrap();
    }
    let open = open_to(&pair.bob);
    assert_eq!(pair.alice.open_with(open).err(), Some(OpenError::TooManySessions));

    // On Bob's side too: his own attempt takes the only place, and Alice leaves nothing behind.
    setup.limits.sessions = 1;
    let mut pair = Pair::with(1, &setup);
    pair.alice.answer = Answer::Ignore;
    pair.bob.open_with(open_to(&pair.alice).name(PeerName::new(b"another"))).unwrap();
    pair.alice.open_with(open_to(&pair.bob).give_up_after(5 * SECOND)).unwrap();
    pair.drive_for(20 * SECOND);
    let stats = pair.bob.stats();
    assert_eq!((stats.sessions, stats.key_ids, stats.pending_handshakes), (1, 1, 0));
    assert!(pair.bob.take_faults().contains(&Fault::Full));
}

//= ZSSP-SUI-05  a hello opens with exactly one suite
//= ZSSP-SUI-07  only suites of the configured set are accepted
//= ZSSP-SUI-08  found by trial
//= ZSSP-SUI-10  and the session's for good
//= ZSSP-SUI-11  chosen per peer
#[test]
fn the_responder_finds_the_suite_by_trial() {
    use Suite::{Kyber1024, MlKem1024, Zssp04};
    for (accepted, opened, found) in [
        (vec![MlKem1024, Kyber1024], MlKem1024, Some(MlKem1024)),
        (vec![MlKem1024, Kyber1024], Kyber1024, Some(Kyber1024)),
        (vec![Kyber1024, MlKem1024], MlKem1024, Some(MlKem1024)),
        (vec![MlKem1024, Zssp04], Zssp04, Some(Zssp04)),
        (vec![Zssp04], Zssp04, Some(Zssp04)),
        (vec![MlKem1024], Kyber1024, None),
        (vec![Kyber1024], MlKem1024, None),
        (vec![Zssp04], MlKem1024, None),
        (vec![], MlKem1024, None),
    ] {
        let mut pair = Pair::with(1, &Setup { suites: accepted.clone(), ..Setup::default() });
        pair.alice.open_with(open_to(&pair.bob).suite(opened)).unwrap();
        pair.settle();
        let session = pair.bob.sessions.last();
        assert_eq!(session.map(Session::suite), found, "{opened:?} among {accepted:?}");
        if found.is_some() {
            assert_eq!(pair.alice.session().suite(), opened);
            assert_steady(&mut pair, &format!("{opened:?} among {accepted:?}"));
        } else {
            //= ZSSP-SUI-09  none fits: an authentication failure, answered with silence
            assert_eq!(pair.bob.take_faults(), [Fault::Forged]);
            assert_eq!(sent_by(&pair, 2).len(), 0);
            assert_eq!(pair.bob.stats().key_ids, 0);
        }
    }
}

//= ZSSP-SUI-06  MlKem1024 unless the application says otherwise
#[test]
fn the_default_suite() {
    let mut pair = Pair::with(1, &Setup { suites: vec![Suite::MlKem1024], ..Setup::default() });
    pair.alice.open(&pair.bob);
    pair.settle();
    assert_eq!(pair.bob.session().suite(), Suite::MlKem1024);
}

//= ZSSP-SUI-16  Zssp04 only where it was configured, since its hello looks like Kyber1024's
#[test]
fn ambiguous_suites_and_tiny_mtus_are_refused_when_building() {
    let key = || zssp_proto::StaticKey::generate(zssp_proto::crypto::PROVIDERS[0]).unwrap();
    let builder = || {
        let provider = zssp_harness::pair::KeyLog::new(zssp_proto::crypto::PROVIDERS[0]);
        Context::builder(key(), std::sync::Arc::new(provider))
    };
    for suites in
        [vec![Suite::Kyber1024, Suite::Zssp04], vec![Suite::Zssp04, Suite::MlKem1024, Suite::Kyber1024]]
    {
        assert_eq!(builder().accept(suites).build().err(), Some(BuildError::AmbiguousSuites));
    }
    assert!(builder().accept(vec![Suite::Zssp04, Suite::MlKem1024]).build().is_ok());
    assert_eq!(builder().mtu(127).build().err(), Some(BuildError::MtuTooSmall { mtu: 127 }));
    assert!(builder().mtu(128).build().is_ok());
}

/// An old session's own end, and the new one's beginning, are independent.
#[test]
fn a_peer_that_restarted_is_met_again() {
    let mut pair = Pair::established(1, &Setup::default());
    pair.bob.restart();
    pair.alice.send(b"into the void");
    pair.settle();
    assert_eq!(pair.bob.take_faults(), [Fault::UnknownKeyId]);
    let id = pair.alice.session().id();
    pair.alice.context.close(id);
    pair.alice.open(&pair.bob);
    pair.settle();
    assert_steady(&mut pair, "after Bob's restart");
    assert_eq!(pair.alice.take_happenings(), [Happening::Established(Role::Initiator)], "no downgrade");
}
