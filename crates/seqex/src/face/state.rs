//! What all handles of one exchange share: the exchange itself, and who waits for what.
//!
//! Every operation goes through [`Shared::with`]: lock, act, see whose condition has come true
//! ([`State::settle`]), unlock, and only then wake. A waiter looks at its condition and registers inside one such
//! operation, so no change can slip in between; and since every operation settles, no change goes unnoticed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use std::vec::Vec;

use crate::{
    Answer, Config, Delivery, GaveUp, Order, Packet, Received, Refused, Remains, Resend, SeqEx, SeqNo,
    Timestamp, Token,
    encoding::ChannelId,
    face::{
        Closed,
        bell::Bell,
        clock::Clock,
        foreign::Foreign,
        requests::{RequestId, Requests},
        sync::{Mutex, MutexGuard},
        waiters::{Place, Waiters},
    },
};

/// One in so many numbers of the window is left to the answers to requests, and two at least. Then whoever receives may ask
/// about what it received, and receive the next when that is answered.
const KEPT: u32 = 8;

/// What is sent, with the request it belongs to.
#[derive(Debug)]
pub(crate) struct Letter<S> {
    pub(crate) data: S,
    pub(crate) request: Option<RequestId>,
}

#[derive(Debug)]
pub(crate) struct Shared<S, R> {
    state: Mutex<State<S, R>>,
    /// Which of those that share the bell this is.
    channel: ChannelId,
    pub(crate) bell: Arc<Bell>,
    pub(crate) clock: Clock,
}

/// One entry among the times at which somebody wants to be woken: distinct even for equal times.
pub(crate) type TimerKey = (Timestamp, u64);

#[derive(Debug)]
pub(crate) struct State<S, R> {
    pub(crate) core: SeqEx<Letter<S>, R>,
    pub(crate) requests: Requests<S, R>,
    /// Who waits for room to send.
    pub(crate) senders: Waiters,
    /// Who waits for a delivery.
    pub(crate) receivers: Waiters,
    timers: BTreeMap<TimerKey, Waker>,
    timers_made: u64,
    /// When the peer is told what is still held, so that it does not take a slow application for a lossy link.
    held_due: Option<Timestamp>,
    /// So long after the first message that it was not told of.
    held_delay: Duration,
    /// Whether the bell was rung for what there is to transmit, and nobody has drained it since.
    announced: bool,
    /// Whether it is to be made known that the exchange was closed.
    closing: bool,
    /// The deadline that the link's owner has heard of.
    armed: Option<Timestamp>,
    /// Whether the link's owner was told that the peer is silent.
    told_silent: bool,
    /// Wakers to be called when nothing is locked.
    woken: Vec<Waker>,
    /// Wakers to be dropped when nothing is locked.
    pub(crate) spent: Vec<Waker>,
    /// Data that nobody waits for any more, to be dropped when nothing is locked.
    unwanted: Vec<(S, Option<R>)>,
}

/// Why the bell is rung.
#[derive(Clone, Copy, Debug)]
enum Ring {
    /// The exchange was closed.
    Closed,
    /// There is something to transmit, or a nearer deadline.
    News,
}

/// What is left to do of one operation when nothing is locked any more.
#[must_use = "somebody waits for this"]
struct Aftermath<S, R> {
    /// The first few; an operation rarely wakes more.
    woken: [Option<Waker>; 2],
    spent: [Option<Waker>; 2],
    unwanted: Option<(S, Option<R>)>,
    more: bool,
}

impl<S, R> Shared<S, R> {
    pub(crate) fn new(channel: ChannelId, config: Config, clock: Clock, bell: Arc<Bell>) -> Self {
        let mut core = SeqEx::new(config);
        core.keep_for_answers((config.capacity.packets() / KEPT).max(2));
        let state = State {
            core,
            requests: Requests::default(),
            senders: Waiters::default(),
            receivers: Waiters::default(),
            timers: BTreeMap::new(),
            timers_made: 0,
            held_due: None,
            held_delay: held_delay(config.resend),
            announced: false,
            closing: false,
            armed: None,
            told_silent: false,
            woken: Vec::new(),
            spent: Vec::new(),
            unwanted: Vec::new(),
        };
        Self { state: Mutex::new(state), channel, bell, clock }
    }

