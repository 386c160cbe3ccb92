//! What tests of the secure session protocol share: peers on the simulated network, scripted cryptography,
//! recorded sessions made and replayed.
#![forbid(unsafe_code)]
