//! Secure post-quantum connections over UDP.
//!
//! An [`Endpoint`] is a socket and a [`SecretKey`]. It [`connect`](Endpoint::connect)s to peers whose public key is
//! known, and [`accept`](Endpoint::accept)s peers that prove theirs. A [`Connection`] carries
//!
//! - reliable messages, ordered, unordered or as requests with replies, on any number of [`Channel`]s;
//! - byte streams, [opened](Connection::open_stream) and [accepted](Connection::accept_stream) by either side;
//! - [datagrams](Connection::send_datagram), sealed and otherwise as unreliable as the network.
//!
//! The protocols underneath are the ZeroTier Secure Sessions Protocol ([`zssp_proto`]) and SEQEX ([`seqex`]); this is
//! an independent implementation, not ZeroTier's own, and it has not been audited.
//!
//! # A first connection
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use zssp::{Endpoint, SecretKey};
//!
//! let server = Endpoint::bind("127.0.0.1:0", SecretKey::generate()?).await?;
//! let (address, key) = (server.local_addr(), server.public_key());
//! tokio::spawn(async move {
//!     while let Some(incoming) = server.accept().await {
//!         let connection = incoming.accept().await?;
//!         let channel = connection.channel(0)?;
//!         while let Some(message) = channel.receive().await {
//!             message.reply("got it").await?;
//!         }
//!     }
//!     Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
//! });
//!
//! let client = Endpoint::bind("127.0.0.1:0", SecretKey::generate()?).await?;
//! let connection = client.connect(address, key).await?;
//! let reply = connection.channel(0)?.request("hello").await?;
//! assert_eq!(reply, "got it");
//! connection.close(0, b"bye").await;
//! # Ok(()) }
//! ```
//!
//! # What is promised
//! - A message that was accepted for sending arrives exactly once, or the connection ends with an error that says why.
//! - Every buffer is bounded: where one is full, sending waits. What may be dropped (datagrams, strangers) is counted.
//! - Futures may be dropped at any time; each says what that means.
//! - Nothing a peer or a stranger sends makes it panic, or take more memory than configured.
//!
//! It runs on a tokio runtime; handshakes, which cost about a millisecond, run on its blocking pool.
#![forbid(unsafe_code)]

mod buffers;
mod config;
pub mod congestion;
mod connection;
mod endpoint;
mod error;
pub mod frame;
mod key;
mod link;
mod stats;
mod sync;
mod wait;

pub use config::Builder;
pub use connection::{Channel, Connection, Message, ReceiveStream, SendStream};
pub use endpoint::{Endpoint, Incoming};
pub use error::{
    BindError, CloseReason, ConnectError, ReadError, ReadToEndError, RequestError, SendError,
    TooManyChannels, TrySendError, WriteError,
};
pub use frame::StreamId;
pub use key::{KeyError, SecretKey, public_key};
pub use stats::{ConnectionStats, EndpointStats};
pub use zssp_proto::crypto::{P384_PUBLIC_LEN, P384_SECRET_LEN, Secret};
pub use zssp_proto::{
    Challenging, Limits, MemoryStore, OneTimePassword, PeerName, Policy, PublicKey, RatchetStore, Suite,
};
pub use zssp_store::Redb;

pub use bytes::Bytes;

/// Compiles and runs the example of the repository's README.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// The session protocol underneath: providers of cryptography, and what a ratchet store of one's own needs.
pub use zssp_proto as proto;

/// The durable ratchet store, and what an operator does with it: list, forget and preset peers.
pub use zssp_store as store;
