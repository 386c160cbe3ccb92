//! UDP with segmentation and coalescing offload.
//!
//! One system call sends a run of up to 64 equal datagrams (the last may be shorter) and one receives many
//! such runs. Where the system has no offload, the same calls go datagram by datagram.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::{ETHERNET_V4, ETHERNET_V6, Link, Path, ReceiveBatch, Wakers};

/// What one system call may send at most: the largest UDP datagram over IPv4.
pub(crate) const MAX_SEND: usize = 65_507;

/// What one receive buffer holds: a whole coalesced run.
const RECEIVE_LEN: usize = 65_536;

/// Runs taken from the socket in one call. More would only grow the memory a batch walks through: a run is
/// up to 64 KiB already.
const RECEIVE_RUNS: usize = if quinn_udp::BATCH_SIZE < 16 { quinn_udp::BATCH_SIZE } else { 16 };

const _: () = assert!(RECEIVE_RUNS * RECEIVE_LEN <= ReceiveBatch::LEN);

/// Of the same number on every Unix.
const EIO: i32 = 5;

/// A UDP socket on the runtime.
///
/// [`Builder::bind`](crate::Builder::bind) makes one; links that put something around a socket make their own.
///
/// # Several addresses
/// A socket that is bound to all addresses of a host, `0.0.0.0` or `[::]`, answers from the one that a datagram was sent
/// to. If the host has lost that one, or never had it as with a broadcast, the system chooses, as it does for datagrams
/// that answer none.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use zssp::link::Udp;
/// use zssp::{Endpoint, SecretKey};
///
/// let socket = Udp::bind("127.0.0.1:0".parse()?, 4 << 20)?;
/// let endpoint = Endpoint::builder(SecretKey::generate()?).bind_link(socket)?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Udp {
    io: UdpSocket,
    state: UdpSocketState,
    /// How many datagrams the system takes as one run. Only ever becomes one, when it turns out that it takes none; whoever
    /// does not know that yet finds it out as well.
    segments: AtomicUsize,
    local: SocketAddr,
    families: Families,
    readers: Wakers,
    writers: Wakers,
}

