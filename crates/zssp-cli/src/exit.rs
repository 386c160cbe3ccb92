//! How the program ends, for people and for scripts.

use std::{fmt, process::ExitCode};

use zssp::CloseReason;

/// The program's exit codes; documented in `--help` and the README.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything asked for was done.
    Done = 0,
    /// Something was not transferred, or the transfer broke off.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The peer does not want us.
    Refused = 3,
    /// Nobody answered, or the peer fell silent.
    Unreachable = 4,
    /// A file, folder or socket on this side.
    Local = 5,
    /// Ctrl-C.
    Interrupted = 130,
    /// SIGTERM; on Windows, the console was closed or the system shuts down.
    Terminated = 143,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        // Every code fits a byte.
        Self::from(exit as u8)
    }
}

impl From<&CloseReason> for Exit {
    /// For a command that the end of a connection leaves nothing else to do.
    fn from(reason: &CloseReason) -> Self {
        match reason {
            CloseReason::Expired | CloseReason::TimedOut => Self::Unreachable,
            CloseReason::Provider => Self::Local,
            _ => Self::Failed,
        }
    }
}

/// Why the program ends early: the code, and what to print.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    message: String,
}

impl Failure {
    /// A failure with its explanation, which also says what to do about it.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(Exit::Local, error.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
