//! What connections that do nothing cost: the bytes that they hold, counted when they are given back.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use zssp::Connection;
use zssp::link::memory::{Conditions, Network};

use crate::common::{builder, connect};
use crate::{alone, runtime};

/// What may be the session's and its ratchet's, see docs/performance.md.
const SESSION: i64 = if cfg!(feature = "aws-lc") { 4096 } else { 6144 };

/// Servers and clients: between two of them there is one connection.
const ENDPOINTS: usize = 12;

/// Bytes that one of a connection's two ends holds, when it was used by `work` and has come to rest.
fn cost(work: impl AsyncFn(&Connection, &Connection)) -> i64 {
    // What endpoints take when they are first used is in both.
    let [few, many] = [2, ENDPOINTS].map(|each| held(each, &work));
    (many - few) / (2 * ENDPOINTS * (ENDPOINTS - 2)) as i64
}

/// Bytes held by all endpoints, each with `connections`.
fn held(connections: usize, work: impl AsyncFn(&Connection, &Connection)) -> i64 {
    let runtime = runtime();
    let world = runtime.block_on(async {
        let network = Network::new(1, Conditions::default());
        let endpoint = |number: usize| {
            let address = Ipv4Addr::from(0x0A00_0000 + u32::try_from(number).unwrap());
            builder().bind_link(network.attach(SocketAddr::from((address, 9993))).unwrap()).unwrap()
        };
        let endpoints: Vec<_> = (0..2 * ENDPOINTS).map(endpoint).collect();
        let (servers, clients) = endpoints.split_at(ENDPOINTS);
        let mut connected = Vec::new();
        for (number, client) in clients.iter().enumerate() {
            for server in servers.iter().cycle().skip(number).take(connections) {
                let (here, there) = connect(client, server).await;
                work(&here, &there).await;
                connected.push((here, there));
            }
        }
        // Less than any of them is silent before it asks for a sign of life.
        tokio::time::sleep(Duration::from_secs(5)).await;
        (connected, endpoints)
    });
    let before = crate::held();
    drop(world);
    drop(runtime);
    (before - crate::held()) as i64
}

#[test]
fn a_connection_costs_what_is_used_of_it() {
    let _alone = alone();
    let idle = cost(async |_, _| ());
    println!("{idle} bytes for an end of a connection");
    assert!(idle < SESSION + 4608, "{idle} bytes for an end of a connection without channels");

    // One request and its reply, so that what is allocated at first use is counted.
    let used = cost(async |here, there| {
        let (asking, answering) = (here.channel(0).unwrap(), there.channel(0).unwrap());
        let serve = async { answering.receive().await.unwrap().reply("pong").unwrap() };
        assert_eq!(tokio::join!(asking.request("ping"), serve).0.unwrap(), "pong");
    });
    println!("{used} bytes for an end of a connection with a channel");
    assert!(used < SESSION + 8704, "{used} bytes for an end of a connection with a channel");

    // Twenty streams, one after the other: what those that ended had must be gone.
    let streams = cost(async |here, there| {
        for _ in 0..20 {
            let (mut send, _) = here.open_stream().await.unwrap();
            send.write_chunk("once").await.unwrap();
            send.finish().unwrap();
            let (_, mut receive) = there.accept_stream().await.unwrap();
            assert_eq!(receive.read_to_end(10).await.unwrap(), b"once");
        }
    });
    println!("{streams} bytes for an end of a connection that had streams");
    assert!(streams < SESSION + 7936, "{streams} bytes for an end of a connection that had 20 streams");

    // Many at once, which go in one round: what that takes is not for the connection to keep.
    let burst = cost(async |here, there| {
        for _ in 0..500 {
            here.try_send_datagram("small").unwrap();
            there.try_send_datagram("small").unwrap();
        }
        for _ in 0..500 {
            tokio::try_join!(here.read_datagram(), there.read_datagram()).unwrap();
        }
    });
    println!("{burst} bytes for an end of a connection that had datagrams");
    assert!(
        burst < SESSION + 8448,
        "{burst} bytes for an end of a connection that had 500 datagrams at once"
    );
}
