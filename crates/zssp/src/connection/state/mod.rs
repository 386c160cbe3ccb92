//! One connection, without socket and clock: what arrives is fed in, what must go out is drained.
//!
//! Methods are of four kinds: look, feed (`handle_*`), command, drain (`poll_transmit`). What others must be told
//! of a change is collected in [`Effects`] and told after the lock is released.

mod arrivals;
mod assemble;
mod channels;
mod divide;
mod drain;
mod feed;
mod inbox;
mod lane;
mod lanes;
mod parts;
mod reordering;
mod replies;
mod room;
mod sizes;
mod stream;
mod streams;
#[cfg(test)]
mod tests;
mod transfers;

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;
use seqex::{Adaptive, Capacity, Config, Feedback, Resend};
use tokio::sync::{Notify, oneshot};
use zssp_proto::Role;

use arrivals::Arrivals;
use assemble::Assemblies;
pub(in crate::connection) use channels::Handles;
pub(crate) use feed::Messages;
pub(in crate::connection) use feed::{Body, Heard, Incoming};
pub(in crate::connection) use inbox::Arrived;
pub(in crate::connection) use lane::Sending;
use lane::{Content, Lane, Unread};
use lanes::Lanes;
pub(in crate::connection) use replies::Answering;
pub(in crate::connection) use room::Kind;
use room::{Freed, Rooms};
pub(in crate::connection) use stream::Written;
use streams::Streams;
use transfers::Transfers;

use super::acks::{AckTimer, Urgency};
use super::bundling::Bundling;
use super::close::{Closing, Farewell, Pending, Phase};
use super::flight::Flight;
use super::life::Life;
use super::mtu::Mtu;
use super::outgoing::is_fragmented;
use super::paths::Paths;
use super::sending::Senders;
use crate::congestion::Controller;
use crate::error::CloseReason;
use crate::frame::{self, Control, LaneId};
use crate::link::Path;
use crate::stats::ConnectionStats;

/// An answer to a message that took more datagrams than one is worth a payload of its own: what is heard of every second
/// datagram at once is what keeps a flow going beside others (RFC 9000, 13.2.2).
const LARGE: usize = 1500;

/// Chunks of a stream under way in one direction; both ends count on it.
const STREAM_WINDOW: Capacity = capacity(64);

/// Messages about streams under way in one direction; both ends count on it.
const CONTROL_WINDOW: Capacity = capacity(16);

/// What a message, or a reply, costs of its buffer besides its bytes.
pub(in crate::connection) const MESSAGE_COST: usize = 64;

/// Bytes of messages and chunks that may be unanswered unless the receiver allows more.
pub(crate) const CREDIT: usize = 4 << 20;

/// For constants: what is no capacity does not compile.
pub(crate) const fn capacity(packets: u32) -> Capacity {
    match Capacity::new(packets) {
        Ok(capacity) => capacity,
        Err(_) => panic!("a window holds a power of two of packets"),
    }
}

/// The least time between two looks at the clock.
const GRANULARITY: Duration = Duration::from_millis(1);

/// Back-off ends here. A single small probe that often is no burden, and before a peer counts as gone there must have
/// been enough of them that chance is out of the question.
pub(in crate::connection) const LONGEST_TIMEOUT: Duration = Duration::from_secs(2);

/// Pings that are answered of those that come at once.
const PONGS: usize = 4;

/// What a connection is set up with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Bytes of a datagram that every road carries.
    pub(crate) mtu: usize,
    /// Bytes of the largest datagram that is tried.
    pub(crate) max_mtu: usize,
    /// Bytes a sealed payload may carry.
    pub(crate) max_payload: usize,
    /// Messages under way in each direction of a channel.
    pub(crate) window: Capacity,
    /// How long the peer may be silent while it owes an answer.
    pub(crate) give_up_after: Duration,
    /// How long the peer may be silent whether it owes an answer or not.
    pub(crate) idle_timeout: Option<Duration>,
    /// After how long a silence the peer is asked for a sign of life.
    pub(crate) keep_alive: Option<Duration>,
    /// Bytes of messages accepted that are not answered.
    pub(crate) send_buffer: usize,
    /// Bytes of messages that arrived and are not answered.
    pub(crate) receive_buffer: usize,
    /// Channels there may be.
    pub(crate) channels: usize,
}

