//! Our encoding of packets inside a session (PROTOCOL 8.4), version 1.
//!
//! A sealed payload holds any number of acknowledgement frames and then at most one message frame,
//! whose data extends to the end of the payload. Integers are big-endian.
//!
//! Every frame starts with one byte. Its high nibble is the version, 1; its low nibble the kind:
//!
//! | byte   | frame                                            | fields after the byte                               |
//! |--------|--------------------------------------------------|-----------------------------------------------------|
//! | `0x10` | `Payload`                                        | `channel:2 ‖ seq:4 ‖ data`                          |
//! | `0x11` | `Reply`                                          | `channel:2 ‖ seq:4 ‖ reply_to:4 ‖ data`             |
//! | `0x12` | `SeqCstPayload`                                  | `channel:2 ‖ seq:4 ‖ data`                          |
//! | `0x13` | `SeqCstReply`                                    | `channel:2 ‖ seq:4 ‖ reply_to:4 ‖ data`             |
//! | `0x18` | `Ack`: packets that were answered without a reply | `channel:2 ‖ ranges:1 ‖ first:4 ‖ more:v ‖ (gap:v ‖ more:v)*` |
//! | `0x19` | packets that arrived and will be answered later  | the same                                            |
//!
//! Any other first byte is [`Malformed::Unknown`], so a later version is refused and never misread;
//! whoever carries these frames beside others of its own may give those any other high nibble.
//!
//! An acknowledgement frame holds `ranges` runs of packets, at least one. A run starts at `first`, or
//! for those after the first run `gap` numbers after the end of the run before, and is `more + 1`
//! packets long. The sum wraps like every sequence number, so runs may stand in any order; ascending
//! ones are shortest. `v` is an integer of 32 bits in groups of seven, the least significant group
//! first, the top bit of each byte saying whether another follows; a longer form than needed is
//! malformed, so every list of runs has one encoding.
//!
//! ```
//! use seqex::{Ack, AckKind, Message, Order, SeqNo, encoding::{self, AckWriter, Frame}};
//!
//! let mut payload = [0; 100];
//! let mut acks = AckWriter::new(&mut payload, 7);
//! let ack = Ack { kind: AckKind::Answered, first: SeqNo::new(40), count: 3 };
//! acks.push(&ack)?;
//! let mut len = acks.len();
//! let message = Message { seq: SeqNo::new(5), reply_to: None, order: Order::Ordered, data: &b"hello"[..] };
//! len += encoding::put_message(&mut payload[len..], 7, &message)?;
//!
//! let mut frames = encoding::frames(&payload[..len]);
//! assert_eq!(frames.next(), Some(Ok(Frame::Ack(7, ack))));
//! assert_eq!(frames.next(), Some(Ok(Frame::Message(7, message))));
//! assert_eq!(frames.next(), None);
//! # Ok::<(), encoding::NoRoom>(())
//! ```

use crate::{Ack, AckKind, Message, Order, SeqNo};

/// Which of several exchanges in one session a frame belongs to.
pub type ChannelId = u16;

/// The most bytes that stand before the data of a message: what to leave of the payload limit.
pub const MESSAGE_OVERHEAD: usize = 11;

/// The most bytes that one [`Ack`] takes: the start of a frame, and a single run.
pub const ACK_LEN: usize = ACK_HEADER + MAX_VARINT;

/// What [`frames`] finds in a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// One run of acknowledged packets. A frame with several runs gives one of these for each.
    Ack(ChannelId, Ack),
    /// A message; nothing follows it.
    Message(ChannelId, Message<&'a [u8]>),
}

/// Why bytes are not frames. In an authentic payload this means that the peer does not speak this encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// A field holds what it never may.
    #[error("a field of the frame is out of range")]
    Field,
    /// A frame ends in the middle.
    #[error("the frame is cut short")]
    Short,
    /// The first byte names a version or kind that this build does not know.
    #[error("unknown version or kind of frame: {0:#04x}")]
    Unknown(u8),
}

/// The caller's buffer is too small. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the frame takes {needed} bytes, which is more than there is room for")]
pub struct NoRoom {
    /// What the frame, or the addition to a frame, takes.
    pub needed: usize,
}

