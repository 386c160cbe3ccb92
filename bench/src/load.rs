//! Many connections for a long time: does everything get its answer, and does memory stay what it is?
//!
//! ```sh
//! cargo run --release -p bench -- load --connections 10000 --rate 100000 --seconds 120
//! ```
//! A connection is named by the keys of its ends, so each of the servers is connected with each of as many clients as it
//! takes: a hundred of both, unless told otherwise. Each connection sends its share of the messages once a second, each at
//! another moment of it, and has them answered by the application of the other end before the next. What an hour brings
//! comes in the time there is: each connection agrees on a new key once, and one in twenty is closed and made anew. The road
//! is a network in memory, or UDP on the loopback interface.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval_at, sleep, timeout};
use zssp::link::memory::{Conditions, Network};
use zssp::{Bytes, Connection, Endpoint, PublicKey, SecretKey};

use crate::measure::{Failure, cpu_time, rss};

const USAGE: &str = "load [--connections N] [--rate MESSAGES-PER-SECOND] [--seconds N] [--servers N] [--udp]";

/// Handshakes under way while connections are made.
const AT_ONCE: usize = 32;
/// Bytes of a message.
const MESSAGE: usize = 64;
/// Between two lines of the table.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// One connection in so many is made anew.
const LEAVES: usize = 20;
/// What must come through of the rate that was asked for.
const RATE: f64 = 0.95;
/// How long the last answers may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// What memory may grow by, from the end of the first quarter to the end: a share of it and some pages.
const GROWTH: f64 = 0.02;
const SLACK: u64 = 4 << 20;
/// And what both ends of a connection keep when it has changed its key: the one before opens late packets.
const KEY_BEFORE: u64 = 3 << 10;

const MIB: f64 = (1 << 20) as f64;

/// What is asked for on the command line.
struct Settings {
    connections: usize,
    rate: usize,
    seconds: u64,
    servers: usize,
    udp: bool,
}

impl Settings {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut settings = Self { connections: 10_000, rate: 100_000, seconds: 60, servers: 100, udp: false };
        while let Some(arg) = args.next() {
            let mut number = || -> Result<usize, Failure> {
                let value = args.next().ok_or(USAGE)?;
                Ok(value.parse::<usize>().ok().filter(|number| *number > 0).ok_or(USAGE)?)
            };
            match arg.as_str() {
                "--connections" => settings.connections = number()?,
                "--rate" => settings.rate = number()?,
                "--seconds" => settings.seconds = number()? as u64,
                "--servers" => settings.servers = number()?,
                "--udp" => settings.udp = true,
                _ => return Err(USAGE.into()),
            }
        }
        Ok(settings)
    }
}

/// What was done so far.
#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    answered: AtomicU64,
    /// New keys asked for: whether they are agreed on, the store would know.
    rekeys: AtomicU64,
    reconnected: AtomicU64,
    /// Bursts that began later than a second after their time: this machine is too slow for the rate.
    late: AtomicU64,
}

/// Runs the load, prints a table, and fails where memory grew or an answer is missing.
pub(crate) async fn run(args: impl Iterator<Item = String>) -> Result<(), Failure> {
    let settings = Settings::parse(args)?;
    let world = World::new(settings.udp);
    let before = rss().ok_or("this system does not tell how much memory a process has")?;
    let started = Instant::now();
    let mut servers = Vec::new();
    for number in 0..settings.servers {
        let server = world.endpoint(number).await?;
        tokio::spawn(serve(server.clone()));
        servers.push(server);
    }
    let connections = connect(&world, &servers, settings.connections).await?;
    let (made, ramp) = (connections.len(), started.elapsed());
    let each = rss().unwrap_or(0).saturating_sub(before) / made as u64;
    println!(
        "{made} connections in {:.1} s, {:.0} handshakes/s; {:.1} KiB for both ends of each, endpoints included\n",
        ramp.as_secs_f64(),
        made as f64 / ramp.as_secs_f64(),
        each as f64 / 1024.0
    );

    let counts = Arc::new(Counts::default());
    let begin = Instant::now();
    let end = begin + Duration::from_secs(settings.seconds);
    let mut senders = JoinSet::new();
    for (number, member) in connections.into_iter().enumerate() {
        let place = number as f64 / made as f64;
        let plan = Plan {
            first: begin + Duration::from_secs(1).mul_f64(place),
            end,
            // Whatever the division leaves over goes to the first ones.
            burst: settings.rate / made + usize::from(number < settings.rate % made),
            rekey: begin + (end - begin).mul_f64(place),
            leave: number.is_multiple_of(LEAVES).then(|| begin + (end - begin).mul_f64(1.0 - place)),
        };
        senders.spawn(send(member, plan, counts.clone()));
    }
    let flat = watch(&counts, (begin, end)).await;
    let mut broken = None;
    let all = async {
        while let Some(ended) = senders.join_next().await {
            broken = ended.map_err(Failure::from).flatten().err().or(broken.take());
        }
    };
    let in_time = timeout(PATIENCE, all).await.is_ok();
    let (sent, answered) = (counts.sent.load(Relaxed), counts.answered.load(Relaxed));
    let rate = answered as f64 / settings.seconds as f64;
    println!(
        "\n{sent} messages sent, {answered} answered, {rate:.0}/s of {}/s asked for; {} bursts began late; {} new keys \
         asked for, {} connections made anew",
        settings.rate,
        counts.late.load(Relaxed),
        counts.rekeys.load(Relaxed),
        counts.reconnected.load(Relaxed)
    );
    let (Seen { memory: first, rekeys: before }, Seen { memory: last, rekeys }) =
        flat.ok_or("too short to tell whether memory stays what it is: take more --seconds")?;
    let bound = (first as f64 * GROWTH) as u64 + SLACK + (rekeys - before) * KEY_BEFORE;
    println!(
        "memory from {:.1} to {:.1} MiB since a quarter of the time; {:.1} MiB more would be permitted",
        first as f64 / MIB,
        last as f64 / MIB,
        bound as f64 / MIB
    );
    if let Some(broken) = broken {
        return Err(format!("a connection ended: {broken}").into());
    }
    if !in_time || sent != answered {
        return Err("messages without an answer".into());
    }
    if last > first + bound {
        return Err("memory grew".into());
    }
    if rate < RATE * settings.rate as f64 {
        return Err("this machine is too slow for the rate: ask for less".into());
    }
    Ok(())
}

