//! A packet together with the wait for its answer.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::{
    Answer, Order, Timestamp, Token,
    face::{
        Exchange, Guard,
        block::{block_on, block_on_until, end_of},
        requests::RequestId,
        state::{State, TimerKey, senders},
        waiters::Place,
    },
};

/// A packet and the wait for its answer; made by [`Exchange::request`] and [`Guard::request`].
///
/// Resolves to the [`Answer`], which brings back the very data that was sent, or to [`Unanswered`].
///
/// An ordered reply is in its critical section from when it arrives: until the request is polled and the reply's guard
/// released, the next ordered packet is not handed out. So poll a request to its end, or drop it, before waiting for
/// other ordered packets in the same task.
///
/// # Cancel safety
/// Dropped before it resolves, it leaves nothing behind for anybody to take care of. If the packet was not sent yet, it
/// never will be, and its data is dropped. If it was sent, the peer still gets it, and it keeps its place in the window until
/// the answer arrives, as any packet does. The answer, whether it has arrived already or arrives later, is acknowledged
/// and dropped, so that it keeps neither its room nor the critical section of an ordered reply.
///
/// # Panics
/// When it is polled after it has resolved.
#[must_use = "the answer comes to whoever waits for it"]
pub struct Request<S, R> {
    exchange: Exchange<S, R>,
    course: Course<S>,
}

/// How far a request is, apart from the exchange it runs on.
struct Course<S> {
    stage: Stage<S>,
    deadline: Option<Timestamp>,
    timer: Option<TimerKey>,
}

enum Stage<S> {
    Over,
    Sent(RequestId),
    Unsent { order: Order, data: S, place: Option<Place> },
}

/// A request that ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Unanswered<S> {
    /// Why.
    pub why: WhyUnanswered,
    /// The data, if it was not even sent. What was sent is handed back by [`Exchange::close`], or dropped with the
    /// late answer.
    pub unsent: Option<S>,
}

/// Why a request ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum WhyUnanswered {
    /// The exchange is closed.
    #[error("the exchange is closed")]
    Closed,
    /// The deadline has passed.
    #[error("there was no answer in time")]
    TimedOut,
}

impl<S, R> Request<S, R> {
    pub(crate) fn unsent(exchange: Exchange<S, R>, order: Order, data: S) -> Self {
        let stage = Stage::Unsent { order, data, place: None };
        Self { exchange, course: Course { stage, deadline: None, timer: None } }
    }

    pub(crate) fn replying(exchange: Exchange<S, R>, token: Option<Token>, order: Order, data: S) -> Self {
        let now = exchange.shared.clock.now();
        let stage = match exchange.shared.with(|state| state.request(now, token, order, data)) {
            Ok(id) => Stage::Sent(id),
            // Only a closed exchange refuses a reply, and then this refuses to send.
            Err(data) => Stage::Unsent { order, data, place: None },
        };
        Self { exchange, course: Course { stage, deadline: None, timer: None } }
    }

    /// Has the request end with [`WhyUnanswered::TimedOut`] when this long from now there is no answer, whether or not it
    /// has been polled or had another deadline before. Needs a [`Driver`](crate::Driver) that handles time-outs, and no
    /// runtime.
    pub fn within(mut self, time: Duration) -> Self {
        self.course.deadline = Some(self.exchange.shared.clock.now().saturating_add(time));
        self
    }

    /// Blocks the thread until there is an answer.
    ///
    /// # Errors
    /// [`Unanswered`], when the exchange is closed or the time given to [`within`](Self::within) is over.
    pub fn wait(mut self) -> Result<Answer<S, R, Guard<S, R>>, Unanswered<S>> {
        block_on(&mut self)
    }

    /// Blocks the thread until there is an answer, but not for longer than this.
    ///
    /// # Errors
    /// [`Unanswered`], when the exchange is closed or there was no answer in time.
    pub fn wait_timeout(mut self, at_most: Duration) -> Result<Answer<S, R, Guard<S, R>>, Unanswered<S>> {
        let answer = block_on_until(&mut self, end_of(at_most));
        answer.unwrap_or_else(|| {
            let Self { exchange, course } = &mut self;
            let unsent = exchange.shared.with(|state| course.end(state));
            Err(Unanswered { why: WhyUnanswered::TimedOut, unsent })
        })
    }
}

