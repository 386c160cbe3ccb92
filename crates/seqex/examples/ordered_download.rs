//! A file in ordered chunks over a link that loses a third of all packets:
//! `cargo run -p seqex --example ordered_download`.
//!
//! The client asks for the file once. The server sends its chunks as ordered packets, so that they are written as they
//! come out, without numbers of their own and without sorting. Link and clock are simulated: it takes no time.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::Duration;

use seqex::{Clock, Closed, Config, Delivery, Driver, Exchange, Link, Order, Packet};

const CHUNK: usize = 1000;
const DELAY: Duration = Duration::from_millis(20);

#[allow(dead_code, reason = "a test calls `run` by itself")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    run(&mut io::stdout())
}

pub(crate) fn run(out: &mut impl Write) -> Result<(), Box<dyn std::error::Error>> {
    let file: Vec<u8> = (0..100_000_u32).flat_map(u32::to_be_bytes).collect();
    let clock = Clock::manual();
    let (client, client_driver) = Exchange::<Vec<u8>>::new(Config::default(), clock.clone());
    let (server, server_driver) = Exchange::<Vec<u8>>::new(Config::default(), clock.clone());
    let mut link = Wire { clock: clock.clone(), under_way: VecDeque::new(), random: 1, carried: 0, lost: 0 };

    client.try_send(Order::Ordered, b"file".to_vec())?;
    let mut chunks = None;
    let mut received = Vec::new();
    while received.len() < file.len() {
        // The server: the request starts a download, and then chunks go out while there is room.
        if let Some(delivery) = server.try_receive()?
            && let Delivery::Payload { token, data } = delivery
            && data == b"file"
        {
            token.acknowledge();
            chunks = Some(file.chunks(CHUNK));
        }
        if let Some(chunks) = &mut chunks {
            while server.can_send().is_ok()
                && let Some(chunk) = chunks.next()
            {
                server.try_send(Order::Ordered, chunk.to_vec())?;
            }
        }
        save(&client, &mut received)?;
        link.step([&client_driver, &server_driver])?;
    }
    assert!(received == file, "what arrived is not the file");
    writeln!(
        out,
        "{} bytes arrived in order, in {:.1} s of the link's time; {} of {} packets were lost on the way",
        received.len(),
        clock.now().as_secs_f64(),
        link.lost,
        link.carried + link.lost,
    )?;
    Ok(())
}

/// The client: each chunk is appended and acknowledged.
fn save(client: &Exchange<Vec<u8>>, file: &mut Vec<u8>) -> Result<(), Closed> {
    while let Some(delivery) = client.try_receive()? {
        if let Delivery::Payload { token, data } = delivery {
            file.extend_from_slice(&data);
            token.acknowledge();
        }
    }
    Ok(())
}

/// A link with a delay, from either end to the other.
struct Wire {
    clock: Clock,
    /// When each packet arrives at which end.
    under_way: VecDeque<(Duration, usize, Packet<Vec<u8>>)>,
    random: u32,
    carried: usize,
    lost: usize,
}

impl Wire {
    /// Lets time pass until something happens.
    fn step(&mut self, ends: [&Driver<Vec<u8>>; 2]) -> Result<(), seqex::Ended> {
        for (end, driver) in ends.into_iter().enumerate() {
            let mut transmits = driver.transmits();
            while let Some(packet) = transmits.next_packet() {
                self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if self.random < u32::MAX / 3 {
                    self.lost += 1;
                } else {
                    self.carried += 1;
                    self.under_way.push_back((self.clock.now() + DELAY, 1 - end, packet.map(Clone::clone)));
                }
            }
        }
        let arrival = self.under_way.front().map(|&(at, ..)| at);
        let deadlines = ends.into_iter().filter_map(Link::next_deadline);
        let next = deadlines.chain(arrival).min().unwrap_or_default();
        self.clock.advance(next.saturating_sub(self.clock.now()));
        while self.under_way.front().is_some_and(|&(at, ..)| at <= self.clock.now())
            && let Some((_, end, packet)) = self.under_way.pop_front()
        {
            ends[end].receive(packet);
        }
        ends.into_iter().try_for_each(Link::handle_timeout)
    }
}
