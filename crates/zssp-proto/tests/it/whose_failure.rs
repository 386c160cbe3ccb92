//! A session with a peer is open, another is being opened, and something goes wrong with one of them: that says nothing of
//! the other (PROTOCOL 5.5, 5.7).

use std::time::Duration;

use zssp_harness::pair::{Happening, Pair, Peer, Setup, ToyCurve};
use zssp_proto::{Address, EndReason, Fault, LinkAddress, Open, PeerName, RatchetPair, SessionId};

const SECOND: Duration = Duration::from_secs(1);
/// How long Alice tries to open another session with Bob.
const PATIENCE: Duration = Duration::from_secs(5);

/// The two have a session, which is Alice's first.
fn established() -> (Pair, SessionId) {
    let pair = Pair::established(7, &Setup { beneath: Some(ToyCurve::fastest()), ..Setup::default() });
    let id = pair.alice.session().id();
    (pair, id)
}

/// What opens a session with Bob at a place where nobody is.
fn open_in_vain(bob: &Peer) -> Open {
    let nobody = Address::Link(LinkAddress::new(&9_u16.to_be_bytes()).unwrap());
    Open::to(bob.public_key(), nobody).give_up_after(PATIENCE)
}

/// Whether there is such a session, open or being opened.
fn lives(peer: &Peer, id: SessionId) -> bool {
    peer.context.rekey(id).is_some()
}

/// Alice's store fails while she agrees with Bob on another key, whoever of them begins, and is well again later.
//= ZSSP-RAT-05  a storage error is one of the session whose packet it drops
#[test]
fn a_rekeying_that_cannot_be_stored_is_no_setback_of_an_attempt() {
    for is_alices in [true, false] {
        let (mut pair, old) = established();
        let attempt = pair.alice.open_with(open_in_vain(&pair.bob)).unwrap();
        pair.alice.store.break_after(0);
        let starter = if is_alices { &mut pair.alice } else { &mut pair.bob };
        starter.rekey();
        pair.drive_for(2 * SECOND);
        let setbacks = pair.alice.take_setbacks();
        assert!(setbacks.len() > 1 && setbacks.iter().all(|it| *it == (old, Fault::Store)), "{setbacks:?}");

        pair.alice.store.heal();
        pair.drive_for(PATIENCE);
        let ends: Vec<_> =
            pair.alice.take_happenings().into_iter().filter(|it| *it != Happening::StoreFailed).collect();
        assert_eq!(ends, [Happening::Ended(EndReason::TimedOut)]);
        assert!(!lives(&pair.alice, attempt) && lives(&pair.alice, old));
        let rekeyed = pair.alice.store.remembered(pair.bob.public_key());
        assert_eq!(rekeyed.first.chain_length(), 2, "the old session goes on");
    }
}

/// Alice's store fails when Bob has answered.
//= ZSSP-RAT-05  a storage error is one of the session whose packet it drops
#[test]
fn an_attempt_that_cannot_be_stored_is_no_setback_of_the_session_before() {
    let (mut pair, old) = established();
    let attempt = pair.alice.open(&pair.bob);
    pair.alice.store.break_after(0);
    pair.drive_for(SECOND / 2);
    assert_eq!(pair.alice.take_setbacks(), [(attempt, Fault::Store)]);
    assert!(lives(&pair.alice, old) && pair.talk());
    pair.alice.store.heal();
    // Bob answers a second hello, and forgets that he answered the first.
    pair.drive_for(11 * SECOND);
    assert_eq!(pair.alice.session().id(), attempt);
    pair.assert_steady("the attempt, in the end");
}

/// Bob is two peers to Alice, and she opens a session with each.
#[test]
fn one_attempt_that_fails_is_no_setback_of_another() {
    let (mut pair, old) = established();
    let open = |pair: &Pair, name: &[u8]| open_in_vain(&pair.bob).name(PeerName::new(name));
    let first = pair.alice.open_with(open(&pair, b"first")).unwrap();
    pair.alice.store.fail_after(0);
    let second = pair.alice.open_with(open(&pair, b"second").give_up_after(SECOND / 2)).unwrap();
    assert_eq!(pair.alice.take_setbacks(), [(second, Fault::Store)]);
    pair.drive_for(2 * SECOND);
    assert_eq!(pair.alice.take_happenings(), [Happening::StoreFailed, Happening::Ended(EndReason::TimedOut)]);
    assert!(!lives(&pair.alice, second) && lives(&pair.alice, first) && lives(&pair.alice, old));
    assert!(pair.talk());
    assert_eq!(pair.alice.take_setbacks(), []);
}

/// The ratchet was changed behind Alice's back, as by an operator.
//= ZSSP-RAT-04  the session that finds it ends, and no other
#[test]
fn a_conflict_of_the_session_before_does_not_end_an_attempt() {
    let (mut pair, old) = established();
    let attempt = pair.alice.open_with(open_in_vain(&pair.bob)).unwrap();
    pair.alice.store.preset(pair.bob.public_key(), RatchetPair::never_met());
    pair.bob.rekey();
    pair.drive_for(SECOND);
    assert_eq!(pair.alice.take_happenings(), [Happening::Ended(EndReason::Conflict)]);
    assert!(!lives(&pair.alice, old) && lives(&pair.alice, attempt));
    let setbacks = pair.alice.take_setbacks();
    assert!(!setbacks.is_empty() && setbacks.iter().all(|(id, _)| *id == old), "{setbacks:?}");
    pair.drive_for(PATIENCE);
    assert_eq!(pair.alice.take_happenings(), [Happening::Ended(EndReason::TimedOut)]);
}
