//! The transfer's two state machines over a real channel.
//!
//! Each runs on a thread of its own, where reading, hashing and writing may block, and waits for the network
//! through the runtime. The channel's windows lie between the two, so disk and network work at the same time, and a
//! slow disk at the receiver slows the sender down instead of filling memory.

use std::{fmt, time::Duration};

use bytes::Bytes;
use thiserror::Error;
use tokio::{
    runtime::Handle,
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};
use zssp::{Channel, CloseReason, Connection, ConnectionStats, Message, RequestError, SendError};

use super::{
    message::{self, Answer, Request},
    names::Printable,
    portion::{self, Portion},
    receiver::{self, Receiver},
    sender::{self, Outcome, Sender, Step, Token},
    sink::Sink,
    source::Source,
};
use crate::{exit::Exit, interrupt::Interrupt};

/// How long the end of a connection may take; a peer that is gone cannot be waited for.
pub(crate) const GOODBYE: Duration = Duration::from_secs(2);
/// Below the shortest patience a user can ask for.
const ALIVE_EVERY: Duration = Duration::from_millis(500);
/// Chunks between two looks at the losses.
const LOOK_EVERY: u32 = 16;

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
    #[error("the peer ended the transfer: {}", reason(*.0))]
    PeerBrokeOff(u32),
    #[error("the peer was silent for {} seconds", .0.as_secs())]
    Silent(Duration),
    #[error("the peer broke the transfer's rules: {0}")]
    Violation(String),
}

impl Broken {
    /// What the peer is told.
    fn close_code(&self) -> CloseCode {
        match self {
            Self::Closed(_) | Self::PeerBrokeOff(_) => CloseCode::Done,
            Self::Interrupted(_) => CloseCode::Interrupted,
            Self::Silent(_) => CloseCode::Silent,
            Self::Violation(_) => CloseCode::Violation,
        }
    }

    /// The exit code for it.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Closed(CloseReason::TimedOut) | Self::Silent(_) => Exit::Unreachable,
            Self::Closed(_) | Self::PeerBrokeOff(_) | Self::Violation(_) => Exit::Failed,
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

/// The channel of a connection on which files travel.
pub(crate) fn channel(connection: &Connection) -> Channel {
    // An endpoint allows a channel at least, and this is the only one in use.
    connection.channel(0).expect("there is room for one channel")
}

/// Bytes a message may have on this channel.
pub(crate) fn message_size(channel: &Channel) -> usize {
    channel.max_message_size().min(portion::MAX)
}

/// What a close code means to people.
fn reason(code: u32) -> &'static str {
    const INTERRUPTED: u32 = CloseCode::Interrupted as u32;
    const VIOLATION: u32 = CloseCode::Violation as u32;
    const SILENT: u32 = CloseCode::Silent as u32;
    match code {
        INTERRUPTED => "interrupted by its user",
        VIOLATION => "we broke the transfer's rules",
        SILENT => "it waited too long",
        _ => "for a reason of its own",
    }
}

/// Ends a connection after a transfer, or in the middle of one that is broken.
pub(crate) async fn say_goodbye(connection: &Connection, broken: Option<&Broken>) {
    let code = broken.map_or(CloseCode::Done, Broken::close_code) as u32;
    let mut words = &b""[..];
    if code != CloseCode::Done as u32 {
        words = reason(code).as_bytes();
        for _ in 0..3 {
            // Any of them may be lost. Without them the peer finds out when the queue is empty, or by our silence.
            let _ = connection.try_send_datagram(message::break_off(code));
        }
    }
    let _ = timeout(GOODBYE, connection.close(code, words)).await;
}

