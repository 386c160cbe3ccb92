//! A bad network as a value: datagrams go in with a time, and come out later, changed, twice or never.
//!
//! ```
//! use std::time::Duration;
//! use zssp_sim::{Clock, Conditions, Network};
//!
//! let mut clock = Clock::new();
//! let mut network = Network::new(7).with_conditions(Conditions { loss: 0.3, ..Conditions::default() });
//! network.drop_next(1);
//! network.send(clock.now(), 1, 2, b"lost for sure".to_vec());
//! network.send(clock.now(), 1, 2, b"perhaps".to_vec());
//! while let Some(arrival) = network.next_arrival() {
//!     clock.advance_to(arrival);
//!     while let Some(delivery) = network.receive(clock.now()) {
//!         assert_eq!(delivery.bytes, b"perhaps");
//!     }
//! }
//! assert_eq!(network.statistics().scripted, 1);
//! ```

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::{Duration, Instant};

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

/// A node; any small number the test likes.
pub type Address = u16;

/// What a link does to datagrams, in one direction.
///
/// Probabilities are from 0 to 1; with any other, [`Network::send`] panics.
#[derive(Debug, Clone, PartialEq)]
pub struct Conditions {
    /// How long every datagram travels at least.
    pub latency: Duration,
    /// How much longer at most, evenly distributed. More than the time between two datagrams reorders them.
    pub jitter: Duration,
    /// The probability that a datagram is lost, independent of all others.
    pub loss: f64,
    /// Losses in a row, besides those of `loss`.
    pub burst: Option<Burst>,
    /// The probability that a datagram arrives twice.
    pub duplication: f64,
    /// The probability that an arriving datagram has flipped bits or is cut short.
    pub corruption: f64,
    /// The longest datagram that passes, in bytes; longer ones vanish.
    pub mtu: usize,
    /// How much passes in a time. `None`: any amount.
    pub rate: Option<Rate>,
}

/// 10 ms, and nothing bad ever happens.
impl Default for Conditions {
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(10),
            jitter: Duration::ZERO,
            loss: 0.0,
            burst: None,
            duplication: 0.0,
            corruption: 0.0,
            mtu: usize::MAX,
            rate: None,
        }
    }
}

/// Times in which everything is lost (the model of Gilbert and Elliott). The average length is `1 / end` datagrams.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Burst {
    /// The probability that a datagram begins one.
    pub start: f64,
    /// The probability that a datagram lost in one is its last.
    pub end: f64,
}

/// A limited line with a finite queue before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// What the line carries, in bytes a second; at least 1.
    pub bytes_per_second: u64,
    /// What may wait, in bytes; a datagram that does not fit any more is lost.
    pub queue: u64,
}

/// A datagram that has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The node it has arrived at.
    pub to: Address,
    /// The node that sent it.
    pub from: Address,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What happened so far. `sent + duplicated` is the sum of `delivered`, of what is under way, and of all losses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Datagrams given to [`Network::send`].
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Datagrams taken from [`Network::receive`].
    pub delivered: u64,
    /// Their bytes.
    pub delivered_bytes: u64,
    /// Of the delivered: those sent before one that was delivered earlier.
    pub reordered: u64,
    /// Additional copies.
    pub duplicated: u64,
    /// Copies with flipped bits or cut short.
    pub corrupted: u64,
    /// Lost by probability, alone or in bursts.
    pub lost: u64,
    /// Lost because longer than the MTU.
    pub oversized: u64,
    /// Lost because the queue was full.
    pub overflowed: u64,
    /// Lost because [`Network::drop_next`] said so.
    pub scripted: u64,
    /// Lost because the two nodes were partitioned.
    pub partitioned: u64,
}

