//! Connections over a packet loop of the application's own, without its runtime.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use pollster::block_on;
use zssp::link::{Bridge, Carrier, Outgoing};

use crate::common::{Random, builder, content};

/// Carries datagrams from one bridge to the other in one thread, in which nobody ever waits for one side alone, and loses
/// one in `lose`.
fn carry(ends: [(SocketAddr, Carrier); 2], lose: u64) {
    let (mut random, mut out) = (Random::new(lose), Outgoing::new());
    let [(a_address, a), (b_address, b)] = ends;
    let mut open = true;
    while open {
        open = false;
        for (own, from, peer, to) in [(a_address, &a, b_address, &b), (b_address, &b, a_address, &a)] {
            let Ok(()) = from.transmit(&mut out, Some(Duration::from_micros(100))) else { continue };
            open = true;
            for (path, datagram) in out.datagrams() {
                assert_eq!(path, peer.into());
                if !random.one_in(lose) {
                    // One that is full loses it, too.
                    let _ = to.receive(own, datagram);
                }
            }
        }
    }
}

#[test]
fn plain_threads_use_connections_over_a_loop_that_loses_datagrams() {
    const LEN: usize = 3_000_000;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let addresses = [1, 2].map(|last| SocketAddr::from(([10, 0, 0, last], 9993)));
    let [(client, a), (server, b)] = {
        let _guard = runtime.enter();
        addresses.map(|address| {
            let (bridge, carrier) = Bridge::new(address, 1500);
            (builder().bind_link(bridge).unwrap(), (address, carrier))
        })
    };
    thread::scope(|scope| {
        scope.spawn(|| carry([a, b], 50));
        let (sent, key) = (content(3, LEN), server.public_key());
        let serving = scope.spawn(move || {
            let connection = block_on(block_on(server.accept()).unwrap().accept()).unwrap();
            let (_, mut stream) = block_on(connection.accept_stream()).unwrap();
            let got = block_on(stream.read_to_end(LEN)).unwrap();
            let message = block_on(connection.channel(0).unwrap().receive()).unwrap();
            assert_eq!(message.data(), "all?");
            message.reply("all").unwrap();
            block_on(connection.closed());
            got
        });
        let connection = block_on(client.connect(addresses[1], key)).unwrap();
        let (mut stream, _) = block_on(connection.open_stream()).unwrap();
        block_on(stream.write_chunk(sent.clone())).unwrap();
        stream.finish().unwrap();
        let answer = block_on(connection.channel(0).unwrap().request("all?")).unwrap();
        assert_eq!(answer, "all");
        block_on(connection.close(0, b"done"));
        assert!(serving.join().unwrap() == sent);
        // With the last handles of both endpoints the loop ends.
        drop((connection, client));
    });
}
