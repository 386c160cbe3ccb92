//! What arrives before its connection is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::sleep;
use zssp::{CloseReason, SecretKey};

use crate::common::simulation::{Filtered, GOOD, SECOND, address, builder, endpoint, network};

/// Longer than the packets that confirm a session.
const LARGE: usize = 200;

fn letter(content: u8) -> Vec<u8> {
    vec![content; LARGE]
}

/// The server's session is there and its message arrives, but not what confirms the session: after ten seconds the client
/// begins anew, and the message is none of the connection that then comes about.
//= ZSSP-ST-07  a wholly new X1 after 10 s in A3
#[tokio::test(start_paused = true)]
async fn what_came_in_a_handshake_that_was_given_up_is_not_delivered_in_the_next() {
    let network = network(1, GOOD);
    let client = endpoint(&network, 1);
    let cuts = Arc::new(AtomicBool::new(true));
    let lets = {
        let cuts = cuts.clone();
        move |run: &[u8]| run.len() >= LARGE || !cuts.load(Ordering::Relaxed)
    };
    let link = Filtered { link: network.attach(address(2)).unwrap(), lets };
    let server = builder(&SecretKey::generate().unwrap()).bind_link(link).unwrap();

    let serve = async {
        let first = server.accept().await.unwrap().accept().await.unwrap();
        first.channel(0).unwrap().send(letter(1)).await.unwrap();
        let second = loop {
            let incoming = server.accept().await.unwrap();
            cuts.store(false, Ordering::Relaxed);
            if let Ok(second) = incoming.accept().await {
                break second;
            }
        };
        assert_eq!(first.closed().await, CloseReason::Replaced);
        // The other side has its connection by now.
        sleep(SECOND).await;
        second.channel(0).unwrap().send(letter(2)).await.unwrap();
        second
    };
    let (here, there) = tokio::join!(client.connect(server.local_addr(), server.public_key()), serve);
    let message = here.unwrap().channel(0).unwrap().receive().await.unwrap();
    assert_eq!(message.data()[0], 2);
    drop((message, there));
    assert!(client.stats().payloads_dropped > 0, "what was not delivered is counted");
}
