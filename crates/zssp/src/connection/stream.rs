//! Byte streams.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Connection;
use super::shared::Shared;
use super::state::{Effects, State, Written};
use crate::clock;
use crate::error::{ReadError, ReadToEndError, WriteError};
use crate::frame::{LaneId, StreamId};
use crate::wait::until;

/// The two halves of a stream.
pub(super) fn halves(connection: Connection, id: StreamId) -> (SendStream, ReceiveStream) {
    let receive = ReceiveStream { connection: connection.clone(), id, chunk: Bytes::new() };
    (SendStream { connection, id }, receive)
}

/// The half of a byte stream that is written to.
///
/// It is an [`AsyncWrite`]; all of tokio's `AsyncWriteExt` works on it. What is written goes out at once and arrives in
/// order, exactly once. Where the peer does not read, writing waits: at most half of
/// [`Builder::send_buffer`](crate::Builder::send_buffer) is under way on one stream.
///
/// Dropped, it is [finished](Self::finish), unless it was reset. So whoever fails half way resets it, or the peer takes what
/// it has for everything. Once the connection is being closed, nothing is finished any more, and the peer's reads end with
/// [`ReadError::ConnectionLost`].
///
/// ```
/// # async fn example(mut send: zssp::SendStream, mut file: impl tokio::io::AsyncRead + Unpin) -> std::io::Result<()> {
/// if let Err(error) = tokio::io::copy(&mut file, &mut send).await {
///     // Fails where the peer has stopped it, or the connection has ended: the peer knows then.
///     let _ = send.reset(1);
///     return Err(error);
/// }
/// # Ok(()) }
/// ```
///
/// ```
/// # async fn example(connection: zssp::Connection) -> Result<(), Box<dyn std::error::Error>> {
/// use tokio::io::AsyncWriteExt;
/// let (mut send, mut receive) = connection.open_stream().await?;
/// send.write_all(b"GET everything").await?;
/// send.finish()?;
/// let everything = receive.read_to_end(1 << 20).await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct SendStream {
    connection: Connection,
    id: StreamId,
}

impl SendStream {
    /// The stream's number, the same on both ends.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// Where several channels and streams of the connection have something to send, those with the highest priority go
    /// first, and equal ones take turns; 0 at first. A change holds from the next chunk on.
    pub fn set_priority(&self, priority: i32) {
        self.shared().look(|state| state.set_priority(LaneId::Stream(self.id), priority));
    }

    /// Writes all of `data`, without copying it.
    ///
    /// # Errors
    /// See [`WriteError`].
    ///
    /// # Cancel safety
    /// Not cancel safe: dropped before it resolves, a part may have been written.
    pub async fn write_chunk(&mut self, data: impl Into<Bytes>) -> Result<(), WriteError> {
        let mut data = data.into();
        while !data.is_empty() {
            let room = std::future::poll_fn(|cx| {
                let room = |state: &mut State, waker, effects: &mut Effects| {
                    state.writable(self.id, data.len(), waker, effects).map(|room| (room > 0).then_some(room))
                };
                self.poll_room(cx, room)
            })
            .await?;
            self.put(Written::Whole(data.split_to(room)))?;
        }
        Ok(())
    }

    /// Ends the stream: the peer sees its end after what was written. Nothing can be written any more.
    ///
    /// It returns at once; [`stopped`](Self::stopped) waits until the peer has read everything. A stream that the peer has
    /// stopped needs no end, and a peer may stop one as soon as it has what it wants of it: that is no error here, and
    /// `stopped` tells it.
    ///
    /// # Errors
    /// [`WriteError::Finished`] or [`WriteError::Reset`] when it is that already; [`WriteError::ConnectionLost`].
    pub fn finish(&mut self) -> Result<(), WriteError> {
        self.shared().with(|state, effects| state.finish(self.id, effects))
    }

    /// Gives the stream up: what the peer has not read it will not see, but
    /// [`ReadError::Reset`] with `code`.
    ///
    /// # Errors
    /// [`WriteError::Finished`] when it is finished and read, [`WriteError::Reset`]; [`WriteError::Stopped`] when the peer has
    /// stopped it.
    pub fn reset(&mut self, code: u32) -> Result<(), WriteError> {
        self.shared().with(|state, effects| state.reset(clock::now(), self.id, code, effects))
    }

    /// Waits until the peer has read everything of the finished stream (`Ok`), or will not.
    ///
    /// # Errors
    /// [`WriteError::Stopped`] when the peer reads no more, [`WriteError::Reset`] when this side has reset the stream.
    ///
    /// # Cancel safety
    /// Cancel safe: it only waits.
    pub async fn stopped(&self) -> Result<(), WriteError> {
        let shared = self.shared();
        let settled = shared.look(|state| state.settled(LaneId::Stream(self.id)));
        until(&settled, || shared.look(|state| state.written(self.id))).await
    }

    fn put(&self, data: Written) -> Result<(), WriteError> {
        self.shared().with(|state, effects| state.write(self.id, data, effects))
    }

