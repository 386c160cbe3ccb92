//! Messages in parts: what is lost for one fragment of many is sent again in payloads of one fragment each, of which those
//! that arrive have arrived for good. Where payloads are lost, large messages are sent in parts from the first. Parts go
//! out at the pace of the road: all at once, most of them would be lost to what all fragments at once were lost to. And
//! questions: resends of what has arrived, in as few bytes as possible.

use std::ops::Range;

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
    (0..total).step_by(len).map(move |offset| part(group, message, offset..(offset + len).min(total)))
}

//= ZSSP-PRT-05  a part of what the receiver has asks for its answer
/// The smallest part of a message that the peer has, and holds: to that, it is a duplicate.
pub(super) fn question(group: Group, message: &Transmission) -> Outgoing {
    part(group, message, 0..1)
}

/// One part of a message's data. The flags of a chunk are the first byte of that.
fn part(group: Group, message: &Transmission, Range { start, end }: Range<usize>) -> Outgoing {
    let flags = usize::from(message.chunk.is_some());
    let body = message.body.slice(start.saturating_sub(flags)..end - flags);
    let (prefix, group) = frame::part(group, start, flags + message.body.len());
    let mut outgoing = Outgoing::new(body).start(&prefix);
    if let Some(group) = group {
        outgoing = outgoing.start(&group);
    }
    outgoing = outgoing.start(&message.header);
    match message.chunk {
        Some(chunk) if start == 0 => outgoing.start(&[chunk.flags()]),
        _ => outgoing,
    }
}
