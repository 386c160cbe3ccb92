//! The sending end of a transfer: a plan and a [`Source`] in, messages out.
//!
//! [`Sender`] knows no network and no clock. Whoever drives it asks [`Sender::poll`] for the next step and feeds
//! back what the receiver answers. It reads the disk while polled, so it runs on a thread where that is
//! allowed.
//!
//! Folders go first, level by level. Then many files are under way at once: small ones travel whole in one
//! request, large ones are announced a few ahead of the one being streamed, so that no file waits for the
//! answer of another.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io::{self, Read},
};

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use super::{
    message::{
        Answer, CHUNK_HEADER, FileId, Malformed, Request, VERSION, put_chunk_header, small_file_header,
    },
    names::NamePath,
    refusal::Refusal,
    source::{Opened, Plan, Source},
};

/// Requests without an answer at most.
const MAX_REQUESTS: usize = 32;
/// Large files announced ahead of the one being streamed.
const MAX_AHEAD: usize = 4;
/// The smallest message size a transfer works with: the longest path, its lengths and attributes fit.
pub(crate) const MIN_MESSAGE: usize = 24 * 1024;

/// Names a request until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Token(u64);

/// What to do next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Send this, and feed the answer to [`Sender::handle_answer`].
    Request(Token, Bytes),
    /// Send this.
    Stream(Bytes),
    /// Nothing can be done before an answer arrives.
    Wait,
    /// It is over.
    Finished(Outcome),
}

/// How a transfer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The receiver has confirmed the end; single files may have failed, as the events said.
    Complete,
    /// The receiver would not begin.
    Refused(Refusal),
}

/// What happened, for whoever tells the user.
#[derive(Debug)]
pub(crate) enum Event {
    /// Contents were handed to the channel.
    Streamed { bytes: u64 },
    /// The receiver has verified a file.
    Stored { path: NamePath, size: u64 },
    /// A file or folder did not arrive.
    Failed { path: NamePath, why: Failure },
    /// So many files and folders were not even tried.
    NotReached { count: usize },
}

/// Why something did not arrive.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error("the transfer was broken off before it")]
    NotReached,
    #[error("its folder was refused")]
    Orphan,
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("{0}")]
    Refused(Refusal),
}

/// What a peer did that no honest receiver does; the connection is closed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum Violation {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("an answer that fits no request")]
    Unexpected,
}

/// The sending end of one transfer.
pub(crate) struct Sender<S: Source> {
    source: S,
    plan: Plan,
    max_message: usize,
    /// Bytes of a chunk's message.
    chunk: usize,
    phase: Phase,
    pending: HashMap<Token, Pending<S::File>>,
    last_token: u64,
    last_file: u64,
    /// Announced and welcome, not yet streamed.
    accepted: VecDeque<Box<Large<S::File>>>,
    streaming: Option<Box<Large<S::File>>>,
    refused_folders: HashSet<NamePath>,
    /// Set by a refusal after which nothing more makes sense.
    broken_off: bool,
    events: VecDeque<Event>,
}

enum Phase {
    Start,
    Directories {
        depth: usize,
    },
    Files,
    /// One answer decides how it goes on.
    Awaiting,
    Over(Outcome),
}

/// What an unanswered request was about.
enum Pending<F> {
    Start,
    Directory(NamePath),
    Announced(Box<Large<F>>),
    Small {
        path: NamePath,
        size: u64,
    },
    Ended {
        path: NamePath,
        size: u64,
    },
    /// For our own reason, or for the one the receiver gives in its answer.
    Abandoned {
        path: NamePath,
        why: Option<Failure>,
    },
    Finish,
}

/// A file that takes more than one message.
struct Large<F> {
    id: FileId,
    path: NamePath,
    file: F,
    size: u64,
    offset: u64,
    hasher: blake3::Hasher,
    /// The receiver said that it cannot take the rest.
    lost: bool,
}

impl<S: Source> Sender<S> {
    /// Will send `plan` from `source` in messages of at most `max_message` bytes (at least [`MIN_MESSAGE`]).
    pub(crate) fn new(source: S, plan: Plan, max_message: usize) -> Self {
        Self {
            source,
            plan,
            max_message: max_message.max(MIN_MESSAGE),
            chunk: max_message.max(MIN_MESSAGE),
            phase: Phase::Start,
            pending: HashMap::new(),
            last_token: 0,
            last_file: 0,
            accepted: VecDeque::new(),
            streaming: None,
            refused_folders: HashSet::new(),
            broken_off: false,
            events: VecDeque::new(),
        }
    }

