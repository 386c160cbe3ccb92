//! A network in memory that loses, doubles, delays and reorders what passes, from a seed: for tests.
//!
//! With tokio's clock paused, hours on a terrible road pass in moments, and nobody else's traffic gets in the way:
//!
//! ```
//! use std::time::Duration;
//! use zssp::link::memory::{Conditions, Network};
//! use zssp::{Endpoint, SecretKey};
//!
//! #[tokio::main(flavor = "current_thread", start_paused = true)]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let delay = Duration::from_millis(40);
//!     let network = Network::new(7, Conditions { loss: 0.1, delay, ..Conditions::default() });
//!     let link = network.attach("10.0.0.1:9993".parse()?)?;
//!     let server = Endpoint::builder(SecretKey::generate()?).bind_link(link)?;
//!     let link = network.attach("10.0.0.2:9993".parse()?)?;
//!     let client = Endpoint::builder(SecretKey::generate()?).bind_link(link)?;
//!
//!     let connect = client.connect(server.local_addr(), server.public_key());
//!     let accept = async { server.accept().await.expect("open").accept().await };
//!     let (here, there) = tokio::try_join!(connect, accept)?;
//!     here.channel(0)?.send("over a bad road").await?;
//!     assert_eq!(there.channel(0)?.receive().await.expect("open").data(), "over a bad road");
//!     Ok(())
//! }
//! ```
//!
//! A test's clock stands still while handshakes are computed. With
//! [`handshakes(1, 128)`](crate::Builder::handshakes) they are computed one by one, so that less depends on the scheduler.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::{Link, Path, ReceiveBatch, Wakers};
use crate::sync::{RankedMutex, rank};

/// Bytes that may be under way to one address. What comes on top is lost.
const QUEUE: usize = 16 << 20;

/// What memory each datagram under way takes besides its bytes.
const OVERHEAD: usize = 100;

/// What a network does to datagrams. The default does nothing to them.
///
/// Probabilities are from 0 to 1.
///
/// ```
/// use std::time::Duration;
/// use zssp::link::memory::Conditions;
///
/// // A radio link: half a percent is lost, and what is repeated on the way comes out of order.
/// let radio = Conditions {
///     delay: Duration::from_millis(15),
///     loss: 0.005,
///     reordering: 0.02,
///     ..Conditions::default()
/// };
/// // The same behind a tunnel that is too narrow.
/// let tunnel = Conditions { mtu: Some(1280), ..radio };
/// # assert_ne!(radio, tunnel);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Conditions {
    /// How long a datagram travels. tokio's timers have a resolution of a millisecond.
    pub delay: Duration,
    /// The probability that a datagram arrives twice.
    pub duplication: f64,
    /// The probability that a datagram is lost.
    pub loss: f64,
    /// Bytes that the largest datagram may have; larger ones are lost without a word.
    pub mtu: Option<usize>,
    /// How fast datagrams get to each IP address, whoever they are from and whichever port they are for.
    pub bottleneck: Option<Bottleneck>,
    /// The probability that a datagram takes longer, so that those after it overtake it: up to twice as long, or up to two
    /// milliseconds longer where that is more.
    pub reordering: f64,
}

/// The slowest piece of the road to a host, and the queue in front of it.
///
/// ```
/// use std::time::Duration;
/// use zssp::link::memory::{Bottleneck, Conditions, Network};
///
/// // Ten megabits a second, and a router that holds a tenth of a second of that.
/// let dsl = Bottleneck { rate: 1_250_000, queue: 125_000 };
/// let delay = Duration::from_millis(10);
/// let network = Network::new(1, Conditions { bottleneck: Some(dsl), delay, ..Conditions::default() });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bottleneck {
    /// Bytes that pass in a second.
    pub rate: u64,
    /// Bytes that may wait. A datagram that finds no room is lost.
    pub queue: usize,
}

