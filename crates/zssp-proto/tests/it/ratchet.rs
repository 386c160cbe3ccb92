//! What peers remember of each other, what happens when one forgets, and what happens when the store fails
//! (PROTOCOL 5.5).

use std::time::Duration;

use zssp_harness::pair::{Answer, Happening, Pair, Peer, Setup, ToyCurve};
use zssp_proto::crypto::Secret;
use zssp_proto::{
    Downgrade, EndReason, Event, Fault, Fingerprint, Open, Outbox, Policy, RatchetPair, RatchetState, Role,
    Session,
};

const SECOND: Duration = Duration::from_secs(1);

/// What a peer remembers of another: chain lengths and the beginnings of fingerprints of states 1 and 2.
type Remembered = Vec<(u64, [u8; 4])>;

fn remembered(peer: &Peer, other: &Peer) -> Remembered {
    let pair = peer.store.remembered(other.public_key());
    pair.states()
        .map(|state| (state.chain_length(), *state.fingerprint().as_bytes().first_chunk().unwrap()))
        .collect()
}

fn state(number: u8) -> RatchetState {
    RatchetState::new(Secret::new([number; 32]), Fingerprint::new([number + 1; 32]), u64::from(number))
}

fn states(numbers: &[u8]) -> RatchetPair {
    let mut states = numbers.iter().map(|number| state(*number));
    let first = states.next().unwrap_or_else(RatchetState::zero);
    RatchetPair { first, second: states.next() }
}

/// Two peers who remember these states of each other.
fn pair_that_remembers(alice: &[u8], bob: &[u8]) -> Pair {
    let pair = Pair::new(1);
    pair.alice.store.preset(pair.bob.public_key(), states(alice));
    pair.bob.store.preset(pair.alice.public_key(), states(bob));
    pair
}

const ZERO: (u64, [u8; 4]) = (0, [0; 4]);

/// The table of PROTOCOL 5.5, row by row.
//= ZSSP-RAT-01  one or two states
//= ZSSP-RAT-07  never met: zero, none
//= ZSSP-RAT-08  X2 read: new, the one it opened with
//= ZSSP-RAT-10  X3 read: new, none
//= ZSSP-RAT-13  C1 read: unchanged, none
//= ZSSP-XK-12  the zero fingerprint stands for the zero key
#[test]
fn the_pair_after_every_transition() {
    let mut pair = Pair::new(1);
    assert!(pair.alice.store.remembered(pair.bob.public_key()).is_never_met());
    pair.alice.open(&pair.bob);
    let deliver = |pair: &mut Pair| {
        pair.pump();
        assert!(pair.deliver(None));
        (remembered(&pair.alice, &pair.bob), remembered(&pair.bob, &pair.alice))
    };
    assert_eq!(deliver(&mut pair), (vec![ZERO], vec![ZERO]), "Bob read X1");
    let (alice, bob) = deliver(&mut pair);
    let new = alice[0];
    assert_eq!((new.0, alice[1], bob), (1, ZERO, vec![ZERO]), "Alice read X2");
    assert_eq!(deliver(&mut pair), (vec![new, ZERO], vec![new]), "Bob read X3");
    assert_eq!(deliver(&mut pair), (vec![new], vec![new]), "Alice read C1");
    assert_eq!(deliver(&mut pair), (vec![new], vec![new]), "Bob read C2");

    // The second session starts from what the first left.
    pair.alice.open(&pair.bob);
    deliver(&mut pair);
    let (alice, bob) = deliver(&mut pair);
    let newer = alice[0];
    assert_eq!((newer.0, alice[1], bob), (2, new, vec![new]), "Alice read X2");
    assert_eq!(deliver(&mut pair), (vec![newer, new], vec![newer]), "Bob read X3");
    assert_eq!(deliver(&mut pair), (vec![newer], vec![newer]), "Alice read C1");
    let replaced = |it: &Happening| matches!(it, Happening::Ended(EndReason::Replaced { .. }));
    let happenings = pair.alice.take_happenings();
    assert!(happenings.iter().all(|it| matches!(it, Happening::Established(_)) || replaced(it)));
    assert_eq!(happenings.iter().filter(|it| replaced(it)).count(), 1);
}