impl Udp {
    /// Binds to `address` with socket buffers of `buffer` bytes, or what the system grants of that. `[::]` stands for
    /// IPv4 too, where the system can.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Panics
    /// Outside of a tokio runtime with its IO driver enabled.
    pub fn bind(address: SocketAddr, buffer: usize) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            // One socket for both families where the wildcard allows it; systems differ in their default.
            socket.set_only_v6(!address.ip().is_unspecified())?;
        }
        socket.bind(&address.into())?;
        Self::from_std(socket.into(), buffer)
    }

    /// A socket that is bound already: one that shares its port (`SO_REUSEPORT`), that keeps to an interface, or that the
    /// process was started with. Its buffers become `buffer` bytes, or what the system grants of that, and it does not block
    /// any more; fragmentation is forbidden, and runs of datagrams and their local addresses are asked for. Everything else
    /// stays as it is.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Panics
    /// Outside of a tokio runtime with its IO driver enabled.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use socket2::{Domain, Socket, Type};
    /// use std::net::SocketAddr;
    /// use zssp::link::Udp;
    /// use zssp::{Endpoint, SecretKey};
    ///
    /// let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    /// // What has to be set before it is bound.
    /// socket.set_reuse_address(true)?;
    /// socket.bind(&"127.0.0.1:0".parse::<SocketAddr>()?.into())?;
    /// let link = Udp::from_std(socket.into(), 4 << 20)?;
    /// let endpoint = Endpoint::builder(SecretKey::generate()?).bind_link(link)?;
    /// # Ok(()) }
    /// ```
    pub fn from_std(socket: std::net::UdpSocket, buffer: usize) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // Refusals are no failure: the system's own size works, only bursts suffer.
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), buffer);
        let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), buffer);
        let local = socket.local_addr()?;
        let families = Families::of(local, || SockRef::from(&socket).only_v6())?;
        Ok(Self {
            io: UdpSocket::from_std(socket)?,
            segments: AtomicUsize::new(state.max_gso_segments()),
            state,
            local,
            families,
            readers: Wakers::default(),
            writers: Wakers::default(),
        })
    }

    /// An address in the family of this socket.
    fn on_wire(&self, ip: IpAddr) -> IpAddr {
        match ip.to_canonical() {
            IpAddr::V4(v4) if self.local.is_ipv6() => v4.to_ipv6_mapped().into(),
            canonical => canonical,
        }
    }

    //= ZSSP-LIV-08  where there may be several, the one that was spoken to
    /// The address to send from.
    fn source(&self, local: Option<IpAddr>) -> Option<IpAddr> {
        local.filter(|_| self.local.ip().is_unspecified()).map(|ip| self.on_wire(ip))
    }

    /// Sends, from an address of the system's choice if that of `transmit` is none of this host.
    fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let send = |transmit: &Transmit<'_>| {
            let call = || self.state.try_send(UdpSockRef::from(&self.io), transmit);
            match self.io.try_io(Interest::WRITABLE, call) {
                // Of a new socket, tokio may not have heard yet that it takes anything: the first packet of a handshake would be
                // lost. Where it is full indeed, there is time for a second call.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => call(),
                sent => sent,
            }
        };
        match send(transmit) {
            Err(e) if transmit.src_ip.is_some() && is_foreign_source(&e) => {
                send(&Transmit { src_ip: None, ..transmit.clone() })
            }
            sent => sent,
        }
    }

    /// Takes as many runs as are there, up to a batch.
    fn try_receive(&self, batch: &mut ReceiveBatch) -> io::Result<()> {
        let mut metas = [RecvMeta::default(); RECEIVE_RUNS];
        let mut buffers = batch.memory.chunks_exact_mut(RECEIVE_LEN).map(IoSliceMut::new);
        // A batch has memory for them all.
        let mut buffers: [IoSliceMut<'_>; RECEIVE_RUNS] =
            std::array::from_fn(|_| buffers.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
        let received = self.io.try_io(Interest::READABLE, || {
            self.state.recv(UdpSockRef::from(&self.io), &mut buffers, &mut metas)
        })?;
        for (place, meta) in metas.iter().take(received).enumerate() {
            let path =
                Path { remote: canonical(meta.addr), local_ip: meta.dst_ip.map(|ip| ip.to_canonical()) };
            batch.push_at(place * RECEIVE_LEN, path, meta.len.min(RECEIVE_LEN), meta.stride);
        }
        Ok(())
    }
}

impl Link for Udp {
    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn mtu(&self) -> usize {
        MAX_SEND
    }

    fn max_datagram(&self) -> usize {
        if self.local.is_ipv6() { ETHERNET_V6 } else { ETHERNET_V4 }
    }

    fn reaches(&self, to: SocketAddr) -> bool {
        self.families.include(to.ip())
    }

    fn try_send(&self, path: Path, run: &[u8], segment: usize) -> io::Result<usize> {
        let mut destination = path.remote;
        destination.set_ip(self.on_wire(path.remote.ip()));
        let segments = self.segments.load(Ordering::Relaxed).min(MAX_SEND / segment.max(1)).max(1);
        let contents = &run[..run.len().min(segments * segment)];
        let segment_size = (contents.len() > segment).then_some(segment);
        let src_ip = self.source(path.local_ip);
        let whole = Transmit { destination, ecn: None, contents, segment_size, src_ip };
        match self.send(&whole) {
            Ok(()) => Ok(contents.len()),
            Err(e) if segment_size.is_some() && is_run_refused(&e) => {
                let first = Transmit { contents: &run[..segment], segment_size: None, ..whole };
                self.send(&first)?;
                // So it was the run that was refused, and not where it goes: a peer must not take this from the others.
                self.segments.store(1, Ordering::Relaxed);
                Ok(segment)
            }
            Err(e) => Err(e),
        }
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writers.poll(cx, |cx| self.io.poll_send_ready(cx))
    }

    fn poll_receive(&self, cx: &mut Context<'_>, batch: &mut ReceiveBatch) -> Poll<io::Result<()>> {
        loop {
            match self.try_receive(batch) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                received => return Poll::Ready(received),
            }
            ready!(self.readers.poll(cx, |cx| self.io.poll_recv_ready(cx)))?;
        }
    }
}

/// Which addresses a socket can send to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Families {
    Both,
    V4,
    V6,
}

