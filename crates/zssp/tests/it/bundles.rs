//! What leaves at the same time shares a datagram: counted on a network in memory.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::sleep;
use zssp::{Channel, Connection};

use crate::common::simulation::{GOOD, SECOND, answer, connect, endpoint, network};
use crate::common::{Pair, pair};

/// Less than what an acknowledgement takes to come.
const MOMENT: Duration = Duration::from_millis(10);

//= ZSSP-BUN-01  of channels and streams
//= ZSSP-BUN-02  and all of it is delivered
#[tokio::test(start_paused = true)]
async fn messages_of_channels_and_chunks_of_streams_share_a_datagram() {
    let network = network(1, GOOD);
    let (client, server) = (endpoint(&network, 1), endpoint(&network, 2));
    let (here, there) = connect(&client, &server).await;
    let [channel, taking] = [&here, &there].map(|end| end.channel(7).unwrap());
    let mut streams = [here.open_stream().await.unwrap(), here.open_stream().await.unwrap()];
    sleep(SECOND).await;
    let (sent, received) = (network.stats().sent, there.stats().payloads_received);
    // Nothing in between waits, so that nobody else runs.
    channel.try_send("message").unwrap();
    streams[0].0.write_chunk("chunk").await.unwrap();
    channel.try_send_ordered("in order").unwrap();
    streams[1].0.write_chunk("the last").await.unwrap();
    streams[1].0.finish().unwrap();
    sleep(MOMENT).await;
    assert_eq!(network.stats().sent - sent, 1, "one datagram");
    assert_eq!(here.stats().messages_sent, 4);
    sleep(GOOD.delay).await;
    assert_eq!(there.stats().payloads_received - received, 1);
    assert_eq!(taking.receive().await.unwrap().data(), "message");
    assert_eq!(taking.receive().await.unwrap().data(), "in order");
    let [(_, mut one), (_, mut two)] =
        [there.accept_stream().await, there.accept_stream().await].map(Result::unwrap);
    assert_eq!(one.read_chunk().await.unwrap().unwrap(), "chunk");
    assert_eq!(two.read_chunk().await.unwrap().unwrap(), "the last");
    assert_eq!(two.read_chunk().await.unwrap(), None);
    assert_eq!(here.stats().messages_resent, 0);
}

/// On the clock that all else goes by.
#[tokio::test(start_paused = true)]
async fn the_answer_to_a_chunk_waits_for_company_and_not_for_long() {
    let network = network(3, GOOD);
    let (client, server) = (endpoint(&network, 1), endpoint(&network, 2));
    let (here, there) = connect(&client, &server).await;
    let (mut send, _receive) = here.open_stream().await.unwrap();
    sleep(SECOND).await;
    send.write_chunk("chunk").await.unwrap();
    send.finish().unwrap();
    let (_send, mut receive) = there.accept_stream().await.unwrap();
    assert_eq!(receive.read_to_end(5).await.unwrap(), b"chunk");
    let sent = there.stats().payloads_sent;
    sleep(Duration::from_millis(1)).await;
    assert_eq!(there.stats().payloads_sent, sent, "another may come");
    sleep(Duration::from_millis(2)).await;
    assert_eq!(there.stats().payloads_sent, sent + 1);
}

/// One task that sends, and then calls another that does.
struct Senders {
    connection: Connection,
    channel: Channel,
    first: Arc<Notify>,
}

impl Senders {
    fn new(connection: Connection) -> Self {
        let channel = connection.channel(0).unwrap();
        let [first, second] = [(); 2].map(|()| Arc::new(Notify::new()));
        for (called, calls) in [(first.clone(), Some(second.clone())), (second, None)] {
            let channel = channel.clone();
            tokio::spawn(async move {
                loop {
                    called.notified().await;
                    channel.try_send("message").unwrap();
                    calls.iter().for_each(|next| next.notify_one());
                }
            });
        }
        Self { connection, channel, first }
    }

    /// The payloads, each of one datagram, that leave by what is done.
    async fn datagrams(&self, send: impl FnOnce()) -> u64 {
        let before = self.connection.stats().payloads_sent;
        send();
        sleep(MOMENT).await;
        let sent = self.connection.stats().payloads_sent - before;
        sleep(SECOND).await;
        sent
    }

    async fn one_after_the_other(&self) -> u64 {
        self.datagrams(|| self.first.notify_one()).await
    }

    async fn at_once(&self, count: usize) -> u64 {
        self.datagrams(|| (0..count).for_each(|_| self.channel.try_send("message").unwrap())).await
    }
}

/// Where several send at the same time, the driver lets them all do so before it does. A lone one it does not keep waiting.
#[tokio::test(start_paused = true)]
async fn the_driver_waits_for_company_where_there_was_some() {
    let network = network(2, GOOD);
    let (client, server) = (endpoint(&network, 1), endpoint(&network, 2));
    let (here, there) = connect(&client, &server).await;
    let taking = there.channel(0).unwrap();
    tokio::spawn(async move { while taking.receive().await.is_some() {} });
    let senders = Senders::new(here);
    let alone = async || {
        for _ in 0..20 {
            assert_eq!(senders.at_once(1).await, 1);
        }
    };
    alone().await;
    assert_eq!(senders.one_after_the_other().await, 2, "nobody has had company");
    assert_eq!(senders.at_once(2).await, 1);
    for _ in 0..20 {
        assert_eq!(senders.one_after_the_other().await, 1, "each has company, and the next one expects it");
    }
    alone().await;
    assert_eq!(senders.one_after_the_other().await, 2, "it is long ago");
}

/// A thread of tokio's runs what was woken last before all else, and that is the driver as soon as the first of those who
/// were answered asks again.
#[test]
fn those_who_are_answered_at_once_ask_again_at_once() {
    const TASKS: u64 = 32;
    const EACH: u64 = 50;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let asking = runtime.spawn(async {
        let Pair { client: _client, server: _server, here, there } = pair().await;
        tokio::spawn(answer(there));
        let mut tasks = JoinSet::new();
        for _ in 0..TASKS {
            let channel = here.channel(0).unwrap();
            tasks.spawn(async move {
                for _ in 0..EACH {
                    channel.request([1; 4].to_vec()).await.unwrap();
                }
            });
        }
        tasks.join_all().await;
        here.stats().payloads_sent
    });
    let payloads = runtime.block_on(asking).unwrap();
    assert!(payloads < TASKS * EACH / 4, "{payloads} payloads for {} questions", TASKS * EACH);
}
