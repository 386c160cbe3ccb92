//! The application that sends: bulk messages from several threads, and control messages in order.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use seqex::Order;

use crate::content::Packer;
use crate::node::{Channel, Error, Node};

/// What to send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Bulk messages.
    pub(crate) messages: u64,
    /// Bytes of each.
    pub(crate) len: usize,
    /// The level of compression, if any.
    pub(crate) level: Option<i32>,
    pub(crate) threads: u16,
}

/// So many bulk messages for each control message.
const BULK_PER_CONTROL: u64 = 100;

/// Sends everything, and waits until the peer's application has acknowledged it.
pub(crate) fn run(node: &Node, load: Load) -> Result<(), Error> {
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        let sources: Vec<_> = (0..load.threads)
            .map(|_| scope.spawn(|| node.counters.sources.run(|| bulk(node, load, &next))))
            .collect();
        let mut controls = 0;
        // As the bulk goes on, in between.
        while !sources.iter().all(thread::ScopedJoinHandle::is_finished) {
            if next.load(Ordering::Relaxed) / BULK_PER_CONTROL >= controls {
                control(node, controls, None)?;
                controls += 1;
            } else {
                thread::sleep(Duration::from_millis(1));
            }
        }
        for source in sources {
            source.join().map_err(|_| "a source panicked")??;
        }
        control(node, controls, Some(load.messages))
    })?;
    while !node.bulk.is_idle() || !node.control.is_idle() {
        if node.stop.load(Ordering::Relaxed) {
            return Err("stopped".into());
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn bulk(node: &Node, load: Load, next: &AtomicU64) -> Result<(), Error> {
    let (mut packer, mut content) = (Packer::new(load.level)?, Vec::new());
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= load.messages {
            return Ok(());
        }
        node.pattern.write(number, load.len, &mut content);
        send(node, &node.bulk, Order::Unordered, |message| packer.pack(&content, message))?;
    }
}

fn control(node: &Node, number: u64, total: Option<u64>) -> Result<(), Error> {
    let mut content = number.to_be_bytes().to_vec();
    content.extend(total.map(u64::to_be_bytes).iter().flatten());
    send(node, &node.control, Order::Ordered, |message| Packer::new(None)?.pack(&content, message))
}

/// Fills a buffer of the pool and sends it, as soon as there is room.
fn send(
    node: &Node,
    channel: &Channel,
    order: Order,
    fill: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
) -> Result<(), Error> {
    let mut shared = node.outgoing.take();
    // A thread that sends it once more may still have it: then it is left to that thread.
    let message = match Arc::get_mut(&mut shared) {
        Some(message) => message,
        None => {
            shared = Arc::default();
            Arc::get_mut(&mut shared).ok_or("a new buffer is shared")?
        }
    };
    message.clear();
    fill(message)?;
    if !node.in_flight.take(shared.len()) {
        return Err("stopped".into());
    }
    channel.send(order, shared).wait().map_err(|_| "the channel is closed")?;
    Ok(())
}
