//! One end: what its threads share, and starting and stopping them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::Scope;
use std::time::{Duration, Instant};

use seqex::{Capacity, ChannelLimits, Clock, Config, Exchange, Multiplexer, MultiplexerDriver, Resend};
use zssp_ethernet::Waker;
use zssp_proto::crypto::AwsLc;
use zssp_proto::{Address, Context, Handshake, Open, Origin, PublicKey, Session, StaticKey};

use crate::content::{BULK, CONTROL, Pattern};
use crate::counters::Counters;
use crate::ingress::Lose;
use crate::pool::{Pool, Shared};
use crate::road::{Peer, WayIn, WayOut};
use crate::tally::Tally;
use crate::{egress, handshakes, ingress, workers};

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// A payload with a message, which begins somewhere in it.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) payload: Vec<u8>,
    pub(crate) start: usize,
}

pub(crate) type Channel = Exchange<Shared, Incoming>;

/// What all threads of one end share.
pub(crate) struct Node {
    pub(crate) context: Context,
    pub(crate) way_out: WayOut,
    pub(crate) driver: MultiplexerDriver<Shared, Incoming>,
    pub(crate) control: Channel,
    pub(crate) bulk: Channel,
    /// For payloads that come in, and for what they decompress to.
    pub(crate) incoming: Pool<Vec<u8>>,
    /// For messages that go out.
    pub(crate) outgoing: Pool<Shared>,
    pub(crate) in_flight: Budget,
    pub(crate) pattern: Pattern,
    pub(crate) tally: Tally,
    pub(crate) counters: Counters,
    pub(crate) stop: AtomicBool,
    /// Who may have a session; anybody if nobody is named.
    pub(crate) allowed: Option<PublicKey>,
    multiplexer: Multiplexer<Shared, Incoming>,
    session: Mutex<Option<(Session, Peer)>>,
    established: Condvar,
    handshakes: SyncSender<Handshake>,
    /// Of those that wait, how many are hellos.
    hellos: AtomicUsize,
    /// Until the thread that runs them takes it.
    handshake_queue: Mutex<Option<Receiver<Handshake>>>,
}

/// Handshakes that may wait for their turn.
const HANDSHAKES: usize = 64;
/// Hellos among them at most: anybody can send any number, and the session's own steps need the other places.
const HELLOS: usize = 32;
/// Messages of a channel under way: the same on both ends. Rings drift apart by what is under way, and a packet that is
/// more than the session's replay window of 2048 behind another is refused.
const WINDOW: u32 = 1024;
/// When a message that is not acknowledged is sent again. Several rings deliver out of order all the time, so that being
/// overtaken says nothing about a loss, and what is lost on this link was lost to a ring that was full.
const RESEND_AFTER: Duration = Duration::from_millis(100);
/// How long the peer may be silent while messages wait for its acknowledgement.
pub(crate) const GIVE_UP_AFTER: Duration = Duration::from_secs(10);
/// Bytes under way, so that the largest messages do not overrun the ring of the peer.
const IN_FLIGHT: usize = 4 << 20;

impl Node {
    pub(crate) fn new(key: StaticKey, allowed: Option<PublicKey>, way_out: WayOut) -> Result<Self, Error> {
        let config = Config {
            capacity: Capacity::new(WINDOW)?,
            resend: Resend::Fixed(RESEND_AFTER),
            give_up_after: Some(GIVE_UP_AFTER),
            ..Config::default()
        };
        let limits = ChannelLimits { channels: 2, opened_by_peer: 0 };
        let (multiplexer, driver) = Multiplexer::new(config, limits, Clock::default());
        let (handshakes, queue) = sync_channel(HANDSHAKES);
        Ok(Self {
            context: Context::builder(key, Arc::new(AwsLc)).mtu(way_out.mtu()?).build()?,
            way_out,
            driver,
            control: multiplexer.open(CONTROL)?,
            bulk: multiplexer.open(BULK)?,
            incoming: Pool::new(),
            outgoing: Pool::new(),
            in_flight: Budget::new(IN_FLIGHT),
            pattern: Pattern::new(),
            tally: Tally::default(),
            counters: Counters::default(),
            stop: AtomicBool::new(false),
            allowed,
            multiplexer,
            session: Mutex::default(),
            established: Condvar::new(),
            handshakes,
            hellos: AtomicUsize::new(0),
            handshake_queue: Mutex::new(Some(queue)),
        })
    }

