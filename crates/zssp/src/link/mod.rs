//! The roads packets travel on.
//!
//! An endpoint [binds](crate::Builder::bind) a UDP socket, which is a [`Udp`]. Whatever else carries datagrams does as
//! well: implement [`Link`] for it and hand it to [`Builder::bind_link`](crate::Builder::bind_link). The network in
//! [`memory`] is one, for tests; `examples/custom_link.rs` has another, of a few lines, and `examples/two_sockets.rs` one
//! that is two UDP sockets. With the feature `ethernet`, on Linux, raw Ethernet frames are a link too.
//!
//! Whoever has a loop that reads and writes packets on threads of its own puts a [`Bridge`] between it and an endpoint.
//!
//! Nothing secret depends on a link. One that loses, doubles, reorders, alters or invents datagrams is a bad road, and
//! that is all it is.

mod batch;
mod bridge;
#[cfg(all(feature = "ethernet", target_os = "linux"))]
mod ethernet;
pub mod memory;
mod receive;
mod udp;
mod wakers;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

pub(crate) use batch::SendBatch;
pub use bridge::{Bridge, Carrier, Closed, NotTaken, Outgoing};
#[cfg(all(feature = "ethernet", target_os = "linux"))]
pub use ethernet::Ethernet;
pub use receive::ReceiveBatch;
pub(crate) use udp::MAX_SEND;
pub use udp::Udp;
pub use wakers::Wakers;
pub use zssp_proto::Path;

/// What UDP carries over Ethernet and IPv4.
const ETHERNET_V4: usize = 1472;

/// What UDP carries over Ethernet and IPv6.
const ETHERNET_V6: usize = 1452;

/// What carries datagrams. One endpoint owns it, and all of its connections send over it at the same time.
///
/// Addresses are socket addresses. A link whose addresses are none maps them to some, as `Ethernet` does: a MAC address to
/// the IPv6 link-local address that is made from it.
///
/// # Waking
/// The two `poll_` methods are called by many tasks, each with a waker of its own. A task that was told
/// [`Poll::Pending`] must be woken when the answer may have become another one: not only the last that asked.
/// [`Wakers`] does that.
///
/// ```
/// use std::io;
/// use std::net::SocketAddr;
/// use std::task::{Context, Poll};
/// use zssp::link::{Link, Path, ReceiveBatch};
///
/// /// Takes everything and delivers nothing.
/// struct BlackHole;
///
/// impl Link for BlackHole {
///     fn local_addr(&self) -> SocketAddr {
///         SocketAddr::from(([0; 4], 0))
///     }
///     fn mtu(&self) -> usize {
///         1500
///     }
///     fn try_send(&self, _path: Path, run: &[u8], _segment: usize) -> io::Result<usize> {
///         Ok(run.len())
///     }
///     fn poll_writable(&self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
///         Poll::Ready(Ok(()))
///     }
///     fn poll_receive(&self, _cx: &mut Context<'_>, _batch: &mut ReceiveBatch) -> Poll<io::Result<()>> {
///         Poll::Pending
///     }
/// }
/// ```
pub trait Link: Send + Sync + 'static {
    /// This side's address, for [`Endpoint::local_addr`](crate::Endpoint::local_addr).
    fn local_addr(&self) -> SocketAddr;

    /// Bytes the largest datagram may have. The endpoint's own [`mtu`](crate::Builder::mtu) holds where it is less.
    fn mtu(&self) -> usize;

    /// Bytes of the largest datagram that is worth trying where it is not known what the road carries, if the application
    /// says nothing else with [`max_mtu`](crate::Builder::max_mtu). By default what UDP over Ethernet and IPv4 carries.
    fn max_datagram(&self) -> usize {
        self.mtu().min(ETHERNET_V4)
    }

    /// Whether `to` is an address of this link's kind.
    fn reaches(&self, _to: SocketAddr) -> bool {
        true
    }

    /// Sends the datagrams in `run`, `segment` bytes each, the last may be shorter; and says how many bytes of them went
    /// out: at least one datagram, and only whole ones. `run` is not empty, and `segment` neither zero nor more than
    /// [`mtu`](Self::mtu).
    ///
    /// They go to `path.remote`. If they answer what came here, `path` is as that was
    /// [pushed](ReceiveBatch::push), so that a link with several local addresses has them leave from the one that the peer
    /// knows; if this side speaks first, `path.local_ip` is `None`.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) while there is no room: the caller waits with
    /// [`poll_writable`](Self::poll_writable). After any other error the rest of the run is taken for lost.
    fn try_send(&self, path: Path, run: &[u8], segment: usize) -> io::Result<usize>;

    /// Waits until [`try_send`](Self::try_send) may succeed again. Meanwhile a connection whose peer is silent, too, or that is
    /// being closed, ends after twice [`give_up_after`](crate::Builder::give_up_after) at the latest.
    ///
    /// # Errors
    /// The caller takes what it wanted to send for lost.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Waits for datagrams and puts as many into `batch`, which is empty, as there are and find room.
    ///
    /// # Errors
    /// They are counted, and who asked asks again after a pause of 10 milliseconds: at once after
    /// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) and [`ConnectionReset`](io::ErrorKind::ConnectionReset), which
    /// say that a datagram found nobody.
    fn poll_receive(&self, cx: &mut Context<'_>, batch: &mut ReceiveBatch) -> Poll<io::Result<()>>;
}

impl dyn Link {
    /// Cancel safe.
    async fn writable(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_writable(cx)).await
    }

    /// Cancel safe: what was not returned stays in the link.
    pub(crate) async fn receive(&self, batch: &mut ReceiveBatch) -> io::Result<()> {
        batch.clear();
        poll_fn(|cx| self.poll_receive(cx, batch)).await
    }

    /// Sends what the link takes at once. Whatever it does not is lost, as the network may lose it, and `false` says so.
    pub(crate) fn send_or_lose(&self, path: Path, mut run: &[u8], segment: usize) -> bool {
        while !run.is_empty() {
            match self.try_send(path, run, segment) {
                Ok(sent @ 1..) => run = run.get(sent..).unwrap_or_default(),
                Ok(0) | Err(_) => return false,
            }
        }
        true
    }
}
