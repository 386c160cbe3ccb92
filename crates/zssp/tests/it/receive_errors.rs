//! Links that fail to receive, on a network in memory with the clock paused.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use zssp::link::memory::{Conditions, MemoryLink};
use zssp::link::{Link, Path, ReceiveBatch};
use zssp::{Connection, Endpoint, SecretKey};

use crate::common::simulation::{
    SECOND, address, answer, builder, connect, endpoint, leaves_nothing, network,
};

/// The pause after an error.
const PAUSE: Duration = Duration::from_millis(10);

/// A link whose next so many attempts to receive fail.
struct Failing {
    link: MemoryLink,
    failures: Arc<Failures>,
}

#[derive(Default)]
struct Failures {
    left: AtomicUsize,
    /// Each time when something was received, so many more.
    again: AtomicUsize,
    kind: Mutex<Option<io::ErrorKind>>,
}

impl Failures {
    fn set(&self, left: usize, kind: io::ErrorKind) {
        *self.kind.lock().unwrap() = Some(kind);
        self.left.store(left, Relaxed);
    }

    fn next(&self) -> Option<io::Error> {
        self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).ok()?;
        let kind = *self.kind.lock().unwrap();
        kind.map(io::Error::from)
    }
}

impl Link for Failing {
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
        if let Some(error) = self.failures.next() {
            return Poll::Ready(Err(error));
        }
        let received = self.link.poll_receive(cx, batch);
        if received.is_ready() {
            self.failures.left.fetch_add(self.failures.again.load(Relaxed), Relaxed);
        }
        received
    }
}

/// A client and, on a link that can fail, a server with so many receive tasks; and both ends of their connection, of which
/// the server's answers.
async fn pair(tasks: usize) -> (Endpoint, Endpoint, Connection, Arc<Failures>, zssp::link::memory::Network) {
    let (network, failures) = (network(1, Conditions::default()), Arc::new(Failures::default()));
    let link = Failing { link: network.attach(address(1)).unwrap(), failures: failures.clone() };
    let server = builder(&SecretKey::generate().unwrap()).receive_tasks(tasks).bind_link(link).unwrap();
    let client = endpoint(&network, 2);
    let (here, there) = connect(&client, &server).await;
    tokio::spawn(answer(there));
    (client, server, here, failures, network)
}

/// How long so many requests take, one after the other.
async fn requests(connection: &Connection, count: usize) -> Duration {
    let (channel, start) = (connection.channel(0).unwrap(), Instant::now());
    for _ in 0..count {
        channel.request(vec![1]).await.unwrap();
    }
    start.elapsed()
}

/// As on Windows, where every datagram to a port that nobody has comes back as an error.
#[tokio::test(start_paused = true)]
async fn what_became_of_a_datagram_of_ours_holds_nothing_up() {
    for kind in [io::ErrorKind::ConnectionReset, io::ErrorKind::ConnectionRefused] {
        let (client, server, here, failures, network) = pair(1).await;
        failures.again.store(3, Relaxed);
        failures.set(3, kind);
        let took = requests(&here, 50).await;
        assert!(took < PAUSE, "{took:?} for 50 round trips");
        assert!(server.stats().receive_errors >= 150, "{:?}", server.stats());
        drop(here);
        leaves_nothing([client, server], &network).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_failure_does_not_keep_the_other_tasks_from_reading() {
    let (client, server, here, failures, network) = pair(2).await;
    failures.set(1, io::ErrorKind::Other);
    let took = requests(&here, 5).await;
    assert!(took < PAUSE, "{took:?} for 5 round trips");
    assert_eq!(server.stats().receive_errors, 1);
    drop(here);
    leaves_nothing([client, server], &network).await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_lasts_is_met_a_hundred_times_a_second() {
    let (client, server, here, failures, network) = pair(1).await;
    failures.set(usize::MAX, io::ErrorKind::Other);
    let request = tokio::spawn(async move { requests(&here, 1).await });
    sleep(SECOND).await;
    let errors = server.stats().receive_errors;
    assert!((50..=101).contains(&errors), "{errors} errors in a second");
    failures.set(0, io::ErrorKind::Other);
    request.await.unwrap();
    leaves_nothing([client, server], &network).await;
}
