//! The sending end of a transfer.
//!
//! A [`Job`] outlives the connections it is sent over: what one has not brought to its end is left for the next.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io::{self, Read},
    sync::Arc,
};

use bytes::Bytes;
use tokio::{
    io::AsyncWriteExt,
    runtime::Handle,
    sync::mpsc,
    task::{Id, JoinSet},
    time::timeout,
};
use zssp::{Connection, SendStream};

use super::{
    message::{self, Answer, Attributes, Digest, FileHeader, Mode, PRELUDE, Request, SMALL, VERSION},
    names::NamePath,
    pipe::{Control, Input, ask},
    run::{Broken, Code, EVENTS, Event, FileNumber, GOODBYE, Trouble, attend},
    source::{Opened, Plan, Source},
};
use crate::interrupt::Interrupt;

/// Files under way at the same time. More would fill a long road better with small files, and share a disk worse.
const MAX_FILES: usize = 16;
/// Bytes of a file that are read at a time.
const PIECE: usize = 128 * 1024;

/// What is left to send.
#[derive(Debug)]
pub(crate) struct Job<S> {
    source: Arc<S>,
    directories: VecDeque<(NamePath, Mode)>,
    files: VecDeque<(NamePath, u64)>,
    /// Folders that the receiver did not take, over whichever connection.
    refused: HashSet<NamePath>,
    next: FileNumber,
    /// Something concerns all files that are left.
    hopeless: bool,
}

/// What became of a file.
enum Sent {
    Stored,
    Present,
    Failed(Trouble),
}

impl<S: Source> Job<S> {
    pub(crate) fn new(source: S, plan: Plan) -> Self {
        let Plan { directories, files, .. } = plan;
        let refused = HashSet::new();
        Self { source: Arc::new(source), directories, files, refused, next: 0, hopeless: false }
    }

    /// Sends what is left; resolves when the receiver has confirmed the end, and every file is stored or has failed.
    pub(crate) async fn send(
        &mut self,
        connection: &Connection,
        mut interrupt: Interrupt,
        mut observe: impl FnMut(Event),
    ) -> Result<(), Broken> {
        let (tell, mut told) = mpsc::channel(EVENTS);
        let mut crew = Crew { files: JoinSet::new(), active: HashMap::new() };
        let (stop, of_files) = Interrupt::by_hand();
        let steps = self.steps(connection, &of_files, (&tell, &mut crew));
        let result = attend(steps, &mut interrupt, &mut told, &mut observe).await;
        if let Err(broken) = &result {
            stop.request(broken.exit());
        }
        drop(tell);
        let rest = async {
            while let Some(event) = told.recv().await {
                observe(event);
            }
            while let Some(ended) = crew.files.join_next_with_id().await {
                let Ok((id, Ok(sent))) = ended else { continue };
                let Some((number, path, size)) = crew.active.remove(&id) else { continue };
                observe(self.note(number, (path, size), sent));
            }
        };
        // Those whose disk does not answer are left behind.
        let _ = timeout(GOODBYE, rest).await;
        self.files.extend(crew.active.into_values().map(|(_, path, size)| (path, size)));
        result
    }

    async fn steps(
        &mut self,
        connection: &Connection,
        interrupt: &Interrupt,
        (tell, crew): (&mpsc::Sender<Event>, &mut Crew),
    ) -> Result<(), Broken> {
        let mut control = Control::new(connection.open_stream().await?);
        let result = self.talk(connection, interrupt, &mut control, (tell, crew)).await;
        control.end(&result);
        result
    }

