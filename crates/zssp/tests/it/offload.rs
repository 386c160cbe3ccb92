//! Sockets without segmentation offload, on loopback.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use tokio::io::AsyncWriteExt;
use zssp::link::{Link, Path, ReceiveBatch, Udp};

use crate::common::{builder, content, pair_of, run};

/// One datagram a call, as where the system has no offload.
struct OneByOne {
    udp: Udp,
    /// Of how many datagrams the longest run was that the endpoint wanted to send.
    longest: Arc<AtomicUsize>,
}

impl Link for OneByOne {
    fn local_addr(&self) -> SocketAddr {
        self.udp.local_addr()
    }

    fn mtu(&self) -> usize {
        self.udp.mtu()
    }

    fn try_send(&self, path: Path, run: &[u8], segment: usize) -> io::Result<usize> {
        self.longest.fetch_max(run.len().div_ceil(segment), Relaxed);
        self.udp.try_send(path, &run[..run.len().min(segment)], segment)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.udp.poll_writable(cx)
    }

    fn poll_receive(&self, cx: &mut Context<'_>, batch: &mut ReceiveBatch) -> Poll<io::Result<()>> {
        self.udp.poll_receive(cx, batch)
    }
}

#[test]
fn without_offload_every_byte_arrives() {
    run(async {
        let longest = Arc::new(AtomicUsize::new(0));
        let bind = || {
            let udp = Udp::bind("127.0.0.1:0".parse().unwrap(), 4 << 20).unwrap();
            builder().bind_link(OneByOne { udp, longest: longest.clone() }).unwrap()
        };
        let pair = pair_of(bind(), bind()).await;
        let sent = content(1, 5_000_000);
        let sending = async {
            let (mut send, _receive) = pair.here.open_stream().await.unwrap();
            send.write_all(&sent).await.unwrap();
            send.finish().unwrap();
            send.stopped().await.unwrap();
        };
        let receiving = async {
            let (_send, mut receive) = pair.there.accept_stream().await.unwrap();
            receive.read_to_end(sent.len()).await.unwrap()
        };
        let ((), received) = tokio::join!(sending, receiving);
        assert!(received == sent, "every byte once and in order");
        assert!(longest.load(Relaxed) > 1, "it never had more than one to send");
        let (client, server) = (pair.client.stats(), pair.server.stats());
        assert_eq!((client.send_errors, server.send_errors), (0, 0));
    });
}
