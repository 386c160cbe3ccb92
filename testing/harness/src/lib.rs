//! What tests of the secure session protocol share: peers on the simulated network, scripted cryptography,
//! recorded sessions made and replayed.
//!
//! - [`pair`]: two peers, the network between them and a clock.
//! - [`life`]: the same two for days, with processes that die at any moment and come back.
//! - [`side`]: one peer, whose every doing is noted in the words of the recorded sessions.
//! - [`mod@replay`]: a recorded session against one of our own sides, byte for byte.
//! - [`mod@record`]: sessions between two of our own sides, in the same format.
//! - [`store_suite`]: what every ratchet store must do, and [`store_kills`] when its process is killed.
//!
//! A replay needs a side that draws the recorded keys: [`tap`] is a provider that draws from a [`script`] and tells
//! what it is asked for, [`store`] tells what is written to it, and both tell it to a [`trace`].
#![forbid(unsafe_code)]

pub mod life;
pub mod pair;
pub mod record;
pub mod replay;
pub mod script;
pub mod side;
pub mod store;
pub mod store_kills;
pub mod store_suite;
pub mod tap;
pub mod trace;

use zssp_proto::Suite;

/// The suites by their recorded names.
pub const VARIANTS: [(&str, Suite); 3] =
    [("whitepaper", Suite::Kyber1024), ("zssp-0.4", Suite::Zssp04), ("ml-kem-1024", Suite::MlKem1024)];

/// The suite that a scenario's `variant` stands for.
pub fn suite(variant: &str) -> Option<Suite> {
    VARIANTS.iter().find(|(name, _)| *name == variant).map(|(_, suite)| *suite)
}
