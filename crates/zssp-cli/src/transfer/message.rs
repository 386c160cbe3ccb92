//! What the two ends of a transfer say to each other, byte for byte.
//!
//! Every message is one message of a reliable channel; its first byte says what it is. Integers are
//! big-endian. The sender asks (*requests*, each answered exactly once) and streams (*chunks*, only
//! acknowledged); the receiver answers, and may give notice that a file is lost before its end.
//!
//! | byte | message | then |
//! |---|---|---|
//! | `01` | start, a request | version u16, files u64, bytes u64 |
//! | `02` | directory, a request | mode u16, path |
//! | `03` | file, a request | id u64, size u64, attributes, path |
//! | `04` | small file, a request | BLAKE3 (32 bytes), attributes, path, contents |
//! | `05` | chunk | id u64, offset u64, contents |
//! | `06` | end of file, a request | id u64, BLAKE3 (32 bytes) |
//! | `07` | file abandoned, a request | id u64 |
//! | `08` | finish, a request | |
//! | `09` | alive | |
//! | `81` | done: directory made, file expected, file complete and verified | |
//! | `82` | refused | reason u8, text |
//! | `83` | notice: this file is lost, stop sending it | id u64 |
//! | `84` | alive | |
//!
//! Both sides say *alive* twice a second, whatever their disks do, so that silence means that the peer or the road to it is
//! gone.
//!
//! Outside of the channel, as a datagram: `7e` and a close code u32 say that the transfer is broken off. The close of a
//! connection waits for everything queued before it; this does not.
//!
//! *attributes*: mode u16, then `00`, or `01`, seconds i64 since 1970, nanoseconds u32. *path*: number of
//! names u16, then for each its length u16 and its bytes. *text*: UTF-8 to the end of the message.
//!
//! Start comes first and alone; directories precede what lies in them; a file's chunks follow the answer to
//! its announcement, in any order of arrival. The transfer's version is in the start message, and a
//! receiver that does not know it says so.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

use super::{
    names::{BadName, Name, NamePath},
    refusal::{Reason, Refusal},
};

/// The version of these messages.
pub(crate) const VERSION: u16 = 1;

/// Bytes of a chunk message before its contents.
pub(crate) const CHUNK_HEADER: usize = 1 + 8 + 8;

const BREAK_OFF: u8 = 0x7e;

/// Bytes of a refusal's text at most.
const MAX_TEXT: usize = 512;

/// BLAKE3 of a file's contents.
pub(crate) type Digest = [u8; 32];

/// The sender's number for a file that does not fit into one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FileId(pub(crate) u64);

/// What is kept of a file besides its name and contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// Permission bits `rwxrwxrwx`.
    pub(crate) mode: Mode,
    /// When it was modified.
    pub(crate) modified: Option<Modified>,
}

/// Permission bits `rwxrwxrwx`; anything beyond these nine (set-user-id and the like) does not travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mode(u16);

impl Mode {
    /// What a new file usually has.
    pub(crate) const READ_WRITE: Self = Self(0o644);

    pub(crate) fn new(bits: u32) -> Self {
        // The mask leaves nine bits.
        Self((bits & 0o777) as u16)
    }

    pub(crate) fn bits(self) -> u32 {
        self.0.into()
    }
}

/// A moment as seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Modified {
    pub(crate) seconds: i64,
    pub(crate) nanos: u32,
}

/// A message of the sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Start { version: u16, files: u64, bytes: u64 },
    Directory { mode: Mode, path: NamePath },
    File { id: FileId, size: u64, attributes: Attributes, path: NamePath },
    SmallFile { digest: Digest, attributes: Attributes, path: NamePath, contents: Bytes },
    Chunk { id: FileId, offset: u64, contents: Bytes },
    End { id: FileId, digest: Digest },
    Abandon { id: FileId },
    Finish,
    Alive,
}

/// A message of the receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    Refused(Refusal),
    Lost { id: FileId },
    Alive,
}

/// Bytes that are no message of this version.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum Malformed {
    #[error("a message of unknown kind {0:#04x}")]
    Kind(u8),
    #[error("a message of the wrong length")]
    Length,
    #[error("a field with an impossible value")]
    Value,
}

impl From<bytes::TryGetError> for Malformed {
    fn from(_: bytes::TryGetError) -> Self {
        Self::Length
    }
}

/// A request that is well-formed but names something that may not be named: refused, not fatal.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum Unreadable {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(transparent)]
    Name(#[from] BadName),
}

impl From<bytes::TryGetError> for Unreadable {
    fn from(_: bytes::TryGetError) -> Self {
        Self::Malformed(Malformed::Length)
    }
}