/// The network: any number of nodes, a link between any two, and all that is under way.
///
/// Everything random comes from the seed, so the same calls with the same times have the same results.
#[derive(Debug)]
pub struct Network {
    random: Xoshiro256PlusPlus,
    conditions: Conditions,
    links: BTreeMap<(Address, Address), Link>,
    partitions: BTreeSet<(Address, Address)>,
    drop_next: u64,
    under_way: BinaryHeap<Arrival>,
    statistics: Statistics,
}

/// One direction between two nodes.
#[derive(Debug, Default)]
struct Link {
    /// `None`: those of the network.
    conditions: Option<Conditions>,
    drop_next: u64,
    in_burst: bool,
    /// When the last datagram in the queue will have left.
    busy_until: Option<Instant>,
    /// The number, among all ever sent, of the latest datagram delivered.
    latest: u64,
}

impl Network {
    /// A network without faults, and a latency of 10 ms, between all nodes.
    pub fn new(seed: u64) -> Self {
        Self {
            random: Xoshiro256PlusPlus::seed_from_u64(seed),
            conditions: Conditions::default(),
            links: BTreeMap::new(),
            partitions: BTreeSet::new(),
            drop_next: 0,
            under_way: BinaryHeap::new(),
            statistics: Statistics::default(),
        }
    }

    /// The same with other conditions on every link.
    #[must_use]
    pub fn with_conditions(mut self, conditions: Conditions) -> Self {
        self.set_conditions(conditions);
        self
    }

    /// What happened so far.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// When the next datagram arrives; `None` while nothing is under way.
    pub fn next_arrival(&self) -> Option<Instant> {
        self.under_way.peek().map(|arrival| arrival.time)
    }

    /// Sends a datagram. The times of successive calls must not go back.
    pub fn send(&mut self, now: Instant, from: Address, to: Address, bytes: Vec<u8>) {
        self.statistics.sent += 1;
        self.statistics.sent_bytes += bytes.len() as u64;
        let number = self.statistics.sent;
        let Some(departure) = self.admit(now, (from, to), bytes.len()) else { return };

        let conditions = self.conditions_of((from, to)).clone();
        let copies = if self.random.random_bool(conditions.duplication) {
            self.statistics.duplicated += 1;
            vec![bytes.clone(), bytes]
        } else {
            vec![bytes]
        };
        for mut bytes in copies {
            if self.random.random_bool(conditions.corruption) {
                self.statistics.corrupted += 1;
                corrupt(&mut self.random, &mut bytes);
            }
            let time =
                departure + conditions.latency + self.random.random_range(Duration::ZERO..=conditions.jitter);
            self.under_way.push(Arrival { time, number, delivery: Delivery { to, from, bytes } });
        }
    }

    /// A datagram that has arrived by `now`, the earliest first.
    pub fn receive(&mut self, now: Instant) -> Option<Delivery> {
        if self.next_arrival()? > now {
            return None;
        }
        let Arrival { number, delivery, .. } = self.under_way.pop()?;
        let latest = &mut self.links.entry((delivery.from, delivery.to)).or_default().latest;
        self.statistics.delivered += 1;
        self.statistics.delivered_bytes += delivery.bytes.len() as u64;
        self.statistics.reordered += u64::from(number < *latest);
        *latest = number.max(*latest);
        Some(delivery)
    }

    /// Sets the conditions of every link, also of those that had their own. What is under way is not affected.
    pub fn set_conditions(&mut self, conditions: Conditions) {
        self.links.values_mut().for_each(|link| link.conditions = None);
        self.conditions = conditions;
    }

    /// Sets the conditions of one direction between two nodes.
    pub fn set_link(&mut self, from: Address, to: Address, conditions: Conditions) {
        self.links.entry((from, to)).or_default().conditions = Some(conditions);
    }

    /// Loses the next `count` datagrams, whoever sends them; counts up with every call.
    pub fn drop_next(&mut self, count: u64) {
        self.drop_next += count;
    }

    /// Loses the next `count` datagrams of one direction between two nodes; counts up with every call.
    pub fn drop_next_on(&mut self, from: Address, to: Address, count: u64) {
        self.links.entry((from, to)).or_default().drop_next += count;
    }

