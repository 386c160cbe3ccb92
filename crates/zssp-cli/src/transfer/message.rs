//! What the two ends of a transfer say to each other, byte for byte; `docs/file-transfer.md` is its specification.
//!
//! The sender opens all streams. The first is the *control stream*: both directions begin with [`MAGIC`] and a version,
//! then come frames. Every other stream is one file. A frame is its length as u32 and a message, whose first byte says
//! what it is. Integers are big-endian.
//!
//! | byte | message | of it |
//! |---|---|---|
//! | `01` | start | files u64, bytes u64 |
//! | `02` | directory | mode u16, path |
//! | `03` | finish | |
//! | `04` | file | size u64, attributes, path |
//! | `05` | small file, whose contents follow at once | as `04` |
//! | `06` | digest of the whole file, asked for by `84` | BLAKE3 (32 bytes) |
//! | `07` | contents follow | from offset u64 |
//! | `81` | done | |
//! | `82` | refused | reason u8, text |
//! | `83` | have: the part that is kept from an earlier attempt | length u64, BLAKE3 (32 bytes) |
//! | `84` | compare: there is a file of that name and size | |
//!
//! *attributes*: mode u16, then `00`, or `01`, seconds i64 since 1970, nanoseconds u32. *path*: number of
//! names u16, then for each its length u16 and its bytes. *text*: UTF-8 to the end of the message. *contents*: the bytes
//! themselves, to the announced size, and their BLAKE3, the whole file's.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

use super::{
    names::{BadName, Name, NamePath},
    refusal::{Reason, Refusal},
};

/// What both directions of the control stream begin with, and the version after it.
pub(crate) const MAGIC: [u8; 8] = *b"ZSSPFILE";
/// The version of these messages.
pub(crate) const VERSION: u16 = 2;
/// Bytes of magic and version.
pub(crate) const PRELUDE: usize = MAGIC.len() + 2;
/// Bytes of a message at most: that of the longest path fits.
pub(crate) const MAX_MESSAGE: usize = 32 * 1024;
/// Bytes of a small file at most.
pub(crate) const SMALL: u64 = 32 * 1024;

/// Bytes of a refusal's text at most.
const MAX_TEXT: usize = 512;

/// BLAKE3 of a file's contents.
pub(crate) type Digest = [u8; 32];

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

    #[cfg(unix)]
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
    Start { files: u64, bytes: u64 },
    Directory { mode: Mode, path: NamePath },
    Finish,
    File(FileHeader),
    SmallFile(FileHeader),
    Digest(Digest),
    Contents { offset: u64 },
}

/// What is said of a file before its contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub(crate) size: u64,
    pub(crate) attributes: Attributes,
    pub(crate) path: NamePath,
}

/// A message of the receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    Refused(Refusal),
    Have { length: u64, digest: Digest },
    Compare,
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

/// Magic and version.
pub(crate) fn prelude() -> [u8; PRELUDE] {
    let mut prelude = [0; PRELUDE];
    prelude[..MAGIC.len()].copy_from_slice(&MAGIC);
    prelude[MAGIC.len()..].copy_from_slice(&VERSION.to_be_bytes());
    prelude
}

/// The version that a prelude says.
pub(crate) fn parse_prelude(prelude: [u8; PRELUDE]) -> Result<u16, Malformed> {
    match prelude {
        [magic @ .., high, low] if magic == MAGIC => Ok(u16::from_be_bytes([high, low])),
        _ => Err(Malformed::Value),
    }
}

impl Request {
    /// The message as bytes.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::Start { files, bytes } => {
                out.put_u8(0x01);
                out.put_u64(*files);
                out.put_u64(*bytes);
            }
            Self::Directory { mode, path } => {
                out.put_u8(0x02);
                out.put_u16(mode.0);
                put_path(&mut out, path);
            }
            Self::Finish => out.put_u8(0x03),
            Self::File(header) => put_file(&mut out, 0x04, header),
            Self::SmallFile(header) => put_file(&mut out, 0x05, header),
            Self::Digest(digest) => {
                out.put_u8(0x06);
                out.put_slice(digest);
            }
            Self::Contents { offset } => {
                out.put_u8(0x07);
                out.put_u64(*offset);
            }
        }
        out.freeze()
    }

    /// Reads any bytes: a message, or why they are none.
    pub(crate) fn parse(mut bytes: Bytes) -> Result<Self, Unreadable> {
        let input = &mut bytes;
        let request = match input.try_get_u8()? {
            0x01 => Self::Start { files: input.try_get_u64()?, bytes: input.try_get_u64()? },
            0x02 => Self::Directory { mode: mode(input)?, path: path(input)? },
            0x03 => Self::Finish,
            0x04 => Self::File(file(input)?),
            0x05 => Self::SmallFile(file(input)?),
            0x06 => Self::Digest(digest(input)?),
            0x07 => Self::Contents { offset: input.try_get_u64()? },
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
            Self::Have { length, digest } => {
                out.put_u8(0x83);
                out.put_u64(*length);
                out.put_slice(digest);
            }
            Self::Compare => out.put_u8(0x84),
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
            0x83 => Self::Have { length: input.try_get_u64()?, digest: digest(input)? },
            0x84 => Self::Compare,
            kind => return Err(Malformed::Kind(kind)),
        };
        if input.is_empty() { Ok(answer) } else { Err(Malformed::Length) }
    }
}