//= ZSSP-ENC-04  the high nibble of the first byte
const VERSION: u8 = 0x10;
const REPLY: u8 = 0x01;
const ORDERED: u8 = 0x02;
const FIRST_MESSAGE: u8 = VERSION;
const LAST_MESSAGE: u8 = VERSION | REPLY | ORDERED;
const ACK: u8 = VERSION | 0x08;
const ACK_HOLDING: u8 = VERSION | 0x09;

/// Kind, channel, count of runs and the first number.
const ACK_HEADER: usize = 8;
const MAX_VARINT: usize = 5;

/// What stands before the data of a message, as bytes.
///
/// For callers that gather header and data themselves, or append to a `Vec` of their own:
/// ```
/// # use seqex::{Message, Order, SeqNo, encoding::MessageHeader};
/// let message = Message { seq: SeqNo::new(5), reply_to: None, order: Order::Ordered, data: b"hello" };
/// let mut payload = vec![];
/// payload.extend_from_slice(&MessageHeader::new(7, &message));
/// payload.extend_from_slice(message.data);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct MessageHeader {
    bytes: [u8; MESSAGE_OVERHEAD],
    len: usize,
}

impl MessageHeader {
    //= ZSSP-ENC-01  kind and flags, channel, numbers; then data
    /// The header of `message` on `channel`, whatever the type of its data.
    pub fn new<D>(channel: ChannelId, message: &Message<D>) -> Self {
        let mut header = Self { bytes: [0; MESSAGE_OVERHEAD], len: 7 };
        let ordered = match message.order {
            Order::Ordered => ORDERED,
            Order::Unordered => 0,
        };
        let mut kind = VERSION | ordered;
        header.bytes[1..3].copy_from_slice(&channel.to_be_bytes());
        header.bytes[3..7].copy_from_slice(&message.seq.to_u32().to_be_bytes());
        if let Some(reply_to) = message.reply_to {
            kind |= REPLY;
            header.bytes[7..11].copy_from_slice(&reply_to.to_u32().to_be_bytes());
            header.len = 11;
        }
        header.bytes[0] = kind;
        header
    }
}

impl core::ops::Deref for MessageHeader {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// How many bytes [`put_message`] writes: at most [`MESSAGE_OVERHEAD`] more than the data has.
pub fn message_len(message: &Message<&[u8]>) -> usize {
    let reply = if message.reply_to.is_some() { 4 } else { 0 };
    7 + reply + message.data.len()
}

/// Writes a message frame, data included, at the start of `buffer` and returns its length. It must
/// be the last frame of its payload.
///
/// # Errors
/// [`NoRoom`], with nothing written.
pub fn put_message(buffer: &mut [u8], channel: ChannelId, message: &Message<&[u8]>) -> Result<usize, NoRoom> {
    let header = MessageHeader::new(channel, message);
    let needed = header.len() + message.data.len();
    let frame = buffer.get_mut(..needed).ok_or(NoRoom { needed })?;
    let (head, data) = frame.split_at_mut(header.len());
    head.copy_from_slice(&header);
    data.copy_from_slice(message.data);
    Ok(needed)
}

/// Writes acknowledgement frames into a buffer, as many runs in each as possible.
///
/// ```
/// # use seqex::{SeqEx, encoding::{AckWriter, NoRoom}};
/// # fn fill(exchange: &mut SeqEx<Vec<u8>>, payload: &mut [u8]) -> Result<usize, NoRoom> {
/// let mut writer = AckWriter::new(payload, 7);
/// while writer.has_room()
///     && let Some(ack) = exchange.poll_acks()
/// {
///     writer.push(&ack)?;
/// }
/// # Ok(writer.len()) }
/// ```
#[derive(Debug)]
pub struct AckWriter<'b> {
    buffer: &'b mut [u8],
    channel: ChannelId,
    len: usize,
    open: Option<OpenFrame>,
}

/// The frame that an [`AckWriter`] can still add runs to.
#[derive(Clone, Copy, Debug)]
struct OpenFrame {
    kind: AckKind,
    /// Where its count of runs stands.
    ranges_at: usize,
    /// The number after its last run.
    end: SeqNo,
}

impl<'b> AckWriter<'b> {
    /// A writer of frames of `channel` at the start of `buffer`.
    pub fn new(buffer: &'b mut [u8], channel: ChannelId) -> Self {
        Self { buffer, channel, len: 0, open: None }
    }

