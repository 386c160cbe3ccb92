//! A reliable channel and its messages.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use seqex::encoding::{ChannelId, MESSAGE_OVERHEAD};
use seqex::{Order, Token};
use tokio::sync::oneshot;

use super::Connection;
use super::shared::Shared;
use super::state::{Answering, Arrived, Handles, MESSAGE_COST, Sending};
use crate::clock;
use crate::error::{CloseReason, RequestError, SendError, TrySendError};
use crate::frame::LaneId;
use crate::wait::until;

/// A reliable channel: messages arrive exactly once, and each is answered exactly once.
///
/// Which way of sending to choose:
///
/// | | arrives | order | answer |
/// |---|---|---|---|
/// | [`send`](Self::send) | always | as it comes: nothing waits for a lost one | none to see |
/// | [`send_ordered`](Self::send_ordered) | always | after everything sent before it, one at a time | none to see |
/// | [`request`](Self::request) | always | as it comes | the peer's reply |
/// | [`Connection::send_datagram`] | perhaps | as it comes | none |
///
/// # Flow control
/// A message occupies the sender's window until the receiving application has *answered* it: by replying, or by
/// dropping the [`Message`]. A receiver that stops calling [`receive`](Self::receive), or keeps the messages, therefore
/// stops the sender, and never holds more than the window's [`MAX_MESSAGES`](Self::MAX_MESSAGES) messages. The same
/// window carries the answers: a side whose application keeps all of the peer's messages unanswered cannot send either,
/// so keep receiving while you send.
///
/// What the peer replies to a [`request`](Self::request) is taken at once. What it replies to other messages is a message,
/// too: until it was received and dropped, it fills the peer's buffer for replies, and what it answers fills the send
/// buffer here.
///
/// [`Message::reply`] never waits. Where a reply finds no room, `receive` gives out nothing on the channel but replies of
/// the peer until it has some. So a peer that takes no replies costs no more memory than the buffer and the replies to
/// the messages that the application had already; and two sides that both reply in the task that receives get on, however
/// much they send, as long as both receive. Replies to replies are the exception: each takes up a place in the window, and an
/// eighth of those is left to the peer's replies, of which it needs two. So a side whose window is full, and whose peer's
/// replies wait for room, can make two less than an eighth of [`MAX_MESSAGES`](Self::MAX_MESSAGES) such replies before the
/// two sides may come to wait for each other; they are counted anew when there is room for a new message. More of
/// them belong on a channel of their own.
///
/// Clones are handles of the same channel; each message goes to one of those that receive. Channels do not hold each
/// other up: each has its own window and its own order, and one has half of the send buffer at most, several what leaves
/// room for others.
///
/// ```
/// # async fn example(connection: zssp::Connection) -> Result<(), Box<dyn std::error::Error>> {
/// let orders = connection.channel(1)?;
/// orders.send_ordered("open").await?;
/// orders.send_ordered("close").await?;
/// let questions = connection.channel(2)?;
/// questions.set_priority(1);
/// let answer = questions.request("how much?").await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Channel {
    connection: Connection,
    id: ChannelId,
    handles: Handles,
}

impl Channel {
    /// Messages under way in one direction at most; both ends count on it.
    pub const MAX_MESSAGES: u32 = crate::config::WINDOW;

    pub(super) fn new(connection: Connection, id: ChannelId, handles: Handles) -> Self {
        Self { connection, id, handles }
    }

    /// The channel's number.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// Where several channels and streams of the connection have something to send, those with the highest priority go
    /// first, and equal ones take turns; 0 at first. It concerns what this side sends, from the next message on.
    ///
    /// One that always has something to send keeps those below it from sending. The connection does not suffer from that:
    /// what finds out whether the peer is there goes before everything, and so do messages that end streams.
    pub fn set_priority(&self, priority: i32) {
        self.shared().look(|state| state.set_priority(LaneId::Channel(self.id), priority));
    }

    /// The connection this channel belongs to.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Bytes one message may have: 48 fragments of the endpoint's MTU, less what seals and names it.
    ///
    /// For bulk, large messages cost the least per byte; on a road that loses packets, smaller ones cost less to
    /// repeat, since one lost fragment costs its message.
    pub fn max_message_size(&self) -> usize {
        self.shared().settings.max_payload - MESSAGE_OVERHEAD
    }

