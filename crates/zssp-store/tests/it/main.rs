//! The store in a file, and sessions over it. What needs a process of its own is beside this directory.
#![allow(clippy::unwrap_used, reason = "in a test it is the assertion")]

mod operator;
mod sessions;
mod store;