    /// Opens a session with `peer` at `address`.
    pub(crate) fn connect(&self, peer: PublicKey, address: Address) -> Result<(), Error> {
        let open = Open::to(peer, address);
        let (_id, handshake) = self.context.open(Instant::now(), open)?;
        self.handshake(handshake);
        Ok(())
    }

    /// Starts the threads of this end: one of ingress for each way in, and `threads` of each other stage.
    pub(crate) fn start<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        ways_in: Vec<WayIn>,
        threads: usize,
        lose: Option<Lose>,
    ) -> Running<'scope> {
        let waker = |way_in: &WayIn| match way_in {
            WayIn::Ethernet(receiver) => Some(receiver.waker()),
            // It looks by itself.
            WayIn::Udp(_) => None,
        };
        let wakers = ways_in.iter().filter_map(waker).collect();
        for way_in in ways_in {
            scope.spawn(move || self.counters.ingress.run(|| ingress::run(self, way_in, lose)));
        }
        for _ in 0..threads {
            scope.spawn(|| self.counters.workers.run(|| workers::bulk(self)));
            scope.spawn(|| self.counters.egress.run(|| egress::run(self)));
        }
        scope.spawn(|| self.counters.workers.run(|| workers::control(self)));
        let queue = self.handshake_queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(queue) = queue {
            scope.spawn(move || self.counters.handshakes.run(|| handshakes::run(self, &queue)));
        }
        Running { node: self, wakers }
    }

    /// Hands work to the thread of handshakes. There is a bound to it: strangers make such work.
    pub(crate) fn handshake(&self, handshake: Handshake) {
        let hello = is_hello(&handshake);
        let has_room = !hello || self.hellos.fetch_add(1, Ordering::Relaxed) < HELLOS;
        if has_room && self.handshakes.try_send(handshake).is_ok() {
            return;
        }
        if hello {
            self.hellos.fetch_sub(1, Ordering::Relaxed);
        }
        self.counters.handshakes_dropped.add(1);
        self.context.report_overload(Instant::now());
    }

    /// Work was taken out of the queue: its place is free.
    pub(crate) fn taken(&self, handshake: &Handshake) {
        if is_hello(handshake) {
            self.hellos.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn set_session(&self, session: Session, peer: Peer) {
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Some((session, peer));
        self.established.notify_all();
    }

    /// Waits for the session; `None` when it does not come, or the program is to stop.
    pub(crate) fn session(&self, patience: Duration) -> Option<(Session, Peer)> {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = |session: &mut Option<_>| session.is_none() && !self.stop.load(Ordering::Relaxed);
        let waited = self.established.wait_timeout_while(session, patience, missing);
        let (session, _) = waited.unwrap_or_else(PoisonError::into_inner);
        session.clone()
    }

    /// Ends the transfer at this end, from any of its threads.
    pub(crate) fn fail(&self, error: impl ToString) {
        self.tally.wrong(error);
        self.stop();
    }

    /// What failed first, of which `error` may be a consequence.
    pub(crate) fn cause(&self, error: Error) -> Error {
        self.tally.error().map_or(error, Error::from)
    }

    /// Whoever waits for something here waits no longer.
    fn stop(&self) {
        {
            // Held, so that nobody looks before and waits after.
            let _session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
            self.stop.store(true, Ordering::Relaxed);
        }
        self.established.notify_all();
        self.multiplexer.close();
        self.in_flight.close();
    }
}

fn is_hello(handshake: &Handshake) -> bool {
    matches!(handshake.origin(), Some(Origin::Stranger(_)))
}

/// Threads that run until this is dropped.
pub(crate) struct Running<'a> {
    node: &'a Node,
    wakers: Vec<Waker>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.node.stop();
        self.wakers.iter().for_each(Waker::wake);
    }
}

/// Bytes that may be under way.
pub(crate) struct Budget {
    left: Mutex<Option<usize>>,
    more: Condvar,
}

impl Budget {
    fn new(bytes: usize) -> Self {
        Self { left: Mutex::new(Some(bytes)), more: Condvar::new() }
    }

    /// Waits until so many may go; `false` when nothing will any more.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let short = |left: &mut Option<usize>| left.is_some_and(|left| left < bytes);
        let mut left = self.more.wait_while(left, short).unwrap_or_else(PoisonError::into_inner);
        *left = left.map(|left| left - bytes);
        left.is_some()
    }

    pub(crate) fn give(&self, bytes: usize) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        *left = left.map(|left| left + bytes);
        drop(left);
        self.more.notify_one();
    }

    fn close(&self) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.more.notify_all();
    }
}