    /// Sends `data`, which may overtake other messages and be overtaken. It is given away uncopied, so it is owned (`Vec`,
    /// `String`, [`Bytes`]) or `'static`; what is borrowed is copied first, by [`Bytes::copy_from_slice`].
    ///
    /// Resolves when the message was accepted; from then on it is sent, and repeated until it is answered, unless the
    /// connection ends otherwise than by [`close`](Connection::close). Waits while the send buffer is full, or the channel
    /// has its share of it.
    ///
    /// # Errors
    /// See [`SendError`].
    ///
    /// # Cancel safety
    /// Dropped before it resolves, the message was not accepted.
    pub async fn send(&self, data: impl Into<Bytes>) -> Result<(), SendError> {
        self.put(Order::Unordered, data.into(), None).await
    }

    /// Sends `data`, to be delivered after every message sent before it, of either kind.
    ///
    /// The peer receives ordered messages one at a time: the next when the one before is dropped, replied to or
    /// [released](Message::release). Otherwise as [`send`](Self::send).
    ///
    /// # Errors
    /// See [`SendError`].
    ///
    /// # Cancel safety
    /// Dropped before it resolves, the message was not accepted.
    pub async fn send_ordered(&self, data: impl Into<Bytes>) -> Result<(), SendError> {
        self.put(Order::Ordered, data.into(), None).await
    }

