//! One exchange of a connection: a channel, a stream, or the messages about streams.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use seqex::encoding::MessageHeader;
use seqex::{Answer, Config, Delivery, Event, Message, Order, SeqEx, SeqNo, Timestamp, Token};
use tokio::sync::{Mutex, Notify, oneshot};

use super::inbox::{Arrived, Inbox};
use super::replies::KEPT;
use super::room::Account;
use super::sizes::Sizes;
use super::stream::Stream;
use super::{Effects, Kind};
use crate::connection::flight::Landed;
use crate::connection::outgoing::Outgoing;
use crate::frame::{Chunk, LaneId, PART_OVERHEAD};

/// A message on its way out.
#[derive(Debug)]
pub(in crate::connection) struct Sending {
    pub(in crate::connection) data: Bytes,
    /// What it took of the send buffer, or of that of replies.
    pub(in crate::connection) cost: usize,
    pub(in crate::connection) kind: Kind,
    /// Who waits for the reply.
    pub(in crate::connection) answer: Option<oneshot::Sender<Bytes>>,
    /// Set if it is a chunk of a stream.
    pub(in crate::connection) chunk: Option<Chunk>,
}

impl Sending {
    /// One whose answer nobody but the connection waits for.
    pub(in crate::connection) fn new(data: Bytes, cost: usize) -> Self {
        Self { data, cost, kind: Kind::Message, answer: None, chunk: None }
    }
}

/// An exchange, and what waits to get into it and out of it.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) exchange: SeqEx<Sending, Bytes>,
    pub(super) content: Content,
    /// Where several have something to send, those with the highest go first.
    pub(super) priority: i32,
    /// The number the next message of the peer has, if nothing is lost or overtaken.
    pub(super) expected: SeqNo,
    /// Replies among what is not answered.
    replies: u32,
    /// How many numbers its window has.
    pub(super) capacity: u32,
    sizes: Sizes,
    /// The bundle that its last message went into.
    bundle: u64,
    pub(super) is_ready: bool,
    pub(super) is_hurried: bool,
    pub(super) has_acks: bool,
    /// It may have messages of which the peer does not know that they are held.
    pub(super) holds: bool,
    pub(super) armed: Option<Instant>,
    /// Wakes all who wait until everything is answered here, once somebody has.
    settled: Option<Arc<Notify>>,
}

/// What an exchange carries.
#[derive(Debug)]
pub(super) enum Content {
    Channel(Channel),
    /// Messages about streams that wait for a place in the window.
    Control(VecDeque<Bytes>),
    Stream(Box<Stream>),
}

/// What waits in front of an application's channel and behind it.
#[derive(Debug, Default)]
pub(super) struct Channel {
    /// Accepted, and waiting for a place in the window.
    pub(super) queue: VecDeque<(Order, Sending)>,
    pub(super) inbox: Inbox,
    /// Replies that wait for room. In turn.
    pub(super) waiting_replies: VecDeque<(Token, Sending)>,
    /// Wakes one who waits for a message.
    pub(super) arrival: Arc<Notify>,
    /// Held by the one who is next to get room, while the others wait in turn.
    pub(super) door: Arc<Mutex<()>>,
    pub(super) account: Account,
    pub(super) replies: Account,
}

/// A message to be transmitted.
#[derive(Debug)]
pub(super) struct Transmission {
    pub(super) header: MessageHeader,
    pub(super) chunk: Option<Chunk>,
    pub(super) body: Bytes,
    pub(super) seq: SeqNo,
    /// It answers a message of the peer.
    pub(super) is_reply: bool,
    pub(super) again: bool,
    /// The peer has said that it has it.
    pub(super) is_held: bool,
}

impl Transmission {
    fn new(id: LaneId, message: &Message<&Sending>, again: bool) -> Self {
        Self {
            header: MessageHeader::new(id.channel(), message),
            chunk: message.data.chunk,
            body: message.data.data.clone(),
            seq: message.seq,
            is_reply: message.reply_to.is_some(),
            again,
            is_held: false,
        }
    }

