//! Security flags, and one session per peer (PROTOCOL 5.6, 5.7).

use std::cell::Cell;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use zssp_harness::pair::{Answer, Happening, Pair, Peer, Setup};
use zssp_proto::crypto::Secret;
use zssp_proto::{
    Downgrade, EndReason, Fault, Fingerprint, Hellos, Open, OpenError, PeerName, Policy, RatchetPair,
    RatchetState, Rejection, Role,
};
use zssp_sim::{Conditions, seeds};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

const OPPORTUNISTIC: Policy = Policy::OPPORTUNISTIC;
const PERSISTENT: Policy = Policy::PERSISTENT;

fn with(policy: Policy) -> Setup {
    Setup { policy, ..Setup::default() }
}

/// Only the flags that `change` sets.
fn flags(change: impl FnOnce(&mut Policy)) -> Policy {
    let mut policy = OPPORTUNISTIC;
    change(&mut policy);
    policy
}

/// The state that both have in common.
fn shared() -> RatchetPair {
    let first = RatchetState::new(Secret::new([7; 32]), Fingerprint::new([8; 32]), 3);
    RatchetPair { first, second: None }
}

fn open_to(peer: &Peer) -> Open {
    Open::to(peer.public_key(), peer.address())
}

/// What the two remember of each other.
fn remember(pair: &Pair, [alice, bob]: [bool; 2]) {
    if alice {
        pair.alice.store.preset(pair.bob.public_key(), shared());
    }
    if bob {
        pair.bob.store.preset(pair.alice.public_key(), shared());
    }
}

/// Whether nothing was written to a peer's store.
fn unchanged(peer: &Peer, other: &Peer, remembers: bool) -> bool {
    let stored = peer.store.remembered(other.public_key());
    if remembers { stored.same(&shared()) } else { stored.is_never_met() }
}

fn hellos_of_alice(pair: &Pair) -> usize {
    pair.sent_by(1).into_iter().filter(|datagram| datagram[..4] == [0; 4]).count()
}

//= ZSSP-FLG-01  without a recognised ratchet Bob stays silent
//= ZSSP-RAT-18  or silence kept
#[test]
fn strangers_hear_nothing() {
    let silent = with(flags(|policy| policy.hellos = Hellos::WithKnownRatchet));
    let mut pair = Pair::between(1, &Setup::default(), &silent);
    pair.alice.open_with(open_to(&pair.bob).give_up_after(5 * SECOND)).unwrap();
    pair.drive_for(6 * SECOND);
    assert!(pair.sent_by(2).is_empty());
    assert_eq!(pair.alice.take_happenings(), [Happening::Ended(EndReason::TimedOut)]);
    assert!(pair.bob.take_faults().iter().all(|fault| *fault == Fault::Unwelcome));
    assert_eq!(pair.bob.take_happenings(), []);
    pair.assert_nothing_left();

    // Of the two states that a hello names, the second will do as well.
    for states in [&[7][..], &[9, 7]] {
        let state = |number: &u8| {
            RatchetState::new(Secret::new([*number; 32]), Fingerprint::new([*number + 1; 32]), 3)
        };
        let mut pair = Pair::between(1, &Setup::default(), &silent);
        remember(&pair, [false, true]);
        let known = RatchetPair { first: state(&states[0]), second: states.get(1).map(state) };
        pair.alice.store.preset(pair.bob.public_key(), known);
        pair.alice.open(&pair.bob);
        // Two states are those of a handshake that was cut off, which is waited out.
        pair.drive_for(11 * SECOND);
        pair.assert_steady("whoever is known is let in");
    }
}