impl Bottleneck {
    fn time_of(self, bytes: usize) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.rate.max(1) as f64)
    }

    /// When a datagram that comes now has passed, if it finds room; until `busy` others do.
    fn pass(self, now: Instant, busy: Option<Instant>, bytes: usize) -> Option<Instant> {
        let start = busy.map_or(now, |busy| busy.max(now));
        let fits = start - now <= self.time_of(self.queue);
        fits.then(|| start + self.time_of(bytes))
    }
}

/// What happened on a network.
///
/// ```
/// use zssp::link::memory::Network;
///
/// /// The share of datagrams that did not arrive while something was done.
/// async fn lost_by(network: &Network, work: impl Future<Output = ()>) -> f64 {
///     let before = network.stats();
///     work.await;
///     let after = network.stats();
///     (after.lost - before.lost) as f64 / (after.sent - before.sent).max(1) as f64
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct NetworkStats {
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams lost by chance, for want of room, for their size, or since nobody has that address.
    pub lost: u64,
    /// Bytes that are under way, with what memory that takes.
    pub bytes_under_way: usize,
}

/// A network in memory. Clones are handles of the same.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use zssp::link::Link;
/// use zssp::link::memory::{Conditions, Network};
///
/// let network = Network::new(1, Conditions::default());
/// let link = network.attach("10.0.0.1:1".parse()?)?;
/// let nobody: std::net::SocketAddr = "10.0.0.2:1".parse()?;
/// link.try_send(nobody.into(), b"to nobody", 9)?;
/// assert_eq!(network.stats().lost, 1);
/// // From here on nothing arrives, whoever is there.
/// network.set_conditions(Conditions { loss: 1.0, ..Conditions::default() });
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Network(Arc<RankedMutex<{ rank::LINK }, State>>);

struct State {
    conditions: Conditions,
    random: Random,
    stats: NetworkStats,
    /// Of datagrams that arrive at the same time, the one sent first arrives first.
    ticket: u64,
    inboxes: HashMap<SocketAddr, Inbox>,
    /// Links behind a router: their own address, and that by which others know them.
    translations: HashMap<SocketAddr, SocketAddr>,
    /// Until when the bottleneck of a host has something to do.
    busy: HashMap<IpAddr, Instant>,
}

/// What is under way to one address, by the time it arrives.
#[derive(Default)]
struct Inbox {
    waiting: BTreeMap<(Instant, u64), Datagram>,
    bytes: usize,
    readers: Wakers,
}

struct Datagram {
    from: SocketAddr,
    bytes: Box<[u8]>,
}

impl Network {
    /// A network of those conditions. The same seed and the same traffic have the same fate.
    pub fn new(seed: u64, conditions: Conditions) -> Self {
        let (stats, inboxes) = (NetworkStats::default(), HashMap::new());
        Self(Arc::new(RankedMutex::new(State {
            conditions,
            random: Random(seed),
            stats,
            ticket: 0,
            inboxes,
            translations: HashMap::new(),
            busy: HashMap::new(),
        })))
    }

    /// A link with that address, which it has until it is dropped.
    ///
    /// # Errors
    /// [`AddrInUse`](io::ErrorKind::AddrInUse) when another link has it.
    pub fn attach(&self, address: SocketAddr) -> io::Result<MemoryLink> {
        let readers = Wakers::default();
        {
            let mut state = self.0.lock();
            if state.inboxes.contains_key(&address) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            state.inboxes.insert(address, Inbox { readers: readers.clone(), ..Inbox::default() });
        }
        Ok(MemoryLink { network: self.clone(), address, readers, timer: RankedMutex::new(None) })
    }

    /// Changes the conditions for whatever is sent from now on.
    pub fn set_conditions(&self, conditions: Conditions) {
        self.0.lock().conditions = conditions;
    }

    /// From now on others know the link at `local` as `outside`, as if it were behind a router: what it sends comes from
    /// there, and only what is sent there gets to it. Called again, it has moved, in the middle of whatever is going on.
    pub fn translate(&self, local: SocketAddr, outside: SocketAddr) {
        self.0.lock().translations.insert(local, outside);
    }

