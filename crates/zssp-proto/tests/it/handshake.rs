//! The first contact between two peers: every packet lost, late or twice, every timer, every end (PROTOCOL 5.3).

use std::time::Duration;

use zssp_harness::pair::{Answer, Happening, Pair, Pool, Setup};
use zssp_proto::{EndReason, Event, Fault, Open, Role, SealError, Session, Suite};
use zssp_sim::Conditions;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// The packets of an undisturbed handshake, in order. At the default MTU each is one datagram.
const PACKETS: [&str; 5] = ["X1", "X2", "X3", "C1", "C2"];

fn open_to(peer: &zssp_harness::pair::Peer) -> Open {
    Open::to(peer.public_key(), peer.address())
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
    pair.assert_steady("an undisturbed handshake");
}

//= ZSSP-ST-01  no heartbeat
//= ZSSP-ST-12  S2 sends nothing by itself
#[test]
fn an_established_session_is_silent() {
    let mut pair = Pair::established(1, &Setup::default());
    let sent = pair.wire.len();
    pair.drive_for(49 * 60 * SECOND);
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
            pair.assert_steady(&format!("{name} lost {copies} times"));
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
            pair.assert_steady(&format!("{name} {delay:?} late"));
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
    pair.assert_steady("everything twice");
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
    let first: Vec<Vec<u8>> = pair.sent_by(1).into_iter().map(<[u8]>::to_vec).collect();
    assert_eq!(first.len(), 10, "at 0 s, 1 s, ... 9 s");
    assert!(first.iter().all(|hello| *hello == first[0]), "the same hello");

    pair.drive_for(10 * SECOND);
    let second = &pair.sent_by(1)[10..];
    assert_eq!(second.len(), 10);
    assert!(second.iter().all(|hello| *hello == second[0]));
    let (kid, ephemeral) = (16..20, 20..69);
    assert_ne!(first[0][kid.clone()], second[0][kid]);
    assert_ne!(first[0][ephemeral.clone()], second[0][ephemeral]);
    assert_eq!(pair.alice.stats().key_ids, 1, "the old kid was given back");

    pair.network.heal(1, 2);
    pair.drive_for(SECOND);
    pair.assert_steady("after 19 s alone");
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
    let sent: Vec<Vec<u8>> = pair.sent_by(1).into_iter().map(<[u8]>::to_vec).collect();
    let completions = &sent[1..];
    assert_eq!(completions.len(), 10);
    assert!(completions.iter().all(|completion| *completion == completions[0]));

    pair.drive_for(SECOND);
    let renewed = &pair.sent_by(1)[11..];
    assert_eq!(renewed.len(), 1);
    assert_eq!(renewed[0][..4], [0; 4], "a hello");
    assert_ne!(renewed[0], sent[0]);
    assert_eq!(pair.alice.stats().key_ids, 1);
    pair.network.heal(1, 2);
    pair.drive_for(2 * SECOND);
    pair.assert_steady("after a lost completion");
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
    assert_eq!(pair.sent_by(2).len(), 1);
    pair.assert_nothing_left();
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
    let sent = pair.sent_by(2);
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
    let before = pair.sent_by(1).len();
    pair.drive_for(5500 * MS);
    assert_eq!(pair.sent_by(1).len() - before, 6);
    assert_eq!(pair.alice.take_happenings(), [Happening::Established(Role::Initiator)]);
    pair.network.set_conditions(Conditions::default());
    pair.drive_for(SECOND);
    pair.assert_steady("after six answers");
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
    pair.assert_steady("after an early payload");
}

//= ZSSP-DEF-04  sending before establishment is impossible, after the end an error; no counter is used up
#[test]
fn a_session_that_ended_seals_nothing() {
    let pair = Pair::established(1, &Setup::default());
    let session = pair.alice.session().clone();
    let told = pair.alice.context.close(session.id());
    let closed = |id| id == session.id();
    assert!(matches!(told, Some(Event::Ended { id, reason: EndReason::Closed }) if closed(id)), "{told:?}");
    let sealed = session.packets_sealed();
    assert_eq!(session.seal(b"late", 1280, &mut [0; 100]), Err(SealError::Closed));
    assert_eq!(session.packets_sealed(), sealed);
    assert!(pair.alice.context.close(session.id()).is_none(), "told once");
    assert_eq!((pair.alice.stats().sessions, pair.alice.stats().key_ids), (0, 0));
}

