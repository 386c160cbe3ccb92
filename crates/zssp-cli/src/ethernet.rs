//! `ethernet:eth0`: raw Ethernet frames in place of UDP, where this program has them.

pub(crate) use imp::{Card, Interface, card, interface, listen, reach, shown};

/// What an address on Ethernet begins with.
pub(crate) const PREFIX: &str = "ethernet:";

#[cfg(all(feature = "ethernet", target_os = "linux"))]
mod imp {
    use std::net::SocketAddr;

    use zssp::ethernet::{EthernetAddress, InterfaceName, Link as Frames, MacAddress, Settings};
    use zssp::link::{Ethernet, Link as _};
    use zssp::{Builder, Endpoint};

    /// A network interface of this machine.
    pub(crate) type Interface = InterfaceName;
    /// A network card, and the interface that leads to it.
    pub(crate) type Card = EthernetAddress;

    pub(crate) fn interface(text: &str) -> Result<Interface, String> {
        text.parse().map_err(|error| format!("`{text}` is {error}"))
    }

    pub(crate) fn card(text: &str) -> Result<Card, String> {
        text.parse().map_err(|error| format!("`{text}` is {error}"))
    }

    /// An endpoint on an interface.
    pub(crate) fn listen(builder: Builder, interface: Interface) -> Result<Endpoint, String> {
        bind(builder, interface).map(|(endpoint, _)| endpoint)
    }

    /// An endpoint to reach a card from, and the card's address on it.
    pub(crate) fn reach(builder: Builder, card: Card) -> Result<(Endpoint, SocketAddr), String> {
        let (endpoint, link) = bind(builder, card.interface)?;
        Ok((endpoint, link.address(card.mac)))
    }

    fn bind(builder: Builder, interface: Interface) -> Result<(Endpoint, Ethernet), String> {
        let frames = Frames::open(interface, &Settings::default()).map_err(|error| error.to_string())?;
        let link = Ethernet::new(frames).map_err(|error| format!("{interface}: {error}"))?;
        let endpoint = builder.mtu(link.mtu()).bind_link(link.clone()).map_err(|error| error.to_string())?;
        Ok((endpoint, link))
    }

    /// The card that an address of an endpoint stands for.
    pub(crate) fn shown(address: SocketAddr) -> Option<MacAddress> {
        Ethernet::mac(address)
    }
}

#[cfg(not(all(feature = "ethernet", target_os = "linux")))]
mod imp {
    use std::convert::Infallible;
    use std::net::SocketAddr;

    use zssp::{Builder, Endpoint};

    pub(crate) type Interface = Infallible;
    pub(crate) type Card = Infallible;

    const WITHOUT: &str = if cfg!(target_os = "linux") {
        "this zssp was built without raw Ethernet: build it with the feature `ethernet`"
    } else {
        "raw Ethernet needs Linux"
    };

    pub(crate) fn interface(_text: &str) -> Result<Interface, String> {
        Err(WITHOUT.into())
    }

    pub(crate) fn card(_text: &str) -> Result<Card, String> {
        Err(WITHOUT.into())
    }

    pub(crate) fn listen(_builder: Builder, interface: Interface) -> Result<Endpoint, String> {
        match interface {}
    }

    pub(crate) fn reach(_builder: Builder, card: Card) -> Result<(Endpoint, SocketAddr), String> {
        match card {}
    }

    pub(crate) fn shown(_address: SocketAddr) -> Option<Infallible> {
        None
    }
}
