#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod batch;
mod file;
mod name;
#[doc(hidden)]
pub mod private;
mod record;
mod redb_store;
mod tables;
#[cfg(test)]
mod tests;

pub use file::OpenError;
pub use record::RecordError;
pub use redb_store::{Overwrite, PeerEntry, PresetError, RatchetSummary, Redb};
