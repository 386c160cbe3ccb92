//! Two states on a road with a virtual clock: no socket, no sleep.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use seqex::{Capacity, Order, Token};
use tokio::sync::oneshot;
use zssp_proto::Role;

use super::*;
use crate::buffers::Buffers;
use crate::congestion::Cubic;
use crate::connection::bundling::{bundles, with_parts};
use crate::connection::outgoing::Outgoing;
use crate::connection::sending::Budget;
use crate::error::SendError;

const MS: Duration = Duration::from_millis(1);
/// One way.
const LATENCY: Duration = Duration::from_millis(5);

mod bundles;
mod busy;
mod closing;
mod held;
mod hostile;
mod memory;
mod parts;
mod perfect_road;
mod priorities;
mod probes;
mod replies;
mod stopped;
mod stops;
mod streams;

/// The channel that most tests use.
const CHANNEL: u16 = 0;

struct End {
    state: State,
    /// What is to be received, and when.
    inbound: VecDeque<(Instant, Vec<u8>)>,
    deadline: Option<Instant>,
    over: bool,
    freed: usize,
    answers: Vec<(oneshot::Sender<Bytes>, Option<Bytes>)>,
    ended: usize,
    /// Those that were told to look whether all is answered.
    settled: Vec<Arc<Notify>>,
    /// Given out so far.
    tokens: u64,
    buffers: Arc<Buffers>,
}

impl End {
    fn new(now: Instant, settings: Settings, role: Role) -> Self {
        let mut state = State::new(
            now,
            settings,
            SocketAddr::from(([10, 0, 0, 1], 1)).into(),
            role,
            Box::new(Cubic::new(settings.mtu)),
        );
        state.channel(CHANNEL).unwrap();
        state.datagrams_are_over();
        Self {
            state,
            inbound: VecDeque::new(),
            deadline: Some(now),
            over: false,
            freed: 0,
            answers: Vec::new(),
            ended: 0,
            settled: Vec::new(),
            tokens: 0,
            buffers: Arc::default(),
        }
    }

    /// Works on the state as `Shared::with` does: a driver that is told looks at once.
    fn with<T>(&mut self, now: Instant, work: impl FnOnce(&mut State, &mut Effects) -> T) -> T {
        let mut effects = Effects::default();
        let result = work(&mut self.state, &mut effects);
        self.freed += effects.freed.messages;
        self.state.reclaim_room(&mut effects);
        self.answers.extend(effects.answers);
        self.ended += usize::from(effects.ended);
        self.settled.extend(effects.settled);
        if effects.token {
            self.tokens += 1;
            self.state.supply(self.tokens.to_be_bytes());
        }
        if effects.driver {
            self.deadline = Some(now);
        }
        result
    }

    fn send(&mut self, now: Instant, order: Order, data: &[u8]) -> Result<(), SendError> {
        let message = Sending::new(Bytes::copy_from_slice(data), data.len());
        self.with(now, |state, effects| {
            assert!(state.admit(CHANNEL, message.cost, None, effects), "there is room");
            state.send(CHANNEL, order, message, effects)
        })
    }

    fn handle_payload(&mut self, now: Instant, payload: &[u8]) {
        let mut messages = Messages::new();
        let body = Body { bytes: payload, memory: None };
        let Incoming::Parsed(payload) = Incoming::read(body, None, &mut messages) else { return };
        self.with(now, |state, effects| state.handle_payload(now, payload, effects));
    }

    /// Takes the next message.
    fn take(&mut self, now: Instant) -> Option<Arrived> {
        self.with(now, |state, effects| state.take_message(now, CHANNEL, effects))
    }

    /// Takes and acknowledges the next message.
    fn receive(&mut self, now: Instant) -> Option<Bytes> {
        let Arrived { token, data, answers } = self.take(now)?;
        let answering = answering(token, &data, answers.as_ref());
        self.with(now, |state, effects| state.acknowledge(now, answering, effects));
        Some(data)
    }
}

/// What is answered where `data` has arrived.
fn answering(token: Token, data: &Bytes, answers: Option<&Sending>) -> Answering {
    let asked = answers.map(|asked| (asked.kind, asked.cost));
    Answering { channel: CHANNEL, token, len: data.len(), asked }
}

type ByContent = Box<dyn FnMut(&[u8]) -> bool>;

