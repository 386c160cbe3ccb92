//! Frames and bytes over the two directions of a stream.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;
use zssp::{ReadError, ReceiveStream, SendStream, WriteError};

use super::{
    message::{Answer, MAX_MESSAGE, Request},
    run::{Broken, Code},
};

/// Sends a message as a frame.
pub(crate) async fn put(stream: &mut SendStream, message: Bytes) -> Result<(), WriteError> {
    let mut frame = BytesMut::with_capacity(4 + message.len());
    // No message comes near to 4 GiB.
    frame.put_u32(message.len() as u32);
    frame.put_slice(&message);
    stream.write_chunk(frame.freeze()).await
}

/// Sends a question of the sender.
pub(crate) async fn ask(stream: &mut SendStream, request: &Request) -> Result<(), WriteError> {
    put(stream, request.encode()).await
}

/// Sends an answer of the receiver.
pub(crate) async fn answer(stream: &mut SendStream, answer: &Answer) -> Result<(), WriteError> {
    put(stream, answer.encode()).await
}

/// Why nothing could be read.
#[derive(Debug, Error)]
pub(crate) enum InputError {
    #[error("a message of {0} bytes")]
    Oversized(u32),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("a stream that ends too early")]
    Truncated,
}

/// What comes in over a stream.
pub(crate) struct Input {
    stream: ReceiveStream,
    /// What came and was not asked for yet; a message at most and what came with it.
    held: BytesMut,
}

impl Input {
    pub(crate) fn new(stream: ReceiveStream) -> Self {
        Self { stream, held: BytesMut::new() }
    }

    /// Reads no more and tells the peer why.
    pub(crate) fn stop(&mut self, code: u32) {
        self.stream.stop(code);
    }

    /// The next message; `None` when the stream has ended instead.
    ///
    /// # Cancel safety
    /// Dropped before it resolves, nothing is lost.
    pub(crate) async fn frame(&mut self) -> Result<Option<Bytes>, InputError> {
        loop {
            if let Some(mut length) = self.held.get(..4) {
                let length = length.get_u32();
                if length as usize > MAX_MESSAGE {
                    return Err(InputError::Oversized(length));
                }
                let whole = 4 + length as usize;
                if self.held.len() >= whole {
                    return Ok(Some(self.held.split_to(whole).freeze().slice(4..)));
                }
            }
            match self.stream.read_chunk().await? {
                Some(chunk) => self.held.extend_from_slice(&chunk),
                None if self.held.is_empty() => return Ok(None),
                None => return Err(InputError::Truncated),
            }
        }
    }

    /// Bytes as they come, `limit` at most; empty at the end of the stream.
    pub(crate) async fn some(&mut self, limit: u64) -> Result<Bytes, InputError> {
        let fitting = |len: usize| usize::try_from(limit).map_or(len, |limit| len.min(limit));
        if !self.held.is_empty() {
            return Ok(self.held.split_to(fitting(self.held.len())).freeze());
        }
        let Some(mut chunk) = self.stream.read_chunk().await? else { return Ok(Bytes::new()) };
        let rest = chunk.split_off(fitting(chunk.len()));
        self.held.extend_from_slice(&rest);
        Ok(chunk)
    }

    /// Fills `out`.
    pub(crate) async fn exact(&mut self, out: &mut [u8]) -> Result<(), InputError> {
        let mut filled = 0;
        while filled < out.len() {
            let some = self.some((out.len() - filled) as u64).await?;
            if some.is_empty() {
                return Err(InputError::Truncated);
            }
            out[filled..filled + some.len()].copy_from_slice(&some);
            filled += some.len();
        }
        Ok(())
    }
}

/// The control stream. Dropped in the middle, it tells the peer that the user has interrupted the transfer.
pub(crate) struct Control {
    pub(crate) send: SendStream,
    pub(crate) input: Input,
    over: bool,
}

impl Control {
    pub(crate) fn new((send, receive): (SendStream, ReceiveStream)) -> Self {
        Self { send, input: Input::new(receive), over: false }
    }

    /// Ends it as the transfer ended.
    pub(crate) fn end(mut self, result: &Result<(), Broken>) {
        match result {
            // What was said last is still to be read: of a peer of another version, our version.
            Ok(()) | Err(Broken::Version(_)) => {}
            Err(broken) => self.break_off(broken.code()),
        }
        self.over = true;
    }

    fn break_off(&mut self, code: Code) {
        // What this fails with says nothing new.
        let _ = self.send.reset(code as u32);
        self.input.stop(code as u32);
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if !self.over {
            self.break_off(Code::Interrupted);
        }
    }
}
