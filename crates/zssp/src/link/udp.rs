//! UDP with segmentation and coalescing offload.
//!
//! One system call sends a run of up to 64 equal datagrams (the last may be shorter) and one receives many
//! such runs. Where the system has no offload, the same calls go datagram by datagram.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// What one system call may send at most: the largest UDP datagram over IPv4.
pub(crate) const MAX_SEND: usize = 65_507;

/// What one receive buffer holds: a whole coalesced run.
const RECEIVE_LEN: usize = 65_536;

/// Runs taken from the socket in one call. More would only grow the memory a batch walks through: a run is
/// up to 64 KiB already.
const RECEIVE_RUNS: usize = if quinn_udp::BATCH_SIZE < 16 { quinn_udp::BATCH_SIZE } else { 16 };

/// A UDP socket on the runtime, shared by everyone who sends.
#[derive(Debug)]
pub(crate) struct Udp {
    io: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
}

/// Why a run did not go out.
#[derive(Debug)]
pub(crate) enum SendError {
    /// The socket's buffer is full: wait until it is writable.
    Busy,
    /// The system refused. The network may lose a datagram too, so nobody but a counter needs to know.
    Failed,
}

impl Udp {
    /// Binds to `address` with socket buffers of `buffer` bytes, or what the system grants of that.
    pub(crate) fn bind(address: SocketAddr, buffer: usize) -> io::Result<Self> {
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
        Ok(Self { io, state, local })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Whether `to` can be reached from this socket at all.
    pub(crate) fn reaches(&self, to: SocketAddr) -> bool {
        self.local.is_ipv6() || to.is_ipv4()
    }

    /// Sends from `run`, whose datagrams are `segment` bytes each (the last may be shorter), and takes off its
    /// front what went out.
    ///
    /// # Errors
    /// [`SendError::Busy`] leaves the rest in `run`. [`SendError::Failed`] has taken off what failed.
    pub(crate) fn try_send(&self, to: SocketAddr, run: &mut &[u8], segment: usize) -> Result<(), SendError> {
        let destination = self.on_wire(to);
        while !run.is_empty() {
            let segments = self.state.max_gso_segments().min(MAX_SEND / segment.max(1)).max(1);
            let (contents, rest) = run.split_at(run.len().min(segments * segment));
            let segment_size = (contents.len() > segment).then_some(segment);
            let transmit = Transmit { destination, ecn: None, contents, segment_size, src_ip: None };
            let sent = self
                .io
                .try_io(Interest::WRITABLE, || self.state.try_send(UdpSockRef::from(&self.io), &transmit));
            match sent {
                Ok(()) => *run = rest,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(SendError::Busy),
                // The system cannot segment after all, which the state has just learnt: once more without.
                Err(_) if segment_size.is_some() && self.state.max_gso_segments() == 1 => {}
                Err(_) => {
                    *run = rest;
                    return Err(SendError::Failed);
                }
            }
        }
        Ok(())
    }

    /// Waits until the socket's buffer has room again.
    ///
    /// Cancel safe.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.io.writable().await
    }

    /// Waits for datagrams and takes as many runs as there are, up to a batch.
    ///
    /// Cancel safe: what was not returned stays in the socket.
    pub(crate) async fn receive(&self, batch: &mut ReceiveBatch) -> io::Result<()> {
        batch.filled = 0;
        let ReceiveBatch { memory, metas, filled } = batch;
        *filled = self
            .io
            .async_io(Interest::READABLE, || {
                let mut buffers = memory.chunks_exact_mut(RECEIVE_LEN).map(IoSliceMut::new);
                // `memory` is RECEIVE_RUNS times RECEIVE_LEN bytes, so there is a chunk for each.
                let mut buffers: [IoSliceMut<'_>; RECEIVE_RUNS] =
                    std::array::from_fn(|_| buffers.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
                self.state.recv(UdpSockRef::from(&self.io), &mut buffers, metas)
            })
            .await?;
        Ok(())
    }

    /// An IPv4 address as this socket wants to hear it.
    fn on_wire(&self, to: SocketAddr) -> SocketAddr {
        match to.ip() {
            IpAddr::V4(v4) if self.local.is_ipv6() => SocketAddr::new(v4.to_ipv6_mapped().into(), to.port()),
            _ => to,
        }
    }
}

/// The memory one receive call fills.
pub(crate) struct ReceiveBatch {
    memory: Box<[u8]>,
    metas: [RecvMeta; RECEIVE_RUNS],
    filled: usize,
}

impl ReceiveBatch {
    pub(crate) fn new() -> Self {
        Self {
            memory: vec![0; RECEIVE_RUNS * RECEIVE_LEN].into_boxed_slice(),
            metas: [RecvMeta::default(); RECEIVE_RUNS],
            filled: 0,
        }
    }

    /// Each datagram received, in order, with its sender's address in its own family.
    pub(crate) fn datagrams(&mut self) -> impl Iterator<Item = (SocketAddr, &mut [u8])> {
        let metas = self.metas.iter().take(self.filled);
        self.memory.chunks_exact_mut(RECEIVE_LEN).zip(metas).flat_map(|(chunk, meta)| {
            let from = SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port());
            let run = &mut chunk[..meta.len.min(RECEIVE_LEN)];
            run.chunks_mut(meta.stride.max(1)).map(move |datagram| (from, datagram))
        })
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
        let mut run = &sent[..];
        while let Err(SendError::Busy) = sender.try_send(to, &mut run, 1000) {
            sender.writable().await.unwrap();
        }
        assert!(run.is_empty());
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
