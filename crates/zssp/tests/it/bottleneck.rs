//! Whole endpoints on a slow road with a queue in front of it, with the clock paused.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use zssp::link::memory::{Bottleneck, Conditions, Network};
use zssp::{Connection, Endpoint, SecretKey};

use crate::common::{connect, content};

/// A megabyte and a quarter a second, 40 ms there and back: 50 kB under way fill it, and a dozen datagrams may wait.
const ROAD: Conditions = Conditions {
    delay: Duration::from_millis(20),
    duplication: 0.0,
    loss: 0.0,
    mtu: None,
    bottleneck: Some(Bottleneck { rate: 1_250_000, queue: 16_000 }),
    reordering: 0.0,
};

fn endpoint(network: &Network, number: u8) -> Endpoint {
    let link = network.attach(([10, 0, 0, number], 1).into()).unwrap();
    Endpoint::builder(SecretKey::generate().unwrap()).handshakes(1, 128).bind_link(link).unwrap()
}

/// RFC 9002, 7.7: what is sent all at once is lost where the queue is short.
#[tokio::test(start_paused = true)]
async fn a_short_queue_is_enough() {
    const LEN: usize = 8 << 20;
    let network = Network::new(1, ROAD);
    let (client, server) = (endpoint(&network, 1), endpoint(&network, 2));
    let (here, there) = connect(&client, &server).await;
    let (start, before) = (Instant::now(), network.stats());
    let (mut send, _receive) = here.open_stream().await.unwrap();
    let sent = content(1, LEN);
    let sending = async {
        send.write_chunk(sent.clone()).await.unwrap();
        send.finish().unwrap();
        send.stopped().await.unwrap();
    };
    let receiving = async {
        let (_send, mut receive) = there.accept_stream().await.unwrap();
        receive.read_to_end(LEN).await.unwrap()
    };
    let ((), received) = tokio::join!(sending, receiving);
    assert!(received == sent, "every byte once and in order");
    let (time, after) = (start.elapsed(), network.stats());
    let lost = after.lost - before.lost;
    let share = LEN as f64 / 1_250_000.0 / time.as_secs_f64();
    println!(
        "{lost} of {} datagrams lost, {:.1} % of the rate, {:?}",
        after.sent - before.sent,
        share * 100.0,
        here.stats()
    );
    assert!(share > 0.75, "{:.1} % of the rate", share * 100.0);
    assert!(lost * 200 < after.sent - before.sent, "{lost} of {} lost", after.sent - before.sent);
}

/// What is urgent waits for what is under way, and not for what was accepted before it.
#[tokio::test(start_paused = true)]
async fn a_channel_of_higher_priority_overtakes_a_full_one() {
    // A message goes out in one piece, so the queue has to hold some.
    let road = Bottleneck { rate: 1_250_000, queue: 200_000 };
    let network = Network::new(2, Conditions { bottleneck: Some(road), ..ROAD });
    let (client, server) = (endpoint(&network, 1), endpoint(&network, 2));
    let (here, there) = connect(&client, &server).await;
    let (bulk, urgent) = (here.channel(1).unwrap(), here.channel(2).unwrap());
    urgent.set_priority(1);
    let (slow, fast) = (there.channel(1).unwrap(), there.channel(2).unwrap());
    let slow_arrived = Arc::new(AtomicUsize::new(0));
    let counting = slow_arrived.clone();
    let receiving = tokio::spawn(async move {
        while slow.receive().await.is_some() {
            counting.fetch_add(1, Relaxed);
        }
    });
    // More than a second of the road.
    for _ in 0..30 {
        bulk.send(vec![1; 50_000]).await.unwrap();
    }
    for _ in 0..30 {
        urgent.send(vec![2; 10_000]).await.unwrap();
    }
    for _ in 0..30 {
        drop(fast.receive().await.unwrap());
    }
    let before = slow_arrived.load(Relaxed);
    assert!(before <= 10, "{before} of 30 large ones came before the last urgent one");
    bulk.flush().await.unwrap();
    assert_eq!(slow_arrived.load(Relaxed), 30);
    here.close(0, b"").await;
    receiving.await.unwrap();
}

