//! The ZeroTier Secure Sessions Protocol as a library without sockets, clocks, threads or disk.
//!
//! Two peers who know each other's (or only the responder's) static key open a session: forward secret, post-quantum
//! by ML-KEM-1024 beside P-384, bound to what earlier sessions left behind. Then any number of threads seal and open
//! packets of that one session at once, through `&self`, without a lock and without allocating.
//!
//! # The tour
//! - A [`Context`] holds one [`StaticKey`] and all its sessions. Datagrams go in through [`Context::receive`], and what
//!   comes out is a payload, or nothing, or a [`Handshake`].
//! - A [`Handshake`] is work as a value: a millisecond of public-key operations and a write to the [`RatchetStore`].
//!   The packet path hands it back and never does it; run it on a bounded pool.
//! - What running it leads to is in an [`Outbox`]: datagrams to send, and [`Event`]s. [`Event::Authorize`] asks whether
//!   a peer is welcome, and takes the answer whenever it comes. [`Event::Established`] brings the [`Session`].
//! - [`Session::seal`] turns a payload into datagrams, laid out so that one segmented send takes them.
//! - Time is an argument. [`Context::next_deadline`] says when to call [`Context::expired`].
//!
//! ```
//! # #[cfg(feature = "aws-lc")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::collections::VecDeque;
//! use std::{sync::Arc, time::Instant};
//! use zssp_proto::crypto::AwsLc;
//! use zssp_proto::{
//!     Address, Context, Event, Handshake, LinkAddress, MemoryStore, Open, Outbox, Received, Scratch, Session, StaticKey,
//! };
//!
//! /// A peer, its half of the network, and what it knows.
//! struct Peer { context: Context, scratch: Scratch, store: MemoryStore, session: Option<Session> }
//!
//! impl Peer {
//!     fn new() -> Result<Self, Box<dyn std::error::Error>> {
//!         let provider = Arc::new(AwsLc);
//!         let key = StaticKey::generate(&*provider)?;
//!         let context = Context::builder(key, provider).build()?;
//!         Ok(Self { context, scratch: Scratch::new(), store: MemoryStore::new(), session: None })
//!     }
//!
//!     /// Runs handshake work and returns the datagrams to send.
//!     fn run(&mut self, handshake: Handshake) -> Vec<Vec<u8>> {
//!         let mut outbox = Outbox::default();
//!         if let Err(fault) = handshake.run(Instant::now(), &self.store, &mut outbox) {
//!             println!("dropped: {fault}");
//!         }
//!         let mut datagrams = Vec::new();
//!         for event in outbox.events.drain(..) {
//!             match event {
//!                 Event::Authorize(peer) => {
//!                     let name = peer.peer_key();              // known by its key
//!                     datagrams.extend(self.run(peer.accept(name)));
//!                 }
//!                 Event::Established { session, .. } => self.session = Some(session),
//!                 other => println!("{other:?}"),
//!             }
//!         }
//!         datagrams.extend(outbox.transmits.iter().flat_map(|t| t.datagrams().map(<[u8]>::to_vec)));
//!         datagrams
//!     }
//! }
//!
//! let (mut alice, mut bob) = (Peer::new()?, Peer::new()?);
//! let address = Address::Link(LinkAddress::new(b"a wire between the two").ok_or("too long")?);
//! let (_id, hello) = alice.context.open(Instant::now(), Open::to(bob.context.public_key(), address))?;
//!
//! // What one sends, the other receives, until nobody has anything to say.
//! let mut wire = VecDeque::from(alice.run(hello));
//! let (mut receiver, mut sender) = (&mut bob, &mut alice);
//! while !wire.is_empty() {
//!     let mut answers = Vec::new();
//!     for mut datagram in wire.drain(..) {
//!         let Peer { context, scratch, .. } = &mut *receiver;
//!         let received = context.receive(Instant::now(), address, &mut datagram, scratch);
//!         if let Ok(Received::Handshake(handshake)) = received {
//!             answers.extend(receiver.run(handshake));
//!         }
//!     }
//!     wire.extend(answers);
//!     std::mem::swap(&mut receiver, &mut sender);
//! }
//!
//! let session = alice.session.ok_or("no session")?;
//! let mut buffer = vec![0; Session::sealed_len(5, 1400)?];
//! let sealed = session.seal(b"hello", 1400, &mut buffer)?;
//! for datagram in sealed.datagrams(&buffer) {
//!     let mut datagram = datagram.to_vec();
//!     match bob.context.receive(Instant::now(), address, &mut datagram, &mut bob.scratch)? {
//!         Received::Payload { bytes, .. } => assert_eq!(bytes, b"hello"),
//!         other => panic!("{other:?}"),
//!     }
//! }
//! # Ok(()) }
//! # #[cfg(not(feature = "aws-lc"))]
//! # fn main() {}
//! ```
//!
//! # On threads of one's own
//!
//! | threads | what they do |
//! |---|---|
//! | receiving, any number | [`Context::receive`] with a [`Scratch`] each, and [`Context::flush`] when there is nothing more to read |
//! | for handshakes, one or a few | [`Handshake::run`] of what comes out of a bounded queue, and of what [`Context::expired`] gives once [`Context::next_deadline`] has come, which each run may bring nearer |
//! | sending, any number | [`Session::seal`] of one and the same session, into a buffer each |
//!
//! What must arrive, in order or not, goes through a protocol on top, such as that of the crate `seqex`, whose handles serve
//! threads and tasks alike. Its state belongs to *one* session, so give it no payload that names another. A peer that was
//! started anew opens another session, which takes the place of the first ([`EndReason::Replaced`]), and counts from the
//! beginning: begin anew with it, or what it sends is taken for what has come before, and acknowledged unseen. A payload
//! that comes before its [`Event::Established`] may be dropped then: it is sent again.
//!
//! A whole program is `examples/packet-pipeline` of the repository, and `docs/packet-path.md` walks through it.
//!
//! # Security
//! Peers prove their static keys; who may have a session is the application's decision. Payloads are authentic,
//! confidential and delivered at most once; they may be lost, and arrive in any order. Sizes, times and addresses are
//! visible to the network. Nobody has audited this implementation.
//!
//! "PROTOCOL" in these pages is `docs/protocol.md` of the repository.
#![forbid(unsafe_code)]

mod address;
mod base32;
mod context;
pub mod crypto;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod identity;
mod noise;
mod path;
mod policy;
mod ratchet;
mod session;
mod suite;
mod sync;
mod timers;
pub mod wire;
mod zcp;
mod zfp;
mod zke;

pub use address::{Address, LinkAddress};
pub use context::{
    Authorize, BuildError, Context, ContextBuilder, Datagram, EndReason, Event, Handshake, Limits, Open,
    OpenError, Origin, Outbox, Received, Scratch, Stats, Transmit,
};
pub use error::Fault;
pub use identity::{PublicKey, PublicKeyError, SecretKeyError, StaticKey};
pub use path::Path;
pub use policy::{Downgrade, Hellos, Policy, Rejection};
pub use ratchet::{
    Fingerprint, MemoryStore, OneTimePassword, PasswordError, PeerName, RatchetPair, RatchetState,
    RatchetStore, StoreError, Swap,
};
pub use session::{Incarnation, SealError, Sealed, Session, SessionId};
pub use suite::Suite;
pub use zcp::Challenging;
pub use zke::keys::Role;
