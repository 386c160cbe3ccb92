//! What is inside a sealed payload (PROTOCOL 8.4).
//!
//! The first byte says what the payload is:
//!
//! | first byte | payload |
//! |---|---|
//! | one of [`seqex::encoding`]'s | acknowledgements, then at most one message, of the connection's channels |
//! | `0xD0` | a datagram: the rest is its content |
//! | `0xD1` | close: `code: u32` big-endian, then up to [`MAX_REASON`] bytes for people |
//! | `0xD2` | the close was read; nothing follows |
//!
//! Anything else is of a version this build does not know: it is refused, and the connection ends with
//! [`CloseReason::Protocol`](crate::CloseReason::Protocol). Payloads are authentic when they get here, so only a
//! peer's program can cause that, not the network.

use seqex::encoding::{self, Frames};

/// Bytes a close reason may have.
pub const MAX_REASON: usize = 1024;

/// The code with which an endpoint itself closes a connection whose peer does not follow the protocol.
pub const PROTOCOL_VIOLATION: u32 = u32::MAX;

/// Bytes before a datagram's content.
pub(crate) const DATAGRAM_OVERHEAD: usize = 1;

pub(crate) const DATAGRAM: u8 = 0xD0;
const CLOSE: u8 = 0xD1;
const CLOSE_READ: u8 = 0xD2;

/// A payload, read.
#[derive(Debug)]
pub(crate) enum Payload<'a> {
    Close { code: u32, reason: &'a [u8] },
    CloseRead,
    Datagram(&'a [u8]),
    Exchange(Frames<'a>),
}

/// Why a payload was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Malformed {
    Channel,
    Close,
    Empty,
    Exchange,
}

impl Malformed {
    /// For the application, and for the peer in the close frame.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Channel => "a message for a channel that does not exist",
            Self::Close => "a close frame of the wrong length",
            Self::Empty => "a payload without content",
            Self::Exchange => "a malformed or unknown channel frame",
        }
    }
}

impl From<encoding::Malformed> for Malformed {
    fn from(_: encoding::Malformed) -> Self {
        Self::Exchange
    }
}

impl<'a> Payload<'a> {
    pub(crate) fn parse(payload: &'a [u8]) -> Result<Self, Malformed> {
        let (&kind, rest) = payload.split_first().ok_or(Malformed::Empty)?;
        match kind {
            DATAGRAM => Ok(Self::Datagram(rest)),
            CLOSE => {
                let (code, reason) = rest.split_first_chunk::<4>().ok_or(Malformed::Close)?;
                if reason.len() > MAX_REASON {
                    return Err(Malformed::Close);
                }
                Ok(Self::Close { code: u32::from_be_bytes(*code), reason })
            }
            CLOSE_READ if rest.is_empty() => Ok(Self::CloseRead),
            CLOSE_READ => Err(Malformed::Close),
            //= ZSSP-ENC-05  whatever the encoding of channels does not know either ends the connection
            _ => Ok(Self::Exchange(encoding::frames(payload))),
        }
    }
}

/// A close frame. What exceeds [`MAX_REASON`] of `reason` is cut off.
pub(crate) fn close(code: u32, reason: &[u8]) -> Vec<u8> {
    let reason = &reason[..reason.len().min(MAX_REASON)];
    [&[CLOSE], &code.to_be_bytes()[..], reason].concat()
}

/// The answer to a close frame.
pub(crate) const CLOSE_READ_FRAME: [u8; 1] = [CLOSE_READ];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_close_survives_the_way() {
        let Ok(Payload::Close { code: 0x0102_0304, reason: b"why" }) =
            Payload::parse(&close(0x0102_0304, b"why"))
        else {
            panic!("not the close that was written")
        };
        assert!(matches!(Payload::parse(&CLOSE_READ_FRAME), Ok(Payload::CloseRead)));
        assert!(matches!(Payload::parse(&[DATAGRAM]), Ok(Payload::Datagram([]))));
    }

    #[test]
    fn what_is_cut_short_or_too_long_is_refused() {
        assert_eq!(Payload::parse(&[]).unwrap_err(), Malformed::Empty);
        assert_eq!(Payload::parse(&[CLOSE, 0, 0, 0]).unwrap_err(), Malformed::Close);
        assert_eq!(Payload::parse(&[CLOSE_READ, 0]).unwrap_err(), Malformed::Close);
        let mut long = close(1, &[b'x'; MAX_REASON + 1]);
        assert!(Payload::parse(&long).is_ok(), "cut to what is allowed");
        long.push(b'x');
        assert_eq!(Payload::parse(&long).unwrap_err(), Malformed::Close);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(Payload::Exchange(frames)) = Payload::parse(&bytes) {
                for frame in frames {
                    let _ = frame;
                }
            }
        }
    }
}