    /// The lock, for those who only look, and for those who [`unlock`](Self::unlock).
    pub(crate) fn lock(&self) -> MutexGuard<'_, State<S, R>> {
        self.state.lock()
    }

    /// Runs `act` under the lock and wakes whoever can go on because of it. `act` must not drop data or wakers
    /// of users; it returns them.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut State<S, R>) -> T) -> T {
        let mut state = self.lock();
        let result = act(&mut state);
        self.unlock(state);
        result
    }

    //= ZSSP-DEF-23  every change of the state ends here
    /// Ends an operation.
    pub(crate) fn unlock<'a>(&'a self, mut state: MutexGuard<'a, State<S, R>>) {
        let mut ring = state.settle();
        let mut foreign = Foreign::default();
        loop {
            let Aftermath { woken, spent, unwanted, more } = state.aftermath();
            drop(state);
            match ring.take() {
                None => {}
                Some(Ring::Closed) => foreign.run(|| self.bell.ring(Some(self.channel))),
                Some(Ring::News) => foreign.run(|| self.bell.ring(None)),
            }
            for waker in woken.into_iter().flatten() {
                foreign.run(|| waker.wake());
            }
            if unwanted.is_some() || spent.iter().any(Option::is_some) {
                foreign.run(|| drop((spent, unwanted)));
            }
            if !more {
                return foreign.finish();
            }
            state = self.lock();
        }
    }

    /// Waits for `attempt` to succeed, at a place in the list that `list` names: tries, and if that fails registers
    /// and tries again, both under one lock.
    pub(crate) fn poll_until<T>(
        &self,
        context: &mut Context<'_>,
        (list, place): (List<S, R>, &mut Option<Place>),
        mut attempt: impl FnMut(&mut State<S, R>) -> Option<T>,
    ) -> Poll<T> {
        let mut attempt = |state: &mut State<S, R>, waker: Option<Waker>| {
            if let Some(result) = attempt(state) {
                state.spent.extend(waker);
                state.leave(list, place);
                return Some(Poll::Ready(result));
            }
            if let Some(waker) = waker {
                let replaced = list(state).join(place, waker);
                state.spent.extend(replaced);
            } else if !list(state).has(*place, context.waker()) {
                return None;
            }
            Some(Poll::Pending)
        };
        let polled = self.with(|state| attempt(state, None)).or_else(|| {
            // Cloning a waker is foreign code: nothing is locked here, and only those who must wait come here.
            let waker = context.waker().clone();
            self.with(|state| attempt(state, Some(waker)))
        });
        polled.unwrap_or(Poll::Pending)
    }

    /// Ends a wait that [`poll_until`](Self::poll_until) began. Whoever was called but did not come leaves its turn
    /// to the next one.
    pub(crate) fn leave(&self, list: List<S, R>, place: &mut Option<Place>) {
        if place.is_some() {
            self.with(|state| state.leave(list, place));
        }
    }

    /// Ends the exchange.
    pub(crate) fn close(&self) -> Remains<S, R> {
        let Remains { unanswered, acknowledged, undelivered } = self.with(State::close);
        let open = |(seq, letter): (_, Letter<S>)| (seq, letter.data);
        Remains {
            unanswered: unanswered.into_iter().map(open).collect(),
            acknowledged: acknowledged.into_iter().map(open).collect(),
            undelivered: undelivered.into_iter().map(|(data, answers)| (data, answers.map(open))).collect(),
        }
    }
}

/// One of the lists of those who wait.
pub(crate) type List<S, R> = fn(&mut State<S, R>) -> &mut Waiters;

/// Those who wait for room to send.
pub(crate) fn senders<S, R>(state: &mut State<S, R>) -> &mut Waiters {
    &mut state.senders
}

/// Those who wait for a delivery.
pub(crate) fn receivers<S, R>(state: &mut State<S, R>) -> &mut Waiters {
    &mut state.receivers
}

