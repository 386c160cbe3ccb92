//! How many datagrams a call to the system moves on loopback: with segmentation offload, without it, and where it is
//! refused.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use quinn_udp::{UdpSockRef, UdpSocketState};
use tokio::io::AsyncWriteExt;
use zssp::link::{Link, Path, ReceiveBatch, Udp};

use crate::common::{builder, content, pair_of, run};

/// A socket, and what its calls move.
struct Counting {
    udp: Udp,
    /// Datagrams a call may send.
    limit: usize,
    calls: Arc<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    sends: AtomicUsize,
    sent: AtomicUsize,
    /// Of how many datagrams the longest run was that the endpoint wanted to send.
    longest: AtomicUsize,
    /// How many datagrams were received at once.
    received: AtomicUsize,
}

impl Link for Counting {
    fn local_addr(&self) -> SocketAddr {
        self.udp.local_addr()
    }

    fn mtu(&self) -> usize {
        self.udp.mtu()
    }

    fn try_send(&self, path: Path, run: &[u8], segment: usize) -> io::Result<usize> {
        self.calls.longest.fetch_max(run.len().div_ceil(segment), Relaxed);
        let run = &run[..run.len().min(self.limit.saturating_mul(segment))];
        let sent = self.udp.try_send(path, run, segment)?;
        self.calls.sends.fetch_add(1, Relaxed);
        self.calls.sent.fetch_add(sent.div_ceil(segment), Relaxed);
        Ok(sent)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.udp.poll_writable(cx)
    }

    fn poll_receive(&self, cx: &mut Context<'_>, batch: &mut ReceiveBatch) -> Poll<io::Result<()>> {
        ready!(self.udp.poll_receive(cx, batch))?;
        self.calls.received.fetch_max(batch.datagrams().count(), Relaxed);
        Poll::Ready(Ok(()))
    }
}

/// Sends five megabytes from one socket to another, which have to arrive, and says what that took.
async fn transfer(sockets: [Udp; 2], limit: usize) -> Arc<Calls> {
    let calls = Arc::new(Calls::default());
    let [client, server] =
        sockets.map(|udp| builder().bind_link(Counting { udp, limit, calls: calls.clone() }).unwrap());
    let pair = pair_of(client, server).await;
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
    let (client, server) = (pair.client.stats(), pair.server.stats());
    assert_eq!((client.send_errors, server.send_errors), (0, 0));
    println!("{calls:?}");
    assert!(calls.longest.load(Relaxed) > 1, "it never had more than one to send");
    calls
}

fn bind() -> Udp {
    Udp::bind("127.0.0.1:0".parse().unwrap(), 4 << 20).unwrap()
}

/// Whether the system takes runs and gives them, as quinn-udp finds it. Where `CI` is set, Linux has to.
fn has_offload() -> bool {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let state = UdpSocketState::new(UdpSockRef::from(&socket)).unwrap();
    let found = state.max_gso_segments() > 1 && state.gro_segments() > 1;
    if !found {
        assert!(std::env::var_os("CI").is_none() || !cfg!(target_os = "linux"), "this system has no offload");
        eprintln!("SKIPPED: this system has no offload");
    }
    found
}

/// A batch has room for sixteen runs, so more datagrams than that are only received at once if they came as runs.
#[test]
fn with_offload_a_call_moves_many_datagrams() {
    if !has_offload() {
        return;
    }
    run(async {
        let calls = transfer([bind(), bind()], usize::MAX).await;
        let (sends, sent) = (calls.sends.load(Relaxed), calls.sent.load(Relaxed));
        assert!(sent > 4 * sends, "{sends} calls for {sent} datagrams");
        assert!(calls.received.load(Relaxed) > 16, "what was received was not coalesced: {calls:?}");
    });
}

#[test]
fn without_offload_every_byte_arrives() {
    run(async {
        let calls = transfer([bind(), bind()], 1).await;
        assert_eq!(calls.sends.load(Relaxed), calls.sent.load(Relaxed));
    });
}

/// For a socket of UDP-Lite, the kernel says that it has offload, and refuses each run: as it does on a road through IPsec.
#[cfg(target_os = "linux")]
#[test]
fn where_runs_are_refused_every_byte_arrives() {
    use socket2::{Domain, Protocol, Socket, Type};
    const UDP_LITE: i32 = 136;
    let bind = || {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::from(UDP_LITE)))?;
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
        Udp::from_std(socket.into(), 4 << 20)
    };
    run(async {
        let sockets = match (bind(), bind()) {
            (Ok(one), Ok(other)) => [one, other],
            (Err(error), _) | (_, Err(error)) => {
                eprintln!("SKIPPED: this system has no UDP-Lite: {error}");
                return;
            }
        };
        let calls = transfer(sockets, usize::MAX).await;
        assert_eq!(calls.sends.load(Relaxed), calls.sent.load(Relaxed), "it takes runs");
    });
}