/// A message is first sent as one payload, whose fragments are a burst that the queue does not hold. In parts it is no worse
/// than a stream.
#[tokio::test(start_paused = true)]
async fn messages_larger_than_the_queue_get_through() {
    let network = Network::new(3, ROAD);
    let (client, server) = (endpoint(&network, 1), endpoint(&network, 2));
    let (here, there) = connect(&client, &server).await;
    let (bulk, received) = (here.channel(1).unwrap(), there.channel(1).unwrap());
    let receiving = tokio::spawn(async move {
        let mut arrived = 0;
        while received.receive().await.is_some() {
            arrived += 1;
        }
        arrived
    });
    let start = Instant::now();
    for _ in 0..200 {
        bulk.send(vec![1; 50_000]).await.unwrap();
    }
    bulk.flush().await.unwrap();
    let share = 10_000_000.0 / 1_250_000.0 / start.elapsed().as_secs_f64();
    println!("{:.1} % of the rate, {:?}", share * 100.0, here.stats());
    here.close(0, b"").await;
    assert_eq!(receiving.await.unwrap(), 200);
    assert!(share > 0.75, "{:.1} % of the rate", share * 100.0);
}

/// Both fill the queue, and each finds out by itself how much it may.
#[tokio::test(start_paused = true)]
async fn two_senders_of_large_messages_share_a_short_queue() {
    const MEASURED: Duration = Duration::from_secs(30);
    let network = Network::new(4, ROAD);
    let server = endpoint(&network, 3);
    let mut counts = Vec::new();
    for number in 1..=2 {
        let client = endpoint(&network, number);
        let (here, there) = connect(&client, &server).await;
        let count = Arc::new(AtomicUsize::new(0));
        counts.push(count.clone());
        tokio::spawn(async move {
            let bulk = here.channel(1).unwrap();
            while bulk.send(vec![1; 50_000]).await.is_ok() {}
            drop(client);
        });
        tokio::spawn(async move {
            let received = there.channel(1).unwrap();
            while let Some(message) = received.receive().await {
                count.fetch_add(message.data().len(), Relaxed);
            }
        });
    }
    let read = || [0, 1].map(|flow| counts[flow].load(Relaxed) as f64);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let before = read();
    tokio::time::sleep(MEASURED).await;
    let after = read();
    let [a, b] = [0, 1].map(|flow| (after[flow] - before[flow]) / MEASURED.as_secs_f64() / 1_250_000.0);
    let index = (a + b).powi(2) / (2.0 * (a * a + b * b));
    println!("{:.1} % and {:.1} % of the rate, Jain's index {index:.3}", a * 100.0, b * 100.0);
    assert!(a + b > 0.75, "{a} and {b} of the rate");
    assert!(index > 0.9, "{a} and {b} of the rate");
}

/// A low priority lets others go first, and does not make the peer look silent: what asks for a sign of life goes at once.
#[tokio::test(start_paused = true)]
async fn a_channel_of_lower_priority_outlives_bulk() {
    let road = Bottleneck { rate: 250_000, queue: 50_000 };
    let road = Conditions { bottleneck: Some(road), ..ROAD };
    let network = Network::new(4, road);
    let (client, server) = (endpoint(&network, 1), endpoint(&network, 2));
    let (here, there) = connect(&client, &server).await;
    let [bulk, held, lost] = [1, 2, 3].map(|id| here.channel(id).unwrap());
    let [taking, holding, missing] = [1, 2, 3].map(|id| there.channel(id).unwrap());
    held.set_priority(-1);
    lost.set_priority(-1);
    let asked = tokio::spawn(async move { held.request("a question").await });
    let question = holding.receive().await.unwrap();
    // Nothing gets through while these are sent, so that time-outs have to see to them.
    network.set_conditions(Conditions { loss: 1.0, ..road });
    lost.send("lost").await.unwrap();
    lost.send("lost as well").await.unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    network.set_conditions(road);
    let start = Instant::now();
    let sending = tokio::spawn(async move {
        let mut sent = 0;
        while start.elapsed() < Duration::from_secs(60) {
            bulk.send(vec![1; 20_000]).await.unwrap();
            sent += 1;
        }
        sent
    });
    let receiving = tokio::spawn(async move {
        let mut received = 0;
        while taking.receive().await.is_some() {
            received += 1;
        }
        received
    });
    assert_eq!(missing.receive().await.unwrap().data(), "lost");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let sent: usize = sending.await.unwrap();
    assert!(sent * 20_000 > 10_000_000, "{sent} messages are no bulk");
    assert_eq!(here.close_reason(), None);
    question.reply("an answer").unwrap();
    assert_eq!(asked.await.unwrap().unwrap(), "an answer");
    assert_eq!(missing.receive().await.unwrap().data(), "lost as well");
    assert_eq!(here.close(0, b"").await, zssp::CloseReason::Local);
    assert_eq!(receiving.await.unwrap(), sent);
}

