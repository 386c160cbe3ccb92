//! What a peer does not take of one channel or stream stops none of the others.

use tokio::io::AsyncWriteExt;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use zssp::link::memory::{Bottleneck, Conditions, Network};
use zssp::{Channel, Connection, Endpoint, Message, SecretKey, SendStream};

use crate::common::simulation::*;

/// One with channels enough.
fn endpoint_of(network: &Network, number: u16) -> Endpoint {
    let builder = builder(&SecretKey::generate().unwrap()).channels(256);
    builder.bind_link(network.attach(address(number)).unwrap()).unwrap()
}

/// Sends on a channel for ever.
fn fill_channel(connection: &Connection, id: u16) -> JoinHandle<()> {
    let channel = connection.channel(id).unwrap();
    tokio::spawn(async move { while channel.send(vec![1; 58_000]).await.is_ok() {} })
}

/// Writes to a stream for ever.
async fn fill_stream(connection: &Connection) {
    let (mut send, receive) = connection.open_stream().await.unwrap();
    tokio::spawn(async move {
        let _receive = receive;
        while send.write_chunk(vec![1; 58_000]).await.is_ok() {}
    });
}

/// Messages and bytes of a new channel and a new stream cross.
async fn others_get_on(here: &Connection, there: &Connection, id: u16, len: usize) {
    let (sender, receiver) = (here.channel(id).unwrap(), there.channel(id).unwrap());
    let crossing = async {
        for _ in 0..20 {
            sender.send(vec![2; len]).await.unwrap();
            assert_eq!(receiver.receive().await.unwrap().data().len(), len);
        }
        let (mut send, _receive) = here.open_stream().await.unwrap();
        send.write_all(&vec![3; len]).await.unwrap();
        send.finish().unwrap();
        loop {
            let (_send, mut receive) = there.accept_stream().await.unwrap();
            // Those opened before are not read, and must not be stopped either.
            if receive.id() == send.id() {
                return receive.read_to_end(len).await.unwrap().len();
            }
            std::mem::forget((_send, receive));
        }
    };
    assert_eq!(timeout(60 * SECOND, crossing).await.expect("they are held up"), len);
}

#[tokio::test(start_paused = true)]
async fn channels_and_streams_that_nobody_reads_leave_room_for_all_others() {
    let network = network(1, GOOD);
    let (client, server) = (endpoint_of(&network, 1), endpoint_of(&network, 2));
    let (here, there) = connect(&client, &server).await;
    for id in 0..4 {
        fill_channel(&here, id);
        fill_stream(&here).await;
        sleep(5 * SECOND).await;
        others_get_on(&here, &there, 100 + id, 58_000).await;
    }
    // Beyond what is promised for the largest, small ones get on.
    for id in 4..60 {
        fill_channel(&here, id);
    }
    sleep(5 * SECOND).await;
    others_get_on(&here, &there, 200, 1).await;
    assert_eq!(here.close_reason(), None);
}

#[tokio::test(start_paused = true)]
async fn many_that_compete_all_get_on() {
    let network = network(2, GOOD);
    let (client, server) = (endpoint_of(&network, 1), endpoint_of(&network, 2));
    let (here, there) = connect(&client, &server).await;
    let mut tasks = Vec::new();
    for id in 0..120 {
        let (sender, receiver) = (here.channel(id).unwrap(), there.channel(id).unwrap());
        // Every tenth has small ones, which must not starve the others, nor be starved.
        let len = if id % 10 == 0 { 100 } else { 58_000 };
        tasks.push(tokio::spawn(async move {
            for _ in 0..10 {
                sender.send(vec![1; len]).await.unwrap();
            }
            sender.flush().await.unwrap();
        }));
        tokio::spawn(async move { while receiver.receive().await.is_some() {} });
    }
    for task in tasks {
        timeout(600 * SECOND, task).await.expect("one is starved").unwrap();
    }
}

/// A write that waits is given up, and its stream kept.
async fn cancelled(here: &Connection) -> SendStream {
    let (mut send, receive) = here.open_stream().await.unwrap();
    assert!(timeout(SECOND, send.write_all(&vec![1; 5 << 20])).await.is_err());
    std::mem::forget(receive);
    send
}

