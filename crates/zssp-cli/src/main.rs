//! The `zssp` command.
#![forbid(unsafe_code)]
mod transfer;
fn main() {}
