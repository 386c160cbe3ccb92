//! The ZeroTier Secure Sessions Protocol, sans-IO.
#![forbid(unsafe_code)]

mod address;
mod context;
pub mod crypto;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod identity;
mod noise;
mod ratchet;
mod session;
mod suite;
mod sync;
mod timers;
pub mod wire;
mod zfp;
mod zke;

pub use address::{Address, LinkAddress};
pub use context::{
    Authorize, BuildError, Context, ContextBuilder, EndReason, Event, Handshake, Limits, Open, OpenError,
    Outbox, Received, Scratch, Transmit,
};
pub use error::Fault;
pub use identity::{PublicKey, StaticKey};
pub use ratchet::{
    Fingerprint, MemoryStore, PeerName, RatchetPair, RatchetState, RatchetStore, StoreError, Swap,
};
pub use session::{SealError, Sealed, Session, SessionId};
pub use suite::Suite;
pub use zke::keys::Role;
