//! Somebody sees packets, and sends the same from elsewhere before they arrive; and a peer that really is elsewhere
//! (PROTOCOL 5.3, 6).

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use zssp_harness::pair::{Pair, Peer, Setup, ToyCurve};
use zssp_proto::{Address, Challenging, Event, Handshake, Open, Outbox, Path, Received, Scratch};

const SECOND: Duration = Duration::from_secs(1);
/// Where somebody is who is neither Alice nor Bob.
const ELSEWHERE: u16 = 9;

/// For tests of many handshakes, which do not test the cryptography.
fn quick() -> Setup {
    Setup { beneath: Some(ToyCurve::fastest()), ..Setup::default() }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Alice,
    Bob,
}

use Side::{Alice, Bob};

/// The sender of a datagram, and its receiver.
fn ends(pair: &mut Pair, sender: Side) -> (&mut Peer, &mut Peer) {
    match sender {
        Alice => (&mut pair.alice, &mut pair.bob),
        Bob => (&mut pair.bob, &mut pair.alice),
    }
}

/// What `sender` has just sent comes from elsewhere first.
fn race(pair: &mut Pair, sender: Side) {
    let (from, to) = ends(pair, sender);
    let sent = from.take_outgoing();
    assert_eq!(sent.len(), 1, "one packet");
    for (receiver, datagram) in sent {
        assert_eq!(receiver, to.node, "that of the peer");
        to.receive(ELSEWHERE, datagram.clone());
        from.put_back(receiver, datagram);
    }
}

/// Each knows the other where it is, and little has gone anywhere else.
fn assert_unmoved(pair: &Pair, what: &str) {
    assert_eq!(pair.alice.session().address(), pair.bob.address(), "{what}");
    assert_eq!(pair.bob.session().address(), pair.alice.address(), "{what}");
    let astray = pair.wire.iter().filter(|datagram| datagram.to == ELSEWHERE).count();
    // The answer, and its next copy if that leaves before the honest one has come.
    assert!(astray <= 2, "{what}: {astray} packets for one");
}

/// What becomes of a packet that somebody has sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Original {
    /// He is on the road, and keeps it.
    Kept,
    /// He is only quicker.
    Late,
}

/// The next `count` packets come from elsewhere. After that he who sent them on is gone, and what is sent to him is lost.
fn send_on(pair: &mut Pair, count: usize, original: Original) {
    let (mut left, mut rest, mut is_quiet) = (count, Vec::new(), false);
    while !is_quiet {
        is_quiet = true;
        for sender in [Alice, Bob] {
            let (from, to) = ends(pair, sender);
            for (receiver, datagram) in from.take_outgoing() {
                is_quiet = false;
                let is_sent_on = left > 0;
                if is_sent_on {
                    left -= 1;
                    to.receive(ELSEWHERE, datagram.clone());
                }
                if !is_sent_on || original == Original::Late {
                    rest.push((sender, receiver, datagram));
                }
            }
        }
    }
    for (sender, receiver, datagram) in rest {
        ends(pair, sender).0.put_back(receiver, datagram);
    }
}

/// A rekeying in which each is for the other at `place`: somebody there keeps all answers that go anywhere else, and
/// sends everything else on.
fn lead_astray(pair: &mut Pair, starter: Side, place: u16) {
    let mut is_answered = false;
    ends(pair, starter).0.rekey();
    for _ in 0..40 {
        for sender in [Alice, Bob] {
            let (from, to) = ends(pair, sender);
            from.meet_deadlines();
            for (receiver, datagram) in from.take_outgoing() {
                if receiver == place || (sender == starter && !is_answered) {
                    to.receive(place, datagram);
                    is_answered |= sender != starter;
                }
            }
        }
        pair.stand_still_for(SECOND / 10);
    }
}

/// How many keys they have agreed on.
fn keys(pair: &Pair) -> [u64; 2] {
    let [alice, bob] = [
        pair.alice.store.remembered(pair.bob.public_key()),
        pair.bob.store.remembered(pair.alice.public_key()),
    ];
    [alice.first.chain_length(), bob.first.chain_length()]
}

