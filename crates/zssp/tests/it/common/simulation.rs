//! Whole endpoints on a network in memory, and what becomes of them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use zssp::link::memory::{Conditions, MemoryLink, Network};
use zssp::link::{Link, Path, ReceiveBatch, Wakers};
use zssp::proto::{Fingerprint, PeerName, RatchetPair, RatchetState, RatchetStore, StoreError, Swap};
use zssp::{Builder, Connection, Endpoint, MemoryStore, SecretKey};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// A tenth lost, and more that is wrong with it.
pub(crate) const BAD: Conditions = Conditions { duplication: 0.05, loss: 0.1, reordering: 0.05, ..GOOD };

pub(crate) const GOOD: Conditions = Conditions {
    delay: Duration::from_millis(20),
    duplication: 0.0,
    loss: 0.0,
    mtu: None,
    bottleneck: None,
    reordering: 0.0,
};

pub(crate) fn network(seed: u64, conditions: Conditions) -> Network {
    println!("seed {seed}");
    Network::new(seed, conditions)
}

pub(crate) fn builder(key: &SecretKey) -> Builder {
    Endpoint::builder(key.clone()).handshakes(1, 128).connect_timeout(120 * SECOND)
}

pub(crate) fn address(number: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], number))
}

pub(crate) fn endpoint(network: &Network, number: u16) -> Endpoint {
    builder(&SecretKey::generate().unwrap()).bind_link(network.attach(address(number)).unwrap()).unwrap()
}

/// A link that loses what it does not let out.
pub(crate) struct Filtered<F> {
    pub(crate) link: MemoryLink,
    pub(crate) lets: F,
}

impl<F: Fn(&[u8]) -> bool + Send + Sync + 'static> Link for Filtered<F> {
    fn local_addr(&self) -> SocketAddr {
        self.link.local_addr()
    }

    fn mtu(&self) -> usize {
        self.link.mtu()
    }

    fn try_send(&self, path: Path, run: &[u8], segment: usize) -> io::Result<usize> {
        if (self.lets)(run) { self.link.try_send(path, run, segment) } else { Ok(run.len()) }
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.poll_writable(cx)
    }

    fn poll_receive(&self, cx: &mut Context<'_>, batch: &mut ReceiveBatch) -> Poll<io::Result<()>> {
        self.link.poll_receive(cx, batch)
    }
}

/// A link that takes nothing while its gate is shut.
pub(crate) struct Gated {
    pub(crate) link: MemoryLink,
    pub(crate) gate: Arc<Gate>,
}

#[derive(Default)]
pub(crate) struct Gate {
    is_shut: AtomicBool,
    waiting: Wakers,
}

impl Gate {
    pub(crate) fn set_shut(&self, is_shut: bool) {
        self.is_shut.store(is_shut, Ordering::Relaxed);
        self.waiting.wake();
    }

    fn is_shut(&self) -> bool {
        self.is_shut.load(Ordering::Relaxed)
    }
}

impl Link for Gated {
    fn local_addr(&self) -> SocketAddr {
        self.link.local_addr()
    }

    fn mtu(&self) -> usize {
        self.link.mtu()
    }

    fn try_send(&self, path: Path, run: &[u8], segment: usize) -> io::Result<usize> {
        if self.gate.is_shut() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.link.try_send(path, run, segment)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.gate.waiting.poll(cx, |_| if self.gate.is_shut() { Poll::Pending } else { Poll::Ready(Ok(())) })
    }

    fn poll_receive(&self, cx: &mut Context<'_>, batch: &mut ReceiveBatch) -> Poll<io::Result<()>> {
        self.link.poll_receive(cx, batch)
    }
}

/// Connects, however often a handshake is lost half way.
pub(crate) async fn connect(client: &Endpoint, server: &Endpoint) -> (Connection, Connection) {
    let accept = async {
        loop {
            if let Ok(connection) = server.accept().await.unwrap().accept().await {
                return connection;
            }
        }
    };
    let (here, there) = tokio::join!(client.connect(server.local_addr(), server.public_key()), accept);
    (here.unwrap(), there)
}

/// Answers every request on channel 0 with itself, until the connection ends; takes every fifth without an answer.
pub(crate) async fn answer(connection: Connection) {
    let channel = connection.channel(0).unwrap();
    while let Some(message) = channel.receive().await {
        let question = message.data().clone();
        if question.last().is_some_and(|last| !last.is_multiple_of(5)) {
            let _ = message.reply(question);
        }
    }
}

/// Closes the endpoints, and fails when anything of them is left: a connection, a task, a link, a datagram.
pub(crate) async fn leaves_nothing<const N: usize>(endpoints: [Endpoint; N], network: &Network) {
    let addresses = endpoints.each_ref().map(Endpoint::local_addr);
    for endpoint in endpoints {
        endpoint.close(0, b"");
        endpoint.wait_idle().await;
        assert_eq!(endpoint.stats().connections, 0);
    }
    // Tasks end a moment after what they were for; with the clock paused, a moment is nothing.
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let start = Instant::now();
    while tasks() > 0 && start.elapsed() < SECOND {
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(tasks(), 0, "tasks are left");
    assert_eq!(network.stats().bytes_under_way, 0);
    for address in addresses {
        network.attach(address).expect("the endpoint still has its link");
    }
}

/// Sends `bytes` over a stream of its own from `here` to `there`, and yields what arrives.
pub(crate) async fn transfer(here: Connection, there: Connection, bytes: Vec<u8>) -> Vec<u8> {
    let len = bytes.len();
    let sending = async {
        let (mut send, _receive) = here.open_stream().await.unwrap();
        send.write_chunk(bytes).await.unwrap();
        send.finish().unwrap();
        send.stopped().await.unwrap();
    };
    let receiving = async {
        let (_send, mut receive) = there.accept_stream().await.unwrap();
        receive.read_to_end(len).await.unwrap()
    };
    tokio::join!(sending, receiving).1
}

/// A store in memory that counts how often the ratchet moves, which it does with each new key, and takes nothing while its
/// disk is full.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk(Arc<State>);

#[derive(Debug, Default)]
struct State {
    memory: MemoryStore,
    changes: AtomicUsize,
    is_full: AtomicBool,
}

impl Disk {
    /// Writes, failed ones too.
    pub(crate) fn changes(&self) -> usize {
        self.0.changes.load(Ordering::Relaxed)
    }

    pub(crate) fn set_full(&self, is_full: bool) {
        self.0.is_full.store(is_full, Ordering::Relaxed);
    }

    /// What is on it.
    pub(crate) fn memory(&self) -> &MemoryStore {
        &self.0.memory
    }

    /// What is said of a write while it is full.
    pub(crate) fn error() -> StoreError {
        StoreError::new("no space left on device")
    }
}

impl RatchetStore for Disk {
    fn load(&self, peer: &PeerName) -> Result<RatchetPair, StoreError> {
        self.0.memory.load(peer)
    }

    fn find(&self, fingerprint: &Fingerprint) -> Result<Option<RatchetState>, StoreError> {
        self.0.memory.find(fingerprint)
    }

    fn compare_and_swap(
        &self,
        peer: &PeerName,
        old: &RatchetPair,
        new: &RatchetPair,
    ) -> Result<Swap, StoreError> {
        self.0.changes.fetch_add(1, Ordering::Relaxed);
        if self.0.is_full.load(Ordering::Relaxed) {
            return Err(Self::error());
        }
        self.0.memory.compare_and_swap(peer, old, new)
    }
}
