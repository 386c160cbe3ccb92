//! The roads packets travel on.

mod batch;
mod udp;

pub(crate) use batch::SendBatch;
pub(crate) use udp::{MAX_SEND, ReceiveBatch, SendError, Udp};
