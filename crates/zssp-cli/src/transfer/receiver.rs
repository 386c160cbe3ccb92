//! The receiving end of a transfer.
//!
//! Each file is a stream and is taken on a thread of its own, where reading, hashing and writing may block. The streams'
//! windows lie between the two ends, so disk and network work at the same time, and a slow disk at the receiver slows
//! the sender down instead of filling memory.

use std::io::Read;

use tokio::{runtime::Handle, sync::mpsc, task::JoinSet, time::timeout};
use zssp::{Connection, ReceiveStream, SendStream};

use super::{
    message::{self, Answer, Digest, FileHeader, PRELUDE, Request, SMALL, Unreadable, VERSION},
    names::NamePath,
    pipe::{Control, Input, answer},
    refusal::{Reason, Refusal},
    run::{Broken, Code, EVENTS, Event, FileNumber, GOODBYE, Trouble, attend},
    sink::{Place, Sink, SinkFile},
};
use crate::interrupt::Interrupt;

/// Files under way at most; a sender that opens more waits.
const MAX_FILES: usize = 64;

/// Receives everything; resolves when the sender has said that it has nothing more.
pub(crate) async fn receive<K: Sink>(
    connection: &Connection,
    sink: K,
    mut interrupt: Interrupt,
    mut observe: impl FnMut(Event),
) -> Result<(), Broken> {
    let (tell, mut told) = mpsc::channel(EVENTS);
    let mut files = JoinSet::new();
    let (stop, of_files) = Interrupt::by_hand();
    let serving = serve(connection, &sink, &of_files, (&tell, &mut files));
    let mut result = attend(serving, &mut interrupt, &mut told, &mut observe).await;
    if let Err(broken) = &result {
        stop.request(broken.exit());
    }
    drop(tell);
    // Until the last file is let go of: nothing is written after this returns, so that another attempt finds on the disk
    // what this one left. A channel that is closed from here would end before that.
    let rest = async {
        while let Some(event) = told.recv().await {
            observe(event);
        }
    };
    // Those whose disk does not answer are left behind.
    if timeout(GOODBYE, rest).await.is_err() && result.is_ok() {
        result = Err(Broken::violation("files are still under way"));
    }
    result
}

/// Answers the control stream, and starts a thread for each file.
async fn serve<K: Sink>(
    connection: &Connection,
    sink: &K,
    interrupt: &Interrupt,
    (tell, files): (&mpsc::Sender<Event>, &mut JoinSet<Result<(), Broken>>),
) -> Result<(), Broken> {
    let mut control = Control::new(connection.accept_stream().await?);
    let result = talk(connection, (sink, interrupt), &mut control, (tell, files)).await;
    control.end(&result);
    result
}

async fn talk<K: Sink>(
    connection: &Connection,
    (sink, interrupt): (&K, &Interrupt),
    Control { send, input, .. }: &mut Control,
    (tell, files): (&mpsc::Sender<Event>, &mut JoinSet<Result<(), Broken>>),
) -> Result<(), Broken> {
    let mut prelude = [0; PRELUDE];
    input.exact(&mut prelude).await?;
    // Said in any case, so that a sender of another version learns ours.
    send.write_chunk(message::prelude().to_vec()).await?;
    match message::parse_prelude(prelude) {
        Ok(VERSION) => {}
        Ok(other) => return Err(Broken::Version(other)),
        Err(malformed) => return Err(Broken::violation(malformed)),
    }
    let mut number: FileNumber = 0;
    loop {
        tokio::select! {
            frame = input.frame() => {
                let Some(frame) = frame? else { return Err(Broken::violation("it ended without a word")) };
                let request = match Request::parse(frame) {
                    Ok(request) => request,
                    Err(Unreadable::Malformed(why)) => return Err(Broken::violation(why)),
                    Err(Unreadable::Name(why)) => {
                        refuse(send, tell, (None, None), why.into()).await?;
                        continue;
                    }
                };
                match request {
                    Request::Start { bytes, .. } => {
                        let _ = tell.send(Event::Expected { bytes }).await;
                        answer(send, &Answer::Done).await?;
                    }
                    Request::Directory { mode, path } => match sink.make_directory(&path, mode) {
                        Ok(()) => answer(send, &Answer::Done).await?,
                        Err(refusal) => refuse(send, tell, (None, Some(path)), refusal).await?,
                    },
                    // Each file has been answered before the sender says this.
                    Request::Finish => {
                        while let Some(file) = files.join_next().await {
                            file.map_err(Broken::violation)??;
                        }
                        // The stream ends when it is dropped.
                        return Ok(answer(send, &Answer::Done).await?);
                    }
                    _ => return Err(Broken::violation("a file's message on the control stream")),
                }
            }
            Some(ended) = files.join_next(), if !files.is_empty() => ended.map_err(Broken::violation)??,
            stream = connection.accept_stream(), if files.len() < MAX_FILES => {
                let file = Incoming { number, sink: sink.clone(), tell: tell.clone() };
                let (stream, interrupt, runtime) = (stream?, interrupt.clone(), Handle::current());
                files.spawn_blocking(move || runtime.block_on(file.take(stream, interrupt)));
                number += 1;
            }
        }
    }
}