/// How long it is left to the answers to tell that messages have arrived: half of what may be the peer's time-out.
fn held_delay(resend: Resend) -> Duration {
    let least = match resend {
        Resend::Adaptive(bounds) => bounds.min,
        Resend::Fixed(interval) => interval,
    };
    least.max(Duration::from_millis(1)) / 2
}

impl<S, R> State<S, R> {
    /// Takes a packet from the link.
    pub(crate) fn receive_packet(&mut self, now: Timestamp, packet: Packet<R>) -> Received<R> {
        let is_message = matches!(packet, Packet::Message(_));
        if !self.core.holds() {
            // All that it was set for is answered.
            self.held_due = None;
        }
        let received = self.core.receive(now, packet);
        if is_message && matches!(received, Received::Taken) {
            self.held_due.get_or_insert(now.saturating_add(self.held_delay));
        }
        received
    }

    pub(crate) fn send(&mut self, now: Timestamp, order: Order, data: S) -> Result<SeqNo, Refused<S>> {
        let sent = self.core.send(now, order, Letter { data, request: None });
        sent.map_err(|Refused { reason, data }| Refused { reason, data: data.data })
    }

    pub(crate) fn receive(&mut self) -> Result<Option<Delivery<Letter<S>, R>>, Closed> {
        match self.core.poll_deliver() {
            None if self.core.is_closed() => Err(Closed),
            delivery => Ok(delivery),
        }
    }

    /// Sends a request, when there is room for it, or answers the packet of `token` with it. Returns what cannot be
    /// sent.
    pub(crate) fn request(
        &mut self,
        now: Timestamp,
        token: Option<Token>,
        order: Order,
        data: S,
    ) -> Result<RequestId, S> {
        let id = self.requests.begin();
        let letter = Letter { data, request: Some(id) };
        let sent = match token {
            None => self.core.send(now, order, letter).map_err(|refused| refused.data),
            Some(token) => self.core.reply(now, token, order, letter).map_err(|not_open| not_open.data),
        };
        match sent {
            Ok(seq) => {
                self.core.claim(seq);
                Ok(id)
            }
            Err(letter) => {
                self.requests.cancel(id);
                Err(letter.data)
            }
        }
    }

    /// Gives up a place in a list.
    pub(crate) fn leave(&mut self, list: List<S, R>, place: &mut Option<Place>) {
        let waker = list(self).leave(place);
        self.spent.extend(waker);
    }

    /// Gives up a request. If its answer has arrived already, that is acknowledged.
    pub(crate) fn give_up(&mut self, id: RequestId) {
        let (answer, waker) = self.requests.give_up(id);
        self.spent.extend(waker);
        if let Some(answer) = answer {
            self.dismiss(answer);
        }
    }

    /// Has `waker` called when [`handle_timeout`](Self::handle_timeout) finds that it is `at`.
    pub(crate) fn set_timer(&mut self, timer: &mut Option<TimerKey>, at: Timestamp, waker: Waker) {
        if timer.is_some_and(|(set_for, _)| set_for != at) {
            self.cancel_timer(timer);
        }
        let key = *timer.get_or_insert_with(|| {
            self.timers_made += 1;
            (at, self.timers_made)
        });
        self.spent.extend(self.timers.insert(key, waker));
    }

    /// Forgets a timer.
    pub(crate) fn cancel_timer(&mut self, timer: &mut Option<TimerKey>) {
        self.spent.extend(timer.take().and_then(|key| self.timers.remove(&key)));
    }

    /// Whether the peer is silent, if nobody was told yet.
    pub(crate) fn newly_silent(&mut self) -> Option<GaveUp> {
        let failure = self.core.failure();
        failure.filter(|_| !std::mem::replace(&mut self.told_silent, true))
    }

