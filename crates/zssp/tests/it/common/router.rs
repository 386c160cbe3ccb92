//! A router between a client and a server, on loopback.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::sync::watch;

/// Passes everything on between the first to speak and `server`, of which it lets nothing back but what comes from where
/// the client's datagrams went. When told to move, it goes on from another port and forgets the one before, as a router
/// does that was started again.
pub(crate) struct Router {
    pub(crate) address: SocketAddr,
    moves: watch::Sender<u32>,
}

impl Router {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let outside = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = outside.local_addr().unwrap();
        let (moves, mut moved) = watch::channel(0);
        tokio::spawn(async move {
            let mut client = None;
            let (mut out, mut back) = ([0; 65_536], [0; 65_536]);
            loop {
                let inside = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                inside.connect(server).await.unwrap();
                loop {
                    tokio::select! {
                        received = outside.recv_from(&mut out) => {
                            let Ok((len, from)) = received else { return };
                            client = Some(from);
                            let _ = inside.send(&out[..len]).await;
                        }
                        received = inside.recv(&mut back) => {
                            if let (Ok(len), Some(client)) = (received, client) {
                                let _ = outside.send_to(&back[..len], client).await;
                            }
                        }
                        told = moved.changed() => match told {
                            Ok(()) => break,
                            Err(_) => return,
                        },
                    }
                }
            }
        });
        Self { address, moves }
    }

    pub(crate) fn move_on(&self) {
        self.moves.send_modify(|moves| *moves += 1);
    }
}
