//! How an endpoint is set up, and what its limits cost.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::ToSocketAddrs;
use tokio::sync::mpsc;
use zssp_proto::crypto::Provider;
use zssp_proto::{Challenging, Context, Limits, MemoryStore, Open, Policy, RatchetStore, Session, Suite};

use crate::congestion::{Controller, Cubic, Factory};
use crate::connection::{CREDIT, Datagrams, Settings, capacity};
use crate::endpoint::Endpoint;
use crate::error::BindError;
use crate::event::EndpointEvent;
use crate::key::{SecretKey, default_provider};
use crate::link::{Link, MAX_SEND, Udp};
use crate::turns::MAX_TASKS;

/// Messages under way in one direction of a channel. Both ends must agree on it, so it is no setting.
pub(crate) const WINDOW: u32 = 128;

/// Settings of an [`Endpoint`], each with a default that is safe to leave alone.
///
/// ```
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use zssp::{Endpoint, SecretKey};
/// let endpoint = Endpoint::builder(SecretKey::generate()?)
///     .identity("alice@example")
///     .connect_timeout(Duration::from_secs(60))
///     .bind("0.0.0.0:0")
///     .await?;
/// # Ok(()) }
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(example()).unwrap();
/// ```
#[must_use = "nothing is bound until `bind` is called"]
pub struct Builder {
    key: SecretKey,
    store: Arc<dyn RatchetStore>,
    suites: Vec<Suite>,
    limits: Limits,
    policy: Policy,
    challenging: Challenging,
    config: Config,
}

/// What the endpoint keeps of its settings.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) identity: Vec<u8>,
    pub(crate) suite: Suite,
    pub(crate) mtu: usize,
    pub(crate) max_mtu: Option<usize>,
    pub(crate) connect_timeout: Duration,
    pub(crate) give_up_after: Duration,
    pub(crate) send_buffer: usize,
    pub(crate) receive_buffer: usize,
    pub(crate) channels: usize,
    pub(crate) datagram_buffer: usize,
    pub(crate) datagram_overflow: Overflow,
    pub(crate) socket_buffer: usize,
    pub(crate) receive_tasks: usize,
    pub(crate) send_tasks: usize,
    pub(crate) workers: usize,
    pub(crate) handshake_queue: usize,
    pub(crate) incoming_queue: usize,
    pub(crate) attempts: usize,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) keep_alive: Option<Duration>,
    pub(crate) congestion: Factory,
    pub(crate) events: Option<mpsc::Sender<EndpointEvent>>,
}

impl Builder {
    pub(crate) fn new(key: SecretKey) -> Self {
        Self {
            key,
            store: Arc::new(MemoryStore::new()),
            suites: vec![Suite::MlKem1024, Suite::Kyber1024],
            limits: Limits::default(),
            policy: Policy::default(),
            challenging: Challenging::default(),
            config: Config {
                provider: default_provider(),
                identity: Vec::new(),
                suite: Suite::MlKem1024,
                mtu: HANDSHAKE_MTU,
                max_mtu: None,
                connect_timeout: Duration::from_secs(30),
                give_up_after: Duration::from_secs(30),
                send_buffer: 4 << 20,
                receive_buffer: CREDIT,
                channels: 64,
                datagram_buffer: 2 << 20,
                datagram_overflow: Overflow::DropOldest,
                socket_buffer: 4 << 20,
                receive_tasks: 1,
                send_tasks: std::thread::available_parallelism().map_or(1, usize::from).min(4),
                workers: std::thread::available_parallelism().map_or(1, usize::from),
                handshake_queue: 128,
                incoming_queue: 128,
                attempts: 1024,
                idle_timeout: Some(Duration::from_secs(30)),
                keep_alive: Some(Duration::from_secs(10)),
                congestion: Factory(Arc::new(|datagram| Box::new(Cubic::new(datagram)))),
                events: None,
            },
        }
    }

    /// Where ratchet states live. The default, [`MemoryStore`], forgets them when the process ends: then a stolen static
    /// key is not held off by what the two peers went through together before.
    pub fn store(mut self, store: impl RatchetStore + 'static) -> Self {
        self.store = Arc::new(store);
        self
    }