/// What others must be told, once the lock is released.
#[derive(Debug, Default)]
#[must_use = "waiting tasks must be told"]
pub(in crate::connection) struct Effects {
    /// Bytes given back to the send buffers.
    pub(in crate::connection) freed: Freed,
    /// Replies, and requests that will have none.
    pub(in crate::connection) answers: Vec<(oneshot::Sender<Bytes>, Option<Bytes>)>,
    /// What is to be dropped outside of the lock: the application's bytes may run its code then.
    pub(in crate::connection) dropped: Vec<Sending>,
    /// The same, for bytes that nobody waits for.
    pub(in crate::connection) discarded: Vec<Bytes>,
    /// Tasks that wait for a stream, or for room to send.
    pub(in crate::connection) wakers: Vec<Waker>,
    /// Those of tasks that wait no more.
    pub(in crate::connection) idle: Vec<Waker>,
    /// Channels on which a message arrived.
    pub(in crate::connection) arrivals: Vec<Arc<Notify>>,
    /// Channels that ended.
    pub(in crate::connection) closed: Vec<Arc<Notify>>,
    /// The driver has something to do.
    pub(in crate::connection) driver: bool,
    /// The peer has opened a stream.
    pub(in crate::connection) streams: bool,
    /// Another stream may be opened.
    pub(in crate::connection) openings: bool,
    /// A token was used, and another has to be drawn.
    pub(in crate::connection) token: bool,
    /// The peer has answered by this path, which is the one that payloads take.
    pub(in crate::connection) here: Option<Path>,
    /// Channels and streams of which everything sent was answered, or that ended.
    pub(in crate::connection) settled: Vec<Arc<Notify>>,
    /// The connection ended.
    pub(in crate::connection) ended: bool,
}

impl Effects {
    /// A message has arrived on a channel.
    fn notify(&mut self, arrival: &Arc<Notify>) {
        if self.arrivals.last().is_none_or(|last| !Arc::ptr_eq(last, arrival)) {
            self.arrivals.push(arrival.clone());
        }
    }
}

/// What the driver does after a round of [`State::poll_transmit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::connection) enum Step {
    /// There is more to send.
    Again,
    /// The connection is over.
    Over,
    /// Nothing until then, or until something changes.
    Wait(Option<Instant>),
}

/// One connection's state.
#[derive(Debug)]
pub(in crate::connection) struct State {
    settings: Settings,
    epoch: Instant,
    lanes: Lanes,
    /// Channels among them.
    channels: usize,
    streams: Streams,
    flight: Flight,
    /// When the pace lets the next message or part out, if one waits for that.
    paced: Option<Instant>,
    bundling: Bundling,
    /// Messages that are sent in parts.
    transfers: Transfers,
    acks: AckTimer,
    /// Bytes that we may have unanswered.
    rooms: Rooms,
    /// Bytes of messages that the peer has unanswered here.
    received: usize,
    /// The same, of replies to our messages.
    replies: usize,
    /// Messages that the application has taken and not yet answered.
    taken: usize,
    assemblies: Assemblies,
    arrivals: Arrivals,
    paths: Paths,
    life: Life,
    mtu: Mtu,
    /// Drawn at random by somebody who does not hold the lock; for whoever needs one next.
    token: Option<frame::Token>,
    /// Tokens of the peer's pings that are to be answered, and where they came from.
    pongs: Vec<(frame::Token, Option<Path>)>,
    /// Once closing: all datagrams have been sent.
    datagrams_over: bool,
    phase: Phase,
    pub(in crate::connection) senders: Senders,
    /// When the driver looks again by itself.
    armed: Option<Instant>,
    stats: ConnectionStats,
}