    /// Whether it only asks what became of the message, and a part of that does it with fewer bytes.
    pub(super) fn asks_only(&self) -> bool {
        self.is_held && self.body.len() > PART_OVERHEAD
    }

    /// The bytes of its frame.
    pub(super) fn len(&self) -> usize {
        self.header.len() + usize::from(self.chunk.is_some()) + self.body.len()
    }

    /// What it is in front of, without its header.
    pub(super) fn take_body(&mut self) -> Bytes {
        std::mem::take(&mut self.body)
    }

    /// Ends a payload whose body is the message's.
    pub(super) fn put_head(&self, payload: Outgoing) -> Outgoing {
        let payload = payload.start(&self.header);
        match self.chunk {
            Some(chunk) => payload.start(&[chunk.flags()]),
            None => payload,
        }
    }
}

impl Lane {
    pub(super) fn new(config: Config, content: Content) -> Self {
        let mut exchange = SeqEx::new(config);
        if let Content::Channel(_) = content {
            exchange.keep_for_answers(config.capacity.packets() / KEPT);
        }
        Self {
            exchange,
            // Messages about streams are a few bytes, and end what nobody wants any more.
            priority: if matches!(content, Content::Control(_)) { i32::MAX } else { 0 },
            content,
            expected: config.first_seq,
            replies: 0,
            capacity: config.capacity.packets(),
            sizes: Sizes::default(),
            bundle: 0,
            is_ready: false,
            is_hurried: false,
            has_acks: false,
            holds: false,
            armed: None,
            settled: None,
        }
    }

    /// What is to be transmitted next: what was lost, then what the window holds, then what waits for a place there.
    /// Streams are cut into chunks of up to `limit` bytes.
    pub(super) fn poll_message(&mut self, id: LaneId, time: Timestamp, limit: usize) -> Option<Transmission> {
        if let Some(again) = self.poll_resend(id, time) {
            return Some(again);
        }
        if let Some(message) = self.exchange.poll_fresh(time) {
            return Some(Transmission::new(id, &message, false));
        }
        self.exchange.can_send().ok()?;
        let (order, sending) = match &mut self.content {
            Content::Channel(channel) => channel.queue.pop_front()?,
            Content::Control(queue) => (Order::Unordered, Sending::new(queue.pop_front()?, 0)),
            Content::Stream(stream) => (Order::Ordered, stream.next_chunk(limit)?),
        };
        let sent = self.exchange.send(time, order, sending);
        debug_assert!(sent.is_ok(), "there is room, as was just asked");
        if let Ok(seq) = sent {
            self.exchange.claim(seq);
        }
        self.exchange.poll_fresh(time).map(|message| Transmission::new(id, &message, false))
    }

    /// What the peer sent: all answers, then as many other messages as there is a place for.
    pub(super) fn poll_delivery(&mut self) -> Option<Delivery<Sending, Bytes>> {
        match self.exchange.poll_answer() {
            Some(Answer::Acknowledged { sent_seq, sent }) => {
                self.replies -= u32::from(sent.kind == Kind::Reply);
                return Some(Delivery::Acknowledged { seq: sent_seq, data: sent });
            }
            Some(Answer::Reply { token, data, sent_seq, sent }) => {
                self.replies -= u32::from(sent.kind == Kind::Reply);
                return Some(Delivery::Reply { token, data, sent_seq, sent });
            }
            None => {}
        }
        match &self.content {
            Content::Channel(channel) if !channel.inbox.has_room() => None,
            Content::Channel(_) | Content::Control(_) | Content::Stream(_) => self.exchange.poll_deliver(),
        }
    }

    /// Wakes whoever waits until everything is answered, or the stream has ended.
    pub(super) fn settled(&mut self) -> Arc<Notify> {
        self.settled.get_or_insert_default().clone()
    }

    /// Tells those who wait to look again.
    pub(super) fn tell_settled(&self, effects: &mut Effects) {
        effects.settled.extend(self.settled.clone());
    }

    /// What is to be transmitted again: it was lost, or the peer holds it and is to be asked about it.
    pub(super) fn poll_resend(&mut self, id: LaneId, time: Timestamp) -> Option<Transmission> {
        let message = self.exchange.poll_resend(time)?;
        let again = Transmission::new(id, &message, true);
        Some(Transmission { is_held: self.exchange.has_arrived(again.seq), ..again })
    }

