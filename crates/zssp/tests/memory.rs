//! What connections that do nothing cost.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![cfg(target_os = "linux")]

mod common;

use common::{connect, endpoint, run};
use zssp::Connection;

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Bytes per connection, for both of its ends, when 500 are made and each is used by `work`.
async fn cost(work: impl AsyncFn(&Connection, &Connection)) -> usize {
    let (client, server) = (endpoint().await, endpoint().await);
    let mut connections = Vec::new();
    let mut before = 0;
    for number in 0..520 {
        // The first ones pay for pools and threads that are there once.
        if number == 20 {
            before = resident();
        }
        let (here, there) = connect(&client, &server).await;
        work(&here, &there).await;
        connections.push((here, there));
    }
    (resident() - before) / 500
}

/// In one test, so that neither counts what the other takes.
#[test]
fn a_connection_costs_what_is_used_of_it() {
    run(async {
        let idle = cost(async |_, _| ()).await;
        println!("{idle} bytes for the two ends of a connection");
        assert!(idle < 40 * 1024, "{idle} bytes for the two ends of a connection without channels");

        // One request and its reply, so that what is allocated at first use is counted.
        let used = cost(async |here, there| {
            let (asking, answering) = (here.channel(0).unwrap(), there.channel(0).unwrap());
            let serve = async { answering.receive().await.unwrap().reply("pong").unwrap() };
            assert_eq!(tokio::join!(asking.request("ping"), serve).0.unwrap(), "pong");
        })
        .await;
        println!("{used} bytes for the two ends of a connection with a channel");
        // Mostly the slots of four windows; everything else is allocated with what it holds, and freed.
        assert!(used < 96 * 1024, "{used} bytes for the two ends of a connection with a channel");

        // Twenty streams, one after the other: the windows of those that ended must be gone.
        let streams = cost(async |here, there| {
            for _ in 0..20 {
                let (mut send, _) = here.open_stream().await.unwrap();
                send.write_chunk("once").await.unwrap();
                send.finish().unwrap();
                let (_, mut receive) = there.accept_stream().await.unwrap();
                assert_eq!(receive.read_to_end(10).await.unwrap(), b"once");
            }
        })
        .await;
        println!("{streams} bytes for the two ends of a connection that had streams");
        assert!(streams < 96 * 1024, "{streams} bytes for the two ends of a connection that had 20 streams");
    });
}