/// Look.
impl State {
    pub(in crate::connection) fn new(
        now: Instant,
        settings: Settings,
        path: Path,
        role: Role,
        controller: Box<dyn Controller>,
    ) -> Self {
        let mut state = Self {
            settings,
            epoch: now,
            lanes: Lanes::default(),
            channels: 0,
            streams: Streams::new(role),
            flight: Flight::new(now, settings.mtu, controller),
            paced: None,
            bundling: Bundling::default(),
            transfers: Transfers::default(),
            acks: AckTimer::default(),
            rooms: Rooms::new(&settings),
            received: 0,
            replies: 0,
            taken: 0,
            assemblies: Assemblies::default(),
            arrivals: Arrivals::default(),
            paths: Paths::new(path),
            life: Life::new(now, settings.keep_alive, settings.idle_timeout),
            mtu: Mtu::new(settings.mtu, settings.max_mtu),
            token: None,
            pongs: Vec::new(),
            datagrams_over: false,
            phase: Phase::Open,
            senders: Senders::default(),
            armed: None,
            stats: ConnectionStats::default(),
        };
        //= ZSSP-STR-06  a peer that may send more than by default is told so
        if settings.receive_buffer > CREDIT {
            let bytes = u32::try_from(settings.receive_buffer).unwrap_or(u32::MAX);
            // Nobody can wait for anything yet.
            state.send_control(now, Control::Credit(bytes), &mut Effects::default());
        }
        state
    }

    pub(in crate::connection) fn ended(&self) -> Option<&CloseReason> {
        self.phase.ended()
    }

    /// Whether there is nothing left to be said either.
    pub(in crate::connection) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Ended(_, Farewell::Over))
    }

    /// Bytes of a datagram at present.
    pub(in crate::connection) fn mtu(&self) -> usize {
        self.mtu.current()
    }

    /// How the peer is reached.
    pub(in crate::connection) fn path(&self) -> Path {
        self.paths.current()
    }

    /// Whether everything sent has been answered.
    pub(in crate::connection) fn is_drained(&self) -> bool {
        self.lanes.are_drained()
    }

    pub(in crate::connection) fn stats(&self) -> ConnectionStats {
        ConnectionStats {
            rtt: self.flight.rtt().smoothed(),
            min_rtt: self.flight.rtt().min(),
            congestion_window: self.flight.window(),
            // Of a connection that has ended nothing is under way.
            bytes_in_flight: if self.ended().is_some() { 0 } else { self.flight.bytes() },
            mtu: self.mtu.current(),
            mtu_fallbacks: self.mtu.fallbacks(),
            ..self.stats
        }
    }

    /// Why nothing new is accepted, if it is not.
    fn may_send(&self) -> Result<(), CloseReason> {
        self.phase.may_send()
    }

    /// What a close waits for.
    fn pending(&self) -> Pending {
        if !(self.lanes.ask_nothing() && self.datagrams_over) {
            Pending::Answers
        } else if self.taken > 0 || !self.is_drained() {
            Pending::Replies
        } else {
            Pending::Nothing
        }
    }

    /// Wakes whoever waits until everything sent on a channel, or a stream, is answered. Of one that is over, there is nothing
    /// to wait for.
    pub(in crate::connection) fn settled(&mut self, id: LaneId) -> Arc<Notify> {
        self.lanes.get_mut(id).map(Lane::settled).unwrap_or_default()
    }

    /// Whether this is the time to find out how large datagrams may be.
    fn probes(&self) -> bool {
        self.may_send().is_ok()
    }

    /// Whether the peer has answered nothing for so long that it is given up.
    fn is_silent(&self, now: Instant) -> bool {
        self.flight.is_silent(now, self.settings.give_up_after) && self.life.has_listened(now)
    }

    fn time(&self, now: Instant) -> seqex::Timestamp {
        now.saturating_duration_since(self.epoch)
    }

    fn next_deadline(&self) -> Option<Instant> {
        let [life, paths] = match self.ended() {
            None => [self.life.deadline(), self.paths.deadline()],
            Some(_) => [None, None],
        };
        let mtu = if self.probes() { self.mtu.deadline() } else { None };
        let parts = [self.transfers.deadline(self.flight.rtt()), self.arrivals.due()];
        let others = [self.paced, self.lanes.next_deadline(), self.acks.deadline(), self.phase.deadline()];
        [life, paths, mtu].into_iter().chain(parts).chain(others).flatten().min()
    }
}

/// Command.
impl State {
    /// No datagrams are accepted any more, and all that were are sent: a close need not wait for them.
    pub(in crate::connection) fn datagrams_are_over(&mut self) {
        self.datagrams_over = true;
    }