struct Pair {
    now: Instant,
    ends: [End; 2],
    /// Whether the payload of that number, from that side, is lost.
    lost: Box<dyn FnMut(usize, usize) -> bool>,
    /// The same for payloads with that content.
    lost_by_content: Option<ByContent>,
    sent: [usize; 2],
}

pub(super) fn settings() -> Settings {
    Settings {
        mtu: 1400,
        max_mtu: 1400,
        max_payload: 60_000,
        window: Capacity::default(),
        give_up_after: Duration::from_secs(30),
        idle_timeout: None,
        keep_alive: None,
        send_buffer: CREDIT,
        receive_buffer: CREDIT,
        channels: 2,
    }
}

impl Pair {
    fn new() -> Self {
        Self::with(settings())
    }

    fn with(settings: Settings) -> Self {
        let now = Instant::now();
        let ends = [Role::Initiator, Role::Responder].map(|role| End::new(now, settings, role));
        Self { now, ends, lost: Box::new(|_, _| false), lost_by_content: None, sent: [0; 2] }
    }

    /// Lets things happen until nothing is left to happen, or `limit` has passed. `eager` sides receive what comes.
    fn drive(&mut self, limit: Duration, eager: [bool; 2], received: &mut [Vec<Bytes>; 2]) {
        self.drive_with(limit, |pair, side| {
            while eager[side]
                && let Some(data) = pair.ends[side].receive(pair.now)
            {
                received[side].push(data);
            }
        });
    }

    /// Lets things happen until nothing is left to happen, or `limit` has passed; `act` is the application of a side.
    fn drive_with(&mut self, limit: Duration, mut act: impl FnMut(&mut Self, usize)) {
        let end = self.now + limit;
        loop {
            for side in 0..2 {
                self.step(side);
                act(self, side);
            }
            let next = self.ends.iter().filter(|end| !end.over).flat_map(|end| end.deadline);
            let next =
                next.chain(self.ends.iter().flat_map(|end| end.inbound.front().map(|(at, _)| *at))).min();
            match next {
                Some(next) if next <= end => self.now = self.now.max(next),
                _ => break,
            }
        }
    }

    fn step(&mut self, side: usize) {
        let now = self.now;
        while let Some((_, payload)) = self.ends[side].inbound.pop_front_if(|(at, _)| *at <= now) {
            self.ends[side].handle_payload(now, &payload);
        }
        while !self.ends[side].over && self.ends[side].deadline.is_some_and(|deadline| deadline <= now) {
            let mut out: Vec<Outgoing> = Vec::new();
            let step = self.ends[side].with(now, |state, effects| {
                state.poll_transmit(now, &mut Budget::new(50_000, usize::MAX), &mut out, effects)
            });
            match step {
                Step::Again => {}
                Step::Over => self.ends[side].over = true,
                Step::Wait(deadline) => {
                    assert!(deadline.is_none_or(|deadline| deadline > now), "it would spin");
                    self.ends[side].deadline = deadline;
                }
            }
            for payload in bundles(&out) {
                let turn = self.sent[side];
                self.sent[side] += 1;
                let payload = with_parts(payload, |parts| parts.concat());
                let by_content = self.lost_by_content.as_mut().is_some_and(|lost| lost(&payload));
                if (self.lost)(side, turn) || by_content {
                    continue;
                }
                self.ends[1 - side].inbound.push_back((now + LATENCY, payload));
            }
        }
    }

    fn settle(&mut self) -> [Vec<Bytes>; 2] {
        let mut received = [Vec::new(), Vec::new()];
        self.drive(Duration::from_secs(600), [true, true], &mut received);
        received
    }
}

//= ZSSP-SEQ-19  the round trip is measured
#[test]
fn messages_cross_in_order_and_give_their_room_back() {
    let mut pair = Pair::new();
    let now = pair.now;
    for number in 0..200u8 {
        pair.ends[0].send(now, Order::Ordered, &[number; 1000]).unwrap();
    }
    let [_, there] = pair.settle();
    let numbers: Vec<u8> = there.iter().map(|data| data[0]).collect();
    assert_eq!(numbers, (0..200).collect::<Vec<u8>>());
    assert_eq!(pair.ends[0].freed, 200_000);
    assert!(pair.ends[0].state.is_drained());
    let stats = pair.ends[0].state.stats();
    assert_eq!((stats.messages_sent, stats.messages_resent, stats.bytes_in_flight), (200, 0, 0));
    let rtt = stats.rtt.unwrap();
    assert!((2 * LATENCY..2 * LATENCY + 5 * MS).contains(&rtt), "{rtt:?}");
    assert!(stats.congestion_window > 14_000, "a window in use grows");
}

