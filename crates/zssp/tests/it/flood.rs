//! Hellos without end from one address that is somebody's, on a network in memory with the clock paused.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, advance, sleep};
use zssp::link::memory::{Conditions, MemoryLink};
use zssp::link::{Link, Path, ReceiveBatch};
use zssp::{Challenging, CloseReason, Endpoint, SecretKey};

use crate::common::content;
use crate::common::provider::Rigged;
use crate::common::simulation::{
    Disk, GOOD, SECOND, address, builder, connect, endpoint, leaves_nothing, network,
};

/// Hellos ahead of whatever arrives: more than may wait.
const HELLOS: usize = 200;

/// Bytes of a hello, with its header.
const HELLO: usize = 16 + 1749;

/// A link at which, while the flood lasts, nothing arrives but behind so many hellos; and what was sent when.
struct Flooded {
    link: MemoryLink,
    hellos: Vec<u8>,
    lasts: Arc<AtomicBool>,
    sent: Arc<Mutex<Vec<Sent>>>,
}

/// A run of datagrams of this many bytes in all.
#[derive(Clone, Copy)]
struct Sent {
    at: Instant,
    to: SocketAddr,
    bytes: usize,
}

impl Flooded {
    fn new(link: MemoryLink, hellos: usize, lasts: &Arc<AtomicBool>) -> Self {
        let mut hello = content(1, HELLO);
        hello[..8].copy_from_slice(&[0, 0, 0, 0, 0, 1, 0, 0]);
        // The header's counter is where a hello repeats it, so that it costs the most.
        hello.copy_within(HELLO - 40..HELLO - 32, 8);
        Self { link, hellos: hello.repeat(hellos), lasts: lasts.clone(), sent: Arc::default() }
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
        self.sent.lock().unwrap().push(Sent { at: Instant::now(), to: path.remote, bytes: run.len() });
        self.link.try_send(path, run, segment)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.poll_writable(cx)
    }

    fn poll_receive(&self, cx: &mut Context<'_>, batch: &mut ReceiveBatch) -> Poll<io::Result<()>> {
        // A batch that was asked for before has them already.
        if self.lasts.load(Ordering::Relaxed) && batch.datagrams().next().is_none() {
            batch.room()[..self.hellos.len()].copy_from_slice(&self.hellos);
            batch.push(SocketAddr::from(([10, 0, 0, 99], 99)), self.hellos.len(), HELLO);
        }
        self.link.poll_receive(cx, batch)
    }
}

