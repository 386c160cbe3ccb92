//! A request and reply service over UDP, with threads and nothing else: `cargo run -p seqex --example request_reply`.
//!
//! A server with two workers adds up numbers; three clients in threads of their own share one exchange with it. Each
//! end has a thread that transmits and keeps the time, and one that receives.

use std::io::{self, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::thread;

use seqex::encoding::{self, AckWriter, Frame};
use seqex::{Answer, Clock, Config, Delivery, Driver, Exchange, Link, Order, Packet};

type Bytes = Vec<u8>;

/// The channel id in front of our packets; there is only one exchange.
const CHANNEL: encoding::ChannelId = 0;

#[allow(dead_code, reason = "a test calls `run` by itself")]
fn main() -> io::Result<()> {
    run(&mut io::stdout())
}

pub(crate) fn run(out: &mut impl Write) -> io::Result<()> {
    let sockets = [UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?, UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?];
    sockets[0].connect(sockets[1].local_addr()?)?;
    sockets[1].connect(sockets[0].local_addr()?)?;
    let (client, client_driver) = Exchange::<Bytes>::new(Config::default(), Clock::default());
    let (server, server_driver) = Exchange::<Bytes>::new(Config::default(), Clock::default());

    thread::scope(|scope| {
        for (driver, socket) in [(&client_driver, &sockets[0]), (&server_driver, &sockets[1])] {
            scope.spawn(|| transmit(driver, socket));
            scope.spawn(|| receive(driver, socket));
        }
        for _ in 0..2 {
            scope.spawn(|| serve(&server));
        }
        let clients = [10, 100, 1000].map(|last| {
            let client = client.clone();
            scope.spawn(move || {
                let answer = client.request(Order::Unordered, numbers(1..=last)).wait().expect("an answer");
                let Answer::Reply { data, sent, .. } = answer else { panic!("the server always replies") };
                // What was asked comes back with the answer, so there is nothing to look up.
                (sent.len() / 8, u64::from_be_bytes(data.try_into().expect("eight bytes")))
            })
        });
        for client in clients {
            let (count, sum) = client.join().expect("a client without panic");
            writeln!(out, "the sum of {count} numbers is {sum}")?;
        }

        // Closing ends every wait, and with it every thread. An empty datagram ends those that wait for the network.
        for (exchange, socket) in [(&client, &sockets[1]), (&server, &sockets[0])] {
            drop(exchange.close());
            socket.send(&[])?;
        }
        Ok(())
    })
}

/// Answers until the exchange is closed.
fn serve(exchange: &Exchange<Bytes>) {
    while let Ok(delivery) = exchange.receive().wait() {
        match delivery {
            Delivery::Payload { token, data } | Delivery::Reply { token, data, .. } => {
                let numbers =
                    data.chunks_exact(8).map(|n| u64::from_be_bytes(n.try_into().expect("eight bytes")));
                let sum: u64 = numbers.sum();
                // It fails only when the exchange was closed, which the next `receive` says, too.
                let _ = token.reply(Order::Unordered, sum.to_be_bytes().to_vec());
            }
            // The client has our reply.
            Delivery::Acknowledged { .. } => {}
        }
    }
}

/// Transmits and keeps the time until the exchange is closed.
fn transmit(driver: &Driver<Bytes>, socket: &UdpSocket) {
    while driver.wait().is_ok() {
        while let Some(datagram) = driver.transmit(|packet| encode(&packet)) {
            // A datagram that the system does not take is lost like any other.
            let _ = socket.send(&datagram);
        }
    }
}

fn receive(driver: &Driver<Bytes>, socket: &UdpSocket) {
    let mut buffer = [0; 65536];
    while let Ok(len) = socket.recv(&mut buffer)
        && len > 0
    {
        for frame in encoding::frames(&buffer[..len]) {
            match frame {
                Ok(Frame::Ack(CHANNEL, ack)) => drop(driver.receive(Packet::Ack(ack))),
                Ok(Frame::Message(CHANNEL, message)) => {
                    drop(driver.receive(Packet::Message(message.map(<[u8]>::to_vec))));
                }
                // Another channel, or not our encoding.
                _ => {}
            }
        }
    }
}

fn encode(packet: &Packet<&Bytes>) -> Bytes {
    match packet {
        Packet::Ack(ack) => {
            let mut datagram = vec![0; encoding::ACK_LEN];
            let mut writer = AckWriter::new(&mut datagram, CHANNEL);
            writer.push(ack).expect("room for one acknowledgement");
            let len = writer.len();
            datagram.truncate(len);
            datagram
        }
        Packet::Message(message) => {
            let message = message.map(Vec::as_slice);
            let mut datagram = vec![0; encoding::message_len(&message)];
            encoding::put_message(&mut datagram, CHANNEL, &message).expect("a buffer of the right size");
            datagram
        }
    }
}

fn numbers(range: std::ops::RangeInclusive<u64>) -> Bytes {
    range.flat_map(u64::to_be_bytes).collect()
}