fn put_file(out: &mut BytesMut, kind: u8, FileHeader { size, attributes, path }: &FileHeader) {
    out.put_u8(kind);
    out.put_u64(*size);
    put_attributes(out, attributes);
    put_path(out, path);
}

fn file(input: &mut Bytes) -> Result<FileHeader, Unreadable> {
    Ok(FileHeader { size: input.try_get_u64()?, attributes: attributes(input)?, path: path(input)? })
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

    fn a_header() -> impl Strategy<Value = FileHeader> {
        let modified =
            (any::<i64>(), 0u32..1_000_000_000).prop_map(|(seconds, nanos)| Modified { seconds, nanos });
        (any::<u64>(), 0u32..0o1000, prop::option::of(modified), a_path()).prop_map(
            |(size, mode, modified, path)| FileHeader {
                size,
                attributes: Attributes { mode: Mode::new(mode), modified },
                path,
            },
        )
    }

    fn a_request() -> impl Strategy<Value = Request> {
        prop_oneof![
            (any::<u64>(), any::<u64>()).prop_map(|(files, bytes)| Request::Start { files, bytes }),
            (0u32..0o1000, a_path())
                .prop_map(|(mode, path)| Request::Directory { mode: Mode::new(mode), path }),
            Just(Request::Finish),
            a_header().prop_map(Request::File),
            a_header().prop_map(Request::SmallFile),
            any::<Digest>().prop_map(Request::Digest),
            any::<u64>().prop_map(|offset| Request::Contents { offset }),
        ]
    }

    fn an_answer() -> impl Strategy<Value = Answer> {
        prop_oneof![
            Just(Answer::Done),
            (any::<u8>(), ".{0,40}").prop_map(|(code, detail)| Answer::Refused(Refusal {
                reason: Reason::from_code(code),
                detail
            })),
            (any::<u64>(), any::<Digest>()).prop_map(|(length, digest)| Answer::Have { length, digest }),
            Just(Answer::Compare),
        ]
    }

    proptest! {
        #[test]
        fn requests_are_read_as_they_were_written(request in a_request()) {
            prop_assert_eq!(Request::parse(request.encode()), Ok(request));
        }

        #[test]
        fn answers_are_read_as_they_were_written(answer in an_answer()) {
            prop_assert_eq!(Answer::parse(answer.encode()), Ok(answer));
        }

        #[test]
        fn any_bytes_are_a_message_or_not(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let bytes = Bytes::from(bytes);
            if let Ok(request) = Request::parse(bytes.clone()) {
                prop_assert_eq!(request.encode(), bytes.clone());
            }
            let _ = Answer::parse(bytes);
        }

        #[test]
        fn a_cut_or_longer_message_is_none(request in a_request(), cut in 0usize..64) {
            let whole = request.encode();
            if cut < whole.len() {
                prop_assert!(Request::parse(whole.slice(..cut)).is_err());
            }
            prop_assert!(Request::parse([&whole[..], b"x"].concat().into()).is_err());
        }

        /// Whatever names a peer makes up, of those that are read none leads out of the folder.
        #[test]
        fn no_hostile_path_is_read(names in prop::collection::vec(prop_oneof![
            Just(b"..".to_vec()), Just(b".".to_vec()), Just(b"".to_vec()), Just(b"/".to_vec()), Just(b"/etc/passwd".to_vec()),
            Just(b"../x".to_vec()), Just(b"a\0b".to_vec()), Just(b"a\nb".to_vec()), Just(b"\x1b[2J".to_vec()), Just(b"ok".to_vec()),
            prop::collection::vec(any::<u8>(), 0..300),
        ], 0..8)) {
            let mut message = BytesMut::new();
            message.put_u8(0x02);
            message.put_u16(0o755);
            message.put_u16(names.len() as u16);
            for name in &names {
                message.put_u16(name.len() as u16);
                message.put_slice(name);
            }
            let read = Request::parse(message.freeze());
            let good = !names.is_empty() && names.iter().all(|name| Name::new(name).is_ok());
            prop_assert_eq!(read.is_ok(), good);
            if let Ok(Request::Directory { path, .. }) = read {
                let mut joined = std::path::PathBuf::from("/base");
                joined.extend(path.names().iter().map(Name::to_os));
                prop_assert!(joined.starts_with("/base"));
                prop_assert_eq!(joined.components().count(), 2 + names.len());
                prop_assert!(joined.components().skip(1).all(|c| matches!(c, std::path::Component::Normal(_))));
                prop_assert!(!joined.to_string_lossy().contains(char::is_control));
            }
        }
    }

    #[test]
    fn the_longest_path_fits_into_a_message() {
        let names = vec![Name::new(&[b'x'; 8]).unwrap(); 2048];
        let path = NamePath::new(names).unwrap();
        assert!(Request::Directory { mode: Mode::READ_WRITE, path }.encode().len() <= MAX_MESSAGE);
    }

    #[test]
    fn a_prelude_says_its_version() {
        assert_eq!(parse_prelude(prelude()), Ok(VERSION));
        assert_eq!(parse_prelude(*b"ZSSPFILE\x01\x02"), Ok(0x0102));
        assert_eq!(parse_prelude(*b"GET / HTTP"), Err(Malformed::Value));
    }

    #[test]
    fn a_long_refusal_is_cut_between_characters() {
        let refusal = Refusal::new(Reason::Storage, "\u{20ac}".repeat(400));
        let Ok(Answer::Refused(read)) = Answer::parse(Answer::Refused(refusal).encode()) else { panic!() };
        assert_eq!(read.detail, "\u{20ac}".repeat(170));
    }
}
