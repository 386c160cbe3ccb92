//! What carries datagrams: frames, many with one call to the system; or, to compare with, UDP with a call for each.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::num::NonZeroU16;
use std::time::Duration;

use rustix::net::sockopt::{set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force};
use zssp_ethernet::{
    EthernetAddress, InterfaceName, Link, MacAddress, Receiver, SendBatch, Sender, Settings,
};
use zssp_proto::Address;

use crate::node::Error;

/// Bytes that may wait to be read: of each ring, and of the socket.
const ROOM: u32 = 16 << 20;

/// A way out, and a way in for each ingress thread.
pub(crate) struct Road {
    pub(crate) way_out: WayOut,
    pub(crate) ways_in: Vec<WayIn>,
}

pub(crate) enum WayOut {
    Ethernet(Sender),
    Udp { socket: UdpSocket, mtu: usize },
}

pub(crate) enum WayIn {
    Ethernet(Receiver),
    Udp(UdpSocket),
}

/// Where a session's packets go.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Peer {
    Card(MacAddress),
    Socket(SocketAddr),
}

impl TryFrom<Address> for Peer {
    type Error = zssp_ethernet::AddressError;

    fn try_from(address: Address) -> Result<Self, Self::Error> {
        match address {
            Address::Link(_) => Ok(Self::Card(EthernetAddress::try_from(address)?.mac)),
            Address::Socket(path) => Ok(Self::Socket(path.remote)),
        }
    }
}

impl Road {
    pub(crate) fn ethernet(interface: InterfaceName, threads: u16) -> Result<Self, Error> {
        let receivers = NonZeroU16::new(threads).ok_or("at least one thread")?;
        let settings = Settings { receivers, ring_len: ROOM, ..Settings::default() };
        let Link { receivers, sender } = Link::open(interface, &settings)?;
        let ways_in = receivers.into_iter().map(WayIn::Ethernet).collect();
        Ok(Self { way_out: WayOut::Ethernet(sender), ways_in })
    }

    /// All threads read the same socket. `mtu` is that of the interface.
    pub(crate) fn udp(address: SocketAddr, mtu: usize, threads: u16) -> Result<Self, Error> {
        const HEADERS: usize = 28;
        let socket = UdpSocket::bind(address)?;
        set_socket_recv_buffer_size_force(&socket, ROOM as usize)?;
        set_socket_send_buffer_size_force(&socket, ROOM as usize)?;
        // So that who reads sees that the program is to stop.
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let ways_in = (0..threads).map(|_| socket.try_clone().map(WayIn::Udp)).collect::<io::Result<_>>()?;
        Ok(Self { way_out: WayOut::Udp { socket, mtu: mtu.saturating_sub(HEADERS) }, ways_in })
    }
}

impl WayOut {
    /// The largest datagram.
    pub(crate) fn mtu(&self) -> io::Result<usize> {
        match self {
            Self::Ethernet(sender) => sender.max_datagram_len(),
            Self::Udp { mtu, .. } => Ok(*mtu),
        }
    }

    /// Sends the datagrams of one packet.
    pub(crate) fn send<'a>(
        &self,
        to: Peer,
        datagrams: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), Error> {
        let mut batch = self.batch();
        batch.packet(to, datagrams)?;
        batch.flush()
    }

    pub(crate) fn batch<'data>(&self) -> Batch<'_, 'data> {
        match self {
            Self::Ethernet(sender) => Batch::Ethernet(sender.batch()),
            Self::Udp { socket, .. } => Batch::Udp(socket),
        }
    }
}

/// Datagrams on their way out.
#[expect(clippy::large_enum_variant, reason = "one for each round of an egress thread, on its stack")]
pub(crate) enum Batch<'road, 'data> {
    Ethernet(SendBatch<'road, 'data>),
    /// They are gone at once.
    Udp(&'road UdpSocket),
}

impl<'data> Batch<'_, 'data> {
    pub(crate) fn packet(
        &mut self,
        to: Peer,
        datagrams: impl IntoIterator<Item = &'data [u8]>,
    ) -> Result<(), Error> {
        match (self, to) {
            (Self::Ethernet(batch), Peer::Card(mac)) => Ok(batch.packet(mac, datagrams)?),
            (Self::Udp(socket), Peer::Socket(to)) => {
                for datagram in datagrams {
                    socket.send_to(datagram, to)?;
                }
                Ok(())
            }
            _ => Err("an address of the other road".into()),
        }
    }

    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        match self {
            Self::Ethernet(batch) => Ok(batch.flush()?),
            Self::Udp(_) => Ok(()),
        }
    }
}
