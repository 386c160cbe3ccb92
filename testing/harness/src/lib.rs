//! What tests of the secure session protocol share: peers on the simulated network, scripted cryptography,
//! recorded sessions made and replayed.
//!
//! - [`pair`]: two peers, the network between them and a clock.
#![forbid(unsafe_code)]

pub mod pair;
