//! Where peers are, and where to listen.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use thiserror::Error;
use zssp::{Builder, Endpoint};

use crate::{
    ethernet,
    exit::{Exit, Failure},
};

/// The UDP port where none is given.
pub(crate) const DEFAULT_PORT: u16 = 9993;

/// Where a peer listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Ethernet(ethernet::Card),
    Udp { host: String, port: u16 },
}

/// Why a text names no place.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum BadPlace {
    #[error("write an IPv6 address in brackets: PUBKEY@[{0}]:PORT")]
    Brackets(String),
    #[error("{0}")]
    Ethernet(String),
    #[error("write the peer as PUBKEY@HOST or PUBKEY@HOST:PORT")]
    Form,
    #[error("`{0}` is not a port (1 to 65535)")]
    Port(String),
}

impl std::str::FromStr for Place {
    type Err = BadPlace;

    fn from_str(address: &str) -> Result<Self, BadPlace> {
        if let Some(card) = address.strip_prefix(ethernet::PREFIX) {
            return ethernet::card(card).map(Self::Ethernet).map_err(BadPlace::Ethernet);
        }
        let (host, port) = match address.strip_prefix('[') {
            Some(bracketed) => {
                let (host, rest) = bracketed.split_once(']').ok_or(BadPlace::Form)?;
                match rest.strip_prefix(':') {
                    Some(port) => (host, Some(port)),
                    None if rest.is_empty() => (host, None),
                    None => return Err(BadPlace::Form),
                }
            }
            None => match address.split_once(':') {
                Some((_, rest)) if rest.contains(':') => return Err(BadPlace::Brackets(address.into())),
                Some((host, port)) => (host, Some(port)),
                None => (address, None),
            },
        };
        if host.is_empty() {
            return Err(BadPlace::Form);
        }
        let port = match port {
            None => DEFAULT_PORT,
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(BadPlace::Port(port.into()))?,
        };
        Ok(Self::Udp { host: host.into(), port })
    }
}

/// As it is parsed.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ethernet(card) => write!(f, "{}{card}", ethernet::PREFIX),
            Self::Udp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Udp { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// Where to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    Ethernet(ethernet::Interface),
    Udp(SocketAddr),
}

impl std::str::FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(interface) = text.strip_prefix(ethernet::PREFIX) {
            return ethernet::interface(interface).map(Self::Ethernet);
        }
        let with_port = |ip: std::net::IpAddr| SocketAddr::new(ip, DEFAULT_PORT);
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        text.parse().or_else(|_| bare.parse().map(with_port)).map(Self::Udp).map_err(|_| {
            "write an IP address of this machine and a port, such as 0.0.0.0:9993, [::]:9993 or 127.0.0.1:0; \
             or an interface, as ethernet:eth0"
                .into()
        })
    }
}

/// An endpoint that listens.
pub(crate) struct Listening {
    pub(crate) endpoint: Endpoint,
    /// Where it listens.
    pub(crate) at: String,
    /// How others write that; they know better than we under which address they see this machine.
    pub(crate) for_others: String,
}

impl Listening {
    /// Listens where the user said, or on UDP everywhere, with IPv6 if this machine has it.
    pub(crate) async fn start(builder: Builder, asked_for: Option<Listen>) -> Result<Self, Failure> {
        let failure = |error: String| Failure::new(Exit::Local, error);
        let addresses = match asked_for {
            Some(Listen::Ethernet(interface)) => {
                let endpoint = ethernet::listen(builder, interface).map_err(failure)?;
                let card = Seen(endpoint.local_addr()).to_string();
                let [at, for_others] = [interface.to_string().as_str(), "INTERFACE"]
                    .map(|interface| format!("{}{interface}/{card}", ethernet::PREFIX));
                return Ok(Self { endpoint, at, for_others });
            }
            Some(Listen::Udp(address)) => vec![address],
            None => {
                vec![
                    (Ipv6Addr::UNSPECIFIED, DEFAULT_PORT).into(),
                    (Ipv4Addr::UNSPECIFIED, DEFAULT_PORT).into(),
                ]
            }
        };
        let endpoint =
            builder.bind(addresses.as_slice()).await.map_err(|error| failure(error.to_string()))?;
        let address = endpoint.local_addr();
        let for_others = if address.ip().is_unspecified() {
            format!("THIS-MACHINE:{}", address.port())
        } else {
            address.to_string()
        };
        Ok(Self { endpoint, at: address.to_string(), for_others })
    }
}

