//! What an operator hears of an endpoint, and whom it is about.

use std::sync::Arc;

use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::{Instant, sleep};
use zssp::link::memory::Network;
use zssp::proto::{Downgrade, RatchetPair};
use zssp::{
    Builder, CloseReason, ConnectError, ConnectOptions, Endpoint, EndpointEvent, MemoryStore, PeerName,
    Policy, RatchetStore, SecretKey,
};

use crate::common::simulation::{Disk, GOOD, SECOND, address, builder, connect, network};

/// An endpoint, what it remembers of its peers and what its operator hears.
struct End {
    endpoint: Endpoint,
    store: Arc<MemoryStore>,
    told: Receiver<EndpointEvent>,
}

impl End {
    fn new(network: &Network, number: u16, with: impl FnOnce(Builder) -> Builder) -> Self {
        let (events, told) = channel(8);
        let store = Arc::new(MemoryStore::new());
        let builder = builder(&SecretKey::generate().unwrap()).store(store.clone()).events(events);
        let endpoint = with(builder).bind_link(network.attach(address(number)).unwrap()).unwrap();
        Self { endpoint, store, told }
    }

    fn remembers(&self, other: &Self) -> RatchetPair {
        self.store.load(&PeerName::from(other.endpoint.public_key())).unwrap()
    }

    fn is_told(&mut self) -> Vec<EndpointEvent> {
        std::iter::from_fn(|| self.told.try_recv().ok()).collect()
    }
}

/// Two ends that have met.
async fn met(network: &Network, with: [fn(Builder) -> Builder; 2]) -> [End; 2] {
    let [client, server] = [End::new(network, 1, with[0]), End::new(network, 2, with[1])];
    let (here, there) = connect(&client.endpoint, &server.endpoint).await;
    assert!(!here.is_downgraded() && !there.is_downgraded(), "the first time there is nothing to lose");
    sleep(SECOND).await;
    [client, server]
}

/// One side has its store restored from an older copy, then it loses it.
//= ZSSP-RAT-20  Alice is told that Bob lost the ratchet
//= ZSSP-RAT-22  Bob accepts a downgrade with a warning
#[tokio::test(start_paused = true)]
async fn a_ratchet_that_was_lost_is_told_with_the_name_of_the_peer() {
    for loses in [0, 1] {
        let network = network(1, GOOD);
        let [mut client, mut server] = met(&network, [|it| it, |it| it]).await;
        let names = [&client, &server].map(|end| PeerName::from(end.endpoint.public_key()));
        let copies = [client.remembers(&server), server.remembers(&client)];
        drop(connect(&client.endpoint, &server.endpoint).await);
        sleep(SECOND).await;
        let copy = copies.into_iter().nth(loses).unwrap();
        let store = [&client, &server][loses].store.clone();
        store.preset(names[1 - loses].clone(), copy);

        let (here, there) = connect(&client.endpoint, &server.endpoint).await;
        assert!(here.is_downgraded() && there.is_downgraded(), "each remembers what the other does not");
        let [peer_of_client, peer_of_server] = [&server, &client].map(|end| end.endpoint.public_key());
        assert_eq!(client.is_told(), [EndpointEvent::Downgraded { peer: peer_of_client }]);
        assert_eq!(server.is_told(), [EndpointEvent::Downgraded { peer: peer_of_server }]);

        sleep(SECOND).await;
        let (here, there) = connect(&client.endpoint, &server.endpoint).await;
        assert!(!here.is_downgraded() && !there.is_downgraded(), "they have begun anew");

        sleep(SECOND).await;
        store.preset(names[1 - loses].clone(), RatchetPair::never_met());
        let (here, there) = connect(&client.endpoint, &server.endpoint).await;
        assert_eq!([here.is_downgraded(), there.is_downgraded()], [loses == 1, loses == 0]);
        assert_eq!([client.is_told().len(), server.is_told().len()], [loses, 1 - loses]);
    }
}

fn refusing(builder: Builder) -> Builder {
    let mut policy = Policy::OPPORTUNISTIC;
    (policy.as_initiator, policy.as_responder) = (Downgrade::Refuse, Downgrade::Refuse);
    builder.policy(policy).connect_timeout(5 * SECOND)
}

