//! What holds for one peer and not for others, on a network in memory with the clock paused.

use std::net::SocketAddr;

use tokio::time::Instant;
use zssp::link::memory::Network;
use zssp::{ConnectError, ConnectOptions, Connection, Endpoint, PeerName, Policy, Rejection, SecretKey};

use crate::common::simulation::{GOOD, SECOND, address, builder, endpoint, network};

/// Connects under the name, which the other side is told and uses too.
async fn connect_as(
    name: &[u8],
    from: &Endpoint,
    to: (SocketAddr, zssp::PublicKey),
) -> Result<Connection, ConnectError> {
    let options = ConnectOptions::new().name(PeerName::new(name)).identity(name);
    from.connect_with(to.0, to.1, options).await
}

async fn accept(endpoint: &Endpoint) -> Connection {
    let incoming = endpoint.accept().await.unwrap();
    let name = PeerName::new(incoming.identity());
    incoming.accept_as(name).await.unwrap()
}

fn whom(endpoint: &Endpoint) -> (SocketAddr, zssp::PublicKey) {
    (endpoint.local_addr(), endpoint.public_key())
}

//= ZSSP-ONE-01  what a peer is, the application says
#[tokio::test(start_paused = true)]
async fn one_key_is_connected_to_under_two_names_at_the_same_time_from_either_side() {
    let network = network(1, GOOD);
    let (a, b) = (endpoint(&network, 1), endpoint(&network, 2));
    let mut up = Vec::new();
    for (from, to, names) in [(&a, &b, [b"laptop", b"mobile"]), (&b, &a, [b"backup", b"public"])] {
        let (first, second, there, other) = tokio::join!(
            connect_as(names[0], from, whom(to)),
            connect_as(names[1], from, whom(to)),
            accept(to),
            accept(to)
        );
        up.extend([first.unwrap(), second.unwrap(), there, other]);
    }
    assert_eq!((a.stats().connections, b.stats().connections), (4, 4));
    let again = connect_as(b"laptop", &a, whom(&b));
    let twice = connect_as(b"laptop", &a, whom(&b));
    let (again, twice, there) = tokio::join!(again, twice, accept(&b));
    assert_eq!(twice.unwrap_err(), ConnectError::AlreadyConnecting);
    drop((again.unwrap(), there));
    assert!(up[1].close_reason().is_none(), "another name is another peer");
}

/// An endpoint with that key and an empty store.
fn newborn(network: &Network, number: u16, key: &SecretKey) -> Endpoint {
    builder(key).bind_link(network.attach(address(number)).unwrap()).unwrap()
}

//= ZSSP-FLG-06  settable per peer
#[tokio::test(start_paused = true)]
async fn one_peer_may_lose_its_ratchet_and_another_not() {
    let network = network(2, GOOD);
    let client = endpoint(&network, 1);
    let keys = [SecretKey::generate().unwrap(), SecretKey::generate().unwrap()];
    let options =
        [ConnectOptions::new().policy(Policy::PERSISTENT).timeout(5 * SECOND), ConnectOptions::new()];
    for (number, key) in [(2, &keys[0]), (3, &keys[1])] {
        let server = newborn(&network, number, key);
        let (here, there) =
            tokio::join!(client.connect(server.local_addr(), server.public_key()), accept(&server));
        drop((here.unwrap(), there));
    }
    let mut outcomes = Vec::new();
    for ((number, key), options) in [(12, &keys[0]), (13, &keys[1])].into_iter().zip(options) {
        let server = newborn(&network, number, key);
        let begun = Instant::now();
        let connecting = client.connect_with(server.local_addr(), server.public_key(), options);
        let serve = async {
            while let Some(incoming) = server.accept().await {
                if let Ok(connection) = incoming.accept().await {
                    connection.closed().await;
                }
            }
        };
        let outcome = tokio::select! { outcome = connecting => outcome, () = serve => panic!("it is open") };
        outcomes.push((outcome.map(drop), begun.elapsed() <= 5 * SECOND));
    }
    assert_eq!(outcomes, [(Err(ConnectError::DowngradeRefused), true), (Ok(()), true)]);
    assert_eq!(client.stats().downgrades, 1);
}

//= ZSSP-FLG-06  settable per peer
#[tokio::test(start_paused = true)]
async fn one_who_accepts_or_refuses_decides_for_each_peer() {
    let network = network(3, GOOD);
    let (server, key) = (endpoint(&network, 1), SecretKey::generate().unwrap());
    let options = ConnectOptions::new().timeout(5 * SECOND);
    let connect = async |client: &Endpoint| {
        client.connect_with(server.local_addr(), server.public_key(), options.clone()).await
    };
    for (number, rejection, error) in
        [(2, Rejection::Silent, ConnectError::TimedOut), (3, Rejection::Told, ConnectError::Refused)]
    {
        let client = endpoint(&network, number);
        let refuse = async {
            while let Some(incoming) = server.accept().await {
                incoming.refuse_with(rejection);
            }
        };
        let outcome =
            tokio::select! { outcome = connect(&client) => outcome, () = refuse => panic!("it is open") };
        assert_eq!(outcome.unwrap_err(), error);
    }

    let client = newborn(&network, 4, &key);
    let (here, there) = tokio::join!(connect(&client), accept(&server));
    drop((here.unwrap(), there));
    let client = newborn(&network, 5, &key);
    let strictly = async {
        let incoming = server.accept().await.unwrap();
        let name = PeerName::new(incoming.identity());
        incoming.accept_with(name, Policy::PERSISTENT).await
    };
    let refused = tokio::select! {
        outcome = connect(&client) => panic!("{outcome:?}"),
        refused = strictly => refused,
    };
    assert_eq!(refused.unwrap_err(), ConnectError::DowngradeRefused);
}
