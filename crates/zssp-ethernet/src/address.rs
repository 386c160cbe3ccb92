//! Who is where on a segment.

use core::fmt;
use core::str::FromStr;

use zssp_proto::{Address, LinkAddress};

/// The hardware address of a network card.
///
/// ```
/// use zssp_ethernet::MacAddress;
/// let mac: MacAddress = "02:00:00:00:00:01".parse()?;
/// assert_eq!(mac, MacAddress([2, 0, 0, 0, 0, 1]));
/// # Ok::<(), zssp_ethernet::AddressError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let mut parts = text.split(':');
        let mut bytes = [0; 6];
        for byte in &mut bytes {
            let part = parts.next().ok_or(AddressError::Mac)?;
            if part.len() != 2 || !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(AddressError::Mac);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| AddressError::Mac)?;
        }
        if parts.next().is_some() { Err(AddressError::Mac) } else { Ok(Self(bytes)) }
    }
}

/// The name of a network interface of this machine, such as `eth0`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct InterfaceName {
    len: u8,
    bytes: [u8; Self::MAX_LEN],
}

impl InterfaceName {
    /// Bytes a name may have.
    pub const MAX_LEN: usize = 15;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        // Made from a `str` of this length, always.
        core::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl FromStr for InterfaceName {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let printable = text.chars().all(|c| !c.is_whitespace() && !c.is_control() && c != '/' && c != ':');
        let len = u8::try_from(text.len()).map_err(|_| AddressError::Interface)?;
        if text.is_empty() || text.len() > Self::MAX_LEN || !printable || text == "." || text == ".." {
            return Err(AddressError::Interface);
        }
        let mut bytes = [0; Self::MAX_LEN];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self { len, bytes })
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// A card, and the interface of this machine behind whose wire it is: `eth0/02:00:00:00:00:01`.
///
/// ```
/// use zssp_ethernet::EthernetAddress;
/// use zssp_proto::Address;
/// let peer: EthernetAddress = "eth0/02:00:00:00:00:01".parse()?;
/// assert_eq!(EthernetAddress::try_from(Address::from(peer))?, peer);
/// # Ok::<(), zssp_ethernet::AddressError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EthernetAddress {
    /// Where frames leave.
    pub interface: InterfaceName,
    /// To whom they go.
    pub mac: MacAddress,
}

impl EthernetAddress {
    /// The first byte of a [`LinkAddress`] that is one of these, so that other links' addresses are not taken for one.
    const KIND: u8 = b'E';
    const MAX_LEN: usize = 1 + 6 + InterfaceName::MAX_LEN;
}

const _: () = assert!(EthernetAddress::MAX_LEN <= LinkAddress::MAX_LEN);

impl fmt::Display for EthernetAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.interface, self.mac)
    }
}

impl fmt::Debug for EthernetAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for EthernetAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (interface, mac) = text.split_once('/').ok_or(AddressError::Form)?;
        Ok(Self { interface: interface.parse()?, mac: mac.parse()? })
    }
}

impl From<EthernetAddress> for Address {
    fn from(EthernetAddress { interface, mac }: EthernetAddress) -> Self {
        let name = interface.as_str().as_bytes();
        let mut bytes = [0; EthernetAddress::MAX_LEN];
        let (kind, rest) = (0, 7);
        bytes[kind] = EthernetAddress::KIND;
        bytes[1..rest].copy_from_slice(&mac.0);
        bytes[rest..rest + name.len()].copy_from_slice(name);
        // The assertion above: it fits.
        let link = LinkAddress::new(&bytes[..rest + name.len()]);
        Self::Link(link.expect("a MAC and a name fit a link address"))
    }
}

impl TryFrom<Address> for EthernetAddress {
    type Error = AddressError;

    fn try_from(address: Address) -> Result<Self, AddressError> {
        let Address::Link(link) = address else { return Err(AddressError::OtherLink) };
        let (&kind, rest) = link.as_bytes().split_first().ok_or(AddressError::OtherLink)?;
        let (mac, name) = rest.split_first_chunk().ok_or(AddressError::OtherLink)?;
        let name = core::str::from_utf8(name).map_err(|_| AddressError::OtherLink)?;
        if kind != Self::KIND {
            return Err(AddressError::OtherLink);
        }
        Ok(Self { interface: name.parse()?, mac: MacAddress(*mac) })
    }
}

/// Why something is not an Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// There is no `/` between interface and MAC address.
    #[error("not an Ethernet address: write it as INTERFACE/MAC, such as eth0/02:00:00:00:00:01")]
    Form,
    /// Interface names have 1 to 15 bytes, without spaces, `/` and `:`.
    #[error("not the name of a network interface: `ip link` lists them")]
    Interface,
    /// A MAC address is six pairs of hexadecimal digits with `:` between.
    #[error("not a MAC address: write it as six bytes, such as 02:00:00:00:00:01")]
    Mac,
    /// The address is that of another kind of link.
    #[error("the address is not one of an Ethernet link")]
    OtherLink,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_and_link_address_bring_an_address_back(mac: [u8; 6], name in "[a-z0-9.@_-]{1,15}") {
            prop_assume!(name != "." && name != "..");
            let address = EthernetAddress { interface: name.parse()?, mac: MacAddress(mac) };
            prop_assert_eq!(address.to_string().parse::<EthernetAddress>()?, address);
            prop_assert_eq!(EthernetAddress::try_from(Address::from(address))?, address);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let cases = [
            ("eth0", AddressError::Form),
            ("/02:00:00:00:00:01", AddressError::Interface),
            ("sixteen-bytes-abc/02:00:00:00:00:01", AddressError::Interface),
            ("a b/02:00:00:00:00:01", AddressError::Interface),
            ("eth0/02:00:00:00:00", AddressError::Mac),
            ("eth0/02:00:00:00:00:01:02", AddressError::Mac),
            ("eth0/02:00:00:00:00:+1", AddressError::Mac),
            ("eth0/2:0:0:0:0:1", AddressError::Mac),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<EthernetAddress>(), Err(error), "{text}");
        }
    }

    #[test]
    fn other_links_addresses_are_not_taken_for_one() {
        let link = |bytes| Address::Link(LinkAddress::new(bytes).unwrap());
        let udp = Address::from(std::net::SocketAddr::from(([192, 0, 2, 1], 9993)));
        for address in [udp, link(b""), link(b"E"), link(b"F\0\0\0\0\0\0eth0"), link(b"E\0\0\0\0\0\0\xff")] {
            assert_eq!(EthernetAddress::try_from(address), Err(AddressError::OtherLink), "{address:?}");
        }
    }
}
