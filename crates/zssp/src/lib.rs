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
//! use zssp::{Endpoint, Incoming, SecretKey};
//!
//! /// Serves one peer. What goes wrong with it is no concern of the others.
//! async fn serve(incoming: Incoming) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//!     let connection = incoming.accept().await?;
//!     let channel = connection.channel(0)?;
//!     while let Some(message) = channel.receive().await {
//!         message.reply("got it")?;
//!     }
//!     Ok(())
//! }
//!
//! let server = Endpoint::bind("127.0.0.1:0", SecretKey::generate()?).await?;
//! let (address, key) = (server.local_addr(), server.public_key());
//! tokio::spawn(async move {
//!     while let Some(incoming) = server.accept().await {
//!         let peer = incoming.peer_key();
//!         tokio::spawn(async move {
//!             if let Err(error) = serve(incoming).await {
//!                 eprintln!("{peer:?}: {error}");
//!             }
//!         });
//!     }
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
//! # Which way to send
//!
//! | you have | use | it arrives | order |
//! |---|---|---|---|
//! | bytes without bounds: files, pipes, proxied connections | [a stream](Connection::open_stream) | exactly once | that of the stream; streams do not wait for each other |
//! | a question | [`Channel::request`] or [`request_within`](Channel::request_within) | exactly once, and its reply too | none: nothing waits for a lost one |
//! | messages that stand for themselves | [`Channel::send`] | exactly once | none |
//! | messages that build on those before | [`Channel::send_ordered`] | exactly once | after all sent before it on the channel, one handled at a time |
//! | what is stale when it is late: positions, voice, a game's state | [`Connection::send_datagram`] | perhaps, once at most | none |
//!
//! Ordered messages pay for their order when something is lost: those after it wait. So give each independent sequence a
//! channel of its own, and send unordered whatever does not need the order. One ordered message after many unordered ones
//! is delivered when all of them were, which makes a good "that was all":
//!
//! ```
//! # async fn example(connection: zssp::Connection, rows: Vec<String>) -> Result<(), Box<dyn std::error::Error>> {
//! let table = connection.channel(3)?;
//! for row in rows {
//!     table.send(row).await?;
//! }
//! table.send_ordered("commit").await?;
//! table.flush().await?;
//! # Ok(()) }
//! ```
//!
//! Streams cost the least per byte and messages the least each: a message is one sealed payload and a place in a window
//! of [`Channel::MAX_MESSAGES`], a stream has two windows of its own, some 20 KiB while it is open.
//!
//! Both ends share one budget of unanswered bytes in each direction, 4 MiB by default. One stream or channel that is not
//! read takes half of it at most, each further one half of what is left, and a quarter is kept for those that have little
//! unanswered: so the others get on. Only where more than a dozen are stuck at a time, the largest messages wait; then keep
//! reading, or give the two ends larger buffers.
//!
//! # What it costs in memory
//!
//! | per | bytes | setting |
//! |---|---|---|
//! | connection | a few KiB, nothing of what follows until it is used | [`Builder::limits`] for their number |
//! | channel used | 35 KiB | [`Builder::channels`] |
//! | open stream | 20 KiB | 256 of each side |
//! | sent and not answered | up to 4 MiB, half of it on one channel or stream | [`Builder::send_buffer`] |
//! | replies given and not taken by the peer | up to 4 MiB, half of it on one channel | [`Builder::send_buffer`] |
//! | received and not read | up to 4 MiB | [`Builder::receive_buffer`] |
//! | replies to what was sent, not yet received | up to 4 MiB, and as much in parts; what they answer counts as sent | [`Builder::receive_buffer`] |
//! | replies to replies, each way | up to 126 of a channel, that is 8 MiB of the largest; see below | [`Builder::channels`] |
//! | datagrams that wait, each way | up to 2 MiB; of large ones that arrived, up to twice as much | [`Builder::datagram_buffer`] |
//! | receive task | 1 MiB; where there are several, up to 3 more | [`Builder::receive_tasks`] |
//! | endpoint | up to 12 MiB in buffers that were used once and will be again | |
//!
//! Replies to replies come on top of the buffers, since an end that had no room for them could not take what makes room.
//! A peer can send them only on channels on which the application replies, and they are held until it receives them there:
//! where it goes on receiving, few are; where it stops for good, 8 MiB for each of those channels is what to reckon with.
//!
//! # What is promised
//! - A message that was accepted for sending arrives exactly once, or the connection ends with an error that says why.
//! - Every buffer is bounded, replies to replies by their number only: where one is full, sending waits. What may be
//!   dropped (datagrams, strangers) is counted.
//! - Futures may be dropped at any time; each says what that means.
//! - Nothing a peer or a stranger sends makes it panic, or take more memory than this table says.
//!
//! # Coming from quinn
//!
//! | quinn | here |
//! |---|---|
//! | `Endpoint::client`, `Endpoint::server` | [`Endpoint::bind`]: every endpoint does both |
//! | certificates and server names | [`PublicKey`]s, known in advance; [`Builder::identity`] for what else there is to say |
//! | `connect(address, name)?.await?` | [`connect(address, key).await?`](Endpoint::connect) |
//! | `connect_with` a `ClientConfig` | [`connect_with`](Endpoint::connect_with) [`ConnectOptions`] |
//! | `Incoming::accept`, `refuse`, `ignore` | [the same](Incoming), when the peer's key is proven; `retry` is done [by itself](Builder::challenging) |
//! | `open_bi`, `accept_bi` | [`open_stream`](Connection::open_stream), [`accept_stream`](Connection::accept_stream) |
//! | `open_uni`, `accept_uni` | the same two: drop the half that is not needed |
//! | a stream per request | [`Channel::request`], which costs one message each way |
//! | `send_datagram_wait`, `send_datagram` | [`send_datagram`](Connection::send_datagram), [`try_send_datagram`](Connection::try_send_datagram) |
//! | `Connection::close` | [`abort`](Connection::abort) |
//! | `TransportConfig` | [`Builder`], for both directions |
//!
//! What behaves otherwise:
//! - [`close`](Connection::close) waits: for what was sent to be answered, and for the peer to know. It is
//!   [`abort`](Connection::abort) that ends at once and loses what is under way. A connection that is merely dropped is
//!   closed, not aborted.
//! - There is one connection per peer, that is per key or per [name](ConnectOptions::name). A second one takes the place of
//!   the first, which ends with [`CloseReason::Replaced`]; so share a clone of the [`Connection`] in place of connecting
//!   again.
//! - The [idle time-out](Builder::idle_timeout) is each side's own and not negotiated. [Keep-alive](Builder::keep_alive) is
//!   on, so that a connection nobody uses stays up as long as the peer is there.
//! - Datagrams may be far larger than what the road carries at once, and are not subject to congestion control: whoever
//!   sends many paces them.
//! - An opened stream is heard of by the peer with its first bytes, as in quinn.
//! - There is no 0-RTT: the first message goes out when the peer has answered.
//!
//! # Other roads than UDP
//! An endpoint can be bound to any [`Link`](link::Link). [`link::memory`] has a network with faults, for tests that run on
//! a paused clock. On Linux, the feature `ethernet` adds raw Ethernet frames, for machines without IP. A program that reads
//! and writes packets on threads of its own hands them over a [`Bridge`](link::Bridge).
//!
//! It runs on a tokio runtime; handshakes, which cost about a millisecond, run on its blocking pool.
#![forbid(unsafe_code)]

