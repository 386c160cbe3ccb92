//! A peer that has proved its key and keeps to nothing else: it loses, repeats, holds back, changes and makes up payloads,
//! while both sides use streams and a channel. Nothing panics or spins, and memory stays within its bounds.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::*;
use crate::frame::{Payload, StreamId};

/// What the peer does with a payload of its own.
#[derive(Debug, Clone)]
enum Deed {
    Send,
    Lose,
    /// It goes, and so does an earlier one once more.
    Repeat(u8),
    /// It goes after so many others.
    HoldBack(u8),
    /// One bit is another.
    Flip(u16),
    Cut(u16),
    /// It begins as an earlier one does.
    Splice(u8, u16),
    Instead(Vec<u8>),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        12 => Just(Deed::Send),
        1 => Just(Deed::Lose),
        2 => any::<u8>().prop_map(Deed::Repeat),
        2 => any::<u8>().prop_map(Deed::HoldBack),
        2 => any::<u16>().prop_map(Deed::Flip),
        1 => any::<u16>().prop_map(Deed::Cut),
        1 => any::<(u8, u16)>().prop_map(|(which, at)| Deed::Splice(which, at)),
        1 => any_payload().prop_map(Deed::Instead),
    ]
}

/// Whether it can be read: one that cannot ends the connection, and there is no more to be seen of it.
fn is_readable(payload: &[u8]) -> bool {
    match Payload::parse(payload) {
        Ok(Payload::Exchange(_, mut frames)) => frames.all(|frame| frame.is_ok()),
        Ok(Payload::Bundle(mut bundle)) => {
            bundle.all(|payload| payload.is_ok_and(|(_, mut frames)| frames.all(|frame| frame.is_ok())))
        }
        Ok(_) => true,
        Err(_) => false,
    }
}

/// What goes instead of what the peer would have sent.
struct Hostile {
    script: std::vec::IntoIter<Deed>,
    earlier: Vec<Vec<u8>>,
    held: Vec<(u8, Vec<u8>)>,
}

impl Hostile {
    fn new(script: Vec<Deed>) -> Self {
        Self { script: script.into_iter(), earlier: Vec::new(), held: Vec::new() }
    }

    fn earlier(&self, which: u8) -> Vec<u8> {
        self.earlier[usize::from(which) % self.earlier.len()].clone()
    }

    /// What goes instead of `payload`. After the script it is honest.
    fn send(&mut self, payload: Vec<u8>) -> Vec<Vec<u8>> {
        if self.earlier.len() < 64 {
            self.earlier.push(payload.clone());
        }
        let mut out = match self.script.next().unwrap_or(Deed::Send) {
            Deed::Send => vec![payload],
            Deed::Lose => vec![],
            Deed::Repeat(which) => vec![payload, self.earlier(which)],
            Deed::HoldBack(others) => {
                self.held.push((others % 40, payload));
                vec![]
            }
            Deed::Flip(bit) => {
                let mut other = payload.clone();
                other[usize::from(bit / 8) % payload.len().min(60)] ^= 1 << (bit % 8);
                self.either(other, payload)
            }
            Deed::Cut(len) => self.either(payload[..usize::from(len) % payload.len()].to_vec(), payload),
            Deed::Splice(which, place) => {
                let start = self.earlier(which);
                let place = usize::from(place) % start.len().min(payload.len());
                self.either([&start[..place], &payload[place..]].concat(), payload)
            }
            Deed::Instead(other) => self.either(other, payload),
        };
        for (others, _) in &mut self.held {
            *others = others.saturating_sub(1);
        }
        out.extend(self.held.extract_if(.., |(others, _)| *others == 0).map(|(_, payload)| payload));
        out
    }

    /// What cannot be read goes now and then alone.
    fn either(&self, payload: Vec<u8>, genuine: Vec<u8>) -> Vec<Vec<u8>> {
        let goes = is_readable(&payload) || self.script.len().is_multiple_of(16);
        vec![if goes { payload } else { genuine }]
    }
}

/// An application that does a little of everything at each turn.
#[derive(Default)]
struct Application {
    turn: usize,
    streams: Vec<(StreamId, usize)>,
    unanswered: Vec<Arrived>,
}

