//! Exchanges as an application uses them.

mod answers;
mod any_link;
mod channels;
#[cfg(all(feature = "std", not(loom)))]
mod closing;
#[cfg(all(feature = "std", not(loom)))]
mod drivers;
mod entrusted;
mod evidence;
#[cfg(all(feature = "std", not(loom)))]
mod examples;
#[cfg(all(feature = "std", not(loom)))]
mod faces;
mod goodput;
mod held;
mod hostile_peer;
mod kept;
mod loss_recovery;
mod reordering;
#[cfg(feature = "serde")]
mod serde;
mod support;
#[cfg(all(feature = "tokio", not(loom)))]
mod tokio;
#[cfg(all(feature = "std", not(loom)))]
mod waiting;