impl Request {
    /// The message as bytes.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::Start { version, files, bytes } => {
                out.put_u8(0x01);
                out.put_u16(*version);
                out.put_u64(*files);
                out.put_u64(*bytes);
            }
            Self::Directory { mode, path } => {
                out.put_u8(0x02);
                out.put_u16(mode.0);
                put_path(&mut out, path);
            }
            Self::File { id, size, attributes, path } => {
                out.put_u8(0x03);
                out.put_u64(id.0);
                out.put_u64(*size);
                put_attributes(&mut out, attributes);
                put_path(&mut out, path);
            }
            Self::SmallFile { digest, attributes, path, contents } => {
                out.put_u8(0x04);
                out.put_slice(digest);
                put_attributes(&mut out, attributes);
                put_path(&mut out, path);
                out.put_slice(contents);
            }
            Self::Chunk { id, offset, contents } => {
                out.reserve(CHUNK_HEADER + contents.len());
                put_chunk_header(&mut out, *id, *offset);
                out.put_slice(contents);
            }
            Self::End { id, digest } => {
                out.put_u8(0x06);
                out.put_u64(id.0);
                out.put_slice(digest);
            }
            Self::Abandon { id } => {
                out.put_u8(0x07);
                out.put_u64(id.0);
            }
            Self::Finish => out.put_u8(0x08),
            Self::Alive => out.put_u8(0x09),
        }
        out.freeze()
    }

    /// Reads any bytes: a message, or why they are none.
    pub(crate) fn parse(mut bytes: Bytes) -> Result<Self, Unreadable> {
        let input = &mut bytes;
        let request = match input.try_get_u8()? {
            0x01 => {
                // What follows belongs to the version, which the receiver may not know.
                let version = input.try_get_u16()?;
                if version != VERSION {
                    return Ok(Self::Start { version, files: 0, bytes: 0 });
                }
                Self::Start { version, files: input.try_get_u64()?, bytes: input.try_get_u64()? }
            }
            0x02 => Self::Directory { mode: mode(input)?, path: path(input)? },
            0x03 => Self::File {
                id: FileId(input.try_get_u64()?),
                size: input.try_get_u64()?,
                attributes: attributes(input)?,
                path: path(input)?,
            },
            0x04 => Self::SmallFile {
                digest: digest(input)?,
                attributes: attributes(input)?,
                path: path(input)?,
                contents: std::mem::take(input),
            },
            0x05 => Self::Chunk {
                id: FileId(input.try_get_u64()?),
                offset: input.try_get_u64()?,
                contents: std::mem::take(input),
            },
            0x06 => Self::End { id: FileId(input.try_get_u64()?), digest: digest(input)? },
            0x07 => Self::Abandon { id: FileId(input.try_get_u64()?) },
            0x08 => Self::Finish,
            0x09 => Self::Alive,
            kind => return Err(Malformed::Kind(kind).into()),
        };
        if input.is_empty() { Ok(request) } else { Err(Malformed::Length.into()) }
    }
}

impl Answer {
    /// The message as bytes.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::Done => out.put_u8(0x81),
            Self::Refused(refusal) => {
                out.put_u8(0x82);
                out.put_u8(refusal.reason.code());
                out.put_slice(shortened(&refusal.detail).as_bytes());
            }
            Self::Lost { id } => {
                out.put_u8(0x83);
                out.put_u64(id.0);
            }
            Self::Alive => out.put_u8(0x84),
        }
        out.freeze()
    }

    /// Reads any bytes: a message, or why they are none.
    pub(crate) fn parse(mut bytes: Bytes) -> Result<Self, Malformed> {
        let input = &mut bytes;
        let answer = match input.try_get_u8()? {
            0x81 => Self::Done,
            0x82 => {
                let reason = Reason::from_code(input.try_get_u8()?);
                let text = std::mem::take(input);
                if text.len() > MAX_TEXT {
                    return Err(Malformed::Length);
                }
                let detail = std::str::from_utf8(&text).map_err(|_| Malformed::Value)?.to_owned();
                Self::Refused(Refusal { reason, detail })
            }
            0x83 => Self::Lost { id: FileId(input.try_get_u64()?) },
            0x84 => Self::Alive,
            kind => return Err(Malformed::Kind(kind)),
        };
        if input.is_empty() { Ok(answer) } else { Err(Malformed::Length) }
    }
}

/// The datagram that breaks a transfer off.
pub(crate) fn break_off(code: u32) -> Bytes {
    let mut out = BytesMut::with_capacity(5);
    out.put_u8(BREAK_OFF);
    out.put_u32(code);
    out.freeze()
}

