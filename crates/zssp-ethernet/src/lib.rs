#![doc = include_str!("../README.md")]
#![cfg(target_os = "linux")]

mod address;
mod error;
mod filter;
mod header;
mod link;
mod receiver;
mod sender;
mod slot;
#[expect(unsafe_code, reason = "the calls to the system that nobody wraps, and the memory shared with it")]
mod sys;

pub use address::{AddressError, EthernetAddress, InterfaceName, MacAddress};
pub use error::{OpenError, ReceiveError, SendError};
pub use header::{EtherType, Frame};
pub use link::{Link, Settings};
pub use receiver::{Batch, ReceiveStatistics, Received, Receiver, Waker};
pub use sender::{SendBatch, SendStatistics, Sender};
