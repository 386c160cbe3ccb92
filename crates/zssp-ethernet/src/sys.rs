//! The one place with `unsafe`: options of packet sockets that no safe interface offers, and the ring that the kernel
//! and this process share.

use core::mem::{offset_of, size_of};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use libc::{c_int, c_void, sock_filter, sock_fprog, sockaddr_ll, socklen_t, tpacket_req, tpacket_stats};

use crate::MacAddress;
use crate::address::InterfaceName;
use crate::slot::Note;

fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn len_of<T>() -> socklen_t {
    // Of structures of some ten bytes.
    socklen_t::try_from(size_of::<T>()).unwrap_or(socklen_t::MAX)
}

/// Sets an option to `value`, which has to be the structure that the kernel expects for it.
fn set_option<T>(socket: BorrowedFd<'_>, (level, option): (c_int, c_int), value: &T) -> io::Result<()> {
    let value: *const T = value;
    // SAFETY: the kernel reads the bytes of `value`, which lives through the call, and no more than its size.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value.cast(), len_of::<T>()) })
}

/// The kernel's structures that consist of integers, so that any bytes are a value, zeros too.
///
/// # Safety
/// Implement it for such structures only.
unsafe trait Plain: Sized {
    fn zeroed() -> Self {
        // SAFETY: zeros are a value of every implementation.
        unsafe { core::mem::zeroed() }
    }
}

// SAFETY: integers and arrays of them.
unsafe impl Plain for sockaddr_ll {}
// SAFETY: two integers.
unsafe impl Plain for tpacket_stats {}
// SAFETY: an integer.
unsafe impl Plain for c_int {}

fn option<T: Plain>(socket: BorrowedFd<'_>, (level, option): (c_int, c_int)) -> io::Result<T> {
    let (mut value, mut len) = (T::zeroed(), len_of::<T>());
    let place: *mut T = &raw mut value;
    // SAFETY: the kernel writes `len` bytes at most, which is the size of `value`, and any bytes are a `T`.
    check(unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, place.cast(), &raw mut len) })?;
    Ok(value)
}

/// A program for the kernel to run on frames; where it is set decides what its result means.
fn set_program(
    socket: BorrowedFd<'_>,
    option: (c_int, c_int),
    program: &'static [sock_filter],
) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // The kernel copies the program and writes nothing to it.
    set_option(socket, option, &sock_fprog { len, filter: program.as_ptr().cast_mut() })
}

/// Which frames the socket takes.
pub(crate) fn set_filter(socket: BorrowedFd<'_>, program: &'static [sock_filter]) -> io::Result<()> {
    set_program(socket, (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER), program)
}

/// Which socket of a fan-out group gets a frame.
pub(crate) fn set_fanout_program(socket: BorrowedFd<'_>, program: &'static [sock_filter]) -> io::Result<()> {
    set_program(socket, (libc::SOL_PACKET, libc::PACKET_FANOUT_DATA), program)
}

/// Founds a fan-out group and returns its number.
pub(crate) fn found_fanout(socket: BorrowedFd<'_>) -> io::Result<u16> {
    join_with(socket, libc::PACKET_FANOUT_CBPF | libc::PACKET_FANOUT_FLAG_UNIQUEID, 0)?;
    let group: c_int = option(socket, (libc::SOL_PACKET, libc::PACKET_FANOUT))?;
    Ok((group & 0xffff) as u16)
}

/// Joins a group. The socket has to be bound as the others are.
pub(crate) fn join_fanout(socket: BorrowedFd<'_>, group: u16) -> io::Result<()> {
    join_with(socket, libc::PACKET_FANOUT_CBPF, group)
}

fn join_with(socket: BorrowedFd<'_>, kind: u32, group: u16) -> io::Result<()> {
    set_option(socket, (libc::SOL_PACKET, libc::PACKET_FANOUT), &(kind << 16 | u32::from(group)))
}

/// Has the socket send to an interface, and receive the frames of a protocol there; of none if that is zero.
pub(crate) fn bind(socket: BorrowedFd<'_>, interface: u32, protocol: u16) -> io::Result<()> {
    let index = c_int::try_from(interface).map_err(|_| io::ErrorKind::InvalidInput)?;
    let address = sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: index,
        ..sockaddr_ll::zeroed()
    };
    let place: *const sockaddr_ll = &raw const address;
    // SAFETY: the kernel reads `address`, which lives through the call, and no more than its size.
    check(unsafe { libc::bind(socket.as_raw_fd(), place.cast(), len_of::<sockaddr_ll>()) })
}

/// The MAC address of the interface that the socket is bound to; `None` when that has none.
pub(crate) fn mac(socket: BorrowedFd<'_>) -> io::Result<Option<MacAddress>> {
    let (mut address, mut len) = (sockaddr_ll::zeroed(), len_of::<sockaddr_ll>());
    let place: *mut sockaddr_ll = &raw mut address;
    // SAFETY: the kernel writes `len` bytes at most, which is the size of `address`, and any bytes are one.
    check(unsafe { libc::getsockname(socket.as_raw_fd(), place.cast(), &raw mut len) })?;
    let is_ethernet = [libc::ARPHRD_ETHER, libc::ARPHRD_LOOPBACK].contains(&address.sll_hatype);
    let [mac @ .., _, _] = address.sll_addr;
    Ok((is_ethernet && usize::from(address.sll_halen) == mac.len()).then_some(MacAddress(mac)))
}

