//! The `zssp` command.
#![forbid(unsafe_code)]
fn main() {}