//= ZSSP-FLG-02  the initiator refuses
//= ZSSP-FLG-03  the responder refuses
#[tokio::test(start_paused = true)]
async fn a_downgrade_that_is_refused_is_told_with_the_name_of_the_peer() {
    for refuses in [0, 1] {
        let network = network(2, GOOD);
        let with: [fn(Builder) -> Builder; 2] =
            if refuses == 0 { [refusing, |it| it] } else { [|it| it, refusing] };
        let mut ends = met(&network, with).await;
        let peer = ends[1 - refuses].endpoint.public_key();
        ends[1 - refuses]
            .store
            .preset(PeerName::from(ends[refuses].endpoint.public_key()), RatchetPair::never_met());

        let [client, server] = ends.each_ref().map(|end| end.endpoint.clone());
        let connected = client.connect(server.local_addr(), server.public_key());
        if refuses == 0 {
            let begun = Instant::now();
            assert_eq!(connected.await.unwrap_err(), ConnectError::DowngradeRefused);
            assert!(begun.elapsed() >= 5 * SECOND, "it could be another who answered");
        } else {
            let accepted = async { server.accept().await.unwrap().accept().await };
            let (connected, accepted) = tokio::join!(connected, accepted);
            assert_eq!(connected.unwrap_err(), ConnectError::Refused);
            assert_eq!(accepted.unwrap_err(), ConnectError::DowngradeRefused);
        }
        let told = ends[refuses].is_told();
        assert!(
            !told.is_empty() && told.iter().all(|it| *it == EndpointEvent::DowngradeRefused { peer }),
            "{told:?}"
        );
        assert_eq!(ends[1 - refuses].is_told(), []);
    }
}

/// Whoever connects or accepts is told why there is no connection, and the operator too, as often as there is room.
//= ZSSP-RAT-05  a storage error drops the packet with nothing changed
#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_told_with_the_name_of_the_peer() {
    let (network, disk) = (network(3, GOOD), Disk::default());
    let mut full = End::new(&network, 1, |builder| builder.store(disk.clone()).connect_timeout(20 * SECOND));
    disk.set_full(true);
    let other = End::new(&network, 2, |builder| builder).endpoint;
    let error = Disk::error();
    let failed = EndpointEvent::StoreFailed { peer: Some(other.public_key()), error: error.clone() };

    tokio::select! {
        accepted = async { full.endpoint.accept().await.unwrap().accept().await } => {
            assert_eq!(accepted.unwrap_err(), ConnectError::Store(error.clone()));
        }
        connected = other.connect(full.endpoint.local_addr(), full.endpoint.public_key()) => panic!("{connected:?}"),
    }
    assert_eq!(full.is_told(), std::slice::from_ref(&failed));

    let connected = full.endpoint.connect(other.local_addr(), other.public_key()).await;
    assert_eq!(connected.unwrap_err(), ConnectError::Store(error));
    let stats = full.endpoint.stats();
    assert!(stats.events_dropped > 0 && stats.store_failures == 1 + 8 + stats.events_dropped, "{stats:?}");
    assert_eq!(stats.faults, 0, "no datagram's fault");
    assert_eq!(full.is_told(), vec![failed; 8], "the first of them");
}

/// The client tries to connect to the server where nobody is. Beside that, its disk fails the connection that is up and
/// another attempt, and then an operator changes the ratchet of that connection.
//= ZSSP-RAT-04  a conflict ends the session that finds it, and no other
//= ZSSP-RAT-05  a storage error is one of the session whose packet it drops
#[tokio::test(start_paused = true)]
async fn what_goes_wrong_beside_an_attempt_is_not_why_that_fails() {
    let (network, disk) = (network(4, GOOD), Disk::default());
    let mut client = End::new(&network, 1, |builder| {
        builder.store(disk.clone()).connect_timeout(5 * SECOND).idle_timeout(None)
    });
    let server = End::new(&network, 2, |builder| builder.idle_timeout(None)).endpoint;
    let (here, _there) = connect(&client.endpoint, &server).await;
    sleep(SECOND).await;
    let in_vain = || client.endpoint.connect(address(9), server.public_key());
    let rekey = async || {
        sleep(SECOND).await;
        here.rekey().await;
    };

    disk.set_full(true);
    let another = ConnectOptions::new().name(PeerName::new(b"another"));
    let other = client.endpoint.connect_with(server.local_addr(), server.public_key(), another);
    let (in_vain_beside_it, other, ()) = tokio::join!(in_vain(), other, rekey());
    assert_eq!(in_vain_beside_it.unwrap_err(), ConnectError::TimedOut);
    assert_eq!(other.unwrap_err(), ConnectError::Store(Disk::error()));
    let stats = client.endpoint.stats();
    assert!(stats.store_failures > 5, "K2 too, each time that it comes: {stats:?}");
    disk.set_full(false);
    sleep(2 * SECOND).await;
    assert_eq!(here.close_reason(), None);

    disk.memory().preset(PeerName::from(server.public_key()), RatchetPair::never_met());
    let (in_vain_beside_it, reason, ()) = tokio::join!(in_vain(), here.closed(), rekey());
    assert_eq!(in_vain_beside_it.unwrap_err(), ConnectError::TimedOut);
    assert_eq!(reason, CloseReason::Conflict);
    let failed = EndpointEvent::StoreFailed { peer: Some(server.public_key()), error: Disk::error() };
    assert!(client.is_told().iter().all(|told| *told == failed));
}
