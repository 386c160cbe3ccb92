//! Two threads on one session.

use std::hint::black_box;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use zssp_proto::{Scratch, Session};

use crate::floor::{Layout, RawKeys};
use crate::measure::Report;
use crate::packets::{MTU, pair};

/// Payloads, packets of one thread in one round, and in one batch: what one thread has of a stream before the other has
/// some, as coalesced reads give it. A round is some 200 us of work, which two cores are often left alone for, on bytes
/// that the second-level cache holds.
const SIZES: [(usize, usize, usize); 2] = [(1400, 512, 64), (60 * 1024, 32, 8)];
const ROUNDS: usize = 2000;

/// Sealing and opening on one session, and the same with the bare library, which has nothing to share: what the machine
/// itself allows.
pub(crate) fn scaling(report: &mut Report) {
    let (session, bob, alice) = pair();
    let keys = RawKeys::new();
    for (bytes, packets, batch) in SIZES {
        let layout = &Layout::new(bytes, MTU);
        let payload = vec![0x5a; bytes];
        let buffers = || [vec![0; layout.buffer_len()], vec![0; layout.buffer_len()]];
        let floor = || {
            rounds(buffers, |buffer| {
                for counter in 0..packets {
                    keys.seal(counter as u64, &payload, layout, black_box(buffer));
                }
            })
        };
        let seal = || {
            rounds(buffers, |buffer| {
                for _ in 0..packets {
                    black_box(session.seal(&payload, MTU, black_box(buffer)).unwrap());
                }
            })
        };
        let stream = || dealt(sealed(&session, &payload, layout, 2 * packets), batch);
        let open = || {
            rounds(stream, |packets| {
                let (now, scratch) = (Instant::now(), &mut Scratch::new());
                for batch in packets.chunks_mut(batch) {
                    for datagram in batch.iter_mut().flat_map(|packet| layout.datagrams(packet)) {
                        // Where one thread gets far ahead, the other's packets may be behind the replay window by the
                        // time they are decrypted. That takes as long.
                        drop(black_box(bob.context.receive(now, alice.address, datagram, scratch)));
                    }
                    drop(black_box(bob.context.flush(now, scratch)));
                }
            })
        };
        let raw = || {
            let packet = |counter| {
                let mut packet = vec![0; layout.buffer_len()];
                keys.seal(counter, &payload, layout, &mut packet);
                (counter, packet)
            };
            dealt((0..2 * packets as u64).map(packet), batch)
        };
        let floor_open = || {
            rounds(raw, |packets: &mut Vec<(u64, Vec<u8>)>| {
                let mut joined = Vec::with_capacity(bytes + 16);
                for (counter, packet) in packets {
                    black_box(keys.open(*counter, layout, packet, &mut joined));
                }
            })
        };
        lines(
            report,
            packets,
            &[
                (format!("threads/floor seal/{bytes}"), &floor),
                (format!("threads/floor open/{bytes}"), &floor_open),
                (format!("threads/seal/{bytes}"), &seal),
                (format!("threads/open/{bytes}"), &open),
            ],
        );
    }
}

/// Packets to be opened once.
fn sealed(session: &Session, payload: &[u8], layout: &Layout, count: usize) -> impl Iterator<Item = Vec<u8>> {
    (0..count).map(move |_| {
        let mut packet = vec![0; layout.buffer_len()];
        session.seal(payload, MTU, &mut packet).unwrap();
        packet
    })
}

/// A stream of packets, dealt out to two threads batch by batch.
fn dealt<P>(stream: impl Iterator<Item = P>, batch: usize) -> [Vec<P>; 2] {
    let mut dealt = [const { Vec::new() }; 2];
    for (number, packet) in stream.enumerate() {
        dealt[number / batch % 2].push(packet);
    }
    dealt
}

/// Prints how many times the packets of one thread two threads get through in the same time. Of both the best round
/// counts: in the others, some other program had one of the cores. All take turns, so that they find the same machine.
fn lines(report: &mut Report, packets: usize, works: &[(String, &dyn Fn() -> [Duration; 2])]) {
    if !works.iter().any(|(name, _)| report.wants(name)) {
        return;
    }
    let mut best = vec![[Duration::MAX; 2]; works.len()];
    for _ in 0..ROUNDS {
        for ((_, work), best) in works.iter().zip(&mut best) {
            let [one, two] = work();
            *best = [one.min(best[0]), two.min(best[1])];
        }
    }
    for ((name, _), [one, two]) in works.iter().zip(best) {
        let nanos = one.as_nanos() as f64 / packets as f64;
        let times = 2.0 * one.as_secs_f64() / two.as_secs_f64();
        report.line(&format!("{name:<24} {times:.2} times  (one thread: {nanos:.1} ns for a packet)"));
    }
}

/// A round with one thread, and one with two.
fn rounds<T: Clone + Send>(prepare: impl Fn() -> [T; 2], work: impl Fn(&mut T) + Sync) -> [Duration; 2] {
    let [own, _] = prepare();
    [together([own], &work), together(prepare(), &work)]
}

/// From the moment all threads are ready, each with a copy of its own of what it works on, until the last one is done.
fn together<T: Clone + Send, const N: usize>(owns: [T; N], work: &(impl Fn(&mut T) + Sync)) -> Duration {
    let (waiting, start) = (&AtomicUsize::new(N), &OnceLock::new());
    let ends = std::thread::scope(|scope| {
        owns.map(|own| {
            scope.spawn(move || {
                let mut own = own.clone();
                waiting.fetch_sub(1, SeqCst);
                while waiting.load(SeqCst) > 0 {
                    std::hint::spin_loop();
                }
                let start = *start.get_or_init(Instant::now);
                work(&mut own);
                start.elapsed()
            })
        })
        .map(|thread| thread.join().unwrap())
    });
    ends.into_iter().max().unwrap_or_default()
}
