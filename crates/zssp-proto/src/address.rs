//! Where datagrams come from and go to.

use core::fmt;
use std::net::{IpAddr, SocketAddr};

/// The address of a datagram link. The protocol compares and hashes it, and hands it back.
///
/// ```
/// use zssp_proto::{Address, LinkAddress};
/// let udp = Address::from("192.0.2.1:9993".parse::<std::net::SocketAddr>()?);
/// let ethernet = Address::Link(LinkAddress::new(&[0x02, 0, 0, 0, 0, 1]).ok_or("too long")?);
/// assert_ne!(udp, ethernet);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Address {
    /// An address of another kind of link.
    Link(LinkAddress),
    /// IP address and port.
    Socket(SocketAddr),
}

impl Address {
    /// The socket address; `None` for other kinds of link.
    pub const fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Link(_) => None,
            Self::Socket(socket) => Some(*socket),
        }
    }

    /// Distinct bytes for distinct addresses, to be hashed with a salt.
    pub(crate) fn to_hash_input(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let (tag, rest) = (0, 1);
        match self {
            Self::Link(link) => {
                bytes[tag] = link.len;
                bytes[rest..].copy_from_slice(&link.bytes);
            }
            Self::Socket(socket) => {
                let (kind, ip) = match socket.ip() {
                    IpAddr::V4(ip) => (0xf4, ip.to_ipv6_mapped()),
                    IpAddr::V6(ip) => (0xf6, ip),
                };
                bytes[tag] = kind;
                bytes[rest..17].copy_from_slice(&ip.octets());
                bytes[17..19].copy_from_slice(&socket.port().to_be_bytes());
            }
        }
        bytes
    }

    /// What one sender cannot easily have many of: the IP address, of IPv6 the half that is routed to a site.
    pub(crate) fn source(self) -> [u8; 32] {
        let mut bytes = self.to_hash_input();
        match self {
            Self::Link(_) => {}
            Self::Socket(SocketAddr::V4(_)) => bytes[17..19].fill(0),
            Self::Socket(SocketAddr::V6(_)) => bytes[9..19].fill(0),
        }
        bytes
    }
}

impl From<SocketAddr> for Address {
    fn from(socket: SocketAddr) -> Self {
        Self::Socket(socket)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(link) => fmt::Debug::fmt(link, f),
            Self::Socket(socket) => fmt::Debug::fmt(socket, f),
        }
    }
}

/// Up to [`LinkAddress::MAX_LEN`] bytes that a link of the user's own understands: a MAC and an interface, a node number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkAddress {
    len: u8,
    bytes: [u8; Self::MAX_LEN],
}

impl LinkAddress {
    /// Bytes an address may have.
    pub const MAX_LEN: usize = 31;

    /// `None` when `bytes` are more than [`LinkAddress::MAX_LEN`].
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut address = Self { len: u8::try_from(bytes.len()).ok()?, bytes: [0; Self::MAX_LEN] };
        address.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(address)
    }

    /// The bytes given to [`LinkAddress::new`].
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for LinkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkAddress({:02x?})", self.as_bytes())
    }
}