//= ZSSP-ENC-02  sixty answers are a range
#[test]
fn acknowledgements_travel_together() {
    let mut pair = Pair::new();
    let now = pair.now;
    for _ in 0..60 {
        pair.ends[0].send(now, Order::Unordered, &[1; 100]).unwrap();
    }
    pair.settle();
    assert!(pair.sent[1] <= 5, "{} payloads to acknowledge 60 that came at once", pair.sent[1]);
}

#[test]
fn a_silent_connection_sends_nothing_and_sets_no_timer() {
    let mut pair = Pair::new();
    let now = pair.now;
    pair.ends[0].send(now, Order::Unordered, b"once").unwrap();
    pair.settle();
    let sent = pair.sent;
    assert_eq!([pair.ends[0].deadline, pair.ends[1].deadline], [None, None]);
    pair.now += Duration::from_secs(3600);
    pair.settle();
    assert_eq!(pair.sent, sent);
}

#[test]
fn a_receiver_that_does_not_take_messages_stops_the_sender_and_is_waited_for() {
    let mut pair = Pair::new();
    let now = pair.now;
    for number in 0..1000u32 {
        pair.ends[0].send(now, Order::Unordered, &number.to_be_bytes()).unwrap();
    }
    let mut received = [Vec::new(), Vec::new()];
    pair.drive(Duration::from_secs(300), [true, false], &mut received);
    assert!(pair.ends[1].state.received <= 64 * 4, "never more than the window");
    assert!(
        pair.ends[0].state.ended().is_none(),
        "the peer says it is alive: {:?}",
        pair.ends[0].state.ended()
    );
    let [_, there] = pair.settle();
    assert_eq!(there.len(), 1000);
}

#[test]
fn a_peer_that_falls_silent_is_given_up() {
    let mut pair = Pair::new();
    pair.lost = Box::new(|side, _| side == 0);
    let start = pair.now;
    pair.ends[0].send(start, Order::Unordered, b"hello?").unwrap();
    pair.settle();
    assert_eq!(pair.ends[0].state.ended(), Some(&CloseReason::TimedOut));
    assert!(pair.ends[0].over);
    assert_eq!(pair.ends[0].ended, 1);
    assert_eq!(pair.now - start, settings().give_up_after);
}

#[test]
fn closing_waits_for_the_answers_then_says_so_until_confirmed() {
    let mut pair = Pair::new();
    // The first close and the first confirmation are lost.
    pair.lost = Box::new(|_, turn| turn == 1);
    let now = pair.now;
    pair.ends[0].send(now, Order::Ordered, b"promised").unwrap();
    pair.ends[0].with(now, |state, effects| state.close(now, 5, b"bye", effects));
    assert_eq!(pair.ends[0].send(now, Order::Ordered, b"more"), Err(SendError::Closed(CloseReason::Local)));
    let [_, there] = pair.settle();
    assert_eq!(there, [Bytes::from_static(b"promised")]);
    assert_eq!(pair.ends[0].state.ended(), Some(&CloseReason::Local));
    assert_eq!(pair.ends[1].state.ended(), Some(&CloseReason::Peer { code: 5, reason: b"bye"[..].into() }));
    assert!(pair.ends[0].over && pair.ends[1].over);
}

#[test]
fn answers_are_sent_before_the_close() {
    let mut pair = Pair::new();
    let start = pair.now;
    pair.ends[1].send(start, Order::Unordered, b"to be answered").unwrap();
    let mut received = [Vec::new(), Vec::new()];
    pair.drive(LATENCY, [false, false], &mut received);
    let now = pair.now;
    assert!(pair.ends[0].receive(now).is_some());
    pair.ends[0].with(now, |state, effects| state.close(now, 0, b"", effects));
    pair.settle();
    assert_eq!(pair.ends[1].freed, b"to be answered".len(), "answered, not given up");
}

