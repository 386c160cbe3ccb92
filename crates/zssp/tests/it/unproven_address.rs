//! Somebody on the road sends copies of what he sees from other addresses, before the originals get there: to have a peer
//! answered where it is not.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::sleep;
use zssp::link::memory::{MemoryLink, Network};
use zssp::link::{Link, Path, ReceiveBatch};
use zssp::{Connection, Endpoint, SecretKey};

use crate::common::simulation::{GOOD, SECOND, address, builder, connect, leaves_nothing, network, transfer};
use crate::common::{Random, content};

/// Which datagrams are copied, and from where.
#[derive(Clone, Copy)]
struct Plan {
    /// One in so many.
    one_in: u64,
    /// No larger ones.
    largest: usize,
    /// How many addresses copies come from; `None` for another one each time.
    addresses: Option<u64>,
    original: Original,
}

/// What becomes of a datagram that was copied.
#[derive(Clone, Copy, PartialEq)]
enum Original {
    Lost,
    TooLate,
}

/// The somebody.
struct Attacker {
    network: Network,
    plan: Plan,
    random: Mutex<Random>,
    awake: AtomicBool,
    copies: AtomicU64,
}

impl Attacker {
    /// Whether he has sent a copy.
    fn copies(&self, path: Path, datagram: &[u8]) -> bool {
        let Plan { one_in, largest, addresses, .. } = self.plan;
        // Held to the end, for whoever comes next may have the same address: handshakes are sent by threads of their own.
        let mut random = self.random.lock().unwrap();
        let chosen = random.one_in(one_in) && datagram.len() <= largest;
        if !chosen || !self.awake.load(Relaxed) {
            return false;
        }
        let number = self.copies.fetch_add(1, Relaxed);
        let number = u32::try_from(addresses.map_or(number, |count| number % count)).unwrap();
        let [_, a, b, c] = number.to_be_bytes();
        let link = self.network.attach(SocketAddr::from(([99, a, b, c], 9))).unwrap();
        link.try_send(path, datagram, datagram.len()).unwrap();
        true
    }
}

/// Bytes that came from an address, and bytes that went there.
#[derive(Default)]
struct Account {
    received: u64,
    sent: u64,
}

/// What an endpoint has had to do with each address but its peer's.
#[derive(Default)]
struct Accounts {
    by_address: HashMap<SocketAddr, Account>,
    /// The most that was sent for what had been received, at any moment.
    worst: f64,
}

/// A link on which the attacker listens, and whose traffic is written down.
struct Tapped {
    link: MemoryLink,
    peer: SocketAddr,
    attacker: Arc<Attacker>,
    accounts: Arc<Mutex<Accounts>>,
}

impl Link for Tapped {
    fn local_addr(&self) -> SocketAddr {
        self.link.local_addr()
    }

    fn mtu(&self) -> usize {
        self.link.mtu()
    }

    fn try_send(&self, path: Path, run: &[u8], segment: usize) -> io::Result<usize> {
        if path.remote != self.peer {
            let mut accounts = self.accounts.lock().unwrap();
            let account = accounts.by_address.entry(path.remote).or_default();
            account.sent += run.len() as u64;
            let ratio = account.sent as f64 / account.received as f64;
            accounts.worst = accounts.worst.max(ratio);
            return self.link.try_send(path, run, segment);
        }
        for datagram in run.chunks(segment) {
            let copied = self.attacker.copies(path, datagram);
            if !copied || self.attacker.plan.original == Original::TooLate {
                self.link.try_send(path, datagram, datagram.len())?;
            }
        }
        Ok(run.len())
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.poll_writable(cx)
    }

    fn poll_receive(&self, cx: &mut Context<'_>, batch: &mut ReceiveBatch) -> Poll<io::Result<()>> {
        ready!(self.link.poll_receive(cx, batch))?;
        let mut accounts = self.accounts.lock().unwrap();
        for (from, datagram) in batch.datagrams().filter(|(from, _)| from.remote != self.peer) {
            accounts.by_address.entry(from.remote).or_default().received += datagram.len() as u64;
        }
        Poll::Ready(Ok(()))
    }
}