    async fn talk(
        &mut self,
        connection: &Connection,
        interrupt: &Interrupt,
        Control { send, input: control, .. }: &mut Control,
        (tell, crew): (&mpsc::Sender<Event>, &mut Crew),
    ) -> Result<(), Broken> {
        send.write_chunk(message::prelude().to_vec()).await?;
        let mut prelude = [0; PRELUDE];
        control.exact(&mut prelude).await?;
        match message::parse_prelude(prelude) {
            Ok(VERSION) => {}
            Ok(other) => return Err(Broken::Version(other)),
            Err(malformed) => return Err(Broken::violation(malformed)),
        }
        let bytes = self.files.iter().fold(0u64, |sum, (_, size)| sum.saturating_add(*size));
        let start = Request::Start { files: self.files.len() as u64, bytes };
        ask(send, &start).await?;
        if let Answer::Refused(refusal) = read_answer(control).await? {
            return Err(Broken::violation(refusal));
        }
        self.make_directories(send, control, tell).await?;
        loop {
            while crew.files.len() < MAX_FILES
                && !self.hopeless
                && let Some((path, size)) = self.files.pop_front()
            {
                if self.is_below_a_refused_folder(&path) {
                    let failed = Event::Failed { file: None, path: Some(path), why: Trouble::Parent };
                    let _ = tell.send(failed).await;
                    continue;
                }
                let number = self.next;
                self.next += 1;
                let outgoing = Outgoing {
                    number,
                    path: path.clone(),
                    source: Arc::clone(&self.source),
                    connection: connection.clone(),
                    tell: tell.clone(),
                    interrupt: interrupt.clone(),
                };
                let runtime = Handle::current();
                let task = crew.files.spawn_blocking(move || runtime.block_on(outgoing.send()));
                crew.active.insert(task.id(), (number, path, size));
            }
            let Some(ended) = crew.files.join_next_with_id().await else { break };
            let (id, sent) = ended.map_err(Broken::violation)?;
            // What is broken stays among the active ones, for another connection.
            let sent = sent?;
            let Some((number, path, size)) = crew.active.remove(&id) else { continue };
            let event = self.note(number, (path, size), sent);
            let _ = tell.send(event).await;
        }
        if self.hopeless && !self.files.is_empty() {
            let _ = tell.send(Event::NotReached { count: self.files.len() as u64 }).await;
            self.files.clear();
        }
        ask(send, &Request::Finish).await?;
        send.finish()?;
        match read_answer(control).await? {
            Answer::Done => Ok(()),
            other => Err(Broken::violation(format_args!("{other:?} at the end"))),
        }
    }

    /// Has all folders made. The receiver answers in order, while the questions are still under way.
    async fn make_directories(
        &mut self,
        send: &mut SendStream,
        control: &mut Input,
        tell: &mpsc::Sender<Event>,
    ) -> Result<(), Broken> {
        let ask_all = async {
            for (path, mode) in &self.directories {
                ask(send, &Request::Directory { mode: *mode, path: path.clone() }).await?;
            }
            Ok(())
        };
        let (refused, directories) = (&mut self.refused, &self.directories);
        let read_all = async {
            for (path, _) in directories {
                let Answer::Refused(refusal) = read_answer(control).await? else { continue };
                let why =
                    if has_parent_in(refused, path) { Trouble::Parent } else { Trouble::Refused(refusal) };
                if refused.insert(path.clone()) {
                    let _ = tell.send(Event::Failed { file: None, path: Some(path.clone()), why }).await;
                }
            }
            Ok::<_, Broken>(())
        };
        tokio::try_join!(ask_all, read_all)?;
        Ok(())
    }

    fn is_below_a_refused_folder(&self, path: &NamePath) -> bool {
        has_parent_in(&self.refused, path)
    }

    /// Notes down what became of a file, and says it.
    fn note(&mut self, file: FileNumber, (path, size): (NamePath, u64), sent: Sent) -> Event {
        match sent {
            Sent::Stored => Event::Stored { file, path, size },
            Sent::Present => Event::Present { path, size },
            Sent::Failed(why) => {
                self.hopeless |=
                    matches!(&why, Trouble::Refused(refusal) if refusal.reason.ends_the_transfer());
                Event::Failed { file: Some(file), path: Some(path), why }
            }
        }
    }
}

/// The files under way.
struct Crew {
    files: JoinSet<Result<Sent, Broken>>,
    active: HashMap<Id, (FileNumber, NamePath, u64)>,
}

