//! Two threads on one session.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use zssp_proto::{Received, Scratch, Session};

use crate::floor::{Layout, RawKeys};
use crate::measure::{Report, timed};
use crate::packets::{MTU, pair};

const BYTES: usize = 1400;
/// Packets of one thread in one round: about half a millisecond, which two cores are often left alone for.
const PACKETS: usize = 1500;
const ROUNDS: usize = 300;

/// Sealing and opening on one session, and sealing with the bare library, which has no counter to share: what the
/// machine itself allows.
pub(crate) fn scaling(report: &mut Report) {
    let layout = Layout::new(BYTES, MTU);
    let payload = [0x5a; BYTES];
    if report.wants("threads/floor") {
        line(
            report,
            "threads/floor",
            || (RawKeys::new(), vec![0; layout.buffer_len()]),
            |(keys, buffer)| {
                for counter in 0..PACKETS {
                    keys.seal(counter as u64, &payload, &layout, black_box(buffer));
                }
            },
        );
    }
    let (session, bob, alice) = pair();
    if report.wants("threads/seal") {
        line(
            report,
            "threads/seal",
            || vec![0; layout.buffer_len()],
            |buffer| {
                for _ in 0..PACKETS {
                    black_box(session.seal(&payload, MTU, black_box(buffer)).unwrap());
                }
            },
        );
    }
    if report.wants("threads/open") {
        let prepare = || (packets(&session, &payload, &layout), Scratch::new());
        line(report, "threads/open", prepare, |(packets, scratch)| {
            let now = Instant::now();
            for packet in packets {
                let received = bob.context.receive(now, alice.address, packet, scratch);
                // The thread that is ahead may leave the other behind the replay window; what is dropped there was
                // found to be authentic first, so it took as long.
                if let Ok(Received::Payload { bytes, .. }) = received {
                    black_box(bytes);
                }
            }
        });
    }
}

/// Packets to be opened once.
fn packets(session: &Session, payload: &[u8], layout: &Layout) -> Vec<Vec<u8>> {
    let mut packets = vec![vec![0; layout.buffer_len()]; PACKETS];
    for packet in &mut packets {
        session.seal(payload, MTU, packet).unwrap();
    }
    packets
}

/// Prints how many times the packets of one thread two threads get through in the same time. Of both the best round
/// counts: in the others, some other program had one of the cores.
fn line<T: Send>(report: &mut Report, name: &str, prepare: impl Fn() -> T, work: impl Fn(&mut T) + Sync) {
    let (mut one, mut two) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        let mut own = prepare();
        one = one.min(timed(|| work(&mut own)));
        two = two.min(both([prepare(), prepare()], &work));
    }
    let nanos = one.as_nanos() as f64 / PACKETS as f64;
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