//= ZSSP-ST-34  X2, X3, C1 and C2 from elsewhere do not say where the peer is
#[test]
fn a_session_opens_where_the_peer_is_whoever_is_quicker() {
    for (raced, name) in ["X1", "X2", "X3", "C1", "C2"].into_iter().enumerate() {
        let mut pair = Pair::new(7);
        pair.alice.open(&pair.bob);
        for _ in 0..raced {
            pair.pump();
            assert!(pair.deliver(None));
        }
        race(&mut pair, if raced % 2 == 0 { Alice } else { Bob });
        pair.drive_for(3 * SECOND);
        assert!(pair.talk(), "{name}");
        assert_unmoved(&pair, name);
        pair.drive_for(10 * SECOND);
        pair.assert_steady(name);
    }
}

/// Somebody sends on the first packets of a handshake, and then is gone. Who sends on X1 and everything up to C1 is where
/// Bob takes Alice to be, but only until the next rekeying.
//= ZSSP-ST-33  C1 and C2 reach those who are where they were
//= ZSSP-ST-34  X3 from elsewhere does not say where Alice is
//= ZSSP-ST-35  Bob looks for her where her C2 came from
#[test]
fn a_session_opens_although_somebody_sent_on_the_beginning() {
    for original in [Original::Kept, Original::Late] {
        for (count, starter) in (1..=5).flat_map(|count| [(count, Alice), (count, Bob)]) {
            let what = format!("{count} packets, originals {original:?}, rekeyed by {starter:?}");
            let mut pair = Pair::with(7, &quick());
            pair.alice.open(&pair.bob);
            send_on(&mut pair, count, original);
            pair.drive_for(70 * SECOND);
            assert_eq!([pair.alice.stats().sessions, pair.bob.stats().sessions], [1, 1], "{what}");
            if count < 4 {
                assert!(pair.talk(), "{what}");
                assert_eq!(pair.bob.session().address(), pair.alice.address(), "{what}");
            }
            let before = keys(&pair);
            (pair.alice.keys_per_session, pair.bob.keys_per_session) = (2, 2);
            ends(&mut pair, starter).0.rekey();
            pair.drive_for(5 * SECOND);
            assert_eq!(keys(&pair), before.map(|keys| keys + 1), "{what}");
            pair.assert_steady(&what);
            assert_eq!(pair.alice.session().address(), pair.bob.address(), "{what}");
            assert_eq!(pair.bob.session().address(), pair.alice.address(), "{what}");
        }
    }
}

/// Each packet of a rekeying, whoever starts it; the next rekeying is begun by the side that was led astray.
//= ZSSP-ST-33  the first answer goes to where the peer is
//= ZSSP-ST-34  and the session stays where it was
#[test]
fn a_session_rekeys_whoever_is_quicker() {
    for starter in [Alice, Bob] {
        for (raced, name) in ["K1", "K2", "C1", "C2"].into_iter().enumerate() {
            let what = format!("{name}, started by {starter:?}");
            let mut pair = Pair::established(7, &Setup::default());
            (pair.alice.keys_per_session, pair.bob.keys_per_session) = (2, 2);
            ends(&mut pair, starter).0.rekey();
            for _ in 0..raced {
                pair.pump();
                assert!(pair.deliver(None));
            }
            let other = if starter == Alice { Bob } else { Alice };
            let sender = if raced % 2 == 0 { starter } else { other };
            race(&mut pair, sender);
            pair.drive_for(5 * SECOND);
            assert_eq!(keys(&pair), [2, 2], "{what}");
            pair.assert_steady(&what);
            assert_unmoved(&pair, &what);

            ends(&mut pair, sender).1.rekey();
            pair.drive_for(SECOND);
            assert_eq!(keys(&pair), [3, 3], "{what}");
        }
    }
}

/// X2 comes from elsewhere, whether the original follows or not. X3 is longer than X2: Alice has much to say about herself.
//= ZSSP-ST-34  X3 goes where X1 went, wherever X2 came from
#[test]
fn whoever_sends_on_the_answer_to_a_hello_gets_nothing_for_it() {
    for original in [Original::Kept, Original::Late] {
        let mut pair = Pair::new(7);
        let open = Open::to(pair.bob.public_key(), pair.bob.address());
        pair.alice.open_with(open.identity(vec![7; Open::MAX_IDENTITY_LEN])).unwrap();
        pair.pump();
        assert!(pair.deliver(None));
        let (alice, x2) = pair.bob.take_outgoing().remove(0);
        pair.alice.receive(ELSEWHERE, x2.clone());
        if original == Original::Late {
            pair.bob.put_back(alice, x2);
        }
        // Nobody waits for a second copy of anything.
        pair.settle();
        pair.assert_steady("at once");
        assert!(pair.wire.iter().all(|datagram| datagram.to != ELSEWHERE), "{original:?}");
    }
}

