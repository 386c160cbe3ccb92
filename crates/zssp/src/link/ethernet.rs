//! Raw Ethernet frames, without IP.

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use zssp_ethernet::{
    Batch, EthernetAddress, MacAddress, ReceiveStatistics, Received, Receiver, SendError, SendStatistics,
    Sender,
};

use super::{Link, Path, ReceiveBatch, Wakers};
use crate::sync::{RankedMutex, rank};

/// An interface of raw Ethernet frames, on the runtime. Clones are handles of the same.
///
/// # Addresses
/// The address of a peer is the IPv6 link-local address that RFC 4291 (appendix A) makes of its MAC address, with the
/// interface for its scope and zero for its port. It names the card and nothing else: no IP packet is ever sent there. See
/// [`address`](Self::address) and [`mac`](Self::mac). Who is on the segment can pretend to be any card of it, so strangers
/// on one segment share what an endpoint keeps for one source.
///
/// # Speed
/// A frame wakes the endpoint when it comes, as a UDP datagram does. What UDP has besides is offload: there one call to the
/// system sends or takes a run of datagrams as if it were one, here each is a frame of its own. So a stream is fastest at a
/// large MTU.
///
/// # What it does not say
/// An interface that is down, or removed, brings nothing, and what is sent there is lost and counted: an endpoint on it
/// waits, and its connections end as they do over a network that fails. One that comes up again goes on.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use zssp::ethernet::{self, Settings};
/// use zssp::link::{Ethernet, Link as _};
/// use zssp::{Endpoint, PublicKey, SecretKey};
/// # let peer_key: PublicKey = unimplemented!();
///
/// let link = Ethernet::new(ethernet::Link::open("eth0".parse()?, &Settings::default())?)?;
/// let peer = link.address("02:00:00:00:00:01".parse()?);
/// // The whole of a frame, which is more than an endpoint takes by itself.
/// let endpoint = Endpoint::builder(SecretKey::generate()?).mtu(link.mtu()).bind_link(link)?;
/// let connection = endpoint.connect(peer, peer_key).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Ethernet(Arc<Inner>);

struct Inner {
    sender: Sender,
    writable: AsyncFd<OwnedFd>,
    writers: Wakers,
    ways_in: Vec<WayIn>,
    /// Which of them is first next time. Two that ask at once may begin with the same.
    turn: AtomicUsize,
    readers: Wakers,
    mtu: usize,
    /// The interface's number, which is the scope of addresses.
    scope: u32,
}

/// A ring. Its frames are copied to where they are opened, under the lock; opening them needs none.
struct WayIn {
    receiver: RankedMutex<{ rank::LINK }, Receiver>,
    readable: AsyncFd<OwnedFd>,
}

impl Ethernet {
    /// An open link for an endpoint. One receiver is enough for any number of
    /// [receive tasks](crate::Builder::receive_tasks): they copy frames in turn, and open them at the same time.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Panics
    /// Outside of a tokio runtime with its IO driver enabled.
    pub fn new(link: zssp_ethernet::Link) -> io::Result<Self> {
        let zssp_ethernet::Link { receivers, sender } = link;
        let ways_in = receivers.into_iter().map(|receiver| {
            let readable = watch(&receiver, Interest::READABLE)?;
            Ok(WayIn { receiver: RankedMutex::new(receiver), readable })
        });
        Ok(Self(Arc::new(Inner {
            ways_in: ways_in.collect::<io::Result<_>>()?,
            writable: watch(&sender, Interest::WRITABLE)?,
            mtu: sender.max_datagram_len()?,
            scope: sender.interface_index(),
            sender,
            turn: AtomicUsize::new(0),
            writers: Wakers::default(),
            readers: Wakers::default(),
        })))
    }

    /// The card here, with the name of its interface.
    pub fn local(&self) -> EthernetAddress {
        self.0.sender.address()
    }

    /// The address of a card on this segment, to [connect](crate::Endpoint::connect) to.
    pub fn address(&self, mac: MacAddress) -> SocketAddr {
        let [a, b, c, d, e, f] = mac.0;
        let [ab, cd, ef] = [[a ^ UNIVERSAL, b], [c, 0xff], [0xfe, d]].map(u16::from_be_bytes);
        let ip = Ipv6Addr::new(0xfe80, 0, 0, 0, ab, cd, ef, u16::from_be_bytes([e, f]));
        SocketAddrV6::new(ip, 0, 0, self.0.scope).into()
    }