    /// What `take` takes, which is to be written now, before anything is waited for.
    fn poll_room<R>(
        &self,
        cx: &mut Context<'_>,
        take: impl Fn(&mut State, Option<Waker>, &mut Effects) -> Result<Option<R>, WriteError>,
    ) -> Poll<Result<R, WriteError>> {
        let shared = self.shared();
        let mut room = shared.with(|state, effects| take(state, None, effects))?;
        if room.is_none() {
            // Whoever waits must hear of a stop, too.
            let waker = cx.waker().clone();
            room = shared.with(|state, effects| take(state, Some(waker), effects))?;
        }
        room.map_or(Poll::Pending, |room| Poll::Ready(Ok(room)))
    }

    fn shared(&self) -> &Arc<Shared> {
        self.connection.shared()
    }
}

impl AsyncWrite for SendStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let lend =
            |state: &mut State, waker, effects: &mut Effects| state.lend(this.id, buf.len(), waker, effects);
        let (written, data) = ready!(this.poll_room(cx, lend))?.fill(buf, &this.shared().endpoint.buffers);
        this.put(data)?;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What is written is on its way.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut().finish() {
            Ok(()) | Err(WriteError::Finished) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        self.shared().with(|state, effects| state.drop_writer(self.id, effects));
    }
}

/// The half of a byte stream that is read.
///
/// It is an [`AsyncRead`]; all of tokio's `AsyncReadExt` works on it. Not reading holds the peer back: it may send no more
/// than fits its send buffer and the stream's window of 64 chunks.
///
/// Dropped before its end was read, it is [stopped](Self::stop) with code 0.
///
/// ```
/// # async fn example(connection: zssp::Connection, mut file: impl tokio::io::AsyncWrite + Unpin)
/// #     -> Result<(), Box<dyn std::error::Error>> {
/// let (_send, mut receive) = connection.accept_stream().await?;
/// // An error means that the end was not seen: the file is not whole.
/// tokio::io::copy(&mut receive, &mut file).await?;
/// # Ok(()) }
/// ```
///
/// What the traits of tokio yield are [`io::Error`]s, with the [`ReadError`] inside:
///
/// ```
/// # fn example(error: std::io::Error) {
/// use zssp::ReadError;
/// if let Some(ReadError::Reset(code)) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
///     eprintln!("the peer has given the stream up, with code {code}");
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct ReceiveStream {
    connection: Connection,
    id: StreamId,
    /// What is left of the chunk being read.
    chunk: Bytes,
}

impl ReceiveStream {
    /// The stream's number, the same on both ends.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// The next bytes as they came, uncopied; `None` at the end. The peer learns that they are read with the next call.
    ///
    /// # Errors
    /// See [`ReadError`].
    ///
    /// # Cancel safety
    /// Dropped before it resolves, nothing was taken.
    pub async fn read_chunk(&mut self) -> Result<Option<Bytes>, ReadError> {
        std::future::poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// Everything up to the end of the stream, if that is no more than `limit` bytes.
    ///
    /// # Errors
    /// See [`ReadToEndError`].
    ///
    /// # Cancel safety
    /// Not cancel safe: dropped before it resolves, what was read is lost.
    pub async fn read_to_end(&mut self, limit: usize) -> Result<Vec<u8>, ReadToEndError> {
        let mut all = Vec::new();
        while let Some(chunk) = self.read_chunk().await? {
            if chunk.len() > limit - all.len() {
                return Err(ReadToEndError::TooLong(limit));
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all)
    }

    /// Reads no more, and tells the peer `code`. What was not read is discarded. Without effect where nothing was left: the
    /// peer has finished the stream, and its last bytes were read.
    pub fn stop(&mut self, code: u32) {
        let rest = std::mem::take(&mut self.chunk);
        self.shared().with(|state, effects| state.stop(clock::now(), (self.id, code), &rest, effects));
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ReadError>> {
        if !self.chunk.is_empty() {
            return Poll::Ready(Ok(Some(std::mem::take(&mut self.chunk))));
        }
        let attempt = |waker: Option<Waker>| {
            self.shared().with(|state, effects| state.read(clock::now(), self.id, waker, effects))
        };
        let mut read = attempt(None)?;
        if read.is_none() {
            read = attempt(Some(cx.waker().clone()))?;
        }
        match read {
            Some(chunk) => Poll::Ready(Ok(chunk)),
            None => Poll::Pending,
        }
    }

    fn shared(&self) -> &Arc<Shared> {
        self.connection.shared()
    }
}

impl AsyncRead for ReceiveStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if let Some(mut chunk) = ready!(this.poll_chunk(cx))? {
            buf.put_slice(&chunk.split_to(chunk.len().min(buf.remaining())));
            this.chunk = chunk;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for ReceiveStream {
    fn drop(&mut self) {
        let rest = std::mem::take(&mut self.chunk);
        self.shared().with(|state, effects| state.drop_reader(clock::now(), self.id, &rest, effects));
    }
}
