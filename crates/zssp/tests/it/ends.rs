//! Why there is no connection, or no longer: on a network in memory with the clock paused, told apart by type.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::{Instant, sleep, timeout};
use zssp::link::memory::Network;
use zssp::proto::RatchetPair;
use zssp::{Builder, CloseReason, ConnectError, Endpoint, Limits, MemoryStore, PeerName, SecretKey};

use crate::common::provider::Rigged;
use crate::common::simulation::{Filtered, GOOD, SECOND, address, builder, connect, endpoint, network};

fn attached(network: &Network, number: u16, with: impl FnOnce(Builder) -> Builder) -> Endpoint {
    let builder = with(builder(&SecretKey::generate().unwrap()));
    builder.bind_link(network.attach(address(number)).unwrap()).unwrap()
}

/// A client, which waits for its session to end however silent it is, a server, and the store of the server.
fn two(network: &Network) -> (Endpoint, Endpoint, Arc<MemoryStore>) {
    let store = Arc::new(MemoryStore::new());
    let server = attached(network, 1, |builder| builder.store(store.clone()));
    (attached(network, 2, |builder| builder.idle_timeout(None)), server, store)
}

/// Fails unless the peer is accepted with this error while the other side still tries.
async fn accepting_fails(client: &Endpoint, server: &Endpoint) -> ConnectError {
    tokio::select! {
        biased;
        accepted = async { server.accept().await.unwrap().accept().await } => accepted.unwrap_err(),
        connected = client.connect(server.local_addr(), server.public_key()) => panic!("{connected:?}"),
    }
}

/// The server finds out when the client agrees on a new key with it, and the client when nobody answers it.
//= ZSSP-RAT-04  a mismatch ends the session that lost
//= ZSSP-ST-15  and R1 after 60 s
#[tokio::test(start_paused = true)]
async fn a_ratchet_that_was_changed_elsewhere_is_a_conflict_and_to_the_other_side_a_silence() {
    let network = network(1, GOOD);
    let (_, server, store) = two(&network);
    // Or the silence itself would be the reason, and sooner.
    let client = attached(&network, 3, |builder| builder.idle_timeout(None));
    let (here, there) = connect(&client, &server).await;
    sleep(SECOND).await;
    store.preset(PeerName::from(client.public_key()), RatchetPair::never_met());
    let begun = Instant::now();
    here.rekey().await;
    assert_eq!(there.closed().await, CloseReason::Conflict);
    assert!(begun.elapsed() < SECOND);
    assert_eq!(here.closed().await, CloseReason::Expired);
    assert!(begun.elapsed().abs_diff(60 * SECOND) < SECOND, "{:?}", begun.elapsed());
    // As both are told: another connection mends it.
    connect(&client, &server).await;
}

#[tokio::test(start_paused = true)]
async fn a_library_that_cannot_seal_ends_the_connection_and_is_no_fault_of_the_peer() {
    let (network, library) = (network(3, GOOD), Rigged::default());
    let client = attached(&network, 1, |builder| builder.provider(Arc::new(library.clone())));
    let server = endpoint(&network, 2);
    let (here, _there) = connect(&client, &server).await;
    library.breaks();
    here.channel(0).unwrap().send("a secret").await.unwrap();
    assert_eq!(here.closed().await, CloseReason::Provider);
}

#[tokio::test(start_paused = true)]
async fn without_randomness_nobody_connects_and_it_is_said_whose_fault_that_is() {
    let (network, library) = (network(4, GOOD), Rigged::default());
    let rigged = attached(&network, 1, |builder| {
        builder.provider(Arc::new(library.clone())).connect_timeout(5 * SECOND)
    });
    let other = endpoint(&network, 2);
    let incoming = async { rigged.accept().await.unwrap() };
    let incoming = tokio::select! {
        connected = other.connect(rigged.local_addr(), rigged.public_key()) => panic!("{connected:?}"),
        incoming = incoming => incoming,
    };
    library.breaks();
    let local = ConnectError::Local("the cryptographic library failed".into());
    assert_eq!(incoming.accept().await.unwrap_err(), local);
    assert_eq!(rigged.connect(other.local_addr(), other.public_key()).await.unwrap_err(), local);
    assert_eq!(rigged.stats().connections, 0);
}