#[test]
fn a_peer_that_answers_nothing_is_waited_for_and_then_told() {
    let mut pair = Pair::new();
    let start = pair.now;
    pair.ends[0].send(start, Order::Unordered, b"never answered").unwrap();
    pair.ends[0].with(start, |state, effects| state.close(start, 4, b"", effects));
    let mut received = [Vec::new(), Vec::new()];
    pair.drive(Duration::from_secs(60), [false, false], &mut received);
    assert_eq!(pair.ends[0].state.ended(), Some(&CloseReason::TimedOut));
    assert!(matches!(pair.ends[1].state.ended(), Some(CloseReason::Peer { code: 4, .. })));
    assert!(pair.ends[0].over && pair.ends[1].over);
}

#[test]
fn what_is_not_answered_when_the_peer_closes_is_given_back() {
    let mut pair = Pair::new();
    let now = pair.now;
    let (answer, _reply) = oneshot::channel();
    let request = Sending { answer: Some(answer), ..Sending::new(Bytes::from_static(b"question"), 8) };
    pair.ends[0].with(now, |state, effects| state.send(CHANNEL, Order::Unordered, request, effects)).unwrap();
    pair.ends[1].with(now, |state, effects| state.close(now, 1, b"", effects));
    let mut received = [Vec::new(), Vec::new()];
    pair.drive(Duration::from_secs(10), [false, false], &mut received);
    assert!(matches!(pair.ends[0].state.ended(), Some(CloseReason::Peer { code: 1, .. })));
    assert!(pair.ends[0].answers.is_empty(), "it was dropped with the request, not answered");
}

/// The peer has heard the close, and that everything is answered: what would be answered now, it would never hear.
#[test]
fn once_the_close_goes_out_nothing_is_answered_any_more() {
    let mut pair = Pair::new();
    let start = pair.now;
    pair.ends[1].send(start, Order::Unordered, b"to be answered").unwrap();
    pair.drive(LATENCY, [false, false], &mut [Vec::new(), Vec::new()]);
    let now = pair.now;
    let Arrived { token, data, .. } = pair.ends[0].take(now).unwrap();
    pair.ends[0].with(now, |state, effects| state.close(now, 0, b"", effects));
    // Whatever the peer says, this side does not hear it: the close stays unconfirmed.
    pair.lost = Box::new(|side, _| side == 1);
    pair.drive(settings().give_up_after + LATENCY, [false, false], &mut [Vec::new(), Vec::new()]);
    assert_eq!(pair.ends[0].state.ended(), None);
    assert!(pair.ends[1].state.ended().is_some());
    let (now, answering) = (pair.now, answering(token, &data, None));
    let replied = pair.ends[0]
        .with(now, |state, effects| state.reply(now, answering, Bytes::from_static(b"!"), effects));
    assert_eq!(replied, Err(SendError::Closed(CloseReason::Local)));
    pair.settle();
    assert!(pair.ends[0].over && pair.ends[1].over);
}

#[test]
fn an_abort_ends_at_once_and_tells_the_peer_until_it_has_heard() {
    let mut pair = Pair::new();
    // The first close is lost.
    pair.lost = Box::new(|side, turn| side == 0 && turn == 0);
    let now = pair.now;
    pair.ends[0].send(now, Order::Unordered, b"given up").unwrap();
    pair.ends[0].with(now, |state, effects| state.abort(now, 6, b"stop", effects));
    assert_eq!(pair.ends[0].state.ended(), Some(&CloseReason::Aborted));
    let aborted = Err(SendError::Closed(CloseReason::Aborted));
    assert_eq!(pair.ends[0].state.may_send().map_err(SendError::Closed), aborted);
    let [_, there] = pair.settle();
    assert!(there.is_empty(), "it was given up");
    assert_eq!(pair.ends[1].state.ended(), Some(&CloseReason::Peer { code: 6, reason: b"stop"[..].into() }));
    assert!(pair.ends[0].over && pair.ends[1].over);
    assert!(pair.now - now < Duration::from_secs(5), "{:?}", pair.now - now);
}