/// The address that a peer is seen at.
pub(crate) struct Seen(pub(crate) SocketAddr);

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ethernet::shown(self.0) {
            Some(card) => card.fmt(f),
            None => self.0.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_place_is_a_host_and_a_port() {
        let udp = |host: &str, port| Ok(Place::Udp { host: host.into(), port });
        assert_eq!("192.0.2.7:4000".parse(), udp("192.0.2.7", 4000));
        assert_eq!("example.org".parse(), udp("example.org", DEFAULT_PORT));
        assert_eq!("[::1]:5".parse(), udp("::1", 5));
        assert_eq!("[::1]".parse(), udp("::1", DEFAULT_PORT));
        assert_eq!("::1".parse::<Place>(), Err(BadPlace::Brackets("::1".into())));
        assert_eq!("host:0".parse::<Place>(), Err(BadPlace::Port("0".into())));
        assert_eq!("host:70000".parse::<Place>(), Err(BadPlace::Port("70000".into())));
        for wrong in ["", ":5", "[::1", "[::1]5", "[]:5"] {
            assert_eq!(wrong.parse::<Place>(), Err(BadPlace::Form), "{wrong}");
        }
        for whole in ["192.0.2.7:4000", "example.org:9993", "[::1]:5"] {
            assert_eq!(whole.parse::<Place>().unwrap().to_string(), whole);
        }
    }

    #[test]
    fn a_listening_address_may_leave_out_its_port() {
        let udp = |text: &str| Ok(Listen::Udp(text.parse().unwrap()));
        assert_eq!("127.0.0.1:0".parse(), udp("127.0.0.1:0"));
        assert_eq!("0.0.0.0".parse(), udp("0.0.0.0:9993"));
        assert_eq!("[::1]".parse(), udp("[::1]:9993"));
        assert_eq!("::".parse(), udp("[::]:9993"));
        assert!("localhost".parse::<Listen>().unwrap_err().contains("ethernet:eth0"));
    }

    #[cfg(all(feature = "ethernet", target_os = "linux"))]
    #[test]
    fn a_card_is_written_with_its_interface() {
        let place = "ethernet:eth0/02:00:00:00:00:07".parse::<Place>().unwrap();
        assert_eq!(place, Place::Ethernet("eth0/02:00:00:00:00:07".parse().unwrap()));
        assert_eq!(place.to_string(), "ethernet:eth0/02:00:00:00:00:07");
        assert_eq!("ethernet:eth0".parse(), Ok(Listen::Ethernet("eth0".parse().unwrap())));
        let wrong = |text: &str| text.parse::<Place>().unwrap_err().to_string();
        assert!(wrong("ethernet:eth0").contains("write it as INTERFACE/MAC"));
        assert!(wrong("ethernet:eth0/02:00").contains("six bytes"));
        assert!("ethernet:a b".parse::<Listen>().unwrap_err().contains("`ip link` lists them"));
    }

    #[cfg(not(all(feature = "ethernet", target_os = "linux")))]
    #[test]
    fn without_ethernet_it_is_said() {
        assert!("ethernet:eth0".parse::<Listen>().unwrap_err().contains("raw Ethernet"));
        assert!(matches!("ethernet:eth0/02:00:00:00:00:07".parse::<Place>(), Err(BadPlace::Ethernet(_))));
    }

    proptest! {
        #[test]
        fn any_text_is_a_place_or_not(text in "(ethernet:)?.{0,40}") {
            let _ = text.parse::<Place>();
            let _ = text.parse::<Listen>();
        }
    }
}
