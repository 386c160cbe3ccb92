//! From frames to the windows of the channels. Nothing here waits for anybody but the link.

use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recvfrom};
use seqex::encoding::{ChannelId, Frame, frames};
use seqex::{Message, Packet};
use zssp_ethernet::{EthernetAddress, Received as Arrived, Receiver};
use zssp_proto::{Address, Datagram, Fault, Received, Scratch};

use crate::node::{Incoming, Node};
use crate::road::{Peer, WayIn};

pub(crate) fn run(node: &Node, way_in: WayIn, lose: Option<Lose>) {
    let thread = Thread { node, scratch: Scratch::new(), payload: node.incoming.take(), lose };
    match way_in {
        WayIn::Ethernet(receiver) => ethernet(thread, receiver),
        WayIn::Udp(socket) => udp(thread, &socket),
    }
}

fn ethernet(mut thread: Thread<'_>, mut receiver: Receiver) {
    let interface = receiver.interface();
    loop {
        match receiver.receive(None) {
            Ok(Arrived::Batch(batch)) => thread.batch(batch.frames().map(|frame| {
                let from = EthernetAddress { interface, mac: frame.source };
                (Peer::Card(frame.source), Datagram { from: from.into(), bytes: frame.bytes })
            })),
            Ok(Arrived::Nothing) => {}
            Ok(Arrived::Woken) => break,
            Err(error) => {
                thread.node.fail(error);
                break;
            }
        }
    }
    if let Ok(statistics) = receiver.statistics() {
        thread.node.counters.ring_dropped.add(statistics.dropped);
    }
}

fn udp(mut thread: Thread<'_>, socket: &UdpSocket) {
    const DATAGRAMS: usize = 64;
    const LEN: usize = 9216;
    let mut room = vec![0; DATAGRAMS * LEN];
    let mut datagrams: Vec<(SocketAddr, Range<usize>)> = Vec::new();
    while !thread.node.stop.load(Ordering::Relaxed) {
        datagrams.clear();
        for (number, place) in room.chunks_exact_mut(LEN).enumerate() {
            // Waits for the first, and takes what is there besides.
            let flags = if number == 0 { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
            match recvfrom(socket, place, flags) {
                Ok((len, _, from)) => {
                    let from = from.and_then(|from| SocketAddr::try_from(from).ok());
                    let start = number * LEN;
                    datagrams.extend(from.map(|from| (from, start..start + len)));
                }
                Err(Errno::AGAIN | Errno::INTR) => break,
                Err(error) => return thread.node.fail(error),
            }
        }
        thread.batch(datagrams.iter().map(|(from, range)| {
            (Peer::Socket(*from), Datagram { from: Address::from(*from), bytes: &room[range.clone()] })
        }));
    }
}

/// Loses one datagram in so many, on purpose.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lose {
    one_in: u64,
    state: u64,
}

impl Lose {
    pub(crate) fn one_in(one_in: u64) -> Self {
        Self { one_in, state: 0x9e37_79b9_7f4a_7c15 }
    }

    fn next(&mut self) -> bool {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state.is_multiple_of(self.one_in)
    }
}

struct Thread<'a> {
    node: &'a Node,
    scratch: Scratch,
    /// Where the next payload goes. When one came, another takes its place.
    payload: Vec<u8>,
    lose: Option<Lose>,
}

impl Thread<'_> {
    fn batch<'d>(&mut self, datagrams: impl Iterator<Item = (Peer, Datagram<'d>)>) {
        let (now, node) = (Instant::now(), self.node);
        let (mut received, mut lost) = (0, 0);
        for (peer, datagram) in datagrams {
            received += 1;
            if self.lose.as_mut().is_some_and(Lose::next) {
                lost += 1;
                continue;
            }
            // The only copy: the ring is not ours to change, so the payload is opened into a buffer.
            let received = node.context.receive_into(now, datagram, &mut self.scratch, &mut self.payload);
            let message = match received {
                Ok(Received::Reply(challenge)) => {
                    if node.way_out.send(peer, [&challenge[..]]).is_err() {
                        node.counters.unsent.add(1);
                    }
                    None
                }
                other => opened(node, other).ok().flatten(),
            };
            self.deliver(message);
        }
        node.counters.frames_received.add(received);
        node.counters.lost.add(lost);
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
                    _ => counters.window_dropped(channel).add(1),
                }
                data
            }
            Ok(_) => return,
            // On a channel that nobody has opened here.
            Err(_) => return self.node.counters.refused.add(1),
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
