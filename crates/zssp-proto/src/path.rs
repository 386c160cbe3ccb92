//! Two ends that datagrams go between.

use core::fmt;
use std::net::{IpAddr, SocketAddr};

/// A path: where the peer is, and which address of this host its datagrams come to and ours leave from.
///
/// A host may have several addresses. Whoever sent to one of them waits for an answer from that one: a router or a
/// firewall on the way lets no other through. So what came on a path is answered on the same. Where this side speaks
/// first, it leaves the choice to the system, which makes it again for each datagram, as routes change.
///
/// The local address tells nothing of the peer: nothing that is proven or limited depends on it.
///
/// ```
/// use std::net::{IpAddr, SocketAddr};
/// use zssp_proto::Path;
///
/// let remote: SocketAddr = "192.0.2.1:9993".parse()?;
/// let local: IpAddr = "198.51.100.7".parse()?;
/// let (any, one) = (Path::from(remote), Path { remote, local_ip: Some(local) });
/// assert!(any != one && any.matches(one));
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Path {
    /// The peer's address.
    pub remote: SocketAddr,
    /// This side's IP address. Of what came, `None` where the link does not know it, or has but one; of what is to go,
    /// `None` leaves the choice to the link.
    pub local_ip: Option<IpAddr>,
}

impl Path {
    /// Whether the two may be the same path: the same peer's address, and the same local one unless that is open in one of
    /// them.
    pub fn matches(self, other: Self) -> bool {
        let local = self.local_ip.zip(other.local_ip).is_none_or(|(one, another)| one == another);
        self.remote == other.remote && local
    }
}

/// The local address is left to the link.
impl From<SocketAddr> for Path {
    fn from(remote: SocketAddr) -> Self {
        Self { remote, local_ip: None }
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.local_ip {
            Some(local) => write!(f, "{} at {local}", self.remote),
            None => fmt::Debug::fmt(&self.remote, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_local_address_matches_any() {
        let path = |port, local: Option<u8>| Path {
            remote: SocketAddr::from(([192, 0, 2, 1], port)),
            local_ip: local.map(|last| IpAddr::from([10, 0, 0, last])),
        };
        let places = [path(1, None), path(1, Some(1)), path(1, Some(2)), path(2, None), path(2, Some(1))];
        let matching = places.map(|one| places.map(|other| one.matches(other)));
        assert_eq!(
            matching,
            [
                [true, true, true, false, false],
                [true, true, false, false, false],
                [true, false, true, false, false],
                [false, false, false, true, true],
                [false, false, false, true, true],
            ]
        );
    }
}
