//! What is still answered when a connection ends, and what is not, with the clock paused.

use tokio::time::{Instant, sleep};
use zssp::{CloseReason, Connection, Message, RequestError, SendError};

use crate::common::simulation::*;

/// A question that the peer's application has taken, and the task that waits for its reply.
async fn ask(here: &Connection, there: &Connection) -> (tokio::task::JoinHandle<Reply>, Message) {
    let (asking, answering) = (here.channel(0).unwrap(), there.channel(0).unwrap());
    let asked = tokio::spawn(async move { asking.request("a question").await.map(|reply| reply.to_vec()) });
    (asked, answering.receive().await.unwrap())
}

type Reply = Result<Vec<u8>, RequestError>;

/// What whoever asked hears when the peer closes with `code` in place of a reply.
fn closed_by_peer(code: u32) -> Reply {
    Err(RequestError::Send(SendError::Closed(CloseReason::Peer { code, reason: [].into() })))
}

#[tokio::test(start_paused = true)]
async fn a_message_that_the_application_holds_is_answered_before_the_end() {
    let network = network(1, GOOD);
    let (client, server) = (endpoint(&network, 1), endpoint(&network, 2));
    let (here, there) = connect(&client, &server).await;
    let (asked, question) = ask(&here, &there).await;
    let closing = tokio::spawn(async move { there.close(0, b"").await });
    sleep(10 * SECOND).await;
    assert_eq!(here.close_reason(), None, "the close waits for the reply");
    question.reply("an answer").unwrap();
    assert_eq!(asked.await.unwrap().unwrap(), b"an answer");
    assert_eq!(closing.await.unwrap(), CloseReason::Local);
    assert_eq!(here.closed().await, CloseReason::Peer { code: 0, reason: [].into() });
}

#[tokio::test(start_paused = true)]
async fn a_close_does_not_wait_for_what_is_dropped() {
    let network = network(2, GOOD);
    let (client, server) = (endpoint(&network, 1), endpoint(&network, 2));
    let (here, there) = connect(&client, &server).await;
    let (asked, question) = ask(&here, &there).await;
    let closing = tokio::spawn(async move { there.close(0, b"").await });
    sleep(SECOND).await;
    let start = Instant::now();
    drop(question);
    assert!(asked.await.unwrap().is_err());
    assert_eq!(closing.await.unwrap(), CloseReason::Local);
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_held_for_ever_does_not_keep_a_connection_that_closes() {
    let network = network(3, GOOD);
    let (client, server) = (endpoint(&network, 1), endpoint(&network, 2));
    let (here, there) = connect(&client, &server).await;
    let (asked, question) = ask(&here, &there).await;
    let start = Instant::now();
    assert_eq!(there.close(3, b"").await, CloseReason::Local);
    assert!((30 * SECOND..35 * SECOND).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!(question.reply("too late"), Err(SendError::Closed(CloseReason::Local)));
    assert_eq!(asked.await.unwrap(), closed_by_peer(3));
    drop((here, there));
    leaves_nothing([client, server], &network).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_keeps_its_connection_open() {
    let network = network(4, GOOD);
    let (client, server) = (endpoint(&network, 1), endpoint(&network, 2));
    let (here, there) = connect(&client, &server).await;
    let (asked, question) = ask(&here, &there).await;
    // As a server whose task for the connection is done, while that for the message is not.
    drop(there);
    sleep(60 * SECOND).await;
    question.reply("an answer").unwrap();
    assert_eq!(asked.await.unwrap().unwrap(), b"an answer");
    assert_eq!(here.closed().await, CloseReason::Peer { code: 0, reason: [].into() });
    drop(here);
    leaves_nothing([client, server], &network).await;
}

#[tokio::test(start_paused = true)]
async fn an_abort_waits_for_nobody() {
    let network = network(5, GOOD);
    let (client, server) = (endpoint(&network, 1), endpoint(&network, 2));
    let (here, there) = connect(&client, &server).await;
    let (asked, question) = ask(&here, &there).await;
    there.channel(0).unwrap().send("never received").await.unwrap();
    let start = Instant::now();
    there.abort(8, b"");
    assert_eq!(there.closed().await, CloseReason::Aborted);
    assert!(start.elapsed().is_zero());
    assert_eq!(question.reply("an answer"), Err(SendError::Closed(CloseReason::Aborted)));
    assert_eq!(asked.await.unwrap(), closed_by_peer(8));
    // What ended it is what counts.
    there.abort(9, b"");
    assert_eq!(there.close(9, b"").await, CloseReason::Aborted);
    drop((here, there));
    leaves_nothing([client, server], &network).await;
    assert!(start.elapsed() < 2 * SECOND, "{:?}", start.elapsed());
}
