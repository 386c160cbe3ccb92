//! A client whose address changes in the middle of everything.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;

use common::{builder, content, endpoint, run};
use tokio::net::UdpSocket;
use tokio::sync::watch;

/// Passes everything on between the first to speak and `server`. When told to move, it goes on from another port and
/// forgets the one before, as a router does that was started again.
struct Router {
    address: SocketAddr,
    moves: watch::Sender<u32>,
}

impl Router {
    async fn to(server: SocketAddr) -> Self {
        let outside = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = outside.local_addr().unwrap();
        let (moves, mut moved) = watch::channel(0);
        tokio::spawn(async move {
            let mut client = None;
            let (mut out, mut back) = ([0; 65_536], [0; 65_536]);
            loop {
                let inside = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                loop {
                    tokio::select! {
                        received = outside.recv_from(&mut out) => {
                            let Ok((len, from)) = received else { return };
                            client = Some(from);
                            let _ = inside.send_to(&out[..len], server).await;
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

    fn move_on(&self) {
        self.moves.send_modify(|moves| *moves += 1);
    }
}

#[test]
fn transfers_go_on_when_the_address_changes() {
    run(async {
        const LEN: usize = 3 << 20;
        let (client, server) = (endpoint().await, endpoint().await);
        let router = Router::to(server.local_addr()).await;
        let accept = async { server.accept().await.unwrap().accept().await.unwrap() };
        let connect = async { client.connect(router.address, server.public_key()).await.unwrap() };
        let (here, there) = tokio::join!(connect, accept);
        let first = there.remote_address();

        let (up, down) = (content(1, LEN), content(2, LEN));
        let (mut send, mut receive) = here.open_stream().await.unwrap();
        let uploading = {
            let up = up.clone();
            tokio::spawn(async move { send.write_chunk(up).await })
        };
        let downloading = tokio::spawn(async move { receive.read_to_end(LEN).await });
        let (mut answer, mut question) = there.accept_stream().await.unwrap();
        let answering = {
            let down = down.clone();
            tokio::spawn(async move { answer.write_chunk(down).await })
        };
        let (mut read, mut moves) = (Vec::new(), 0);
        while let Some(chunk) = question.read_chunk().await.unwrap() {
            read.extend_from_slice(&chunk);
            if read.len() > (moves + 1) * LEN / 4 && moves < 3 {
                moves += 1;
                router.move_on();
            }
        }
        assert_eq!(moves, 3);
        uploading.await.unwrap().unwrap();
        answering.await.unwrap().unwrap();
        assert!(read == up, "every byte once and in order");
        assert!(downloading.await.unwrap().unwrap() == down);
        assert_ne!(there.remote_address(), first);
        assert_eq!(here.remote_address(), router.address, "the server has not moved");
    });
}

#[test]
fn a_sign_of_life_keeps_a_silent_connection_reachable() {
    run(async {
        let client =
            builder().keep_alive(std::time::Duration::from_millis(100)).bind("127.0.0.1:0").await.unwrap();
        let server = endpoint().await;
        let router = Router::to(server.local_addr()).await;
        let accept = async { server.accept().await.unwrap().accept().await.unwrap() };
        let connect = async { client.connect(router.address, server.public_key()).await.unwrap() };
        let (here, there) = tokio::join!(connect, accept);
        let first = there.remote_address();
        router.move_on();
        while there.remote_address() == first {
            tokio::task::yield_now().await;
        }
        // Now the server can reach the client first.
        let serve = async { here.channel(0).unwrap().receive().await.unwrap().reply("still here").unwrap() };
        let channel = there.channel(0).unwrap();
        assert_eq!(tokio::join!(channel.request("where are you?"), serve).0.unwrap(), "still here");
    });
}