    /// Datagrams leave that the state has nothing to do with, in payloads of up to `longest` bytes.
    pub(in crate::connection) fn datagrams_depart(&mut self, now: Instant, longest: usize) {
        if is_fragmented(longest, self.mtu.current()) {
            self.mtu.demand(now);
        }
        self.mtu.unacknowledged(now, longest);
    }

    /// Takes a token that nobody can foresee.
    pub(in crate::connection) fn supply(&mut self, token: frame::Token) {
        self.token = Some(token);
    }

    /// Where several have something to send, those with the higher `priority` go first.
    pub(in crate::connection) fn set_priority(&mut self, id: LaneId, priority: i32) {
        self.lanes.set_priority(id, priority);
    }

    /// Starts closing: what was accepted still goes out and is answered, then the peer is told.
    pub(in crate::connection) fn close(
        &mut self,
        now: Instant,
        code: u32,
        reason: &[u8],
        effects: &mut Effects,
    ) {
        if matches!(self.phase, Phase::Open) {
            let frame = Bytes::from(frame::close(code, reason));
            self.phase = Phase::Draining { frame, give_up: now + self.settings.give_up_after };
            effects.driver = true;
        }
    }

    /// Closes at once: what is not answered is given up, then the peer is told.
    pub(in crate::connection) fn abort(
        &mut self,
        now: Instant,
        code: u32,
        reason: &[u8],
        effects: &mut Effects,
    ) {
        let why = match self.phase {
            Phase::Closing(_) => CloseReason::Local,
            _ => CloseReason::Aborted,
        };
        let closing = Closing::new(now, frame::close(code, reason).into());
        self.end(why, Farewell::Closing(closing), effects);
    }

    fn add_lane(&mut self, id: LaneId, content: Content) {
        let capacity = match content {
            Content::Channel(_) => self.settings.window,
            Content::Control(_) => CONTROL_WINDOW,
            Content::Stream(_) => STREAM_WINDOW,
        };
        //= ZSSP-SEQ-19  by the measured round trip
        let resend =
            Adaptive { initial: self.flight.rtt().timeout(), max: LONGEST_TIMEOUT, ..Adaptive::default() };
        let config = Config {
            capacity,
            resend: Resend::Adaptive(resend),
            give_up_after: Some(self.settings.give_up_after),
            feedback: Feedback::Collect,
            ..Config::default()
        };
        self.lanes.insert(id, Lane::new(config, content));
    }

    /// An exchange has something to acknowledge.
    fn note(&mut self, id: LaneId, now: Instant, urgency: Urgency, effects: &mut Effects) {
        self.lanes.owes_acks(id);
        self.schedule_acks(now, urgency, effects);
    }

    fn schedule_acks(&mut self, now: Instant, urgency: Urgency, effects: &mut Effects) {
        // What a command does last may come after the end that it caused.
        if self.ended().is_some() {
            return;
        }
        self.acks.add(now, urgency);
        effects.driver |= self.is_early(self.acks.deadline());
    }

    /// Whether something is due before the driver looks again by itself.
    fn is_early(&self, due: Option<Instant>) -> bool {
        due.is_some_and(|due| self.armed.is_none_or(|armed| due < armed))
    }

    /// Ends the connection, unless it has ended. `farewell` is what is left to be said.
    fn end(&mut self, reason: CloseReason, farewell: Farewell, effects: &mut Effects) {
        if self.ended().is_some() {
            return;
        }
        let unread = if let CloseReason::Peer { .. } = reason { Unread::Kept } else { Unread::Discarded };
        for (_, lane) in self.lanes.iter_mut() {
            lane.close(unread, effects);
        }
        self.lanes.stop();
        self.acks.stop();
        self.assemblies = Assemblies::default();
        self.arrivals = Arrivals::default();
        self.paced = None;
        self.transfers = Transfers::default();
        self.phase = Phase::Ended(reason, farewell);
        (effects.ended, effects.driver) = (true, true);
    }
}

fn urgency(len: usize) -> Urgency {
    if len >= LARGE { Urgency::Now } else { Urgency::Answered }
}
