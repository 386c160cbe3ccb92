//! Where datagrams come from and go to.

use core::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::path::Path;

/// The address of a datagram link. The protocol hashes it, and hands it back.
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
    /// IP address and port, and this side's address where that is known.
    Socket(Path),
}

impl Address {
    /// The peer's socket address; `None` for other kinds of link.
    pub const fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Link(_) => None,
            Self::Socket(path) => Some(path.remote),
        }
    }

    /// The path that a socket's datagrams take; `None` for other kinds of link.
    pub const fn path(&self) -> Option<Path> {
        match self {
            Self::Link(_) => None,
            Self::Socket(path) => Some(*path),
        }
    }

    /// Follows a peer whose packet has come from `from`. While it is where it was, a choice of the local address that was
    /// left to the system stays with the system.
    pub(crate) fn follow(self, from: Self) -> Self {
        match (self, from) {
            (Self::Socket(before), Self::Socket(path)) if before.matches(path) => self,
            _ => from,
        }
    }

    /// Distinct bytes for places of the peer that are distinct, to be hashed with a salt. An IPv4 address is the same
    /// whichever kind of socket its datagram came to.
    pub(crate) fn to_hash_input(self) -> [u8; 32] {
        match self {
            Self::Link(link) => {
                let mut bytes = [0; 32];
                bytes[0] = link.len;
                bytes[1..].copy_from_slice(&link.bytes);
                bytes
            }
            Self::Socket(Path { remote, .. }) => {
                let ip = remote.ip().to_canonical();
                hash_input((ip, ip_bytes(ip)), remote.port(), scope(remote))
            }
        }
    }

    /// What one sender cannot have without end: the IP address, of IPv6 the half that names a subnet, on one link. Most
    /// hosts have one such half; a site has 256 (of a /56) to 65536 (of a /48) and is as many sources if it likes, as is
    /// whoever has many IPv4 addresses. A shorter part would put strangers together whose providers give a /64 to each.
    /// Of other links it is the whole address, as nobody but the link knows better: who can invent addresses there is as
    /// many senders.
    ///
    /// The bytes are the same for all addresses of one source: for whoever bounds what one source may take.
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use zssp_proto::Address;
    ///
    /// let source = |text: &str| text.parse::<SocketAddr>().map(|socket| Address::from(socket).source());
    /// assert_eq!(source("192.0.2.1:1")?, source("192.0.2.1:2")?);
    /// assert_ne!(source("192.0.2.1:1")?, source("192.0.2.2:1")?);
    /// assert_eq!(source("[2001:db8::1]:1")?, source("[2001:db8::2]:1")?);
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    pub fn source(self) -> [u8; 32] {
        match self {
            Self::Link(_) => self.to_hash_input(),
            Self::Socket(Path { remote, .. }) => {
                let ip = remote.ip().to_canonical();
                let mut bytes = ip_bytes(ip);
                if ip.is_ipv6() {
                    bytes[8..].fill(0);
                }
                hash_input((ip, bytes), 0, scope(remote))
            }
        }
    }
}

/// The bytes for an IP address of which `bytes` count.
fn hash_input((ip, bytes): (IpAddr, [u8; 16]), port: u16, scope: u32) -> [u8; 32] {
    let mut input = [0; 32];
    // No link address is as long as that.
    input[0] = if ip.is_ipv4() { 0xf4 } else { 0xf6 };
    input[1..17].copy_from_slice(&bytes);
    input[17..19].copy_from_slice(&port.to_be_bytes());
    input[19..23].copy_from_slice(&scope.to_be_bytes());
    input
}