    /// How many bytes were written.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether any run whatever still fits.
    pub fn has_room(&self) -> bool {
        self.buffer.len() - self.len >= ACK_LEN
    }

    //= ZSSP-ENC-02  ranges of packets in one frame
    /// Adds a run; one without packets adds nothing.
    ///
    /// # Errors
    /// [`NoRoom`], with nothing written; never while [`has_room`](Self::has_room).
    pub fn push(&mut self, ack: &Ack) -> Result<(), NoRoom> {
        let Some(more) = ack.count.checked_sub(1) else { return Ok(()) };
        let mut bytes = [0; ACK_LEN];
        let open = self.open.filter(|open| open.kind == ack.kind && self.buffer[open.ranges_at] < u8::MAX);
        let (start, ranges_at) = match open {
            Some(open) => (put_varint(&mut bytes, ack.first.since(open.end)), open.ranges_at),
            None => {
                bytes[0] = match ack.kind {
                    AckKind::Answered => ACK,
                    AckKind::Holding => ACK_HOLDING,
                };
                bytes[1..3].copy_from_slice(&self.channel.to_be_bytes());
                bytes[4..8].copy_from_slice(&ack.first.to_u32().to_be_bytes());
                (ACK_HEADER, self.len + 3)
            }
        };
        let len = start + put_varint(&mut bytes[start..], more);
        let space = self.buffer.get_mut(self.len..self.len + len).ok_or(NoRoom { needed: len })?;
        space.copy_from_slice(&bytes[..len]);
        self.len += len;
        self.buffer[ranges_at] += 1;
        self.open = Some(OpenFrame { kind: ack.kind, ranges_at, end: ack.first.plus(ack.count) });
        Ok(())
    }
}

//= ZSSP-ENC-03  acknowledgements may ride in front of a message
/// Walks over the frames of a sealed payload, without copying. It ends after an error.
pub fn frames(payload: &[u8]) -> Frames<'_> {
    Frames { rest: payload, runs: None }
}

/// The frames of a payload; see [`frames`].
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    rest: &'a [u8],
    runs: Option<Runs>,
}

/// What is left of an acknowledgement frame.
#[derive(Clone, Copy, Debug)]
struct Runs {
    channel: ChannelId,
    kind: AckKind,
    left: u8,
    end: SeqNo,
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() && self.runs.is_none() {
            return None;
        }
        let frame = self.parse();
        if frame.is_err() {
            (self.rest, self.runs) = (&[], None);
        }
        Some(frame)
    }
}

impl core::iter::FusedIterator for Frames<'_> {}

impl<'a> Frames<'a> {
    fn parse(&mut self) -> Result<Frame<'a>, Malformed> {
        if let Some(runs) = self.runs {
            let first = runs.end.plus(self.varint()?);
            return self.run(runs, first);
        }
        let [kind] = self.take()?;
        match kind {
            FIRST_MESSAGE..=LAST_MESSAGE => self.message(kind),
            ACK => self.acks(AckKind::Answered),
            ACK_HOLDING => self.acks(AckKind::Holding),
            //= ZSSP-ENC-05  an unknown first byte is an error
            unknown => Err(Malformed::Unknown(unknown)),
        }
    }

    fn message(&mut self, kind: u8) -> Result<Frame<'a>, Malformed> {
        let channel = u16::from_be_bytes(self.take()?);
        let seq = self.seq()?;
        let reply_to = if kind & REPLY == 0 { None } else { Some(self.seq()?) };
        let order = if kind & ORDERED == 0 { Order::Unordered } else { Order::Ordered };
        let data = core::mem::take(&mut self.rest);
        Ok(Frame::Message(channel, Message { seq, reply_to, order, data }))
    }

    fn acks(&mut self, kind: AckKind) -> Result<Frame<'a>, Malformed> {
        let channel = u16::from_be_bytes(self.take()?);
        let [left] = self.take()?;
        if left == 0 {
            return Err(Malformed::Field);
        }
        let first = self.seq()?;
        self.run(Runs { channel, kind, left, end: first }, first)
    }

    fn run(&mut self, runs: Runs, first: SeqNo) -> Result<Frame<'a>, Malformed> {
        let count = self.varint()?.checked_add(1).ok_or(Malformed::Field)?;
        let left = runs.left - 1;
        self.runs = (left > 0).then_some(Runs { left, end: first.plus(count), ..runs });
        Ok(Frame::Ack(runs.channel, Ack { kind: runs.kind, first, count }))
    }

    fn seq(&mut self) -> Result<SeqNo, Malformed> {
        Ok(SeqNo::new(u32::from_be_bytes(self.take()?)))
    }

    fn varint(&mut self) -> Result<u32, Malformed> {
        let mut value = 0;
        for group in 0..MAX_VARINT {
            let [byte] = self.take()?;
            let bits = u32::from(byte & 0x7f);
            let shift = 7 * group as u32;
            let last = byte & 0x80 == 0;
            // The fifth group has four bits left, and a last group of zero should not be there.
            if group == MAX_VARINT - 1 && (bits > 0x0f || !last) || group > 0 && last && bits == 0 {
                return Err(Malformed::Field);
            }
            value |= bits << shift;
            if last {
                return Ok(value);
            }
        }
        Err(Malformed::Field)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(*head)
    }
}