async fn refuse(
    send: &mut SendStream,
    tell: &mpsc::Sender<Event>,
    (file, path): (Option<FileNumber>, Option<NamePath>),
    refusal: Refusal,
) -> Result<(), Broken> {
    let said = answer(send, &Answer::Refused(refusal.clone())).await;
    let _ = tell.send(Event::Failed { file, path, why: Trouble::Refused(refusal) }).await;
    Ok(said?)
}

/// A file that somebody wants to send.
struct Incoming<K> {
    number: FileNumber,
    sink: K,
    tell: mpsc::Sender<Event>,
}

/// Why a file is not stored.
enum Failure {
    Broken(Broken),
    Refused(Refusal),
}

impl<E: Into<Broken>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Broken(error.into())
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl<K: Sink> Incoming<K> {
    /// Takes the file from the beginning of its stream to its end; blocks while the disk does.
    async fn take(
        self,
        (mut send, receive): (SendStream, ReceiveStream),
        mut interrupt: Interrupt,
    ) -> Result<(), Broken> {
        let mut input = Input::new(receive);
        let mut path = None;
        let stored = tokio::select! {
            biased;
            exit = interrupt.wait() => Err(Broken::Interrupted(exit).into()),
            stored = self.store(&mut send, &mut input, &mut path) => stored,
        };
        match stored {
            Ok(event) => {
                answer(&mut send, &Answer::Done).await?;
                let _ = self.tell.send(event).await;
                Ok(())
            }
            Err(Failure::Refused(refusal)) => {
                let said = refuse(&mut send, &self.tell, (Some(self.number), path), refusal).await;
                input.stop(Code::Refused as u32);
                said
            }
            // The sender tells its user why.
            Err(Failure::Broken(Broken::PeerBrokeOff(code))) if code == Code::Abandoned as u32 => {
                let why = Trouble::Refused(Refusal::plain(Reason::Abandoned));
                let _ = self.tell.send(Event::Failed { file: Some(self.number), path, why }).await;
                Ok(())
            }
            Err(Failure::Broken(broken)) => {
                input.stop(broken.code() as u32);
                // What it fails with says nothing new.
                let _ = send.reset(broken.code() as u32);
                Err(broken)
            }
        }
    }

    async fn store(
        &self,
        send: &mut SendStream,
        input: &mut Input,
        name: &mut Option<NamePath>,
    ) -> Result<Event, Failure> {
        let Some(frame) = input.frame().await? else {
            return Err(Broken::violation("a stream without a file").into());
        };
        let (header, small) = match Request::parse(frame) {
            Ok(Request::File(header)) => (header, false),
            Ok(Request::SmallFile(header)) if header.size <= SMALL => (header, true),
            Ok(_) => return Err(Broken::violation("a stream that does not begin with a file").into()),
            Err(Unreadable::Malformed(why)) => return Err(Broken::violation(why).into()),
            Err(Unreadable::Name(why)) => return Err(Refusal::from(why).into()),
        };
        *name = Some(header.path.clone());
        if small {
            self.store_small(input, header).await
        } else {
            self.store_large(send, input, header).await
        }
    }

    async fn store_small(&self, input: &mut Input, header: FileHeader) -> Result<Event, Failure> {
        let FileHeader { size, attributes, path } = header;
        // No more than `SMALL`.
        let mut contents = vec![0; size as usize];
        input.exact(&mut contents).await?;
        let digest = read_digest(input).await?;
        if blake3::hash(&contents) != blake3::Hash::from(digest) {
            return Err(Refusal::plain(Reason::Corrupt).into());
        }
        if let Place::Taken { mut file, if_different } = self.sink.place(&path, size)? {
            if digest_of(&mut file).map_err(Refusal::from)? == digest {
                return Ok(Event::Present { path, size });
            }
            if_different?;
        }
        let mut part = self.sink.part(&path, &attributes)?;
        part.restart()?;
        part.write(&contents)?;
        part.commit()?;
        let _ = self.tell.send(Event::Moved { file: self.number, bytes: size }).await;
        Ok(Event::Stored { file: self.number, path, size })
    }

    async fn store_large(
        &self,
        send: &mut SendStream,
        input: &mut Input,
        header: FileHeader,
    ) -> Result<Event, Failure> {
        let FileHeader { size, attributes, path } = header;
        if let Place::Taken { mut file, if_different } = self.sink.place(&path, size)? {
            answer(send, &Answer::Compare).await?;
            let _ = self.tell.send(Event::Comparing { path: path.clone(), bytes: size }).await;
            let Request::Digest(theirs) = reply(input).await? else {
                return Err(Broken::violation("no digest where one was asked for").into());
            };
            if digest_of(&mut file).map_err(Refusal::from)? == theirs {
                return Ok(Event::Present { path, size });
            }
            if_different?;
        }
        let mut part = self.sink.part(&path, &attributes)?;
        let mut hasher = blake3::Hasher::new();
        let kept = part.kept();
        if kept > 0 {
            let _ = self.tell.send(Event::Comparing { path: path.clone(), bytes: kept }).await;
        }
        part.read_kept(&mut |bytes| {
            hasher.update(bytes);
        })?;
        answer(send, &Answer::Have { length: kept, digest: hasher.finalize().into() }).await?;
        let offset = match reply(input).await? {
            Request::Contents { offset } if offset == kept && offset <= size => offset,
            Request::Contents { offset: 0 } => {
                let _ = self.tell.send(Event::Anew { path: path.clone(), had: kept }).await;
                part.restart()?;
                hasher.reset();
                0
            }
            _ => return Err(Broken::violation("contents that fit to nothing").into()),
        };
        let begun = Event::Begun { file: self.number, path: path.clone(), size, kept: offset };
        let _ = self.tell.send(begun).await;
        let mut missing = size - offset;
        while missing > 0 {
            let contents = input.some(missing).await?;
            if contents.is_empty() {
                return Err(Broken::violation("a file that ends too early").into());
            }
            part.write(&contents)?;
            hasher.update(&contents);
            missing -= contents.len() as u64;
            let _ = self.tell.send(Event::Moved { file: self.number, bytes: contents.len() as u64 }).await;
        }
        let digest = read_digest(input).await?;
        if hasher.finalize() != blake3::Hash::from(digest) {
            part.discard();
            return Err(Refusal::plain(Reason::Corrupt).into());
        }
        part.commit()?;
        Ok(Event::Stored { file: self.number, path, size })
    }
}

/// The sender's answer to ours.
async fn reply(input: &mut Input) -> Result<Request, Broken> {
    let Some(frame) = input.frame().await? else { return Err(Broken::violation("no answer")) };
    Request::parse(frame).map_err(Broken::violation)
}

/// The digest at the end of a stream.
async fn read_digest(input: &mut Input) -> Result<Digest, Broken> {
    let mut digest = Digest::default();
    input.exact(&mut digest).await?;
    if input.some(1).await?.is_empty() { Ok(digest) } else { Err(Broken::violation("more than a file")) }
}

fn digest_of(file: &mut dyn Read) -> std::io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file)?;
    Ok(hasher.finalize().into())
}
