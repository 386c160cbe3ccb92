//! What is still answered when a connection ends, and what is not, with the clock paused.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use common::simulation::*;
use tokio::time::sleep;
use zssp::{CloseReason, Connection, Message, RequestError, SendError};

/// A question that the peer's application has taken, and the task that waits for its reply.
async fn ask(here: &Connection, there: &Connection) -> (tokio::task::JoinHandle<Reply>, Message) {
    let (asking, answering) = (here.channel(0).unwrap(), there.channel(0).unwrap());
    let asked = tokio::spawn(async move { asking.request("a question").await.map(|reply| reply.to_vec()) });
    (asked, answering.receive().await.unwrap())
}

type Reply = Result<Vec<u8>, RequestError>;

#[tokio::test(start_paused = true)]
async fn a_message_keeps_its_connection_open() {
    let network = network(4, GOOD);
    let (client, server) = (endpoint(&network, 1), endpoint(&network, 2));
    let (here, there) = connect(&client, &server).await;
    let (asked, question) = ask(&here, &there).await;
    // As a server whose task for the connection is done, while that for the message is not.
    drop(there);
    sleep(60 * SECOND).await;
    question.reply("an answer").await.unwrap();
    assert_eq!(asked.await.unwrap().unwrap(), b"an answer");
    assert_eq!(here.closed().await, CloseReason::Peer { code: 0, reason: [].into() });
    drop(here);
    leaves_nothing([client, server], &network).await;
}
