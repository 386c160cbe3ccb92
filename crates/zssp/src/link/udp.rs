//! UDP with segmentation and coalescing offload.
//!
//! One system call sends a run of up to 64 equal datagrams (the last may be shorter) and one receives many
//! such runs. Where the system has no offload, the same calls go datagram by datagram.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll, ready};

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::{ETHERNET_V4, ETHERNET_V6, Link, ReceiveBatch, Wakers};

/// What one system call may send at most: the largest UDP datagram over IPv4.
pub(crate) const MAX_SEND: usize = 65_507;

/// What one receive buffer holds: a whole coalesced run.
const RECEIVE_LEN: usize = 65_536;

/// Runs taken from the socket in one call. More would only grow the memory a batch walks through: a run is
/// up to 64 KiB already.
const RECEIVE_RUNS: usize = if quinn_udp::BATCH_SIZE < 16 { quinn_udp::BATCH_SIZE } else { 16 };

const _: () = assert!(RECEIVE_RUNS * RECEIVE_LEN <= ReceiveBatch::LEN);

/// A UDP socket on the runtime.
///
/// [`Builder::bind`](crate::Builder::bind) makes one; links that put something around a socket make their own.
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
    local: SocketAddr,
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
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // Refusals are no failure: the system's own size works, only bursts suffer.
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), buffer);
        let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), buffer);
        let io = UdpSocket::from_std(socket.into())?;
        let local = io.local_addr()?;
        Ok(Self { io, state, local, readers: Wakers::default(), writers: Wakers::default() })
    }

    /// An IPv4 address as this socket wants to hear it.
    fn on_wire(&self, to: SocketAddr) -> SocketAddr {
        match to.ip() {
            IpAddr::V4(v4) if self.local.is_ipv6() => SocketAddr::new(v4.to_ipv6_mapped().into(), to.port()),
            _ => to,
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
            // In its own family, whatever the socket's.
            let from = SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port());
            batch.push_at(place * RECEIVE_LEN, from, meta.len.min(RECEIVE_LEN), meta.stride);
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
        self.local.is_ipv6() || to.is_ipv4()
    }

    fn try_send(&self, to: SocketAddr, run: &[u8], segment: usize) -> io::Result<usize> {
        let destination = self.on_wire(to);
        loop {
            let segments = self.state.max_gso_segments().min(MAX_SEND / segment.max(1)).max(1);
            let contents = &run[..run.len().min(segments * segment)];
            let segment_size = (contents.len() > segment).then_some(segment);
            let transmit = Transmit { destination, ecn: None, contents, segment_size, src_ip: None };
            let sent = self
                .io
                .try_io(Interest::WRITABLE, || self.state.try_send(UdpSockRef::from(&self.io), &transmit));
            match sent {
                Ok(()) => return Ok(contents.len()),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(e),
                // The system cannot segment after all, which the state has just learnt: once more without.
                Err(_) if segment_size.is_some() && self.state.max_gso_segments() == 1 => {}
                Err(e) => return Err(e),
            }
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
            match sender.try_send(to, run, 1000) {
                Ok(sent) => run = &run[sent..],
                Err(_) => sender.writable().await.unwrap(),
            }
        }
        let mut batch = ReceiveBatch::new();
        let (mut received, mut lengths) = (Vec::new(), Vec::new());
        while received.len() < sent.len() {
            receiver.receive(&mut batch).await.unwrap();
            for (from, datagram) in batch.datagrams() {
                assert_eq!(from.port(), sender.local_addr().port());
                assert_eq!(from.is_ipv4(), to.is_ipv4(), "addresses come in their own family");
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
    async fn one_socket_speaks_both_families() {
        transfer("[::]:0", |address| SocketAddr::new(IpAddr::from([127, 0, 0, 1]), address.port())).await;
    }

    #[tokio::test]
    async fn an_address_of_the_other_family_is_out_of_reach() {
        let v4 = Udp::bind("127.0.0.1:0".parse().unwrap(), 1 << 16).unwrap();
        assert!(!v4.reaches("[::1]:1".parse().unwrap()));
        assert!(v4.reaches("127.0.0.1:1".parse().unwrap()));
    }
}
