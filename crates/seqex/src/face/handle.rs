//! The handle of an exchange that threads and tasks share.

use std::fmt;
use std::sync::Arc;

use crate::{
    Answer, Config, Delivery, Order, Refusal, Refused, Remains, SeqNo,
    encoding::ChannelId,
    face::{
        Clock, Driver, Guard, Receiving, Request, Sending,
        bell::Bell,
        state::{Letter, Shared, State},
    },
};

/// One end of an exchange, for any number of threads and tasks.
///
/// Clones are handles of the same exchange. Each operation that may have to wait is a value that waits
/// in either way: `.await` it in a task of any runtime, or call its `wait` or `wait_timeout` in a
/// thread. There are also `try_` forms, which never wait.
///
/// Somebody else, who has the [`Driver`], moves packets between this and the link.
///
/// ```
/// use seqex::{Clock, Config, Delivery, Exchange, Order};
/// # use seqex::{Driver, Message, Packet};
/// # fn carry(from: &Driver<&'static str>, to: &Driver<&'static str>) {
/// #     while let Some(packet) = from.transmit(|packet| packet.map(|data| *data)) {
/// #         to.receive(packet);
/// #     }
/// # }
///
/// let (alice, alice_driver) = Exchange::<&str>::new(Config::default(), Clock::default());
/// let (bob, bob_driver) = Exchange::<&str>::new(Config::default(), Clock::default());
///
/// alice.send(Order::Unordered, "how are you?").wait()?;
/// carry(&alice_driver, &bob_driver);
/// let Delivery::Payload { token, data } = bob.receive().wait()? else { panic!("no question") };
/// assert_eq!(data, "how are you?");
/// token.reply(Order::Unordered, "fine")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Closing
/// [`close`](Self::close) ends every wait with an error, and so does dropping the [`Driver`], without
/// which nothing would ever arrive.
pub struct Exchange<S, R = S> {
    pub(crate) shared: Arc<Shared<S, R>>,
}

/// What comes out of an [`Exchange`]: packets with the [`Guard`] to answer them with, and acknowledgements.
pub type Delivered<S, R = S> = Delivery<S, R, Guard<S, R>>;

/// The exchange is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the exchange is closed")]
pub struct Closed;

impl<S, R> Exchange<S, R> {
    /// A fresh exchange and what connects it to its link; the other end needs the same capacity and the
    /// same first sequence number.
    pub fn new(config: Config, clock: Clock) -> (Self, Driver<S, R>) {
        Self::on_channel(0, config, clock, Arc::new(Bell::new()))
    }

    /// One of several that share a bell.
    pub(crate) fn on_channel(
        channel: ChannelId,
        config: Config,
        clock: Clock,
        bell: Arc<Bell>,
    ) -> (Self, Driver<S, R>) {
        let exchange = Self { shared: Arc::new(Shared::new(channel, config, clock, bell)) };
        (exchange.clone(), Driver::new(exchange))
    }

