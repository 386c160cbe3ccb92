//! Parts of messages as they go out. And questions: resends of what has arrived, in as few bytes as possible.

use std::ops::Range;

use super::lane::Transmission;
use crate::connection::outgoing::Outgoing;
use crate::frame::{self, Group};

/// The flags of a chunk are the first byte of its data.
fn flags_len(message: &Transmission) -> usize {
    usize::from(message.chunk.is_some())
}

/// Bytes of a message's data.
pub(super) fn data_len(message: &Transmission) -> usize {
    flags_len(message) + message.body.len()
}

//= ZSSP-PRT-05  a part of what the receiver has asks for its answer
/// The smallest part of a message that the peer has, and holds: to that, it is a duplicate.
pub(super) fn question(number: u64, group: Group, message: &Transmission) -> Outgoing {
    part(number, group, message, 0..1)
}

/// One part of a message's data.
pub(super) fn part(
    number: u64,
    group: Group,
    message: &Transmission,
    Range { start, end }: Range<usize>,
) -> Outgoing {
    let flags = flags_len(message);
    let body = message.body.slice(start.saturating_sub(flags)..end - flags);
    let (prefix, group) = frame::part(number, group, start, data_len(message));
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
