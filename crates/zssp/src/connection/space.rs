//! Room in the send buffer, for those who write by polling.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

type Acquire = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send + Sync>>;

/// Bytes taken off the send buffer and not yet used. They go back when this is dropped.
pub(super) struct Space {
    buffer: Arc<Semaphore>,
    held: usize,
    /// Allocated only where one has to wait.
    waiting: Option<Acquire>,
}

/// The connection has ended.
#[derive(Debug)]
pub(super) struct Closed;

impl Space {
    pub(super) fn new(buffer: Arc<Semaphore>) -> Self {
        Self { buffer, held: 0, waiting: None }
    }

    /// Takes `wanted` bytes off the buffer, unless some are held already; yields how many are held.
    pub(super) fn poll_take(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<Result<usize, Closed>> {
        if self.held > 0 {
            return Poll::Ready(Ok(self.held));
        }
        let count = u32::try_from(wanted).unwrap_or(u32::MAX);
        let waiting = match &mut self.waiting {
            Some(waiting) => waiting,
            None => match self.buffer.try_acquire_many(count) {
                Ok(permit) => {
                    permit.forget();
                    self.held = wanted;
                    return Poll::Ready(Ok(wanted));
                }
                Err(_) => self.waiting.insert(Box::pin(self.buffer.clone().acquire_many_owned(count))),
            },
        };
        let outcome = ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        let permit = outcome.map_err(|_| Closed)?;
        self.held = permit.num_permits();
        permit.forget();
        Poll::Ready(Ok(self.held))
    }

    /// Uses `len` of the bytes held: they go back when they are answered.
    pub(super) fn spend(&mut self, len: usize) {
        self.held = self.held.saturating_sub(len);
    }

    /// Gives back what is held, and waits no more.
    pub(super) fn release(&mut self) {
        self.waiting = None;
        self.buffer.add_permits(std::mem::take(&mut self.held));
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.release();
    }
}

impl fmt::Debug for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Space").field("held", &self.held).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn room_is_waited_for_and_given_back() {
        let buffer = Arc::new(Semaphore::new(100));
        let mut first = Space::new(buffer.clone());
        let mut second = Space::new(buffer.clone());
        let take = async |space: &mut Space, wanted| {
            std::future::poll_fn(|cx| space.poll_take(cx, wanted)).await.unwrap()
        };
        assert_eq!(take(&mut first, 80).await, 80);
        assert_eq!(take(&mut first, 10).await, 80, "what is held comes first");
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(second.poll_take(&mut cx, 50).is_pending());
        first.spend(30);
        drop(first);
        assert_eq!(take(&mut second, 50).await, 50);
        drop(second);
        assert_eq!(buffer.available_permits(), 70, "what was spent comes back with its answer");
        buffer.close();
        assert!(matches!(Space::new(buffer).poll_take(&mut cx, 1), Poll::Ready(Err(Closed))));
    }
}