/// Folders come before what lies in them, so that the one directly above suffices.
fn has_parent_in(folders: &HashSet<NamePath>, path: &NamePath) -> bool {
    let (parents, _) = path.split();
    NamePath::new(parents.to_vec()).is_ok_and(|parent| folders.contains(&parent))
}

async fn read_answer(input: &mut Input) -> Result<Answer, Broken> {
    let Some(frame) = input.frame().await? else { return Err(Broken::violation("no answer")) };
    Answer::parse(frame).map_err(Broken::violation)
}

/// One file on its stream.
struct Outgoing<S> {
    number: FileNumber,
    path: NamePath,
    source: Arc<S>,
    connection: Connection,
    tell: mpsc::Sender<Event>,
    interrupt: Interrupt,
}

/// Why a file does not get to its end.
enum Failure {
    Broken(Broken),
    /// The file on this side, which the receiver is told.
    File(Trouble),
}

impl<E: Into<Broken>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Broken(error.into())
    }
}

impl<S: Source> Outgoing<S> {
    /// Sends the file, from the announcement to the answer; blocks while the disk does.
    async fn send(mut self) -> Result<Sent, Broken> {
        let opened = match self.source.open(&self.path) {
            Ok(opened) => opened,
            Err(error) => return Ok(Sent::Failed(Trouble::Read(error))),
        };
        let (mut send, receive) = self.connection.open_stream().await?;
        let mut input = Input::new(receive);
        let mut interrupt = self.interrupt.clone();
        let sent = tokio::select! {
            biased;
            exit = interrupt.wait() => Err(Broken::Interrupted(exit).into()),
            sent = self.exchange(opened, &mut send, &mut input) => sent,
        };
        let (sent, code) = match sent {
            Ok(sent) => return Ok(sent),
            Err(Failure::File(trouble)) => (Ok(Sent::Failed(trouble)), Code::Abandoned),
            Err(Failure::Broken(broken)) => {
                let code = broken.code();
                (Err(broken), code)
            }
        };
        // What this fails with says nothing new.
        let _ = send.reset(code as u32);
        input.stop(code as u32);
        sent
    }

    async fn exchange(
        &mut self,
        opened: Opened<S::File>,
        send: &mut SendStream,
        input: &mut Input,
    ) -> Result<Sent, Failure> {
        let Opened { mut file, size, attributes } = opened;
        let header = FileHeader { size, attributes, path: self.path.clone() };
        let sent = if size <= SMALL {
            ask(send, &Request::SmallFile(header)).await?;
            self.contents((&mut file, size), blake3::Hasher::new(), send).await
        } else {
            ask(send, &Request::File(header)).await?;
            match self.agree(&mut file, size, (send, input)).await? {
                Agreed::Over(sent) => return Ok(sent),
                Agreed::From { offset, hasher } => {
                    let begun =
                        Event::Begun { file: self.number, path: self.path.clone(), size, kept: offset };
                    let _ = self.tell.send(begun).await;
                    self.contents((&mut file, size - offset), *hasher, send).await
                }
            }
        };
        match sent {
            Ok(()) => {}
            // The answer says why.
            Err(Failure::Broken(Broken::PeerBrokeOff(code))) if code == Code::Refused as u32 => {}
            Err(failure) => return Err(failure),
        }
        Ok(match read_answer(input).await? {
            Answer::Done => {
                self.look_for_changes(&file, size, attributes).await;
                Sent::Stored
            }
            Answer::Refused(refusal) => Sent::Failed(Trouble::Refused(refusal)),
            other => return Err(Broken::violation(format_args!("{other:?} after the contents")).into()),
        })
    }

