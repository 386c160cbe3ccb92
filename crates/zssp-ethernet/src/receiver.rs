//! The way in: frames in the memory that the kernel shares, lent to one thread at a time.

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::net::sockopt::socket_error;

use crate::InterfaceName;
use crate::error::{OpenError, ReceiveError};
use crate::header::Frame;
use crate::link::Interface;
use crate::slot;
use crate::sys::Ring;

/// One of the ways in of a [`Link`](crate::Link), for one thread.
///
/// ```no_run
/// # fn example(mut receiver: zssp_ethernet::Receiver) -> Result<(), zssp_ethernet::ReceiveError> {
/// use std::time::Duration;
/// use zssp_ethernet::Received;
/// loop {
///     match receiver.receive(Some(Duration::from_millis(100)))? {
///         Received::Batch(batch) => batch.frames().for_each(|frame| println!("{} bytes", frame.bytes.len())),
///         Received::Nothing => println!("quiet"),
///         Received::Woken => return Ok(()),
///     }
/// }
/// # }
/// ```
pub struct Receiver {
    interface: Interface,
    ring: Ring,
    alarm: Arc<Alarm>,
    /// Whether the interface went down and nothing came since.
    is_down: bool,
    counted: ReceiveStatistics,
}

impl Receiver {
    pub(crate) fn new(interface: Interface, ring: Ring) -> Result<Self, OpenError> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let event = event.map_err(OpenError::at("make an event"))?;
        let alarm = Arc::new(Alarm { rung: AtomicBool::new(false), event });
        Ok(Self { interface, ring, alarm, is_down: false, counted: ReceiveStatistics::default() })
    }

    /// Waits for frames until `timeout`, for ever if there is none. A [`Waker`] ends the wait, and comes before frames.
    ///
    /// A frame that arrives ends the wait at once; those behind it come along. An interface that is down brings nothing,
    /// and is waited for.
    ///
    /// # Errors
    /// See [`ReceiveError`].
    pub fn receive(&mut self, timeout: Option<Duration>) -> Result<Received<'_>, ReceiveError> {
        match self.wait(timeout)? {
            Wait::Over => return Ok(Received::Nothing),
            Wait::Ready => {}
            Wait::Woken => return Ok(Received::Woken),
        }
        let Self { ring, counted, .. } = self;
        let batch = Batch::next(ring);
        counted.frames += batch.frames as u64;
        counted.malformed += u64::from(batch.slots) - batch.frames as u64;
        Ok(Received::Batch(batch))
    }

    /// Where the frames come in.
    pub const fn interface(&self) -> InterfaceName {
        self.interface.name
    }

    /// To end [`receive`](Self::receive) from another thread.
    pub fn waker(&self) -> Waker {
        Waker(self.alarm.clone())
    }

    /// What came so far, and what did not.
    ///
    /// # Errors
    /// That of the system, which keeps the count of drops.
    pub fn statistics(&mut self) -> io::Result<ReceiveStatistics> {
        // The kernel forgets what it has told.
        self.counted.dropped += u64::from(self.ring.statistics()?.tp_drops);
        Ok(self.counted)
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<Wait, ReceiveError> {
        let mut deadline = None;
        loop {
            if self.alarm.silence() {
                return Ok(Wait::Woken);
            }
            if self.ring.slot(0).is_some() {
                self.is_down = false;
                return Ok(Wait::Ready);
            }
            if self.is_down && self.interface.is_gone(&self.ring) {
                return Err(ReceiveError::Gone(self.interface.name));
            }
            let left = timeout.and_then(|timeout| {
                let now = Instant::now();
                // A time that no clock reaches is none.
                let end = *deadline.get_or_insert_with(|| now.checked_add(timeout));
                end.map(|end| end.saturating_duration_since(now))
            });
            if left == Some(Duration::ZERO) {
                return Ok(Wait::Over);
            }
            self.sleep(left)?;
        }
    }

    /// Sleeps until there is something to look at, at most for `time`.
    fn sleep(&mut self, time: Option<Duration>) -> Result<(), ReceiveError> {
        // The kernel says when an interface goes down, but not when one that is down is removed.
        const LOOK_AFTER: Duration = Duration::from_millis(200);
        let time = if self.is_down { Some(time.unwrap_or(LOOK_AFTER).min(LOOK_AFTER)) } else { time };
        let time = time.and_then(|time| Timespec::try_from(time).ok());
        let mut watched = [
            PollFd::from_borrowed_fd(self.ring.as_fd(), PollFlags::IN),
            PollFd::new(&self.alarm.event, PollFlags::IN),
        ];
        match poll(&mut watched, time.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
        if !watched[0].revents().contains(PollFlags::ERR) {
            return Ok(());
        }
        match socket_error(&self.ring).map_err(io::Error::from)? {
            Ok(()) => Ok(()),
            // The kernel goes on by itself when the interface is up again.
            Err(Errno::NETDOWN) => {
                self.is_down = true;
                Ok(())
            }
            Err(other) => Err(io::Error::from(other).into()),
        }
    }
}

/// To wait for frames otherwise than in [`Receiver::receive`]: readable when frames came since the last that were
/// taken.
impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("interface", &self.interface.name).finish_non_exhaustive()
    }
}

