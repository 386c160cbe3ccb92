//! A conversation of several replies, in tasks: `cargo run -p seqex --example conversation --features tokio`.
//!
//! Each reply is a packet like any other and can be replied to in turn: both ends know at each step what answers
//! what. The link is a pair of channels in memory; with sockets instead, nothing else changes.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use seqex::{Answer, Clock, Config, Delivery, Driver, Exchange, Guard, Link, Order, Packet};
use tokio::sync::mpsc;

type Text = &'static str;

#[allow(dead_code, reason = "a test calls `run` by itself")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    run(&mut io::stdout()).await
}

pub(crate) async fn run(out: &mut impl Write) -> Result<(), Box<dyn std::error::Error>> {
    let (alice, alice_driver) = Exchange::<Text>::new(Config::default(), Clock::default());
    let (bob, bob_driver) = Exchange::<Text>::new(Config::default(), Clock::default());
    let ((to_bob, at_bob), (to_alice, at_alice)) = (mpsc::channel(16), mpsc::channel(16));
    drive(alice_driver, to_bob, at_alice);
    drive(bob_driver, to_alice, at_bob);
    let bob = tokio::spawn(answer(bob));

    let mut request = alice.request(Order::Ordered, "Is there a train to Ulm?");
    for next in ["When does it leave?", "From which platform?", "Thank you!"] {
        match request.within(Duration::from_secs(5)).await? {
            Answer::Acknowledged { sent, .. } => writeln!(out, "Alice: {sent}\n       (a nod)")?,
            Answer::Reply { token, data, sent, .. } => {
                writeln!(out, "Alice: {sent}\n  Bob: {data}")?;
                request = token.request(Order::Ordered, next);
                continue;
            }
        }
        break;
    }
    Ok(bob.await?)
}

/// The other end of the conversation.
async fn answer(exchange: Exchange<Text>) {
    let Ok(Delivery::Payload { mut token, .. }) = exchange.receive().await else { return };
    for reply in ["Yes, there is.", "At a quarter past nine.", "Platform 4."] {
        match token.request(Order::Ordered, reply).await {
            Ok(Answer::Reply { token: next, .. }) => token = next,
            Ok(Answer::Acknowledged { .. }) | Err(_) => return,
        }
    }
    acknowledge(token);
}

/// The last word needs no reply.
fn acknowledge(token: Guard<Text, Text>) {
    token.acknowledge();
}

/// The tasks of one end of the link: the time, what goes out, and what comes in. They end with the exchange, and the
/// exchange with its driver.
fn drive(
    driver: Driver<Text>,
    to_peer: mpsc::Sender<Packet<Text>>,
    mut from_peer: mpsc::Receiver<Packet<Text>>,
) {
    let driver = Arc::new(driver);
    let timers = Arc::clone(&driver);
    tokio::spawn(async move { seqex::tokio::keep_time(&*timers).await });
    let receiver = Arc::clone(&driver);
    tokio::spawn(async move {
        while let Some(packet) = from_peer.recv().await {
            receiver.receive(packet);
        }
    });
    tokio::spawn(async move {
        while driver.transmittable().await.is_ok() {
            let packet = driver.transmit(|packet| packet.map(|text| *text));
            if let Some(packet) = packet
                && to_peer.send(packet).await.is_err()
            {
                return;
            }
        }
    });
}
