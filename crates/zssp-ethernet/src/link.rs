//! Opening sockets on an interface.

use core::num::NonZeroU16;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netdevice::{index_to_name, name_to_index};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::error::OpenError;
use crate::filter;
use crate::header::{EtherType, LINK_LEN};
use crate::receiver::Receiver;
use crate::sender::Sender;
use crate::sys::{self, Ring, RingSize};
use crate::{InterfaceName, MacAddress};

/// How to open a [`Link`].
///
/// ```no_run
/// use core::num::NonZeroU16;
/// use zssp_ethernet::{Link, Settings};
/// let settings = Settings { receivers: NonZeroU16::MIN.saturating_add(1), ..Settings::default() };
/// let link = Link::open("eth0".parse()?, &settings)?;
/// assert_eq!(link.receivers.len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Settings {
    /// The protocol number that all peers of the segment use.
    pub ether_type: EtherType,
    /// How many threads receive; one by default.
    pub receivers: NonZeroU16,
    /// Bytes of memory for each receiver's ring, rounded up to blocks of 256 KiB; 8 MiB by default. A frame takes the room
    /// of the longest, so 8 MiB hold some 5000 at an MTU of 1500, and 900 at 9000. What arrives while it is full is lost,
    /// and counted.
    pub ring_len: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { ether_type: EtherType::LOCAL_EXPERIMENT, receivers: NonZeroU16::MIN, ring_len: 8 << 20 }
    }
}

/// The ring for frames of an MTU.
fn ring_size(ring_len: u32, mtu: usize) -> RingSize {
    /// Three of the longest frames fit.
    const BLOCK_LEN: u32 = 1 << 18;
    /// What the kernel notes, 66 bytes of which come before the frame; the Ethernet header; and tags that the card left in.
    const BESIDES: u16 = 96;
    // Longer datagrams are none of ours, whatever the interface carries.
    let payload = u16::try_from(mtu.saturating_sub(LINK_LEN)).unwrap_or(u16::MAX);
    let slot_len = u32::from(payload) + LINK_LEN as u32 + u32::from(BESIDES);
    RingSize {
        block_len: BLOCK_LEN,
        blocks: ring_len.div_ceil(BLOCK_LEN).max(1),
        slot_len: slot_len.next_multiple_of(16),
    }
}

/// An interface opened for one protocol number: one way out, and as many ways in as there are threads to receive.
///
/// A frame comes to one of the receivers. Which one, the sender decides by the number that it gives to each packet: all
/// datagrams of a packet come to the same one, consecutive packets to different ones. So several threads share the work
/// of a single session, and none has to join what another received in part.
#[derive(Debug)]
pub struct Link {
    /// Ways in, each for a thread of its own.
    pub receivers: Vec<Receiver>,
    /// The way out, for any number of threads.
    pub sender: Sender,
}

impl Link {
    /// Opens an interface of this thread's network namespace. It may be down.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(name: InterfaceName, settings: &Settings) -> Result<Self, OpenError> {
        let socket = packet_socket()?;
        let index = name_to_index(&socket, name.as_str()).map_err(|error| match error {
            Errno::NODEV => OpenError::NoInterface(name),
            other => OpenError::at("look up the interface")(other),
        })?;
        sys::bind(socket.as_fd(), index, 0).map_err(OpenError::at("bind to the interface"))?;
        let mac = sys::mac(socket.as_fd()).map_err(OpenError::at("look up the MAC address"))?;
        let mac = mac.ok_or(OpenError::NotEthernet(name))?;
        let interface = Interface { name, index, mac };

        let mut receivers: Vec<Receiver> = Vec::new();
        let mut group = None;
        for _ in 0..settings.receivers.get() {
            let ring = open_ring(&interface, settings)?;
            if settings.receivers > NonZeroU16::MIN {
                group = Some(join(&ring, group).map_err(OpenError::at("spread frames over receivers"))?);
            }
            sys::set_filter(ring.as_fd(), &filter::TO_THIS_HOST).map_err(OpenError::at("filter frames"))?;
            receivers.push(Receiver::new(interface, ring)?);
        }
        Ok(Self { receivers, sender: Sender::new(interface, socket, settings.ether_type) })
    }
}

/// A ring that takes nothing yet.
fn open_ring(interface: &Interface, settings: &Settings) -> Result<Ring, OpenError> {
    let socket = packet_socket()?;
    sys::set_filter(socket.as_fd(), &filter::NOTHING).map_err(OpenError::at("filter frames"))?;
    let mtu = sys::mtu(socket.as_fd(), &interface.name).map_err(OpenError::at("look up the MTU"))?;
    let ring =
        Ring::new(socket, ring_size(settings.ring_len, mtu)).map_err(OpenError::at("set up the ring"))?;
    sys::bind(ring.as_fd(), interface.index, settings.ether_type.number())
        .map_err(OpenError::at("bind to the interface"))?;
    Ok(ring)
}

/// Joins the group, or founds it.
fn join(ring: &Ring, group: Option<u16>) -> std::io::Result<u16> {
    if let Some(group) = group {
        sys::join_fanout(ring.as_fd(), group)?;
        return Ok(group);
    }
    let group = sys::found_fanout(ring.as_fd())?;
    sys::set_fanout_program(ring.as_fd(), &filter::SPREAD)?;
    Ok(group)
}

/// A socket that receives nothing.
fn packet_socket() -> Result<OwnedFd, OpenError> {
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None);
    socket.map_err(|error| match error {
        Errno::PERM | Errno::ACCESS => OpenError::NotPermitted,
        other => OpenError::at("open a packet socket")(other),
    })
}

/// An interface as it was when the link was opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Interface {
    pub(crate) name: InterfaceName,
    pub(crate) index: u32,
    pub(crate) mac: MacAddress,
}

impl Interface {
    /// Whether it has been removed since.
    pub(crate) fn is_gone(&self, socket: impl AsFd) -> bool {
        index_to_name(socket, self.index).is_err()
    }
}