    /// The next step; to be called again after each step and each answer.
    pub(crate) fn poll(&mut self) -> Step {
        loop {
            let step = match &self.phase {
                Phase::Start => Some(self.start()),
                Phase::Directories { depth } => self.next_directory(*depth),
                Phase::Files => self.next_of_files(),
                Phase::Awaiting => return Step::Wait,
                Phase::Over(outcome) => return Step::Finished(outcome.clone()),
            };
            match step {
                Some(step) => return step,
                None if !self.pending.is_empty() => return Step::Wait,
                None => {}
            }
            match (&self.phase, self.plan.directories.front()) {
                (Phase::Files, _) => {
                    self.phase = Phase::Awaiting;
                    return self.request(&Request::Finish, Pending::Finish);
                }
                (_, Some((path, _))) => self.phase = Phase::Directories { depth: path.depth() },
                (_, None) => self.phase = Phase::Files,
            }
        }
    }

    /// Chunks from now on are messages of at most so many bytes.
    pub(crate) fn limit_chunks(&mut self, message: usize) {
        self.chunk = message.clamp(CHUNK_HEADER + 1, self.max_message);
    }

    /// Takes the receiver's answer to a request.
    pub(crate) fn handle_answer(&mut self, token: Token, answer: Bytes) -> Result<(), Violation> {
        let pending = self.pending.remove(&token).ok_or(Violation::Unexpected)?;
        let result = match Answer::parse(answer)? {
            Answer::Done => Ok(()),
            Answer::Refused(why) => {
                if why.reason.ends_the_transfer() {
                    self.break_off();
                }
                Err(why)
            }
            Answer::Alive | Answer::Lost { .. } => return Err(Violation::Unexpected),
        };
        match (pending, result) {
            (Pending::Start, Ok(())) => self.phase = Phase::Directories { depth: 1 },
            (Pending::Start, Err(why)) => self.phase = Phase::Over(Outcome::Refused(why)),
            (Pending::Finish, Ok(())) => self.phase = Phase::Over(Outcome::Complete),
            (Pending::Finish, Err(why)) => self.phase = Phase::Over(Outcome::Refused(why)),
            (Pending::Directory(_), Ok(())) => {}
            (Pending::Directory(path), Err(why)) => {
                self.refused_folders.insert(path.clone());
                self.fail(path, Failure::Refused(why));
            }
            (Pending::Announced(large), Ok(())) => self.accepted.push_back(large),
            (Pending::Announced(large), Err(why)) => self.fail(large.path, Failure::Refused(why)),
            (Pending::Small { path, size }, Ok(())) => {
                self.events.push_back(Event::Streamed { bytes: size });
                self.events.push_back(Event::Stored { path, size });
            }
            (Pending::Ended { path, size }, Ok(())) => self.events.push_back(Event::Stored { path, size }),
            (Pending::Small { path, .. } | Pending::Ended { path, .. }, Err(why)) => {
                self.fail(path, Failure::Refused(why));
            }
            (Pending::Abandoned { path, why }, Err(refusal)) => {
                self.fail(path, why.unwrap_or(Failure::Refused(refusal)));
            }
            (Pending::Abandoned { .. }, Ok(())) => return Err(Violation::Unexpected),
        }
        Ok(())
    }

    /// Takes a message the receiver sent unasked.
    pub(crate) fn handle_notice(&mut self, notice: Bytes) -> Result<(), Violation> {
        let id = match Answer::parse(notice)? {
            Answer::Alive => return Ok(()),
            Answer::Lost { id } => id,
            Answer::Done | Answer::Refused(_) => return Err(Violation::Unexpected),
        };
        if let Some(large) = self.streaming.iter_mut().chain(&mut self.accepted).find(|large| large.id == id)
        {
            large.lost = true;
        }
        Ok(())
    }

    /// The next thing to tell the user.
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn start(&mut self) -> Step {
        let files = (self.plan.directories.len() + self.plan.files.len()) as u64;
        let start = Request::Start { version: VERSION, files, bytes: self.plan.bytes };
        self.phase = Phase::Awaiting;
        self.request(&start, Pending::Start)
    }

    fn next_directory(&mut self, depth: usize) -> Option<Step> {
        while self.pending.len() < MAX_REQUESTS {
            if self.plan.directories.front()?.0.depth() != depth {
                return None;
            }
            let (path, mode) = self.plan.directories.pop_front()?;
            if let Some(why) = self.hopeless(&path) {
                self.refused_folders.insert(path.clone());
                self.fail(path, why);
                continue;
            }
            let request = Request::Directory { mode, path: path.clone() };
            return Some(self.request(&request, Pending::Directory(path)));
        }
        None
    }