    /// Loses what two nodes send each other from now on. What is under way still arrives.
    pub fn partition(&mut self, one: Address, other: Address) {
        self.partitions.extend([(one, other), (other, one)]);
    }

    /// Ends a [`partition`](Self::partition).
    pub fn heal(&mut self, one: Address, other: Address) {
        self.partitions.remove(&(one, other));
        self.partitions.remove(&(other, one));
    }

    /// When a datagram that is sent now leaves the queue of its link; `None`: it is lost, and counted as such.
    fn admit(&mut self, now: Instant, path: (Address, Address), len: usize) -> Option<Instant> {
        let conditions = self.conditions_of(path).clone();
        let link = self.links.entry(path).or_default();
        let (random, statistics) = (&mut self.random, &mut self.statistics);
        let fate = if self.partitions.contains(&path) {
            &mut statistics.partitioned
        } else if take_one(&mut self.drop_next) || take_one(&mut link.drop_next) {
            &mut statistics.scripted
        } else if len > conditions.mtu {
            &mut statistics.oversized
        } else if link.in_burst(random, conditions.burst) || random.random_bool(conditions.loss) {
            &mut statistics.lost
        } else {
            match link.departure(now, conditions.rate, len) {
                Some(departure) => return Some(departure),
                None => &mut statistics.overflowed,
            }
        };
        *fate += 1;
        None
    }

    fn conditions_of(&self, path: (Address, Address)) -> &Conditions {
        self.links.get(&path).and_then(|link| link.conditions.as_ref()).unwrap_or(&self.conditions)
    }
}

impl Link {
    /// Whether a burst takes the datagram.
    fn in_burst(&mut self, random: &mut Xoshiro256PlusPlus, burst: Option<Burst>) -> bool {
        let Some(Burst { start, end }) = burst else { return false };
        let taken = self.in_burst || random.random_bool(start);
        self.in_burst = taken && !random.random_bool(end);
        taken
    }

    /// When the datagram has left the line; `None` when the queue is full.
    fn departure(&mut self, now: Instant, rate: Option<Rate>, len: usize) -> Option<Instant> {
        let Some(Rate { bytes_per_second, queue }) = rate else { return Some(now) };
        let begin = self.busy_until.map_or(now, |busy_until| busy_until.max(now));
        let waiting = (begin - now).as_nanos() * u128::from(bytes_per_second) / NANOS;
        if waiting + len as u128 > u128::from(queue) {
            return None;
        }
        let nanos = (len as u128 * NANOS).div_ceil(u128::from(bytes_per_second.max(1)));
        let departure = begin + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.busy_until = Some(departure);
        Some(departure)
    }
}

const NANOS: u128 = 1_000_000_000;

fn take_one(count: &mut u64) -> bool {
    let taken = *count > 0;
    *count -= u64::from(taken);
    taken
}

/// Flips one to eight bits, or else cuts off at least one byte. An empty datagram stays empty.
fn corrupt(random: &mut Xoshiro256PlusPlus, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    if random.random_bool(0.25) {
        bytes.truncate(random.random_range(0..bytes.len()));
        return;
    }
    // Different bits, so that no two flips cancel out.
    let flips: BTreeSet<usize> =
        (0..random.random_range(1..=8)).map(|_| random.random_range(0..bytes.len() * 8)).collect();
    for bit in flips {
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

/// A datagram under way; the greatest is the next to arrive, which is the order of [`BinaryHeap`].
#[derive(Debug)]
struct Arrival {
    time: Instant,
    /// Its number among all ever sent; of two that arrive at once, the first sent comes first.
    number: u64,
    delivery: Delivery,
}

impl Arrival {
    fn key(&self) -> (Instant, u64) {
        (self.time, self.number)
    }
}

impl Ord for Arrival {
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }
}

impl PartialOrd for Arrival {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Arrival {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Arrival {}