    /// Finds out where to begin; `file` stands there then.
    async fn agree(
        &mut self,
        file: &mut S::File,
        size: u64,
        (send, input): (&mut SendStream, &mut Input),
    ) -> Result<Agreed, Failure> {
        let mut answer = read_answer(input).await?;
        if answer == Answer::Compare {
            self.say_comparing(size).await;
            let mut whole = self.open_again()?;
            let digest: Digest = self.hash(&mut whole, size)?.finalize().into();
            ask(send, &Request::Digest(digest)).await?;
            answer = match read_answer(input).await? {
                Answer::Done => return Ok(Agreed::Over(Sent::Present)),
                answer => answer,
            };
        }
        let (length, digest) = match answer {
            Answer::Have { length, digest } => (length, digest),
            Answer::Refused(refusal) => return Ok(Agreed::Over(Sent::Failed(Trouble::Refused(refusal)))),
            other => return Err(Broken::violation(format_args!("{other:?} to a file")).into()),
        };
        if length <= size {
            if length > 0 {
                self.say_comparing(length).await;
            }
            let hasher = self.hash(file, length)?;
            if hasher.finalize() == blake3::Hash::from(digest) {
                ask(send, &Request::Contents { offset: length }).await?;
                return Ok(Agreed::From { offset: length, hasher: Box::new(hasher) });
            }
        }
        *file = self.open_again()?;
        let _ = self.tell.send(Event::Anew { path: self.path.clone(), had: length }).await;
        ask(send, &Request::Contents { offset: 0 }).await?;
        Ok(Agreed::From { offset: 0, hasher: Box::default() })
    }

    async fn say_comparing(&self, bytes: u64) {
        let _ = self.tell.send(Event::Comparing { path: self.path.clone(), bytes }).await;
    }

    /// Says so when the file that was read is not what was announced. One that has lost its name was sent all the same.
    async fn look_for_changes(&self, file: &S::File, size: u64, attributes: Attributes) {
        let now = self.source.state(file);
        if now.is_ok_and(|(len, now)| (len, now.modified) != (size, attributes.modified)) {
            let _ = self.tell.send(Event::Changed { path: self.path.clone() }).await;
        }
    }

    fn open_again(&self) -> Result<S::File, Failure> {
        let opened = self.source.open(&self.path).map_err(|error| Failure::File(Trouble::Read(error)))?;
        Ok(opened.file)
    }

    /// Hashes the next `length` bytes.
    fn hash(&self, file: &mut S::File, length: u64) -> Result<blake3::Hasher, Failure> {
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; PIECE];
        let mut missing = length;
        while missing > 0 {
            if let Some(exit) = self.interrupt.requested() {
                return Err(Broken::Interrupted(exit).into());
            }
            let wanted = usize::try_from(missing).map_or(buffer.len(), |missing| missing.min(buffer.len()));
            let count = read(file, &mut buffer[..wanted])?;
            hasher.update(&buffer[..count]);
            missing -= count as u64;
        }
        Ok(hasher)
    }

    /// The contents from here on, and the digest of all of them.
    async fn contents(
        &mut self,
        (file, mut missing): (&mut S::File, u64),
        mut hasher: blake3::Hasher,
        send: &mut SendStream,
    ) -> Result<(), Failure> {
        let mut buffer = vec![0; PIECE];
        while missing > 0 {
            let wanted = usize::try_from(missing).map_or(buffer.len(), |missing| missing.min(buffer.len()));
            let count = read(file, &mut buffer[..wanted])?;
            hasher.update(&buffer[..count]);
            // Copied, unlike chunks: so it fills those of the stream.
            send.write_all(&buffer[..count]).await.map_err(Broken::from)?;
            missing -= count as u64;
            let _ = self.tell.send(Event::Moved { file: self.number, bytes: count as u64 }).await;
        }
        let digest = Bytes::copy_from_slice(hasher.finalize().as_bytes());
        send.write_chunk(digest).await?;
        Ok(send.finish()?)
    }
}

/// What the two ends have agreed on.
enum Agreed {
    /// The contents from there on, when what `hasher` took in is before them.
    From { offset: u64, hasher: Box<blake3::Hasher> },
    /// No contents are needed.
    Over(Sent),
}

/// Reads something, and never nothing.
fn read(file: &mut impl Read, buffer: &mut [u8]) -> Result<usize, Failure> {
    loop {
        match file.read(buffer) {
            Ok(0) => return Err(Failure::File(Trouble::Shrunk)),
            Ok(count) => return Ok(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::File(Trouble::Read(error))),
        }
    }
}
