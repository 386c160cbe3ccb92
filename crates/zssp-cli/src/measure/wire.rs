//! What `zssp ping` and `zssp bench` say, and `zssp serve` answers.
//!
//! - A datagram begins with its kind. A ping has a number and padding, and comes back as a pong, otherwise the same; filling
//!   is counted.
//! - Ordered messages on channel 1 are dropped when they have been received.
//! - Requests on channel 2 come back as they are.
//! - A request on channel 3, of whatever contents, is answered by the number of datagrams of filling so far, as 8 bytes,
//!   big-endian.
//! - Streams are read to their end.

use bytes::{BufMut, Bytes, BytesMut};
use zssp::{Channel, Connection};

/// Bytes of the smallest ping.
pub(crate) const PING_HEADER: usize = 9;

const FILLING: u8 = 0;
const PING: u8 = 1;
const PONG: u8 = 2;

/// The channels, by what they are for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Use {
    Messages = 1,
    Requests = 2,
    Reports = 3,
}

impl Use {
    pub(crate) fn channel(self, connection: &Connection) -> Channel {
        // An endpoint allows 64 unless told otherwise, and these three are all that are in use.
        connection.channel(self as u16).expect("there is room for three channels")
    }
}

/// A datagram that somebody sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Datagram {
    Filling,
    Ping(u64),
    Pong(u64),
}

impl Datagram {
    /// Reads a datagram; `None` if it is none of these.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let number = || rest.first_chunk().map(|number| u64::from_be_bytes(*number));
        match *kind {
            FILLING => Some(Self::Filling),
            PING => number().map(Self::Ping),
            PONG => number().map(Self::Pong),
            _ => None,
        }
    }

    /// The datagram in `size` bytes, or more if it needs them.
    pub(crate) fn encode(self, size: usize) -> Bytes {
        let mut bytes = BytesMut::with_capacity(size.max(PING_HEADER));
        match self {
            Self::Filling => bytes.put_u8(FILLING),
            Self::Ping(number) => {
                bytes.put_u8(PING);
                bytes.put_u64(number);
            }
            Self::Pong(number) => {
                bytes.put_u8(PONG);
                bytes.put_u64(number);
            }
        }
        bytes.resize(bytes.len().max(size), 0);
        bytes.freeze()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_datagram_is_what_it_was(number: u64, size in 0usize..2000) {
            for datagram in [Datagram::Filling, Datagram::Ping(number), Datagram::Pong(number)] {
                let bytes = datagram.encode(size);
                prop_assert_eq!(Datagram::parse(&bytes), Some(datagram));
                prop_assert!(bytes.len() == size.max(PING_HEADER) || bytes.len() == size.max(1));
            }
        }

        #[test]
        fn any_bytes_are_a_datagram_or_not(bytes: Vec<u8>) {
            let _ = Datagram::parse(&bytes);
        }
    }
}