/// The close code, if these bytes break a transfer off.
pub(crate) fn parse_break_off(mut datagram: Bytes) -> Result<u32, Malformed> {
    match datagram.try_get_u8()? {
        BREAK_OFF if datagram.len() == 4 => Ok(datagram.try_get_u32()?),
        BREAK_OFF => Err(Malformed::Length),
        kind => Err(Malformed::Kind(kind)),
    }
}

/// Starts a chunk message; the contents are appended by whoever reads them, without another copy.
pub(crate) fn put_chunk_header(out: &mut BytesMut, id: FileId, offset: u64) {
    out.put_u8(0x05);
    out.put_u64(id.0);
    out.put_u64(offset);
}

/// Bytes of a small file's message before its contents.
pub(crate) fn small_file_header(path: &NamePath) -> usize {
    let names: usize = path.names().iter().map(|name| 2 + name.as_bytes().len()).sum();
    1 + 32 + (2 + 1 + 8 + 4) + 2 + names
}

/// A text cut to what a refusal carries, between two characters.
fn shortened(text: &str) -> &str {
    let end = (0..=text.len().min(MAX_TEXT)).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

fn put_path(out: &mut BytesMut, path: &NamePath) {
    // A path has at most 2048 names of at most 255 bytes, checked when it was made.
    out.put_u16(path.depth() as u16);
    for name in path.names() {
        out.put_u16(name.as_bytes().len() as u16);
        out.put_slice(name.as_bytes());
    }
}

fn path(input: &mut Bytes) -> Result<NamePath, Unreadable> {
    let count = input.try_get_u16()?;
    let mut names = Vec::new();
    let mut bad = None;
    for _ in 0..count {
        let length = usize::from(input.try_get_u16()?);
        if length > input.len() {
            return Err(Malformed::Length.into());
        }
        match Name::new(&input.split_to(length)) {
            Ok(name) => names.push(name),
            Err(why) => bad = bad.or(Some(why)),
        }
    }
    match bad {
        Some(why) => Err(why.into()),
        None => Ok(NamePath::new(names)?),
    }
}

fn put_attributes(out: &mut BytesMut, attributes: &Attributes) {
    out.put_u16(attributes.mode.0);
    match attributes.modified {
        None => out.put_u8(0),
        Some(Modified { seconds, nanos }) => {
            out.put_u8(1);
            out.put_i64(seconds);
            out.put_u32(nanos);
        }
    }
}

fn attributes(input: &mut Bytes) -> Result<Attributes, Malformed> {
    let mode = mode(input)?;
    let modified = match input.try_get_u8()? {
        0 => None,
        1 => {
            let (seconds, nanos) = (input.try_get_i64()?, input.try_get_u32()?);
            if nanos >= 1_000_000_000 {
                return Err(Malformed::Value);
            }
            Some(Modified { seconds, nanos })
        }
        _ => return Err(Malformed::Value),
    };
    Ok(Attributes { mode, modified })
}

fn mode(input: &mut Bytes) -> Result<Mode, Malformed> {
    let bits = input.try_get_u16()?;
    if bits > 0o777 { Err(Malformed::Value) } else { Ok(Mode(bits)) }
}

fn digest(input: &mut Bytes) -> Result<Digest, Malformed> {
    let mut digest = Digest::default();
    input.try_copy_to_slice(&mut digest)?;
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn a_path() -> impl Strategy<Value = NamePath> {
        let name = prop::collection::vec(any::<u8>(), 1..20)
            .prop_filter_map("no name", |bytes| Name::new(&bytes).ok());
        prop::collection::vec(name, 1..6).prop_map(|names| NamePath::new(names).unwrap())
    }

    fn some_attributes() -> impl Strategy<Value = Attributes> {
        let modified =
            (any::<i64>(), 0u32..1_000_000_000).prop_map(|(seconds, nanos)| Modified { seconds, nanos });
        (0u32..0o1000, prop::option::of(modified))
            .prop_map(|(mode, modified)| Attributes { mode: Mode::new(mode), modified })
    }

    fn contents() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(any::<u8>(), 0..64).prop_map(Bytes::from)
    }

    fn a_request() -> impl Strategy<Value = Request> {
        prop_oneof![
            (any::<u64>(), any::<u64>()).prop_map(|(files, bytes)| Request::Start {
                version: VERSION,
                files,
                bytes
            }),
            (0u32..0o1000, a_path())
                .prop_map(|(mode, path)| Request::Directory { mode: Mode::new(mode), path }),
            (any::<u64>(), any::<u64>(), some_attributes(), a_path()).prop_map(
                |(id, size, attributes, path)| Request::File { id: FileId(id), size, attributes, path }
            ),
            (any::<Digest>(), some_attributes(), a_path(), contents()).prop_map(
                |(digest, attributes, path, contents)| Request::SmallFile {
                    digest,
                    attributes,
                    path,
                    contents
                }
            ),
            (any::<u64>(), any::<u64>(), contents()).prop_map(|(id, offset, contents)| Request::Chunk {
                id: FileId(id),
                offset,
                contents
            }),
            (any::<u64>(), any::<Digest>()).prop_map(|(id, digest)| Request::End { id: FileId(id), digest }),
            any::<u64>().prop_map(|id| Request::Abandon { id: FileId(id) }),
            Just(Request::Finish),
            Just(Request::Alive),
        ]
    }

    proptest! {
        #[test]
        fn a_request_survives_the_wire(request in a_request()) {
            let bytes = request.encode();
            if let Request::SmallFile { path, contents, attributes, .. } = &request {
                let spared = if attributes.modified.is_none() { 12 } else { 0 };
                prop_assert_eq!(bytes.len(), small_file_header(path) - spared + contents.len());
            }
            prop_assert_eq!(Request::parse(bytes).unwrap(), request);
        }

        #[test]
        fn an_answer_survives_the_wire(code in 0u8..12, detail in ".{0,40}", id in any::<u64>(), kind in 0..4) {
            let answer = match kind {
                0 => Answer::Done,
                1 => Answer::Refused(Refusal { reason: Reason::from_code(code), detail }),
                2 => Answer::Alive,
                _ => Answer::Lost { id: FileId(id) },
            };
            prop_assert_eq!(Answer::parse(answer.encode()).unwrap(), answer);
        }

        /// Whatever is accepted means exactly the bytes it came from: no two encodings of one message.
        #[test]
        fn any_bytes_are_read_or_refused(kind in 0u8..12, rest in prop::collection::vec(any::<u8>(), 0..80)) {
            let bytes = Bytes::from([&[kind][..], &rest].concat());
            match Request::parse(bytes.clone()) {
                Ok(Request::Start { version, .. }) if version != VERSION => {}
                Ok(request) => prop_assert_eq!(request.encode(), bytes),
                Err(_) => {}
            }
            let bytes = Bytes::from([&[kind | 0x80][..], &rest].concat());
            let _ = Answer::parse(bytes);
        }

        #[test]
        fn a_shortened_request_is_never_another_one(request in a_request(), cut in 1usize..200) {
            let bytes = request.encode();
            let short = bytes.slice(..bytes.len().saturating_sub(cut));
            if let Ok(other) = Request::parse(short) {
                prop_assert_ne!(other, request);
            }
        }
    }

    #[test]
    fn a_name_that_climbs_is_told_apart_from_nonsense() {
        let climbing = Bytes::from_static(b"\x02\x01\xed\x00\x02\x00\x02..\x00\x01a");
        assert_eq!(Request::parse(climbing).unwrap_err(), Unreadable::Name(BadName::Dots));
        let empty = Bytes::from_static(b"\x02\x01\xed\x00\x00");
        assert_eq!(Request::parse(empty).unwrap_err(), Unreadable::Name(BadName::Empty));
        let cut_off = Bytes::from_static(b"\x02\x01\xed\x00\x01\x00\x05abc");
        assert_eq!(Request::parse(cut_off).unwrap_err(), Unreadable::Malformed(Malformed::Length));
    }

    #[test]
    fn a_start_of_a_later_version_is_understood_as_such() {
        let later = Bytes::from([&b"\x01\x00\x09"[..], b"more"].concat());
        assert_eq!(Request::parse(later).unwrap(), Request::Start { version: 9, files: 0, bytes: 0 });
    }

    #[test]
    fn a_break_off_survives_the_wire_and_nothing_else_is_one() {
        assert_eq!(parse_break_off(break_off(7)), Ok(7));
        assert_eq!(parse_break_off(break_off(7).slice(..4)), Err(Malformed::Length));
        assert_eq!(parse_break_off(Bytes::from_static(b"\x08....")), Err(Malformed::Kind(8)));
        assert_eq!(parse_break_off(Bytes::new()), Err(Malformed::Length));
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let detail = "é".repeat(400);
        let answer = Answer::Refused(Refusal { reason: Reason::Storage, detail });
        let Answer::Refused(read) = Answer::parse(answer.encode()).unwrap() else { panic!("not a refusal") };
        assert_eq!(read.detail, "é".repeat(256));
    }
}