#[test]
fn an_abort_cuts_a_close_short() {
    let mut pair = Pair::new();
    let now = pair.now;
    pair.ends[0].send(now, Order::Unordered, b"never answered").unwrap();
    pair.ends[0].with(now, |state, effects| state.close(now, 1, b"", effects));
    pair.drive(Duration::from_secs(1), [false, false], &mut [Vec::new(), Vec::new()]);
    assert_eq!(pair.ends[0].state.ended(), None);
    let now = pair.now;
    pair.ends[0].with(now, |state, effects| state.abort(now, 2, b"", effects));
    assert_eq!(pair.ends[0].state.ended(), Some(&CloseReason::Aborted));
    pair.settle();
    assert_eq!(pair.ends[1].state.ended(), Some(&CloseReason::Peer { code: 2, reason: [].into() }));
}

//= ZSSP-ENC-05  an unknown first byte, an unknown kind, more channels than allowed
#[test]
fn what_breaks_the_rules_ends_the_connection() {
    let third_channel = &[0x10, 0, 2, 0, 0, 0, 0, 9];
    for payload in [&b""[..], &[0xFF, 1, 2], &[0x20], third_channel, &[0xD1, 0], &[0xD3, 0, 0]] {
        let mut pair = Pair::new();
        let now = pair.now;
        pair.ends[0].state.channel(1).unwrap();
        pair.ends[0].handle_payload(now, payload);
        assert!(matches!(pair.ends[0].state.ended(), Some(CloseReason::Protocol(_))), "{payload:02x?}");
        pair.settle();
        assert!(pair.ends[0].over);
        let told = pair.ends[1].state.ended();
        assert!(matches!(told, Some(CloseReason::Peer { code: frame::PROTOCOL_VIOLATION, .. })), "{told:?}");
    }
}

//= ZSSP-LIV-02  a ping is answered, and so both are kept
#[test]
fn a_peer_that_is_asked_for_a_sign_of_life_gives_one() {
    let life = Settings {
        keep_alive: Some(Duration::from_secs(10)),
        idle_timeout: Some(Duration::from_secs(25)),
        ..settings()
    };
    let mut pair = Pair::with(life);
    pair.drive(Duration::from_secs(300), [true, true], &mut [Vec::new(), Vec::new()]);
    assert_eq!([pair.ends[0].state.ended(), pair.ends[1].state.ended()], [None, None]);
    assert!((30..=120).contains(&pair.sent[0]), "{} payloads in 300 s", pair.sent[0]);
    let measured = pair.ends[0].state.stats().rtt.unwrap();
    assert!((1..100).contains(&measured.as_millis()), "{measured:?}, and no message was sent");
    let start = pair.now;
    pair.lost = Box::new(|_, _| true);
    pair.drive(Duration::from_secs(300), [true, true], &mut [Vec::new(), Vec::new()]);
    for end in &pair.ends {
        assert_eq!(end.state.ended(), Some(&CloseReason::TimedOut));
        assert!(end.over);
    }
    assert!(pair.now - start <= Duration::from_secs(25));
}

/// Whatever is lost, all arrives once and in order, and nothing stays behind.
fn everything_arrives(seed: u64, percent: u64, counts: [usize; 2], len: usize) {
    let mut pair = Pair::with(Settings { give_up_after: Duration::from_secs(3600), ..settings() });
    let mut random = seed;
    pair.lost = Box::new(move |_, _| {
        // A linear congruential step (Knuth's MMIX); its high bits are random enough.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % 100 < percent
    });
    let now = pair.now;
    for (side, &count) in counts.iter().enumerate() {
        for number in 0..count {
            let mut data = vec![0; len];
            data[0] = u8::try_from(number).unwrap();
            pair.ends[side].send(now, Order::Ordered, &data).unwrap();
        }
    }
    let received = pair.settle();
    for (side, &count) in counts.iter().enumerate() {
        let numbers: Vec<usize> = received[1 - side].iter().map(|data| usize::from(data[0])).collect();
        assert_eq!(numbers, (0..count).collect::<Vec<_>>());
        assert_eq!(pair.ends[side].state.ended(), None);
        assert!(pair.ends[side].state.is_drained());
        assert_eq!(pair.ends[side].state.flight.bytes(), 0);
        assert_eq!(pair.ends[side].freed, count * len);
    }
}

