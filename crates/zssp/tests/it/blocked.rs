//! A link that takes nothing any more, nor refuses it.

use std::sync::Arc;

use tokio::time::{sleep, timeout};
use zssp::{CloseReason, SecretKey};

use crate::common::simulation::*;

/// Without a close, with one, after one: in each case something waits for the link.
#[tokio::test(start_paused = true)]
async fn a_link_that_takes_nothing_keeps_no_connection_for_ever() {
    for (sends, closes, ends) in [
        (true, false, CloseReason::TimedOut),
        (true, true, CloseReason::TimedOut),
        (false, true, CloseReason::Local),
    ] {
        let network = network(1, GOOD);
        let gate = Arc::<Gate>::default();
        let link = Gated { link: network.attach(address(1)).unwrap(), gate: gate.clone() };
        let client = builder(&SecretKey::generate().unwrap()).bind_link(link).unwrap();
        let server = endpoint(&network, 2);
        let (here, there) = connect(&client, &server).await;
        gate.set_shut(true);
        if sends {
            here.channel(0).unwrap().send("nobody hears this").await.unwrap();
        }
        let ended = async { if closes { here.close(0, b"").await } else { here.closed().await } };
        assert_eq!(timeout(100 * SECOND, ended).await, Ok(ends));
        drop((here, there));
        timeout(100 * SECOND, leaves_nothing([client, server], &network)).await.expect("something is left");
    }
}

/// For a moment, when the last that either side has to say goes: a close, or that it was heard.
#[tokio::test(start_paused = true)]
async fn a_link_that_is_blocked_for_a_moment_loses_no_last_word() {
    for closer in [0, 1] {
        let network = network(1, GOOD);
        let gate = Arc::<Gate>::default();
        let link = Gated { link: network.attach(address(1)).unwrap(), gate: gate.clone() };
        let gated = builder(&SecretKey::generate().unwrap()).bind_link(link).unwrap();
        let other = endpoint(&network, 2);
        let mut ends: [_; 2] = connect(&gated, &other).await.into();
        ends.rotate_left(closer);
        // The last packet of the handshake waits for no link.
        sleep(SECOND).await;
        gate.set_shut(true);
        let open = async {
            sleep(SECOND / 2).await;
            gate.set_shut(false);
        };
        let (closed, ()) = tokio::join!(ends[0].close(0, b""), open);
        assert_eq!(closed, CloseReason::Local);
        assert!(matches!(ends[1].closed().await, CloseReason::Peer { .. }));
        assert_eq!(gated.stats().send_errors, 0);
        drop(ends);
        leaves_nothing([gated, other], &network).await;
    }
}