impl Application {
    fn act(&mut self, end: &mut End, now: Instant) {
        self.turn += 1;
        let is_busy = self.turn % 128 > 64;
        if self.turn.is_multiple_of(8) && self.turn < 300 {
            self.streams.extend(end.state.open_stream().ok().flatten().map(|id| (id, 0)));
        }
        self.streams.extend(end.state.accept_stream().map(|id| (id, 0)));
        for (number, (id, written)) in self.streams.iter_mut().enumerate() {
            match (self.turn + number) % 16 {
                0..8 if !is_busy => _ = end.read(now, *id),
                8..14 if *written < 50_000 => {
                    let mut data = Bytes::from_static(&[7; 10_000]);
                    *written += end.write(now, *id, &mut data).unwrap_or_default();
                }
                14 => _ = end.with(now, |state, effects| state.finish(*id, effects)),
                15 if number % 4 == 0 => end.let_go(now, *id),
                _ => {}
            }
        }
        let len = self.turn * 97 % 9000;
        let room = end.with(now, |state, effects| state.admit(CHANNEL, len, None, effects));
        if room && self.turn < 300 {
            let message = Sending::new(Bytes::from(vec![1; len]), len);
            let order = if self.turn.is_multiple_of(2) { Order::Ordered } else { Order::Unordered };
            _ = end.with(now, |state, effects| state.send(CHANNEL, order, message, effects));
        }
        self.unanswered.extend(if is_busy { None } else { end.take(now) });
        if self.turn.is_multiple_of(3)
            && let Some(Arrived { token, data, answers }) = self.unanswered.pop()
        {
            let answering = answering(token, &data, answers.as_ref());
            end.with(now, |state, effects| {
                if data.len().is_multiple_of(2) {
                    state.acknowledge(now, answering, effects);
                } else {
                    _ = state.reply(now, answering, data, effects);
                }
            });
        }
    }
}

/// Of each side: what waits to be sent, what has come, and the replies.
const BUFFER: usize = 256 * 1024;

/// A `greedy` peer sends more than the other side has room for.
fn drive(script: Vec<Deed>, greedy: bool) {
    let buffers = Settings { send_buffer: BUFFER, receive_buffer: BUFFER, ..settings() };
    let mut pair = Pair::with(buffers);
    if greedy {
        let buffers = Settings { send_buffer: 2 * BUFFER, ..buffers };
        pair.ends[1] = End::new(pair.now, buffers, Role::Responder);
    }
    let mut hostile = Hostile::new(script);
    let mut applications = [Application::default(), Application::default()];
    let mut waiting = 0;
    pair.drive_with(Duration::from_secs(20), |pair, side| {
        if side == 1 {
            let sent = pair.ends[0].inbound.split_off(waiting);
            for (at, payload) in sent {
                let instead = hostile.send(payload).into_iter().map(|payload| (at, payload));
                pair.ends[0].inbound.extend(instead);
            }
        }
        let now = pair.now;
        applications[side].act(&mut pair.ends[side], now);
        let end = &pair.ends[0];
        waiting = end.inbound.len();
        if end.state.ended().is_none() {
            assert!(end.state.received + end.state.assemblies.bytes() <= BUFFER);
            assert!(end.state.replies <= BUFFER);
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    //= ZSSP-STR-06  what arrives and is not answered stays within its buffer
    #[test]
    fn a_peer_that_keeps_to_nothing_does_no_harm(
        script in proptest::collection::vec(deed(), 1..1000),
        greedy in prop::bool::weighted(0.2),
    ) {
        let mut outcome = Ok(());
        // A panic must not pass through what counts.
        let memory = allocation_counter::measure(|| {
            outcome = catch_unwind(AssertUnwindSafe(|| drive(script, greedy)));
        });
        outcome.unwrap_or_else(|panic| resume_unwind(panic));
        // At each of two ends what is sent, received and replied, and parts of that; and what is on the way.
        prop_assert!(memory.bytes_max < 12 * BUFFER as u64, "{} bytes", memory.bytes_max);
    }
}
