//! Whole endpoints on a bad network in memory, with the clock paused: hours pass in seconds. The seed repeats the fate of
//! the traffic, and the scheduler is that of one thread.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use zssp::link::memory::{Bottleneck, Conditions};
use zssp::{Bytes, CloseReason, ConnectError, Connection, Endpoint, RequestError, SecretKey};

use crate::common::content;
use crate::common::simulation::{
    BAD, Disk, GOOD, SECOND, address, answer, builder, connect, endpoint, leaves_nothing, network, transfer,
};

/// Accepts whoever comes, and keeps what comes of it.
fn accept_all(endpoint: &Endpoint) -> Arc<Mutex<Vec<Connection>>> {
    let (endpoint, connections) = (endpoint.clone(), Arc::new(Mutex::new(Vec::new())));
    let kept = connections.clone();
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            // Fails where an attempt of our own is the one to live.
            if let Ok(connection) = incoming.accept().await {
                kept.lock().unwrap().push(connection);
            }
        }
    });
    connections
}

#[tokio::test(start_paused = true)]
async fn everything_at_once_on_a_bad_road() {
    const COUNT: u32 = 500;
    let network = network(1, BAD);
    let (client, server) = (endpoint(&network, 1), endpoint(&network, 2));
    let (here, there) = connect(&client, &server).await;
    let mut tasks = JoinSet::new();
    for (from, to, seed) in [(&here, &there, 1), (&there, &here, 2)] {
        let (from, to) = (from.clone(), to.clone());
        tasks.spawn(async move {
            let bytes = content(seed, 1 << 20);
            assert!(transfer(from, to, bytes.clone()).await == bytes, "every byte once and in order");
        });
    }
    let answering = tokio::spawn(answer(there.clone()));
    for number in 0..COUNT {
        let channel = here.channel(0).unwrap();
        tasks.spawn(async move {
            let question = Bytes::from(number.to_be_bytes().to_vec());
            let taken_only = question[3].is_multiple_of(5);
            match channel.request_within(60 * SECOND, question.clone()).await {
                Ok(reply) => assert!(reply == question && !taken_only),
                Err(error) => assert!(error == RequestError::NoReply && taken_only, "{error}"),
            }
        });
    }
    let (ordered, unordered) = (here.channel(1).unwrap(), here.channel(2).unwrap());
    tasks.spawn(async move {
        for number in 0..COUNT {
            ordered.send_ordered(number.to_be_bytes().to_vec()).await.unwrap();
            unordered.send(number.to_be_bytes().to_vec()).await.unwrap();
        }
    });
    let (ordered, unordered) = (there.channel(1).unwrap(), there.channel(2).unwrap());
    tasks.spawn(async move {
        let mut seen = HashSet::new();
        for number in 0..COUNT {
            assert_eq!(ordered.receive().await.unwrap().data()[..], number.to_be_bytes());
            assert!(seen.insert(unordered.receive().await.unwrap().into_data()), "received twice");
        }
    });
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    assert!(here.stats().messages_resent > 100, "the road was too good: {:?}", here.stats());
    assert_eq!(here.close(5, b"done").await, CloseReason::Local);
    assert_eq!(there.closed().await, CloseReason::Peer { code: 5, reason: b"done"[..].into() });
    assert_eq!((here.stats().bytes_in_flight, there.stats().bytes_in_flight), (0, 0));
    answering.await.unwrap();
    drop((here, there));
    leaves_nothing([client, server], &network).await;
}

