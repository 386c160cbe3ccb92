//! Many connections that talk for a while: for the benchmark to run with thousands of them, and a test with a few.
//!
//! A connection is named by the keys of its ends, so each of the servers is connected with each of as many clients as it
//! takes. Each connection sends its share of the messages once a second, each at another moment of it, and has them answered
//! by the application of the other end before the next. What an hour brings comes in the time there is: each connection
//! agrees on a new key once, and one in twenty is closed and made anew before that.
//!
//! Time is that of tokio's clock, so in memory, with the clock paused, nothing waits.
#![forbid(unsafe_code)]

mod store;
mod world;

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use zssp::{Bytes, Connection, Endpoint, PublicKey};

use world::World;

/// Why a load came to nothing.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Handshakes under way while connections are made.
const AT_ONCE: usize = 32;
/// Bytes of a message.
const MESSAGE: usize = 64;
/// One connection in so many is made anew.
const LEAVES: usize = 20;
/// Between two bursts of a connection.
const SECOND: Duration = Duration::from_secs(1);
/// How long the last answers and the last keys may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the datagrams go over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Road {
    /// UDP on the loopback interface.
    Loopback,
    /// A network in memory that does nothing to them.
    Memory,
}

/// How much there is to do.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Connections, all at the same time.
    pub connections: usize,
    /// Messages a second, over all of them.
    pub rate: usize,
    /// For so long.
    pub seconds: usize,
    /// Endpoints that connections are made to.
    pub servers: usize,
    /// What they go over.
    pub road: Road,
}

/// What was done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Messages sent.
    pub sent: u64,
    /// Messages that the application of the other end has answered.
    pub answered: u64,
    /// Keys that connections agreed on, but for the first that each has.
    pub new_keys: u64,
    /// Connections closed and made anew.
    pub reconnected: u64,
    /// Bursts that began later than a second after their time: this machine is too slow for the rate.
    pub late: u64,
}

/// What tasks count.
#[derive(Default)]
struct Counters {
    /// First keys of connections included.
    keys: watch::Sender<u64>,
    /// Connections that were made.
    connected: AtomicU64,
    reconnected: AtomicU64,
    sent: AtomicU64,
    answered: AtomicU64,
    late: AtomicU64,
}

/// Connections that do nothing yet.
pub struct Connected {
    load: Load,
    counters: Arc<Counters>,
    members: Vec<Member>,
    servers: Vec<Endpoint>,
}

/// Connections under load.
pub struct Running {
    load: Load,
    counters: Arc<Counters>,
    senders: JoinSet<Result<Member, Failure>>,
    _servers: Vec<Endpoint>,
}

impl Load {
    /// Makes the connections, each client to every server.
    ///
    /// # Errors
    /// When an endpoint cannot be bound, or a connection fails.
    pub async fn connect(self) -> Result<Connected, Failure> {
        let counters = Arc::new(Counters::default());
        let world = World::new(self.road, counters.keys.clone());
        let mut servers = Vec::new();
        for number in 0..self.servers {
            let server = world.server(number).await?;
            tokio::spawn(serve(server.clone()));
            servers.push(server);
        }
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let mut attempts = JoinSet::new();
        for number in 0..self.connections.div_ceil(self.servers) {
            let client = world.client(self.servers + number).await?;
            for server in servers.iter().take(self.connections - number * self.servers) {
                let place = places.clone().acquire_owned().await?;
                let (client, server) = (client.clone(), (server.local_addr(), server.public_key()));
                let counters = counters.clone();
                attempts.spawn(async move {
                    let member = Member::connect(client, server, counters).await;
                    drop(place);
                    member
                });
            }
        }
        let mut members = Vec::with_capacity(self.connections);
        while let Some(member) = attempts.join_next().await {
            members.push(member??);
        }
        Ok(Connected { load: self, counters, members, servers })
    }
}

impl Connected {
    /// Begins to send.
    pub fn start(self) -> Running {
        let Self { load, counters, members, servers } = self;
        let (begin, made) = (Instant::now(), members.len());
        let mut senders = JoinSet::new();
        for (number, member) in members.into_iter().enumerate() {
            let plan = Plan {
                first: begin + SECOND.mul_f64(number as f64 / made as f64),
                bursts: load.seconds,
                // Whatever the division leaves over goes to the first ones.
                messages: load.rate / made + usize::from(number < load.rate % made),
                rekey: load.seconds * number / made,
                leaves: number.is_multiple_of(LEAVES),
            };
            senders.spawn(member.send(plan));
        }
        Running { load, counters, senders, _servers: servers }
    }
}