/// What there was at one moment.
#[derive(Clone, Copy)]
struct Seen {
    memory: u64,
    rekeys: u64,
}

/// Prints a line now and then until the end. Yields what there was after a quarter of the time and at the end.
async fn watch(counts: &Counts, (begin, end): (Instant, Instant)) -> Option<(Seen, Seen)> {
    println!(
        "| s | keys asked for | made anew | messages/s | MiB resident | CPU cores |\n|---:|---:|---:|---:|---:|---:|"
    );
    let quarter = begin + (end - begin) / 4;
    let (mut first, mut last) = (None, None);
    let (mut time, mut answered, mut cpu) = (begin, 0, cpu_time());
    while time < end {
        sleep(REPORT_EVERY.min(end - time)).await;
        let (now, total, used) = (Instant::now(), counts.answered.load(Relaxed), cpu_time());
        let (seconds, memory) = ((now - time).as_secs_f64(), rss()?);
        let seen = Seen { memory, rekeys: counts.rekeys.load(Relaxed) };
        println!(
            "| {:.0} | {} | {} | {:.0} | {:.1} | {:.2} |",
            (now - begin).as_secs_f64(),
            seen.rekeys,
            counts.reconnected.load(Relaxed),
            (total - answered) as f64 / seconds,
            memory as f64 / MIB,
            (used - cpu).as_secs_f64() / seconds
        );
        if now >= quarter {
            first = first.or(Some(seen));
            last = Some(seen);
        }
        (time, answered, cpu) = (now, total, used);
    }
    first.zip(last)
}

/// One connection, and how it is made anew.
struct Member {
    client: Endpoint,
    server: (SocketAddr, PublicKey),
    connection: Connection,
}

/// What one connection does, and when.
struct Plan {
    first: Instant,
    end: Instant,
    /// Messages a second.
    burst: usize,
    rekey: Instant,
    leave: Option<Instant>,
}

/// Sends a burst each second and waits until it is answered.
async fn send(mut member: Member, plan: Plan, counts: Arc<Counts>) -> Result<(), Failure> {
    let Plan { first, end, burst, rekey, leave } = plan;
    let (mut rekey, mut leave) = (Some(rekey), leave);
    let mut channel = member.connection.channel(0)?;
    let message = Bytes::from_static(&[7; MESSAGE]);
    let mut ticks = interval_at(first.into(), Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let due = ticks.tick().await.into_std();
        if due >= end {
            return Ok(());
        }
        counts.late.fetch_add(u64::from(due.elapsed() > Duration::from_secs(1)), Relaxed);
        if rekey.take_if(|rekey| *rekey <= due).is_some() {
            member.connection.rekey().await;
            counts.rekeys.fetch_add(1, Relaxed);
        }
        if leave.take_if(|leave| *leave <= due).is_some() {
            member.connection.close(0, b"").await;
            let (address, key) = member.server;
            member.connection = member.client.connect(address, key).await?;
            channel = member.connection.channel(0)?;
            counts.reconnected.fetch_add(1, Relaxed);
        }
        for _ in 0..burst {
            channel.send(message.clone()).await?;
        }
        counts.sent.fetch_add(burst as u64, Relaxed);
        channel.flush().await?;
        counts.answered.fetch_add(burst as u64, Relaxed);
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

/// Makes the connections, each client to every server.
async fn connect(world: &World, servers: &[Endpoint], count: usize) -> Result<Vec<Member>, Failure> {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut attempts = JoinSet::new();
    for number in 0..count.div_ceil(servers.len()) {
        let client = world.endpoint(servers.len() + number).await?;
        for server in servers.iter().take(count - number * servers.len()) {
            let place = places.clone().acquire_owned().await?;
            let (client, address, key) = (client.clone(), server.local_addr(), server.public_key());
            attempts.spawn(async move {
                let connection = client.connect(address, key).await;
                drop(place);
                Ok::<_, Failure>(Member { connection: connection?, client, server: (address, key) })
            });
        }
    }
    let mut connections = Vec::with_capacity(count);
    while let Some(connection) = attempts.join_next().await {
        connections.push(connection??);
    }
    Ok(connections)
}

/// Where the endpoints are.
enum World {
    Loopback,
    Memory(Network),
}

impl World {
    fn new(udp: bool) -> Self {
        if udp { Self::Loopback } else { Self::Memory(Network::new(1, Conditions::default())) }
    }

    async fn endpoint(&self, number: usize) -> Result<Endpoint, Failure> {
        let builder = Endpoint::builder(SecretKey::generate()?);
        Ok(match self {
            Self::Loopback => builder.bind("127.0.0.1:0").await?,
            Self::Memory(network) => {
                let address = Ipv4Addr::from(0x0A00_0000 + u32::try_from(number)?);
                builder.bind_link(network.attach(SocketAddr::from((address, 9993)))?)?
            }
        })
    }
}