    /// How strictly the ratchet is held to; [`Policy::OPPORTUNISTIC`] by default. [`Policy::PERSISTENT`] needs a store
    /// that survives restarts, such as [`Redb`](crate::Redb).
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// When peers that connect must first prove their address and some work; [`Challenging::Automatic`] by default,
    /// which begins when handshakes come faster than they are computed.
    pub fn challenging(mut self, challenging: Challenging) -> Self {
        self.challenging = challenging;
        self
    }

    /// The cryptographic library; AWS-LC by default.
    pub fn provider(mut self, provider: Arc<dyn Provider>) -> Self {
        self.config.provider = provider;
        self
    }

    /// The suites peers may connect with; [`Suite::MlKem1024`] and [`Suite::Kyber1024`] by default. Connections of our
    /// own use the first.
    pub fn suites(mut self, suites: impl Into<Vec<Suite>>) -> Self {
        self.suites = suites.into();
        self.config.suite = self.suites.first().copied().unwrap_or(Suite::MlKem1024);
        self
    }

    /// Bounds of the memory that sessions, handshakes and strangers take; see [`Limits`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// What this endpoint says about itself to those it connects to, besides its key: up to
    /// [`Open::MAX_IDENTITY_LEN`] bytes, encrypted. Empty by default.
    pub fn identity(mut self, identity: impl Into<Vec<u8>>) -> Self {
        self.config.identity = identity.into();
        self
    }

    /// Bytes of UDP payload that every road to a peer is taken to carry, 1232 by default: IPv6 requires it of all, and so do
    /// tunnels over IPv4.
    ///
    /// It is never doubted: where a road carries less, everything larger than one smaller datagram is lost. What a road
    /// carries beyond it is found out, up to [`max_mtu`](Self::max_mtu). It decides how large messages and datagrams may
    /// be, 48 of these: raise it where both ends know their network, for messages of more than 57 KiB. Up to 65,000 works
    /// over loopback, and jumbo frames carry about 8900.
    pub fn mtu(mut self, mtu: usize) -> Self {
        self.config.mtu = mtu;
        self
    }

    /// Bytes of the largest datagram that is tried, where the road may carry more than [`mtu`](Self::mtu) says; by default
    /// what the link says, which for UDP is what Ethernet carries (1472 over IPv4, 1452 over IPv6). On a network with jumbo
    /// frames, 8972 or 8952 is worth it. What is no more than `mtu` turns the search off.
    ///
    /// Connections that send much ask for it with probes, fall back when the road no longer carries what it did, and try
    /// again every ten minutes; see [`ConnectionStats::mtu`](crate::ConnectionStats::mtu). Where only datagrams are sent,
    /// whose loss nobody tells, the side that sends large ones asks every five seconds whether the road is as it was. The
    /// largest message and the largest datagram follow from `mtu` alone.
    pub fn max_mtu(mut self, max_mtu: usize) -> Self {
        self.config.max_mtu = Some(max_mtu);
        self
    }