impl Running {
    /// What was done so far.
    pub fn counts(&self) -> Counts {
        let Counters { keys, connected, reconnected, sent, answered, late } = &*self.counters;
        // Before the keys: a connection has its first when it is counted.
        let connected = connected.load(Relaxed);
        Counts {
            sent: sent.load(Relaxed),
            answered: answered.load(Relaxed),
            new_keys: *keys.borrow() - connected,
            reconnected: reconnected.load(Relaxed),
            late: late.load(Relaxed),
        }
    }

    /// Waits for the last answer and the last key.
    ///
    /// # Errors
    /// When a connection ended that was not closed here, or something is still to come a minute after it should have.
    pub async fn finish(&mut self) -> Result<(), Failure> {
        let all = async {
            // They stay open until the last is done.
            let mut members = Vec::new();
            while let Some(member) = self.senders.join_next().await {
                members.push(member??);
            }
            // Each connection has had its first key, and asked for another.
            let keys = self.counters.connected.load(Relaxed) + self.load.connections as u64;
            self.counters.keys.subscribe().wait_for(|agreed| *agreed >= keys).await?;
            Ok(())
        };
        let time = SECOND * self.load.seconds as u32 + PATIENCE;
        timeout(time, all).await.map_err(|_| "messages or keys without an answer")?
    }
}

/// One connection, and how it is made anew.
struct Member {
    client: Endpoint,
    server: (SocketAddr, PublicKey),
    connection: Connection,
    counters: Arc<Counters>,
}

/// What one connection does, and when.
struct Plan {
    first: Instant,
    /// One a second.
    bursts: usize,
    /// In each of them.
    messages: usize,
    /// Before which of them it agrees on a new key.
    rekey: usize,
    /// Whether it is made anew before that.
    leaves: bool,
}

impl Member {
    async fn connect(
        client: Endpoint,
        server: (SocketAddr, PublicKey),
        counters: Arc<Counters>,
    ) -> Result<Self, Failure> {
        let connection = client.connect(server.0, server.1).await?;
        counters.connected.fetch_add(1, Relaxed);
        Ok(Self { client, server, connection, counters })
    }

    /// Sends a burst each second and waits until it is answered.
    async fn send(mut self, plan: Plan) -> Result<Self, Failure> {
        let Plan { first, bursts, messages, rekey, leaves } = plan;
        let message = Bytes::from_static(&[7; MESSAGE]);
        for burst in 0..bursts {
            let due = first + SECOND * burst as u32;
            sleep_until(due).await;
            self.counters.late.fetch_add(u64::from(due.elapsed() > SECOND), Relaxed);
            if burst == rekey {
                if leaves {
                    self.connection.close(0, b"").await;
                    self = Self::connect(self.client, self.server, self.counters).await?;
                    self.counters.reconnected.fetch_add(1, Relaxed);
                }
                self.connection.rekey().await;
            }
            let channel = self.connection.channel(0)?;
            for _ in 0..messages {
                channel.send(message.clone()).await?;
            }
            self.counters.sent.fetch_add(messages as u64, Relaxed);
            channel.flush().await?;
            self.counters.answered.fetch_add(messages as u64, Relaxed);
        }
        Ok(self)
    }
}

/// Answers everybody.
async fn serve(server: Endpoint) {
    while let Some(incoming) = server.accept().await {
        tokio::spawn(async move {
            let Ok(connection) = incoming.accept().await else { return };
            let Ok(channel) = connection.channel(0) else { return };
            // Dropping it answers it.
            while channel.receive().await.is_some() {}
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Load = Load { connections: 100, rate: 1000, seconds: 3, servers: 10, road: Road::Memory };

    async fn run(load: Load) -> Counts {
        let mut running = load.connect().await.unwrap().start();
        running.finish().await.unwrap();
        let counts = running.counts();
        println!("{load:?}: {counts:?}");
        counts
    }

    #[track_caller]
    fn assert_complete(load: Load, counts: Counts) {
        let messages = (load.rate * load.seconds) as u64;
        assert_eq!((counts.sent, counts.answered), (messages, messages));
        assert_eq!(counts.new_keys, load.connections as u64);
        assert_eq!(counts.reconnected, load.connections.div_ceil(LEAVES) as u64);
    }

    #[tokio::test(start_paused = true)]
    async fn everything_is_answered_in_memory() {
        let counts = run(SMALL).await;
        assert_complete(SMALL, counts);
        assert_eq!(counts.late, 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn everything_is_answered_over_udp() {
        let load = Load { road: Road::Loopback, ..SMALL };
        assert_complete(load, run(load).await);
    }
}