/// The only measurement was of a message whose first acknowledgement had been lost, and thousands of times too long.
#[test]
fn a_wrong_measurement_does_not_stop_everything() {
    everything_arrives(131_861_692_575_149_252, 35, [34, 63], 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn everything_arrives_whatever_is_lost(
        seed in any::<u64>(),
        percent in 0u64..40,
        counts in proptest::array::uniform2(1usize..150),
        len in 1usize..3000,
    ) {
        everything_arrives(seed, percent, counts, len);
    }

    #[test]
    fn no_payload_panics(payloads in proptest::collection::vec(any_payload(), 1..20)) {
        let mut pair = Pair::new();
        let now = pair.now;
        for number in 0..20u8 {
            pair.ends[0].send(now, Order::Ordered, &[number]).unwrap();
        }
        for payload in payloads {
            pair.ends[0].handle_payload(now, &payload);
            pair.step(0);
        }
    }
}

/// Payloads of every kind, with small numbers in front, so that the interesting paths are met.
fn any_payload() -> impl Strategy<Value = Vec<u8>> {
    let bytes = |len| proptest::collection::vec(any::<u8>(), 0..len);
    let small = |count| proptest::collection::vec(0u8..3, count);
    let exchange =
        (any::<u8>(), bytes(60)).prop_map(|(kind, rest)| [vec![0x10 | (kind & 0x0B)], rest].concat());
    let streams = (small(1), exchange.clone())
        .prop_map(|(group, frames)| [&[0xD3, 0, 0, 0][..], &group, &frames].concat());
    let parts = (small(2), exchange.clone()).prop_map(|(numbers, frames)| {
        [&[0xD7, 0, 0, 0, numbers[0], 0, 0, 0, 40 * numbers[1]][..], &frames].concat()
    });
    let others = (0xD0u8..=0xDF, bytes(20)).prop_map(|(kind, rest)| [vec![kind], rest].concat());
    prop_oneof![4 => exchange, 4 => streams, 4 => parts, 1 => others, 1 => bytes(60)]
}

/// Bytes whose drop is the application's code.
struct Watched {
    _alive: Arc<()>,
}

impl AsRef<[u8]> for Watched {
    fn as_ref(&self) -> &[u8] {
        b"watched"
    }
}

#[test]
fn no_bytes_of_the_application_are_dropped_under_the_lock() {
    let mut pair = Pair::new();
    let now = pair.now;
    let alive = Arc::new(());
    let watched = || Bytes::from_owner(Watched { _alive: alive.clone() });
    let message = || Sending::new(watched(), 0);

    pair.ends[1].send(now, Order::Unordered, b"to be replied to").unwrap();
    pair.drive(Duration::from_secs(1), [false, true], &mut [Vec::new(), Vec::new()]);
    let token = pair.ends[0].take(now).unwrap().token;
    let answering = Answering { channel: CHANNEL, token, len: 16, asked: None };

    let (state, mut effects) = (&mut pair.ends[0].state, Effects::default());
    state.send(CHANNEL, Order::Unordered, message(), &mut effects).unwrap();
    state.handle_session_end(CloseReason::TimedOut, &mut effects);
    assert!(state.send(CHANNEL, Order::Unordered, message(), &mut effects).is_err());
    assert!(state.reply(now, answering, watched(), &mut effects).is_err());
    assert_eq!(Arc::strong_count(&alive), 1 + 3, "all three wait for the lock to be released");
    drop(effects);
    assert_eq!(Arc::strong_count(&alive), 1);
}

//= ZSSP-SEQ-20  the end concerns everybody
#[test]
fn whoever_waits_for_answers_is_woken_by_those_of_its_own_channel_or_by_the_end() {
    let mut pair = Pair::new();
    let now = pair.now;
    pair.ends[0].state.channel(1).unwrap();
    let [first, second] = [CHANNEL, 1].map(|id| pair.ends[0].state.settled(LaneId::Channel(id)));
    pair.ends[0].send(now, Order::Unordered, b"once").unwrap();
    pair.settle();
    let told = std::mem::take(&mut pair.ends[0].settled);
    assert!(!told.is_empty() && told.iter().all(|settled| Arc::ptr_eq(settled, &first)));
    pair.ends[0].with(now, |state, effects| state.handle_session_end(CloseReason::TimedOut, effects));
    for settled in [first, second] {
        assert!(pair.ends[0].settled.iter().any(|told| Arc::ptr_eq(told, &settled)));
    }
}