    /// As [`send`](Self::send), but gives up where that would wait: for what nobody misses, and for peers that do not keep
    /// up with what all are told.
    ///
    /// ```
    /// # fn example(guests: &mut Vec<zssp::Channel>, news: &zssp::Bytes) {
    /// use zssp::TrySendError;
    /// guests.retain(|guest| match guest.try_send(news.clone()) {
    ///     Ok(()) => true,
    ///     Err(TrySendError::Full) => {
    ///         guest.connection().abort(1, b"too slow");
    ///         false
    ///     }
    ///     Err(_) => false,
    /// });
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`TrySendError`].
    pub fn try_send(&self, data: impl Into<Bytes>) -> Result<(), TrySendError> {
        self.try_put(Order::Unordered, data.into())
    }

    /// As [`send_ordered`](Self::send_ordered), but gives up where that would wait.
    ///
    /// # Errors
    /// See [`TrySendError`].
    pub fn try_send_ordered(&self, data: impl Into<Bytes>) -> Result<(), TrySendError> {
        self.try_put(Order::Ordered, data.into())
    }

    /// Sends `data` and waits for the peer's reply to this very message.
    ///
    /// # Errors
    /// [`RequestError::NoReply`] when the peer's application took the message and dropped it.
    ///
    /// # Cancel safety
    /// Dropped before it resolves: the request may or may not have been sent; a late reply is acknowledged for you and
    /// discarded.
    pub async fn request(&self, data: impl Into<Bytes>) -> Result<Bytes, RequestError> {
        let (answer, reply) = oneshot::channel();
        self.put(Order::Unordered, data.into(), Some(answer)).await?;
        match reply.await {
            Ok(reply) => Ok(reply),
            Err(_) => Err(match self.shared().look(|state| state.ended().cloned()) {
                Some(reason) => RequestError::Send(SendError::Closed(reason)),
                None => RequestError::NoReply,
            }),
        }
    }

    /// As [`request`](Self::request), but waits for the reply for `time` at most.
    ///
    /// # Errors
    /// [`RequestError::TimedOut`] when no reply came in time. The request may have been taken all the same; a late reply
    /// is acknowledged for you and discarded.
    ///
    /// # Cancel safety
    /// As [`request`](Self::request).
    pub async fn request_within(
        &self,
        time: Duration,
        data: impl Into<Bytes>,
    ) -> Result<Bytes, RequestError> {
        let reply = tokio::time::timeout(time, self.request(data)).await;
        reply.unwrap_or(Err(RequestError::TimedOut))
    }

    /// The next message of the peer; `None` when the connection has ended. While a reply of this side waits for room, only
    /// [replies](Message::in_reply_to) of the peer come out.
    ///
    /// # Cancel safety
    /// Dropped before it resolves, no message was taken.
    pub async fn receive(&self) -> Option<Message> {
        let shared = self.shared();
        let arrived = until(&self.handles.arrival, || {
            let (arrived, more, ended) = shared.with(|state, effects| {
                let arrived = state.take_message(clock::now(), self.id, effects);
                (arrived, state.has_messages(self.id), state.ended().is_some())
            });
            if more {
                self.handles.arrival.notify_one();
            }
            arrived.map(Some).or(ended.then_some(None))
        });
        Some(self.message(arrived.await?))
    }

    /// As [`receive`](Self::receive), but without waiting: `None` where there is no message now.
    ///
    /// ```
    /// # async fn example(channel: zssp::Channel) -> Result<(), zssp::CloseReason> {
    /// // What came since the last frame of a game, say.
    /// while let Some(message) = channel.try_receive()? {
    ///     println!("{:?}", message.data());
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Why the connection has ended, when no message is left.
    pub fn try_receive(&self) -> Result<Option<Message>, CloseReason> {
        let (arrived, ended) = self.shared().with(|state, effects| {
            (state.take_message(clock::now(), self.id, effects), state.ended().cloned())
        });
        match (arrived, ended) {
            (Some(arrived), _) => Ok(Some(self.message(arrived))),
            (None, Some(reason)) => Err(reason),
            (None, None) => Ok(None),
        }
    }

    /// Waits until the peer's application has answered everything that was sent on this channel.
    ///
    /// # Errors
    /// Why the connection ended, if it did before that.
    ///
    /// # Cancel safety
    /// Cancel safe: it only waits.
    pub async fn flush(&self) -> Result<(), CloseReason> {
        let shared = self.shared();
        let settled = shared.look(|state| state.settled(LaneId::Channel(self.id)));
        let outcome = until(&settled, || {
            shared.look(|state| match (state.ended(), state.is_flushed(self.id)) {
                (Some(reason), _) => Some(Err(reason.clone())),
                (None, true) => Some(Ok(())),
                (None, false) => None,
            })
        });
        outcome.await
    }

    async fn put(
        &self,
        order: Order,
        data: Bytes,
        answer: Option<oneshot::Sender<Bytes>>,
    ) -> Result<(), SendError> {
        let mut message = Some(Sending { answer, ..self.checked(data)? });
        if let Some(sent) = self.attempt(order, &mut message, None) {
            return sent;
        }
        // In turn, so that a large message is not overtaken by small ones for ever.
        let _next = self.handles.door.lock().await;
        let mut waiting = Waiting { channel: self, message };
        poll_fn(|cx| {
            let sent = self.attempt(order, &mut waiting.message, Some(cx.waker().clone()));
            sent.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    fn try_put(&self, order: Order, data: Bytes) -> Result<(), TrySendError> {
        let mut message = Some(self.checked(data)?);
        match self.attempt(order, &mut message, None) {
            Some(sent) => Ok(sent?),
            None => Err(TrySendError::Full),
        }
    }

    fn checked(&self, data: Bytes) -> Result<Sending, SendError> {
        let (len, max) = (data.len(), self.max_message_size());
        if len > max {
            Err(SendError::TooLarge { len, max })
        } else {
            Ok(Sending::new(data, len + MESSAGE_COST))
        }
    }

    /// Takes the message if there is room for it, or else notes down who waits for that.
    fn attempt(
        &self,
        order: Order,
        message: &mut Option<Sending>,
        next: Option<Waker>,
    ) -> Option<Result<(), SendError>> {
        self.shared().with(|state, effects| {
            let cost = message.as_ref()?.cost;
            let admitted = state.admit(self.id, cost, next, effects);
            let message = message.take_if(|_| admitted)?;
            Some(state.send(self.id, order, message, effects))
        })
    }

    fn message(&self, arrived: Arrived) -> Message {
        let Arrived { token, data, answers } = arrived;
        let (connection, channel) = (self.connection.clone(), self.id);
        Message { connection, channel, token: Some(token), data, in_reply_to: answers }
    }

    fn shared(&self) -> &Arc<Shared> {
        self.connection.shared()
    }
}

/// A message that is the next on its channel to get room. Should it be given up before it does, nobody waits there any
/// more.
struct Waiting<'a> {
    channel: &'a Channel,
    /// Taken when it is accepted.
    message: Option<Sending>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.message.is_some() {
            let id = LaneId::Channel(self.channel.id);
            self.channel.shared().with(|state, effects| state.give_up_room(id, effects));
        }
    }
}