/// Two endpoints whose road the attacker is on, and what goes to his addresses.
struct Scene {
    network: Network,
    attacker: Arc<Attacker>,
    accounts: [Arc<Mutex<Accounts>>; 2],
    endpoints: [Endpoint; 2],
    here: Connection,
    there: Connection,
}

impl Scene {
    async fn new(seed: u64, plan: Plan) -> Self {
        let network = network(seed, GOOD);
        let attacker = Arc::new(Attacker {
            network: network.clone(),
            plan,
            random: Mutex::new(Random::new(seed)),
            awake: AtomicBool::new(false),
            copies: AtomicU64::new(0),
        });
        let accounts = [(); 2].map(|()| Arc::default());
        let endpoint = |own: u16, peer: u16| {
            let link = Tapped {
                link: network.attach(address(own)).unwrap(),
                peer: address(peer),
                attacker: attacker.clone(),
                accounts: Arc::clone(&accounts[usize::from(own) - 1]),
            };
            let builder = builder(&SecretKey::generate().unwrap());
            builder.keep_alive(Duration::from_millis(100)).bind_link(link).unwrap()
        };
        let endpoints = [endpoint(1, 2), endpoint(2, 1)];
        let (here, there) = connect(&endpoints[0], &endpoints[1]).await;
        attacker.awake.store(true, Relaxed);
        Self { network, attacker, accounts, endpoints, here, there }
    }

    /// Bulk in both directions, another key in the middle of it, then silence with its signs of life.
    async fn goes_on(&self) {
        const LEN: usize = 2 << 20;
        let Self { here, there, .. } = self;
        let (up, down) = (content(1, LEN), content(2, LEN));
        let rekey = async {
            sleep(SECOND / 5).await;
            here.rekey().await;
        };
        let upwards = transfer(here.clone(), there.clone(), up.clone());
        let downwards = transfer(there.clone(), here.clone(), down.clone());
        let (upwards, downwards, ()) = tokio::join!(upwards, downwards, rekey);
        assert!(upwards == up && downwards == down, "every byte once and in order");
        sleep(20 * SECOND).await;
        for (end, peer) in [(here, address(2)), (there, address(1))] {
            assert_eq!((end.close_reason(), end.remote_address()), (None, peer));
        }
    }

    /// The end; yields how much more went to an address than had come from there, at the worst moment of all.
    async fn worst(self) -> f64 {
        let copies = self.attacker.copies.load(Relaxed);
        let worst = self.accounts.each_ref().map(|accounts| accounts.lock().unwrap().worst);
        println!("{copies} copies, answered by {worst:?} times their bytes at most");
        assert!(copies > 10 && worst.iter().all(|&worst| worst > 0.0), "he was not there");
        let Self { network, endpoints, here, there, .. } = self;
        drop((here, there));
        leaves_nothing(endpoints, &network).await;
        worst.into_iter().fold(0.0, f64::max)
    }
}

/// Copies from elsewhere arrive first, and what they answer goes there.
const RACED: Plan = Plan { one_in: 2, largest: usize::MAX, addresses: Some(1), original: Original::TooLate };

//= ZSSP-LIV-04  whatever is sent on, from wherever, at every moment
//= ZSSP-LIV-03  and the connection stays where its peer is
#[tokio::test(start_paused = true)]
async fn an_address_gets_three_times_what_came_from_there_at_most() {
    let lost = Plan { one_in: 4, original: Original::Lost, ..RACED };
    let several = Plan { one_in: 20, addresses: Some(5), ..lost };
    // The smallest payloads there are, each from an address that nothing else comes from: it is these that bring the most.
    let small = Plan { largest: 64, addresses: None, ..RACED };
    for (seed, plan) in [RACED, lost, several, small].into_iter().enumerate() {
        let scene = Scene::new(seed as u64, plan).await;
        scene.goes_on().await;
        let worst = scene.worst().await;
        assert!(worst <= 3.0, "{worst} times");
    }
}