    /// How long [`Endpoint::connect`] tries; 30 s by default. A new hello goes out every second, wholly new keys every
    /// ten.
    ///
    /// Where an earlier handshake with the peer was cut off, up to ten seconds pass before a session comes about, until
    /// nothing of it can be under way any more: a program that tries once should try for clearly longer than that.
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.config.connect_timeout = time;
        self
    }

    /// How long a peer may be silent while it owes an answer, until the connection ends with
    /// [`TimedOut`](crate::CloseReason::TimedOut); 30 s by default. A connection on which nothing is under way is silent
    /// by nature, and one where a channel of low priority hears nothing while others are answered is not silent: of both, this
    /// ends none. It is also how long a [`close`](crate::Connection::close) waits for what is not answered.
    ///
    /// The [idle time-out](Self::idle_timeout) counts every silence: for a longer one than that allows, this has no effect.
    pub fn give_up_after(mut self, time: Duration) -> Self {
        self.config.give_up_after = time;
        self
    }

    /// How long a peer may be silent at all, until the connection ends with [`TimedOut`](crate::CloseReason::TimedOut);
    /// 30 s by default, `None` is for ever. A peer that is there but has nothing to say is silent, too: use it with
    /// [`keep_alive`](Self::keep_alive), of less than half of this. Zero is no time at all: every connection ends at once.
    ///
    /// Without it, one who only waits for the peer's messages does not notice that the peer is gone until keys have to be
    /// agreed on again, after about an hour.
    pub fn idle_timeout(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.config.idle_timeout = time.into();
        self
    }

    /// After how long a silence the peer is asked for a sign of life; 10 s by default, `None` is never. It keeps idle
    /// connections from ending by the [idle time-out](Self::idle_timeout), and the translations of routers on the way (NAT)
    /// from forgetting them: many do so after 30 seconds. Only one side needs it; it costs a small datagram each way. Where no
    /// sign comes, the rest of the idle time-out has 32 more such questions.
    pub fn keep_alive(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.config.keep_alive = time.into();
        self
    }

    /// What decides how much a connection may have under way: makes a [`Controller`] for the bytes of a datagram. By
    /// default a [`Cubic`].
    pub fn congestion(mut self, make: impl Fn(usize) -> Box<dyn Controller> + Send + Sync + 'static) -> Self {
        self.config.congestion = Factory(Arc::new(make));
        self
    }

    /// Bytes of messages and streams a connection accepts before they are answered or read; 4 MiB by default, of which one
    /// channel or stream gets half. It bounds the throughput to this much a round trip. More than 4 MiB is used only if the
    /// peer allows it by its [`receive_buffer`](Self::receive_buffer). Replies have a buffer of their own of the same size.
    /// A connection takes this much memory only when the application fills it.
    pub fn send_buffer(mut self, bytes: usize) -> Self {
        self.config.send_buffer = bytes;
        self
    }

    /// Bytes of messages and streams that may have arrived and are not yet answered or read; 4 MiB by default, which is
    /// also the least. Replies to what was sent may take as much again, and their parts, until they are whole, as much once
    /// more. A connection takes this much memory only when the peer sends it and the application does not read.
    pub fn receive_buffer(mut self, bytes: usize) -> Self {
        self.config.receive_buffer = bytes;
        self
    }

    /// Channels a connection may have in use, 64 by default, at about 4 KiB each once used, and up to 68 KiB once a hundred
    /// messages were under way each way at a time. One that was used stays until the connection ends: number a few, and use
    /// them again. A peer that uses more ends the connection.
    pub fn channels(mut self, count: usize) -> Self {
        self.config.channels = count;
        self
    }

    /// Bytes of datagrams that may wait, for the socket and again for the application; 2 MiB each by default.
    pub fn datagram_buffer(mut self, bytes: usize) -> Self {
        self.config.datagram_buffer = bytes;
        self
    }

    /// What is dropped when datagrams come faster than the application reads them; the oldest by default.
    pub fn datagram_overflow(mut self, overflow: Overflow) -> Self {
        self.config.datagram_overflow = overflow;
        self
    }

    /// Bytes of the socket's buffers in the system; 4 MiB each by default, or what the system grants of that (on Linux
    /// `net.core.rmem_max` and `net.core.wmem_max`).
    pub fn socket_buffer(mut self, bytes: usize) -> Self {
        self.config.socket_buffer = bytes;
        self
    }

    /// Tasks that take packets from the socket, 1 by default and 16 at most, each with 1 MiB of buffers. With several, packets of one
    /// connection may be opened on several cores at once; each then has up to 3 MiB more, for what it opens before its
    /// turn.
    pub fn receive_tasks(mut self, count: usize) -> Self {
        self.config.receive_tasks = count;
        self
    }

    /// Tasks that may seal and send for one connection at the same time, by default as many as there are cores but no more
    /// than 4, and 16 at most. They come while more waits than one task sends at a time, and go when nothing does. What they
    /// sealed leaves in the order in which it was chosen, and so that nothing falls behind the replay window, each seals the
    /// fewer packets at a time the more they are.
    pub fn send_tasks(mut self, count: usize) -> Self {
        self.config.send_tasks = count;
        self
    }

    /// Handshakes computed at the same time, by default as many as there are cores, and how many steps of handshakes
    /// may wait for that, 128 by default: so many each of strangers' hellos, of answers within handshakes, and of packets by
    /// which sessions agree on keys, so that none of them takes the places of another. They take turns as well, so that
    /// hellos are computed when nothing else waits, and at the least every fourth time. Steps beyond are dropped and
    /// counted; their senders repeat them.
    ///
    /// Hellos from one IP address (of IPv6: from one /64) may take as many of their places as stay free, and make room when
    /// none is left for another address. Where very many peers connect from one address at once, raise the number.
    pub fn handshakes(mut self, at_once: usize, waiting: usize) -> Self {
        (self.config.workers, self.config.handshake_queue) = (at_once, waiting);
        self
    }

    /// Proven peers that may wait for [`Endpoint::accept`], 128 by default, at about 10 KiB each; from one IP address (of
    /// IPv6: from one /64) as many as places stay free. Those beyond are ignored and counted; they try again.
    pub fn incoming_queue(mut self, count: usize) -> Self {
        self.config.incoming_queue = count;
        self
    }

    /// Attempts to connect that may be under way, 1024 by default.
    pub fn attempts(mut self, count: usize) -> Self {
        self.config.attempts = count;
        self
    }

    /// Where to tell what an operator should hear of, such as peers that have lost their ratchet. Several endpoints may
    /// tell the same. The endpoint never waits: what finds no room is dropped and
    /// [counted](crate::EndpointStats::events_dropped), also when nobody receives any more.
    ///
    /// ```
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use zssp::{Endpoint, EndpointEvent, SecretKey};
    ///
    /// let (events, mut told) = tokio::sync::mpsc::channel(64);
    /// let endpoint = Endpoint::builder(SecretKey::generate()?).events(events).bind("0.0.0.0:0").await?;
    /// tokio::spawn(async move {
    ///     // Ends with the endpoint.
    ///     while let Some(event) = told.recv().await {
    ///         match event {
    ///             EndpointEvent::Downgraded { peer } => eprintln!("{peer:?} has lost its ratchet, or it is a thief"),
    ///             EndpointEvent::StoreFailed { error, .. } => eprintln!("{error}"),
    ///             other => eprintln!("{other:?}"),
    ///         }
    ///     }
    /// });
    /// # drop(endpoint);
    /// # Ok(()) }
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(example()).unwrap();
    /// ```
    pub fn events(mut self, events: mpsc::Sender<EndpointEvent>) -> Self {
        self.config.events = Some(events);
        self
    }

    /// Binds the socket and starts the endpoint. `address` is an IP address with a port, or text of one: `[::]:9993` for
    /// both IPv4 and IPv6, `0.0.0.0:9993` for IPv4 alone; port 0 for any free one. Of a name's addresses, the first that
    /// can be bound is taken.
    ///
    /// # Errors
    /// See [`BindError`].
    ///
    /// # Panics
    /// Outside of a tokio runtime with its IO and time drivers enabled.
    ///
    /// # Cancel safety
    /// Dropped before it resolves, nothing is bound.
    pub async fn bind(self, address: impl ToSocketAddrs) -> Result<Endpoint, BindError> {
        self.config.check()?;
        let addresses = tokio::net::lookup_host(address).await.map_err(BindError::Address)?;
        let mut failure = BindError::Address(io::ErrorKind::NotFound.into());
        for address in addresses {
            match Udp::bind(address, self.config.socket_buffer) {
                Ok(link) => return self.bind_link(link),
                Err(reason) => failure = BindError::Socket { address, reason },
            }
        }
        Err(failure)
    }

    /// Starts the endpoint on a [`Link`] other than a UDP socket: one of your own, or one in
    /// [memory](crate::link::memory) for tests.
    ///
    /// # Errors
    /// [`BindError::Config`].
    ///
    /// # Panics
    /// Outside of a tokio runtime with its time driver enabled.
    pub fn bind_link(self, link: impl Link) -> Result<Endpoint, BindError> {
        let Self { key, store, suites, limits, policy, challenging, config } = self;
        let config = config.bounded(link.mtu(), link.max_datagram())?;
        let context = Context::builder(key.clone().into_static(), config.provider.clone())
            .accept(suites)
            .limits(limits)
            .policy(policy)
            .challenging(challenging)
            .mtu(config.mtu.min(HANDSHAKE_MTU))
            .build()
            .map_err(|error| BindError::Config(error.to_string().into()))?;
        Ok(Endpoint::start(key.public_key(), context, store, Arc::new(link), config))
    }
}

