//! The endpoint: one socket, many connections.

mod book;
mod desks;
mod handshakes;
mod incoming;
mod options;
mod queue;
mod receive;
mod table;

use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

use tokio::net::ToSocketAddrs;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot, watch};
use zssp_proto::{Context, OpenError, PublicKey, RatchetStore, SessionId};

use book::Book;
pub(crate) use desks::{Desk, Desks, SEND_BATCH};
pub use incoming::Incoming;
pub use options::ConnectOptions;
use queue::Queue;
use table::Table;

use crate::buffers::Buffers;
use crate::clock;
use crate::config::{Builder, Config};
use crate::connection::{self, Connection};
use crate::error::{BindError, ConnectError};
use crate::key::SecretKey;
use crate::link::Link;
use crate::stats::{Counters, EndpointStats};
use crate::sync::{RankedMutex, rank};
use crate::turns::Line;
use crate::wait::{to_the_back, until};

/// A UDP socket that connects to peers and is connected to, known by its key.
///
/// Clones are handles of the same endpoint. When the last of them is dropped, nobody new gets in; connections that
/// are up live on, and the socket closes with the last of them.
///
/// It runs on the tokio runtime in which it was bound, whichever its handles are used in. With that runtime it ends: it is
/// closed then, and its connections with [`CloseReason::EndpointClosed`](crate::CloseReason::EndpointClosed).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use zssp::{Endpoint, SecretKey};
///
/// let server = Endpoint::bind("127.0.0.1:0", SecretKey::generate()?).await?;
/// let (address, key) = (server.local_addr(), server.public_key());
/// tokio::spawn(async move {
///     let incoming = server.accept().await.expect("open");
///     let connection = incoming.accept().await.expect("accepted");
///     let message = connection.channel(0).expect("the first").receive().await.expect("a message");
///     message.reply("hello yourself").expect("replied");
///     connection.closed().await;
/// });
///
/// let client = Endpoint::bind("127.0.0.1:0", SecretKey::generate()?).await?;
/// let connection = client.connect(address, key).await?;
/// assert_eq!(connection.channel(0)?.request("hello").await?, "hello yourself");
/// connection.close(0, b"done").await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Endpoint(Arc<Owner>);

/// What the application holds; tasks hold [`Shared`] itself.
struct Owner(Arc<Shared>);

/// A task's hold on its endpoint: after a close, [`Endpoint::wait_idle`] waits until there is none.
///
/// Fields are let go of from the first to the last, so once that is known the endpoint is free.
pub(crate) struct Hold {
    endpoint: Arc<Shared>,
    stopped: watch::Receiver<bool>,
}

impl Deref for Hold {
    type Target = Arc<Shared>;

    fn deref(&self) -> &Arc<Shared> {
        &self.endpoint
    }
}

/// An endpoint, seen from inside.
pub(crate) struct Shared {
    public_key: PublicKey,
    pub(crate) config: Config,
    pub(crate) link: Arc<dyn Link>,
    pub(crate) counters: Counters,
    pub(crate) desks: Desks,
    pub(crate) buffers: Arc<Buffers>,
    context: Context,
    store: Arc<dyn RatchetStore>,
    table: Table,
    book: RankedMutex<{ rank::ENDPOINT }, Book>,
    /// Held by the task that reads from the link; whether the batch before is delivered.
    reading: tokio::sync::Mutex<Line>,
    /// Wakes one who waits for a peer.
    arrivals: Notify,
    /// Wakes all who wait for the last connection to go.
    idle: Notify,
    /// Wakes the task that watches the context's deadlines.
    timer: Notify,
    /// Steps of handshakes that wait until they may be computed. Closed when the endpoint stops.
    queue: Arc<Queue>,
    /// Told to the endpoint's tasks; each has a [`Hold`], so this knows when the last is gone.
    stop: watch::Sender<bool>,
    /// Where tasks run, whichever thread starts them.
    pub(crate) runtime: Handle,
}

