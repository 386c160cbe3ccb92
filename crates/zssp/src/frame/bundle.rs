//! Several small payloads in one: each alone would cost a datagram, a nonce and a tag.

use seqex::encoding::Frames;

use super::{Group, Malformed, exchange};

pub(super) const BUNDLE: u8 = 0xD9;

/// What stands before the payloads.
pub(crate) const BUNDLE_START: [u8; 1] = [BUNDLE];

/// Bytes before each of the payloads: its length.
pub(crate) const LENGTH_LEN: usize = 2;

/// Payloads in a bundle at most.
pub(crate) const MAX_BUNDLED: usize = 32;

/// A bundle that is not looked into yet.
#[derive(Debug, Clone)]
pub(crate) struct Bundle<'a> {
    rest: &'a [u8],
    more: usize,
}

impl<'a> Bundle<'a> {
    //= ZSSP-BUN-01  one at least
    /// Reads what follows the first byte.
    pub(super) fn parse(rest: &'a [u8]) -> Result<Self, Malformed> {
        if rest.is_empty() { Err(Malformed::Bundle) } else { Ok(Self { rest, more: MAX_BUNDLED }) }
    }
}

impl<'a> Iterator for Bundle<'a> {
    type Item = Result<(Group, Frames<'a>), Malformed>;

    //= ZSSP-BUN-01  nothing but frames of exchanges, and not too many of them
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let Some((payload, rest)) = split(self.rest).filter(|_| self.more > 0) else {
            self.rest = &[];
            return Some(Err(Malformed::Bundle));
        };
        (self.rest, self.more) = (rest, self.more - 1);
        Some(exchange(payload))
    }
}

/// The first of the payloads, which is not empty, and what follows.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<LENGTH_LEN>()?;
    let (payload, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
    (!payload.is_empty()).then_some((payload, rest))
}

#[cfg(test)]
mod tests {
    use seqex::encoding::{Frame, MessageHeader};
    use seqex::{Message, Order};

    use super::super::{LaneId, Payload, StreamId};
    use super::*;

    fn message(lane: LaneId, data: &[u8]) -> Vec<u8> {
        let message = Message { seq: 7.into(), reply_to: None, order: Order::Unordered, data: () };
        let header = MessageHeader::new(lane.channel(), &message);
        let prefix = lane.group().prefix();
        [prefix.as_ref().map_or(&[][..], |prefix| prefix), &header, data].concat()
    }

    fn bundle(payloads: &[Vec<u8>]) -> Vec<u8> {
        let lengths = payloads.iter().map(|payload| (payload.len() as u16).to_be_bytes());
        let bodies = lengths.zip(payloads).flat_map(|(length, payload)| [&length[..], payload].concat());
        BUNDLE_START.into_iter().chain(bodies).collect()
    }

    fn read(bytes: &[u8]) -> Result<Vec<(LaneId, Vec<u8>)>, Malformed> {
        let Payload::Bundle(bundle) = Payload::parse(bytes)? else { panic!("no bundle") };
        let messages = bundle.map(|payload| {
            let (group, mut frames) = payload?;
            match frames.next().transpose()? {
                Some(Frame::Message(channel, message)) => Ok((group.lane(channel), message.data.to_vec())),
                other => panic!("{other:?}"),
            }
        });
        messages.collect()
    }

    //= ZSSP-BUN-01  byte for byte, and back
    #[test]
    fn bundles_survive_the_way() {
        let (channel, stream) = (LaneId::Channel(2), LaneId::Stream(StreamId::new(0x0003_0004_0005)));
        let bytes = bundle(&[message(channel, b"a"), message(stream, b""), message(channel, b"bc")]);
        assert_eq!(bytes[..3], [0xD9, 0, 8]);
        assert_eq!(bytes[11..13], [0, 12], "with the prefix of streams");
        let expected = [(channel, b"a".to_vec()), (stream, vec![]), (channel, b"bc".to_vec())];
        assert_eq!(read(&bytes).unwrap(), expected);
        let many = |count| bundle(&vec![message(channel, b"x"); count]);
        assert_eq!(read(&many(MAX_BUNDLED)).unwrap().len(), MAX_BUNDLED);
        assert_eq!(read(&many(MAX_BUNDLED + 1)).unwrap_err(), Malformed::Bundle);
    }

    //= ZSSP-BUN-01  anything else is refused
    #[test]
    fn what_is_cut_short_or_something_else_is_refused() {
        let bytes = bundle(&[message(LaneId::Channel(2), b"abc")]);
        for end in 1..bytes.len() {
            assert_eq!(read(&bytes[..end]).unwrap_err(), Malformed::Bundle, "{end}");
        }
        assert_eq!(read(&bundle(&[vec![]])).unwrap_err(), Malformed::Bundle);
        for inner in [&bytes[..], &[0xD0, 1], &[0xD7; 40], &[0xFF]] {
            assert_eq!(read(&bundle(&[inner.to_vec()])).unwrap_err(), Malformed::Exchange, "{inner:?}");
        }
    }
}