/// Resolves when the peer breaks the transfer off, or the connection has ended.
async fn broken_off(connection: &Connection) -> Broken {
    loop {
        match connection.read_datagram().await {
            Ok(datagram) => {
                // Datagrams of later versions mean nothing to us.
                if let Ok(code) = message::parse_break_off(datagram) {
                    return Broken::PeerBrokeOff(code);
                }
            }
            // What arrived before the end is still to be received.
            Err(_) => std::future::pending().await,
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
    Answer(Token, Result<Bytes, RequestError>),
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
    let connection = channel.connection();
    let mut portion = Portion::new(channel.max_message_size());
    sender.limit_chunks(portion.size());
    let mut chunks = 0u32;
    let mut tasks = JoinSet::new();
    tasks.spawn_on(forward_notices(channel.clone(), feed.clone()), &runtime);
    tasks.spawn_on(keep_alive(channel.clone(), Request::Alive.encode()), &runtime);
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
            Step::Stream(chunk) => {
                runtime.block_on(async {
                    tokio::select! {
                        sent = channel.send(chunk) => Ok(sent?),
                        exit = interrupt.wait() => Err(Broken::Interrupted(exit)),
                    }
                })?;
                chunks += 1;
                if chunks.is_multiple_of(LOOK_EVERY) {
                    let stats = connection.stats();
                    portion.observe(stats.messages_sent, stats.messages_lost);
                    sender.limit_chunks(portion.size());
                }
            }
            Step::Wait => {
                let news = runtime.block_on(async {
                    tokio::select! {
                        biased;
                        news = feedback.recv() => Ok(news),
                        reason = connection.closed() => Err(Broken::Closed(reason)),
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

/// Tells the peer that we are there while our thread waits for a disk.
async fn keep_alive(channel: Channel, message: Bytes) {
    loop {
        sleep(ALIVE_EVERY).await;
        if channel.send(message.clone()).await.is_err() {
            return;
        }
    }
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
    let connection = channel.connection();
    let mut tasks = JoinSet::new();
    tasks.spawn_on(keep_alive(channel.clone(), Answer::Alive.encode()), &runtime);
    let mut receiver = Receiver::new(sink);
    loop {
        let message = runtime.block_on(async {
            tokio::select! {
                biased;
                exit = interrupt.wait() => Err(Broken::Interrupted(exit)),
                broken = broken_off(connection) => Err(broken),
                message = timeout(patience, channel.receive()) => match message {
                    Ok(Some(message)) => Ok(message),
                    Ok(None) => Err(Broken::Closed(connection.closed().await)),
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

#[cfg(test)]
mod tests {
    use std::{io, thread};

    use tokio::task::spawn_blocking;
    use zssp::{Endpoint, SecretKey};

    use super::*;
    use crate::transfer::{
        message::{Attributes, Mode},
        names::{Name, NamePath},
        refusal::Refusal,
        sink::SinkFile,
        source::{Opened, Plan},
    };

    const PATIENCE: Duration = Duration::from_secs(1);

    /// A disk that takes longer for everything than the other side has patience.
    struct Slow;

    impl Slow {
        fn hesitate(&self) {
            thread::sleep(PATIENCE * 5 / 2);
        }
    }

    impl Source for Slow {
        type File = io::Empty;

        fn open(&mut self, _path: &NamePath) -> io::Result<Opened<io::Empty>> {
            self.hesitate();
            let attributes = Attributes { mode: Mode::READ_WRITE, modified: None };
            Ok(Opened { file: io::empty(), size: 0, attributes })
        }
    }

    impl Sink for Slow {
        type File = Self;

        fn make_directory(&mut self, _path: &NamePath, _mode: Mode) -> Result<(), Refusal> {
            Ok(())
        }

        fn create(&mut self, _path: &NamePath, _attributes: &Attributes) -> Result<Self, Refusal> {
            Ok(Self)
        }
    }

    impl SinkFile for Slow {
        fn write(&mut self, _contents: &[u8]) -> Result<(), Refusal> {
            Ok(())
        }

        fn commit(self) -> Result<(), Refusal> {
            self.hesitate();
            Ok(())
        }
    }

    async fn endpoint() -> Endpoint {
        let builder = Endpoint::builder(SecretKey::generate().unwrap());
        builder.give_up_after(PATIENCE).bind("127.0.0.1:0").await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_slow_disk_is_not_a_dead_peer() {
        let (alice, bob) = (endpoint().await, endpoint().await);
        let accept = async { bob.accept().await.unwrap().accept().await };
        let (there, here) = tokio::join!(alice.connect(bob.local_addr(), bob.public_key()), accept);
        let (there, here) = (there.unwrap(), here.unwrap());

        let (to_alice, to_bob) = (channel(&here), channel(&there));
        let receiving = async {
            let work = move || receive(&to_alice, Slow, PATIENCE, Interrupt::none(), |_| {});
            let received = spawn_blocking(work).await.unwrap();
            say_goodbye(&here, received.as_ref().err()).await;
            received
        };
        let sending = spawn_blocking(move || {
            let path = NamePath::root(Name::new(b"x").unwrap());
            let plan = Plan { files: [(path, 0)].into(), ..Plan::default() };
            let sender = Sender::new(Slow, plan, message_size(&to_bob));
            let mut stored = 0;
            let outcome = send(&to_bob, sender, Interrupt::none(), |event| {
                stored += usize::from(matches!(event, sender::Event::Stored { .. }));
            });
            (outcome, stored)
        });
        let (received, sent) = tokio::join!(receiving, sending);
        received.unwrap();
        let (outcome, stored) = sent.unwrap();
        assert_eq!((outcome.unwrap(), stored), (Outcome::Complete, 1));
    }
}
