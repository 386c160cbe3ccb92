//! A connection as applications see it.

mod acks;
mod bundling;
mod channel;
mod close;
mod datagrams;
mod driver;
mod flight;
mod life;
mod loss;
mod mtu;
mod outgoing;
mod pacer;
mod paths;
mod rtt;
mod sending;
mod shared;
mod state;
mod stream;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use zssp_proto::{PublicKey, Suite};

pub use channel::{Channel, Message};
pub(crate) use datagrams::Datagrams;
pub(crate) use driver::drive;
pub(crate) use outgoing::Outgoing;
pub(crate) use shared::{Inbound, Shared};
pub(crate) use state::Messages;
pub(crate) use state::{CREDIT, Settings, capacity};
pub use stream::{ReceiveStream, SendStream};

use crate::error::{CloseReason, SendError, TooManyChannels, TrySendError};
use crate::frame::DATAGRAM_OVERHEAD;
use crate::stats::ConnectionStats;
use crate::wait::until;

/// A secure connection with one peer, whose key is proven.
///
/// Clones are handles of the same connection, and everything that belongs to it holds one: its [`Channel`]s, the halves of
/// its streams, and each [`Message`] that is not answered yet. They keep it open. When the last is dropped, the connection
/// is closed as by [`close`](Self::close) with code 0: in the background, after what was accepted for sending has been
/// answered. So a task may be given a message alone, and drops the connection with it.
///
/// ```
/// # async fn example(connection: zssp::Connection) -> Result<(), Box<dyn std::error::Error>> {
/// let channel = connection.channel(0)?;
/// channel.send("reliable").await?;
/// let reply = channel.request("what time is it?").await?;
/// let (mut send, mut receive) = connection.open_stream().await?;
/// tokio::io::AsyncWriteExt::write_all(&mut send, b"a stream of bytes").await?;
/// send.finish()?;
/// connection.send_datagram("perhaps").await?;
/// println!("{} says {reply:?}", connection.remote_address());
/// connection.close(0, b"done").await;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Connection(Arc<Handle>);

/// What the application holds; the driver and the endpoint hold [`Shared`] itself.
#[derive(Debug)]
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close(0, b"");
    }
}

