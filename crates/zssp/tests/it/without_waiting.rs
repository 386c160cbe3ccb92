//! What looks once and gives up where it would have to wait, on a network in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::time::{sleep, timeout};
use zssp::{Bytes, CloseReason, SecretKey, SendError, TrySendError};

use crate::common::simulation::{Filtered, GOOD, SECOND, address, builder, connect, endpoint, network};

#[tokio::test(start_paused = true)]
async fn what_has_arrived_is_there_and_nothing_else() {
    let network = network(1, GOOD);
    let (client, server) = (endpoint(&network, 1), endpoint(&network, 2));
    let (here, there) = connect(&client, &server).await;
    let (send, receive) = (here.channel(0).unwrap(), there.channel(0).unwrap());
    assert!(receive.try_receive().unwrap().is_none() && there.try_read_datagram().unwrap().is_none());
    for number in 0..3_u8 {
        send.try_send_ordered(vec![number]).unwrap();
        here.try_send_datagram(vec![number]).unwrap();
    }
    assert!(receive.try_receive().unwrap().is_none(), "nothing has got there yet");
    sleep(SECOND).await;
    for number in 0..2_u8 {
        let message = receive.try_receive().unwrap().unwrap();
        assert!(receive.try_receive().unwrap().is_none(), "the next one in order waits for this one");
        assert_eq!(message.data()[..], [number]);
        assert_eq!(there.try_read_datagram().unwrap().unwrap()[..], [number]);
    }
    // What the peer sent before it went is still there; then there is the reason.
    here.abort(3, b"");
    let reason = there.closed().await;
    assert_eq!(reason, CloseReason::Peer { code: 3, reason: [].into() });
    assert_eq!(receive.try_receive().unwrap().unwrap().data()[..], [2]);
    assert_eq!(there.try_read_datagram().unwrap().unwrap()[..], [2]);
    assert_eq!(receive.try_receive().unwrap_err(), reason);
    assert_eq!(there.try_read_datagram().unwrap_err(), reason);
}

#[tokio::test(start_paused = true)]
async fn a_full_channel_is_told_apart_from_one_that_has_ended() {
    let network = network(2, GOOD);
    let (client, server) = (endpoint(&network, 1), endpoint(&network, 2));
    let (here, there) = connect(&client, &server).await;
    let (send, receive) = (here.channel(0).unwrap(), there.channel(0).unwrap());
    let max = send.max_message_size();
    let refusal = SendError::TooLarge { len: max + 1, max };
    assert_eq!(send.try_send(vec![0; max + 1]), Err(TrySendError::Send(refusal)));

    let message = Bytes::from(vec![7; 10_000]);
    let accepted = (0..10_000).take_while(|_| send.try_send(message.clone()).is_ok()).count();
    assert!((100..500).contains(&accepted), "{accepted} messages");
    assert_eq!(send.try_send_ordered(message.clone()), Err(TrySendError::Full));
    here.channel(1).unwrap().try_send(message.clone()).unwrap();
    // Somebody waits for as much: a smaller one does not overtake it.
    let waiting = tokio::spawn({
        let (send, message) = (send.clone(), message.clone());
        async move { send.send(message).await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    assert_eq!(send.try_send(vec![0]), Err(TrySendError::Full));
    for _ in 0..=accepted {
        drop(receive.receive().await.unwrap());
    }
    waiting.await.unwrap().unwrap();
    send.flush().await.unwrap();
    send.try_send(message.clone()).unwrap();
    drop((receive.receive().await, there.channel(1).unwrap().receive().await));

    here.close(0, b"").await;
    let closed = SendError::Closed(CloseReason::Local);
    assert_eq!(send.try_send(message), Err(TrySendError::Send(closed)));
}

#[tokio::test(start_paused = true)]
async fn whoever_gave_up_waiting_is_in_front_of_nobody() {
    let network = network(4, GOOD);
    let (client, server) = (endpoint(&network, 1), endpoint(&network, 2));
    let (here, there) = connect(&client, &server).await;
    let (send, receive) = (here.channel(0).unwrap(), there.channel(0).unwrap());
    let message = Bytes::from(vec![7; 10_000]);
    let accepted = (0..10_000).take_while(|_| send.try_send(message.clone()).is_ok()).count();
    assert!(timeout(SECOND, send.send(message.clone())).await.is_err());
    for _ in 0..accepted {
        drop(receive.receive().await.unwrap());
    }
    send.flush().await.unwrap();
    send.try_send(message).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_datagram_that_fits_the_road_goes_in_one() {
    let network = network(3, GOOD);
    let sent = Arc::new(AtomicUsize::new(0));
    let counting = Filtered {
        link: network.attach(address(1)).unwrap(),
        lets: {
            let sent = sent.clone();
            move |run: &[u8]| {
                sent.fetch_add(run.len(), Relaxed);
                true
            }
        },
    };
    let client = builder(&SecretKey::generate().unwrap()).max_mtu(0).bind_link(counting).unwrap();
    let server = endpoint(&network, 2);
    let (here, there) = connect(&client, &server).await;
    sleep(SECOND).await;
    // A byte says that it is a datagram, 16 seal it, and each fragment has a header of 16.
    let largest = here.stats().mtu - 33;
    for (len, on_the_road) in [(largest, largest + 33), (largest + 1, largest + 1 + 33 + 16)] {
        let before = sent.load(Relaxed);
        here.send_datagram(vec![0; len]).await.unwrap();
        there.read_datagram().await.unwrap();
        assert_eq!(sent.load(Relaxed) - before, on_the_road, "{len} bytes");
    }
}
