//! What a receiving thread keeps to itself, so that receiving touches nothing that others use.

use super::routes::Recent;
use crate::address::Address;
use crate::wire::KeyId;
use crate::zfp::{Assembly, Spares};

/// What one receiving thread keeps between datagrams: the packets whose fragments are just coming in, and emptied
/// buffers. One per thread; it allocates nothing in the steady state.
///
/// A thread that serves several contexts may use one for all of them, if it [flushes](crate::Context::flush) it with the
/// one context before it hands it to the next: what is incomplete of a packet is of no use to another context, and is lost.
#[derive(Default)]
pub struct Scratch {
    pub(super) recent: Recent,
    pub(super) desk: Desk,
    /// The packet that was joined last, while the caller looks at its payload.
    pub(super) joined: Vec<u8>,
}

impl Scratch {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }
}

//= ZSSP-SEC-09  the payload that was joined last is in `joined`
impl core::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Scratch")
            .field("recent", &self.recent)
            .field("incomplete", &self.desk.incomplete.len())
            .finish_non_exhaustive()
    }
}

/// Where a thread joins fragments.
#[derive(Default)]
pub(super) struct Desk {
    /// Incomplete packets of the batch that is being received, most recent last.
    pub(super) incomplete: Vec<Incomplete>,
    pub(super) spares: Spares,
}

impl Desk {
    /// Packets whose fragments may come interleaved in one batch. More than that go the slower way.
    pub(super) const INTERLEAVED: usize = 4;

    /// Takes the packet out of `assembly` into `packet`, and keeps the memory of what was there.
    pub(super) fn take_packet(&mut self, assembly: Assembly, packet: &mut Vec<u8>) {
        let joined = assembly.into_packet(&mut self.spares);
        let before = core::mem::replace(packet, joined);
        if before.capacity() > 0 {
            self.spares.put(before);
        }
    }
}

/// A packet of which a batch has brought only a part so far.
pub(super) struct Incomplete {
    pub(super) kid: KeyId,
    /// Where the first fragment here came from.
    pub(super) from: Address,
    pub(super) assembly: Assembly,
}