/// The largest datagram of a handshake, and of all else until the road is known: what every IPv6 path carries.
const HANDSHAKE_MTU: usize = 1232;

/// As good as forever, and never too much to add to the time.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

impl Config {
    /// Whether the settings make sense.
    fn check(&self) -> Result<(), BindError> {
        let refuse = |why: String| Err(BindError::Config(why.into()));
        if self.mtu > MAX_SEND {
            return refuse(format!(
                "an MTU of {} is above what a UDP datagram carries, {MAX_SEND}",
                self.mtu
            ));
        }
        if Session::sealed_len(1, self.mtu).is_err() {
            return refuse(format!(
                "an MTU of {} is too small: use {HANDSHAKE_MTU}, which every IPv6 path carries",
                self.mtu
            ));
        }
        if self.identity.len() > Open::MAX_IDENTITY_LEN {
            let (len, max) = (self.identity.len(), Open::MAX_IDENTITY_LEN);
            return refuse(format!("the identity has {len} bytes, at most {max} fit"));
        }
        Ok(())
    }

    /// The settings in their ranges, on a link whose datagrams have `mtu` bytes at most, of which `tried` may be tried.
    fn bounded(mut self, mtu: usize, tried: usize) -> Result<Self, BindError> {
        self.mtu = self.mtu.min(mtu);
        self.max_mtu = Some(self.max_mtu.unwrap_or(tried).min(mtu).min(MAX_SEND));
        self.check()?;
        // One payload must fit each buffer; and a semaphore counts in 32 bits.
        let range = Session::max_payload_len(self.mtu) + 1024..=u32::MAX as usize;
        for buffer in [&mut self.send_buffer, &mut self.datagram_buffer] {
            *buffer = (*buffer).clamp(*range.start(), *range.end());
        }
        self.receive_buffer = self.receive_buffer.clamp(CREDIT, u32::MAX as usize);
        for time in [&mut self.connect_timeout, &mut self.give_up_after] {
            *time = (*time).min(LONGEST);
        }
        // More often than that would be a burden to everybody.
        self.keep_alive = self.keep_alive.map(|time| time.max(Duration::from_millis(100)));
        for count in [&mut self.channels, &mut self.workers, &mut self.handshake_queue] {
            *count = (*count).clamp(1, 1 << 16);
        }
        for tasks in [&mut self.receive_tasks, &mut self.send_tasks] {
            *tasks = (*tasks).clamp(1, MAX_TASKS);
        }
        Ok(self)
    }

