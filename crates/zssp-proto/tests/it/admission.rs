//! Who is let in, and who is not: answers early, late and never, limits, identities, suites (PROTOCOL 2.2, 5.3).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use zssp_harness::pair::{Answer, Happening, Pair, Peer, Pool, Setup};
use zssp_proto::{
    Address, BuildError, Challenging, Context, EndReason, Fault, LinkAddress, Open, OpenError, Outbox,
    PeerName, Received, Scratch, Session, Suite,
};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

fn open_to(peer: &zssp_harness::pair::Peer) -> Open {
    Open::to(peer.public_key(), peer.address())
}

//= ZSSP-ONE-02  the previous session makes room for its successor
#[test]
fn a_full_context_lets_a_peer_replace_its_own_session() {
    let mut setup = Setup::default();
    setup.limits.sessions = 1;
    let mut pair = Pair::established(1, &setup);
    pair.alice.restart();
    pair.alice.open(&pair.bob);
    pair.drive_for(5 * SECOND);
    pair.assert_steady("after a restart");
}

/// One side tries an address where the other is not any more, and never gives up; the other comes by itself.
//= ZSSP-ONE-03  what has led nowhere for ten seconds was not opened at once with what comes then
#[test]
fn an_attempt_that_gets_nowhere_does_not_keep_the_peer_out() {
    for seed in 0..4 {
        let mut pair = Pair::new(seed);
        let nobody = Address::Link(LinkAddress::new(&9u16.to_be_bytes()).unwrap());
        pair.bob.open_with(Open::to(pair.alice.public_key(), nobody).give_up_after(None)).unwrap();
        pair.drive_for(5 * SECOND);
        pair.alice.open_with(open_to(&pair.bob).give_up_after(None)).unwrap();
        pair.drive_for(25 * SECOND);
        assert!(pair.talk(), "{seed}");
    }
}

//= ZSSP-ST-05  forgotten earlier when many are pending
//= ZSSP-DEF-13  and not always in one and the same slot
#[test]
fn strangers_make_room_for_each_other() {
    let survivors: BTreeSet<Vec<usize>> = (1..5).map(survivors).collect();
    assert_eq!(survivors.len(), 4, "always the same ones make room: {survivors:?}");
}

/// Which of so many strangers still have their place when all have come.
fn survivors(seed: u64) -> Vec<usize> {
    const STRANGERS: u16 = 30;
    let mut setup = Setup { challenging: Challenging::Off, ..Setup::default() };
    setup.limits.pending_handshakes = 4;
    let mut pair = Pair::with(seed, &setup);
    pair.bob.answer = Answer::Later;
    for stranger in 100..100 + STRANGERS {
        // Everybody comes from somewhere else.
        let name = PeerName::new(&stranger.to_be_bytes());
        pair.alice.open_with(open_to(&pair.bob).name(name)).unwrap();
        for _ in 0..2 {
            let sent = pair.alice.take_outgoing();
            sent.into_iter().for_each(|(_, datagram)| pair.bob.receive(stranger, datagram));
            let sent = pair.bob.take_outgoing();
            sent.into_iter().for_each(|(_, datagram)| pair.alice.receive(2, datagram));
        }
    }
    let stats = pair.bob.stats();
    assert_eq!((stats.pending_handshakes, stats.key_ids), (4, 4));
    assert_eq!(stats.pending_evicted, u64::from(STRANGERS) - 4);
    let alive: Vec<usize> = (0..usize::from(STRANGERS))
        .filter(|_| {
            pair.bob.decide(Answer::Refuse);
            pair.bob.take_faults().is_empty()
        })
        .collect();
    assert_eq!(alive.len(), 4);
    assert_eq!(pair.bob.stats().sessions, 0);
    pair.bob.assert_at_rest("all refused");
    alive
}