/// A host that somebody speaks to, by way of one of this side's addresses, or whichever the system takes.
fn path(host: u8, local: Option<u8>) -> Address {
    let local_ip = local.map(|last| IpAddr::from([198, 51, 100, last]));
    Path { remote: SocketAddr::from(([192, 0, 2, host], 9993)), local_ip }.into()
}

/// Does a peer's work, and that of letting others in. Says what it sends, and where to.
fn run(peer: &Peer, now: Instant, work: Handshake) -> Vec<(Address, Vec<u8>)> {
    let mut outbox = Outbox::default();
    work.run(now, &*peer.store, &mut outbox).unwrap();
    let mut sent = Vec::new();
    for event in outbox.events {
        if let Event::Authorize(authorize) = event {
            let name = authorize.peer_key();
            sent.extend(run(peer, now, authorize.accept(name)));
        }
    }
    for transmit in &outbox.transmits {
        sent.extend(transmit.datagrams().map(|datagram| (transmit.to(), datagram.to_vec())));
    }
    sent
}

/// A peer reads a datagram, and says what it sends in answer.
fn answer(peer: &Peer, now: Instant, from: Address, mut datagram: Vec<u8>) -> Vec<(Address, Vec<u8>)> {
    match peer.context.receive(now, from, &mut datagram, &mut Scratch::new()) {
        Ok(Received::Handshake(work)) => run(peer, now, work),
        other => panic!("{other:?}"),
    }
}

/// Both hosts have several addresses. Bob is at .2 of the test network, and somebody who sends on his X2 at .9.
//= ZSSP-ST-34  X3 goes where X1 went, C1 where X1 came from
//= ZSSP-LIV-08  from the address of this host to which X2 came, X1 and X3 came
#[test]
fn what_answers_a_packet_leaves_from_the_address_that_it_came_to() {
    for (opened, came, answered) in [
        (path(2, None), path(2, Some(1)), path(2, Some(1))),
        (path(2, Some(1)), path(2, Some(1)), path(2, Some(1))),
        (path(2, Some(1)), path(2, Some(3)), path(2, Some(1))),
        (path(2, None), path(9, Some(1)), path(2, None)),
        (path(2, None), path(9, None), path(2, None)),
    ] {
        let pair = Pair::with(7, &quick());
        let (alice, bob, now) = (&pair.alice, &pair.bob, pair.now());
        let only = |mut sent: Vec<(Address, Vec<u8>)>, to: Address, name: &str| {
            assert_eq!(sent.len(), 1, "{name}");
            let (address, datagram) = sent.remove(0);
            assert_eq!(address, to, "{name}, opened at {opened:?}, answered from {came:?}");
            datagram
        };
        let at_bob = path(1, Some(2));
        let (_, hello) = alice.context.open(now, Open::to(bob.public_key(), opened)).unwrap();
        let x1 = only(run(alice, now, hello), opened, "X1");
        let x2 = only(answer(bob, now, at_bob, x1), at_bob, "X2");
        let x3 = only(answer(alice, now, came, x2), answered, "X3");
        only(answer(bob, now, at_bob, x3), at_bob, "C1");
    }
}

/// One packet of a handshake gets through, and from elsewhere; then none does.
//= ZSSP-ST-33  C1 goes there three times at most, C2 once
//= ZSSP-ST-34  X3 does not
#[test]
fn no_answer_that_goes_elsewhere_is_longer_than_what_came_from_there() {
    let (off, always) = (Challenging::Off, Challenging::Always);
    for (name, (mtu, challenging), raced, copies) in [
        ("X1, answered by a challenge", (9000, always), 0, 1),
        ("X1", (9000, off), 0, 1),
        ("X1 in fragments", (128, off), 0, 1),
        ("X2", (9000, off), 1, 0),
        ("X3", (9000, off), 2, 3),
        ("C1", (9000, off), 3, 1),
    ] {
        let mut pair = Pair::with(7, &Setup { mtu, challenging, ..quick() });
        pair.alice.open(&pair.bob);
        for _ in 0..raced {
            pair.pump();
            assert!(pair.deliver(None));
        }
        let (from, to) = ends(&mut pair, if raced % 2 == 0 { Alice } else { Bob });
        let mut received = 0;
        for (_, datagram) in from.take_outgoing() {
            received += datagram.len();
            to.receive(ELSEWHERE, datagram);
        }
        to.flush();
        let nodes = (from.node, to.node);
        pair.network.partition(nodes.0, nodes.1);
        pair.drive_for(30 * SECOND);
        let sent: Vec<_> = pair.wire.iter().filter(|datagram| datagram.to == ELSEWHERE).collect();
        let bytes: usize = sent.iter().map(|datagram| datagram.bytes.len()).sum();
        assert!(bytes <= copies * received, "{name}: {bytes} for {received}");
        // At the smallest MTU, X2 takes 15 datagrams.
        assert_eq!(sent.len(), if mtu == 128 { 15 } else { copies }, "{name}");
    }
}