    pub(crate) fn controller(&self) -> Box<dyn Controller> {
        (self.congestion.0)(self.mtu)
    }

    pub(crate) fn connection_settings(&self) -> Settings {
        Settings {
            mtu: self.mtu,
            max_mtu: self.max_mtu.unwrap_or(self.mtu).max(self.mtu),
            max_payload: Session::max_payload_len(self.mtu),
            window: const { capacity(WINDOW) },
            give_up_after: self.give_up_after,
            idle_timeout: self.idle_timeout,
            keep_alive: self.keep_alive,
            send_buffer: self.send_buffer,
            receive_buffer: self.receive_buffer,
            channels: self.channels,
        }
    }

    pub(crate) fn datagrams(&self) -> Datagrams {
        Datagrams::new(self.datagram_buffer, self.datagram_overflow)
    }
}

/// Which datagrams are dropped when more have arrived than may wait for the application. Either way they are counted, in
/// [`ConnectionStats::datagrams_dropped`](crate::ConnectionStats::datagrams_dropped).
///
/// ```
/// # fn main() -> Result<(), zssp::KeyError> {
/// use zssp::{Endpoint, Overflow, SecretKey};
///
/// // Readings of which each counts, and a reader that may be slow: what is there is not given up for more.
/// let key = SecretKey::generate()?;
/// let builder = Endpoint::builder(key).datagram_buffer(8 << 20).datagram_overflow(Overflow::DropNewest);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// Those that come: what was first is read first.
    DropNewest,
    /// Those that wait longest: what is read is fresh.
    DropOldest,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("key", &self.key)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
