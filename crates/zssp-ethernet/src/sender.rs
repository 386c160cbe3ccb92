//! The way out: frames are collected from the caller's buffers, and many go with one call to the system.

use core::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};

use crate::error::SendError;
use crate::header::{EtherType, Header, LINK_LEN, padding};
use crate::link::Interface;
use crate::sys;
use crate::{EthernetAddress, MacAddress};

/// Datagrams that go with one call to the system.
const FRAMES: usize = 32;

/// The way out of a [`Link`](crate::Link). Any number of threads use it at once.
///
/// ```no_run
/// # fn example(sender: &zssp_ethernet::Sender) -> Result<(), zssp_ethernet::SendError> {
/// use zssp_ethernet::MacAddress;
/// let peer = MacAddress([2, 0, 0, 0, 0, 1]);
/// // The datagrams of one packet.
/// sender.send(peer, [&b"in two"[..], b"pieces"])?;
/// // Several packets with one call to the system.
/// let mut batch = sender.batch();
/// for packet in ["one", "two", "three"] {
///     batch.packet(peer, [packet.as_bytes()])?;
/// }
/// batch.flush()
/// # }
/// ```
#[derive(Debug)]
pub struct Sender {
    interface: Interface,
    socket: OwnedFd,
    ether_type: EtherType,
    /// The spread number of the next packet.
    spread: AtomicU16,
    sent: AtomicU64,
    dropped: AtomicU64,
}

impl Sender {
    pub(crate) fn new(interface: Interface, socket: OwnedFd, ether_type: EtherType) -> Self {
        let zero = || AtomicU64::new(0);
        Self { interface, socket, ether_type, spread: AtomicU16::new(0), sent: zero(), dropped: zero() }
    }

    /// Where peers on the segment send to, with the name that the interface has here.
    pub const fn address(&self) -> EthernetAddress {
        EthernetAddress { interface: self.interface.name, mac: self.interface.mac }
    }

    /// The number that the system has given to the interface.
    pub const fn interface_index(&self) -> u32 {
        self.interface.index
    }

    /// The largest datagram that fits a frame of the interface, as it is set up now: 1496 bytes at an MTU of 1500.
    ///
    /// # Errors
    /// Those of the system: the interface is gone, or renamed.
    pub fn max_datagram_len(&self) -> io::Result<usize> {
        Ok(sys::mtu(self.socket.as_fd(), &self.interface.name)?.saturating_sub(LINK_LEN))
    }

