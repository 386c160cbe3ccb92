//! Sealing and opening payloads.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zssp_proto::crypto::AwsLc;
use zssp_proto::{Received, Session};

use crate::floor::{Layout, RawKeys};
use crate::measure::{Case, FLOOR, Report, timed};
use crate::peers::{Peer, meet};

pub(crate) const MTU: usize = 1500;

/// Payloads, and how many are sealed or opened in one sample: some 20 us of work, on bytes that the second-level
/// cache holds.
const SIZES: [(usize, u32); 3] = [(100, 128), (1400, 64), (60 * 1024, 4)];

pub(crate) fn seal(report: &mut Report) {
    let (session, ..) = pair();
    let keys = RawKeys::new();
    for (bytes, batch) in SIZES {
        let name = &format!("seal/{bytes}");
        if !report.wants(name) {
            continue;
        }
        let payload = vec![0x5a; bytes];
        let layout = Layout::new(bytes, MTU);
        let mut buffer = vec![0; Session::sealed_len(bytes, MTU).unwrap()];
        let mut raw = buffer.clone();
        let mut counter = 0;
        let floor = || {
            timed(|| {
                for _ in 0..batch {
                    counter += 1;
                    keys.seal(counter, &payload, &layout, black_box(&mut raw));
                }
            })
        };
        let ours = || {
            timed(|| {
                for _ in 0..batch {
                    black_box(session.seal(&payload, MTU, black_box(&mut buffer)).unwrap());
                }
            })
        };
        report.compare(&Case { name, batch, bytes, base: FLOOR }, floor, ours);
    }
}

pub(crate) fn open(report: &mut Report) {
    let (session, mut bob, alice) = pair();
    let keys = RawKeys::new();
    for (bytes, batch) in SIZES {
        let name = &format!("open/{bytes}");
        if !report.wants(name) {
            continue;
        }
        let payload = vec![0x5a; bytes];
        let layout = Layout::new(bytes, MTU);
        let mut raw = vec![vec![0; layout.buffer_len()]; batch as usize];
        let mut joined = Vec::with_capacity(bytes + 16);
        let mut counter = 0;
        let floor = || {
            let first = counter;
            for packet in &mut raw {
                counter += 1;
                keys.seal(counter, &payload, &layout, packet);
            }
            timed(|| {
                for (packet, counter) in raw.iter_mut().zip(first + 1..) {
                    black_box(keys.open(counter, &layout, packet, &mut joined));
                }
            })
        };
        let mut sealed = vec![vec![0; layout.buffer_len()]; batch as usize];
        let ours = || {
            for packet in &mut sealed {
                session.seal(&payload, MTU, packet).unwrap();
            }
            let now = Instant::now();
            timed(|| {
                for packet in &mut sealed {
                    assert_eq!(receive(&mut bob, now, alice.address, &layout, packet), bytes);
                }
            })
        };
        report.compare(&Case { name, batch, bytes, base: FLOOR }, floor, ours);
    }
}

/// Receives a packet datagram by datagram, as one coalesced read gives them; the length of the payload. Lone datagrams
/// come in batches too, so only fragments are flushed each time.
fn receive(
    bob: &mut Peer,
    now: Instant,
    from: zssp_proto::Address,
    layout: &Layout,
    packet: &mut [u8],
) -> usize {
    let mut delivered = 0;
    for datagram in layout.datagrams(packet) {
        match bob.context.receive(now, from, datagram, &mut bob.scratch).unwrap() {
            Received::Payload { bytes, .. } => delivered = black_box(bytes).len(),
            received => drop(received),
        }
    }
    if layout.count() > 1 {
        drop(black_box(bob.context.flush(now, &mut bob.scratch)));
    }
    delivered
}

/// Alice's end of a session with Bob, and both.
pub(crate) fn pair() -> (Session, Peer, Peer) {
    let mut alice = Peer::new(b"alice", Arc::new(AwsLc));
    let mut bob = Peer::new(b"bob", Arc::new(AwsLc));
    let (session, _) = meet(Instant::now(), &mut alice, &mut bob);
    bob.spent = Duration::ZERO;
    (session, bob, alice)
}
