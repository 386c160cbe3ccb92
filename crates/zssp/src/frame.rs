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
//! | `0xD3` | `group: u32` big-endian, then frames of [`seqex::encoding`], whose channel is the low half of a stream's number, and `group` the high part |
//! | `0xD4` | ping: a token of 8 bytes, which the answer repeats |
//! | `0xD5` | pong: the token of the ping or probe |
//! | `0xD6` | probe: a token of 8 bytes, then anything up to the size that is tried |
//! | `0xD7` | part of a message: its `number: u64`, `offset: u32`, `total: u32`, then what a payload with that message would begin with, then bytes of its `total` bytes of data from `offset` on |
//! | `0xD8` | parts have arrived: ranges of their numbers, each as `last: u64`, `count: u32` |
//! | `0xD9` | a bundle: one to 32 payloads with frames of [`seqex::encoding`], of channels or of streams, each after its length as `u16` big-endian |
//!
//! Stream 0 is none: its messages are about the other streams. Each message of another stream is a chunk:
//! one byte of flags, of which only the lowest is used (the stream ends with this chunk), then content.
//!
//! Anything else is of a version this build does not know: it is refused, and the connection ends with
//! [`CloseReason::Protocol`](crate::CloseReason::Protocol). Payloads are authentic when they get here, so only a
//! peer's program can cause that, not the network.

mod bundle;
mod part;

use seqex::SeqNo;
use seqex::encoding::{self, ChannelId, Frames, MESSAGE_OVERHEAD};

use bundle::BUNDLE;
pub(crate) use bundle::{BUNDLE_START, Bundle, LENGTH_LEN, MAX_BUNDLED};
use part::{ARRIVALS, PART};
pub(crate) use part::{Arrivals, MAX_RANGES, PART_OVERHEAD, Part, arrivals, part};

/// Bytes a close reason may have.
pub const MAX_REASON: usize = 1024;

/// The code with which an endpoint itself closes a connection whose peer does not follow the protocol.
pub const PROTOCOL_VIOLATION: u32 = u32::MAX;

/// Bytes before a datagram's content.
pub(crate) const DATAGRAM_OVERHEAD: usize = 1;

pub(crate) const DATAGRAM: u8 = 0xD0;
const CLOSE: u8 = 0xD1;
const CLOSE_READ: u8 = 0xD2;
const STREAMS: u8 = 0xD3;
const PING: u8 = 0xD4;
const PONG: u8 = 0xD5;
const PROBE: u8 = 0xD6;

/// What tells an answer to one ping from an answer to another.
pub(crate) type Token = [u8; 8];

/// Bytes before the frames of streams.
pub(crate) const GROUP_LEN: usize = 5;

/// Bytes before the content of a stream's chunk.
pub(crate) const CHUNK_OVERHEAD: usize = GROUP_LEN + MESSAGE_OVERHEAD + 1;

/// The same of those we send: a chunk is no reply to one.
pub(crate) const CHUNK_HEAD: usize = CHUNK_OVERHEAD - size_of::<SeqNo>();

/// The flag of the last chunk of a stream.
const FIN: u8 = 1;

/// The number of a stream in its connection: those that the initiator opens are even, the responder's are odd.
///
/// ```
/// # async fn example(connection: zssp::Connection) -> Result<(), Box<dyn std::error::Error>> {
/// let (send, receive) = connection.open_stream().await?;
/// assert_eq!(send.id(), receive.id());
/// println!("stream {}", send.id());
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u64);

impl StreamId {
    /// Where [`Control`] travels.
    pub(crate) const CONTROL: Self = Self(0);

    /// The largest number there is.
    pub(crate) const MAX: Self = Self((1 << 48) - 1);

    pub(crate) const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number itself.
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Which exchange of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum LaneId {
    Channel(ChannelId),
    Stream(StreamId),
}

impl LaneId {
    /// The exchange of the messages about streams.
    pub(crate) const CONTROL: Self = Self::Stream(StreamId::CONTROL);

    /// What its frames have in common with those of its neighbours.
    pub(crate) const fn group(self) -> Group {
        match self {
            Self::Channel(_) => Group::Channels,
            Self::Stream(id) => Group::Streams((id.0 >> 16) as u32),
        }
    }