    /// Sends the datagrams of one packet.
    ///
    /// # Errors
    /// See [`SendError`]. Datagrams before the one that failed were sent.
    pub fn send<'a>(
        &self,
        to: MacAddress,
        datagrams: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), SendError> {
        let mut batch = self.batch();
        batch.packet(to, datagrams)?;
        batch.flush()
    }

    /// Sends the datagrams in `run`, `segment` bytes each, the last may be shorter, as those of one packet and without
    /// waiting for the card. Says how many bytes of them went out: whole datagrams, and none only if there are none.
    ///
    /// ```no_run
    /// # fn example(sender: &zssp_ethernet::Sender) -> Result<(), zssp_ethernet::SendError> {
    /// let peer = zssp_ethernet::MacAddress([2, 0, 0, 0, 0, 1]);
    /// let sent = sender.try_send(peer, &[7; 3000], 1400)?;
    /// assert!([1400, 2800, 3000].contains(&sent));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// See [`SendError`]; a [`System`](SendError::System) error of the kind [`WouldBlock`](io::ErrorKind::WouldBlock) while
    /// there is no room, for which one waits until the [descriptor](AsFd) of this is writable.
    pub fn try_send(&self, to: MacAddress, run: &[u8], segment: usize) -> Result<usize, SendError> {
        let spread = self.spread.fetch_add(1, Ordering::Relaxed);
        let mut datagrams = run.chunks(segment.max(1));
        let mut bytes = 0;
        loop {
            let mut frames = [const { Outgoing::NONE }; FRAMES];
            let mut len = 0;
            for (frame, datagram) in frames.iter_mut().zip(datagrams.by_ref()) {
                *frame = self.frame(to, datagram, spread)?;
                len += 1;
            }
            if len == 0 {
                return Ok(bytes);
            }
            let sent = match self.transmit(&frames[..len], SendFlags::DONTWAIT) {
                Ok(sent) => sent,
                Err(_) if bytes > 0 => return Ok(bytes),
                Err(error) => return Err(error),
            };
            bytes += frames[..sent].iter().map(|frame| frame.datagram.len()).sum::<usize>();
            if sent < len {
                return Ok(bytes);
            }
        }
    }

    /// Begins to collect datagrams.
    pub fn batch<'data>(&self) -> SendBatch<'_, 'data> {
        SendBatch { sender: self, frames: [const { Outgoing::NONE }; FRAMES], len: 0 }
    }

    /// What went out so far, and what did not.
    pub fn statistics(&self) -> SendStatistics {
        let [frames, dropped] = [&self.sent, &self.dropped].map(|count| count.load(Ordering::Relaxed));
        SendStatistics { frames, dropped }
    }

    fn frame<'data>(
        &self,
        to: MacAddress,
        datagram: &'data [u8],
        spread: u16,
    ) -> Result<Outgoing<'data>, SendError> {
        let Self { interface, ether_type, .. } = *self;
        let len = u16::try_from(datagram.len()).map_err(|_| self.error(Errno::MSGSIZE, datagram.len()))?;
        let header = Header { to, from: interface.mac, ether_type, len, spread };
        Ok(Outgoing { header: header.emit(), datagram })
    }

    /// Sends some of the frames, at least one, and returns how many. A call to the system takes up to [`FRAMES`].
    fn transmit(&self, frames: &[Outgoing<'_>], flags: SendFlags) -> Result<usize, SendError> {
        let slices = core::array::from_fn::<_, FRAMES, _>(|at| {
            frames.get(at).unwrap_or(const { &Outgoing::NONE }).slices()
        });
        let mut controls = core::array::from_fn::<_, FRAMES, _>(|_| SendAncillaryBuffer::default());
        let mut each = slices.iter();
        let mut messages = controls
            .each_mut()
            .map(|control| MMsgHdr::new(each.next().map_or(&[], |slices| slices), control));
        let count = frames.len().min(FRAMES);
        loop {
            return match sendmmsg(&self.socket, &mut messages[..count], flags) {
                Ok(sent) => {
                    self.sent.fetch_add(sent as u64, Ordering::Relaxed);
                    Ok(sent)
                }
                Err(Errno::INTR) => continue,
                // The card or its queue is full: a link like this one loses the frame.
                Err(Errno::NOBUFS) => {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                    Ok(1)
                }
                Err(error) => Err(self.error(error, frames.first().map_or(0, |frame| frame.datagram.len()))),
            };
        }
    }

    fn error(&self, error: Errno, len: usize) -> SendError {
        let name = self.interface.name;
        match error {
            Errno::MSGSIZE => SendError::TooLarge { interface: name, len },
            Errno::NETDOWN | Errno::NXIO | Errno::NODEV if self.interface.is_gone(&self.socket) => {
                SendError::Gone(name)
            }
            Errno::NETDOWN => SendError::Down(name),
            other => SendError::System(other.into()),
        }
    }
}

/// To wait for room after a [`Sender::try_send`].
impl AsFd for Sender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What a [`Sender`] has done since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SendStatistics {
    /// Frames that the card or its queue had no room for.
    pub dropped: u64,
    /// Frames sent.
    pub frames: u64,
}

/// Datagrams on their way into one call to the system. It holds up to 32, and sends when it is full.
///
/// What is in it when it is dropped without [`flush`](Self::flush) is not sent.
#[derive(Debug)]
pub struct SendBatch<'sender, 'data> {
    sender: &'sender Sender,
    frames: [Outgoing<'data>; FRAMES],
    len: usize,
}

impl<'data> SendBatch<'_, 'data> {
    /// Adds the datagrams of one packet, and sends those that the batch has no room for.
    ///
    /// # Errors
    /// See [`SendError`]. The batch is empty afterwards.
    pub fn packet(
        &mut self,
        to: MacAddress,
        datagrams: impl IntoIterator<Item = &'data [u8]>,
    ) -> Result<(), SendError> {
        //= ZSSP-ETH-04  the same for all of a packet, another for the next
        let spread = self.sender.spread.fetch_add(1, Ordering::Relaxed);
        for datagram in datagrams {
            let frame = self.sender.frame(to, datagram, spread)?;
            if self.len == FRAMES {
                self.flush()?;
            }
            self.frames[self.len] = frame;
            self.len += 1;
        }
        Ok(())
    }

    /// Sends what is in the batch.
    ///
    /// # Errors
    /// See [`SendError`]. The batch is empty afterwards.
    pub fn flush(&mut self) -> Result<(), SendError> {
        let len = core::mem::take(&mut self.len);
        let mut sent = 0;
        while sent < len {
            sent += self.sender.transmit(&self.frames[sent..len], SendFlags::empty())?;
        }
        Ok(())
    }
}

/// A frame that is to be sent.
#[derive(Debug)]
struct Outgoing<'a> {
    header: [u8; Header::LEN],
    datagram: &'a [u8],
}

impl Outgoing<'_> {
    const NONE: Self = Self { header: [0; Header::LEN], datagram: &[] };

    fn slices(&self) -> [IoSlice<'_>; 3] {
        [&self.header, self.datagram, padding(self.datagram.len())].map(IoSlice::new)
    }
}
