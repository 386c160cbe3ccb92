//! Futures that are dropped after each number of polls there is: what they were for is done or not, nothing is lost, and
//! others get on.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use zssp::link::memory::Network;
use zssp::{Bytes, Channel, CloseReason, Connection, Endpoint, RequestError, SendStream};

use crate::common::simulation::*;

/// Polls `future` that often, each time when it was woken, and drops it. Yields what came of it by then.
async fn cut<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let (mut future, mut left) = (pin!(future), polls);
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

/// Has `scenario` cut something after no poll, after one and so on, each time on a new connection, until it says that it was
/// over before that. Nothing may be left of any.
async fn after_each_poll(scenario: impl AsyncFn(&Pair, usize) -> bool) {
    for polls in 0.. {
        let pair = Pair::new().await;
        let is_over = timeout(300 * SECOND, scenario(&pair, polls)).await;
        let is_over = is_over.unwrap_or_else(|_| panic!("something hangs after {polls} polls"));
        pair.leaves_nothing().await;
        if is_over {
            assert!(polls > 0, "nothing was polled");
            break;
        }
    }
}

/// Two endpoints and their connection.
struct Pair {
    network: Network,
    client: Endpoint,
    server: Endpoint,
    here: Connection,
    there: Connection,
}

impl Pair {
    async fn new() -> Self {
        let network = network(1, GOOD);
        let (client, server) = (endpoint(&network, 1), endpoint(&network, 2));
        let (here, there) = connect(&client, &server).await;
        Self { network, client, server, here, there }
    }

    fn channels(&self) -> [Channel; 2] {
        [&self.here, &self.there].map(|connection| connection.channel(0).unwrap())
    }

    async fn leaves_nothing(self) {
        drop((self.here, self.there));
        leaves_nothing([self.client, self.server], &self.network).await;
    }
}

const LARGE: usize = 50_000;

