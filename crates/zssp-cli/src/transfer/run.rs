//! How a transfer ends, and what both of its ends have in common.

use std::{fmt, io, time::Duration};

use thiserror::Error;
use tokio::{sync::mpsc, time::timeout};
use zssp::{CloseReason, Connection, ConnectionStats, ReadError, WriteError};

use super::{
    message::VERSION,
    names::{NamePath, Printable},
    pipe::InputError,
    refusal::Refusal,
};
use crate::{exit::Exit, interrupt::Interrupt};

/// How long the end of a connection may take; a peer that is gone cannot be waited for.
pub(crate) const GOODBYE: Duration = Duration::from_secs(2);
/// What one side tells the other of a transfer may wait in such a number.
pub(super) const EVENTS: usize = 256;

/// Works to the end, or until the user wants one, and hands on what is told meanwhile.
pub(super) async fn attend(
    work: impl Future<Output = Result<(), Broken>>,
    interrupt: &mut Interrupt,
    told: &mut mpsc::Receiver<Event>,
    observe: &mut impl FnMut(Event),
) -> Result<(), Broken> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            exit = interrupt.wait() => return Err(Broken::Interrupted(exit)),
            Some(event) = told.recv() => observe(event),
            result = &mut work => return result,
        }
    }
}

/// Why a connection was closed or a stream given up, told to the peer in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// Everything was said.
    Done = 0,
    /// The user interrupted.
    Interrupted = 1,
    /// The peer did what no honest peer does.
    Violation = 2,
    /// The sender cannot read this file to its end.
    Abandoned = 3,
    /// The receiver does not want this file, and says why in an answer.
    Refused = 4,
    /// The peer speaks another version.
    Version = 5,
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
    #[error(
        "the peer speaks version {0} of file transfer and we version {VERSION}: use the same zssp on both sides"
    )]
    Version(u16),
    #[error("the peer broke the transfer's rules: {0}")]
    Violation(String),
}

impl Broken {
    /// What the peer is told.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Closed(_) | Self::PeerBrokeOff(_) => Code::Done,
            Self::Interrupted(_) => Code::Interrupted,
            Self::Version(_) => Code::Version,
            Self::Violation(_) => Code::Violation,
        }
    }

    /// The exit code for it.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Closed(reason) => reason.into(),
            Self::PeerBrokeOff(_) | Self::Version(_) | Self::Violation(_) => Exit::Failed,
            Self::Interrupted(exit) => *exit,
        }
    }

    /// Whether another connection may succeed: the road broke or the keys of the session ran out, and nobody wanted that.
    ///
    /// A ratchet that was changed elsewhere is nobody's wish either: another command with this key has a store of its own,
    /// or none, and replaces the connection of this one instead.
    pub(crate) fn is_the_road(&self) -> bool {
        use CloseReason as Reason;
        let Self::Closed(reason) = self else { return false };
        matches!(reason, Reason::Conflict | Reason::Expired | Reason::KeyUsedUp | Reason::TimedOut)
    }

    /// A violation in the peer's words or ours.
    pub(super) fn violation(what: impl fmt::Display) -> Self {
        Self::Violation(what.to_string())
    }
}

impl From<CloseReason> for Broken {
    fn from(reason: CloseReason) -> Self {
        match reason {
            CloseReason::Peer { code, .. } if code == Code::Interrupted as u32 => Self::PeerBrokeOff(code),
            reason => Self::Closed(reason),
        }
    }
}

impl From<WriteError> for Broken {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::ConnectionLost(reason) => reason.into(),
            WriteError::Stopped(code) => Self::PeerBrokeOff(code),
            other => Self::violation(other),
        }
    }
}

impl From<io::Error> for Broken {
    /// That of a stream's `AsyncWrite`.
    fn from(error: io::Error) -> Self {
        error.downcast::<WriteError>().map_or_else(Self::violation, Self::from)
    }
}

impl From<InputError> for Broken {
    fn from(error: InputError) -> Self {
        match error {
            InputError::Read(ReadError::ConnectionLost(reason)) => reason.into(),
            InputError::Read(ReadError::Reset(code)) => Self::PeerBrokeOff(code),
            other => Self::violation(other),
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
            CloseReason::Conflict => f.write_str("the ratchet of the peer was changed meanwhile"),
            CloseReason::Expired => f.write_str("the peer did not agree on a new key in time"),
            CloseReason::KeyUsedUp => f.write_str("the key of the connection was used up"),
            CloseReason::Replaced => f.write_str("another command with the same key has taken over"),
            CloseReason::TimedOut => f.write_str("the peer fell silent"),
            other => other.fmt(f),
        }
    }
}