enum Wait {
    Over,
    Ready,
    Woken,
}

/// What [`Receiver::receive`] ended with.
#[derive(Debug)]
pub enum Received<'a> {
    /// Frames.
    Batch(Batch<'a>),
    /// The time was over.
    Nothing,
    /// A [`Waker`] was used since the last time.
    Woken,
}

/// Frames that came one after the other, lent: they cannot be changed, and their memory goes back to the kernel when this is
/// dropped. Meanwhile others arrive in the rest of the ring, so keep it for a short time.
pub struct Batch<'a> {
    ring: &'a mut Ring,
    slots: u32,
    frames: usize,
}

impl<'a> Batch<'a> {
    /// Bytes of all datagrams together, at most: one of any length fits.
    pub const MAX_LEN: usize = 1 << 18;

    /// Frames, at most.
    pub const MAX_FRAMES: usize = Self::MAX_SLOTS as usize;

    const MAX_SLOTS: u32 = 64;

    /// What is there now and fits.
    fn next(ring: &'a mut Ring) -> Self {
        let (mut slots, mut frames, mut len) = (0, 0, 0);
        while slots < Self::MAX_SLOTS
            && let Some(slot) = ring.slot(slots)
        {
            if let Some(frame) = slot::frame(slot) {
                len += frame.bytes.len();
                if len > Self::MAX_LEN {
                    break;
                }
                frames += 1;
            }
            slots += 1;
        }
        Self { ring, slots, frames }
    }

    /// In the order they came.
    pub fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        (0..self.slots).filter_map(|ahead| slot::frame(self.ring.slot(ahead)?))
    }

    /// How many.
    pub const fn len(&self) -> usize {
        self.frames
    }

    /// Whether nothing came but what is not a frame of this protocol.
    pub const fn is_empty(&self) -> bool {
        self.frames == 0
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.ring.release(self.slots);
    }
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("frames", &self.frames).finish_non_exhaustive()
    }
}

/// What one [`Receiver`] has met since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceiveStatistics {
    /// Frames that the kernel dropped because the ring was full.
    pub dropped: u64,
    /// Frames given out.
    pub frames: u64,
    /// Frames that were not what they said, or longer than the interface's MTU was when it was opened: other programs use
    /// the same EtherType, somebody plays tricks, or the MTU was changed.
    pub malformed: u64,
}

/// Ends the wait of a [`Receiver`], from any thread.
#[derive(Clone)]
pub struct Waker(Arc<Alarm>);

impl Waker {
    /// Has [`Receiver::receive`] return [`Received::Woken`], now or when it is called next, also while frames come in.
    pub fn wake(&self) {
        // Any number but zero will do. It fails only when it was rung so often that it rings anyhow.
        let _full = rustix::io::write(&self.0.event, &[1; 8]);
        // Afterwards: an event that nobody is told to read would end every wait at once, for ever.
        self.0.rung.store(true, Ordering::Release);
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waker").finish_non_exhaustive()
    }
}

struct Alarm {
    /// Looked at where asking the system would take too long.
    rung: AtomicBool,
    event: OwnedFd,
}

impl Alarm {
    /// Whether it was rung, which it is not afterwards.
    fn silence(&self) -> bool {
        // Without writing, almost always.
        if !self.rung.load(Ordering::Relaxed) || !self.rung.swap(false, Ordering::Acquire) {
            return false;
        }
        // A ring between these two lines may be heard twice, which changes nothing of what the caller learns.
        let _empty = rustix::io::read(&self.event, &mut [0; 8]);
        true
    }
}