/// As if each hello had proven its address and some work, which a machine can do several hundred times a second.
//= ZSSP-DEF-13  one source does not take the places of others
#[tokio::test(start_paused = true)]
async fn sessions_rekey_and_others_connect_while_one_address_floods_with_hellos() {
    let (network, flood, store) = (network(1, GOOD), Arc::new(AtomicBool::new(false)), Disk::default());
    let server = builder(&SecretKey::generate().unwrap())
        .challenging(Challenging::Off)
        .bind_link(Flooded::new(network.attach(address(1)).unwrap(), HELLOS, &flood))
        .unwrap();
    let [client, other] = [store.clone(), Disk::default()]
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
        .bind_link(Flooded::new(network.attach(address(1)).unwrap(), HELLOS, &flood))
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

/// In a step of the clock, a slow machine computes no more than so many steps of handshakes.
const STEP: Duration = Duration::from_millis(100);
const HANDSHAKES: u64 = 3;

/// Lets time pass on such a machine, at which more hellos wait at any time than it computes: `ticker` has them arrive at
/// the server's address, as soon as there is room for some.
async fn endure(server: &Endpoint, (ticker, to): (&MemoryLink, SocketAddr), time: Duration) {
    let end = Instant::now() + time;
    let (before, mut ticks) = (server.stats().faults, 0);
    let mut enough = 0;
    while Instant::now() < end {
        enough += HANDSHAKES;
        advance(STEP).await;
        // Each hello is a fault, and so is what the ticker sends.
        while server.stats().faults - before < enough + ticks {
            ticker.try_send(to.into(), &[0], 1).unwrap();
            ticks += 1;
            tokio::task::yield_now().await;
        }
        enough = enough.max((server.stats().faults - before).saturating_sub(ticks));
    }
}

/// A session whose peer has gone, and an attempt to reach somebody who is not there: everything about them happens in time,
/// while whatever waits behind the hellos waits for a second.
//= ZSSP-ST-14  K1 again every second
//= ZSSP-ST-15  for 60 s
#[tokio::test(start_paused = true)]
async fn timers_go_on_time_while_hellos_wait() {
    const SLACK: Duration = Duration::from_millis(300);
    let (network, flood) = (network(3, GOOD), Arc::new(AtomicBool::new(false)));
    let link = Flooded::new(network.attach(address(1)).unwrap(), 50, &flood);
    let sent = link.sent.clone();
    let server = builder(&SecretKey::generate().unwrap())
        .challenging(Challenging::Off)
        .handshakes(1, 64)
        .provider(Arc::new(Rigged::without_jitter()))
        .keep_alive(10 * SECOND)
        // The session's own end is awaited, which comes later.
        .idle_timeout(None)
        .bind_link(link)
        .unwrap();
    let client = endpoint(&network, 2);
    let [gone, nobody, outside] = [2, 3, 5].map(address);
    let (here, there) = connect(&client, &server).await;
    let rekey = Instant::now() + 50 * 60 * SECOND;
    sleep(49 * 60 * SECOND).await;
    // The two know each other by addresses that lead nowhere any more.
    network.translate(gone, address(4));
    network.translate(server.local_addr(), outside);
    sleep(57 * SECOND).await;

    flood.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    let ended = tokio::spawn(async move { (there.closed().await, Instant::now()) });
    let attempt = tokio::spawn({
        let (server, stranger) = (server.clone(), SecretKey::generate().unwrap().public_key());
        async move { server.connect(nobody, stranger).await }
    });
    let ticker = network.attach(address(6)).unwrap();
    network.set_conditions(Conditions::default());
    endure(&server, (&ticker, outside), 70 * SECOND).await;
    flood.store(false, Ordering::Relaxed);
    let (reason, ended) = ended.await.unwrap();
    attempt.abort();

    let sent = sent.lock().unwrap().clone();
    let times = |to, bytes: std::ops::Range<usize>| {
        let is_meant = |it: &&Sent| it.at >= begun && it.to == to && bytes.contains(&it.bytes);
        sent.iter().filter(is_meant).map(|it| it.at).collect::<Vec<_>>()
    };
    let (pings, rekeyings, hellos) = (times(gone, 0..50), times(gone, 50..500), times(nobody, 0..5000));
    for (times, interval) in [(&pings, 10 * SECOND), (&rekeyings, SECOND), (&hellos, SECOND)] {
        let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(longest <= interval + SLACK, "{longest:?} in place of {interval:?}");
    }
    let late =
        [rekeyings[0] - rekey, pings[0].max(begun + 10 * SECOND) - begun - 10 * SECOND, hellos[0] - begun];
    assert!(late.iter().all(|late| *late <= SLACK), "{late:?}");
    assert_eq!(reason, CloseReason::Expired);
    assert!((ended - rekeyings[0]).abs_diff(60 * SECOND) <= SLACK, "{:?}", ended - rekeyings[0]);
    let dropped = server.stats().handshakes_dropped;
    assert!(dropped > 70 * 10 * 30, "{dropped} hellos found no place");

    drop((here, ticker));
    leaves_nothing([client, server], &network).await;
}

/// First halves of hellos, each of another one: none of them is ever whole.
#[tokio::test(start_paused = true)]
async fn what_makes_room_in_a_flood_of_incomplete_hellos_is_counted() {
    let network = network(9, GOOD);
    let server = endpoint(&network, 1);
    let stranger = network.attach(address(2)).unwrap();
    let path = Path::from(server.local_addr());
    for counter in 0..3000_u64 {
        let mut half = content(counter, 16 + (HELLO - 16).div_ceil(2));
        half[..8].copy_from_slice(&[0, 0, 0, 0, 0, 2, 0, 0]);
        half[8..16].copy_from_slice(&counter.to_be_bytes());
        stranger.try_send(path, &half, half.len()).unwrap();
    }
    sleep(SECOND).await;
    let stats = server.stats();
    assert_eq!(stats.datagrams_received, 3000);
    assert!(stats.hellos_evicted > 1000, "{stats:?}");
}
