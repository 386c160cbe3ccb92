//! RustCrypto.

/// To come.
#[derive(Debug)]
pub struct RustCrypto;
