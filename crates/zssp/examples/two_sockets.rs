//! One endpoint on two UDP sockets: here a port for each of two networks, as a machine with two interfaces has them.
//!
//! `cargo run --example two_sockets`

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use zssp::link::{Link, Path, ReceiveBatch, Udp};
use zssp::{Endpoint, SecretKey};

/// Bytes of each socket's buffers.
const BUFFER: usize = 2 << 20;

/// Two sockets, and which address is reached through which where nobody has spoken yet.
struct Sockets {
    inner: Udp,
    outer: Udp,
    is_inner: fn(IpAddr) -> bool,
    /// Whose turn it is to be read first, so that a busy one does not silence the other.
    inner_first: AtomicBool,
}

impl Sockets {
    /// The socket that the peer has spoken to, so that its answer comes from there.
    fn of(&self, path: Path) -> &Udp {
        let is_inner = match path.local_ip {
            Some(local) => local == self.inner.local_addr().ip(),
            None => (self.is_inner)(path.remote.ip()),
        };
        if is_inner { &self.inner } else { &self.outer }
    }
}

impl Link for Sockets {
    fn local_addr(&self) -> SocketAddr {
        self.outer.local_addr()
    }

    fn mtu(&self) -> usize {
        self.inner.mtu().min(self.outer.mtu())
    }

    fn reaches(&self, to: SocketAddr) -> bool {
        self.of(to.into()).reaches(to)
    }

    fn try_send(&self, path: Path, run: &[u8], segment: usize) -> io::Result<usize> {
        self.of(path).try_send(path, run, segment)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Both: which of them was full, nobody says here.
        match (self.inner.poll_writable(cx)?, self.outer.poll_writable(cx)?) {
            (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    }

    fn poll_receive(&self, cx: &mut Context<'_>, batch: &mut ReceiveBatch) -> Poll<io::Result<()>> {
        let mut sockets = [&self.outer, &self.inner];
        if self.inner_first.fetch_xor(true, Ordering::Relaxed) {
            sockets.reverse();
        }
        // Where the first has nothing, both are asked, and both wake the caller.
        match sockets[0].poll_receive(cx, batch) {
            Poll::Pending => sockets[1].poll_receive(cx, batch),
            received => received,
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let sockets = Sockets {
        inner: Udp::bind("127.0.0.1:0".parse()?, BUFFER)?,
        outer: Udp::bind("[::1]:0".parse()?, BUFFER)?,
        is_inner: |address| address.is_ipv4(),
        inner_first: AtomicBool::new(true),
    };
    let addresses = [sockets.inner.local_addr(), sockets.outer.local_addr()];
    let server = Endpoint::builder(SecretKey::generate()?).bind_link(sockets)?;
    let key = server.public_key();
    let serving = tokio::spawn(async move {
        while let Some(incoming) = server.accept().await {
            let from = incoming.remote_address();
            let Ok(connection) = incoming.accept().await else { continue };
            let Ok(channel) = connection.channel(0) else { continue };
            if let Some(question) = channel.receive().await {
                println!("from {from}: {}", String::from_utf8_lossy(question.data()));
                let _ = question.reply("hello");
            }
            connection.closed().await;
        }
    });
    for address in addresses {
        let client = Endpoint::builder(SecretKey::generate()?).bind(SocketAddr::new(address.ip(), 0)).await?;
        let connection = client.connect(address, key).await?;
        let reply = connection.channel(0)?.request("who is there?").await?;
        println!("through {address}: {}", String::from_utf8_lossy(&reply));
        connection.close(0, b"").await;
    }
    serving.abort();
    Ok(())
}

#[test]
fn it_runs() -> Result<(), Box<dyn Error>> {
    main()
}