    /// What happened so far, in numbers.
    pub fn stats(&self) -> NetworkStats {
        self.0.lock().stats
    }
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Network").field(&self.stats()).finish()
    }
}

impl State {
    /// Which link has that address, for others.
    fn link_at(&self, outside: SocketAddr) -> Option<SocketAddr> {
        let behind = self.translations.iter().find(|&(_, &known)| known == outside);
        let plain = || (!self.translations.contains_key(&outside)).then_some(outside);
        behind.map(|(&local, _)| local).or_else(plain)
    }

    /// Sends one datagram on its way.
    fn carry(&mut self, now: Instant, (from, to): (SocketAddr, SocketAddr), bytes: &[u8]) {
        let Conditions { delay, duplication, loss, mtu, bottleneck, reordering } = self.conditions;
        self.stats.sent += 1;
        if self.random.chance(loss) || mtu.is_some_and(|mtu| bytes.len() > mtu) {
            self.stats.lost += 1;
            return;
        }
        let from = self.translations.get(&from).copied().unwrap_or(from);
        let to = self.link_at(to);
        for _ in 0..1 + u32::from(self.random.chance(duplication)) {
            let late = self.random.chance(reordering);
            let more =
                delay.max(Duration::from_millis(2)).mul_f64(if late { self.random.share() } else { 0.0 });
            let inbox = to.and_then(|to| self.inboxes.get_mut(&to));
            let Some(inbox) = inbox.filter(|inbox| inbox.bytes < QUEUE) else {
                self.stats.lost += 1;
                return;
            };
            let mut start = now;
            if let (Some(bottleneck), Some(to)) = (bottleneck, to) {
                let Some(passed) = bottleneck.pass(now, self.busy.get(&to.ip()).copied(), bytes.len()) else {
                    self.stats.lost += 1;
                    return;
                };
                self.busy.insert(to.ip(), passed);
                start = passed;
            }
            let place = (start + delay + more, self.ticket);
            self.ticket += 1;
            let cost = bytes.len() + OVERHEAD;
            inbox.bytes += cost;
            self.stats.bytes_under_way += cost;
            inbox.waiting.insert(place, Datagram { from, bytes: bytes.into() });
        }
    }

    /// Puts what has arrived into `batch`, and says when the next arrives if there is none.
    fn deliver(&mut self, now: Instant, to: SocketAddr, batch: &mut ReceiveBatch) -> Option<Instant> {
        let inbox = self.inboxes.get_mut(&to)?;
        while let Some(next) = inbox.waiting.first_entry() {
            let (arrives, _) = *next.key();
            let room = batch.room();
            let Some(room) = room.get_mut(..next.get().bytes.len()).filter(|_| arrives <= now) else {
                return Some(arrives);
            };
            let Datagram { from, bytes } = next.remove();
            room.copy_from_slice(&bytes);
            batch.push(from, bytes.len(), bytes.len());
            inbox.bytes -= bytes.len() + OVERHEAD;
            self.stats.bytes_under_way -= bytes.len() + OVERHEAD;
        }
        None
    }
}

/// One address on a [`Network`], free again when this is dropped.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use zssp::link::memory::{Conditions, Network};
/// use zssp::{Endpoint, SecretKey};
///
/// let network = Network::new(1, Conditions::default());
/// let link = network.attach("10.0.0.1:9993".parse()?)?;
/// let endpoint = Endpoint::builder(SecretKey::generate()?).bind_link(link)?;
/// assert!(network.attach(endpoint.local_addr()).is_err(), "somebody has it");
/// # Ok(()) }
/// ```
pub struct MemoryLink {
    network: Network,
    address: SocketAddr,
    readers: Wakers,
    timer: RankedMutex<{ rank::LINK }, Option<Pin<Box<Sleep>>>>,
}

