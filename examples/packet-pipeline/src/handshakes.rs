//! Public-key work, away from the packets.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use zssp_proto::{Event, Handshake, MemoryStore, Outbox};

use crate::node::Node;
use crate::road::Peer;

pub(crate) fn run(node: &Node, queue: &Receiver<Handshake>) {
    // How soon it notices a deadline that came nearer, and that the program is to stop.
    const LOOK_AFTER: Duration = Duration::from_millis(20);
    let store = MemoryStore::new();
    while !node.stop.load(Ordering::Relaxed) {
        while let Some(due) = node.context.expired(Instant::now()) {
            work(node, &store, due);
        }
        match queue.recv_timeout(LOOK_AFTER) {
            Ok(handshake) => {
                node.taken(&handshake);
                work(node, &store, handshake);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
}

fn work(node: &Node, store: &MemoryStore, handshake: Handshake) {
    let mut outbox = Outbox::default();
    if handshake.run(Instant::now(), store, &mut outbox).is_err() {
        node.counters.refused.add(1);
    }
    for event in outbox.events {
        match event {
            Event::Authorize(peer) => {
                let key = peer.peer_key();
                let welcome = node.allowed.is_none_or(|allowed| allowed == key);
                work(node, store, if welcome { peer.accept(key) } else { peer.refuse() });
            }
            Event::Established { session, .. } => match Peer::try_from(session.address()) {
                Ok(peer) => node.set_session(session, peer),
                Err(error) => eprintln!("{error}"),
            },
            other => eprintln!("{other:?}"),
        }
    }
    for transmit in &outbox.transmits {
        let sent = Peer::try_from(transmit.to())
            .is_ok_and(|peer| node.way_out.send(peer, transmit.datagrams()).is_ok());
        if !sent {
            node.counters.unsent.add(1);
        }
    }
}
