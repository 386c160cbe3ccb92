//! A client whose address changes in the middle of everything.

use crate::common::router::Router;
use crate::common::{builder, connect_to, content, endpoint, run};

#[test]
fn transfers_go_on_when_the_address_changes() {
    run(async {
        const LEN: usize = 3 << 20;
        let (client, server) = (endpoint().await, endpoint().await);
        let router = Router::to(server.local_addr()).await;
        let (here, there) = connect_to(router.address, &client, &server).await;
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
        let (here, there) = connect_to(router.address, &client, &server).await;
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