/// Writes `value` at the start of `buffer`, which has room for [`MAX_VARINT`] bytes, and returns its length.
fn put_varint(buffer: &mut [u8], mut value: u32) -> usize {
    let mut len = 0;
    while value >= 0x80 {
        buffer[len] = value as u8 | 0x80;
        value >>= 7;
        len += 1;
    }
    buffer[len] = value as u8;
    len + 1
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    fn acks() -> impl Strategy<Value = Ack> {
        let kind = prop_oneof![Just(AckKind::Answered), Just(AckKind::Holding)];
        let count = prop_oneof![1..300_u32, 1..=u32::MAX];
        (kind, any::<u32>(), count).prop_map(|(kind, first, count)| Ack { kind, first: first.into(), count })
    }

    fn parse(payload: &[u8]) -> Vec<Result<Frame<'_>, Malformed>> {
        frames(payload).collect()
    }

    //= ZSSP-ENC-01  byte for byte
    //= ZSSP-ENC-04  version 1 of them
    //= ZSSP-ENC-02  with several ranges
    #[test]
    fn bytes_are_as_specified() {
        let mut buffer = [0; 64];
        let message =
            Message { seq: SeqNo::new(0x01020304), reply_to: None, order: Order::Unordered, data: &b"x"[..] };
        let len = put_message(&mut buffer, 0x0506, &message).unwrap();
        assert_eq!(buffer[..len], *b"\x10\x05\x06\x01\x02\x03\x04x");
        let reply = Message { reply_to: Some(SeqNo::new(9)), order: Order::Ordered, ..message };
        let len = put_message(&mut buffer, 0x0506, &reply).unwrap();
        assert_eq!(buffer[..len], *b"\x13\x05\x06\x01\x02\x03\x04\0\0\0\x09x");
        let mut writer = AckWriter::new(&mut buffer, 1);
        for (kind, first, count) in
            [(AckKind::Holding, 5, 1), (AckKind::Answered, u32::MAX, 200), (AckKind::Answered, 200, 1)]
        {
            writer.push(&Ack { kind, first: SeqNo::new(first), count }).unwrap();
        }
        let len = writer.len();
        assert_eq!(
            buffer[..len],
            *b"\x19\0\x01\x01\0\0\0\x05\x00\x18\0\x01\x02\xff\xff\xff\xff\xc7\x01\x01\x00"
        );
    }

    //= ZSSP-ENC-03  two channels' acknowledgements and a message in one payload
    #[test]
    fn acknowledgements_ride_with_a_message() {
        let mut payload = [0; 64];
        let ack = Ack { kind: AckKind::Answered, first: SeqNo::new(3), count: 1 };
        let mut len = 0;
        for channel in [1, 2] {
            let mut writer = AckWriter::new(&mut payload[len..], channel);
            writer.push(&ack).unwrap();
            len += writer.len();
        }
        let message =
            Message { seq: SeqNo::new(0), reply_to: None, order: Order::Ordered, data: &b"\x18"[..] };
        len += put_message(&mut payload[len..], 3, &message).unwrap();
        let frames = [Ok(Frame::Ack(1, ack)), Ok(Frame::Ack(2, ack)), Ok(Frame::Message(3, message))];
        assert_eq!(parse(&payload[..len]), frames);
    }

    //= ZSSP-ENC-05  every unknown first byte
    #[test]
    fn unknown_and_broken_frames_are_refused() {
        assert_eq!(parse(&[]), []);
        for first in (0..=u8::MAX).filter(|b| !matches!(b, 0x10..=0x13 | 0x18 | 0x19)) {
            assert_eq!(parse(&[first, 0, 0, 0, 0, 0, 0, 0]), [Err(Malformed::Unknown(first))]);
        }
        assert_eq!(parse(&[0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0]), [Err(Malformed::Short)]);
        assert_eq!(parse(&[0x18, 0, 0, 0, 0, 0, 0, 0, 0]), [Err(Malformed::Field)]);
        for more in
            [&[0x80, 0x00][..], &[0xff; 5], &[0x80, 0x80, 0x80, 0x80, 0x10], &[0xff, 0xff, 0xff, 0xff, 0x0f]]
        {
            let mut frame = vec![0x18, 0, 0, 1, 0, 0, 0, 0];
            frame.extend_from_slice(more);
            assert_eq!(parse(&frame), [Err(Malformed::Field)], "{more:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_frames_or_an_error(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..64),
            first in prop_oneof![0x10..=0x13_u8, 0x18..=0x19_u8],
        ) {
            crate::fuzzing::encoding(&bytes);
            if let Some(byte) = bytes.first_mut() {
                *byte = first;
            }
            crate::fuzzing::encoding(&bytes);
        }

        #[test]
        fn messages_survive(channel: u16, seq: u32, reply_to: Option<u32>, ordered: bool, data: Vec<u8>) {
            let order = if ordered { Order::Ordered } else { Order::Unordered };
            let message = Message { seq: seq.into(), reply_to: reply_to.map(SeqNo::new), order, data: &data[..] };
            let len = message_len(&message);
            let mut buffer = vec![0; len];
            prop_assert_eq!(put_message(&mut buffer[1..], channel, &message), Err(NoRoom { needed: len }));
            prop_assert!(buffer.iter().all(|&b| b == 0), "something was written");
            prop_assert_eq!(put_message(&mut buffer, channel, &message), Ok(len));
            prop_assert_eq!(parse(&buffer), [Ok(Frame::Message(channel, message))]);
        }

        #[test]
        fn acks_survive_as_far_as_there_is_room(
            channel: u16,
            list in proptest::collection::vec(acks(), 0..600),
            room in 0..2000_usize,
        ) {
            let mut buffer = vec![0; room];
            let mut writer = AckWriter::new(&mut buffer, channel);
            let mut written = 0;
            while let Some(ack) = list.get(written) {
                let (room, before) = (writer.has_room(), writer.len());
                match writer.push(ack) {
                    Ok(()) => written += 1,
                    Err(NoRoom { needed }) => {
                        prop_assert!(!room && before + needed > writer.buffer.len() && before == writer.len());
                        break;
                    }
                }
            }
            let len = writer.len();
            let expected: Vec<_> = list[..written].iter().map(|ack| Ok(Frame::Ack(channel, *ack))).collect();
            prop_assert_eq!(parse(&buffer[..len]), expected);
        }

        #[test]
        fn parsing_is_total_and_parsed_frames_write_the_same_bytes(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..64),
            first in prop_oneof![0x10..=0x13_u8, 0x18..=0x19_u8],
            ranges in 0..4_u8,
        ) {
            if bytes.len() > 3 {
                (bytes[0], bytes[3]) = (first, if first >= ACK { ranges } else { bytes[3] });
            }
            let parsed = parse(&bytes);
            prop_assert!(parsed.iter().rev().skip(1).all(Result::is_ok), "something follows an error");
            let mut again = vec![0; bytes.len() + ACK_LEN];
            match parsed[..] {
                [Ok(Frame::Message(channel, message))] => {
                    let len = put_message(&mut again, channel, &message).unwrap();
                    prop_assert_eq!(&again[..len], &bytes[..]);
                }
                [Ok(Frame::Ack(channel, _)), ..] if parsed.len() == usize::from(ranges) && !parsed.contains(&Err(Malformed::Short)) => {
                    let mut writer = AckWriter::new(&mut again, channel);
                    for frame in parsed {
                        let Ok(Frame::Ack(_, ack)) = frame else { return Ok(()) };
                        writer.push(&ack).unwrap();
                    }
                    let len = writer.len();
                    prop_assert_eq!(&again[..len], &bytes[..len]);
                }
                _ => {}
            }
        }
    }
}