#[test]
fn a_session_that_was_closed_reads_no_more_fragments() {
    let mut pair = Pair::established(1, &Setup::default());
    let (alice, bob) = (&pair.alice, &mut pair.bob);
    let mut buffer = vec![0; 6000];
    let sealed = alice.session().seal(&[7; 5000], 1500, &mut buffer).unwrap();
    let datagrams: Vec<_> = sealed.datagrams(&buffer).map(<[u8]>::to_vec).collect();
    let [first @ .., last] = &datagrams[..] else { panic!("several fragments") };
    for datagram in first {
        bob.receive(alice.node, datagram.clone());
    }
    assert_eq!(bob.take_faults(), []);
    bob.context.close(bob.session().id());
    bob.receive(alice.node, last.clone());
    assert_eq!(bob.take_faults(), [Fault::UnknownKeyId]);
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
            for peer in [&mut pair.alice, &mut pair.bob] {
                assert!(peer.is_idle(), "after {steps} packets, node {}", peer.node);
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
            pair.bob.sessions.iter().for_each(|session| drop(pair.bob.context.close(session.id())));
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
        pair.assert_steady(&format!("work {delay:?} late"));
    }
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
    pair.assert_steady("after Bob's restart");
    assert_eq!(pair.alice.take_happenings(), [Happening::Established(Role::Initiator)], "no downgrade");
}

//= ZSSP-ST-29  the send counter never restarts
//= ZSSP-PKT-10  it is one for all types
#[test]
fn every_packet_of_a_session_takes_the_next_counter() {
    let mut pair = Pair::new(1);
    pair.alice.open(&pair.bob);
    for _ in 0..3 {
        pair.pump();
        pair.deliver(None);
    }
    // Bob confirms in vain and sends payloads in between, in S1; then the same in S2.
    pair.network.partition(1, 2);
    for number in 1..=5 {
        pair.drive_for(SECOND);
        assert_eq!(pair.bob.session().packets_sealed(), 2 * number);
        pair.bob.send(b"payload");
        assert_eq!(pair.bob.session().packets_sealed(), 2 * number + 1);
    }
    pair.network.heal(1, 2);
    pair.drive_for(2 * SECOND);
    let in_s2 = pair.bob.session().packets_sealed();
    assert!(in_s2 > 11);
    pair.bob.send(b"payload");
    assert_eq!(pair.bob.session().packets_sealed(), in_s2 + 1);
    pair.settle();
    pair.assert_steady("with many counters used");
}

//= ZSSP-SEC-01  not a byte of plaintext is on the line
//= ZSSP-PKT-03  the identity is encrypted
//= ZSSP-PKT-09  payloads are
#[test]
fn nothing_secret_is_on_the_line() {
    let mut pair = Pair::new(1);
    let open = open_to(&pair.bob).identity(b"the identity of Alice".to_vec());
    pair.alice.open_with(open).unwrap();
    pair.settle();
    pair.alice.send(b"a payload from Alice");
    pair.bob.send(b"a payload from Bob");
    pair.settle();
    let (alice, bob) = (pair.alice.public_key(), pair.bob.public_key());
    let secrets: [&[u8]; 5] =
        [b"identity", b"Alice", b"a payload", &alice.as_bytes()[1..], &bob.as_bytes()[1..]];
    for secret in secrets {
        for datagram in &pair.wire {
            assert!(!datagram.bytes.windows(secret.len()).any(|window| window == secret));
        }
    }
}

/// A `Secret` itself has no `Debug`.
//= ZSSP-SEC-09  Debug output shows no secrets
#[test]
fn debug_output_shows_no_secrets() {
    let mut pair = Pair::new(1);
    pair.bob.answer = Answer::Later;
    pair.alice.open(&pair.bob);
    pair.settle();
    let asked = format!("{:?}", pair.bob.undecided[0]);
    pair.bob.decide(Answer::Accept);
    pair.settle();
    let key = zssp_proto::StaticKey::generate(zssp_proto::crypto::PROVIDERS[0]).unwrap();
    let stored = pair.alice.store.remembered(pair.bob.public_key());
    let shown = [
        asked,
        format!("{:?} {:?}", pair.alice.context, pair.alice.session()),
        format!("{key:?} {:?}", pair.bob.session()),
        format!("{stored:?} {:?}", stored.first.fingerprint()),
        format!("{:?}", pair.alice.store),
    ]
    .concat();
    let scalar = key.secret();
    // As hexadecimal digits or as numbers, the beginning of any secret would be there.
    let secrets = [&scalar.expose()[..], stored.first.key().expose(), stored.first.fingerprint().as_bytes()];
    for secret in secrets {
        let hex: String = secret[..3].iter().map(|byte| format!("{byte:02x}")).collect();
        let list = format!("{}, {}, {}", secret[0], secret[1], secret[2]);
        assert!(!shown.to_lowercase().contains(&hex) && !shown.contains(&list), "{shown}");
    }
}
