//! What else happens while a task computes, or a slow store writes. A session that is ended is over at once, for the data path
//! too, and leaves nothing (PROTOCOL 5.3, 5.7); and a ratchet state that is being replaced is given to nobody (PROTOCOL 5.5).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use zssp_harness::pair::{Answer, Pair, Peer, Pool, Setup, ToyCurve};
use zssp_proto::crypto::Secret;
use zssp_proto::{
    Address, Context, EndReason, Event, Fault, Fingerprint, Open, Outbox, Policy, RatchetPair, RatchetState,
    Received, Scratch, SealError, Session,
};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// Closes the session; nothing is sealed in it any more, nor is what the peer has sealed delivered.
fn close(now: Instant, context: &Context, session: &Session, (from, mut payload): (Address, Vec<u8>)) {
    let closed = context.close(session.id());
    assert!(matches!(closed, Some(Event::Ended { reason: EndReason::Closed, .. })), "{closed:?}");
    let mut buffer = [0; 100];
    assert_eq!(session.seal(b"late", 1280, &mut buffer), Err(SealError::Closed));
    let mut scratch = Scratch::new();
    let received = context.receive(now, from, &mut payload, &mut scratch);
    assert!(!matches!(received, Ok(Received::Payload { .. })), "{received:?}");
    assert_eq!(context.stats().sessions, 0);
}

/// Alice closes the session while her store writes what came of the `nth` next write: K1 or K2 read, and C1.
#[test]
fn a_session_that_is_closed_during_a_write_is_closed_at_once() {
    for starts in [1, 2] {
        for write in [0, 1] {
            let mut pair = Pair::with(7, &Setup::default());
            pair.alice.open(&pair.bob);
            pair.settle();
            let (context, session) = (pair.alice.context.clone(), pair.alice.session().clone());
            let mut buffer = [0; 100];
            let sealed = pair.bob.session().seal(b"under way", 1280, &mut buffer).unwrap();
            let payload = (pair.bob.address(), buffer[..sealed.len()].to_vec());
            let now = pair.now();
            let happened = Arc::<Mutex<bool>>::default();
            pair.alice.store.during_write(write, {
                let happened = happened.clone();
                move || {
                    close(now, &context, &session, payload);
                    *happened.lock().unwrap() = true;
                }
            });
            if starts == 1 {
                pair.alice.rekey()
            } else {
                pair.bob.rekey()
            };
            pair.settle();
            // Who reads K2 writes once, who reads K1 twice.
            assert_eq!(*happened.lock().unwrap(), starts == 2 || write == 0, "{starts} {write}");
            if *happened.lock().unwrap() {
                let stats = pair.alice.stats();
                assert_eq!((stats.sessions, stats.key_ids), (0, 0), "{starts} {write}");
            }
        }
    }
}

/// For tests of many handshakes, which do not test the cryptography.
fn quick() -> Setup {
    Setup { beneath: Some(ToyCurve::fastest()), ..Setup::default() }
}

/// What the two live through once Alice has begun to open a session, which may be over before; and its name.
type Life = (&'static str, fn(&mut Pair));

const LIVES: [Life; 5] = [
    ("at the first try", |pair| pair.settle()),
    ("without an answer at first", |pair| {
        pair.network.partition(1, 2);
        pair.drive_for(9 * SECOND);
        pair.network.heal(1, 2);
        pair.drive_for(3 * SECOND);
    }),
    ("without a confirmation at first", |pair| {
        for _ in 0..2 {
            pair.pump();
            pair.deliver(None);
        }
        pair.network.drop_next_on(2, 1, 10);
        pair.drive_for(15 * SECOND);
    }),
    ("rekeyed by Alice", |pair| {
        pair.settle();
        rekey(&mut pair.alice);
        pair.settle();
    }),
    ("rekeyed by Bob", |pair| {
        pair.settle();
        rekey(&mut pair.bob);
        pair.settle();
    }),
];

fn rekey(peer: &mut Peer) {
    if peer.sessions.last().is_some_and(|session| !session.has_ended()) {
        peer.rekey();
    }
}

/// Where in what she does Alice closes the session.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// In the middle of a call of the cryptography, or when one of its keys is dropped, after so many others.
    Call(u32),
    /// While the store fails to write, after so many writes.
    FailedWrite(u32),
    /// While the store writes, after so many other writes.
    Write(u32),
}

