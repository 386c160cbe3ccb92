//! What connections that do nothing cost.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![cfg(target_os = "linux")]

mod common;

use common::{connect, endpoint, run};

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn an_idle_connection_is_small() {
    run(async {
        let (client, server) = (endpoint().await, endpoint().await);
        let mut connections = Vec::new();
        let mut before = 0;
        for number in 0..520 {
            // The first ones pay for pools and threads that are there once.
            if number == 20 {
                before = resident();
            }
            let (here, there) = connect(&client, &server).await;
            // One request and its reply, so that what is allocated at first use is counted.
            let channel = here.channel(0).unwrap();
            let serve =
                async { there.channel(0).unwrap().receive().await.unwrap().reply("pong").await.unwrap() };
            assert_eq!(tokio::join!(channel.request("ping"), serve).0.unwrap(), "pong");
            connections.push((here, there));
        }
        let each = (resident() - before) / 500;
        println!("{each} bytes for the two ends of a connection");
        // Mostly the slots of four windows; everything else is allocated with what it holds, and freed.
        assert!(each < 96 * 1024, "{each} bytes for the two ends of a connection");
    });
}