/// RFC 8985: what comes late is not lost. That shows when a few have come, and costs nothing of the window.
#[tokio::test(start_paused = true)]
async fn a_road_that_reorders_is_learned() {
    const MEASURED: Duration = Duration::from_secs(20);
    // One datagram of twenty takes up to half a round trip longer.
    let network = Network::new(5, Conditions { reordering: 0.05, ..ROAD });
    let (client, server) = (endpoint(&network, 1), endpoint(&network, 2));
    let (here, there) = connect(&client, &server).await;
    // Larger than the queue, so that they are sent in parts.
    let (bulk, received) = (here.channel(1).unwrap(), there.channel(1).unwrap());
    tokio::spawn(async move { while bulk.send(vec![1; 50_000]).await.is_ok() {} });
    let (start, mut bytes) = (Instant::now(), 0);
    while start.elapsed() < MEASURED {
        bytes += received.receive().await.unwrap().data().len();
    }
    let (share, stats) = (bytes as f64 / start.elapsed().as_secs_f64() / 1_250_000.0, here.stats());
    println!("{:.1} % of the rate, {stats:?}", share * 100.0);
    assert!(share > 0.75, "{:.1} % of the rate", share * 100.0);
    assert!((1..20).contains(&stats.parts_late), "sent again for nothing: {}", stats.parts_late);
}

const MEASURED: Duration = Duration::from_secs(15);

/// What a connection gets of the rate of a road, how many messages it has sent again for nothing.
async fn share_of<F: Future<Output = usize>>(
    road: Conditions,
    work: impl FnOnce(Connection, Connection) -> F,
) -> (f64, u64) {
    let network = Network::new(6, road);
    let (client, server) = (endpoint(&network, 1), endpoint(&network, 2));
    let (here, there) = connect(&client, &server).await;
    let start = Instant::now();
    let bytes = work(here.clone(), there).await as f64;
    let share = bytes / start.elapsed().as_secs_f64() / road.bottleneck.unwrap().rate as f64;
    println!("{:.1} % of the rate, {:?}", share * 100.0, here.stats());
    (share, here.stats().messages_late)
}

/// Small messages of several channels, as many as go.
async fn share_of_messages(road: Conditions, len: usize) -> (f64, u64) {
    let work = async |here: Connection, there: Connection| {
        let start = Instant::now();
        let mut receiving = JoinSet::new();
        for number in 0..16 {
            let [sent, received] = [&here, &there].map(|end| end.channel(number).unwrap());
            tokio::spawn(async move { while sent.send(vec![1; len]).await.is_ok() {} });
            receiving.spawn(async move {
                let mut bytes = 0;
                while start.elapsed() < MEASURED {
                    bytes += received.receive().await.unwrap().data().len();
                }
                bytes
            });
        }
        receiving.join_all().await.into_iter().sum()
    };
    share_of(road, work).await
}

async fn share_of_a_stream(road: Conditions) -> (f64, u64) {
    let work = async |here: Connection, there: Connection| {
        let (mut send, _receive) = here.open_stream().await.unwrap();
        tokio::spawn(async move { while send.write_chunk(vec![1; 20_000]).await.is_ok() {} });
        let (_send, mut receive) = there.accept_stream().await.unwrap();
        let (start, mut bytes) = (Instant::now(), 0);
        while start.elapsed() < MEASURED {
            bytes += receive.read_chunk().await.unwrap().unwrap().len();
        }
        bytes
    };
    share_of(road, work).await
}

/// A fast and long one, on which a window that was halved takes long to recover.
const LONG_ROAD: Conditions = Conditions {
    delay: Duration::from_millis(50),
    bottleneck: Some(Bottleneck { rate: 6_250_000, queue: 200_000 }),
    ..ROAD
};

/// RFC 4015: the same of whole messages, of those that share a datagram, and of the chunks of a stream.
#[tokio::test(start_paused = true)]
async fn a_road_that_reorders_carries_whole_messages_and_streams() {
    let shares = [
        share_of_messages(Conditions { reordering: 0.05, ..ROAD }, 200).await,
        share_of_messages(Conditions { reordering: 0.05, ..LONG_ROAD }, 1000).await,
        share_of_a_stream(Conditions { reordering: 0.05, ..LONG_ROAD }).await,
    ];
    for (share, late) in shares {
        assert!(share > 0.75, "{:.1} % of the rate", share * 100.0);
        assert!((1..400).contains(&late), "sent again for nothing: {late}");
    }
}

/// Where nothing is overtaken, whatever looks lost is: the window is to be smaller for it.
#[tokio::test(start_paused = true)]
async fn nothing_that_a_short_queue_loses_is_only_late() {
    let shares = [
        share_of_messages(ROAD, 200).await,
        share_of_messages(ROAD, 1000).await,
        share_of_a_stream(ROAD).await,
    ];
    for (share, late) in shares {
        assert!(share > 0.75, "{:.1} % of the rate", share * 100.0);
        assert_eq!(late, 0);
    }
}