impl Connection {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(Arc::new(Handle(shared)))
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.0.0
    }

    /// The peer's static key, proven by the handshake.
    pub fn peer_key(&self) -> PublicKey {
        self.shared().session.peer_key()
    }

    /// Where the peer's packets come from and ours go to. It changes when the peer's address does and the new one has
    /// proven to be the peer's.
    pub fn remote_address(&self) -> SocketAddr {
        self.shared().look(|state| state.path().remote)
    }

    /// The cryptography in use.
    pub fn suite(&self) -> Suite {
        self.shared().session.suite()
    }

    /// Whether the two had to begin without the ratchet that this side remembers, which the policy allowed: the peer's
    /// store was lost or restored from an older copy, or this side's was, or somebody pretends to be the peer who has
    /// stolen its secret key (PROTOCOL 5.5). It stays so for the whole connection, while the next one begins from what the
    /// two have in common by now, also if it is the peer that comes again since it did not hear that it was accepted. So
    /// find out about the peer when it is said, or have the policy refuse: a thief who was let in once is no longer told
    /// apart.
    ///
    /// ```
    /// # use zssp::{ConnectError, Connection, Endpoint, PublicKey};
    /// # use std::net::SocketAddr;
    /// /// For what must not fall into the hands of a thief of keys.
    /// async fn connect(endpoint: &Endpoint, at: SocketAddr, peer: PublicKey) -> Result<Connection, ConnectError> {
    ///     let connection = endpoint.connect(at, peer).await?;
    ///     if connection.is_downgraded() {
    ///         eprintln!("is {peer:?} who it was? Ask its operator by another way");
    ///     }
    ///     Ok(connection)
    /// }
    /// ```
    pub fn is_downgraded(&self) -> bool {
        self.shared().session.is_downgraded()
    }

    /// What happened so far, in numbers.
    pub fn stats(&self) -> ConnectionStats {
        let shared = self.shared();
        let stats = shared.look(|state| state.stats());
        let (datagrams, bytes) = shared.datagrams.sent_so_far();
        ConnectionStats {
            payloads_sent: stats.payloads_sent + datagrams,
            bytes_sent: stats.bytes_sent + bytes,
            datagrams_dropped: shared.datagrams.dropped_so_far(),
            ..stats
        }
    }

    /// The reliable channel of that number; every call with it gives a handle of the same. Both ends just use it:
    /// nothing goes over the wire before the first message, and nothing is allocated for those not used. What is allocated
    /// for one stays until the connection ends.
    ///
    /// # Errors
    /// [`TooManyChannels`] when [`Builder::channels`](crate::Builder::channels) others are in use.
    pub fn channel(&self, id: u16) -> Result<Channel, TooManyChannels> {
        let handles = self.shared().look(|state| state.channel(id))?;
        Ok(Channel::new(self.clone(), id, handles))
    }

    /// Opens a byte stream, for both directions. The peer [accepts](Self::accept_stream) it when something was written,
    /// or the stream finished or reset. Waits while as many streams of this side are open as may be, 256, or the peer has yet
    /// to hear of very many that were given up.
    ///
    /// # Errors
    /// Why the connection has ended.
    ///
    /// # Cancel safety
    /// Dropped before it resolves, no stream was opened.
    pub async fn open_stream(&self) -> Result<(SendStream, ReceiveStream), CloseReason> {
        let shared = self.shared();
        let id = until(&shared.openings, || {
            let (id, more) = shared.look(|state| (state.open_stream(), state.may_open_stream()));
            if more {
                shared.openings.notify_one();
            }
            id.transpose()
        })
        .await?;
        Ok(stream::halves(self.clone(), id))
    }

    /// The next byte stream that the peer has opened.
    ///
    /// # Errors
    /// Why the connection has ended.
    ///
    /// # Cancel safety
    /// Dropped before it resolves, no stream was taken.
    pub async fn accept_stream(&self) -> Result<(SendStream, ReceiveStream), CloseReason> {
        let shared = self.shared();
        let id = until(&shared.streams, || {
            let (id, more, ended) =
                shared.look(|state| (state.accept_stream(), state.has_streams(), state.ended().cloned()));
            if more {
                shared.streams.notify_one();
            }
            match ended {
                Some(reason) => Some(Err(reason)),
                None => id.map(Ok),
            }
        });
        Ok(stream::halves(self.clone(), id.await?))
    }

    /// Bytes one datagram may have: 48 fragments of the endpoint's MTU, less what seals it.
    pub fn max_datagram_size(&self) -> usize {
        self.shared().settings.max_payload - DATAGRAM_OVERHEAD
    }

    /// Sends `data` sealed, and once: it may be lost, doubled never, and may be overtaken.
    ///
    /// Resolves when it is queued; waits while the queue is full, which empties as fast as the socket takes it.
    /// Datagrams are not subject to congestion control: whoever sends many over a real network paces them.
    /// One lost fragment loses the whole datagram; up to 33 bytes less than [`ConnectionStats::mtu`] go in one.
    /// Nobody counts those that the network loses: whoever wants to know numbers them, and has the peer tell what came.
    ///
    /// # Errors
    /// See [`SendError`].
    ///
    /// # Cancel safety
    /// Dropped before it resolves, the datagram was not queued.
    pub async fn send_datagram(&self, data: impl Into<Bytes>) -> Result<(), SendError> {
        let data = self.checked(data.into())?;
        let shared = self.shared();
        match shared.datagrams.space.acquire_many(datagram_cost(&data)).await {
            Ok(permit) => permit.forget(),
            Err(_) => return Err(SendError::Closed(closed_reason(shared))),
        }
        self.push_datagram(data)
    }

    /// As [`send_datagram`](Self::send_datagram), but gives up where that would wait.
    ///
    /// # Errors
    /// See [`TrySendError`].
    pub fn try_send_datagram(&self, data: impl Into<Bytes>) -> Result<(), TrySendError> {
        use tokio::sync::TryAcquireError;
        let data = self.checked(data.into())?;
        let shared = self.shared();
        match shared.datagrams.space.try_acquire_many(datagram_cost(&data)) {
            Ok(permit) => permit.forget(),
            Err(TryAcquireError::Closed) => return Err(SendError::Closed(closed_reason(shared)).into()),
            Err(TryAcquireError::NoPermits) => return Err(TrySendError::Full),
        }
        Ok(self.push_datagram(data)?)
    }

    /// The next datagram of the peer.
    ///
    /// Where [`Builder::datagram_buffer`](crate::Builder::datagram_buffer) bytes of them wait, those that wait longest are
    /// dropped for those that come, or as [`Builder::datagram_overflow`](crate::Builder::datagram_overflow) says; either
    /// way they are counted.
    ///
    /// # Errors
    /// Why the connection ended.
    ///
    /// # Cancel safety
    /// Dropped before it resolves, no datagram was taken.
    pub async fn read_datagram(&self) -> Result<Bytes, CloseReason> {
        let shared = self.shared();
        let outcome = until(&shared.datagrams.arrived, || match shared.datagrams.read() {
            Some(datagram) => {
                if shared.datagrams.wait_to_be_read() {
                    shared.datagrams.arrived.notify_one();
                }
                Some(Ok(datagram))
            }
            // What came before the end is in the queue by the time that there is an end.
            None => self.close_reason().map(|reason| shared.datagrams.read().ok_or(reason)),
        });
        outcome.await
    }

    /// As [`read_datagram`](Self::read_datagram), but without waiting: `None` where there is no datagram now.
    ///
    /// # Errors
    /// Why the connection has ended, when no datagram is left.
    pub fn try_read_datagram(&self) -> Result<Option<Bytes>, CloseReason> {
        match self.shared().datagrams.read() {
            Some(datagram) => Ok(Some(datagram)),
            // What came before the end is in the queue by the time that there is an end.
            None => match self.close_reason() {
                Some(reason) => self.shared().datagrams.read().map(Some).ok_or(reason),
                None => Ok(None),
            },
        }
    }

    /// Closes the connection and waits until that is done.
    ///
    /// What was accepted for sending before is still sent, and answered by the peer's application; and each [`Message`] that
    /// this side's application has taken can still be answered. Then the peer is told `code` (for programs) and `reason`
    /// (for people, cut to [`MAX_REASON`](crate::frame::MAX_REASON) bytes) in a sealed payload, repeated until it confirms.
    /// Nothing new is accepted meanwhile. Yields [`CloseReason::Local`] when everything was answered, and otherwise what came
    /// between: the peer closed first, or stopped answering.
    ///
    /// It waits for [`give_up_after`](crate::Builder::give_up_after) at most after the last answer of the peer to what was
    /// sent here, and no longer for messages that are held here and for replies on their way: a peer that asks on does not
    /// put it off, and what it asked last may stay unanswered. So drop or answer the messages of your own task first: they
    /// would be waited for in vain. [`abort`](Self::abort) does not wait.
    ///
    /// # Cancel safety
    /// Closing starts with the first poll, and goes on in the background when this is dropped.
    pub async fn close(&self, code: u32, reason: &[u8]) -> CloseReason {
        self.shared().close(code, reason);
        self.closed().await
    }

    /// Ends the connection at once: what was accepted for sending and is not answered is given up, and so is what the peer
    /// waits for. Where that matters, [`close`](Self::close); this is for a peer that is not worth waiting for, or a close
    /// that takes too long. It is [`CloseReason::Aborted`] from now on; where a close had been answered in full, and only its
    /// confirmation was waited for, it is [`CloseReason::Local`].
    ///
    /// The peer is told `code` and `reason` as by `close`: it sees no difference. That goes on in the background until the
    /// peer confirms, for some round trips at most; [`Endpoint::wait_idle`](crate::Endpoint::wait_idle) waits for it.
    /// Without effect on a connection that has ended.
    ///
    /// ```
    /// # async fn example(connection: zssp::Connection) {
    /// use std::time::Duration;
    /// if tokio::time::timeout(Duration::from_secs(5), connection.close(0, b"done")).await.is_err() {
    ///     connection.abort(1, b"no time left");
    /// }
    /// # }
    /// ```
    pub fn abort(&self, code: u32, reason: &[u8]) {
        self.shared().abort(code, reason);
    }

    /// Agrees with the peer on a new key now; without this it happens once an hour, and after so many packets as one key
    /// may seal. What was sent before can then no longer be read by whoever gets hold of the keys in either memory: for
    /// after a password or a key of the application's own has gone over the connection, for example.
    ///
    /// Resolves when the request has been sent, or waits for the peer to confirm the key before. It is repeated until it is
    /// answered, and everything else goes on meanwhile; where the peer answers everything else but not this within a minute,
    /// the connection [ends](CloseReason::Expired). One that is gone is noticed sooner, by the
    /// [idle time-out](crate::Builder::idle_timeout). Without effect while a key is being agreed on, and on a connection
    /// that has ended.
    ///
    /// # Cancel safety
    /// Dropped before it resolves, the request may or may not be sent.
    pub async fn rekey(&self) {
        let shared = self.shared();
        shared.endpoint.rekey(shared.session.id()).await;
    }

    /// Waits until the connection has ended, and says why.
    ///
    /// # Cancel safety
    /// Cancel safe: it only waits.
    pub async fn closed(&self) -> CloseReason {
        until(&self.shared().ended, || self.close_reason()).await
    }

    /// Why the connection has ended, if it has.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.shared().look(|state| state.ended().cloned())
    }

    fn checked(&self, data: Bytes) -> Result<Bytes, SendError> {
        let (len, max) = (data.len(), self.max_datagram_size());
        if len > max { Err(SendError::TooLarge { len, max }) } else { Ok(data) }
    }

    /// Queues a datagram for which there is room.
    fn push_datagram(&self, data: Bytes) -> Result<(), SendError> {
        let shared = self.shared();
        if shared.datagrams.push(data).is_err() {
            return Err(SendError::Closed(closed_reason(shared)));
        }
        shared.driver.notify_one();
        Ok(())
    }
}

/// The buffer is never smaller than the largest datagram.
fn datagram_cost(data: &Bytes) -> u32 {
    u32::try_from(datagrams::cost(data.len())).unwrap_or(u32::MAX)
}

/// Why a connection whose datagrams have ended has ended.
fn closed_reason(shared: &Shared) -> CloseReason {
    shared.look(|state| state.ended().cloned()).unwrap_or(CloseReason::Local)
}
