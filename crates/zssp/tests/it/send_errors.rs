//! Links that refuse to send, on a network in memory with the clock paused.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use tokio::time::sleep;
use zssp::link::memory::{MemoryLink, Network};
use zssp::link::{Link, Path, ReceiveBatch};
use zssp::{Challenging, Endpoint, SecretKey};

use crate::common::content;
use crate::common::simulation::{
    GOOD, SECOND, address, answer, builder, connect, leaves_nothing, network, transfer,
};

/// How a link refuses a run of datagrams.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// As a firewall does.
    Error,
    /// It says that nothing of it went out.
    Nothing,
    /// It has no room, and waiting for some fails.
    NoRoom,
}

/// A link that refuses the next so many runs.
struct Refusing {
    link: MemoryLink,
    way: Way,
    refusals: Arc<Refusals>,
}

#[derive(Debug, Default)]
struct Refusals {
    left: AtomicUsize,
    met: AtomicU64,
}

impl Link for Refusing {
    fn local_addr(&self) -> SocketAddr {
        self.link.local_addr()
    }

    fn mtu(&self) -> usize {
        self.link.mtu()
    }

    fn try_send(&self, path: Path, run: &[u8], segment: usize) -> io::Result<usize> {
        if self.refusals.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_err() {
            return self.link.try_send(path, run, segment);
        }
        self.refusals.met.fetch_add(1, Relaxed);
        match self.way {
            Way::Error => Err(io::ErrorKind::PermissionDenied.into()),
            Way::Nothing => Ok(0),
            Way::NoRoom => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn poll_writable(&self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::NetworkDown.into()))
    }

    fn poll_receive(&self, cx: &mut Context<'_>, batch: &mut ReceiveBatch) -> Poll<io::Result<()>> {
        self.link.poll_receive(cx, batch)
    }
}

fn endpoint(
    network: &Network,
    number: u16,
    (way, challenging): (Way, Challenging),
) -> (Endpoint, Arc<Refusals>) {
    let refusals = Arc::new(Refusals::default());
    let link = Refusing { link: network.attach(address(number)).unwrap(), way, refusals: refusals.clone() };
    let builder = builder(&SecretKey::generate().unwrap()).challenging(challenging);
    (builder.bind_link(link).unwrap(), refusals)
}

const WAYS: [Way; 3] = [Way::Error, Way::Nothing, Way::NoRoom];

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_counted_and_sent_again() {
    for way in WAYS {
        println!("{way:?}");
        let network = network(1, GOOD);
        let (client, refusals) = endpoint(&network, 1, (way, Challenging::Off));
        let (server, _) = endpoint(&network, 2, (way, Challenging::Off));
        let (here, there) = connect(&client, &server).await;
        tokio::spawn(answer(there));
        refusals.left.store(3, Relaxed);
        assert_eq!(here.channel(0).unwrap().request("why?").await.unwrap(), "why?");
        assert!(here.stats().messages_resent >= 1, "{:?}", here.stats());
        assert_eq!((client.stats().send_errors, server.stats().send_errors), (3, 0));
        drop(here);
        leaves_nothing([client, server], &network).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_transfer_goes_on_when_the_link_recovers() {
    for way in WAYS {
        println!("{way:?}");
        let network = network(2, GOOD);
        let (client, refusals) = endpoint(&network, 1, (way, Challenging::Off));
        let (server, _) = endpoint(&network, 2, (way, Challenging::Off));
        let (here, there) = connect(&client, &server).await;
        let sent = content(2, 2 << 20);
        let transfer = tokio::spawn(transfer(here.clone(), there, sent.clone()));
        sleep(SECOND / 10).await;
        let before = network.stats().sent;
        refusals.left.store(usize::MAX, Relaxed);
        sleep(5 * SECOND).await;
        assert!(!transfer.is_finished());
        refusals.left.store(0, Relaxed);
        let (errors, resent) = (client.stats().send_errors, here.stats().messages_resent);
        assert!(before > 0 && errors > 1, "{errors} errors after {before} datagrams");
        assert_eq!(errors, refusals.met.load(Relaxed));
        assert!(transfer.await.unwrap() == sent, "every byte once and in order");
        assert!(here.stats().messages_resent > resent, "{:?}", here.stats());
        assert_eq!((client.stats().send_errors, here.close_reason()), (errors, None));
        drop(here);
        leaves_nothing([client, server], &network).await;
    }
}

/// The first packet of either side: a hello, and the answer to one.
#[tokio::test(start_paused = true)]
async fn a_handshake_outlasts_refusals() {
    for way in WAYS {
        for refused in [[1, 0], [0, 1]] {
            println!("{way:?}, {refused:?}");
            let network = network(3, GOOD);
            let (client, of_client) = endpoint(&network, 1, (way, Challenging::Off));
            let (server, of_server) = endpoint(&network, 2, (way, Challenging::Off));
            of_client.left.store(refused[0], Relaxed);
            of_server.left.store(refused[1], Relaxed);
            let (here, there) = connect(&client, &server).await;
            let errors = [&client, &server].map(|endpoint| endpoint.stats().send_errors);
            assert_eq!(errors, refused.map(|count| count as u64));
            drop((here, there));
            leaves_nothing([client, server], &network).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_challenge_that_is_refused_is_counted_and_comes_again() {
    for way in WAYS {
        println!("{way:?}");
        let network = network(4, GOOD);
        let (client, _) = endpoint(&network, 1, (way, Challenging::Off));
        let (server, refusals) = endpoint(&network, 2, (way, Challenging::Always));
        refusals.left.store(1, Relaxed);
        let (here, there) = connect(&client, &server).await;
        let stats = server.stats();
        assert_eq!((stats.send_errors, stats.challenges), (1, 2));
        drop((here, there));
        leaves_nothing([client, server], &network).await;
    }
}