    /// Sends `data`, waiting for room. Its answer comes out of [`receive`](Self::receive), which somebody
    /// must call; if the one who sends wants the answer, use [`request`](Self::request).
    ///
    /// Whoever waits longest is called first when there is room, but does not own it: another sender may be faster.
    pub fn send(&self, order: Order, data: S) -> Sending<'_, S, R> {
        Sending::new(self, order, data)
    }

    /// Sends `data` if there is room.
    ///
    /// # Errors
    /// [`Refused`], with the data. [`Refusal::RemoteBehind`] means that the other end has to act, and
    /// [`Refusal::LocalUnanswered`] that somebody at this end has to receive, or to answer what was received.
    pub fn try_send(&self, order: Order, data: S) -> Result<SeqNo, Refused<S>> {
        let now = self.shared.clock.now();
        self.shared.with(|state| state.send(now, order, data))
    }

    /// Whether, and if not why not, [`try_send`](Self::try_send) would accept a packet now.
    ///
    /// # Errors
    /// The reason that `try_send` would give.
    pub fn can_send(&self) -> Result<(), Refusal> {
        self.shared.lock().core.can_send()
    }

    /// Waits for the next packet, or for the acknowledgement of one that was [sent](Self::send).
    pub fn receive(&self) -> Receiving<'_, S, R> {
        Receiving::new(self)
    }

    /// The next packet or acknowledgement, if there is one.
    ///
    /// # Errors
    /// [`Closed`], after [`close`](Self::close).
    pub fn try_receive(&self) -> Result<Option<Delivered<S, R>>, Closed> {
        let delivery = self.shared.with(State::receive)?;
        Ok(delivery.map(|delivery| self.open(delivery)))
    }

    /// Sends `data`, waiting for room, and then waits for the answer, which comes to the [`Request`] and not out of
    /// [`receive`](Self::receive): nothing that was not received yet is in its way, except for what an ordered reply
    /// must wait for by its order. Nothing happens before the request is waited for the first time.
    pub fn request(&self, order: Order, data: S) -> Request<S, R> {
        Request::unsent(self.clone(), order, data)
    }

    /// Keeps `count` numbers of the window free for the answers to requests, where there is no room for more: two less than
    /// its capacity at most, at first an eighth of it, and two at least.
    ///
    /// Two are enough for those who answer what they received by an unordered [request](Guard::request) and receive the next
    /// when that is answered. Where answers to requests are answered by data in turn, each of these takes up one more, until there
    /// is room for a new packet again: so keep two more than are made in that time, or have other threads or tasks
    /// receive meanwhile.
    pub fn keep_for_answers(&self, count: u32) {
        self.shared.with(|state| state.core.keep_for_answers(count));
    }

    /// Ends the exchange for good: every wait at this end ends with an error, every later operation is refused.
    /// Returns what was not acknowledged, not drained or not delivered. The peer is not told; that is the link's
    /// business.
    pub fn close(&self) -> Remains<S, R> {
        self.shared.close()
    }

    /// Whether the exchange was closed.
    pub fn is_closed(&self) -> bool {
        self.shared.lock().core.is_closed()
    }

    /// Whether nothing is left to do: both ends have answered all they sent as far as this end knows, everything
    /// was received and is transmitted. An acknowledgement that nobody has [received](Self::receive) yet is left to do, too: to
    /// find out whether the peer has answered everything, see [`unanswered`](Self::unanswered).
    pub fn is_idle(&self) -> bool {
        self.shared.lock().core.is_idle()
    }

    /// Packets sent that the peer has not answered.
    pub fn unanswered(&self) -> u32 {
        self.shared.lock().core.unanswered()
    }

    /// Puts a guard in the place of the token.
    pub(crate) fn open_answer(&self, answer: Answer<S, R>) -> Answer<S, R, Guard<S, R>> {
        match answer {
            Answer::Acknowledged { sent_seq, sent } => Answer::Acknowledged { sent_seq, sent },
            Answer::Reply { token, data, sent_seq, sent } => {
                Answer::Reply { token: Guard::new(self.clone(), token), data, sent_seq, sent }
            }
        }
    }

    /// Puts a guard in the place of the token.
    pub(crate) fn open(&self, delivery: Delivery<Letter<S>, R>) -> Delivered<S, R> {
        let guard = |token| Guard::new(self.clone(), token);
        match delivery {
            Delivery::Acknowledged { seq, data } => Delivery::Acknowledged { seq, data: data.data },
            Delivery::Payload { token, data } => Delivery::Payload { token: guard(token), data },
            Delivery::Reply { token, data, sent_seq, sent } => {
                Delivery::Reply { token: guard(token), data, sent_seq, sent: sent.data }
            }
        }
    }
}

impl<S, R> Clone for Exchange<S, R> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<S, R> fmt::Debug for Exchange<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The data is not shown: showing it would run its code under the lock.
        f.debug_struct("Exchange").finish_non_exhaustive()
    }
}
