//! From the windows of the channels to the application: decompressing and looking at what came.
//!
//! A window is the bounded queue in front of its workers. A message is acknowledged when it was worked on, so that a slow
//! worker slows its channel's sender down, and no other channel.

use seqex::Delivery;

use crate::content::Unpacker;
use crate::node::{Channel, Incoming, Node};

/// One of several threads: unordered messages go to whichever is free.
pub(crate) fn bulk(node: &Node) {
    work(node, &node.bulk, |node, content| match node.pattern.check(content) {
        Some(number) => node.tally.bulk(number, content.len()),
        None => node.tally.wrong("a message has other content than was sent"),
    });
}

/// Ordered messages come one by one.
pub(crate) fn control(node: &Node) {
    work(node, &node.control, |node, content| match content.split_first_chunk() {
        Some((number, total)) => {
            let total = total.try_into().ok().map(u64::from_be_bytes);
            node.tally.control(u64::from_be_bytes(*number), total);
        }
        None => node.tally.wrong("a control message is cut short"),
    });
}

fn work(node: &Node, channel: &Channel, process: impl Fn(&Node, &[u8])) {
    let mut unpacker = match Unpacker::new() {
        Ok(unpacker) => unpacker,
        Err(error) => return node.fail(error),
    };
    let mut room = Vec::new();
    while let Ok(delivery) = channel.receive().wait() {
        match delivery {
            Delivery::Payload { token, data } | Delivery::Reply { token, data, .. } => {
                let Incoming { payload, start } = data;
                match unpacker.unpack(&payload[start..], &mut room) {
                    Ok(content) => process(node, content),
                    Err(_) => node.tally.wrong("a message cannot be decompressed"),
                }
                token.acknowledge();
                node.incoming.put(payload);
            }
            Delivery::Acknowledged { data, .. } => {
                node.in_flight.give(data.len());
                node.outgoing.put(data);
            }
        }
    }
}