/// Bob has lost his disk, or somebody who has stolen his key pretends so.
//= ZSSP-FLG-02  the initiator refuses a downgrade
//= ZSSP-FLG-06  for one peer, or for all
//= ZSSP-RAT-19  the zero key only if flag 2 permits
#[test]
fn an_initiator_refuses_to_start_from_zero() {
    let refusing = flags(|policy| policy.as_initiator = Downgrade::Refuse);
    for (of_context, of_peer, refuses) in [
        (refusing, None, true),
        (OPPORTUNISTIC, Some(refusing), true),
        (PERSISTENT, Some(OPPORTUNISTIC), false),
        (OPPORTUNISTIC, None, false),
    ] {
        let mut pair = Pair::between(1, &with(of_context), &Setup::default());
        remember(&pair, [true, false]);
        let open = open_to(&pair.bob).give_up_after(60 * SECOND);
        let open = if let Some(policy) = of_peer { open.policy(policy) } else { open };
        pair.alice.open_with(open).unwrap();
        if !refuses {
            pair.settle();
            let happenings = pair.alice.take_happenings();
            assert_eq!(happenings, [Happening::Downgraded, Happening::Established(Role::Initiator)]);
            continue;
        }
        // Every answer is refused at once; not so the next hello, which would go on without end.
        for second in 1..=59 {
            pair.drive_for(SECOND);
            assert!(hellos_of_alice(&pair) <= second + 1, "{} hellos in {second} s", hellos_of_alice(&pair));
        }
        pair.drive_for(15 * SECOND);
        let happenings = pair.alice.take_happenings();
        let (last, refused) = happenings.split_last().unwrap();
        assert_eq!(*last, Happening::Ended(EndReason::TimedOut));
        assert!((30..=61).contains(&refused.len()), "{} refusals", refused.len());
        assert!(refused.iter().all(|it| *it == Happening::DowngradeRefused));
        assert_eq!(pair.alice.take_faults(), vec![Fault::DowngradeRefused; refused.len()]);
        assert!(unchanged(&pair.alice, &pair.bob, true) && unchanged(&pair.bob, &pair.alice, false));
        pair.assert_nothing_left();
    }
}

/// Alice has lost her disk, or somebody who has stolen her key pretends so.
//= ZSSP-FLG-03  the responder refuses a downgrade
//= ZSSP-FLG-04  silently
//= ZSSP-FLG-05  or not
//= ZSSP-FLG-06  for one peer, or for all
//= ZSSP-RAT-22  or refused: flag 3
#[test]
fn a_responder_refuses_to_start_from_zero() {
    let refusing = flags(|policy| policy.as_responder = Downgrade::Refuse);
    let silent = flags(|policy| {
        (policy.as_responder, policy.rejection) = (Downgrade::Refuse, Rejection::Silent);
    });
    for (of_context, answer, refuses, told) in [
        (refusing, Answer::Accept, true, true),
        (silent, Answer::Accept, true, false),
        (OPPORTUNISTIC, Answer::AcceptWith(refusing), true, true),
        (OPPORTUNISTIC, Answer::AcceptWith(silent), true, false),
        (silent, Answer::AcceptWith(refusing), true, true),
        (silent, Answer::AcceptWith(OPPORTUNISTIC), false, false),
        (OPPORTUNISTIC, Answer::Accept, false, false),
    ] {
        let mut pair = Pair::between(1, &Setup::default(), &with(of_context));
        remember(&pair, [false, true]);
        pair.bob.answer = answer;
        pair.alice.open_with(open_to(&pair.bob).give_up_after(5 * SECOND)).unwrap();
        pair.settle();
        if !refuses {
            let happenings = pair.bob.take_happenings();
            let established = Happening::Established(Role::Responder);
            assert_eq!(happenings, [Happening::Asked, Happening::Downgraded, established]);
            continue;
        }
        assert_eq!(pair.bob.take_happenings(), [Happening::Asked, Happening::DowngradeRefused]);
        assert!(pair.bob.take_faults().is_empty(), "the policy is done, and told as an event");
        assert!(unchanged(&pair.bob, &pair.alice, true));
        pair.drive_for(6 * SECOND);
        let reason = if told { EndReason::Rejected } else { EndReason::TimedOut };
        assert_eq!(pair.alice.take_happenings(), [Happening::Ended(reason)], "{of_context:?} {answer:?}");
        pair.assert_nothing_left();
        // Alice has stored the state that Bob never got, next to the one that he has not lost.
        let stored = pair.alice.store.remembered(pair.bob.public_key());
        assert!(stored.second.is_some_and(|state| state.fingerprint().is_zero()));
    }
}