#[tokio::test(start_paused = true)]
async fn a_message_is_sent_once_or_not_at_all() {
    for is_full in [false, true] {
        after_each_poll(async |pair, polls| {
            let [send, receive] = pair.channels();
            let message = Bytes::from(vec![1; LARGE]);
            let mut expected = 0;
            while is_full && send.try_send(message.clone()).is_ok() {
                expected += 1;
            }
            let receiving = tokio::spawn(async move {
                let mut received = 0;
                loop {
                    let message = receive.receive().await.unwrap();
                    if message.data().len() < LARGE {
                        return received;
                    }
                    received += 1;
                }
            });
            let sent = cut(polls, send.send(message)).await;
            expected += usize::from(sent.is_some());
            send.flush().await.unwrap();
            send.try_send_ordered("that was all").unwrap();
            assert_eq!(receiving.await.unwrap(), expected);
            sent.is_some()
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_taken_once_at_most_and_the_next_has_its_own_reply() {
    after_each_poll(async |pair, polls| {
        let [asking, answering] = pair.channels();
        let answers = tokio::spawn(async move {
            let mut answers = 0;
            while let Some(question) = answering.receive().await {
                answers += usize::from(question.data() == "the first");
                let echo = question.data().clone();
                question.reply(echo).unwrap();
            }
            answers
        });
        let reply = cut(polls, asking.request("the first")).await;
        assert_eq!(asking.request("the second").await.unwrap(), "the second");
        assert_eq!(pair.here.close(0, b"").await, CloseReason::Local);
        assert!(answers.await.unwrap() <= 1);
        reply.is_some_and(|reply: Result<Bytes, RequestError>| reply.unwrap() == "the first")
    })
    .await;
}

/// One waits for what another gets that was there before: of a message, a datagram, a stream.
#[tokio::test(start_paused = true)]
async fn what_has_come_is_left_for_others() {
    after_each_poll(async |pair, polls| {
        let [send, receive] = pair.channels();
        let other = tokio::spawn({
            let receive = receive.clone();
            async move { receive.receive().await.unwrap().into_data() }
        });
        let sending = async {
            for number in 0..2_u8 {
                send.send(vec![number]).await.unwrap();
            }
        };
        let (taken, ()) = tokio::join!(cut(polls, receive.receive()), sending);
        let mut all = vec![other.await.unwrap()];
        let is_over = taken.is_some();
        match taken {
            Some(message) => all.push(message.unwrap().into_data()),
            None => all.push(receive.receive().await.unwrap().into_data()),
        }
        all.sort();
        assert_eq!(all, [vec![0], vec![1]]);
        is_over
    })
    .await;
    after_each_poll(async |pair, polls| {
        let there = pair.there.clone();
        let other = tokio::spawn(async move { there.read_datagram().await.unwrap() });
        let sending = async {
            for number in 0..2_u8 {
                pair.here.send_datagram(vec![number]).await.unwrap();
            }
        };
        let (taken, ()) = tokio::join!(cut(polls, pair.there.read_datagram()), sending);
        let is_over = taken.is_some();
        let last = match taken {
            Some(taken) => taken.unwrap(),
            None => pair.there.read_datagram().await.unwrap(),
        };
        let mut all = [other.await.unwrap(), last];
        all.sort();
        assert_eq!(all, [vec![0], vec![1]]);
        is_over
    })
    .await;
    after_each_poll(async |pair, polls| {
        let there = pair.there.clone();
        let other = tokio::spawn(async move { there.accept_stream().await.unwrap().0.id() });
        let mut opened = Vec::new();
        for _ in 0..2 {
            opened.push(pair.here.open_stream().await.unwrap().0.id());
        }
        let taken = cut(polls, pair.there.accept_stream()).await;
        let is_over = taken.is_some();
        let last = match taken {
            Some(taken) => taken.unwrap(),
            None => pair.there.accept_stream().await.unwrap(),
        };
        let mut all = [other.await.unwrap(), last.0.id()];
        all.sort();
        assert_eq!(all, opened[..]);
        drop(last);
        is_over
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_datagram_that_found_no_room_leaves_it_to_the_next() {
    after_each_poll(async |pair, polls| {
        let datagram = Bytes::from(vec![0; 10_000]);
        while pair.here.try_send_datagram(datagram.clone()).is_ok() {}
        let sent = cut(polls, pair.here.send_datagram(datagram.clone())).await;
        pair.here.send_datagram(datagram).await.unwrap();
        sent.is_some()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_place_of_a_stream_goes_to_whoever_still_waits() {
    after_each_poll(async |pair, polls| {
        let mut open = Vec::new();
        while let Ok(stream) = timeout(SECOND, pair.here.open_stream()).await {
            open.push(stream.unwrap());
        }
        let here = pair.here.clone();
        let other = tokio::spawn(async move { here.open_stream().await.unwrap().0.id() });
        let there = pair.there.clone();
        tokio::spawn(async move {
            while let Ok((_send, mut receive)) = there.accept_stream().await {
                tokio::spawn(async move { receive.read_to_end(0).await });
            }
        });
        let (opened, ()) = tokio::join!(cut(polls, pair.here.open_stream()), async {
            tokio::task::yield_now().await;
            // One place, and then another where that was taken.
            open.pop();
            sleep_a_little().await;
            open.pop();
        });
        other.await.unwrap();
        let is_over = opened.is_some();
        drop((opened, open));
        is_over
    })
    .await;
}

async fn sleep_a_little() {
    tokio::time::sleep(SECOND).await;
}

/// Writes until nothing more is accepted, and yields how much that was.
async fn fill(send: &mut SendStream) -> usize {
    let mut written = 0;
    while let Ok(some) = timeout(SECOND, send.write(&[1; LARGE])).await {
        written += some.unwrap();
    }
    written
}

#[tokio::test(start_paused = true)]
async fn what_a_write_that_was_given_up_has_not_accepted_does_not_come() {
    after_each_poll(async |pair, polls| {
        let (mut send, _receive) = pair.here.open_stream().await.unwrap();
        let mut written = fill(&mut send).await;
        let there = pair.there.clone();
        let reading = tokio::spawn(async move {
            let (_send, mut receive) = there.accept_stream().await.unwrap();
            let mut read = 0;
            // As a loop does that looks at something else as well: a read that is given up has taken nothing.
            loop {
                match cut(1, receive.read_chunk()).await {
                    Some(Ok(Some(chunk))) => read += chunk.len(),
                    Some(end) => break end.map(|_| read),
                    None => tokio::task::yield_now().await,
                }
                if let Ok(Some(chunk)) = receive.read_chunk().await {
                    read += chunk.len();
                }
            }
        });
        let some = cut(polls, send.write(&[2; LARGE])).await;
        let is_over = some.is_some();
        written += some.map_or(0, |some| some.unwrap());
        send.write_all(&[3; LARGE]).await.unwrap();
        send.finish().unwrap();
        send.stopped().await.unwrap();
        assert_eq!(reading.await.unwrap().unwrap(), written + LARGE);
        drop((send, _receive));
        is_over
    })
    .await;
}

/// Whoever only waits may do so again, and beside others.
#[tokio::test(start_paused = true)]
async fn waiting_can_be_given_up_and_taken_up_again() {
    after_each_poll(async |pair, polls| {
        let [send, receive] = pair.channels();
        let (mut stream, _receive) = pair.here.open_stream().await.unwrap();
        send.send("a message").await.unwrap();
        stream.write_all(b"bytes").await.unwrap();
        stream.finish().unwrap();
        let there = pair.there.clone();
        tokio::spawn(async move {
            sleep_a_little().await;
            drop(receive.receive().await);
            let (_send, mut reading) = there.accept_stream().await.unwrap();
            reading.read_to_end(5).await.unwrap();
        });
        let mut is_over = cut(polls, send.flush()).await.is_some();
        is_over &= cut(polls, stream.stopped()).await.is_some();
        let (flushed, stopped) = tokio::join!(send.flush(), stream.stopped());
        assert_eq!((flushed, stopped), (Ok(()), Ok(())));
        is_over &= cut(polls, pair.here.close(3, b"")).await.is_some();
        is_over &= cut(polls, pair.here.closed()).await.is_some() || polls > 0;
        // Without a poll there was no close.
        if polls > 0 {
            assert_eq!(pair.here.closed().await, CloseReason::Local);
        }
        drop((stream, _receive));
        is_over &= cut(polls, pair.client.wait_idle()).await.is_some() || polls > 0;
        is_over
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_was_given_up_is_in_nobodys_way() {
    after_each_poll(async |pair, polls| {
        let Pair { client, server, .. } = pair;
        let serving = tokio::spawn(serve(server.clone()));
        let attempt = cut(polls, client.connect(server.local_addr(), server.public_key())).await;
        let is_over = attempt.is_some();
        drop(attempt);
        gets_through(client, server).await;
        serving.abort();
        is_over
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_was_not_accepted_after_all_gets_in_the_next_time() {
    after_each_poll(async |pair, polls| {
        let Pair { client, server, .. } = pair;
        let first = async {
            let accepted = cut(polls, server.accept().await.unwrap().accept()).await;
            let is_over = accepted.is_some();
            drop(accepted);
            (is_over, tokio::spawn(serve(server.clone())))
        };
        let ((is_over, serving), ()) = tokio::join!(first, gets_through(client, server));
        serving.abort();
        is_over
    })
    .await;
}

/// Answers everybody.
async fn serve(server: Endpoint) {
    while let Some(incoming) = server.accept().await {
        if let Ok(connection) = incoming.accept().await {
            tokio::spawn(answer(connection));
        }
    }
}

/// Connects until a request is answered: what was given up may have come about in that moment, and ends then.
async fn gets_through(client: &Endpoint, server: &Endpoint) {
    loop {
        let Ok(connection) = client.connect(server.local_addr(), server.public_key()).await else { continue };
        if connection.channel(0).unwrap().request(vec![1]).await.is_ok() {
            break;
        }
    }
}
