//! The transfer's two state machines over a real channel.
//!
//! Each runs on a thread of its own, where reading, hashing and writing may block, and waits for the network
//! through the runtime. The channel's windows lie between the two, so disk and network work at the same time, and a
//! slow disk at the receiver slows the sender down instead of filling memory.

use std::{fmt, time::Duration};

use thiserror::Error;
use tokio::{runtime::Handle, sync::mpsc, time::timeout};
use zssp::{Channel, CloseReason, ConnectionStats, Message, RequestError, SendError};

use super::{
    names::Printable,
    receiver::{self, Receiver},
    sender::{self, Outcome, Sender, Step, Token},
    sink::Sink,
    source::Source,
};
use crate::{exit::Exit, interrupt::Interrupt};

/// Bytes of a message at most: with the usual MTU its fragments are sent in one system call, and more would gain
/// nothing.
pub(crate) const MAX_MESSAGE: usize = 62 * 1024;

/// Why a connection was closed, told to the peer in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseCode {
    /// Everything was said.
    Done = 0,
    /// The user interrupted.
    Interrupted = 1,
    /// The peer did what no honest peer does.
    Violation = 2,
    /// The peer was silent for too long.
    Silent = 3,
}

/// Why a transfer ended before its end.
#[derive(Debug, Error)]
pub(crate) enum Broken {
    #[error("{}", Ended(.0))]
    Closed(CloseReason),
    #[error("interrupted")]
    Interrupted(Exit),
    #[error("the peer was silent for {} seconds", .0.as_secs())]
    Silent(Duration),
    #[error("the peer broke the transfer's rules: {0}")]
    Violation(String),
}

impl Broken {
    /// What the peer is told, for programs and for people.
    pub(crate) fn close_code(&self) -> (CloseCode, &'static [u8]) {
        match self {
            Self::Closed(_) => (CloseCode::Done, b""),
            Self::Interrupted(_) => (CloseCode::Interrupted, b"interrupted by its user"),
            Self::Silent(_) => (CloseCode::Silent, b"waited too long"),
            Self::Violation(_) => (CloseCode::Violation, b"the transfer's rules were broken"),
        }
    }

    /// The exit code for it.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Closed(CloseReason::TimedOut) | Self::Silent(_) => Exit::Unreachable,
            Self::Closed(_) | Self::Violation(_) => Exit::Failed,
            Self::Interrupted(exit) => *exit,
        }
    }
}

impl From<SendError> for Broken {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Closed(reason) => Self::Closed(reason),
            other => Self::Violation(other.to_string()),
        }
    }
}

/// A reason to close, in the words of a transfer.
struct Ended<'a>(&'a CloseReason);

impl fmt::Display for Ended<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            CloseReason::Peer { reason, .. } if reason.is_empty() => {
                f.write_str("the peer ended the transfer")
            }
            CloseReason::Peer { reason, .. } => {
                write!(f, "the peer ended the transfer: {}", Printable(reason))
            }
            other => other.fmt(f),
        }
    }
}

/// What a connection went through, for those who want to know.
pub(crate) fn wire_summary(stats: &ConnectionStats) -> String {
    let rtt = stats.rtt.map_or("unknown".into(), |rtt| format!("{:.2} ms", rtt.as_secs_f64() * 1e3));
    format!(
        "payloads: {} sent, {} received; messages: {} sent, of those {} again; round trip {rtt}",
        stats.payloads_sent, stats.payloads_received, stats.messages_sent, stats.messages_resent
    )
}

/// What the network has for a sender.
enum Feedback {
    Answer(Token, Result<bytes::Bytes, RequestError>),
    Notice(Message),
}

/// Sends everything; blocks until the receiver has confirmed the end.
pub(crate) fn send<S: Source>(
    channel: &Channel,
    mut sender: Sender<S>,
    mut interrupt: Interrupt,
    mut observe: impl FnMut(sender::Event),
) -> Result<Outcome, Broken> {
    let runtime = Handle::current();
    let (feed, mut feedback) = mpsc::channel(64);
    runtime.spawn(forward_notices(channel.clone(), feed.clone()));
    loop {
        if let Some(exit) = interrupt.requested() {
            return Err(Broken::Interrupted(exit));
        }
        while let Ok(news) = feedback.try_recv() {
            take(&mut sender, news)?;
        }
        while let Some(event) = sender.next_event() {
            observe(event);
        }
        match sender.poll() {
            Step::Request(token, request) => {
                let (channel, feed) = (channel.clone(), feed.clone());
                runtime.spawn(async move {
                    let answer = channel.request(request).await;
                    // A transfer that is over needs no answers.
                    let _ = feed.send(Feedback::Answer(token, answer)).await;
                });
            }
            Step::Stream(chunk) => runtime.block_on(async {
                tokio::select! {
                    sent = channel.send(chunk) => Ok(sent?),
                    exit = interrupt.wait() => Err(Broken::Interrupted(exit)),
                }
            })?,
            Step::Wait => {
                let news = runtime.block_on(async {
                    tokio::select! {
                        news = feedback.recv() => Ok(news),
                        reason = channel.connection().closed() => Err(Broken::Closed(reason)),
                        exit = interrupt.wait() => Err(Broken::Interrupted(exit)),
                    }
                })?;
                if let Some(news) = news {
                    take(&mut sender, news)?;
                }
            }
            Step::Finished(outcome) => return Ok(outcome),
        }
    }
}

fn take<S: Source>(sender: &mut Sender<S>, news: Feedback) -> Result<(), Broken> {
    let result = match news {
        Feedback::Answer(token, Ok(answer)) => sender.handle_answer(token, answer),
        Feedback::Answer(_, Err(RequestError::Send(error))) => return Err(error.into()),
        Feedback::Answer(_, Err(error)) => return Err(Broken::Violation(error.to_string())),
        Feedback::Notice(message) => sender.handle_notice(message.into_data()),
    };
    result.map_err(|violation| Broken::Violation(violation.to_string()))
}

async fn forward_notices(channel: Channel, feed: mpsc::Sender<Feedback>) {
    while let Some(message) = channel.receive().await {
        if feed.send(Feedback::Notice(message)).await.is_err() {
            return;
        }
    }
}

/// Receives everything; blocks until the sender says that it has nothing more, or `patience` is at its end.
pub(crate) fn receive<K: Sink>(
    channel: &Channel,
    sink: K,
    patience: Duration,
    mut interrupt: Interrupt,
    mut observe: impl FnMut(receiver::Event),
) -> Result<(), Broken> {
    let runtime = Handle::current();
    let mut receiver = Receiver::new(sink);
    loop {
        let message = runtime.block_on(async {
            tokio::select! {
                biased;
                exit = interrupt.wait() => Err(Broken::Interrupted(exit)),
                message = timeout(patience, channel.receive()) => match message {
                    Ok(Some(message)) => Ok(message),
                    Ok(None) => Err(Broken::Closed(channel.connection().closed().await)),
                    Err(_) => Err(Broken::Silent(patience)),
                },
            }
        })?;
        let handled = receiver.handle(message.data().clone(), message);
        let mut finished = false;
        while let Some(event) = receiver.next_event() {
            finished |= event == receiver::Event::Finished;
            observe(event);
        }
        handled.map_err(|violation| Broken::Violation(violation.to_string()))?;
        while let Some((message, answer)) = receiver.next_answer() {
            runtime.block_on(message.reply(answer.encode()))?;
        }
        while let Some(notice) = receiver.next_notice() {
            runtime.block_on(channel.send(notice.encode()))?;
        }
        if finished {
            return Ok(());
        }
    }
}
