//! From the windows of the channels to frames: what is there to transmit is taken in batches, sealed, and sent.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use seqex::encoding::{AckWriter, ChannelId, MessageHeader};
use seqex::{Ended, Link, Message, Packet};
use zssp_proto::{SealError, Sealed, Session};

use crate::node::{Error, GIVE_UP_AFTER, Node};
use crate::pool::Shared;

/// Messages that are sealed together.
const BATCH: usize = 32;
/// Bytes after which a batch ends, so that what was sealed is still in the cache when it is sent.
const BATCH_LEN: usize = 128 << 10;

pub(crate) fn run(node: &Node) {
    let Some((session, peer)) = node.session(Duration::MAX) else { return };
    let mtu = match node.way_out.mtu() {
        Ok(mtu) => mtu,
        Err(error) => return node.fail(error),
    };
    let mut batch = Batch::default();
    loop {
        match node.driver.wait() {
            Ok(()) => {}
            Err(Ended::Silent { channel, gave_up }) => {
                return node
                    .fail(format!("nothing heard for {GIVE_UP_AFTER:?} on channel {channel}: {gave_up}"));
            }
            Err(_) => return,
        }
        batch.collect(node);
        if let Err(error) = batch.seal(&session, mtu) {
            return node.fail(format!("cannot seal: {error}"));
        }
        node.counters.sealed.add(batch.sealed.len() as u64);
        let mut frames = node.way_out.batch();
        for (range, sealed) in &batch.sealed {
            let datagrams = sealed.datagrams(&batch.datagrams[range.clone()]);
            if frames.packet(peer, datagrams).is_err() {
                node.counters.unsent.add(1);
            }
        }
        if frames.flush().is_err() {
            node.counters.unsent.add(1);
        }
    }
}

#[derive(Default)]
struct Batch {
    messages: Vec<(ChannelId, Message<Shared>)>,
    acks: Vec<u8>,
    /// What was sealed, one packet after the other, with room at the end.
    datagrams: Vec<u8>,
    sealed: Vec<(Range<usize>, Sealed)>,
}

impl Batch {
    /// Takes what there is to transmit. Data is shared with the exchange, so its lock is held for moments only.
    fn collect(&mut self, node: &Node) {
        const ACKS_LEN: usize = 1024;
        self.acks.resize(ACKS_LEN, 0);
        let (mut acks_len, mut bytes) = (0, 0);
        while let Some((channel, driver)) = node.driver.next_channel() {
            let mut acks = AckWriter::new(&mut self.acks[acks_len..], channel);
            let mut transmits = driver.transmits();
            while acks.has_room() && self.messages.len() < BATCH && bytes < BATCH_LEN {
                match transmits.next_packet() {
                    Some(Packet::Ack(ack)) => {
                        // There was room.
                        let _ = acks.push(&ack);
                    }
                    Some(Packet::Message(message)) => {
                        bytes += message.data.len();
                        self.messages.push((channel, message.map(Arc::clone)));
                    }
                    None => break,
                }
            }
            drop(transmits);
            let is_full = !acks.has_room();
            acks_len += acks.len();
            if is_full || self.messages.len() == BATCH || bytes >= BATCH_LEN {
                break;
            }
        }
        self.acks.truncate(acks_len);
    }

    /// Seals it all: acknowledgements ride with the first message.
    fn seal(&mut self, session: &Session, mtu: usize) -> Result<(), SealError> {
        self.sealed.clear();
        let Self { messages, acks, datagrams, sealed } = self;
        let mut end = 0;
        let mut seal = |parts: &[&[u8]]| -> Result<(), SealError> {
            let needed = Session::sealed_len(parts.iter().map(|part| part.len()).sum(), mtu)?;
            if datagrams.len() < end + needed {
                datagrams.resize(end + needed, 0);
            }
            let range = end..end + needed;
            let packet = session.seal_parts(parts, mtu, &mut datagrams[range.clone()])?;
            end = range.end;
            sealed.push((range, packet));
            Ok(())
        };
        for (channel, message) in messages.iter() {
            let header = MessageHeader::new(*channel, message);
            let room =
                zssp_proto::Session::max_payload_len(mtu).saturating_sub(header.len() + message.data.len());
            if acks.len() > room {
                seal(&[acks])?;
                acks.clear();
            }
            seal(&[acks, &header, &message.data])?;
            acks.clear();
        }
        if !acks.is_empty() {
            seal(&[acks])?;
        }
        messages.clear();
        Ok(())
    }
}

/// Whether a message of this size can be sealed at this MTU.
pub(crate) fn check_size(len: usize, mtu: usize) -> Result<(), Error> {
    let limit = Session::max_payload_len(mtu).saturating_sub(seqex::encoding::MESSAGE_OVERHEAD + 1);
    if len > limit {
        return Err(format!("messages may have {limit} bytes at this MTU").into());
    }
    Ok(())
}