#[tokio::test(start_paused = true)]
async fn thousands_of_short_connections() {
    const COUNT: u16 = 2000;
    let network = network(2, Conditions { loss: 0.02, ..BAD });
    let server = endpoint(&network, 0);
    let accepting = {
        let server = server.clone();
        tokio::spawn(async move {
            while let Some(incoming) = server.accept().await {
                tokio::spawn(async move {
                    if let Ok(connection) = incoming.accept().await {
                        answer(connection).await;
                    }
                });
            }
        })
    };
    let mut clients = JoinSet::new();
    for number in 1..=COUNT {
        if clients.len() == 50 {
            clients.join_next().await.unwrap().unwrap();
        }
        let (client, to, key) = (endpoint(&network, number), server.local_addr(), server.public_key());
        clients.spawn(async move {
            let connection = client.connect(to, key).await.unwrap();
            let question = [number.to_be_bytes(), [1, 1]].concat();
            assert_eq!(connection.channel(0).unwrap().request(question.clone()).await.unwrap(), question);
            assert_eq!(connection.close(0, b"").await, CloseReason::Local);
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    server.wait_idle().await;
    server.close(0, b"");
    accepting.await.unwrap();
    leaves_nothing([server], &network).await;
}

//= ZSSP-ONE-03  on any road
#[tokio::test(start_paused = true)]
async fn two_that_open_at_once_have_one_connection() {
    for seed in 10..30 {
        let network = network(seed, BAD);
        let ends = [endpoint(&network, 1), endpoint(&network, 2)];
        let accepted = ends.each_ref().map(accept_all);
        let [a, b] = &ends;
        let attempts = tokio::join!(
            a.connect(b.local_addr(), b.public_key()),
            b.connect(a.local_addr(), a.public_key()),
        );
        for attempt in [&attempts.0, &attempts.1] {
            assert!(matches!(attempt, Ok(_) | Err(ConnectError::Replaced)), "{attempt:?}");
        }
        // Until the last repetition of a handshake packet has arrived.
        sleep(60 * SECOND).await;
        assert_eq!(ends.each_ref().map(|end| end.stats().connections), [1, 1]);
        let [here, there] =
            [(&attempts.0, &accepted[0]), (&attempts.1, &accepted[1])].map(|(own, accepted)| {
                let mut all = accepted.lock().unwrap().clone();
                all.extend(own.clone().ok());
                all.retain(|connection| connection.close_reason().is_none());
                assert_eq!(all.len(), 1, "one that lives");
                all.remove(0)
            });
        here.channel(1).unwrap().send("hello").await.unwrap();
        assert_eq!(there.channel(1).unwrap().receive().await.unwrap().data(), "hello");
        drop((here, there, attempts, accepted));
        leaves_nothing(ends, &network).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_waits_no_longer_takes_nobodys_place() {
    let network = network(30, GOOD);
    let link = network.attach(address(1)).unwrap();
    let server = builder(&SecretKey::generate().unwrap()).incoming_queue(1).bind_link(link).unwrap();
    let [gone, client] = [endpoint(&network, 2), endpoint(&network, 3)];
    let attempt = gone.connect(server.local_addr(), server.public_key());
    assert!(tokio::time::timeout(3 * SECOND, attempt).await.is_err(), "nobody accepts it");
    sleep(10 * SECOND).await;
    let accept = async {
        sleep(3 * SECOND).await;
        server.accept().await.unwrap()
    };
    tokio::select! {
        connected = client.connect(server.local_addr(), server.public_key()) => panic!("{connected:?}"),
        incoming = accept => assert_eq!(incoming.peer_key(), client.public_key()),
    }
}

#[tokio::test(start_paused = true)]
async fn one_side_restarts_again_and_again() {
    let network = network(4, BAD);
    let (server, key) = (endpoint(&network, 1), SecretKey::generate().unwrap());
    let mut before: Option<Connection> = None;
    for round in 0..10u8 {
        // From an empty store, as after a crash that took the ratchet with it.
        let link = network.attach(address(2)).unwrap();
        let client = builder(&key).give_up_after(5 * SECOND).bind_link(link).unwrap();
        let (here, there) = connect(&client, &server).await;
        if let Some(before) = before.take() {
            assert_eq!(before.closed().await, CloseReason::Replaced);
        }
        let answering = tokio::spawn(answer(there.clone()));
        assert_eq!(here.channel(0).unwrap().request(vec![round, 1]).await.unwrap(), vec![round, 1]);
        // It dies in the middle of a transfer: nobody hears anything of it any more.
        let (mut send, _receive) = here.open_stream().await.unwrap();
        send.write_chunk(content(3, 100_000)).await.unwrap();
        network.set_conditions(Conditions { loss: 1.0, ..BAD });
        client.close(0, b"");
        client.wait_idle().await;
        assert_eq!(here.closed().await, CloseReason::TimedOut);
        drop((client, here, send, _receive));
        sleep(SECOND).await;
        network.set_conditions(BAD);
        answering.abort();
        before = Some(there);
    }
    drop(before);
    leaves_nothing([server], &network).await;
}

#[tokio::test(start_paused = true)]
async fn two_hours_of_a_fifth_lost() {
    let network = network(5, Conditions { loss: 0.2, ..BAD });
    let ends = [1, 2].map(|number| {
        let link = network.attach(address(number)).unwrap();
        let builder = builder(&SecretKey::generate().unwrap());
        builder.keep_alive(10 * SECOND).idle_timeout(120 * SECOND).bind_link(link).unwrap()
    });
    let [client, server] = &ends;
    let (here, there) = connect(client, server).await;
    let answering = tokio::spawn(answer(there.clone()));
    let (start, mut asked) = (Instant::now(), 0u32);
    // Past two times of new keys, without which the session ends.
    while start.elapsed() < 7200 * SECOND {
        let question = [&asked.to_be_bytes()[..], &[1]].concat();
        let reply = here.channel(0).unwrap().request_within(60 * SECOND, question.clone()).await;
        assert_eq!(reply.unwrap(), question, "after {:?}", start.elapsed());
        asked += 1;
        // Now and then nothing but signs of life.
        sleep(if asked.is_multiple_of(100) { 300 * SECOND } else { SECOND }).await;
    }
    assert!(asked > 1000);
    assert_eq!((here.close_reason(), there.close_reason()), (None, None));
    assert_eq!(here.close(0, b"").await, CloseReason::Local);
    answering.await.unwrap();
    drop((here, there));
    leaves_nothing(ends, &network).await;
}

/// The client is somewhere else every three seconds: another port, or another host altogether.
#[tokio::test(start_paused = true)]
async fn addresses_change_in_the_middle_of_everything() {
    const LEN: usize = 6 << 20;
    let slow = Some(Bottleneck { rate: 400_000, queue: 60_000 });
    let network = network(9, Conditions { loss: 0.01, bottleneck: slow, ..GOOD });
    let (client, server) = (endpoint(&network, 1), endpoint(&network, 2));
    let (here, there) = connect(&client, &server).await;
    let mut tasks = JoinSet::new();
    for (from, to, seed) in [(&here, &there, 1), (&there, &here, 2)] {
        let (from, to) = (from.clone(), to.clone());
        tasks.spawn(async move {
            let bytes = content(seed, LEN);
            assert!(transfer(from, to, bytes.clone()).await == bytes, "every byte once and in order");
        });
    }
    let answering = tokio::spawn(answer(there.clone()));
    for number in 0..200u32 {
        let channel = here.channel(0).unwrap();
        tasks.spawn(async move {
            sleep(number * SECOND / 10).await;
            let question = [&number.to_be_bytes()[..], &[1]].concat();
            let reply = channel.request_within(60 * SECOND, question.clone()).await;
            assert_eq!(reply.unwrap(), question);
        });
    }
    let (mut moves, mut next) = (0u8, Instant::now() + 3 * SECOND);
    while !tasks.is_empty() {
        tokio::select! {
            task = tasks.join_next() => task.unwrap().unwrap(),
            () = tokio::time::sleep_until(next) => {
                next += 3 * SECOND;
                moves += 1;
                let host = if moves.is_multiple_of(2) { 9 } else { 8 };
                network.translate(address(1), ([10, 0, 0, host], 1000 + u16::from(moves / 2)).into());
                // Whoever moves has something to send, sooner or later: only then can it be found.
                here.send_datagram("here").await.unwrap();
            }
        }
    }
    assert!(moves >= 4, "{moves} moves");
    println!("{moves} moves, {:?}", there.stats());
    // The last move may have been a moment ago.
    let host = std::net::IpAddr::from([10, 0, 0, if moves.is_multiple_of(2) { 9 } else { 8 }]);
    let followed = async {
        while there.remote_address().ip() != host {
            here.send_datagram("here").await.unwrap();
            sleep(SECOND / 10).await;
        }
    };
    tokio::time::timeout(3 * SECOND, followed).await.unwrap();
    assert_eq!(here.remote_address(), server.local_addr());
    assert_eq!(here.close(0, b"").await, CloseReason::Local);
    answering.await.unwrap();
    drop((here, there));
    leaves_nothing([client, server], &network).await;
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_a_fifth_lost_with_a_new_key_every_minute() {
    let network = network(10, Conditions { loss: 0.2, ..BAD });
    let store = Disk::default();
    let link = network.attach(address(1)).unwrap();
    let client = builder(&SecretKey::generate().unwrap()).store(store.clone()).bind_link(link).unwrap();
    let server = endpoint(&network, 2);
    let (here, there) = connect(&client, &server).await;
    let answering = tokio::spawn(answer(there.clone()));
    let (ordered, received) = (here.channel(1).unwrap(), there.channel(1).unwrap());
    let (start, before) = (Instant::now(), store.changes());
    let (mut number, mut answered) = (0u32, 0);
    for minute in 1..=60u32 {
        here.rekey().await;
        let bytes = content(minute.into(), 20_000);
        let stream = transfer(here.clone(), there.clone(), bytes.clone());
        let messages = async {
            for _ in 0..20 {
                number += 1;
                ordered.send_ordered(number.to_be_bytes().to_vec()).await.unwrap();
                assert_eq!(received.receive().await.unwrap().data()[..], number.to_be_bytes());
                let question = [&number.to_be_bytes()[..], &[1]].concat();
                let reply = here.channel(0).unwrap().request_within(50 * SECOND, question.clone()).await;
                match reply {
                    Ok(reply) => {
                        assert_eq!(reply, question);
                        answered += 1;
                    }
                    Err(error) => assert_eq!(error, RequestError::TimedOut),
                }
            }
        };
        let (arrived, ()) = tokio::join!(stream, messages);
        assert!(arrived == bytes, "every byte once and in order");
        tokio::time::sleep_until(start + minute * 60 * SECOND).await;
    }
    let keys = store.changes() - before;
    println!("{keys} changes of the ratchet in {:?}; {:?}", start.elapsed(), here.stats());
    assert!(keys >= 55, "{keys} changes of the ratchet");
    assert!(answered >= number - number / 100, "{answered} of {number} were answered within 50 seconds");
    assert_eq!((here.close_reason(), there.close_reason()), (None, None));
    assert_eq!(here.close(0, b"").await, CloseReason::Local);
    answering.await.unwrap();
    drop((here, there, ordered, received));
    leaves_nothing([client, server], &network).await;
}

/// Each would not get through whole once in ten thousand times, or in a million.
#[tokio::test(start_paused = true)]
async fn large_messages_survive_a_fifth_and_three_tenths_lost() {
    for (seed, loss) in [(7, 0.2), (8, 0.3)] {
        let network = network(seed, GOOD);
        let (client, server) = (endpoint(&network, 1), endpoint(&network, 2));
        let (here, there) = connect(&client, &server).await;
        network.set_conditions(Conditions { loss, ..GOOD });
        let (start, sending, receiving) =
            (Instant::now(), here.channel(1).unwrap(), there.channel(1).unwrap());
        let sent: Vec<Bytes> = (0..20).map(|seed| content(seed, 58_000).into()).collect();
        for message in &sent {
            sending.send_ordered(message.clone()).await.unwrap();
        }
        for message in &sent {
            assert!(receiving.receive().await.unwrap().data() == message, "once and in order");
        }
        sending.flush().await.unwrap();
        println!("{loss} lost: {:?}, {:?}", start.elapsed(), here.stats());
        assert!(start.elapsed() < 150 * SECOND, "{:?}", start.elapsed());
        assert_eq!(here.stats().bytes_in_flight, 0);
        network.set_conditions(GOOD);
        drop((here, there, sending, receiving));
        leaves_nothing([client, server], &network).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_given_up_in_time() {
    let network = network(6, GOOD);
    let (client, server) = (endpoint(&network, 1), endpoint(&network, 2));
    let (here, there) = connect(&client, &server).await;
    let channel = here.channel(0).unwrap();
    let receiving = tokio::spawn(async move { channel.receive().await.is_some() });
    sleep(3600 * SECOND).await;
    assert!(!receiving.is_finished(), "a silent peer that is there stays");
    let silent = Instant::now();
    network.set_conditions(Conditions { loss: 1.0, ..GOOD });
    assert!(!receiving.await.unwrap());
    assert!((15 * SECOND..35 * SECOND).contains(&silent.elapsed()), "{:?}", silent.elapsed());
    assert_eq!((here.closed().await, there.closed().await), (CloseReason::TimedOut, CloseReason::TimedOut));
    network.set_conditions(GOOD);
    drop((here, there));
    leaves_nothing([client, server], &network).await;
}

#[tokio::test(start_paused = true)]
async fn new_keys_under_heavy_load_lose_nothing() {
    let network = network(11, GOOD);
    let store = Disk::default();
    let link = network.attach(address(1)).unwrap();
    let client = builder(&SecretKey::generate().unwrap()).store(store.clone()).bind_link(link).unwrap();
    let server = endpoint(&network, 2);
    let (here, there) = connect(&client, &server).await;
    let before = store.changes();
    let loads: Vec<_> = [(&here, &there), (&there, &here)]
        .into_iter()
        .enumerate()
        .map(|(seed, (from, to))| {
            let bytes = content(seed as u64, 10_000_000);
            let moving = transfer(from.clone(), to.clone(), bytes.clone());
            tokio::spawn(async move { assert!(moving.await == bytes, "every byte once and in order") })
        })
        .collect();
    let mut requested = 0;
    while loads.iter().any(|load| !load.is_finished()) {
        let end = if requested % 2 == 0 { &here } else { &there };
        end.rekey().await;
        requested += 1;
        sleep(SECOND / 10).await;
    }
    for load in loads {
        load.await.unwrap();
    }
    let changes = store.changes() - before;
    println!("{requested} requests, {changes} changes of the ratchet, {:?}", here.stats());
    assert!(changes >= 3, "{changes} changes of the ratchet");
    for stats in [here.stats(), there.stats()] {
        assert_eq!((stats.messages_lost, stats.timeouts), (0, 0));
    }
    assert_eq!((client.stats().faults, server.stats().faults), (0, 0), "nothing failed to open");
    drop((here, there));
    leaves_nothing([client, server], &network).await;
}

/// Somebody sends on a whole rekeying from elsewhere, in both directions, and then is gone; payloads go the straight way all
/// the time.
//= ZSSP-ST-34  where the answers to its questions come from, the endpoint says
#[tokio::test(start_paused = true)]
async fn a_sign_of_life_leads_a_session_back_that_was_led_astray() {
    let network = network(12, GOOD);
    let store = Disk::default();
    let link = network.attach(address(1)).unwrap();
    let client = builder(&SecretKey::generate().unwrap()).store(store.clone()).bind_link(link).unwrap();
    let server = endpoint(&network, 2);
    let (here, there) = connect(&client, &server).await;
    sleep(SECOND).await;

    network.translate(address(1), address(9));
    let before = store.changes();
    here.rekey().await;
    // The first answers go to where the client was.
    sleep(5 * SECOND).await;
    assert_eq!(store.changes(), before + 1);
    network.translate(address(1), address(1));
    // The default keep-alive, and once more, for one of the two asks first.
    sleep(25 * SECOND).await;
    assert_eq!(there.remote_address(), address(1));

    there.rekey().await;
    sleep(SECOND / 2).await;
    assert!(store.changes() > before + 1, "the first copy of the request finds the client");
    drop((here, there));
    leaves_nothing([client, server], &network).await;
}