    /// What tells it from its neighbours.
    pub(crate) const fn channel(self) -> ChannelId {
        match self {
            Self::Channel(channel) => channel,
            Self::Stream(id) => id.0 as ChannelId,
        }
    }
}

/// Exchanges whose frames may share a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    Channels,
    Streams(u32),
}

impl Group {
    /// The exchange of the group that a frame belongs to.
    pub(crate) const fn lane(self, channel: ChannelId) -> LaneId {
        match self {
            Self::Channels => LaneId::Channel(channel),
            Self::Streams(group) => LaneId::Stream(StreamId((group as u64) << 16 | channel as u64)),
        }
    }

    //= ZSSP-STR-01  a prefix says that what follows is of streams
    /// What stands before the frames, if anything.
    pub(crate) fn prefix(self) -> Option<[u8; GROUP_LEN]> {
        match self {
            Self::Channels => None,
            Self::Streams(group) => {
                let [a, b, c, d] = group.to_be_bytes();
                Some([STREAMS, a, b, c, d])
            }
        }
    }
}

/// The flags of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chunk {
    /// More follow.
    Middle,
    /// The stream ends with this one.
    Last,
}

impl Chunk {
    pub(crate) const fn flags(self) -> u8 {
        match self {
            Self::Middle => 0,
            Self::Last => FIN,
        }
    }

    //= ZSSP-STR-03  flags that nobody has defined are refused
    /// Reads the flags at the start of a chunk.
    pub(crate) fn parse(chunk: &[u8]) -> Result<Self, Malformed> {
        match chunk.first() {
            Some(0) => Ok(Self::Middle),
            Some(&FIN) => Ok(Self::Last),
            _ => Err(Malformed::Chunk),
        }
    }
}

/// A message about streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Control {
    /// The receiver may be given this many bytes that it has not yet answered.
    Credit(u32),
    /// The sender has given up the stream; what of it was not read is void.
    Reset(StreamId, u32),
    /// The receiver reads no more of the stream.
    Stop(StreamId, u32),
}

const CREDIT: u8 = 0;
const RESET: u8 = 1;
const STOP: u8 = 2;

impl Control {
    //= ZSSP-STR-04  kind, number, code
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let about = |kind: u8, id: StreamId, code: u32| {
            [&[kind], &id.0.to_be_bytes()[2..], &code.to_be_bytes()].concat()
        };
        match self {
            Self::Credit(bytes) => [&[CREDIT], &bytes.to_be_bytes()[..]].concat(),
            Self::Reset(id, code) => about(RESET, id, code),
            Self::Stop(id, code) => about(STOP, id, code),
        }
    }

    pub(crate) fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let (&kind, rest) = message.split_first().ok_or(Malformed::Control)?;
        if kind == CREDIT {
            return Ok(Self::Credit(u32::from_be_bytes(rest.try_into().map_err(|_| Malformed::Control)?)));
        }
        let (id, code) = rest.split_first_chunk::<6>().ok_or(Malformed::Control)?;
        let code = u32::from_be_bytes(code.try_into().map_err(|_| Malformed::Control)?);
        let id = id.iter().fold(0, |id, &byte| id << 8 | u64::from(byte));
        match kind {
            RESET => Ok(Self::Reset(StreamId(id), code)),
            STOP => Ok(Self::Stop(StreamId(id), code)),
            _ => Err(Malformed::Control),
        }
    }
}