impl MemoryLink {
    /// Waits until `due` comes.
    fn poll_timer(&self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        let mut timer = self.timer.lock();
        let sleep = timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if sleep.deadline() != due {
            sleep.as_mut().reset(due);
        }
        sleep.as_mut().poll(cx)
    }
}

impl Link for MemoryLink {
    fn local_addr(&self) -> SocketAddr {
        self.address
    }

    fn mtu(&self) -> usize {
        super::MAX_SEND
    }

    fn try_send(&self, path: Path, run: &[u8], segment: usize) -> io::Result<usize> {
        let to = path.remote;
        let now = Instant::now();
        let readers = {
            let mut state = self.network.0.lock();
            for datagram in run.chunks(segment.max(1)) {
                state.carry(now, (self.address, to), datagram);
            }
            state.link_at(to).and_then(|to| state.inboxes.get(&to)).map(|inbox| inbox.readers.clone())
        };
        if let Some(readers) = readers {
            readers.wake();
        }
        Ok(run.len())
    }

    fn poll_writable(&self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_receive(&self, cx: &mut Context<'_>, batch: &mut ReceiveBatch) -> Poll<io::Result<()>> {
        self.readers.poll(cx, |cx| {
            loop {
                let whole = batch.room().len();
                let next = self.network.0.lock().deliver(Instant::now(), self.address, batch);
                if batch.room().len() < whole {
                    return Poll::Ready(Ok(()));
                }
                let Some(due) = next else { return Poll::Pending };
                ready!(self.poll_timer(cx, due));
            }
        })
    }
}

impl Drop for MemoryLink {
    fn drop(&mut self) {
        let mut state = self.network.0.lock();
        let inbox = state.inboxes.remove(&self.address);
        state.translations.remove(&self.address);
        state.stats.bytes_under_way -= inbox.as_ref().map_or(0, |inbox| inbox.bytes);
        drop(state);
        drop(inbox);
    }
}

impl std::fmt::Debug for MemoryLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryLink").field("address", &self.address).finish_non_exhaustive()
    }
}

