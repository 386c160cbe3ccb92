//! To come.
#![forbid(unsafe_code)]

mod congestion;
mod frame;
mod link;
mod sync;
