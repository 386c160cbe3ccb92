//! From frames to the windows of the channels. Nothing here waits for anybody but the link.

use std::time::Instant;

use seqex::encoding::{ChannelId, Frame, frames};
use seqex::{Message, Packet};
use zssp_ethernet::{Batch, EthernetAddress, Received as Arrived, Receiver};
use zssp_proto::{Address, Datagram, Fault, Received, Scratch};

use crate::node::{Incoming, Node};

pub(crate) fn run(node: &Node, mut receiver: Receiver) {
    let mut thread = Thread { node, scratch: Scratch::new(), payload: node.incoming.take() };
    loop {
        match receiver.receive(None) {
            Ok(Arrived::Batch(batch)) => thread.batch(&batch),
            Ok(Arrived::Nothing) => {}
            Ok(Arrived::Woken) => break,
            Err(error) => {
                eprintln!("{error}");
                break;
            }
        }
    }
    if let Ok(statistics) = receiver.statistics() {
        node.counters.frames_received.add(statistics.frames);
        node.counters.ring_dropped.add(statistics.dropped);
    }
}

struct Thread<'a> {
    node: &'a Node,
    scratch: Scratch,
    /// Where the next payload goes. When one came, another takes its place.
    payload: Vec<u8>,
}

impl Thread<'_> {
    fn batch(&mut self, batch: &Batch<'_>) {
        let (now, node) = (Instant::now(), self.node);
        let interface = node.sender.address().interface;
        for frame in batch.frames() {
            let from = Address::from(EthernetAddress { interface, mac: frame.source });
            let datagram = Datagram { from, bytes: frame.bytes };
            // The only copy: the ring is not ours to change, so the payload is opened into a buffer.
            let received = node.context.receive_into(now, datagram, &mut self.scratch, &mut self.payload);
            let message = match received {
                Ok(Received::Reply(challenge)) => {
                    if node.sender.send(frame.source, [&challenge[..]]).is_err() {
                        node.counters.unsent.add(1);
                    }
                    None
                }
                other => opened(node, other).ok().flatten(),
            };
            self.deliver(message);
        }
        // What other threads may have the rest of.
        loop {
            let received = node.context.flush_into(now, &mut self.scratch, &mut self.payload);
            if matches!(received, Ok(Received::Nothing)) {
                break;
            }
            let message = opened(node, received).ok().flatten();
            self.deliver(message);
        }
    }

    /// Puts a message into its window, in the buffer where it was opened.
    fn deliver(&mut self, message: Option<(ChannelId, Message<usize>)>) {
        let Some((channel, message)) = message else { return };
        let payload = std::mem::replace(&mut self.payload, self.node.incoming.take());
        let packet = Packet::Message(message.map(|start| Incoming { payload, start }));
        let dropped = match self.node.driver.receive(channel, packet) {
            Ok(seqex::Received::Dropped { reason, data }) => {
                let counters = &self.node.counters;
                match reason {
                    seqex::DropReason::Duplicate => counters.repeated.add(1),
                    _ => counters.window_dropped.add(1),
                }
                data
            }
            Ok(_) => return,
            Err(_) => return self.node.counters.window_dropped.add(1),
        };
        self.node.incoming.put(dropped.payload);
    }
}

/// Takes the acknowledgements of a payload, and says where its message begins if there is one.
fn opened(
    node: &Node,
    received: Result<Received<'_>, Fault>,
) -> Result<Option<(ChannelId, Message<usize>)>, Fault> {
    match received {
        Ok(Received::Payload { bytes, .. }) => {
            node.counters.opened.add(1);
            for frame in frames(bytes) {
                match frame {
                    Ok(Frame::Ack(channel, ack)) => drop(node.driver.receive(channel, Packet::Ack(ack))),
                    Ok(Frame::Message(channel, message)) => {
                        // It reaches to the end.
                        let start = |data: &[u8]| bytes.len() - data.len();
                        return Ok(Some((channel, message.map(start))));
                    }
                    Err(_) => node.counters.refused.add(1),
                }
            }
        }
        Ok(Received::Handshake(handshake)) => node.handshake(handshake),
        Ok(Received::Nothing | Received::Reply(_)) => {}
        Err(fault) => {
            node.counters.refused.add(1);
            return Err(fault);
        }
    }
    Ok(None)
}