/// Who remembers what, and what comes of it. A session comes about in every case, since no flag forbids it.
//= ZSSP-RAT-09  a downgrade leaves state 2 as it was
//= ZSSP-RAT-14  the session's copy equals what it stored, whichever state was used
//= ZSSP-RAT-17  rf1 is looked up, then rf2
//= ZSSP-RAT-18  none recognised: the zero key
//= ZSSP-RAT-19  state 1, state 2, the zero key
//= ZSSP-RAT-23  state 2 not at once
//= ZSSP-RAT-20  Alice is told that Bob lost the ratchet
//= ZSSP-RAT-22  Bob accepts a downgrade with a warning
//= ZSSP-DEF-01  the second fingerprint is looked up under its own value
//= ZSSP-DEF-02  the session survives C1 after state 2 or a downgrade
//= ZSSP-XK-11  a missing second fingerprint is sent as zeros
#[test]
fn whatever_each_side_remembers_they_meet() {
    /// Alice's states, Bob's states, Alice's state 2 after X2 by its chain length, who is warned.
    type Case = (&'static [u8], &'static [u8], Option<u64>, [bool; 2]);
    let cases: [Case; 10] = [
        (&[], &[], Some(0), [false, false]),
        (&[5], &[5], Some(5), [false, false]),
        (&[6, 5], &[6], Some(6), [false, false]),
        (&[6, 5], &[5], Some(5), [false, false]),
        (&[6, 5], &[6, 5], Some(6), [false, false]),
        (&[5], &[6, 5], Some(5), [false, false]),
        (&[5], &[], None, [true, false]),
        (&[6, 5], &[], Some(5), [true, false]),
        (&[], &[5], Some(0), [false, true]),
        (&[6, 5], &[9, 8], Some(5), [true, true]),
    ];
    for (alice, bob, second, warned) in cases {
        let what = format!("{alice:?} meets {bob:?}");
        let mut pair = pair_that_remembers(alice, bob);
        pair.alice.open(&pair.bob);
        if (alice, bob) == (&[6, 5], &[5]) {
            // Her state 1 may still come to Bob, in an old X3: not before ten seconds does she do without it.
            pair.settle();
            assert_eq!(pair.alice.take_faults(), [Fault::Unsettled], "{what}");
            pair.stand_still_for(10 * SECOND);
            pair.alice.meet_deadlines();
        }
        pair.pump();
        pair.deliver(None);
        pair.pump();
        pair.deliver(None);
        let after_x2 = remembered(&pair.alice, &pair.bob);
        assert_eq!(after_x2.get(1).map(|(chain_length, _)| *chain_length), second, "{what}");
        // The first confirmation is lost, so that the second one must fit as well.
        pair.drive_for(3 * SECOND);

        assert!(pair.talk(), "{what}");
        assert_eq!(remembered(&pair.alice, &pair.bob), after_x2[..1], "{what}");
        assert_eq!(remembered(&pair.bob, &pair.alice), after_x2[..1], "{what}");
        for (peer, warned) in [&mut pair.alice, &mut pair.bob].into_iter().zip(warned) {
            assert_eq!(peer.take_happenings().contains(&Happening::Downgraded), warned, "{what}");
            assert_eq!(peer.sessions.last().unwrap().is_downgraded(), warned, "{what}");
        }
    }
}

