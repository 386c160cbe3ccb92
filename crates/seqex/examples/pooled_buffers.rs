//! The user's own pooled buffers, and no allocation in the steady state:
//! `cargo run -p seqex --example pooled_buffers`.
//!
//! Data is moved into the exchange, lent to the link, and moved back out with its answer; it is never cloned. So a
//! buffer from a pool returns to the pool by itself when the peer has acknowledged it. The example counts allocations.

use std::io::{self, Write};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use seqex::{Clock, Config, Delivery, Driver, Exchange, Order};

#[allow(dead_code, reason = "a test calls `run` by itself")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    run(&mut io::stdout())
}

pub(crate) fn run(out: &mut impl Write) -> Result<(), Box<dyn std::error::Error>> {
    let pool = Pool::default();
    let config = Config::default();
    let (sender, sender_driver) = Exchange::<Buffer>::new(config, Clock::default());
    let (receiver, receiver_driver) = Exchange::<Buffer>::new(config, Clock::default());
    let mut total = 0_u64;
    let mut exchange = |messages: u32| -> Result<(), Box<dyn std::error::Error>> {
        for message in 0..messages {
            let mut buffer = pool.take();
            buffer.extend_from_slice(&message.to_be_bytes());
            sender.try_send(Order::Ordered, buffer)?;
            carry(&sender_driver, &receiver_driver, &pool);
            if let Some(Delivery::Payload { token, data }) = receiver.try_receive()? {
                total += data.iter().map(|&byte| u64::from(byte)).sum::<u64>();
                token.acknowledge();
            }
            carry(&receiver_driver, &sender_driver, &pool);
            // The buffer comes back, and goes home to the pool.
            drop(sender.try_receive()?);
        }
        Ok(())
    };

    exchange(1000)?; // Queues and pool grow to what they need.
    let mut result = Ok(());
    let counted = allocation_counter::measure(|| result = exchange(100_000));
    result?;
    writeln!(
        out,
        "100000 messages moved, with {} allocations and {} buffers in the pool (checksum {total})",
        counted.count_total,
        pool.len(),
    )?;
    Ok(())
}

/// A link in memory: it copies the bytes into a buffer of the receiver's, as reading from a socket would.
fn carry(from: &Driver<Buffer>, to: &Driver<Buffer>, pool: &Pool) {
    let copy = |data: &Buffer| {
        let mut copy = pool.take();
        copy.extend_from_slice(data);
        copy
    };
    while let Some(packet) = from.transmit(|packet| packet.map(copy)) {
        to.receive(packet);
    }
}

/// Buffers that were used and can be used again.
#[derive(Clone, Debug, Default)]
struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

/// A buffer that returns to its pool.
#[derive(Debug)]
struct Buffer {
    bytes: Vec<u8>,
    home: Pool,
}

impl Pool {
    fn take(&self) -> Buffer {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        Buffer { bytes, home: self.clone() }
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        self.home.0.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}
