//! A link of one's own: two endpoints in one process, with queues between them in place of a network.
//!
//! `cargo run --example custom_link`

use std::collections::VecDeque;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use zssp::link::{Link, Path, ReceiveBatch, Wakers};
use zssp::{Endpoint, SecretKey};

/// Datagrams a queue has room for.
const ROOM: usize = 256;

/// One direction.
#[derive(Default)]
struct Queue {
    datagrams: Mutex<VecDeque<Vec<u8>>>,
    /// Wait for datagrams.
    readers: Wakers,
    /// Wait for room.
    writers: Wakers,
}

/// One end of a pipe.
struct Pipe {
    own: SocketAddr,
    peer: SocketAddr,
    out: Arc<Queue>,
    back: Arc<Queue>,
}

fn pipe() -> (Pipe, Pipe) {
    let (there, back) = (Arc::new(Queue::default()), Arc::new(Queue::default()));
    let (a, b) = (SocketAddr::from(([0; 4], 1)), SocketAddr::from(([0; 4], 2)));
    (
        Pipe { own: a, peer: b, out: there.clone(), back: back.clone() },
        Pipe { own: b, peer: a, out: back, back: there },
    )
}

impl Queue {
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Vec<u8>>> {
        self.datagrams.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Link for Pipe {
    fn local_addr(&self) -> SocketAddr {
        self.own
    }

    fn mtu(&self) -> usize {
        9000
    }

    fn reaches(&self, to: SocketAddr) -> bool {
        to == self.peer
    }

    fn try_send(&self, _path: Path, run: &[u8], segment: usize) -> io::Result<usize> {
        let mut sent = 0;
        {
            let mut queue = self.out.lock();
            let room = ROOM.saturating_sub(queue.len());
            for datagram in run.chunks(segment).take(room) {
                queue.push_back(datagram.to_vec());
                sent += datagram.len();
            }
        }
        if sent == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.out.readers.wake();
        Ok(sent)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let out = &self.out;
        out.writers.poll(cx, |_| if out.lock().len() < ROOM { Poll::Ready(Ok(())) } else { Poll::Pending })
    }

    fn poll_receive(&self, cx: &mut Context<'_>, batch: &mut ReceiveBatch) -> Poll<io::Result<()>> {
        let ready = self.back.readers.poll(cx, |_| {
            let mut queue = self.back.lock();
            if queue.is_empty() {
                return Poll::Pending;
            }
            // What the batch has no room for waits for the next one.
            while batch.room().len() >= self.mtu()
                && let Some(datagram) = queue.pop_front()
            {
                if let Some(room) = batch.room().get_mut(..datagram.len()) {
                    room.copy_from_slice(&datagram);
                    batch.push(self.peer, datagram.len(), datagram.len());
                }
            }
            Poll::Ready(Ok(()))
        });
        if ready.is_ready() {
            self.back.writers.wake();
        }
        ready
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (here, there) = pipe();
    let server = Endpoint::builder(SecretKey::generate()?).bind_link(there)?;
    let client = Endpoint::builder(SecretKey::generate()?).bind_link(here)?;

    let connect = client.connect(server.local_addr(), server.public_key());
    let accept = async { server.accept().await.ok_or("closed")?.accept().await.map_err(Into::into) };
    let (connection, peer) = tokio::join!(connect, accept);
    let (connection, peer): (_, Result<_, Box<dyn Error>>) = (connection?, peer);
    let peer = peer?;

    let sending = async {
        let (mut send, _) = connection.open_stream().await?;
        send.write_chunk(vec![7; 64 << 20]).await?;
        send.finish()?;
        Ok::<_, Box<dyn Error>>(())
    };
    let receiving = async {
        let (_, mut receive) = peer.accept_stream().await?;
        let mut len = 0;
        while let Some(chunk) = receive.read_chunk().await? {
            len += chunk.len();
        }
        Ok::<_, Box<dyn Error>>(len)
    };
    let ((), len) = tokio::try_join!(sending, receiving)?;
    println!("{len} bytes came through the pipe");
    connection.close(0, b"done").await;
    Ok(())
}

#[test]
fn it_runs() -> Result<(), Box<dyn Error>> {
    main()
}