    /// Answers a message of the peer, in its turn among what is to be transmitted.
    pub(super) fn reply(&mut self, time: Timestamp, token: Token, reply: Sending) -> Result<(), Sending> {
        let seq =
            self.exchange.reply(time, token, Order::Unordered, reply).map_err(|refused| refused.data)?;
        self.exchange.claim(seq);
        self.replies += 1;
        Ok(())
    }

    /// A message of `len` bytes goes under way. Yields how many bytes of it already were.
    pub(super) fn departed(&mut self, seq: SeqNo, len: u32) -> u32 {
        self.sizes.put(seq, len)
    }

    /// The message that departed last goes into that bundle, in which others may be before it.
    pub(super) fn bundled(&mut self, seq: SeqNo, bundle: u64, joins: bool) {
        if joins {
            self.sizes.join(seq);
        }
        if std::mem::replace(&mut self.bundle, bundle) == bundle {
            self.exchange.share_datagram();
        }
    }

    /// Somebody else brings a message to the peer. Yields how many bytes of it were under way.
    pub(super) fn entrust(&mut self, seq: SeqNo) -> u32 {
        let entrusted = self.exchange.entrust(seq);
        debug_assert!(entrusted, "it was just drained");
        self.sizes.take(seq).bytes
    }

    /// What an event is about is not under way any more.
    pub(super) fn landed(&mut self, event: &Event) -> Landed {
        let (Event::Acked { seq, .. }
        | Event::Held { seq, .. }
        | Event::Lost { seq, .. }
        | Event::TimedOut { seq, .. }) = event
        else {
            return Landed::default();
        };
        self.sizes.take(*seq)
    }

    /// Whether everything that was accepted for sending has been answered.
    pub(super) fn is_drained(&self) -> bool {
        self.exchange.unanswered() == 0
            && match &self.content {
                Content::Channel(channel) => channel.queue.is_empty() && channel.waiting_replies.is_empty(),
                Content::Control(queue) => queue.is_empty(),
                Content::Stream(stream) => stream.is_drained(),
            }
    }

    /// The same of the application's own messages and of chunks alone: of the rest, a peer that asks on has ever more to
    /// answer.
    pub(super) fn asks_nothing(&self) -> bool {
        let is_answered = self.exchange.unanswered() <= self.replies;
        match &self.content {
            Content::Channel(channel) => is_answered && channel.queue.is_empty(),
            Content::Control(_) => true,
            Content::Stream(stream) => is_answered && stream.is_drained(),
        }
    }

    /// Ends the exchange. What is not answered is handed over, to be dropped outside of the lock.
    pub(super) fn close(&mut self, unread: Unread, effects: &mut Effects) {
        if let Content::Channel(channel) = &mut self.content {
            match unread {
                Unread::Discarded => effects.dropped.extend(channel.inbox.clear()),
                Unread::Kept => {
                    // Nothing is answered any more.
                    self.exchange.keep_for_answers(0);
                    while let Some(Delivery::Payload { token, data }) = self.exchange.poll_deliver() {
                        channel.inbox.push(Arrived { token, data, answers: None });
                    }
                }
            }
        }
        let remains = self.exchange.close();
        let replied_to = remains.undelivered.into_iter().filter_map(|(_, answers)| answers);
        let sent = remains.unanswered.into_iter().chain(remains.acknowledged).chain(replied_to);
        effects.dropped.extend(sent.map(|(_, message)| message));
        match &mut self.content {
            Content::Channel(channel) => {
                effects.dropped.extend(channel.queue.drain(..).map(|(_, message)| message));
                effects.dropped.extend(channel.waiting_replies.drain(..).map(|(_, reply)| reply));
                effects.closed.push(channel.arrival.clone());
                effects.wakers.extend(channel.account.writer.take());
            }
            Content::Control(_) => {}
            Content::Stream(stream) => stream.close(effects),
        }
        self.tell_settled(effects);
    }
}

/// What becomes of messages that the application has not taken when the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    Discarded,
    Kept,
}