/// The attempt that succeeds begins from what the two have in common since the one before it. Alice's session is that of
/// both, while Bob has one of each. Both are told once.
//= ZSSP-RAT-20  Alice, in whichever attempt it was
//= ZSSP-RAT-22  Bob, in the one in which it was
#[test]
fn a_session_that_took_two_attempts_knows_of_the_downgrade_in_the_first() {
    for (alices, bobs) in [(&[5][..], &[][..]), (&[], &[5]), (&[5], &[7])] {
        let mut pair = pair_that_remembers(alices, bobs);
        pair.alice.open(&pair.bob);
        pair.pump();
        pair.deliver(None);
        pair.pump();
        pair.deliver(None);
        // Bob hears Alice, and she does not hear him confirm.
        pair.network.drop_next_on(2, 1, 10);
        pair.drive_for(15 * SECOND);
        assert!(pair.talk());
        let have = |peer: &Peer| peer.sessions.iter().map(Session::is_downgraded).collect::<Vec<_>>();
        assert_eq!(have(&pair.alice), [!alices.is_empty()], "{alices:?} {bobs:?}");
        assert_eq!(have(&pair.bob), [!bobs.is_empty(), false], "{alices:?} {bobs:?}");
        for (peer, expected) in [(&mut pair.alice, alices), (&mut pair.bob, bobs)] {
            let told = peer.take_happenings().iter().filter(|it| **it == Happening::Downgraded).count();
            assert_eq!(told, expected.len());
        }
        assert_eq!(remembered(&pair.alice, &pair.bob)[0].0, 2, "the second attempt goes on from the first");
    }
}

/// The handshake in which it came to light is over when Bob's store has written what comes of it, and the next one knows
/// nothing of it any more.
//= ZSSP-RAT-22  he is warned all the same
#[test]
fn a_downgrade_is_told_though_no_session_comes_of_it() {
    let mut pair = pair_that_remembers(&[], &[5]);
    pair.bob.answer = Answer::Later;
    pair.alice.open(&pair.bob);
    pair.settle();
    let peer = pair.alice.public_key();
    let accepted = pair.bob.undecided.pop_front().unwrap().accept(peer);
    let (context, store) = (pair.bob.context.clone(), pair.bob.store.clone());
    let done = pair.now() + 10 * SECOND;
    store.during_write(0, move || {
        assert!(context.expired(done).is_none(), "handshakes are forgotten without work");
    });
    let mut outbox = Outbox::default();
    assert_eq!(accepted.run(pair.now(), &*store, &mut outbox), Err(Fault::Stale));
    assert!(matches!(outbox.events[..], [Event::Downgraded { peer: told }] if told == peer));
    assert!(outbox.transmits.is_empty());

    pair.bob.answer = Answer::Accept;
    pair.bob.take_happenings();
    pair.drive_for(15 * SECOND);
    assert!(pair.talk() && !pair.bob.session().is_downgraded());
    assert!(!pair.bob.take_happenings().contains(&Happening::Downgraded));
}

/// The store has done it, and said that it failed; no later copy of X3 comes.
//= ZSSP-RAT-22  the next handshake would not show it
#[test]
fn a_downgrade_is_told_once_though_the_store_does_not_say_that_it_is_written() {
    for comes_again in [false, true] {
        let mut pair = pair_that_remembers(&[], &[5]);
        pair.bob.answer = Answer::Later;
        pair.alice.open(&pair.bob);
        pair.settle();
        pair.bob.store.doubt_after(1);
        pair.bob.answer = Answer::Accept;
        let (alice, bob) = (pair.alice.node, pair.bob.node);
        let request = pair.bob.undecided.pop_front().unwrap();
        let peer = pair.alice.public_key();
        let (context, store) = (pair.bob.context.clone(), pair.bob.store.clone());
        let mut outbox = Outbox::default();
        let result = request.accept(peer).run(pair.now(), &store, &mut outbox);
        assert_eq!(result, Err(Fault::Store));
        let told = |outbox: &Outbox| {
            outbox.events.iter().filter(|event| matches!(event, Event::Downgraded { .. })).count()
        };
        assert_eq!((told(&outbox), context.stats().sessions), (1, 0));
        if !comes_again {
            pair.network.partition(alice, bob);
            pair.drive_for(15 * SECOND);
            pair.network.heal(alice, bob);
        }
        pair.bob.take_happenings();
        pair.drive_for(15 * SECOND);
        assert!(pair.talk(), "{comes_again}");
        assert!(!pair.bob.take_happenings().contains(&Happening::Downgraded), "once: {comes_again}");
    }
}