/// `false`: the moment never came.
fn is_closed(moment: Moment, (name, live): Life) -> bool {
    let mut pair = Pair::with(7, &quick());
    pair.alice.pool = Pool::Held;
    let id = pair.alice.open(&pair.bob);
    let context = pair.alice.context.clone();
    let has_come = Arc::<AtomicBool>::default();
    let close = {
        let (context, has_come, store) = (context.clone(), has_come.clone(), pair.alice.store.clone());
        move || {
            if matches!(moment, Moment::FailedWrite(_)) {
                store.break_after(0);
            }
            assert!(context.close(id).is_some(), "closed by nobody else");
            has_come.store(true, Ordering::Relaxed);
        }
    };
    match moment {
        Moment::Call(calls) => pair.alice.keys.during_call(calls, close),
        Moment::FailedWrite(writes) | Moment::Write(writes) => pair.alice.store.during_write(writes, close),
    }
    pair.alice.pool = Pool::AtOnce;
    pair.alice.run_held();
    live(&mut pair);
    let has_come = has_come.load(Ordering::Relaxed);
    let (stats, what) = (context.stats(), format!("{name}, {moment:?}"));
    assert_eq!([stats.sessions, stats.key_ids].map(|left| left == 0), [has_come; 2], "{what}: {stats:?}");
    assert_eq!((stats.reassembly_bytes, context.next_deadline().is_none()), (0, has_come), "{what}");
    has_come
}

/// A key id leads to a state before the state is in its place, or else one that was freed would be led to what is over.
#[test]
fn a_session_that_is_closed_at_any_moment_leaves_nothing() {
    for life in LIVES {
        let count = |moment: fn(u32) -> Moment| (0..).take_while(|nth| is_closed(moment(*nth), life)).count();
        let counts = [Moment::Call, Moment::Write, Moment::FailedWrite].map(count);
        assert!(counts[0] > 50 && counts[1] >= 2 && counts[2] == counts[1], "{}: {counts:?}", life.0);
    }
}

/// Her work waits for its turn, as on a busy pool.
#[test]
fn a_session_that_is_closed_between_two_tasks_leaves_nothing() {
    for (tasks, is_done) in (0..3).flat_map(|tasks| [(tasks, false), (tasks, true)]) {
        let mut pair = Pair::with(7, &quick());
        pair.alice.pool = Pool::Held;
        let id = pair.alice.open(&pair.bob);
        for _ in 0..tasks {
            pair.alice.run_held();
            pair.settle();
        }
        if is_done {
            pair.alice.run_held();
        }
        pair.alice.close(id);
        assert_eq!(pair.alice.stats().key_ids, 0, "{tasks} {is_done}");
        pair.alice.run_held();
        pair.settle();
        let stats = pair.alice.stats();
        assert_eq!((stats.sessions, stats.key_ids), (0, 0), "{tasks} {is_done}");
        assert_eq!((pair.alice.drop_held(), pair.alice.next_deadline()), (0, None), "{tasks} {is_done}");
    }
}

/// Bob has a session with Alice, who has died twice since and opens another each time. While he sets up the first of the
/// two, another thread sets up the second, which takes its place.
//= ZSSP-ONE-02  one is left, whichever was later
#[test]
fn a_session_that_is_replaced_while_it_is_set_up_leaves_nothing() {
    let mut superseded = 0;
    for calls in 0.. {
        let mut pair = Pair::established(7, &quick());
        pair.bob.answer = Answer::Later;
        for _ in 0..2 {
            pair.alice.forget_everyone();
            pair.alice.restart();
            pair.alice.open(&pair.bob);
            pair.settle();
        }
        let now = pair.now();
        let [first, second] = [0, 1].map(|_| {
            let authorize = pair.bob.undecided.pop_front().unwrap();
            let name = authorize.peer_key();
            authorize.accept(name)
        });
        let has_come = Arc::<AtomicBool>::default();
        pair.bob.keys.during_call(calls, {
            let (has_come, store) = (has_come.clone(), pair.bob.store.clone());
            move || {
                second.run(now, &*store, &mut Outbox::default()).unwrap();
                has_come.store(true, Ordering::Relaxed);
            }
        });
        let result = first.run(now, &*pair.bob.store, &mut Outbox::default());
        if !has_come.load(Ordering::Relaxed) {
            assert!(calls > 3 && result.is_ok(), "two keys are made and one is dropped, at least: {calls}");
            assert!(superseded > 0);
            return;
        }
        let stats = pair.bob.stats();
        let left = (stats.sessions, stats.key_ids, stats.pending_handshakes);
        assert_eq!(left, (1, 1, 0), "{calls}: {result:?}");
        superseded += usize::from(result == Err(Fault::Superseded));
        assert!(result.is_ok() || result == Err(Fault::Superseded), "{calls}: {result:?}");
    }
}