impl Families {
    /// Those of a socket bound to `local`. One of IPv6 takes part in IPv4 as well if it is bound to no address in
    /// particular.
    fn of(local: SocketAddr, only_v6: impl FnOnce() -> io::Result<bool>) -> io::Result<Self> {
        Ok(match local.ip() {
            IpAddr::V6(ip) if ip.is_unspecified() && !only_v6()? => Self::Both,
            ip if ip.to_canonical().is_ipv4() => Self::V4,
            _ => Self::V6,
        })
    }

    fn include(self, ip: IpAddr) -> bool {
        match self {
            Self::Both => true,
            Self::V4 => ip.to_canonical().is_ipv4(),
            Self::V6 => ip.to_canonical().is_ipv6(),
        }
    }
}

/// A sender's address in its own family, whatever the socket's. That of a neighbour keeps its interface, without which
/// nothing can be sent there.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        IpAddr::V6(_) => address,
    }
}

/// Whether this is how systems say that a datagram's source is no address of the host; it may mean other things as well.
fn is_foreign_source(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, HostUnreachable, InvalidInput, NetworkUnreachable};
    matches!(error.kind(), AddrNotAvailable | HostUnreachable | InvalidInput | NetworkUnreachable)
}

/// Whether this is how systems say that they take no runs, or what a driver without checksums says; the same holds.
fn is_run_refused(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput || error.raw_os_error() == Some(EIO)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn transfer(bind: &str, to: impl Fn(SocketAddr) -> SocketAddr) {
        let receiver = Udp::bind(bind.parse().unwrap(), 1 << 20).unwrap();
        let sender = Udp::bind(bind.parse().unwrap(), 1 << 20).unwrap();
        let to = to(receiver.local_addr());
        let sent: Vec<u8> = (0..5 * 1000 + 300).map(|i| (i / 7) as u8).collect();
        let (receiver, sender): (&dyn Link, &dyn Link) = (&receiver, &sender);
        let mut run = &sent[..];
        while !run.is_empty() {
            match sender.try_send(to.into(), run, 1000) {
                Ok(sent) => run = &run[sent..],
                Err(_) => sender.writable().await.unwrap(),
            }
        }
        let mut batch = ReceiveBatch::new();
        let (mut received, mut lengths) = (Vec::new(), Vec::new());
        while received.len() < sent.len() {
            receiver.receive(&mut batch).await.unwrap();
            for (path, datagram) in batch.datagrams() {
                assert_eq!(path.remote.port(), sender.local_addr().port());
                assert_eq!(path.remote.is_ipv4(), to.is_ipv4(), "addresses come in their own family");
                if cfg!(target_os = "linux") {
                    assert_eq!(path.local_ip, Some(to.ip()));
                }
                lengths.push(datagram.len());
                received.extend_from_slice(datagram);
            }
        }
        assert_eq!(received, sent);
        assert_eq!(lengths, [1000, 1000, 1000, 1000, 1000, 300]);
    }

    #[tokio::test]
    async fn a_run_arrives_as_its_datagrams() {
        transfer("127.0.0.1:0", |address| address).await;
    }

    #[tokio::test]
    async fn a_new_socket_sends_at_once() {
        let [sender, receiver] =
            ["127.0.0.1:0"; 2].map(|bind| Udp::bind(bind.parse().unwrap(), 1 << 20).unwrap());
        // The runtime has had no time to ask the system about them.
        assert_eq!(sender.try_send(receiver.local_addr().into(), b"hello", 5).unwrap(), 5);
    }

    /// On loopback a run comes as it was sent, to a socket that asked for runs.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_run_is_sent_by_one_call_and_received_as_one() {
        let [sender, receiver] =
            ["127.0.0.1:0"; 2].map(|bind| Udp::bind(bind.parse().unwrap(), 1 << 20).unwrap());
        if sender.state.max_gso_segments() == 1 || receiver.state.gro_segments() == 1 {
            assert!(std::env::var_os("CI").is_none(), "this system has no offload");
            eprintln!("SKIPPED: this system has no offload");
            return;
        }
        let run: Vec<u8> = (0..39 * 1000 + 300).map(|i| (i / 7) as u8).collect();
        assert_eq!(sender.try_send(receiver.local_addr().into(), &run, 1000).unwrap(), run.len());
        let mut batch = ReceiveBatch::new();
        (&receiver as &dyn Link).receive(&mut batch).await.unwrap();
        let runs: Vec<Vec<&[u8]>> = batch.runs().map(|(_, datagrams)| datagrams.collect()).collect();
        assert_eq!(runs.iter().map(Vec::len).collect::<Vec<_>>(), [40]);
        assert!(runs[0] == run.chunks(1000).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn one_socket_speaks_both_families() {
        transfer("[::]:0", |address| SocketAddr::new(IpAddr::from([127, 0, 0, 1]), address.port())).await;
    }

    /// What a socket says that it reaches, of IPv4 and IPv6, and whether it does.
    #[tokio::test]
    async fn an_address_of_the_other_family_is_out_of_reach() {
        let cases = [
            ("127.0.0.1:0", [true, false]),
            ("0.0.0.0:0", [true, false]),
            ("[::1]:0", [false, true]),
            ("[::]:0", [true, true]),
        ];
        for (bind, reached) in cases {
            let socket = Udp::bind(bind.parse().unwrap(), 1 << 16).unwrap();
            let to: [SocketAddr; 2] = ["127.0.0.1:9".parse().unwrap(), "[::1]:9".parse().unwrap()];
            assert_eq!(to.map(|to| socket.reaches(to)), reached, "{bind}");
            let sent = to.map(|to| socket.try_send(to.into(), b"1", 1).is_ok());
            assert_eq!(sent, reached, "{bind}");
        }
        let mapped = "[::ffff:127.0.0.1]:9".parse().unwrap();
        let reached = ["127.0.0.1:0", "[::1]:0"]
            .map(|bind| Udp::bind(bind.parse().unwrap(), 1 << 16).unwrap().reaches(mapped));
        assert_eq!(reached, [true, false]);
    }

    #[test]
    fn a_neighbour_keeps_its_interface() {
        let neighbour = "[fe80::1%7]:1".parse().unwrap();
        assert_eq!(canonical(neighbour), neighbour);
        let mapped = "[::ffff:192.0.2.1]:1".parse().unwrap();
        assert_eq!(canonical(mapped), "192.0.2.1:1".parse().unwrap());
    }

    /// A port of zero and a source that is none are what strangers can bring about.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_cannot_be_sent_to_one_peer_leaves_the_others_their_runs() {
        let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        for bind in ["0.0.0.0:0", "[::]:0"] {
            let socket = Udp::bind(bind.parse().unwrap(), 1 << 20).unwrap();
            let segments = socket.segments.load(Ordering::Relaxed);
            assert!(segments > 1, "this system has no offload");
            let nobody = SocketAddr::from(([127, 0, 0, 1], 0));
            assert!(socket.try_send(nobody.into(), &[1; 30], 10).is_err());
            for last in [1, 255] {
                let local_ip = Some(IpAddr::from([203, 0, 113, last]));
                let path = Path { remote: receiver.local_addr().unwrap(), local_ip };
                assert_eq!(socket.try_send(path, &[last; 30], 10).unwrap(), 30);
                let mut buffer = [0; 100];
                for _ in 0..3 {
                    let (len, from) = receiver.recv_from(&mut buffer).unwrap();
                    assert_eq!((len, buffer[0], from.port()), (10, last, socket.local.port()));
                }
            }
            assert_eq!(socket.segments.load(Ordering::Relaxed), segments);
        }
    }

    #[tokio::test]
    async fn a_socket_that_is_there_already_is_taken_as_it_is() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let (address, peer) =
            (socket.local_addr().unwrap(), std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
        socket.connect(peer.local_addr().unwrap()).unwrap();
        let before = SockRef::from(&socket).recv_buffer_size().unwrap();
        let link = Udp::from_std(socket, 1 << 16).unwrap();
        assert_eq!((link.local_addr(), link.families), (address, Families::V4));
        peer.send_to(b"hello", address).unwrap();
        let mut batch = ReceiveBatch::new();
        (&link as &dyn Link).receive(&mut batch).await.unwrap();
        let from = peer.local_addr().unwrap();
        assert!(batch.datagrams().all(|(path, datagram)| path.remote == from && datagram == b"hello"));
        assert_eq!(batch.datagrams().count(), 1);
        let bound = Udp::bind("127.0.0.1:0".parse().unwrap(), 1 << 16).unwrap();
        let [after, of_bound] =
            [&link, &bound].map(|link| SockRef::from(&link.io).recv_buffer_size().unwrap());
        assert!(after == of_bound && after < before, "{before}, then {after}, but {of_bound}");
    }
}