impl Endpoint {
    /// An endpoint with the usual settings: see [`Builder::bind`] for `address`.
    ///
    /// # Errors
    /// See [`BindError`].
    ///
    /// # Panics
    /// Outside of a tokio runtime with its IO and time drivers enabled.
    ///
    /// # Cancel safety
    /// Dropped before it resolves, nothing is bound.
    pub async fn bind(address: impl ToSocketAddrs, key: SecretKey) -> Result<Self, BindError> {
        Self::builder(key).bind(address).await
    }

    /// Settings to be changed before binding.
    pub fn builder(key: SecretKey) -> Builder {
        Builder::new(key)
    }

    pub(crate) fn start(
        public_key: PublicKey,
        context: Context,
        store: Arc<dyn RatchetStore>,
        link: Arc<dyn Link>,
        config: Config,
    ) -> Self {
        let shared = Arc::new(Shared {
            public_key,
            link,
            counters: Counters::default(),
            buffers: Arc::new(Buffers::default()),
            desks: Desks::new(config.connection_settings().max_payload),
            context,
            store,
            table: Table::default(),
            book: RankedMutex::default(),
            reading: tokio::sync::Mutex::default(),
            arrivals: Notify::new(),
            idle: Notify::new(),
            timer: Notify::new(),
            queue: Arc::new(Queue::new(config.workers, config.handshake_queue)),
            stop: watch::Sender::new(false),
            runtime: Handle::current(),
            config,
        });
        for _ in 0..shared.config.receive_tasks {
            shared.runtime.spawn(receive::receive(shared.hold()));
        }
        shared.runtime.spawn(handshakes::watch_deadlines(shared.hold()));
        Self(Arc::new(Owner(shared)))
    }

    /// Where the socket is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared().link.local_addr()
    }

    /// The key by which peers know this endpoint.
    pub fn public_key(&self) -> PublicKey {
        self.shared().public_key
    }

    /// What happened so far, in numbers.
    pub fn stats(&self) -> EndpointStats {
        let shared = self.shared();
        shared.counters.snapshot(shared.connections(), shared.context.stats())
    }

    /// Connects to the owner of `peer_key` at `address`. Nobody else can answer: only the owner of that key can read
    /// even the first packet. A host's name is looked up before, by [`tokio::net::lookup_host`] for example.
    ///
    /// There is one connection per peer: the new one takes the place of one that is up, which ends with
    /// [`CloseReason::Replaced`](crate::CloseReason::Replaced) on both sides. So keep a clone of the
    /// [`Connection`] and connect again only when it has ended.
    ///
    /// # Errors
    /// See [`ConnectError`].
    ///
    /// # Cancel safety
    /// Dropped before it resolves, the attempt is given up; a connection that came about in that moment is closed.
    pub async fn connect(
        &self,
        address: SocketAddr,
        peer_key: PublicKey,
    ) -> Result<Connection, ConnectError> {
        self.connect_with(address, peer_key, ConnectOptions::new()).await
    }

    /// [`connect`](Self::connect)s with settings of its own.
    ///
    /// # Errors
    /// See [`ConnectError`].
    ///
    /// # Cancel safety
    /// As [`connect`](Self::connect).
    pub async fn connect_with(
        &self,
        address: SocketAddr,
        peer_key: PublicKey,
        options: ConnectOptions,
    ) -> Result<Connection, ConnectError> {
        let shared = self.shared();
        if !shared.link.reaches(address) {
            return Err(ConnectError::AddressFamily(address));
        }
        let open = options.open((address, peer_key), &shared.config);
        let (done, outcome) = oneshot::channel();
        let (id, handshake) = {
            // One guard from counting to noting down, so that the limit holds whoever else connects.
            let mut book = shared.book.lock();
            if book.is_closed() {
                return Err(ConnectError::EndpointClosed);
            }
            if book.attempts() >= shared.config.attempts {
                return Err(ConnectError::TooManyAttempts);
            }
            let opened = shared.context.open(clock::now(), open).map_err(|error| match error {
                OpenError::AlreadyOpening { .. } => ConnectError::AlreadyConnecting,
                OpenError::TooManySessions => ConnectError::TooManySessions,
                other => ConnectError::Local(other.to_string().into()),
            })?;
            book.begin(opened.0, done);
            opened
        };
        let attempt = GiveUp { shared, id };
        // Should it fail, it is tried again; what has failed last is what the attempt ends with.
        drop(shared.submit(handshake).await);
        let outcome = outcome.await.unwrap_or(Err(ConnectError::EndpointClosed));
        drop(attempt);
        outcome
    }

    /// The next peer that has proven its key; `None` once the endpoint is closed.
    ///
    /// # Cancel safety
    /// Dropped before it resolves, nobody was taken from the queue.
    pub async fn accept(&self) -> Option<Incoming> {
        let shared = self.shared();
        let peer = until(&shared.arrivals, || {
            let (next, more, closed) = {
                let mut book = shared.book.lock();
                (book.next_incoming(), book.has_incoming(), book.is_closed())
            };
            if more {
                shared.arrivals.notify_one();
            }
            next.map(Some).or(closed.then_some(None))
        });
        Some(Incoming::new(peer.await?, shared.clone()))
    }

    /// Closes every connection as [`Connection::close`] does, and takes nobody new: attempts under way and peers that
    /// wait are given up. Returns at once; [`wait_idle`](Self::wait_idle) waits for the end.
    pub fn close(&self, code: u32, reason: &[u8]) {
        let shared = self.shared();
        shared.shut_door();
        for connection in shared.table.all() {
            connection.close(code, reason);
        }
    }

    /// Waits until there is no connection any more. Call it after [`close`](Self::close) and before the process ends, so
    /// that what was promised still goes out and peers are told. After a close nothing of the endpoint runs any more then:
    /// once the handles of it and of its connections are dropped, and each [`Incoming`] and whatever accepts one, its port
    /// and its store are free. Without a close it resolves at the first moment without connections; attempts under way do
    /// not count.
    ///
    /// # Cancel safety
    /// Cancel safe: it only waits.
    pub async fn wait_idle(&self) {
        let shared = self.shared();
        until(&shared.idle, || (shared.connections() == 0).then_some(())).await;
        if shared.book.lock().is_closed() {
            shared.stop.closed().await;
        }
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.0.0
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.shut_door();
    }
}