    /// The card that an [`address`](Self::address) of a link such as this names; `None` for other addresses.
    pub fn mac(address: SocketAddr) -> Option<MacAddress> {
        let SocketAddr::V6(address) = address else { return None };
        match address.ip().octets() {
            [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a, b, c, 0xff, 0xfe, d, e, f] if address.port() == 0 => {
                Some(MacAddress([a ^ UNIVERSAL, b, c, d, e, f]))
            }
            _ => None,
        }
    }

    /// What came and went so far, and what was dropped: of the ways in, all together.
    ///
    /// # Errors
    /// What the system says, which keeps the count of drops.
    pub fn statistics(&self) -> io::Result<(ReceiveStatistics, SendStatistics)> {
        let mut received = ReceiveStatistics::default();
        for way_in in &self.0.ways_in {
            let of_this = way_in.receiver.lock().statistics()?;
            received.dropped += of_this.dropped;
            received.frames += of_this.frames;
            received.malformed += of_this.malformed;
        }
        Ok((received, self.0.sender.statistics()))
    }
}

impl Inner {
    fn next_way_in(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed) % self.ways_in.len().max(1)
    }
}

/// The readiness of a socket, through a descriptor of its own.
#[expect(
    deprecated,
    reason = "for descriptors that may be closed meanwhile, which this one, being owned, cannot"
)]
fn watch(socket: impl AsFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(socket.as_fd().try_clone_to_owned()?, interest)
}

/// The bit that a MAC address and the end of an IPv6 address have the other way round.
const UNIVERSAL: u8 = 2;

impl Link for Ethernet {
    fn local_addr(&self) -> SocketAddr {
        self.address(self.local().mac)
    }

    fn mtu(&self) -> usize {
        self.0.mtu
    }

    fn reaches(&self, to: SocketAddr) -> bool {
        Self::mac(to).is_some_and(|mac| self.address(mac) == to)
    }

    fn try_send(&self, path: Path, run: &[u8], segment: usize) -> io::Result<usize> {
        let mac = Self::mac(path.remote).ok_or(io::ErrorKind::InvalidInput)?;
        let call = || {
            self.0.sender.try_send(mac, run, segment).map_err(|error| match error {
                SendError::System(error) => error,
                other => io::Error::other(other),
            })
        };
        match self.0.writable.try_io(Interest::WRITABLE, |_| call()) {
            // As with a socket of UDP, whose first packet must not be lost because tokio has not heard of it yet.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => call(),
            sent => sent,
        }
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.writers.poll(cx, |cx| self.0.writable.poll_write_ready(cx).map_ok(drop))
    }

    fn poll_receive(&self, cx: &mut Context<'_>, batch: &mut ReceiveBatch) -> Poll<io::Result<()>> {
        self.0.readers.poll(cx, |cx| {
            let mut answer = Poll::Pending;
            // Each time another one first: whoever fills one ring must not keep the others from being emptied.
            let (before, after) = self.0.ways_in.split_at(self.0.next_way_in());
            for way_in in after.iter().chain(before) {
                let received = way_in.poll_receive(cx, batch, |mac| self.address(mac));
                // What one ring brought is not lost because another one fails.
                if received.is_ready() && !matches!(answer, Poll::Ready(Ok(()))) {
                    answer = received;
                }
            }
            answer
        })
    }
}

impl WayIn {
    fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        batch: &mut ReceiveBatch,
        address: impl Fn(MacAddress) -> SocketAddr,
    ) -> Poll<io::Result<()>> {
        loop {
            // Asked before the ring is looked at: a frame that comes in between makes it readable again.
            let mut readable = ready!(self.readable.poll_read_ready(cx))?;
            if self.take(batch, &address)? {
                return Poll::Ready(Ok(()));
            }
            readable.clear_ready();
        }
    }

    /// Copies as many frames as are there and find room. Says whether there may be more.
    fn take(&self, batch: &mut ReceiveBatch, address: impl Fn(MacAddress) -> SocketAddr) -> io::Result<bool> {
        let mut receiver = self.receiver.lock();
        let mut took = false;
        while batch.has_room(Batch::MAX_FRAMES, Batch::MAX_LEN) {
            match receiver.receive(Some(std::time::Duration::ZERO)).map_err(io::Error::other)? {
                Received::Batch(frames) => {
                    took = true;
                    for frame in frames.frames() {
                        let len = frame.bytes.len();
                        if let Some(room) = batch.room().get_mut(..len) {
                            room.copy_from_slice(frame.bytes);
                            batch.push(address(frame.source), len, len);
                        }
                    }
                }
                Received::Nothing | Received::Woken => return Ok(took),
            }
        }
        Ok(true)
    }
}

impl fmt::Debug for Ethernet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ethernet")
            .field("local", &self.local())
            .field("mtu", &self.0.mtu)
            .finish_non_exhaustive()
    }
}