/// Bytes that a frame of the interface may have behind its Ethernet header.
pub(crate) fn mtu(socket: BorrowedFd<'_>, interface: &InterfaceName) -> io::Result<usize> {
    let mut name = [0; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(interface.as_str().bytes()) {
        *to = from.cast_signed() as libc::c_char;
    }
    let mut request = libc::ifreq { ifr_name: name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_mtu: 0 } };
    // SAFETY: this request reads the name, which ends with a zero, and writes the MTU into the `ifreq`.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU as _, &raw mut request) })?;
    // SAFETY: it was initialised as `ifru_mtu`, and the kernel wrote that.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    usize::try_from(mtu).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// The size of a ring.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RingSize {
    /// Bytes of memory in one piece: whole pages.
    pub(crate) block_len: u32,
    pub(crate) blocks: u32,
    /// Bytes for a frame and what the kernel notes about it: a multiple of 16. Blocks hold as many as fit whole.
    pub(crate) slot_len: u32,
}

impl RingSize {
    fn slots_per_block(self) -> u32 {
        self.block_len / self.slot_len
    }

    fn slots(self) -> u32 {
        self.slots_per_block().saturating_mul(self.blocks)
    }

    fn bytes(self) -> usize {
        self.block_len as usize * self.blocks as usize
    }
}

/// A socket, and the memory that it writes the frames to which it receives: slots that are the kernel's or ours in turn.
///
/// This is the second version of such rings. The third packs frames closer, but hands them over in blocks, one that is not
/// full after a millisecond at the earliest.
pub(crate) struct Ring {
    socket: OwnedFd,
    memory: NonNull<u8>,
    size: RingSize,
    /// The slot that is our turn next.
    next: u32,
}

// SAFETY: the memory belongs to this value alone, apart from the kernel, which does not care about threads.
unsafe impl Send for Ring {}

impl Ring {
    /// Has `socket` write to a ring from now on.
    pub(crate) fn new(socket: OwnedFd, size: RingSize) -> io::Result<Self> {
        set_option(
            socket.as_fd(),
            (libc::SOL_PACKET, libc::PACKET_VERSION),
            &(libc::tpacket_versions::TPACKET_V2 as c_int),
        )?;
        let request = tpacket_req {
            tp_block_size: size.block_len,
            tp_block_nr: size.blocks,
            tp_frame_size: size.slot_len,
            tp_frame_nr: size.slots(),
        };
        // The kernel refuses what does not add up: after this there is a slot, and all are inside of their blocks.
        set_option(socket.as_fd(), (libc::SOL_PACKET, libc::PACKET_RX_RING), &request)?;
        let (len, access) = (size.bytes(), libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: a new mapping at an address of the kernel's choice, so that no memory of anybody else changes.
        let memory = unsafe {
            libc::mmap(core::ptr::null_mut(), len, access, libc::MAP_SHARED, socket.as_raw_fd(), 0)
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { socket, memory, size, next: 0 })
    }

    /// The slot that is so far ahead of the next one, if the kernel is through with it.
    pub(crate) fn slot(&self, ahead: u32) -> Option<&[u8]> {
        let is_ours = || self.status(ahead).load(Ordering::Acquire) & libc::TP_STATUS_USER != 0;
        // Further ahead is the next one again.
        if ahead >= self.size.slots() || !is_ours() {
            return None;
        }
        // SAFETY: inside of the mapping, which is initialised. It is our turn: the kernel does not write to the slot before
        // its status says so, and that changes in `release` alone, which nobody calls while these bytes are borrowed.
        Some(unsafe { core::slice::from_raw_parts(self.start(ahead).as_ptr(), self.size.slot_len as usize) })
    }

    /// Gives the next slots back to the kernel: so many, or those that are ours if these are fewer.
    pub(crate) fn release(&mut self, count: u32) {
        for _ in 0..count {
            // Never one of the kernel's, which would take it for free while it writes there.
            if self.slot(0).is_none() {
                return;
            }
            self.status(0).store(libc::TP_STATUS_KERNEL, Ordering::Release);
            self.next = (self.next + 1) % self.size.slots();
        }
    }

    /// Frames and drops since this was last asked; drops are among the frames.
    pub(crate) fn statistics(&self) -> io::Result<tpacket_stats> {
        option(self.socket.as_fd(), (libc::SOL_PACKET, libc::PACKET_STATISTICS))
    }

    fn start(&self, ahead: u32) -> NonNull<u8> {
        let RingSize { block_len, slot_len, .. } = self.size;
        let slot = ((u64::from(self.next) + u64::from(ahead)) % u64::from(self.size.slots())) as usize;
        let per_block = self.size.slots_per_block() as usize;
        let offset = slot / per_block * block_len as usize + slot % per_block * slot_len as usize;
        // SAFETY: `slot` is below the number of slots, so this is in one of the blocks, all of which are in the mapping.
        unsafe { self.memory.add(offset) }
    }

    fn status(&self, ahead: u32) -> &AtomicU32 {
        // SAFETY: a slot begins with a `Note`, and is aligned as its fields need: blocks are pages, and the length of slots
        // is a multiple of 16. Whoever does not have the turn, here and in the kernel, touches nothing of the slot but this
        // number, and that atomically.
        unsafe { AtomicU32::from_ptr(self.start(ahead).add(offset_of!(Note, tp_status)).cast().as_ptr()) }
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length, and the bytes of a slot would borrow this value.
        let unmapped = unsafe { libc::munmap(self.memory.as_ptr().cast::<c_void>(), self.size.bytes()) };
        debug_assert_eq!(unmapped, 0, "a mapping of ours");
    }
}
