//! Hellos without end from one address that is somebody's, on a network in memory with the clock paused.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use common::content;
use common::simulation::{
    Counting, GOOD, SECOND, address, builder, connect, endpoint, leaves_nothing, network,
};
use tokio::time::{Instant, sleep};
use zssp::link::memory::MemoryLink;
use zssp::link::{Link, Path, ReceiveBatch};
use zssp::{Challenging, SecretKey};

/// Hellos ahead of whatever arrives: more than may wait.
const HELLOS: usize = 200;

/// Bytes of a hello, with its header.
const HELLO: usize = 16 + 1749;

/// A link at which, while the flood lasts, nothing arrives but behind so many hellos.
struct Flooded {
    link: MemoryLink,
    hello: Vec<u8>,
    lasts: Arc<AtomicBool>,
}

impl Flooded {
    fn new(link: MemoryLink, lasts: &Arc<AtomicBool>) -> Self {
        let mut hello = content(1, HELLO);
        hello[..8].copy_from_slice(&[0, 0, 0, 0, 0, 1, 0, 0]);
        // The header's counter is where a hello repeats it, so that it costs the most.
        hello.copy_within(HELLO - 40..HELLO - 32, 8);
        Self { link, hello, lasts: lasts.clone() }
    }
}

impl Link for Flooded {
    fn local_addr(&self) -> SocketAddr {
        self.link.local_addr()
    }

    fn mtu(&self) -> usize {
        self.link.mtu()
    }

    fn try_send(&self, path: Path, run: &[u8], segment: usize) -> io::Result<usize> {
        self.link.try_send(path, run, segment)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.poll_writable(cx)
    }

    fn poll_receive(&self, cx: &mut Context<'_>, batch: &mut ReceiveBatch) -> Poll<io::Result<()>> {
        // A batch that was asked for before has them already.
        if self.lasts.load(Ordering::Relaxed) && batch.datagrams().next().is_none() {
            let hellos = self.hello.repeat(HELLOS);
            batch.room()[..hellos.len()].copy_from_slice(&hellos);
            batch.push(SocketAddr::from(([10, 0, 0, 99], 99)), hellos.len(), HELLO);
        }
        self.link.poll_receive(cx, batch)
    }
}

/// As if each hello had proven its address and some work, which a machine can do several hundred times a second.
//= ZSSP-DEF-13  one source does not take the places of others
#[tokio::test(start_paused = true)]
async fn sessions_rekey_and_others_connect_while_one_address_floods_with_hellos() {
    let (network, flood, store) = (network(1, GOOD), Arc::new(AtomicBool::new(false)), Counting::default());
    let server = builder(&SecretKey::generate().unwrap())
        .challenging(Challenging::Off)
        .bind_link(Flooded::new(network.attach(address(1)).unwrap(), &flood))
        .unwrap();
    let [client, other] = [store.clone(), Counting::default()]
        .map(|store| (SecretKey::generate().unwrap(), store))
        .map(|(key, store)| builder(&key).store(store).connect_timeout(5 * SECOND));
    let client = client.bind_link(network.attach(address(2)).unwrap()).unwrap();
    let other = other.bind_link(network.attach(address(3)).unwrap()).unwrap();
    let (here, there) = connect(&client, &server).await;
    sleep(SECOND).await;
    assert_eq!(server.stats().handshakes_dropped, 0);

    flood.store(true, Ordering::Relaxed);
    for round in 0..6 {
        let before = store.changes();
        let end = if round % 2 == 0 { &here } else { &there };
        end.rekey().await;
        // A packet that is lost is sent again after a second.
        sleep(SECOND / 2).await;
        assert!(store.changes() > before, "no new key in round {round}: {:?}", server.stats());
    }
    let begun = Instant::now();
    let (theirs, ours) = connect(&other, &server).await;
    assert!(begun.elapsed() < SECOND, "connected after {:?}", begun.elapsed());
    let stats = server.stats();
    println!("{:?}: {stats:?}", begun.elapsed());
    assert!(stats.handshakes_dropped > 10 * (HELLOS as u64 - 128), "there was no flood");

    flood.store(false, Ordering::Relaxed);
    drop((here, there, theirs, ours));
    leaves_nothing([client, other, server], &network).await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_challenged_and_honest_peers_connect_and_it_ends_by_itself() {
    let (network, flood) = (network(2, GOOD), Arc::new(AtomicBool::new(false)));
    let server = builder(&SecretKey::generate().unwrap())
        .challenging(Challenging::Automatic { hellos_per_second: 50 })
        .bind_link(Flooded::new(network.attach(address(1)).unwrap(), &flood))
        .unwrap();
    let [before, during, after] = [2, 3, 4].map(|number| endpoint(&network, number));
    let first = connect(&before, &server).await;
    assert_eq!(server.stats().challenges, 0, "nobody is challenged in quiet times");

    flood.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    let second = connect(&during, &server).await;
    assert!(begun.elapsed() < 5 * SECOND, "connected after {:?}", begun.elapsed());
    let challenges = server.stats().challenges;
    assert!(challenges >= HELLOS as u64 - 50, "{challenges} challenges");

    flood.store(false, Ordering::Relaxed);
    sleep(60 * SECOND).await;
    let challenges = server.stats().challenges;
    let third = connect(&after, &server).await;
    assert_eq!(server.stats().challenges, challenges, "the flood is long over");
    drop((first, second, third));
    leaves_nothing([before, during, after, server], &network).await;
}