impl Shared {
    /// Connections that are not over.
    fn connections(&self) -> usize {
        self.book.lock().connections()
    }

    /// Lets nobody in any more, and stops everything when nobody is in, or has yet to be told that it is refused.
    fn shut_door(&self) {
        let ((attempts, incoming), is_over) = {
            let mut book = self.book.lock();
            (book.close(), book.is_over())
        };
        for (id, attempt) in attempts {
            self.context.close(id);
            let _ = attempt.done.send(Err(ConnectError::EndpointClosed));
        }
        drop(incoming);
        self.arrivals.notify_waiters();
        if is_over {
            self.halt();
        }
    }

    /// A connection is over.
    pub(crate) fn remove(&self, connection: &connection::Shared) {
        self.context.close(connection.session.id());
        self.table.remove(connection);
        let (was_last, is_over) = {
            let mut book = self.book.lock();
            (book.leave(), book.is_over())
        };
        if was_last {
            self.idle.notify_waiters();
        }
        if is_over {
            self.halt();
        }
    }

    /// For a task of the endpoint's.
    pub(crate) fn hold(self: &Arc<Self>) -> Hold {
        Hold { endpoint: self.clone(), stopped: self.stop.subscribe() }
    }

    /// Before a long computation: has the task that this one has just woken or begun run meanwhile. A thread of tokio's
    /// gives the last of those to no other thread, so it is this task that goes behind, where others may take it.
    pub(crate) async fn let_others_begin(&self) {
        if self.runtime.metrics().num_workers() > 1 {
            to_the_back().await;
        }
    }

    /// Ends the endpoint's tasks.
    fn halt(&self) {
        self.stop.send_replace(true);
        self.queue.close();
        self.timer.notify_one();
    }
}

/// Gives up an attempt when whoever waited for it is gone.
struct GiveUp<'a> {
    shared: &'a Arc<Shared>,
    id: SessionId,
}

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        let waiting = self.shared.book.lock().finish(self.id);
        if waiting.is_some() {
            self.shared.context.close(self.id);
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.shared(), f)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("local_addr", &self.link.local_addr())
            .field("public_key", &self.public_key)
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}