//= ZSSP-RAT-21  the state used must be one of hers
#[test]
fn a_state_of_somebody_else_does_not_open() {
    let mut pair = pair_that_remembers(&[5], &[]);
    // Bob knows the state that Alice offers, as that of another peer.
    pair.bob.store.preset(zssp_proto::PeerName::new(b"carol"), states(&[5]));
    pair.alice.open(&pair.bob);
    pair.settle();
    assert_eq!(pair.bob.take_faults(), [Fault::RatchetMismatch]);
    assert_eq!((pair.bob.stats().sessions, pair.bob.stats().key_ids), (0, 0));
    assert!(pair.bob.store.remembered(pair.alice.public_key()).is_never_met());
}

#[test]
fn a_peer_that_lost_its_disk_is_met_again_with_a_warning() {
    let mut pair = Pair::established(1, &Setup::default());
    pair.bob.forget_everyone();
    pair.bob.restart();
    pair.alice.restart();
    pair.alice.take_happenings();
    pair.alice.open(&pair.bob);
    pair.settle();
    assert_eq!(
        pair.alice.take_happenings(),
        [Happening::Downgraded, Happening::Established(Role::Initiator)]
    );
    assert!(pair.talk());

    // And from there on without one.
    pair.alice.restart();
    pair.alice.open(&pair.bob);
    pair.settle();
    assert_eq!(pair.alice.take_happenings(), [Happening::Established(Role::Initiator)]);
}

/// Every call of the store fails once, in every role: nothing has changed, and the next copy of the packet succeeds.
//= ZSSP-RAT-05  a storage error drops the packet with nothing changed
#[test]
fn the_store_may_fail_at_any_call() {
    let calls = |pair: &Pair| (pair.alice.store.calls(), pair.bob.store.calls());
    let mut undisturbed = pair_that_remembers(&[5], &[5]);
    let before = calls(&undisturbed);
    undisturbed.alice.open(&undisturbed.bob);
    undisturbed.settle();
    let after = calls(&undisturbed);
    let of_alice = (0..after.0 - before.0).map(|call| (true, call));
    let of_bob = (0..after.1 - before.1).map(|call| (false, call));
    assert_eq!((after.0 - before.0, after.1 - before.1), (3, 3), "load, X2, C1; find, load, X3");

    for (alice, call) in of_alice.chain(of_bob) {
        let mut pair = pair_that_remembers(&[5], &[5]);
        let failing = if alice { &pair.alice } else { &pair.bob };
        failing.store.fail_after(call);
        pair.alice.open(&pair.bob);
        pair.settle();
        let peer = if alice { &mut pair.alice } else { &mut pair.bob };
        assert!(peer.take_happenings().contains(&Happening::StoreFailed));
        assert_eq!(peer.take_faults(), [Fault::Store]);

        pair.drive_for(4 * SECOND);
        assert!(pair.talk(), "alice {alice} call {call}");
        assert_eq!(pair.alice.sessions.len() + pair.bob.sessions.len(), 2);
        assert_eq!(remembered(&pair.alice, &pair.bob), remembered(&pair.bob, &pair.alice));
    }
}

/// A store does what it was asked to and says that it failed, at any call, and whatever becomes of the calls after it:
/// nobody takes what it wrote for another session's, or for a history that the peer has lost.
//= ZSSP-RAT-05  what is there all the same is found there, as soon as the store can be read
#[test]
fn the_store_may_doubt_at_any_call() {
    /// What becomes of a call, by the digits of a number to the base of three.
    const OUTCOMES: u32 = 3;
    for (alice, call) in [true, false].into_iter().flat_map(|alice| (0..6).map(move |call| (alice, call))) {
        for after in 0..OUTCOMES.pow(3) {
            let what = format!("alice {alice} call {call} and then {after}");
            let mut policy = Policy::OPPORTUNISTIC;
            policy.as_responder = Downgrade::Refuse;
            let setup = Setup { policy, beneath: Some(ToyCurve::fastest()), ..Setup::default() };
            let mut pair = Pair::with(1, &setup);
            let store = if alice { &pair.alice.store } else { &pair.bob.store };
            store.doubt_after(call);
            for later in 0..3 {
                match after / OUTCOMES.pow(later) % OUTCOMES {
                    0 => {}
                    1 => store.fail_after(call + 1 + later),
                    _ => store.doubt_after(call + 1 + later),
                }
            }
            pair.alice.open(&pair.bob);
            pair.drive_for(9 * SECOND);
            assert!(pair.talk(), "{what}: in the first attempt");
            pair.alice.rekey();
            pair.drive_for(10 * SECOND);
            assert!(pair.talk(), "{what}");
            for peer in [&mut pair.alice, &mut pair.bob] {
                let happenings = peer.take_happenings();
                let expected = |happening: &Happening| {
                    matches!(happening, Happening::Asked | Happening::Established(_) | Happening::StoreFailed)
                };
                assert!(happenings.iter().all(expected), "{what}: {happenings:?}");
            }
            let [alice, bob] = [remembered(&pair.alice, &pair.bob), remembered(&pair.bob, &pair.alice)];
            assert!(alice == bob && alice.len() == 1 && alice[0].0 == 2, "{what}: {alice:?} {bob:?}");
        }
    }
}