    fn next_of_files(&mut self) -> Option<Step> {
        while self.pending.len() < MAX_REQUESTS && self.ahead() < MAX_AHEAD {
            let Some((path, _)) = self.plan.files.pop_front() else { break };
            match self.hopeless(&path).map_or_else(|| self.open(&path), Err) {
                Ok(step) => return Some(step),
                Err(why) => self.fail(path, why),
            }
        }
        if self.streaming.is_none() {
            self.streaming = self.accepted.pop_front();
        }
        let large = self.streaming.take()?;
        Some(self.stream(large))
    }

    fn open(&mut self, path: &NamePath) -> Result<Step, Failure> {
        let Opened { mut file, size, attributes } = self.source.open(path)?;
        let room = (self.max_message - small_file_header(path)) as u64;
        let path = path.clone();
        if size <= room {
            // At most one message, so it fits any usize.
            let mut contents = vec![0; size as usize];
            file.read_exact(&mut contents).map_err(shortened)?;
            let digest = blake3::hash(&contents).into();
            let request =
                Request::SmallFile { digest, attributes, path: path.clone(), contents: contents.into() };
            return Ok(self.request(&request, Pending::Small { path, size }));
        }
        self.last_file += 1;
        let id = FileId(self.last_file);
        let request = Request::File { id, size, attributes, path: path.clone() };
        let hasher = blake3::Hasher::new();
        let large = Large { id, path, file, size, offset: 0, hasher, lost: false };
        Ok(self.request(&request, Pending::Announced(Box::new(large))))
    }

    /// The next piece of a large file, or its end.
    fn stream(&mut self, mut large: Box<Large<S::File>>) -> Step {
        if large.lost || self.broken_off {
            let why = if large.lost { None } else { Some(Failure::NotReached) };
            return self.abandon(*large, why);
        }
        if large.offset == large.size {
            let request = Request::End { id: large.id, digest: large.hasher.finalize().into() };
            return self.request(&request, Pending::Ended { path: large.path, size: large.size });
        }
        // Bounded by the size of a message.
        let length = (large.size - large.offset).min((self.chunk - CHUNK_HEADER) as u64) as usize;
        let mut message = BytesMut::with_capacity(CHUNK_HEADER + length);
        put_chunk_header(&mut message, large.id, large.offset);
        message.resize(CHUNK_HEADER + length, 0);
        let contents = &mut message[CHUNK_HEADER..];
        if let Err(error) = large.file.read_exact(contents) {
            return self.abandon(*large, Some(shortened(error).into()));
        }
        large.hasher.update(contents);
        large.offset += length as u64;
        self.streaming = Some(large);
        self.events.push_back(Event::Streamed { bytes: length as u64 });
        Step::Stream(message.freeze())
    }

    fn abandon(&mut self, large: Large<S::File>, why: Option<Failure>) -> Step {
        self.request(&Request::Abandon { id: large.id }, Pending::Abandoned { path: large.path, why })
    }

    /// Nothing new is tried from here on.
    fn break_off(&mut self) {
        self.broken_off = true;
        let count = self.plan.directories.len() + self.plan.files.len();
        self.plan.directories.clear();
        self.plan.files.clear();
        if count > 0 {
            self.events.push_back(Event::NotReached { count });
        }
    }

    /// Why a file or folder need not be tried.
    fn hopeless(&self, path: &NamePath) -> Option<Failure> {
        let (parents, _) = path.split();
        let parent = NamePath::new(parents.to_vec()).ok()?;
        self.refused_folders.contains(&parent).then_some(Failure::Orphan)
    }

    /// Large files that are announced and not yet streamed to their end.
    fn ahead(&self) -> usize {
        let announced =
            self.pending.values().filter(|pending| matches!(pending, Pending::Announced(_))).count();
        announced + self.accepted.len() + usize::from(self.streaming.is_some())
    }

    fn fail(&mut self, path: NamePath, why: Failure) {
        self.events.push_back(Event::Failed { path, why });
    }

    fn request(&mut self, request: &Request, about: Pending<S::File>) -> Step {
        self.last_token += 1;
        let token = Token(self.last_token);
        self.pending.insert(token, about);
        Step::Request(token, request.encode())
    }
}

/// A file that ends early has a reason worth naming.
fn shortened(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            io::Error::new(error.kind(), "it became shorter while it was being sent")
        }
        _ => error,
    }
}
