//! The receiving end of a transfer: messages in, answers out, files into a [`Sink`].
//!
//! [`Receiver`] knows no network and no clock. Whoever drives it feeds it each message with a *token* (what
//! the channel needs to answer that message) and drains answers, notices and events. A token that does
//! not come back with an answer was dropped, which acknowledges its message. Everything here may block on
//! the disk; it runs on a thread where that is allowed.
//!
//! Chunks of one file may arrive in any order. Those that are early wait in memory, a bounded amount, so that
//! a file is written and hashed from its beginning to its end, once.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;
use thiserror::Error;

use super::{
    message::{Answer, Attributes, Digest, FileId, Malformed, Request, Unreadable, VERSION},
    names::NamePath,
    refusal::{Reason, Refusal},
    sink::{Sink, SinkFile},
};

/// Files one sender may have open at a time; an honest one stays far below.
const MAX_OPEN: usize = 64;
/// Bytes of early chunks one sender may make us hold; the channel's window is far below.
const MAX_WAITING: usize = 64 << 20;

/// What a peer did that no honest sender does; the connection is closed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum Violation {
    #[error("a chunk that does not belong where it claims to")]
    Chunk,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("a message out of turn")]
    OutOfTurn,
    #[error("more files or bytes at once than allowed")]
    TooMuch,
}

/// What happened, for whoever tells the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The sender said what it has.
    Started { files: u64, bytes: u64 },
    /// Contents arrived and were written.
    Written { bytes: u64 },
    /// A file is complete, verified and has its name.
    Stored { path: NamePath, size: u64 },
    /// A file or folder was not taken.
    Refused { path: Option<NamePath>, why: Refusal },
    /// The sender has nothing more.
    Finished,
}

/// The receiving end of one transfer.
pub(crate) struct Receiver<K: Sink, T> {
    sink: K,
    phase: Phase,
    files: HashMap<FileId, Slot<K::File, T>>,
    waiting_bytes: usize,
    answers: VecDeque<(T, Answer)>,
    notices: VecDeque<Answer>,
    events: VecDeque<Event>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Fresh,
    Running,
    Over,
}

/// A file announced and not yet ended.
enum Slot<F, T> {
    Open(Box<Incoming<F, T>>),
    /// Could not be written; the sender learns why when it ends the file.
    Lost(NamePath, Refusal),
}

struct Incoming<F, T> {
    path: NamePath,
    file: F,
    size: u64,
    /// Where the next chunk in order starts; everything before is written.
    next: u64,
    hasher: blake3::Hasher,
    waiting: BTreeMap<u64, Bytes>,
    end: Option<(T, Digest)>,
}