fn ip_bytes(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// The interface that a link-local address is behind: each has neighbours of its own.
fn scope(socket: SocketAddr) -> u32 {
    match socket {
        SocketAddr::V6(socket) => socket.scope_id(),
        SocketAddr::V4(_) => 0,
    }
}

impl From<Path> for Address {
    fn from(path: Path) -> Self {
        Self::Socket(path)
    }
}

impl From<SocketAddr> for Address {
    fn from(remote: SocketAddr) -> Self {
        Self::Socket(remote.into())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(link) => fmt::Debug::fmt(link, f),
            Self::Socket(path) => fmt::Debug::fmt(path, f),
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, SocketAddrV6};

    use super::*;

    fn socket(text: &str) -> Address {
        text.parse::<SocketAddr>().expect("a socket address").into()
    }

    fn link(bytes: &[u8]) -> Address {
        Address::Link(LinkAddress::new(bytes).expect("short"))
    }

    fn neighbour(scope: u32) -> Address {
        let ip: Ipv6Addr = "fe80::1".parse().expect("an address");
        SocketAddr::from(SocketAddrV6::new(ip, 1, 0, scope)).into()
    }

    //= ZSSP-ZCP-06  an answer from elsewhere does not pass
    #[test]
    fn different_places_are_different_to_the_hash() {
        let places = [
            socket("192.0.2.1:1"),
            socket("192.0.2.1:2"),
            socket("192.0.2.2:1"),
            socket("[2001:db8::1]:1"),
            socket("[2001:db8::1]:2"),
            socket("[2001:db8::2]:1"),
            neighbour(1),
            neighbour(2),
            link(b""),
            link(b"a"),
            link(b"a\0"),
            link(&[0xf4; LinkAddress::MAX_LEN]),
        ];
        for (place, address) in places.iter().enumerate() {
            for other in &places[place + 1..] {
                assert_ne!(address.to_hash_input(), other.to_hash_input(), "{address:?} {other:?}");
            }
        }
    }

    /// A socket of both kinds shows IPv4 senders as IPv6 addresses, which all begin with the same half.
    //= ZSSP-DEF-13  one source does not take the places of others
    #[test]
    fn a_source_is_an_ipv4_address_or_half_an_ipv6_address_or_a_link_address() {
        let same = |a: Address, b: Address| a.source() == b.source();
        assert!(same(socket("192.0.2.1:1"), socket("192.0.2.1:2")));
        assert!(same(socket("192.0.2.1:1"), socket("[::ffff:192.0.2.1]:2")));
        assert!(!same(socket("192.0.2.1:1"), socket("192.0.2.2:1")));
        assert!(!same(socket("[::ffff:192.0.2.1]:1"), socket("[::ffff:192.0.2.2]:1")));
        assert!(same(socket("[2001:db8:0:1::1]:1"), socket("[2001:db8:0:1:ffff::2]:2")));
        assert!(!same(socket("[2001:db8:0:1::1]:1"), socket("[2001:db8:0:2::1]:1")));
        assert!(same(neighbour(1), neighbour(1)) && !same(neighbour(1), neighbour(2)));
        assert!(same(link(b"a"), link(b"a")) && !same(link(b"a"), link(b"b")));
        let both = ["192.0.2.1:1", "[::ffff:192.0.2.1]:1"].map(|text| socket(text).to_hash_input());
        assert_eq!(both[0], both[1]);
    }

    fn at(address: Address, last: u8) -> Address {
        let local_ip = Some(IpAddr::from([198, 51, 100, last]));
        Path { local_ip, ..address.path().expect("of a socket") }.into()
    }

    #[test]
    fn a_place_is_the_same_whichever_address_it_sends_to() {
        let peer = socket("192.0.2.1:1");
        for other in [at(peer, 1), at(peer, 2)] {
            assert_ne!(peer, other);
            assert_eq!((peer.to_hash_input(), peer.source()), (other.to_hash_input(), other.source()));
        }
    }

    #[test]
    fn a_peer_is_followed_and_the_local_address_left_open_where_it_was() {
        let (peer, moved) = (socket("192.0.2.1:1"), socket("192.0.2.1:2"));
        assert_eq!(peer.follow(at(peer, 1)), peer);
        assert_eq!(at(peer, 1).follow(peer), at(peer, 1));
        assert_eq!(at(peer, 1).follow(at(peer, 2)), at(peer, 2));
        assert_eq!(peer.follow(at(moved, 1)), at(moved, 1));
        assert_eq!(at(peer, 1).follow(moved), moved);
        assert_eq!(peer.follow(link(b"a")), link(b"a"));
        assert_eq!(link(b"a").follow(link(b"b")), link(b"b"));
    }
}