/// A single copy gets through, and from elsewhere: what answers it, K2 or C1, is repeated for a minute.
//= ZSSP-ST-33  three times, and then where the session has its peer
#[test]
fn an_answer_that_nobody_takes_goes_elsewhere_three_times_at_most() {
    for (sender, name) in [(Alice, "K1"), (Bob, "K2")] {
        let mut pair = Pair::established(7, &Setup::default());
        pair.alice.rekey();
        if sender == Bob {
            pair.pump();
            assert!(pair.deliver(None));
        }
        let (from, to) = ends(&mut pair, sender);
        let mut received = 0;
        for (_, datagram) in from.take_outgoing() {
            received += datagram.len();
            to.receive(ELSEWHERE, datagram);
        }
        let (silent, answering) = (from.node, to.node);
        pair.network.partition(silent, answering);
        pair.drive_for(30 * SECOND);
        let sent: Vec<_> = pair.wire.iter().filter(|datagram| datagram.to == ELSEWHERE).collect();
        let bytes: usize = sent.iter().map(|datagram| datagram.bytes.len()).sum();
        assert_eq!(sent.len(), 3, "{name}");
        assert!(bytes <= 3 * received, "{name}: {bytes} for {received}");
        let after = pair.wire.iter().rposition(|datagram| datagram.to == ELSEWHERE).unwrap();
        let rest =
            pair.wire[after..].iter().filter(|datagram| (datagram.from, datagram.to) == (answering, silent));
        assert!(rest.count() > 10, "{name}: the peer itself is told as before");
    }
}

/// A copy of C1 that never arrived comes from elsewhere when nobody waits for it any more.
//= ZSSP-ST-33  it is answered where it came from
//= ZSSP-ST-34  and moves nobody
#[test]
fn a_late_copy_moves_nobody() {
    let mut pair = Pair::new(7);
    pair.alice.open(&pair.bob);
    for _ in 0..3 {
        pair.pump();
        assert!(pair.deliver(None));
    }
    let (_, lost) = pair.bob.take_outgoing().remove(0);
    pair.drive_for(2 * SECOND);
    pair.assert_steady("the next copy did");
    pair.alice.receive(ELSEWHERE, lost);
    pair.alice.rekey();
    pair.settle();
    assert_eq!(keys(&pair), [2, 2]);
    assert_unmoved(&pair, "a late copy");
}

/// She has not sent anything from there before.
//= ZSSP-ST-34  a round trip there says that she is there
#[test]
fn a_peer_that_rekeys_from_elsewhere_is_followed() {
    for lost in 0..6 {
        let mut pair = Pair::established(7, &Setup::default());
        (pair.alice.keys_per_session, pair.bob.keys_per_session) = (2, 2);
        pair.alice.node = 3;
        pair.alice.rekey();
        let before = pair.wire.len();
        while pair.wire.len() < before + lost {
            pair.drive_for(SECOND / 200);
        }
        pair.network.drop_next(1);
        pair.drive_for(6 * SECOND);
        assert_eq!(pair.alice.session().address(), pair.bob.address());
        assert_eq!(pair.bob.session().address(), pair.alice.address(), "{lost}");
        pair.assert_steady("from there");
        assert_eq!(keys(&pair), [2, 2]);
    }
}