#[tokio::test(start_paused = true)]
async fn writes_that_were_cancelled_keep_nothing_from_others() {
    let network = network(3, GOOD);
    let (client, server) = (endpoint_of(&network, 1), endpoint_of(&network, 2));
    let (here, there) = connect(&client, &server).await;
    let mut kept = Vec::new();
    for _ in 0..100 {
        kept.push(cancelled(&here).await);
    }
    // Now everything is read, but nobody writes on.
    for _ in 0..100 {
        let Ok(accepted) = timeout(10 * SECOND, there.accept_stream()).await else { break };
        let (send, mut receive) = accepted.unwrap();
        tokio::spawn(async move {
            let _send = send;
            while let Ok(Some(_)) = receive.read_chunk().await {}
        });
    }
    sleep(10 * SECOND).await;
    others_get_on(&here, &there, 1, 58_000).await;
    let channel = here.channel(2).unwrap();
    timeout(SECOND, async {
        for _ in 0..30 {
            channel.send(vec![1; 58_000]).await.unwrap()
        }
    })
    .await
    .unwrap();
}

/// It waited for its first, and others stand behind it.
#[tokio::test(start_paused = true)]
async fn a_message_that_was_given_up_keeps_nothing_from_others() {
    let network = network(6, GOOD);
    let (client, server) = (endpoint_of(&network, 1), endpoint_of(&network, 2));
    let (here, _there) = connect(&client, &server).await;
    let mut id = 0;
    // Nobody receives. In the end less than two of these are free, and whoever has nothing under way gets half of that.
    while here.channel(id).unwrap().try_send(vec![1; 58_000]).is_ok() {
        while here.channel(id).unwrap().try_send(vec![1; 58_000]).is_ok() {}
        id += 1;
    }
    let sending = here.channel(id).unwrap();
    assert!(timeout(SECOND, sending.send(vec![1; 58_000])).await.is_err());
    let other = here.channel(id + 1).unwrap();
    timeout(SECOND, other.send(vec![1; 25_000])).await.expect("it waits for nobody").unwrap();
}

/// A question that the peer takes and does not answer.
async fn ask(here: &Connection, there: &Connection, id: u16, len: usize) -> (Channel, Message) {
    let channel = here.channel(id).unwrap();
    let asking = channel.clone();
    tokio::spawn(async move { asking.request(vec![1; len]).await });
    let question = there.channel(id).unwrap().receive().await.unwrap();
    (channel, question)
}

#[tokio::test(start_paused = true)]
async fn beside_an_open_question_one_gets_what_others_give_back() {
    let network = network(4, GOOD);
    let (client, server) = (endpoint_of(&network, 1), endpoint_of(&network, 2));
    let (here, there) = connect(&client, &server).await;
    let (channel, question) = ask(&here, &there, 0, 58_000).await;
    let filling: Vec<_> = (1..9).map(|id| fill_channel(&here, id)).collect();
    sleep(5 * SECOND).await;
    let sending = tokio::spawn(async move { channel.send(vec![2; 58_000]).await });
    sleep(5 * SECOND).await;
    assert!(!sending.is_finished(), "the others have taken the room");
    for (id, filling) in (1..9).zip(filling) {
        filling.abort();
        let receiver = there.channel(id).unwrap();
        while timeout(SECOND, receiver.receive()).await.is_ok() {}
    }
    timeout(SECOND, sending).await.expect("nobody called it").unwrap().unwrap();
    drop(question);
}

#[tokio::test(start_paused = true)]
async fn questions_get_on_beside_bulk() {
    let road = Bottleneck { rate: 5_000_000, queue: 200_000 };
    let network = network(5, Conditions { bottleneck: Some(road), ..GOOD });
    let (client, server) = (endpoint_of(&network, 1), endpoint_of(&network, 2));
    let (here, there) = connect(&client, &server).await;
    let (channel, question) = ask(&here, &there, 0, 1000).await;
    for _ in 0..20 {
        fill_stream(&here).await;
    }
    let reading = there.clone();
    tokio::spawn(async move {
        while let Ok((send, mut receive)) = reading.accept_stream().await {
            tokio::spawn(async move {
                let _send = send;
                while let Ok(Some(_)) = receive.read_chunk().await {}
            });
        }
    });
    let answering = there.channel(0).unwrap();
    tokio::spawn(async move {
        while let Some(message) = answering.receive().await {
            message.reply("").unwrap();
        }
    });
    sleep(5 * SECOND).await;
    for _ in 0..50 {
        timeout(SECOND, channel.request(vec![2; 1000])).await.expect("it waits for bulk").unwrap();
    }
    drop(question);
}
