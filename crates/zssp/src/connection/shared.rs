//! What everyone who has to do with one connection shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use tokio::sync::Notify;
use zssp_proto::{Address, Incarnation, Session, SessionId};

use super::datagrams::Datagrams;
use super::state::{Body, Effects, Heard, Incoming, Messages, Settings, State};
use crate::clock;
use crate::endpoint;
use crate::error::CloseReason;
use crate::frame;
use crate::link::Path;
use crate::sync::{RankedMutex, rank};

/// A connection, seen from inside.
///
/// Messages and streams are under one mutex, held for short computations only: their order has to be decided somewhere.
/// The queues of datagrams, sealing, opening and the socket are outside.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) session: Session,
    pub(crate) endpoint: Arc<endpoint::Shared>,
    pub(super) settings: Settings,
    state: RankedMutex<{ rank::CONNECTION }, State>,
    /// Wakes the driver.
    pub(super) driver: Notify,
    /// Several requests had their answers at the same time: the driver may soon have more to send than one.
    pub(super) company: AtomicBool,
    pub(super) datagrams: Datagrams,
    /// Wakes one who waits for a stream of the peer.
    pub(super) streams: Notify,
    /// Wakes one who waits to open a stream.
    pub(super) openings: Notify,
    /// Wakes all who wait for the end.
    pub(super) ended: Notify,
}

impl Shared {
    pub(crate) fn new(endpoint: Arc<endpoint::Shared>, session: Session, path: Path) -> Self {
        let settings = endpoint.config.connection_settings();
        let state = State::new(clock::now(), settings, path, session.role(), endpoint.config.controller());
        Self {
            session,
            settings,
            state: RankedMutex::new(state),
            driver: Notify::new(),
            company: AtomicBool::new(false),
            datagrams: endpoint.config.datagrams(),
            streams: Notify::new(),
            openings: Notify::new(),
            ended: Notify::new(),
            endpoint,
        }
    }

    /// Works on the state, then tells those who wait for what has changed.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut State, &mut Effects) -> T) -> T {
        let mut effects = Effects::default();
        let result = {
            let mut state = self.state.lock();
            let result = work(&mut state, &mut effects);
            state.reclaim_room(&mut effects);
            result
        };
        self.tell(effects);
        result
    }

    /// Looks at the state, or takes something out of it that nobody else needs to hear of.
    pub(super) fn look<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock())
    }

    /// The session below is gone.
    pub(crate) fn handle_session_end(&self, reason: CloseReason) {
        self.with(|state, effects| state.handle_session_end(reason, effects));
    }

    /// Starts closing.
    pub(crate) fn close(&self, code: u32, reason: &[u8]) {
        // First, since it is the state's change that the driver is told of.
        self.datagrams.close();
        self.with(|state, effects| state.close(clock::now(), code, reason, effects));
    }

    /// Closes at once.
    pub(super) fn abort(&self, code: u32, reason: &[u8]) {
        self.with(|state, effects| state.abort(clock::now(), code, reason, effects));
    }

    /// Draws a token where no lock is held; one that cannot be drawn is asked for again.
    fn supply_token(&self) -> bool {
        let mut token = frame::Token::default();
        let drawn = self.endpoint.config.provider.random(&mut token).is_ok();
        if drawn {
            self.state.lock().supply(token);
        }
        drawn
    }

    fn tell(&self, effects: Effects) {
        let Effects {
            // Reclaimed under the lock.
            freed: _,
            answers,
            dropped,
            discarded,
            wakers,
            idle,
            arrivals,
            closed,
            driver,
            streams,
            openings,
            token,
            here,
            settled,
            ended,
        } = effects;
        if answers.len() > 1 {
            self.company.store(true, Relaxed);
        }
        for (answer, reply) in answers {
            if let Some(reply) = reply {
                // Whoever asked may have stopped waiting; the reply is acknowledged already.
                let _ = answer.send(reply);
            }
        }
        drop((dropped, discarded, idle));
        let supplied = token && self.supply_token();
        if driver || supplied {
            self.driver.notify_one();
        }
        for arrival in arrivals {
            arrival.notify_one();
        }
        for waker in wakers {
            waker.wake();
        }
        if streams {
            self.streams.notify_one();
        }
        if let Some(path) = here {
            self.session.set_address(Address::from(path));
        }
        if openings {
            self.openings.notify_one();
        }
        //= ZSSP-SEQ-20  every waiter hears of the end
        if ended {
            self.datagrams.end();
            self.streams.notify_waiters();
            self.openings.notify_waiters();
            for arrival in closed {
                arrival.notify_waiters();
            }
            self.ended.notify_waiters();
        }
        for settled in settled {
            settled.notify_waiters();
        }
    }
}

/// A connection that payloads of one batch go to: who waits is told once, when this is dropped.
pub(crate) struct Inbound {
    shared: Arc<Shared>,
    effects: Effects,
    /// Of the datagrams of the batch so far.
    heard: Option<(Instant, Heard)>,
    datagrams: bool,
}

impl Inbound {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, effects: Effects::default(), heard: None, datagrams: false }
    }

    /// Whether payloads of that session are the connection's.
    pub(crate) fn is_of(&self, session: (SessionId, Incarnation)) -> bool {
        (self.shared.session.id(), self.shared.session.incarnation()) == session
    }

    /// Takes in an authentic payload, and where its last fragment came from, if that is known. Its memory is kept, and
    /// replaced, where that is cheaper than a copy. `messages` is for those of a bundle.
    pub(crate) fn handle_payload(
        &mut self,
        now: Instant,
        from: Option<Path>,
        payload: &mut Vec<u8>,
        messages: &mut Messages,
    ) {
        let memory = self.shared.endpoint.buffers.lend(payload);
        let bytes = memory.as_ref().map_or(&payload[..], AsRef::as_ref);
        match Incoming::read(Body { bytes, memory: memory.as_ref() }, from, messages) {
            Incoming::Datagram(data) => {
                self.hear(now, from, bytes.len());
                self.datagrams |= self.shared.datagrams.arrive(data);
            }
            Incoming::Parsed(payload) => {
                let mut state = self.shared.state.lock();
                state.handle_payload(now, payload, &mut self.effects);
                state.reclaim_room(&mut self.effects);
            }
        }
        // A connection that has ended leaves some there.
        messages.clear();
    }

    /// Notes that a datagram has come, for the state to be told once for all that came by the same path.
    fn hear(&mut self, now: Instant, from: Option<Path>, len: usize) {
        if self.heard.as_ref().is_some_and(|(_, heard)| heard.from != from) {
            self.tell_state();
        }
        let (_, heard) = self.heard.get_or_insert_with(|| (now, Heard { from, ..Heard::default() }));
        heard.payloads += 1;
        heard.bytes += len as u64;
    }

    fn tell_state(&mut self) {
        if let Some((now, heard)) = self.heard.take() {
            self.shared.state.lock().handle_sign_of_life(now, heard, &mut self.effects);
        }
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        self.tell_state();
        self.shared.tell(std::mem::take(&mut self.effects));
        if self.datagrams {
            self.shared.datagrams.arrived.notify_one();
        }
    }
}
