//! SEQEX: reliable, optionally ordered exchanges of packets and replies over any datagram link.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod config;
pub mod encoding;
mod exchange;
mod outcome;
mod packet;
mod receive_window;
mod recovery;
mod rtt;
mod send_window;
mod seq;

pub use config::{Adaptive, BadCapacity, Capacity, Config, Feedback, Resend};
pub use exchange::SeqEx;
pub use outcome::{Delivery, DropReason, Event, GaveUp, NotOpen, Received, Refusal, Refused, Remains, Token};
pub use packet::{Ack, AckKind, Message, Order, Packet};
pub use seq::SeqNo;

/// The time since an epoch of the caller's choice, the same for every call on one exchange.
///
/// The core reads no clock: whoever drives it says what time it is. Time may stand still between
/// calls; a time earlier than one given before is treated as that earlier one's successor would be,
/// that is, nothing is late.
pub type Timestamp = core::time::Duration;