//= ZSSP-FLG-04  rejected silently
//= ZSSP-FLG-05  without flag 4, a refused Alice is sent D
//= ZSSP-FLG-06  for one peer, or for all
#[test]
fn an_application_that_refuses_does_so_aloud_or_silently() {
    use Rejection::{Silent, Told};
    for (of_context, answer, answers) in [
        (Told, Answer::Refuse, 2),
        (Silent, Answer::Refuse, 1),
        (Told, Answer::RefuseWith(Silent), 1),
        (Silent, Answer::RefuseWith(Told), 2),
    ] {
        let mut pair = Pair::with(1, &with(flags(|policy| policy.rejection = of_context)));
        pair.bob.answer = answer;
        pair.alice.open_with(open_to(&pair.bob).give_up_after(5 * SECOND)).unwrap();
        pair.drive_for(5500 * MS);
        assert_eq!(pair.sent_by(2).len(), answers, "X2, and perhaps D");
        let reason = if answers == 2 { EndReason::Rejected } else { EndReason::TimedOut };
        assert_eq!(pair.alice.take_happenings(), [Happening::Ended(reason)]);
        pair.assert_nothing_left();
    }
}

/// Who gets a session with whom, and who is told what.
//= ZSSP-FLG-07  persistent mode and opportunistic mode interoperate
#[test]
fn persistent_and_opportunistic_peers_meet() {
    use Happening::{DowngradeRefused as Refused, Downgraded as Warned};
    let both = [OPPORTUNISTIC, PERSISTENT];
    for (alice, bob) in both.iter().flat_map(|alice| both.iter().map(move |bob| (*alice, *bob))) {
        for remembers in [[true, true], [false, false], [true, false], [false, true]] {
            let what = format!("{alice:?} {bob:?} {remembers:?}");
            let mut pair = Pair::between(1, &with(alice), &with(bob));
            remember(&pair, remembers);
            pair.alice.open_with(open_to(&pair.bob).give_up_after(3 * SECOND)).unwrap();
            pair.drive_for(3500 * MS);
            let (alice_refuses, bob_is_silent) = (alice == PERSISTENT, bob == PERSISTENT);
            let (meet, alice_told, bob_told) = match remembers {
                [true, true] => (true, None, None),
                [false, false] => (!bob_is_silent, None, None),
                [true, false] if bob_is_silent => (false, None, None),
                [true, false] if alice_refuses => (false, Some(Refused), None),
                [true, false] => (true, Some(Warned), None),
                [false, true] if bob_is_silent => (false, None, None),
                [false, true] => (true, None, Some(Warned)),
            };
            for (peer, told) in [(&mut pair.alice, alice_told), (&mut pair.bob, bob_told)] {
                let happenings = peer.take_happenings();
                let of_ratchets = happenings.into_iter().find(|it| matches!(it, Refused | Warned));
                assert_eq!(of_ratchets, told, "{what}: node {}", peer.node);
            }
            if meet {
                pair.assert_steady(&what);
            } else {
                pair.drive_for(10 * SECOND);
                pair.assert_nothing_left();
            }
        }
    }
}

fn replaced(happenings: &[Happening]) -> usize {
    happenings.iter().filter(|it| matches!(it, Happening::Ended(EndReason::Replaced { .. }))).count()
}