/// Somebody sends on the first packets of a rekeying, and then is gone: both wait for the other where he was.
//= ZSSP-ST-33  each second copy goes elsewhere
#[test]
fn a_session_rekeys_although_somebody_sent_on_the_beginning() {
    for starter in [Alice, Bob] {
        for original in [Original::Kept, Original::Late] {
            for count in 1..=5 {
                let what = format!("{count} packets, started by {starter:?}, originals {original:?}");
                let mut pair = Pair::established(7, &quick());
                (pair.alice.keys_per_session, pair.bob.keys_per_session) = (2, 2);
                ends(&mut pair, starter).0.rekey();
                send_on(&mut pair, count, original);
                pair.drive_for(70 * SECOND);
                assert_eq!(keys(&pair), [2, 2], "{what}");
                pair.assert_steady(&what);
                assert_unmoved(&pair, &what);
            }
        }
    }
}

/// Somebody sends on whole rekeyings, each from another place, so that each is for the other where he is, and then is there
/// no more.
//= ZSSP-ST-35  other copies of K1 go to where the peer was before, and where it was at first
#[test]
fn a_session_survives_whoever_sent_on_its_rekeyings() {
    for starter in [Alice, Bob] {
        for places in [&[9][..], &[9, 10], &[9, 10, 11], &[9, 10, 9, 10]] {
            let what = format!("{starter:?} {places:?}");
            let mut pair = Pair::established(7, &quick());
            (pair.alice.keys_per_session, pair.bob.keys_per_session) = (2, 2);
            for (agreed, place) in places.iter().enumerate() {
                lead_astray(&mut pair, Alice, *place);
                assert_eq!(keys(&pair), [agreed as u64 + 2; 2], "{what}");
                let [alice, bob] = [&pair.alice, &pair.bob].map(|peer| peer.session().address());
                assert!(alice == bob && alice != pair.bob.address(), "led astray: {alice:?} {bob:?}");
            }

            ends(&mut pair, starter).0.rekey();
            pair.drive_for(6 * SECOND);
            assert_eq!(keys(&pair), [places.len() as u64 + 2; 2], "{what}");
            pair.assert_steady("without him");
            assert_eq!(pair.alice.session().address(), pair.bob.address());
            assert_eq!(pair.bob.session().address(), pair.alice.address());
        }
    }
}

/// Alice has moved, and rekeyed from there. Then somebody sends on whole rekeyings, and is gone.
//= ZSSP-ST-35  after one of them, where she was just before; after two, she has to begin herself
#[test]
fn a_peer_that_has_moved_is_found_after_one_rekeying_that_was_sent_on() {
    for (places, starter, is_found) in
        [(&[9][..], Bob, true), (&[9], Alice, true), (&[9, 10], Bob, false), (&[9, 10], Alice, true)]
    {
        let what = format!("{starter:?} {places:?}");
        let mut pair = Pair::established(7, &quick());
        (pair.alice.keys_per_session, pair.bob.keys_per_session) = (2, 2);
        pair.alice.node = 3;
        pair.alice.rekey();
        pair.drive_for(6 * SECOND);
        assert_eq!(pair.bob.session().address(), pair.alice.address(), "{what}: she has moved");
        for place in places {
            lead_astray(&mut pair, Alice, *place);
        }
        let agreed = places.len() as u64 + 2;
        assert_eq!(keys(&pair), [agreed; 2], "{what}");

        ends(&mut pair, starter).0.rekey();
        pair.drive_for(6 * SECOND);
        assert_eq!(keys(&pair), [agreed + u64::from(is_found); 2], "{what}");
        if is_found {
            pair.assert_steady(&what);
            assert_eq!(pair.bob.session().address(), pair.alice.address(), "{what}");
        }
    }
}

/// One packet came from elsewhere, and now the peer does not answer: K1 is repeated for a minute.
//= ZSSP-ST-35  one copy for each such packet
#[test]
fn a_place_that_nothing_has_proven_is_asked_once() {
    let mut pair = Pair::established(7, &Setup::default());
    pair.alice.rekey();
    for _ in 0..2 {
        pair.pump();
        assert!(pair.deliver(None));
    }
    race(&mut pair, Alice);
    pair.drive_for(5 * SECOND);
    assert_eq!(keys(&pair), [2, 2]);
    let (alice, bob, before) = (pair.alice.node, pair.bob.node, pair.wire.len());
    pair.network.partition(alice, bob);
    pair.bob.rekey();
    pair.drive_for(61 * SECOND);
    let to = |place| pair.wire[before..].iter().filter(|datagram| datagram.to == place).count();
    assert_eq!(to(ELSEWHERE), 1);
    assert!(to(alice) > 50, "{}", to(alice));
}