/// The store of either side fails for a minute, from any call of the handshake on: as long as it does nothing is written,
/// and afterwards the two meet with the ratchet that they had.
//= ZSSP-RAT-05  the resend tries again
#[test]
fn a_store_that_fails_for_long_is_waited_for() {
    let mut policy = Policy::OPPORTUNISTIC;
    (policy.as_initiator, policy.as_responder) = (Downgrade::Refuse, Downgrade::Refuse);
    for shared in [&[][..], &[5]] {
        // Alice: load, X2, C1. Bob: find, if she names a state, load, X3.
        let calls = [(true, 3), (false, if shared.is_empty() { 2 } else { 3 })];
        for (is_alices, call) in
            calls.into_iter().flat_map(|(alice, calls)| (0..calls).map(move |it| (alice, it)))
        {
            let what = format!("{shared:?}, Alice's: {is_alices}, from call {call}");
            let mut pair = Pair::with(1, &Setup { policy, ..Setup::default() });
            pair.alice.store.preset(pair.bob.public_key(), states(shared));
            pair.bob.store.preset(pair.alice.public_key(), states(shared));
            let store = if is_alices { pair.alice.store.clone() } else { pair.bob.store.clone() };
            store.break_after(call);
            let open = Open::to(pair.bob.public_key(), pair.bob.address()).give_up_after(None);
            pair.alice.open_with(open).unwrap();
            pair.drive_for(SECOND);
            let before = [remembered(&pair.alice, &pair.bob), remembered(&pair.bob, &pair.alice)];
            pair.drive_for(60 * SECOND);
            let peer = if is_alices { &mut pair.alice } else { &mut pair.bob };
            assert!(peer.take_happenings().contains(&Happening::StoreFailed), "{what}");
            let after = [remembered(&pair.alice, &pair.bob), remembered(&pair.bob, &pair.alice)];
            assert_eq!(after, before, "{what}");

            store.heal();
            pair.drive_for(25 * SECOND);
            assert!(pair.talk(), "{what}");
            assert_eq!(remembered(&pair.alice, &pair.bob), remembered(&pair.bob, &pair.alice), "{what}");
            for peer in [&mut pair.alice, &mut pair.bob] {
                let happenings = peer.take_happenings();
                let is_downgrade =
                    |it: &Happening| matches!(it, Happening::Downgraded | Happening::DowngradeRefused);
                assert!(!happenings.iter().any(is_downgrade), "{what}: {happenings:?}");
            }
        }
    }
}