/// A payload, read.
#[derive(Debug)]
pub(crate) enum Payload<'a> {
    Arrivals(Arrivals<'a>),
    Bundle(Bundle<'a>),
    Close { code: u32, reason: &'a [u8] },
    CloseRead,
    Datagram(&'a [u8]),
    Exchange(Group, Frames<'a>),
    Part(Part<'a>),
    Ping(Token),
    Pong(Token),
}

/// Why a payload was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Malformed {
    Arrivals,
    Backlog,
    Bundle,
    Channel,
    Chunk,
    Close,
    Control,
    Credit,
    Empty,
    Exchange,
    Group,
    Part,
    Ping,
    Stream,
}

impl Malformed {
    /// For the application, and for the peer in the close frame.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Arrivals => "news of parts that cannot have arrived",
            Self::Backlog => "messages about streams that wait to be taken",
            Self::Bundle => "a bundle that is empty, cut short or too large",
            Self::Channel => "messages on more channels than this side allows",
            Self::Chunk => "a stream's chunk that is empty or has unknown flags",
            Self::Close => "a close frame of the wrong length",
            Self::Control => "a malformed or unknown message about streams",
            Self::Credit => "more unanswered bytes than this side has allowed",
            Self::Empty => "a payload without content",
            Self::Exchange => "a malformed or unknown channel frame",
            Self::Group => "a prefix of stream frames that is cut short",
            Self::Part => "a part that does not fit its message",
            Self::Ping => "a ping, probe or pong of the wrong length",
            Self::Stream => "a stream that cannot exist",
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
            //= ZSSP-LIV-01  with a token of eight bytes
            PING => Ok(Self::Ping(rest.try_into().map_err(|_| Malformed::Ping)?)),
            //= ZSSP-LIV-05  what follows the token is not looked at
            PROBE => Ok(Self::Ping(*rest.first_chunk().ok_or(Malformed::Ping)?)),
            PONG => Ok(Self::Pong(rest.try_into().map_err(|_| Malformed::Ping)?)),
            PART => Ok(Self::Part(Part::parse(rest)?)),
            ARRIVALS => Ok(Self::Arrivals(Arrivals::parse(rest)?)),
            BUNDLE => Ok(Self::Bundle(Bundle::parse(rest)?)),
            _ => exchange(payload).map(|(group, frames)| Self::Exchange(group, frames)),
        }
    }
}

/// Reads frames of exchanges.
fn exchange(payload: &[u8]) -> Result<(Group, Frames<'_>), Malformed> {
    match payload.split_first() {
        Some((&STREAMS, rest)) => {
            let (group, frames) = rest.split_first_chunk::<4>().ok_or(Malformed::Group)?;
            Ok((Group::Streams(u32::from_be_bytes(*group)), encoding::frames(frames)))
        }
        //= ZSSP-ENC-05  whatever the encoding of channels does not know either ends the connection
        _ => Ok((Group::Channels, encoding::frames(payload))),
    }
}

/// A close frame. What exceeds [`MAX_REASON`] of `reason` is cut off.
pub(crate) fn close(code: u32, reason: &[u8]) -> Vec<u8> {
    let reason = &reason[..reason.len().min(MAX_REASON)];
    [&[CLOSE], &code.to_be_bytes()[..], reason].concat()
}

/// Asks for a sign of life.
pub(crate) fn ping(token: Token) -> [u8; 9] {
    token_frame(PING, token)
}

/// Asks for a sign of life in a datagram of the size that its padding gives it.
pub(crate) fn probe(token: Token) -> [u8; 9] {
    token_frame(PROBE, token)
}

/// The sign of life that was asked for.
pub(crate) fn pong(token: Token) -> [u8; 9] {
    token_frame(PONG, token)
}

fn token_frame(kind: u8, token: Token) -> [u8; 9] {
    let mut frame = [kind; 9];
    frame[1..].copy_from_slice(&token);
    frame
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

    //= ZSSP-STR-01  byte for byte, and back
    #[test]
    fn frames_of_streams_have_a_prefix() {
        let lane = LaneId::Stream(StreamId::new(0x0102_0304_0506));
        let prefix = lane.group().prefix().unwrap();
        assert_eq!(prefix, [0xD3, 1, 2, 3, 4]);
        assert_eq!(lane.channel(), 0x0506);
        let Ok(Payload::Exchange(group, _)) = Payload::parse(&prefix) else { panic!("no frames") };
        assert_eq!(group.lane(0x0506), lane);
        assert_eq!(Payload::parse(&prefix[..4]).unwrap_err(), Malformed::Group);
        assert_eq!(LaneId::Channel(7).group().prefix(), None);
        assert_eq!(Group::Channels.lane(7), LaneId::Channel(7));
    }

    //= ZSSP-LIV-01  byte for byte, and back
    #[test]
    fn pings_have_a_token() {
        let token = *b"12345678";
        assert_eq!(ping(token), *b"\xD412345678");
        assert!(matches!(Payload::parse(&ping(token)), Ok(Payload::Ping(read)) if read == token));
        assert!(matches!(Payload::parse(&pong(token)), Ok(Payload::Pong(read)) if read == token));
        assert_eq!(Payload::parse(&pong(token)[..8]).unwrap_err(), Malformed::Ping);
    }

    //= ZSSP-LIV-05  byte for byte, and back
    #[test]
    fn probes_have_padding() {
        let token = *b"12345678";
        for padding in [0, 1, 1400] {
            let padded = [&probe(token)[..], &vec![7; padding]].concat();
            assert!(padded.starts_with(b"\xD612345678"));
            assert!(matches!(Payload::parse(&padded), Ok(Payload::Ping(read)) if read == token));
        }
        assert_eq!(Payload::parse(&probe(token)[..8]).unwrap_err(), Malformed::Ping);
    }

    //= ZSSP-STR-03  all others than those two
    #[test]
    fn chunks_have_flags() {
        assert_eq!(Chunk::parse(&[0, 9]), Ok(Chunk::Middle));
        assert_eq!(Chunk::parse(&[1]), Ok(Chunk::Last));
        assert_eq!(Chunk::parse(&[]), Err(Malformed::Chunk));
        for flags in 2..=u8::MAX {
            assert_eq!(Chunk::parse(&[flags, 0]), Err(Malformed::Chunk));
        }
    }

    //= ZSSP-STR-04  byte for byte, and back
    #[test]
    fn messages_about_streams_survive_the_way() {
        let id = StreamId::MAX;
        for (control, bytes) in [
            (Control::Credit(0x0102_0304), &[0, 1, 2, 3, 4][..]),
            (Control::Reset(id, 5), &[1, 255, 255, 255, 255, 255, 255, 0, 0, 0, 5]),
            (Control::Stop(StreamId::new(7), 6), &[2, 0, 0, 0, 0, 0, 7, 0, 0, 0, 6]),
        ] {
            assert_eq!(control.to_bytes(), bytes);
            assert_eq!(Control::parse(bytes), Ok(control));
            assert_eq!(Control::parse(&bytes[..bytes.len() - 1]), Err(Malformed::Control));
            assert_eq!(Control::parse(&[bytes, &[0]].concat()), Err(Malformed::Control));
        }
        assert_eq!(Control::parse(&[]), Err(Malformed::Control));
        assert_eq!(Control::parse(&[3, 0, 0, 0, 0, 0, 7, 0, 0, 0, 6]), Err(Malformed::Control));
    }

    /// Bytes that begin like a payload, a part of a message or a message about streams, more often than chance would have it.
    fn plausible() -> impl Strategy<Value = Vec<u8>> {
        let start = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..2),
            (DATAGRAM..=BUNDLE).prop_map(|kind| vec![kind]),
            (CREDIT..=STOP).prop_map(|kind| vec![kind]),
            (any::<u16>(), 0..1000_u32, any::<bool>()).prop_map(|(number, offset, is_stream)| {
                let lane =
                    if is_stream { LaneId::Stream(StreamId(number.into())) } else { LaneId::Channel(number) };
                let (start, prefix) = part(number.into(), lane.group(), offset as usize, 1000);
                [&start[..], prefix.as_ref().map_or(&[], |prefix| &prefix[..]), &[0x10 | u8::from(is_stream)]]
                    .concat()
            }),
        ];
        // Of all lengths, and of those that pings, messages about streams and ranges of parts have.
        let rest = prop_oneof![0..200_usize, Just(4), Just(8), Just(10), (1..=17_usize).prop_map(|n| 12 * n)];
        let rest = rest.prop_flat_map(|len| prop::collection::vec(any::<u8>(), len));
        (start, rest).prop_map(|(start, rest)| [start, rest].concat())
    }

    proptest! {
        //= ZSSP-PRT-01  whatever is accepted has one form
        #[test]
        fn what_is_accepted_is_written_as_it_was(bytes in plausible()) {
            crate::fuzzing::frames(&bytes);
        }
    }
}
