//! A link that takes nothing any more, nor refuses it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use tokio::time::timeout;
use zssp::link::memory::MemoryLink;
use zssp::link::{Link, Path, ReceiveBatch};
use zssp::{CloseReason, SecretKey};

use crate::common::simulation::*;

struct Blocked {
    link: MemoryLink,
    is_blocked: Arc<AtomicBool>,
}

impl Link for Blocked {
    fn local_addr(&self) -> SocketAddr {
        self.link.local_addr()
    }

    fn mtu(&self) -> usize {
        self.link.mtu()
    }

    fn try_send(&self, path: Path, run: &[u8], segment: usize) -> io::Result<usize> {
        match self.is_blocked.load(Relaxed) {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => self.link.try_send(path, run, segment),
        }
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_blocked.load(Relaxed) { Poll::Pending } else { self.link.poll_writable(cx) }
    }

    fn poll_receive(&self, cx: &mut Context<'_>, batch: &mut ReceiveBatch) -> Poll<io::Result<()>> {
        self.link.poll_receive(cx, batch)
    }
}

/// Without a close, with one, after one: in each case something waits for the link.
#[tokio::test(start_paused = true)]
async fn a_link_that_takes_nothing_keeps_no_connection_for_ever() {
    for (sends, closes, ends) in [
        (true, false, CloseReason::TimedOut),
        (true, true, CloseReason::TimedOut),
        (false, true, CloseReason::Local),
    ] {
        let network = network(1, GOOD);
        let is_blocked = Arc::new(AtomicBool::new(false));
        let link = Blocked { link: network.attach(address(1)).unwrap(), is_blocked: is_blocked.clone() };
        let client = builder(&SecretKey::generate().unwrap()).bind_link(link).unwrap();
        let server = endpoint(&network, 2);
        let (here, there) = connect(&client, &server).await;
        is_blocked.store(true, Relaxed);
        if sends {
            here.channel(0).unwrap().send("nobody hears this").await.unwrap();
        }
        let ended = async { if closes { here.close(0, b"").await } else { here.closed().await } };
        assert_eq!(timeout(100 * SECOND, ended).await, Ok(ends));
        drop((here, there));
        timeout(100 * SECOND, leaves_nothing([client, server], &network)).await.expect("something is left");
    }
}
