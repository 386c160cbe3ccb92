//! How connections end.

use std::sync::Arc;
use std::time::Duration;

use zssp::{Bytes, CloseReason, Connection, Endpoint, Redb, RequestError, SecretKey, SendError};

use crate::common::{builder, content, endpoint, pair, pair_of, run};

#[test]
fn closing_delivers_what_was_accepted_and_tells_the_peer() {
    run(async {
        let pair = pair().await;
        // Nobody receives yet: it has to fit the send buffer, of which one channel gets half.
        let sent = Bytes::from(content(5, 3 << 19));
        let mut rest = sent.clone();
        let sender = pair.here.channel(0).unwrap();
        while !rest.is_empty() {
            sender.send_ordered(rest.split_to(rest.len().min(50_000))).await.unwrap();
        }
        let closing = tokio::spawn({
            let here = pair.here.clone();
            async move { here.close(7, b"done").await }
        });
        let (receiver, mut received) = (pair.there.channel(0).unwrap(), Vec::new());
        while let Some(message) = receiver.receive().await {
            received.extend_from_slice(message.data());
        }
        assert!(received == sent, "not all of it arrived");
        assert_eq!(closing.await.unwrap(), CloseReason::Local);
        let reason = CloseReason::Peer { code: 7, reason: b"done"[..].into() };
        assert_eq!(pair.there.closed().await, reason);
        assert_eq!(pair.there.close_reason(), Some(reason.clone()));
        assert_eq!(receiver.send("too late").await, Err(SendError::Closed(reason)));
        assert_eq!(sender.send("too late").await, Err(SendError::Closed(CloseReason::Local)));
        pair.server.wait_idle().await;
        pair.client.wait_idle().await;
    });
}

#[test]
fn a_pending_request_is_answered_before_the_end() {
    run(async {
        let pair = pair().await;
        let asking = tokio::spawn({
            let channel = pair.here.channel(0).unwrap();
            async move { channel.request("question").await }
        });
        let question = pair.there.channel(0).unwrap().receive().await.unwrap();
        let closing = tokio::spawn({
            let here = pair.here.clone();
            async move { here.close(0, b"").await }
        });
        question.reply("answer").unwrap();
        assert_eq!(asking.await.unwrap().unwrap(), "answer");
        assert_eq!(closing.await.unwrap(), CloseReason::Local);
    });
}

#[test]
fn dropping_the_last_handle_closes_and_drains() {
    run(async {
        let pair = pair().await;
        let sender = pair.here.channel(0).unwrap();
        sender.send(content(6, 58_000)).await.unwrap();
        drop((pair.here, sender));
        let receiver = pair.there.channel(0).unwrap();
        assert!(receiver.receive().await.unwrap().data() == &content(6, 58_000)[..]);
        assert!(receiver.receive().await.is_none());
        assert_eq!(pair.there.closed().await, CloseReason::Peer { code: 0, reason: [].into() });
    });
}

#[test]
fn both_sides_may_close_at_once() {
    run(async {
        let pair = pair().await;
        let (here, there) = tokio::join!(pair.here.close(1, b"here"), pair.there.close(2, b"there"));
        let by_peer = |code, reason: &[u8]| CloseReason::Peer { code, reason: reason.into() };
        assert!(here == CloseReason::Local || here == by_peer(2, b"there"), "{here}");
        assert!(there == CloseReason::Local || there == by_peer(1, b"here"), "{there}");
        pair.client.wait_idle().await;
        pair.server.wait_idle().await;
    });
}

//= ZSSP-SEQ-20  senders, receivers and those who wait for replies
#[test]
fn a_peer_that_vanishes_is_noticed_while_something_is_owed() {
    run(async {
        let client = builder().give_up_after(Duration::from_millis(1500)).bind("127.0.0.1:0").await.unwrap();
        let here = connect_to_one_that_vanishes(&client).await;
        let channel = here.channel(0).unwrap();
        let request = channel.request("anybody there?").await;
        assert_eq!(request, Err(RequestError::Send(SendError::Closed(CloseReason::TimedOut))));
        assert_eq!(here.closed().await, CloseReason::TimedOut);
        assert_eq!(channel.flush().await, Err(CloseReason::TimedOut));
        assert!(channel.receive().await.is_none());
        assert_eq!(here.read_datagram().await, Err(CloseReason::TimedOut));
        client.wait_idle().await;
    });
}

#[test]
fn closing_towards_a_peer_that_is_gone_ends_too() {
    run(async {
        let client = endpoint().await;
        let here = connect_to_one_that_vanishes(&client).await;
        // Nothing is owed, so nothing is lost: the goodbye is said in vain a few times.
        assert_eq!(here.close(0, b"").await, CloseReason::Local);
        client.wait_idle().await;
    });
}

/// The client's end of a connection whose server is gone without a word, as in a crash.
async fn connect_to_one_that_vanishes(client: &Endpoint) -> Connection {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = runtime.spawn(endpoint()).await.unwrap();
    let (address, key) = (server.local_addr(), server.public_key());
    let accepted = runtime.spawn(async move { server.accept().await.unwrap().accept().await.unwrap() });
    let here = client.connect(address, key).await.unwrap();
    let there = accepted.await.unwrap();
    // Its tasks end with their runtime; the handle dropped afterwards has nobody left to speak for it.
    runtime.shutdown_background();
    drop(there);
    here
}

#[test]
fn an_endpoint_closes_all_its_connections() {
    run(async {
        let server = endpoint().await;
        let mut others = Vec::new();
        for _ in 0..3 {
            let pair = pair_of(endpoint().await, server.clone()).await;
            pair.there.channel(0).unwrap().send("promised").await.unwrap();
            others.push(pair);
        }
        server.close(9, b"maintenance");
        assert!(server.accept().await.is_none());
        for other in others.iter().map(|pair| &pair.here) {
            assert_eq!(other.channel(0).unwrap().receive().await.unwrap().data(), "promised");
            let reason = CloseReason::Peer { code: 9, reason: b"maintenance"[..].into() };
            assert_eq!(other.closed().await, reason);
        }
        server.wait_idle().await;
        assert_eq!(server.stats().connections, 0);
    });
}

#[test]
fn the_port_is_free_again_when_everything_is_dropped() {
    run(async {
        let address = {
            let pair = pair().await;
            let address = pair.server.local_addr();
            pair.here.close(0, b"").await;
            pair.there.closed().await;
            pair.server.wait_idle().await;
            address
        };
        // The socket closes when the endpoint's tasks have noticed, which takes a moment.
        let free = async {
            while builder().bind(address).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), free).await.expect("the socket is still open");
    });
}

/// At once, time after time: whatever still ran would have them in its hands now and then.
#[test]
fn port_and_store_are_free_when_a_closed_endpoint_is_idle() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let (key, file) = (SecretKey::generate().unwrap(), folder.path().join("ratchets"));
        let client = endpoint().await;
        let mut address = "127.0.0.1:0".to_owned();
        for _ in 0..20 {
            let store = Redb::open(&file).unwrap();
            let server = Endpoint::builder(key.clone()).store(Arc::new(store)).bind(&address).await.unwrap();
            address = server.local_addr().to_string();
            let pair = pair_of(client.clone(), server).await;
            pair.here.channel(0).unwrap().send("something to do").await.unwrap();
            drop(pair.there.channel(0).unwrap().receive().await.unwrap());
            pair.server.close(0, b"");
            pair.server.wait_idle().await;
        }
    });
}