/// Alice dies when she has sent X3, which Bob accepts at the last moment before he forgets it. His disk takes half a second,
/// in which she is settled and makes an X1 that names the state that he is about to replace.
//= ZSSP-RAT-26  he does not answer with it before it is decided
#[test]
fn a_state_that_is_being_replaced_is_given_to_nobody() {
    let mut pair = Pair::with(7, &Setup { policy: Policy::PERSISTENT, ..Setup::default() });
    let first = RatchetState::new(Secret::new([7; 32]), Fingerprint::new([8; 32]), 3);
    let shared = RatchetPair { first, second: None };
    pair.alice.store.preset(pair.bob.public_key(), shared.duplicate());
    pair.bob.store.preset(pair.alice.public_key(), shared);
    let open = |pair: &mut Pair| {
        let open = Open::to(pair.bob.public_key(), pair.bob.address());
        pair.alice.open_with(open.give_up_after(None)).unwrap()
    };
    // Both processes have been there for longer than anything of their predecessors can matter.
    let id = open(&mut pair);
    pair.settle();
    pair.stand_still_for(20 * SECOND);
    pair.alice.close(id);
    let id = pair.bob.session().id();
    pair.bob.close(id);

    open(&mut pair);
    for _ in 0..2 {
        pair.pump();
        assert!(pair.deliver(None));
    }
    let (_, late) = pair.alice.take_outgoing().remove(0);
    pair.alice.restart();
    pair.stand_still_for(100 * MS);
    pair.network.partition(1, 2);
    open(&mut pair);
    pair.drive_for(9780 * MS);
    pair.bob.answer = Answer::Later;
    pair.bob.receive(1, late);
    let authorize = pair.bob.undecided.pop_front().unwrap();
    pair.bob.answer = Answer::Accept;
    let (accepted_at, name) = (pair.now(), authorize.peer_key());
    assert!(authorize.is_waiting(accepted_at), "a tenth of a second is left");
    let accept = authorize.accept(name);

    pair.stand_still_for(250 * MS);
    pair.alice.meet_deadlines();
    let (_, hello) = pair.alice.take_outgoing().remove(0);
    pair.network.heal(1, 2);
    let (context, from, now) = (pair.bob.context.clone(), pair.alice.address(), pair.now());
    let answers = Arc::<Mutex<Vec<Vec<u8>>>>::default();
    let answered: Arc<Mutex<Option<Result<(), Fault>>>> = Arc::default();
    pair.bob.store.during_write(0, {
        let (answers, answered, store) = (answers.clone(), answered.clone(), pair.bob.store.clone());
        move || {
            let (mut hello, mut scratch, mut outbox) = (hello, Scratch::new(), Outbox::default());
            let received = context.receive(now, from, &mut hello, &mut scratch);
            let Ok(Received::Handshake(work)) = received else { panic!("{received:?}") };
            *answered.lock().unwrap() = Some(work.run(now, &*store, &mut outbox));
            let datagrams = outbox.transmits.iter().flat_map(|transmit| transmit.datagrams());
            answers.lock().unwrap().extend(datagrams.map(<[u8]>::to_vec));
        }
    });
    accept.run(accepted_at, &*pair.bob.store, &mut Outbox::default()).unwrap();
    for answer in answers.lock().unwrap().drain(..) {
        pair.alice.receive(2, answer);
    }
    pair.drive_for(15 * SECOND);
    assert!(pair.talk(), "they know a state of each other");
    assert_eq!(*answered.lock().unwrap(), Some(Err(Fault::Busy)));
}