/// What a code means to people.
fn reason(code: u32) -> &'static str {
    const INTERRUPTED: u32 = Code::Interrupted as u32;
    const VIOLATION: u32 = Code::Violation as u32;
    const OTHER: u32 = Code::Version as u32;
    match code {
        INTERRUPTED => "interrupted by its user",
        VIOLATION => "we broke the transfer's rules",
        OTHER => "we speak another version of file transfer",
        _ => "for a reason of its own",
    }
}

/// Ends a connection after a transfer, or in the middle of one that is broken.
pub(crate) async fn say_goodbye(connection: &Connection, broken: Option<&Broken>) {
    let code = broken.map_or(Code::Done, Broken::code) as u32;
    let words = if code == Code::Done as u32 { "" } else { reason(code) };
    let _ = timeout(GOODBYE, connection.close(code, words.as_bytes())).await;
}

/// What a connection went through, for those who want to know.
pub(crate) fn wire_summary(stats: &ConnectionStats) -> String {
    let rtt = stats.rtt.map_or("unknown".into(), |rtt| format!("{:.2} ms", rtt.as_secs_f64() * 1e3));
    format!(
        "payloads: {} sent, {} received; messages: {} sent, of those {} again; round trip {rtt}",
        stats.payloads_sent, stats.payloads_received, stats.messages_sent, stats.messages_resent
    )
}

/// A file of a transfer, told apart from the others that are under way.
pub(crate) type FileNumber = u64;

/// What happens in a transfer, at either end.
#[derive(Debug)]
pub(crate) enum Event {
    /// So much is to come.
    Expected { bytes: u64 },
    /// So much is read again, at either end, to find out whether both have the same. Nothing moves meanwhile.
    Comparing { path: NamePath, bytes: u64 },
    /// A file's contents begin, behind the `kept` bytes that the receiver has of an earlier attempt.
    Begun { file: FileNumber, path: NamePath, size: u64, kept: u64 },
    /// What the receiver had of it was of another file, or the file has changed: all of it is sent.
    Anew { path: NamePath, had: u64 },
    /// Contents went through.
    Moved { file: FileNumber, bytes: u64 },
    /// A file is complete, verified and has its name.
    Stored { file: FileNumber, path: NamePath, size: u64 },
    /// A file was stored as it was read, and somebody has written to it meanwhile.
    Changed { path: NamePath },
    /// The receiver has exactly this file already.
    Present { path: NamePath, size: u64 },
    /// A file or folder did not arrive.
    Failed { file: Option<FileNumber>, path: Option<NamePath>, why: Trouble },
    /// So many files were not tried after a failure that concerns all of them.
    NotReached { count: u64 },
}

/// Why a file or folder did not arrive.
#[derive(Debug, Error)]
pub(crate) enum Trouble {
    #[error("it has become shorter while it was sent")]
    Shrunk,
    #[error("its folder was refused")]
    Parent,
    #[error("{0}")]
    Read(std::io::Error),
    #[error("{0}")]
    Refused(Refusal),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each end of a connection: whether another may mend it, and the exit code if not.
    #[test]
    fn what_another_connection_may_mend_is_tried_again() {
        let peer = CloseReason::Peer { code: 0, reason: [].into() };
        for (reason, mends, exit) in [
            (CloseReason::Conflict, true, Exit::Failed),
            (CloseReason::EndpointClosed, false, Exit::Failed),
            (CloseReason::Expired, true, Exit::Unreachable),
            (CloseReason::KeyUsedUp, true, Exit::Failed),
            (CloseReason::Local, false, Exit::Failed),
            (peer, false, Exit::Failed),
            (CloseReason::Protocol("it talks nonsense"), false, Exit::Failed),
            (CloseReason::Provider, false, Exit::Local),
            (CloseReason::Replaced, false, Exit::Failed),
            (CloseReason::TimedOut, true, Exit::Unreachable),
        ] {
            let broken = Broken::from(reason);
            assert_eq!((broken.is_the_road(), broken.exit()), (mends, exit), "{broken}");
        }
    }
}