impl<K: Sink, T> Receiver<K, T> {
    /// Files and folders will go to `sink`.
    pub(crate) fn new(sink: K) -> Self {
        Self {
            sink,
            phase: Phase::Fresh,
            files: HashMap::new(),
            waiting_bytes: 0,
            answers: VecDeque::new(),
            notices: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Takes one message of the sender, in whatever order they come.
    pub(crate) fn handle(&mut self, message: Bytes, token: T) -> Result<(), Violation> {
        let request = match Request::parse(message) {
            Ok(request) => request,
            Err(Unreadable::Malformed(why)) => return Err(why.into()),
            Err(Unreadable::Name(why)) => {
                self.refuse(token, None, why.into());
                return Ok(());
            }
        };
        match (self.phase, request) {
            (Phase::Fresh, Request::Start { version, files, bytes }) => {
                self.start(token, version, files, bytes)
            }
            (Phase::Running, Request::Directory { mode, path }) => {
                let made = self.sink.make_directory(&path, mode);
                self.settle(token, path, made);
            }
            (Phase::Running, Request::File { id, size, attributes, path }) => {
                self.announce(token, id, Announced { size, attributes, path })?;
            }
            (Phase::Running, Request::SmallFile { digest, attributes, path, contents }) => {
                self.small_file(
                    token,
                    Announced { size: contents.len() as u64, attributes, path },
                    digest,
                    &contents,
                );
            }
            (Phase::Running, Request::Chunk { id, offset, contents }) => self.chunk(id, offset, contents)?,
            (Phase::Running, Request::End { id, digest }) => self.end(token, id, digest)?,
            (Phase::Running, Request::Abandon { id }) => self.abandon(token, id)?,
            (Phase::Running, Request::Finish) if self.files.is_empty() => {
                self.phase = Phase::Over;
                self.answers.push_back((token, Answer::Done));
                self.events.push_back(Event::Finished);
            }
            (_, Request::Alive) => {}
            // Chunks of a file that was lost may still be on their way.
            (Phase::Over, Request::Chunk { .. }) => {}
            _ => return Err(Violation::OutOfTurn),
        }
        Ok(())
    }

    /// The next answer to give, with the token of the message it answers.
    pub(crate) fn next_answer(&mut self) -> Option<(T, Answer)> {
        self.answers.pop_front()
    }

    /// The next message to send unasked.
    pub(crate) fn next_notice(&mut self) -> Option<Answer> {
        self.notices.pop_front()
    }

    /// The next thing to tell the user.
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn start(&mut self, token: T, version: u16, files: u64, bytes: u64) {
        if version == VERSION {
            self.phase = Phase::Running;
            self.answers.push_back((token, Answer::Done));
            self.events.push_back(Event::Started { files, bytes });
        } else {
            let words = format!("it speaks version {VERSION}, the sender {version}");
            self.refuse(token, None, Refusal::new(Reason::Version, words));
        }
    }

    fn announce(&mut self, token: T, id: FileId, announced: Announced) -> Result<(), Violation> {
        if self.files.contains_key(&id) {
            return Err(Violation::OutOfTurn);
        }
        if self.files.len() >= MAX_OPEN {
            return Err(Violation::TooMuch);
        }
        let Announced { size, attributes, path } = announced;
        match self.sink.create(&path, &attributes) {
            Ok(file) => {
                let hasher = blake3::Hasher::new();
                let waiting = BTreeMap::new();
                let incoming = Incoming { path, file, size, next: 0, hasher, waiting, end: None };
                self.files.insert(id, Slot::Open(Box::new(incoming)));
                self.answers.push_back((token, Answer::Done));
            }
            Err(why) => self.refuse(token, Some(path), why),
        }
        Ok(())
    }

    fn small_file(&mut self, token: T, announced: Announced, digest: Digest, contents: &[u8]) {
        let Announced { size, attributes, path } = announced;
        let stored = if blake3::hash(contents) == digest {
            self.sink.create(&path, &attributes).and_then(|mut file| {
                file.write(contents)?;
                file.commit()
            })
        } else {
            Err(Refusal::plain(Reason::Corrupt))
        };
        if stored.is_ok() {
            self.events.push_back(Event::Written { bytes: size });
            self.events.push_back(Event::Stored { path: path.clone(), size });
        }
        self.settle(token, path, stored);
    }

    fn chunk(&mut self, id: FileId, offset: u64, contents: Bytes) -> Result<(), Violation> {
        let Some(Slot::Open(incoming)) = self.files.get_mut(&id) else { return Ok(()) };
        let end = offset.checked_add(contents.len() as u64).ok_or(Violation::Chunk)?;
        if contents.is_empty() || offset < incoming.next || end > incoming.size {
            return Err(Violation::Chunk);
        }
        self.waiting_bytes += contents.len();
        if incoming.waiting.insert(offset, contents).is_some() {
            return Err(Violation::Chunk);
        }
        let written = incoming.write_what_is_due(&mut self.waiting_bytes)?;
        match written {
            Ok(0) if self.waiting_bytes > MAX_WAITING => return Err(Violation::TooMuch),
            Ok(0) => {}
            Ok(bytes) => {
                self.events.push_back(Event::Written { bytes });
                if incoming.next == incoming.size && incoming.end.is_some() {
                    self.complete(id);
                }
            }
            Err(why) => self.lose(id, why),
        }
        Ok(())
    }

    fn end(&mut self, token: T, id: FileId, digest: Digest) -> Result<(), Violation> {
        match self.files.get_mut(&id) {
            None => Err(Violation::OutOfTurn),
            Some(Slot::Open(incoming)) => {
                if incoming.end.replace((token, digest)).is_some() {
                    return Err(Violation::OutOfTurn);
                }
                if incoming.next == incoming.size {
                    self.complete(id);
                }
                Ok(())
            }
            Some(Slot::Lost(..)) => self.abandon(token, id),
        }
    }

    fn abandon(&mut self, token: T, id: FileId) -> Result<(), Violation> {
        match self.files.remove(&id) {
            None => Err(Violation::OutOfTurn),
            Some(Slot::Open(incoming)) => {
                self.waiting_bytes -= incoming.waiting.values().map(Bytes::len).sum::<usize>();
                self.refuse(token, Some(incoming.path), Refusal::plain(Reason::Abandoned));
                Ok(())
            }
            Some(Slot::Lost(path, why)) => {
                self.refuse(token, Some(path), why);
                Ok(())
            }
        }
    }

    /// All contents are written and the sender's digest is known.
    fn complete(&mut self, id: FileId) {
        let Some(Slot::Open(incoming)) = self.files.remove(&id) else { return };
        let Incoming { path, file, size, hasher, end, .. } = *incoming;
        let Some((token, digest)) = end else { return };
        let stored =
            if hasher.finalize() == digest { file.commit() } else { Err(Refusal::plain(Reason::Corrupt)) };
        if stored.is_ok() {
            self.events.push_back(Event::Stored { path: path.clone(), size });
        }
        self.settle(token, path, stored);
    }

    /// A file cannot be written any further: the sender is told at once, so that it stops.
    fn lose(&mut self, id: FileId, why: Refusal) {
        let Some(Slot::Open(incoming)) = self.files.remove(&id) else { return };
        self.waiting_bytes -= incoming.waiting.values().map(Bytes::len).sum::<usize>();
        match incoming.end {
            Some((token, _)) => self.refuse(token, Some(incoming.path), why),
            None => {
                self.files.insert(id, Slot::Lost(incoming.path, why));
                self.notices.push_back(Answer::Lost { id });
            }
        }
    }

    fn settle(&mut self, token: T, path: NamePath, result: Result<(), Refusal>) {
        match result {
            Ok(()) => self.answers.push_back((token, Answer::Done)),
            Err(why) => self.refuse(token, Some(path), why),
        }
    }

    fn refuse(&mut self, token: T, path: Option<NamePath>, why: Refusal) {
        self.events.push_back(Event::Refused { path, why: why.clone() });
        self.answers.push_back((token, Answer::Refused(why)));
    }
}

struct Announced {
    size: u64,
    attributes: Attributes,
    path: NamePath,
}

impl<F: SinkFile, T> Incoming<F, T> {
    /// Writes and hashes the chunks that follow on what is there; the number of bytes, or why the disk refused.
    fn write_what_is_due(&mut self, waiting_bytes: &mut usize) -> Result<Result<u64, Refusal>, Violation> {
        let before = self.next;
        while let Some(entry) = self.waiting.first_entry() {
            if *entry.key() > self.next {
                break;
            }
            let (offset, contents) = entry.remove_entry();
            *waiting_bytes -= contents.len();
            if offset < self.next {
                return Err(Violation::Chunk);
            }
            self.hasher.update(&contents);
            if let Err(why) = self.file.write(&contents) {
                return Ok(Err(why));
            }
            self.next += contents.len() as u64;
        }
        Ok(Ok(self.next - before))
    }
}
