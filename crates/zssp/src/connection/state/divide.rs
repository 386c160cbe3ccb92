//! Messages in parts: what is lost for one fragment of many is sent again in payloads of one fragment each, of which those
//! that arrive have arrived for good. Where payloads are lost, large messages are sent in parts from the first. Parts go
//! out at the pace of the road: all at once, most of them would be lost to what all fragments at once were lost to.

use super::lane::Transmission;
use crate::connection::outgoing::Outgoing;
use crate::frame::{self, Group, PART_OVERHEAD};

/// The parts of a message, each with up to `limit` bytes of payload.
pub(super) fn parts(group: Group, message: &Transmission, limit: usize) -> impl Iterator<Item = Outgoing> {
    let flags = usize::from(message.chunk.is_some());
    let total = flags + message.body.len();
    let len = limit.saturating_sub(PART_OVERHEAD).max(1);
    // Of equal size, or nearly so.
    let len = total.div_ceil(total.div_ceil(len).max(1)).max(1);
    (0..total).step_by(len).map(move |offset| {
        let end = (offset + len).min(total);
        // The flags of a chunk are the first byte of its data.
        let body = message.body.slice(offset.saturating_sub(flags)..end - flags);
        let (prefix, group) = frame::part(group, offset, total);
        let mut outgoing = Outgoing::new(body).start(&prefix);
        if let Some(group) = group {
            outgoing = outgoing.start(&group);
        }
        outgoing = outgoing.start(&message.header);
        match message.chunk {
            Some(chunk) if offset == 0 => outgoing.start(&[chunk.flags()]),
            _ => outgoing,
        }
    })
}