/// The library fails when the hello has gone out already: no answer can be read from then on.
#[tokio::test(start_paused = true)]
async fn a_library_that_fails_in_the_middle_of_an_attempt_is_not_taken_for_the_silence_of_the_peer() {
    let (network, library) = (network(4, GOOD), Rigged::default());
    let rigged = attached(&network, 1, |builder| {
        builder.provider(Arc::new(library.clone())).connect_timeout(5 * SECOND)
    });
    let other = endpoint(&network, 2);
    let begun = Instant::now();
    let breaks = async {
        sleep(SECOND / 1000).await;
        library.breaks();
    };
    let (connected, ()) = tokio::join!(rigged.connect(other.local_addr(), other.public_key()), breaks);
    assert_eq!(connected.unwrap_err(), ConnectError::Local("the cryptographic library failed".into()));
    assert!(begun.elapsed() >= 5 * SECOND, "it may pass: {:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn sessions_beyond_the_limit_are_refused_whoever_opens_them() {
    let network = network(5, GOOD);
    let mut limits = Limits::default();
    limits.sessions = 1;
    let full = attached(&network, 1, |builder| builder.limits(limits));
    let [first, second] = [2, 3].map(|number| endpoint(&network, number));
    let (here, there) = connect(&first, &full).await;
    assert_eq!(accepting_fails(&second, &full).await, ConnectError::TooManySessions);
    let opened = full.connect(second.local_addr(), second.public_key()).await;
    assert_eq!(opened.unwrap_err(), ConnectError::TooManySessions);
    // Not beyond it: it takes the place of the one before.
    drop((connect(&first, &full).await, here, there));
}

#[tokio::test(start_paused = true)]
async fn a_peer_cannot_become_another_with_the_ratchet_of_that() {
    let network = network(6, GOOD);
    let (client, server, _) = two(&network);
    let accept_as = async |name: &[u8]| server.accept().await.unwrap().accept_as(PeerName::new(name)).await;
    let alice = client.connect(server.local_addr(), server.public_key());
    let (here, there) = tokio::join!(alice, accept_as(b"alice"));
    drop((here.unwrap(), there.unwrap()));
    sleep(SECOND).await;
    tokio::select! {
        accepted = accept_as(b"bob") => assert_eq!(accepted.unwrap_err(), ConnectError::OtherName),
        connected = client.connect(server.local_addr(), server.public_key()) => panic!("{connected:?}"),
    }
}

/// One whose own attempt was cut off when it had moved its ratchet, and whose sessions take precedence.
//= ZSSP-RAT-24  as if the attempt that was cut off went on
#[tokio::test(start_paused = true)]
async fn what_an_attempt_that_was_cut_off_may_still_lead_to_is_waited_for() {
    let (network, cuts) = (network(7, GOOD), Arc::new(AtomicBool::new(false)));
    let mut keys = [SecretKey::generate().unwrap(), SecretKey::generate().unwrap()];
    keys.sort_by_key(SecretKey::public_key);
    let alice = builder(&keys[0]).bind_link(network.attach(address(1)).unwrap()).unwrap();
    let link = Filtered {
        link: network.attach(address(2)).unwrap(),
        // The key id of whoever is not known yet.
        lets: {
            let cuts = cuts.clone();
            move |run: &[u8]| !cuts.load(Ordering::Relaxed) || run.starts_with(&[0; 4])
        },
    };
    let bob = builder(&keys[1]).bind_link(link).unwrap();
    drop(connect(&alice, &bob).await);
    sleep(60 * SECOND).await;

    cuts.store(true, Ordering::Relaxed);
    let attempt = bob.connect(alice.local_addr(), alice.public_key());
    timeout(SECOND, attempt).await.expect_err("what he answers does not get through");
    cuts.store(false, Ordering::Relaxed);
    assert_eq!(accepting_fails(&alice, &bob).await, ConnectError::Unsettled);
    // Alice forgets such a handshake after ten seconds.
    sleep(10 * SECOND).await;
    connect(&alice, &bob).await;
}