/// The answerer cannot store what K1 brings: it answers nothing, and payloads flow under the key that there is, until it
/// can.
//= ZSSP-RAT-05  nothing has changed, and the resend tries again
//= ZSSP-RAT-11  then y reads K1
#[test]
fn an_answerer_whose_store_fails_for_most_of_a_minute_rekeys_when_it_works_again() {
    for alice_starts in [true, false] {
        let mut pair = Pair::established(1, &Setup::default());
        (pair.alice.keys_per_session, pair.bob.keys_per_session) = (2, 2);
        let before = [remembered(&pair.alice, &pair.bob), remembered(&pair.bob, &pair.alice)];
        let store = if alice_starts { pair.bob.store.clone() } else { pair.alice.store.clone() };
        store.break_after(0);
        let calls = store.calls();
        if alice_starts {
            pair.alice.rekey()
        } else {
            pair.bob.rekey()
        }
        for second in 0..55 {
            pair.drive_for(SECOND);
            assert!(pair.talk(), "second {second}");
            let now = [remembered(&pair.alice, &pair.bob), remembered(&pair.bob, &pair.alice)];
            assert_eq!(now, before);
        }
        assert!(store.calls() - calls >= 55, "each copy of K1 is read anew");
        let (starter, answerer) =
            if alice_starts { (&mut pair.alice, &mut pair.bob) } else { (&mut pair.bob, &mut pair.alice) };
        assert_eq!(starter.take_happenings(), []);
        assert!(answerer.take_happenings().iter().all(|it| *it == Happening::StoreFailed));

        store.heal();
        pair.drive_for(2 * SECOND);
        let [alice, bob] = [remembered(&pair.alice, &pair.bob), remembered(&pair.bob, &pair.alice)];
        assert!(alice == bob && alice.len() == 1 && alice[0].0 == 2, "{alice:?} {bob:?}");
        pair.assert_steady("with the next key");
    }
}

/// The starter cannot store what K2 brings, which the peer has stored already. Whoever opens next, what they have in common
/// is found.
//= ZSSP-ST-15  R1 ends
//= ZSSP-ST-17  and R2
//= ZSSP-RAT-11  the peer keeps the state before
#[test]
fn a_store_that_fails_for_a_minute_ends_a_rekeying_and_parts_nobody() {
    let mut policy = Policy::OPPORTUNISTIC;
    (policy.as_initiator, policy.as_responder) = (Downgrade::Refuse, Downgrade::Refuse);
    for alice_opens in [true, false] {
        let mut pair = Pair::established(1, &Setup { policy, ..Setup::default() });
        pair.drive_for(SECOND);
        for peer in [&mut pair.alice, &mut pair.bob] {
            peer.take_happenings();
        }
        pair.alice.store.break_after(0);
        pair.alice.rekey();
        pair.drive_for(62 * SECOND);
        let mut failures = pair.alice.take_happenings();
        assert_eq!(failures.pop(), Some(Happening::Ended(EndReason::Expired)));
        assert!(failures.len() > 50 && failures.iter().all(|it| *it == Happening::StoreFailed));
        assert_eq!(pair.bob.take_happenings(), [Happening::Ended(EndReason::Expired)]);

        pair.alice.store.heal();
        let (opener, other) =
            if alice_opens { (&mut pair.alice, &pair.bob) } else { (&mut pair.bob, &pair.alice) };
        opener.open(other);
        pair.drive_for(3 * SECOND);
        assert!(pair.talk(), "alice opens: {alice_opens}");
        for peer in [&mut pair.alice, &mut pair.bob] {
            let happenings = peer.take_happenings();
            let is_downgrade =
                |it: &Happening| matches!(it, Happening::Downgraded | Happening::DowngradeRefused);
            assert!(!happenings.iter().any(is_downgrade), "{happenings:?}");
        }
        assert_eq!(remembered(&pair.alice, &pair.bob)[0], remembered(&pair.bob, &pair.alice)[0]);
    }
}