/// Whoever says that there are no bounds is not punished for it by the first hello.
#[test]
fn the_largest_bounds_are_none() {
    let mut setup = Setup::default();
    let limits = &mut setup.limits;
    (limits.pending_handshakes, limits.pending_bytes) = (usize::MAX, usize::MAX);
    (limits.reassembly_bytes, limits.reassembly_bytes_per_session) = (usize::MAX, usize::MAX);
    limits.sessions = usize::MAX;
    let mut pair = Pair::with(1, &Setup { mtu: 128, ..setup });
    pair.alice.open(&pair.bob);
    pair.settle();
    pair.assert_steady("without bounds");
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
    pair.assert_nothing_left();
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
    pair.assert_nothing_left();
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
    pair.assert_nothing_left();
}

#[test]
fn giving_up_takes_the_time_that_was_given() {
    let times = [300, 1500, 3000, 10_400, 60_000].map(|ms| (Some(ms * MS), ms * MS));
    for (given, tried) in times.into_iter().chain([(None, 600 * SECOND)]) {
        let mut pair = Pair::new(1);
        pair.network.partition(1, 2);
        pair.alice.open_with(open_to(&pair.bob).give_up_after(given)).unwrap();
        pair.drive_for(tried - MS);
        assert_eq!(pair.alice.take_happenings(), [], "{given:?}");
        if given.is_some() {
            pair.drive_for(MS);
            assert_eq!(pair.alice.take_happenings(), [Happening::Ended(EndReason::TimedOut)]);
            pair.assert_nothing_left();
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
    pair.assert_steady("answered after 5 s");
}

/// Copies of an X3 that is being thought about are dropped where they arrive: on the pool they would take the places of
/// those who have something to say.
//= ZSSP-SEC-05  a copy costs no handshake work
#[test]
fn what_waits_for_the_application_takes_no_place_on_the_pool() {
    let mut pair = Pair::new(1);
    pair.bob.answer = Answer::Later;
    pair.alice.open(&pair.bob);
    for _ in 0..2 {
        pair.pump();
        assert!(pair.deliver(None));
    }
    let (_, completion) = pair.alice.take_outgoing().remove(0);
    pair.bob.receive(1, completion.clone());
    pair.bob.pool = Pool::Held;
    for _ in 0..3 {
        pair.bob.receive(1, completion.clone());
    }
    assert_eq!((pair.bob.take_faults(), pair.bob.drop_held()), (vec![Fault::Busy; 3], 0));
    pair.bob.pool = Pool::AtOnce;
    pair.bob.decide(Answer::Accept);
    pair.settle();
    pair.assert_steady("once it was decided");
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
        pair.assert_steady("the next attempt");
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
    pair.assert_steady("the later session");
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
    pair.assert_nothing_left();
}

#[test]
fn one_does_not_open_a_session_with_oneself() {
    let mut pair = Pair::new(1);
    let open = Open::to(pair.alice.public_key(), pair.bob.address());
    assert_eq!(pair.alice.open_with(open), Err(OpenError::OwnKey));
    pair.assert_nothing_left();
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
    pair.assert_nothing_left();
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
    assert!(pair.bob.take_faults().contains(&Fault::TooManySessions));
    assert!(
        pair.bob.store.remembered(pair.alice.public_key()).is_never_met(),
        "nothing was written for nothing"
    );
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
            pair.assert_steady(&format!("{opened:?} among {accepted:?}"));
        } else {
            //= ZSSP-SUI-09  none fits: an authentication failure, answered with silence
            assert_eq!(pair.bob.take_faults(), [Fault::Forged]);
            assert_eq!(pair.sent_by(2).len(), 0);
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
        let provider = zssp_harness::pair::KeyLog::new(zssp_proto::crypto::PROVIDERS[0], 1);
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

//= ZSSP-HDR-02  a key id is not zero, and chosen by the receiver
//= ZSSP-DEF-14  key ids of pending handshakes are reserved
#[test]
fn a_key_id_belongs_to_one_handshake() {
    let (first, second) = ([0, 0, 0, 1], [0xff; 4]);
    let mut pair = Pair::new(1);
    pair.bob.answer = Answer::Later;
    pair.bob.keys.draw_next([first]);
    pair.alice.open(&pair.bob);
    pair.settle();
    // The same one again, then zero, then another: only the last will do.
    pair.bob.keys.draw_next([first, [0; 4], second]);
    let another = |pair: &Pair| open_to(&pair.bob).name(PeerName::new(b"another"));
    let other = pair.alice.open_with(another(&pair)).unwrap();
    pair.pump();
    pair.deliver(None);
    pair.alice.context.close(other);
    assert_eq!((pair.bob.stats().pending_handshakes, pair.bob.stats().key_ids), (2, 2));

    // The first is alive, and its session keeps the key id.
    pair.bob.decide(Answer::Accept);
    pair.settle();
    let to_bob: Vec<&[u8]> = pair.sent_by(1).into_iter().map(|datagram| &datagram[..4]).collect();
    assert_eq!(to_bob, [&[0; 4][..], &first, &[0; 4], &first], "X1, X3, X1, C2");
    pair.bob.keys.draw_next([first]);
    let other = pair.alice.open_with(another(&pair)).unwrap();
    pair.pump();
    pair.deliver(None);
    pair.alice.context.close(other);
    assert_eq!(pair.bob.stats().key_ids, 3);
    assert!(pair.talk());
}

/// Whoever holds the last handle of whatever, in whatever order they go.
//= ZSSP-DEF-06  dropping the last handle takes no lock that is held
#[test]
fn handles_may_be_dropped_in_any_order() {
    for order in 0..6 {
        let mut pair = Pair::new(1);
        pair.bob.answer = Answer::Later;
        pair.alice.open(&pair.bob);
        pair.settle();
        let authorize = pair.bob.undecided.pop_front().unwrap();
        let key = authorize.peer_key();
        let (context, stranger) = (pair.bob.context.clone(), Context::clone(&pair.alice.context));
        drop(pair);
        match order {
            0 => drop((context, authorize, stranger)),
            1 => drop((stranger, authorize, context)),
            2 => drop((authorize, context, stranger)),
            3 => drop((context, authorize.accept(key), stranger)),
            4 => drop((authorize.refuse(), context, stranger)),
            _ => {
                // The last handle of the context is in the work itself.
                drop(context);
                let mut outbox = zssp_proto::Outbox::default();
                let work = authorize.accept(key);
                work.run(zssp_sim::Clock::new().now(), &zssp_proto::MemoryStore::new(), &mut outbox).unwrap();
                drop(stranger);
                assert_eq!((outbox.events.len(), outbox.transmits.len()), (1, 1));
                drop(outbox);
            }
        }
    }
}

/// In the middle of a piece of work, with a state taken out, and at its end; in the loop over what is due too.
//= ZSSP-DEF-06  wherever it happens
#[test]
fn the_last_handle_may_go_in_the_middle_of_work() {
    for is_due in [false, true] {
        let mut pair = Pair::established(1, &Setup::default());
        pair.alice.rekey();
        let (_, mut start) = pair.alice.take_outgoing().remove(0);
        let (mut now, mut scratch) = (pair.now(), Scratch::new());
        let Peer { context, sessions, store, .. } = pair.bob;
        let work = if is_due {
            now += 3601 * SECOND;
            let work = context.expired(now).unwrap();
            assert!(context.expired(now).is_none());
            work
        } else {
            let received = context.receive(now, pair.alice.address(), &mut start, &mut scratch);
            let Ok(Received::Handshake(work)) = received else { panic!("{received:?}") };
            work
        };
        drop(pair.alice);
        let (handles, went) = ((context, sessions), Arc::new(()));
        if is_due {
            // A timer that begins a rekeying writes nothing.
            drop(handles);
        } else {
            let last = went.clone();
            store.during_write(0, move || drop((handles, last)));
        }
        let mut outbox = Outbox::default();
        work.run(now, &*store, &mut outbox).unwrap();
        assert_eq!(outbox.transmits.len(), 1);
        assert_eq!(Arc::strong_count(&went), 1, "in the middle of the write");
    }
}