//= ZSSP-ONE-02  accepting a session ends the previous one with that peer
#[test]
fn a_session_takes_the_place_of_the_one_before() {
    let mut pair = Pair::established(1, &Setup::default());
    for alice_opens in [true, false, false, true] {
        let before = [pair.alice.session().clone(), pair.bob.session().clone()];
        if alice_opens {
            pair.alice.open(&pair.bob)
        } else {
            pair.bob.open(&pair.alice)
        };
        pair.settle();
        for (peer, before) in [&mut pair.alice, &mut pair.bob].into_iter().zip(&before) {
            let by = peer.session().id();
            assert_ne!(by, before.id());
            let happenings = peer.take_happenings();
            assert!(happenings.contains(&Happening::Ended(EndReason::Replaced { by })), "{happenings:?}");
            assert_eq!(replaced(&happenings), 1);
            assert!(before.seal(b"late", 1280, &mut [0; 100]).is_err());
        }
        pair.assert_steady("replaced");
    }
}

/// While the new session is being opened, the one before it works.
//= ZSSP-ONE-02  it is the accepted session that ends the previous one, not the attempt
#[test]
fn an_attempt_that_fails_replaces_nothing() {
    let mut pair = Pair::established(1, &Setup::default());
    pair.bob.answer = Answer::Refuse;
    pair.alice.open(&pair.bob);
    assert!(matches!(pair.alice.open_with(open_to(&pair.bob)), Err(OpenError::AlreadyOpening { .. })));
    pair.drive_for(15 * SECOND);
    assert_eq!(pair.alice.take_happenings(), [Happening::Ended(EndReason::Rejected)]);
    assert_eq!(pair.bob.take_happenings(), [Happening::Asked]);
    pair.assert_steady("the one before");
}

//= ZSSP-ONE-01  what a peer is is said by the application: key plus identity here
#[test]
fn one_machine_may_be_many_peers() {
    const PEERS: usize = 20;
    let mut pair = Pair::new(1);
    for round in 0..2 {
        for number in 0..PEERS {
            let identity = vec![number as u8];
            let open = open_to(&pair.bob).name(PeerName::new(&identity)).identity(identity);
            pair.alice.open_with(open).unwrap();
        }
        pair.settle();
        for peer in [&mut pair.alice, &mut pair.bob] {
            assert_eq!(peer.stats().sessions, PEERS);
            peer.assert_at_rest("many");
            assert_eq!(replaced(&peer.take_happenings()), round * PEERS, "each the one of its own name");
        }
    }
    // Each has a ratchet of its own.
    let states: Vec<_> = (0..PEERS)
        .map(|number| *pair.alice.store.remembered(PeerName::new(&[number as u8])).first.fingerprint())
        .collect();
    for (place, state) in states.iter().enumerate() {
        assert!(!states[..place].contains(state));
    }
}

//= ZSSP-ONE-03  the session opened by the side with the larger key survives on both sides
#[test]
fn when_both_open_at_once_the_larger_key_wins() {
    let mut alice_is_larger = [0, 0];
    for seed in 0..8 {
        let mut pair = Pair::new(seed);
        let larger = pair.alice.public_key() > pair.bob.public_key();
        alice_is_larger[usize::from(larger)] += 1;
        pair.alice.open(&pair.bob);
        pair.bob.open(&pair.alice);
        pair.drive_for(3 * SECOND);
        let (winner, loser) =
            if larger { (&mut pair.alice, &mut pair.bob) } else { (&mut pair.bob, &mut pair.alice) };
        assert_eq!(winner.session().role(), Role::Initiator);
        assert_eq!(loser.session().role(), Role::Responder);
        assert_eq!((winner.sessions.len(), loser.sessions.len()), (1, 1));
        assert_eq!((replaced(&winner.take_happenings()), replaced(&loser.take_happenings())), (0, 1));
        pair.drive_for(10 * SECOND);
        pair.assert_steady("opened by both");
    }
    assert!(alice_is_larger.iter().all(|count| *count > 0), "the seeds have both");
}