/// Another session with the peer has written meanwhile: this one has lost.
//= ZSSP-RAT-03  every write is a compare-and-swap
//= ZSSP-RAT-04  a mismatch ends the session
#[test]
fn who_finds_another_pair_in_the_store_ends() {
    // Alice reads X2.
    let mut pair = pair_that_remembers(&[5], &[5]);
    pair.alice.open(&pair.bob);
    pair.pump();
    pair.deliver(None);
    pair.alice.store.preset(pair.bob.public_key(), states(&[9]));
    pair.settle();
    assert_eq!(pair.alice.take_happenings(), [Happening::Ended(EndReason::Conflict)]);
    assert_eq!(remembered(&pair.alice, &pair.bob)[0].0, 9);
    assert_eq!(pair.alice.stats().key_ids, 0);

    // Alice reads X2, and what her store said of an earlier write is no reason to take this one for hers.
    let mut pair = pair_that_remembers(&[5], &[5]);
    pair.alice.store.doubt_after(1);
    pair.alice.open(&pair.bob);
    pair.settle();
    assert_eq!(pair.alice.take_happenings(), [Happening::StoreFailed]);
    pair.alice.store.preset(pair.bob.public_key(), states(&[9]));
    pair.drive_for(2 * SECOND);
    assert_eq!(pair.alice.take_happenings(), [Happening::Ended(EndReason::Conflict)]);
    assert_eq!(remembered(&pair.alice, &pair.bob)[0].0, 9);

    // Alice reads C1.
    let mut pair = pair_that_remembers(&[5], &[5]);
    pair.alice.open(&pair.bob);
    for _ in 0..3 {
        pair.pump();
        pair.deliver(None);
    }
    pair.alice.store.preset(pair.bob.public_key(), states(&[9]));
    pair.settle();
    assert_eq!(pair.alice.take_happenings(), [Happening::Ended(EndReason::Conflict)]);
    assert_eq!(remembered(&pair.alice, &pair.bob)[0].0, 9);
    assert_eq!(pair.alice.stats().key_ids, 0);

    // Bob accepts a handshake whose state is not the one he remembers any more.
    let mut pair = pair_that_remembers(&[5], &[5]);
    pair.bob.answer = Answer::Later;
    pair.alice.open(&pair.bob);
    pair.settle();
    pair.bob.store.preset(pair.alice.public_key(), states(&[9]));
    pair.bob.decide(Answer::Accept);
    assert_eq!(remembered(&pair.bob, &pair.alice)[0].0, 9);
    assert_eq!((pair.bob.stats().sessions, pair.bob.stats().key_ids), (0, 0));
}

/// The two disagree about the last step of their ratchet wherever the line is cut; the next session mends it.
#[test]
fn a_ratchet_survives_a_crash_at_any_moment() {
    for steps in 0..=5 {
        for (alice_dies, bob_dies) in [(true, false), (false, true), (true, true)] {
            let mut pair = pair_that_remembers(&[6, 5], &[6]);
            pair.alice.open(&pair.bob);
            for _ in 0..steps {
                pair.pump();
                pair.deliver(None);
            }
            pair.network.partition(1, 2);
            pair.settle();
            pair.network.heal(1, 2);
            if alice_dies {
                pair.alice.restart();
            }
            if bob_dies {
                pair.bob.restart();
            }
            pair.drive_for(90 * SECOND);
            pair.alice.take_happenings();
            pair.bob.take_happenings();
            pair.alice.open(&pair.bob);
            pair.drive_for(12 * SECOND);
            let what = format!("cut after {steps} packets, Alice dies {alice_dies}, Bob dies {bob_dies}");
            assert!(pair.talk(), "{what}");
            for peer in [&mut pair.alice, &mut pair.bob] {
                assert!(!peer.take_happenings().contains(&Happening::Downgraded), "{what}");
            }
        }
    }
}

//= ZSSP-RAT-06  states are compared by fingerprint, never by key
//= ZSSP-SEC-08  in constant time: `==` of fingerprints is subtle's, and keys have none
#[test]
fn states_are_compared_by_fingerprint() {
    let with_key = |key| RatchetState::new(Secret::new([key; 32]), Fingerprint::new([7; 32]), u64::from(key));
    let pair = |first: RatchetState, second: Option<RatchetState>| RatchetPair { first, second };
    assert!(pair(with_key(1), None).same(&pair(with_key(2), None)));
    assert!(pair(state(1), Some(with_key(1))).same(&pair(state(1), Some(with_key(2)))));
    assert!(!pair(state(1), None).same(&pair(state(2), None)));
    assert!(!pair(state(1), None).same(&pair(state(1), Some(state(2)))));
    assert!(!pair(state(1), Some(state(2))).same(&pair(state(1), Some(state(3)))));
    assert!(!pair(state(1), Some(state(2))).same(&pair(state(2), Some(state(1)))));
    for place in 0..32 {
        let mut other = [7; 32];
        other[place] ^= 1;
        assert_ne!(Fingerprint::new(other), Fingerprint::new([7; 32]), "byte {place} counts");
    }
}