    /// Lets time pass.
    pub(crate) fn handle_timeout(&mut self, now: Timestamp) {
        // What was told is over once the peer was heard: looked at before the next silence can begin here.
        self.told_silent &= self.core.failure().is_some();
        self.core.handle_timeout(now);
        if self.held_due.take_if(|due| *due <= now).is_some() {
            self.core.tell_held();
        }
        while let Some(timer) = self.timers.first_entry()
            && timer.key().0 <= now
        {
            self.woken.push(timer.remove());
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        let timer = self.timers.first_key_value().map(|(&(at, _), _)| at);
        let held = self.held_due.filter(|_| self.core.holds());
        [self.core.next_deadline(), timer, held].into_iter().flatten().min()
    }

    /// The deadline, for the link's owner, who wants to hear from now on if it comes nearer.
    pub(crate) fn arm(&mut self) -> Option<Timestamp> {
        self.armed = self.next_deadline();
        self.armed
    }

    /// The deadline, for somebody who waits for it to come nearer than `seen`: who, whatever was rung for, and has gone
    /// again, wants to hear of that from now on.
    pub(crate) fn listen(&mut self, seen: Option<Timestamp>) -> Option<Timestamp> {
        self.armed = self.armed.zip(seen).map(|(armed, seen)| armed.max(seen));
        self.next_deadline()
    }

    /// Notes that the link's owner has drained what there was to transmit, or has seen that there is something.
    pub(crate) fn drained(&mut self) {
        self.announced = false;
    }

    //= ZSSP-DEF-24  whoever waits is woken, and finds the exchange closed
    //= ZSSP-SEQ-20  every waiter
    fn close(&mut self) -> Remains<Letter<S>, R> {
        self.closing = !self.core.is_closed();
        let remains = self.core.close();
        for list in [&mut self.senders, &mut self.receivers] {
            self.woken.extend(std::iter::from_fn(|| list.call_one()));
        }
        self.requests.close(&mut self.woken);
        self.woken.extend(std::mem::take(&mut self.timers).into_values());
        (self.armed, self.held_due) = (None, None);
        remains
    }

    /// Hands out what came in and finds out who can go on. Returns whether the bell has to be rung, and why.
    ///
    /// Of those who wait for the same, one is called at a time. What it then does is an operation too, and ends here
    /// again, so that the next one is called if there is something left.
    fn settle(&mut self) -> Option<Ring> {
        while let Some(answer) = self.core.poll_answer() {
            if let Some(unwanted) = self.requests.resolve(answer, &mut self.woken) {
                self.dismiss(unwanted);
            }
        }
        if !self.receivers.is_empty() && self.core.can_deliver() {
            self.woken.extend(self.receivers.call_one());
        }
        if !self.senders.is_empty() && self.core.can_send().is_ok() {
            self.woken.extend(self.senders.call_one());
        }
        // What was announced may have become pointless before anybody looked: then the next is announced again.
        let can_transmit = self.core.can_transmit();
        let transmit = can_transmit && !self.announced;
        self.announced = can_transmit;
        let deadline = self.next_deadline();
        let nearer = deadline.is_some_and(|next| self.armed.is_none_or(|armed| next < armed));
        if nearer {
            self.armed = deadline;
        }
        if std::mem::take(&mut self.closing) {
            return Some(Ring::Closed);
        }
        (transmit || nearer).then_some(Ring::News)
    }

    //= ZSSP-DEF-21  place and critical section are given back
    /// Acknowledges an answer that nobody waits for any more; its data is dropped when nothing is locked.
    fn dismiss(&mut self, answer: Answer<S, R>) {
        let data = match answer {
            Answer::Acknowledged { sent, .. } => (sent, None),
            Answer::Reply { token, data, sent, .. } => {
                self.core.acknowledge(token);
                (sent, Some(data))
            }
        };
        self.unwanted.push(data);
    }

    fn aftermath(&mut self) -> Aftermath<S, R> {
        let woken = [self.woken.pop(), self.woken.pop()];
        let spent = [self.spent.pop(), self.spent.pop()];
        let unwanted = self.unwanted.pop();
        let more = !(self.woken.is_empty() && self.spent.is_empty() && self.unwanted.is_empty());
        Aftermath { woken, spent, unwanted, more }
    }
}