/// SplitMix64: a seed, and its numbers.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Evenly from 0 to 1.
    fn share(&mut self) -> f64 {
        f64::from((self.next() >> 32) as u32) / f64::from(u32::MAX)
    }

    fn chance(&mut self, probability: f64) -> bool {
        // Drawn always, so that one probability does not shift the fates of the others.
        let drawn = self.share();
        drawn < probability
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 1))
    }

    /// Sends so many numbered datagrams at once, and says which arrive and when.
    async fn pass(conditions: Conditions, count: u16) -> Vec<(u16, Duration)> {
        let network = Network::new(5, conditions);
        let (here, there) = (network.attach(address(1)).unwrap(), network.attach(address(2)).unwrap());
        let run: Vec<u8> = (0..count).flat_map(u16::to_be_bytes).collect();
        assert_eq!(here.try_send(address(2).into(), &run, 2).unwrap(), run.len());
        let (start, there, mut seen) = (Instant::now(), &there as &dyn Link, Vec::new());
        let mut batch = ReceiveBatch::new();
        while network.stats().bytes_under_way > 0 {
            there.receive(&mut batch).await.unwrap();
            seen.extend(batch.datagrams().map(|(from, datagram)| {
                assert_eq!(from, address(1).into());
                (u16::from_be_bytes([datagram[0], datagram[1]]), start.elapsed())
            }));
        }
        seen
    }

    #[tokio::test(start_paused = true)]
    async fn a_good_road_delays_and_nothing_else() {
        let seen = pass(Conditions { delay: 30 * MS, ..Conditions::default() }, 1500).await;
        assert!(seen.iter().map(|&(number, _)| number).eq(0..1500));
        assert!(seen.iter().all(|&(_, time)| time >= 30 * MS && time <= 31 * MS));
    }

    #[tokio::test(start_paused = true)]
    async fn faults_come_as_often_as_they_should() {
        let road = Conditions { delay: 10 * MS, ..Conditions::default() };
        let lossy = pass(Conditions { loss: 0.2, ..road }, 10_000).await;
        assert!((7_800..8_200).contains(&lossy.len()), "{}", lossy.len());
        let doubled = pass(Conditions { duplication: 0.1, ..road }, 10_000).await;
        assert!((10_850..11_150).contains(&doubled.len()), "{}", doubled.len());
        let shuffled = pass(Conditions { reordering: 0.1, ..road }, 10_000).await;
        let late = shuffled.iter().filter(|&&(_, time)| time > 11 * MS).count();
        assert_eq!(shuffled.len(), 10_000);
        assert!((700..1_100).contains(&late), "{late}");
        assert!(!shuffled.is_sorted());
        assert!(shuffled.iter().all(|&(_, time)| time <= 21 * MS));
        assert_eq!(pass(Conditions { loss: 0.2, ..road }, 10_000).await, lossy, "a seed repeats it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_bottleneck_delays_up_to_its_queue_and_loses_the_rest() {
        let bottleneck = Some(Bottleneck { rate: 2000, queue: 38 });
        let seen = pass(Conditions { delay: 10 * MS, bottleneck, ..Conditions::default() }, 100).await;
        // A datagram of two bytes takes a millisecond; nineteen wait, and one is on its way.
        assert!(seen.iter().map(|&(number, _)| number).eq(0..20), "{seen:?}");
        assert!(
            seen.iter().all(|&(number, at)| at.abs_diff(11 * MS + u32::from(number) * MS) <= MS),
            "{seen:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_behind_a_router_is_reached_by_its_outer_address_alone() {
        let network = Network::new(5, Conditions::default());
        let [a, b] = [1, 2].map(|last| network.attach(address(last)).unwrap());
        network.translate(address(1), address(7));
        b.try_send(address(1).into(), b"inside", 6).unwrap();
        b.try_send(address(7).into(), b"outside", 7).unwrap();
        a.try_send(address(2).into(), b"back", 4).unwrap();
        let mut batch = ReceiveBatch::new();
        (&a as &dyn Link).receive(&mut batch).await.unwrap();
        let seen: Vec<_> = batch.datagrams().map(|(from, datagram)| (from, datagram.to_vec())).collect();
        assert_eq!(seen, [(address(2).into(), b"outside".to_vec())]);
        (&b as &dyn Link).receive(&mut batch).await.unwrap();
        assert!(batch.datagrams().all(|(from, _)| from == address(7).into()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_large_for_the_road_is_lost() {
        assert_eq!(pass(Conditions { mtu: Some(1), ..Conditions::default() }, 10).await, []);
        assert_eq!(pass(Conditions { mtu: Some(2), ..Conditions::default() }, 10).await.len(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_free_again_when_its_link_is_gone() {
        let network = Network::new(5, Conditions::default());
        let (here, there) = (network.attach(address(1)).unwrap(), network.attach(address(2)).unwrap());
        assert_eq!(network.attach(address(2)).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        here.try_send(address(2).into(), b"late", 4).unwrap();
        drop(there);
        assert_eq!(network.stats().bytes_under_way, 0);
        here.try_send(address(2).into(), b"nobody", 6).unwrap();
        assert_eq!((network.stats().sent, network.stats().lost), (2, 1));
        network.attach(address(2)).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_is_bounded() {
        let network = Network::new(5, Conditions { delay: MS, ..Conditions::default() });
        let (here, _there) = (network.attach(address(1)).unwrap(), network.attach(address(2)).unwrap());
        let run = vec![0; 1 << 16];
        for _ in 0..2 * QUEUE / run.len() {
            here.try_send(address(2).into(), &run, 1 << 15).unwrap();
        }
        let stats = network.stats();
        assert!(stats.lost > 0 && stats.bytes_under_way <= QUEUE + (1 << 16), "{stats:?}");
    }
}