/// A message of the peer. It is answered exactly once: by [`reply`](Self::reply), or by dropping it, which tells the
/// peer that it was dealt with.
///
/// As long as it lives it takes one place of the sender's window, and an ordered one keeps the next ordered one from
/// being received. It is a handle of its connection as well: that stays open until it is answered, and a
/// [`close`](Connection::close) waits for it.
///
/// ```
/// # async fn example(channel: zssp::Channel) -> Result<(), zssp::SendError> {
/// while let Some(message) = channel.receive().await {
///     match &message.data()[..] {
///         b"ping" => message.reply("pong")?,
///         // Whoever asked gets `RequestError::NoReply`, whoever only sent knows that it arrived.
///         _ => drop(message),
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "dropping it tells the peer that it was dealt with"]
pub struct Message {
    connection: Connection,
    channel: ChannelId,
    /// Taken when it is answered.
    token: Option<Token>,
    data: Bytes,
    in_reply_to: Option<Sending>,
}

impl Message {
    /// What the peer sent.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// What the peer sent; the message is answered by this.
    pub fn into_data(self) -> Bytes {
        self.data.clone()
    }

    /// The message of ours that the peer replied to with this one, if it was not a [`request`](Channel::request):
    /// its bytes as they were sent.
    pub fn in_reply_to(&self) -> Option<&Bytes> {
        self.in_reply_to.as_ref().map(|asked| &asked.data)
    }

    /// Whether it was sent in order.
    pub fn is_ordered(&self) -> bool {
        self.token.as_ref().is_some_and(|token| token.order() == Order::Ordered)
    }

    /// Lets the next ordered message be received before this one is answered. Without effect on an unordered one.
    pub fn release(&self) {
        if let Some(token) = &self.token {
            let shared = self.connection.shared();
            shared.with(|state, effects| state.release(clock::now(), self.channel, token, effects));
        }
    }

    /// Answers with `data`. It is accepted at once, to be sent as a message of this side is.
    ///
    /// The buffer for replies is as large as the [send buffer](crate::Builder::send_buffer), and has room again when the
    /// peer takes replies: those to a [`request`](Channel::request) by itself, others when its application is done with
    /// them. As long as this one waits for room there, [`receive`](Channel::receive) gives out nothing on the channel but
    /// replies; those to replies wait for none.
    ///
    /// Once accepted it is sent, also while this side [closes](Connection::close) the connection, which waits for it.
    ///
    /// # Errors
    /// See [`SendError`]; if the reply is too large, the message is answered without one. [`SendError::Closed`] also when
    /// this side closes and has waited for the reply for too long: the peer was told that there is none.
    pub fn reply(mut self, data: impl Into<Bytes>) -> Result<(), SendError> {
        let data = data.into();
        let (len, max) = (data.len(), self.connection.shared().settings.max_payload - MESSAGE_OVERHEAD);
        if len > max {
            return Err(SendError::TooLarge { len, max });
        }
        let Some(answering) = self.take_answering() else {
            // Only an answer takes it, and that takes the message.
            return Ok(());
        };
        let shared = self.connection.shared();
        shared.with(|state, effects| state.reply(clock::now(), answering, data, effects))
    }

    fn take_answering(&mut self) -> Option<Answering> {
        let token = self.token.take()?;
        let asked = self.in_reply_to.as_ref().map(|asked| (asked.kind, asked.cost));
        Some(Answering { channel: self.channel, token, len: self.data.len(), asked })
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        if let Some(answering) = self.take_answering() {
            let shared = self.connection.shared();
            shared.with(|state, effects| state.acknowledge(clock::now(), answering, effects));
        }
    }
}