impl<S> Course<S> {
    /// Goes as far as it can. `None` when it has to wait.
    fn advance<R>(
        &mut self,
        state: &mut State<S, R>,
        now: Timestamp,
    ) -> Option<Result<Answer<S, R>, WhyUnanswered>> {
        if let Stage::Sent(id) = self.stage
            && let Some(answer) = state.requests.take(id)
        {
            self.stage = Stage::Over;
            return Some(Ok(answer));
        }
        if state.core.is_closed() {
            return Some(Err(WhyUnanswered::Closed));
        }
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Some(Err(WhyUnanswered::TimedOut));
        }
        self.stage = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Unsent { order, data, mut place } if state.core.can_send().is_ok() => {
                state.leave(senders, &mut place);
                match state.request(now, None, order, data) {
                    Ok(id) => Stage::Sent(id),
                    Err(data) => Stage::Unsent { order, data, place },
                }
            }
            stage => stage,
        };
        None
    }

    /// Whether this waker will be called when there is something new, and when the deadline has passed.
    fn is_registered<R>(&self, state: &mut State<S, R>, waker: &Waker) -> bool {
        // The deadline may have been set, or another, since the last time.
        if self.timer.map(|(at, _)| at) != self.deadline {
            return false;
        }
        match &self.stage {
            Stage::Over => false,
            Stage::Sent(id) => state.requests.has(*id, waker),
            Stage::Unsent { place, .. } => state.senders.has(*place, waker),
        }
    }

    /// Has the wakers called when there is something new.
    fn register<R>(&mut self, state: &mut State<S, R>, [waker, timer]: [Waker; 2]) {
        match &mut self.stage {
            Stage::Over => state.spent.push(waker),
            Stage::Sent(id) => state.spent.extend(state.requests.wait(*id, waker)),
            Stage::Unsent { place, .. } => state.spent.extend(state.senders.join(place, waker)),
        }
        match self.deadline {
            None => state.spent.push(timer),
            Some(at) => state.set_timer(&mut self.timer, at, timer),
        }
    }

    /// Gives up whatever it has in the exchange. Returns the data if it was not sent.
    fn end<R>(&mut self, state: &mut State<S, R>) -> Option<S> {
        state.cancel_timer(&mut self.timer);
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Over => None,
            Stage::Sent(id) => {
                state.give_up(id);
                None
            }
            Stage::Unsent { data, mut place, .. } => {
                state.leave(senders, &mut place);
                Some(data)
            }
        }
    }
}

impl<S, R> Unpin for Request<S, R> {}

impl<S, R> Future for Request<S, R> {
    type Output = Result<Answer<S, R, Guard<S, R>>, Unanswered<S>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { exchange, course } = &mut *self;
        let over = matches!(course.stage, Stage::Over);
        assert!(!over, "there is one answer: this was polled after it had resolved");
        let now = exchange.shared.clock.now();
        let mut attempt = |state: &mut State<S, R>, wakers: Option<[Waker; 2]>| {
            if let Some(result) = course.advance(state, now) {
                state.spent.extend(wakers.into_iter().flatten());
                let unsent = course.end(state);
                return Some(Poll::Ready(result.map_err(|why| Unanswered { why, unsent })));
            }
            if let Some(wakers) = wakers {
                course.register(state, wakers);
            } else if !course.is_registered(state, context.waker()) {
                return None;
            }
            Some(Poll::Pending)
        };
        let polled = exchange.shared.with(|state| attempt(state, None)).or_else(|| {
            // Cloning a waker is foreign code: nothing is locked here.
            let wakers = [context.waker().clone(), context.waker().clone()];
            exchange.shared.with(|state| attempt(state, Some(wakers)))
        });
        let Some(Poll::Ready(result)) = polled else { return Poll::Pending };
        Poll::Ready(result.map(|answer| exchange.open_answer(answer)))
    }
}

impl<S, R> Drop for Request<S, R> {
    fn drop(&mut self) {
        let Self { exchange, course } = self;
        if !matches!(course.stage, Stage::Over) {
            let _unsent = exchange.shared.with(|state| course.end(state));
        }
    }
}

impl<S, R> fmt::Debug for Request<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("deadline", &self.course.deadline).finish_non_exhaustive()
    }
}
