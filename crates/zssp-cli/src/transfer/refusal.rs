//! Why a receiver does not take something, in a form both sides can act on and print.

use std::{fmt, io};

use super::names::{BadName, Printable};

/// Why a file or folder, or the whole transfer, was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    /// What the receiver's system said, or nothing. Written by the peer: printed with escapes only.
    pub(crate) detail: String,
}

/// The kinds of refusal that travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The sender could not read it to the end.
    Abandoned,
    /// The name cannot be used.
    BadName,
    /// What arrived is not what was sent.
    Corrupt,
    /// A file of that name is there and may not be replaced.
    Exists,
    /// A file, link or folder is in the way.
    InTheWay,
    /// The disk (or a quota) is full.
    NoSpace,
    /// The receiver may not write there.
    Permission,
    /// Any other trouble with the receiver's disk.
    Storage,
    /// The receiver does not know this version of the transfer's messages.
    Version,
    /// A reason this version does not know.
    Unknown(u8),
}

impl Reason {
    /// The byte on the wire.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Abandoned => 1,
            Self::BadName => 2,
            Self::Corrupt => 3,
            Self::Exists => 4,
            Self::InTheWay => 5,
            Self::NoSpace => 6,
            Self::Permission => 7,
            Self::Storage => 8,
            Self::Version => 9,
            Self::Unknown(code) => code,
        }
    }

    /// What a byte of the wire means.
    pub(crate) fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Abandoned,
            2 => Self::BadName,
            3 => Self::Corrupt,
            4 => Self::Exists,
            5 => Self::InTheWay,
            6 => Self::NoSpace,
            7 => Self::Permission,
            8 => Self::Storage,
            9 => Self::Version,
            code => Self::Unknown(code),
        }
    }

    /// Whether going on with other files makes no sense.
    pub(crate) fn ends_the_transfer(self) -> bool {
        matches!(self, Self::NoSpace | Self::Version)
    }
}

impl Refusal {
    /// A refusal that needs no further words.
    pub(crate) fn plain(reason: Reason) -> Self {
        Self { reason, detail: String::new() }
    }

    /// A refusal with words.
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

impl From<BadName> for Refusal {
    fn from(why: BadName) -> Self {
        Self::new(Reason::BadName, why.to_string())
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        let reason = match error.kind() {
            io::ErrorKind::AlreadyExists => Reason::Exists,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Reason::NoSpace,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Reason::Permission,
            io::ErrorKind::InvalidFilename => Reason::BadName,
            _ => Reason::Storage,
        };
        Self::new(reason, error.to_string())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            Reason::Abandoned => f.write_str("the sender could not read it to the end")?,
            Reason::BadName => f.write_str("the receiver cannot use this name")?,
            Reason::Corrupt => f.write_str("what arrived is not what was sent")?,
            Reason::Exists => f.write_str(
                "the receiver already has something of this name (only `receive --overwrite` replaces files)",
            )?,
            Reason::InTheWay => f.write_str("something at the receiver is in the way")?,
            Reason::NoSpace => f.write_str("the receiver's disk is full")?,
            Reason::Permission => f.write_str("the receiver may not write there")?,
            Reason::Storage => f.write_str("the receiver could not store it")?,
            Reason::Version => {
                f.write_str("the receiver runs a version that does not understand this sender")?
            }
            Reason::Unknown(code) => write!(f, "the receiver refused it with the unknown reason {code}")?,
        }
        if self.detail.is_empty() || self.reason == Reason::Exists {
            return Ok(());
        }
        write!(f, ": {}", Printable(self.detail.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn codes_and_reasons_correspond(code: u8) {
            prop_assert_eq!(Reason::from_code(code).code(), code);
        }
    }

    #[test]
    fn a_full_disk_ends_the_transfer_and_a_file_that_exists_does_not() {
        let full = Refusal::from(io::Error::from(io::ErrorKind::StorageFull));
        assert!(full.reason.ends_the_transfer());
        assert!(!Refusal::from(io::Error::from(io::ErrorKind::AlreadyExists)).reason.ends_the_transfer());
    }

    #[test]
    fn a_peers_words_are_escaped() {
        let shown = Refusal::new(Reason::Storage, "\x1b[31mred").to_string();
        assert!(shown.ends_with(": \\u{1b}[31mred"), "{shown}");
    }
}
