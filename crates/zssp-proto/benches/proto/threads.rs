//! Two threads on one session.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use zssp_proto::{Scratch, Session};

use crate::floor::{Layout, RawKeys};
use crate::measure::{Report, timed};
use crate::packets::{MTU, pair};

/// Payloads, and packets of one thread in one round: about half a millisecond, which two cores are often left alone for.
const SIZES: [(usize, usize); 2] = [(1400, 1472), (60 * 1024, 64)];
const ROUNDS: usize = 300;
/// Packets that one thread has of a stream before the other has some: what one coalesced read gives.
const RUN: usize = 32;

/// Sealing and opening on one session, and sealing with the bare library, which has no counter to share: what the
/// machine itself allows.
pub(crate) fn scaling(report: &mut Report) {
    let (session, bob, alice) = pair();
    let keys = RawKeys::new();
    for (bytes, packets) in SIZES {
        let layout = &Layout::new(bytes, MTU);
        let payload = vec![0x5a; bytes];
        let buffers = || [vec![0; layout.buffer_len()], vec![0; layout.buffer_len()]];
        line(report, &format!("threads/floor/{bytes}"), packets, buffers, |buffer| {
            for counter in 0..packets {
                keys.seal(counter as u64, &payload, layout, black_box(buffer));
            }
        });
        line(report, &format!("threads/seal/{bytes}"), packets, buffers, |buffer| {
            for _ in 0..packets {
                black_box(session.seal(&payload, MTU, black_box(buffer)).unwrap());
            }
        });
        let stream = || {
            let stream = sealed(&session, &payload, layout, 2 * packets);
            let (mut even, mut odd) = (Vec::new(), Vec::new());
            for (number, packet) in stream.into_iter().enumerate() {
                if (number / RUN).is_multiple_of(2) { even.push(packet) } else { odd.push(packet) }
            }
            [(even, Scratch::new()), (odd, Scratch::new())]
        };
        line(report, &format!("threads/open/{bytes}"), packets, stream, |(packets, scratch)| {
            let now = Instant::now();
            for packet in packets {
                for datagram in layout.datagrams(packet) {
                    // Where one thread gets far ahead, the other's packets may be behind the replay window by the time
                    // they are decrypted. That takes as long.
                    drop(black_box(bob.context.receive(now, alice.address, datagram, scratch)));
                }
                if layout.count() > 1 {
                    drop(black_box(bob.context.flush(now, scratch)));
                }
            }
        });
    }
}

/// Packets to be opened once.
fn sealed(session: &Session, payload: &[u8], layout: &Layout, count: usize) -> Vec<Vec<u8>> {
    let mut packets = vec![vec![0; layout.buffer_len()]; count];
    for packet in &mut packets {
        session.seal(payload, MTU, packet).unwrap();
    }
    packets
}

/// Prints how many times the packets of one thread two threads get through in the same time. Of both the best round
/// counts: in the others, some other program had one of the cores.
fn line<T: Send>(
    report: &mut Report,
    name: &str,
    packets: usize,
    prepare: impl Fn() -> [T; 2],
    work: impl Fn(&mut T) + Sync,
) {
    if !report.wants(name) {
        return;
    }
    let (mut one, mut two) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        let [mut own, _] = prepare();
        one = one.min(timed(|| work(&mut own)));
        two = two.min(both(prepare(), &work));
    }
    let nanos = one.as_nanos() as f64 / packets as f64;
    let times = 2.0 * one.as_secs_f64() / two.as_secs_f64();
    report.line(&format!("{name:<24} {times:.2} times  (one thread: {nanos:.1} ns for a packet)"));
}

/// From the moment both threads are ready until the later one is done.
fn both<T: Send>(owns: [T; 2], work: &(impl Fn(&mut T) + Sync)) -> Duration {
    let barrier = &Barrier::new(2);
    let spans = std::thread::scope(|scope| {
        owns.map(|mut own| {
            scope.spawn(move || {
                barrier.wait();
                let start = Instant::now();
                work(&mut own);
                (start, Instant::now())
            })
        })
        .map(|thread| thread.join().unwrap())
    });
    let [(start_a, end_a), (start_b, end_b)] = spans;
    end_a.max(end_b) - start_a.min(start_b)
}