/// However the packets of both attempts cross.
//= ZSSP-ONE-03  exactly one session survives, the same on both sides
#[test]
fn when_both_open_at_about_the_same_time_one_session_survives() {
    let crossed = Cell::new(0);
    seeds::run(400, |seed| {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let policy = if random.random_bool(0.5) { OPPORTUNISTIC } else { PERSISTENT };
        let mut pair = Pair::with(seed, &with(policy));
        remember(&pair, [true, true]);
        for _ in 0..3 {
            let loss = if random.random_bool(0.5) { 0.0 } else { random.random_range(0.0..0.4) };
            let latency = random.random_range(1..200) * MS;
            let jitter = random.random_range(0..400) * MS;
            let conditions = Conditions { latency, jitter, loss, duplication: 0.1, ..Conditions::default() };
            pair.network.set_conditions(conditions);
            let give_up = |open: Open| open.give_up_after(None);
            let alice_first = random.random_bool(0.5);
            let apart = random.random_range(0..1000) * MS;
            for alice_opens in [alice_first, !alice_first] {
                // The second may find that the first has come through in the meantime.
                if alice_opens {
                    pair.alice.open_with(give_up(open_to(&pair.bob))).unwrap();
                } else {
                    pair.bob.open_with(give_up(open_to(&pair.alice))).unwrap();
                }
                pair.drive_for(apart);
            }
            pair.drive_for(30 * SECOND);
            pair.network.set_conditions(Conditions::default());
            pair.drive_for(75 * SECOND);

            pair.assert_steady("in the end");
            let roles = [&pair.alice, &pair.bob].map(|peer| peer.session().role());
            assert!(roles.contains(&Role::Initiator) && roles.contains(&Role::Responder));
            for peer in [&mut pair.alice, &mut pair.bob] {
                let happenings = peer.take_happenings();
                assert!(!happenings.contains(&Happening::Downgraded));
                assert!(!happenings.contains(&Happening::DowngradeRefused));
                crossed.set(crossed.get() + replaced(&happenings));
            }
            let [alice, bob] = [
                pair.alice.store.remembered(pair.bob.public_key()),
                pair.bob.store.remembered(pair.alice.public_key()),
            ];
            assert!(alice.same(&bob));
        }
    });
    assert!(crossed.get() > 0);
}

/// Both open at once, and each has heard of the other's when the side whose session survives decides about the one that does
/// not: by then the state that this began from is replaced. The peer is not taken for another, or for one that has lost its
/// ratchet.
//= ZSSP-ONE-03  the one that survives is the reason, and no other
#[test]
fn a_session_that_was_crossed_gives_way_whenever_the_application_decides() {
    for have_met in [true, false] {
        let mut setup = Setup::default();
        setup.policy.as_responder = Downgrade::Refuse;
        let mut pair = Pair::with(7, &setup);
        if have_met {
            pair.alice.open(&pair.bob);
            pair.settle();
            pair.alice.restart();
            pair.bob.restart();
        }
        let is_alices = pair.alice.public_key() > pair.bob.public_key();
        pair.alice.open(&pair.bob);
        pair.bob.open(&pair.alice);
        let (larger, smaller) =
            if is_alices { (&mut pair.alice, &mut pair.bob) } else { (&mut pair.bob, &mut pair.alice) };
        larger.answer = Answer::Later;
        larger.take_happenings();
        smaller.take_happenings();
        pair.settle();

        let larger = if is_alices { &mut pair.alice } else { &mut pair.bob };
        let role = Role::Initiator;
        assert_eq!(larger.take_happenings(), [Happening::Asked, Happening::Established(role)]);
        larger.take_faults();
        larger.decide(Answer::Accept);
        assert_eq!(larger.take_faults(), [Fault::Superseded], "{have_met}");
        assert_eq!(larger.take_happenings(), []);
        assert!(larger.take_outgoing().is_empty());
        pair.assert_steady("the one that survives");
    }
}