mod buffers;
mod clock;
mod config;
pub mod congestion;
mod connection;
mod endpoint;
mod error;
mod event;
pub mod frame;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod key;
pub mod link;
mod stats;
mod sync;
mod turns;
mod wait;

pub use config::{Builder, Overflow};
pub use connection::{Channel, Connection, Message, ReceiveStream, SendStream};
pub use endpoint::{ConnectOptions, Endpoint, Incoming};
pub use error::{
    BindError, CloseReason, ConnectError, ReadError, ReadToEndError, RequestError, SendError,
    TooManyChannels, TrySendError, WriteError,
};
pub use event::EndpointEvent;
pub use frame::StreamId;
pub use key::{KeyError, SecretKey, public_key};
pub use stats::{ConnectionStats, EndpointStats};
pub use zssp_proto::crypto::{P384_PUBLIC_LEN, P384_SECRET_LEN, Secret};
pub use zssp_proto::{
    Challenging, Limits, MemoryStore, OneTimePassword, PeerName, Policy, PublicKey, RatchetStore, Rejection,
    StoreError, Suite,
};
pub use zssp_store::Redb;

pub use bytes::Bytes;

/// Compiles and runs the example of the repository's README.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// The session protocol underneath: providers of cryptography, and what a ratchet store of one's own needs.
pub use zssp_proto as proto;

/// Raw Ethernet frames: how [`link::Ethernet`] is opened, and its addresses.
#[cfg(all(feature = "ethernet", target_os = "linux"))]
pub use zssp_ethernet as ethernet;

/// The durable ratchet store, and what an operator does with it: list, forget and preset peers.
pub use zssp_store as store;
