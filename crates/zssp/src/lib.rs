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
//! In two programs, the one [keeps its key in a file](SecretKey::create_file) and prints the public half, a line of
//! [text](PublicKey#text-form) that is given to the other by a way that both trust; the other reads it:
//!
//! ```
//! # async fn example(endpoint: zssp::Endpoint, args: Vec<String>) -> Result<(), Box<dyn std::error::Error>> {
//! use zssp::PublicKey;
//!
//! let key: PublicKey = args[1].parse()?;
//! let address = tokio::net::lookup_host(&args[2]).await?.next().ok_or("no such host")?;
//! let connection = endpoint.connect(address, key).await?;
//! # Ok(()) }
//! ```
//!
//! A whole program is `examples/node.rs` of the repository: key and ratchets in files, peers by their keys, requests, news
//! pushed in order, connecting again, and an orderly end.
//!
//! The programs above need tokio with its features `rt` or `rt-multi-thread`, and `macros` for `#[tokio::main]`; `node.rs`
//! needs `signal`, `sync` and `time`, too. What its `AsyncReadExt` and `AsyncWriteExt` do with streams takes `io-util`.
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
//! of [`Channel::MAX_MESSAGES`], a stream has two windows of its own, of up to 40 KiB while it is open.
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
//! | connection | 8 KiB, nothing of what follows until it is used; up to 3 KiB more while payloads come from addresses that have yet to prove to be the peer's | [`Builder::limits`] for their number |
//! | channel used | 4 KiB, up to 68 KiB once a hundred messages were under way each way at a time | [`Builder::channels`] |
//! | open stream | 3 KiB, up to 40 KiB with all the chunks that may be under way | 256 of each side |
//! | sent and not answered | up to 4 MiB, half of it on one channel or stream | [`Builder::send_buffer`] |
//! | replies given and not taken by the peer | up to 4 MiB, half of it on one channel | [`Builder::send_buffer`] |
//! | received and not read | up to 4 MiB | [`Builder::receive_buffer`] |
//! | replies to what was sent, not yet received | up to 4 MiB, and as much in parts; what they answer counts as sent | [`Builder::receive_buffer`] |
//! | replies to replies, each way | up to 126 of a channel, that is 8 MiB of the largest; see below | [`Builder::channels`] |
//! | datagrams that wait, each way | up to 2 MiB | [`Builder::datagram_buffer`] |
//! | task that sends, while it does | 244 KiB; a connection has one, and up to `send_tasks` while it has more to send than fits a round. Where the link is blocked, each connection that has something to send holds that | [`Builder::send_tasks`] |
//! | receive task | 1 MiB; where there are several, up to 3 more | [`Builder::receive_tasks`] |
//! | endpoint | 2 MiB, and up to 12 MiB in buffers that were used once and will be again; where many connections send very small datagrams in bulk, up to 28 MiB | |
//!
//! What arrives in payloads of 4 KiB and more stays in the buffers that these were opened in, where it fills half of them: so
//! what was received may take up to twice its bytes, for as long as the application keeps it.
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
//! Compared with quinn 0.11. What is not in these tables has the same name and does the same: `accept` and `refuse`,
//! `closed` and `close_reason`, `remote_address`, `set_priority`, `finish`, `reset` and `stop`, `read_to_end`, `wait_idle`.
//!
//! | quinn | here |
//! |---|---|
//! | `Endpoint::client`, `Endpoint::server` | [`Endpoint::bind`]: every endpoint does both |
//! | `Endpoint::new` with a socket, `new_with_abstract_socket` | [`Builder::bind_link`] with [`link::Udp::from_std`], or another [`Link`](link::Link) |
//! | certificates and server names | [`PublicKey`]s, known in advance and passed on as [text](PublicKey#text-form); [`Builder::identity`] for what else there is to say |
//! | `connect(address, name)?.await?` | [`connect(address, key).await?`](Endpoint::connect) |
//! | `connect_with` a `ClientConfig` | [`connect_with`](Endpoint::connect_with) [`ConnectOptions`] |
//! | `set_default_client_config`, `set_server_config` | the [`Builder`], before binding |
//! | `Incoming`, before the handshake; `incoming.await` | [`Incoming`], when the peer's key is proven; [`incoming.accept().await`](Incoming::accept) |
//! | `Incoming::retry`, `remote_address_validated` | done [by itself](Builder::challenging), under load |
//! | `Endpoint::open_connections` | [`EndpointStats::connections`] |
//! | `Endpoint::rebind` | a socket bound to `0.0.0.0` or `[::]` stays when the machine's addresses change, and peers follow it to the new one; where the socket itself has to change, a [`Link`](link::Link) of your own |
//! | `peer_identity`, `handshake_data`, `stable_id` | [`Connection::peer_key`]; [`Incoming::identity`] |
//! | `Connection::rtt`, `congestion_state`, path statistics | [`Connection::stats`] |
//! | `force_key_update` | [`Connection::rekey`] |
//! | `Connection::close` | [`abort`](Connection::abort); [`close`](Connection::close) waits |
//! | `export_keying_material` | nothing: send a random secret over the connection |
//! | `into_0rtt` | nothing: the first message goes out when the peer has answered |
//!
//! | quinn | here |
//! |---|---|
//! | `open_bi`, `accept_bi` | [`open_stream`](Connection::open_stream), [`accept_stream`](Connection::accept_stream) |
//! | `open_uni`, `accept_uni` | the same two: drop the half that is not needed |
//! | `RecvStream` | [`ReceiveStream`] |
//! | a stream per request | [`Channel::request`], which costs one message each way |
//! | `write`, `write_all` | those of tokio's `AsyncWriteExt`; [`write_chunk`](SendStream::write_chunk) does not copy |
//! | `read`, `read_exact` | those of tokio's `AsyncReadExt`, which read 0 bytes at the end where quinn has `None` |
//! | `read_chunk(limit, ordered)` | [`read_chunk()`](ReceiveStream::read_chunk): in order, as large as it came |
//! | `received_reset` | read on: [`ReadError::Reset`] |
//! | `stopped`: `Ok(None)` when everything has arrived, `Ok(Some(code))` | [`stopped`](SendStream::stopped): `Ok(())` when the peer's application has *read* everything, `Err(Stopped(code))` |
//! | `send_datagram_wait` | [`send_datagram`](Connection::send_datagram) |
//! | `datagram_send_buffer_space` | [`try_send_datagram`](Connection::try_send_datagram) finds out |
//! | `send_datagram`, which drops the oldest when there is no room | [`try_send_datagram`](Connection::try_send_datagram), which says [`Full`](TrySendError::Full) |
//! | `max_datagram_size`, one UDP datagram, or `None` | [`max_datagram_size`](Connection::max_datagram_size), always the same 48 of them; what [`ConnectionStats::mtu`] says less 33 goes in one |
//! | `VarInt` codes | `u32` |
//!
//! | quinn | here |
//! |---|---|
//! | `ConnectionError::ApplicationClosed` | [`CloseReason::Peer`] |
//! | `LocallyClosed` | [`CloseReason::Local`] after a close, [`Aborted`](CloseReason::Aborted) after an abort |
//! | `TransportError`, `ConnectionClosed` | [`CloseReason::Protocol`] where the peer is wrong; [`Peer`](CloseReason::Peer) with [`PROTOCOL_VIOLATION`](frame::PROTOCOL_VIOLATION) where this side is |
//! | `Reset`, of a peer that was started anew | [`CloseReason::TimedOut`], or [`Replaced`](CloseReason::Replaced) when it connects again before that |
//! | `ClosedStream` | [`WriteError::Finished`], [`WriteError::Reset`], [`ReadError::Stopped`] |
//! | `SendDatagramError` | [`SendError`] |
//!
//! | `TransportConfig` and `ServerConfig` | [`Builder`], for both directions |
//! |---|---|
//! | `max_idle_timeout`, `keep_alive_interval` | [`idle_timeout`](Builder::idle_timeout), [`keep_alive`](Builder::keep_alive) |
//! | `send_window`; `receive_window`, `stream_receive_window` | [`send_buffer`](Builder::send_buffer); [`receive_buffer`](Builder::receive_buffer) |
//! | `initial_mtu`, `min_mtu`; `mtu_discovery_config` | [`mtu`](Builder::mtu); [`max_mtu`](Builder::max_mtu) |
//! | `datagram_send_buffer_size`, `datagram_receive_buffer_size` | [`datagram_buffer`](Builder::datagram_buffer) |
//! | `congestion_controller_factory` | [`congestion`](Builder::congestion) |
//! | `max_concurrent_bidi_streams` | no setting: 256 of each side |
//! | `max_incoming` | [`incoming_queue`](Builder::incoming_queue), [`handshakes`](Builder::handshakes), [`limits`](Builder::limits) |
//! | `migration` | always |
//!
//! What behaves otherwise:
//! - [`close`](Connection::close) waits: for what was sent to be answered, and for the peer to know. It is
//!   [`abort`](Connection::abort) that ends at once and loses what is under way. A connection that is merely dropped is
//!   closed, not aborted; [`Endpoint::close`] closes, too.
//! - There is one connection per peer, that is per key or per [name](ConnectOptions::name). A second one takes the place of
//!   the first, which ends with [`CloseReason::Replaced`]; so share a clone of the [`Connection`] in place of connecting
//!   again.
//! - The [idle time-out](Builder::idle_timeout) is each side's own and not negotiated. [Keep-alive](Builder::keep_alive) is
//!   on, so that a connection nobody uses stays up as long as the peer is there.
//! - Datagrams may be far larger than what the road carries at once, and are not subject to congestion control: whoever
//!   sends many paces them.
//! - An endpoint that never calls [`accept`](Endpoint::accept) lets nobody in, and does not tell those who try.
//!
//! What is as in quinn, and worth remembering:
//! - An opened stream is heard of by the peer with its first bytes.
//! - A dropped [`SendStream`] is finished. A task that fails half way must [reset](SendStream::reset) it, or the peer takes
//!   what it has for all there is.
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
pub use key::{KeyError, KeyFileError, SecretKey, default_provider, public_key};
pub use stats::{ConnectionStats, EndpointStats};
pub use zssp_proto::crypto::{P384_PUBLIC_LEN, P384_SECRET_LEN, Secret};
pub use zssp_proto::{
    Challenging, Limits, MemoryStore, OneTimePassword, PeerName, Policy, PublicKey, PublicKeyError,
    RatchetStore, Rejection, SecretKeyError, StoreError, Suite,
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
