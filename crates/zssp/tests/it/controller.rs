//! A congestion controller of one's own that works in another way than those there are: all it needs is told.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use zssp::congestion::{Acknowledged, Controller, Cubic, Lost, Sent, Usage};
use zssp::link::memory::{Bottleneck, Conditions, Network};
use zssp::{Endpoint, SecretKey};

use crate::common::connect;

const RATE: u64 = 1_250_000;

/// As long as this is in round trips, the best rate of late is what the road has.
const MEMORY: u32 = 10;

/// Looks for more, makes good what that left in the queue, and then keeps to what it found.
const CYCLE: [f64; 8] = [1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];

/// The core of BBR: how fast the road delivers, and how long it takes when nothing waits. Losses do not matter.
#[derive(Debug)]
struct Model {
    datagram: u64,
    /// How much had arrived and when, by the time at which something was sent.
    sent: VecDeque<(Instant, u64, Instant)>,
    delivered: u64,
    delivered_at: Option<Instant>,
    /// In bytes a second, the oldest first and each better than those after it.
    rates: VecDeque<(Instant, f64)>,
    rtt: Option<Duration>,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// The best rate, and when it last was a quarter better than before.
    Startup(f64, Option<Instant>),
    Drain,
    Cruise(Instant),
}

impl Model {
    fn new(datagram: usize) -> Self {
        Self {
            datagram: datagram as u64,
            sent: VecDeque::new(),
            delivered: 0,
            delivered_at: None,
            rates: VecDeque::new(),
            rtt: None,
            phase: Phase::Startup(0.0, None),
        }
    }

    /// Bytes under way that fill the road and no queue, once that is known.
    fn full(&self) -> Option<f64> {
        Some(self.rates.front()?.1 * self.rtt?.as_secs_f64())
    }

    fn gain(&self, now: Instant) -> f64 {
        match self.phase {
            Phase::Startup(..) => 2.89,
            Phase::Drain => 0.35,
            Phase::Cruise(since) => {
                let turn = now.saturating_duration_since(since).as_nanos()
                    / self.rtt.unwrap_or(Duration::from_secs(1)).as_nanos().max(1);
                CYCLE[turn as usize % CYCLE.len()]
            }
        }
    }

    fn measure(&mut self, now: Instant, rate: f64, rtt: Duration) {
        while self.rates.back().is_some_and(|&(_, worse)| worse <= rate) {
            self.rates.pop_back();
        }
        self.rates.push_back((now, rate));
        while self.rates.front().is_some_and(|&(at, _)| now - at > rtt * MEMORY) {
            self.rates.pop_front();
        }
    }
}

impl Controller for Model {
    fn window(&self) -> u64 {
        self.full().map_or(10 * self.datagram, |full| ((2.0 * full) as u64).max(4 * self.datagram))
    }

    fn rate(&self) -> Option<u64> {
        let now = self.delivered_at?;
        Some((self.rates.front()?.1 * self.gain(now)) as u64)
    }

    fn sent(&mut self, Sent { now, bytes, in_flight, .. }: Sent) {
        if in_flight == bytes || self.delivered_at.is_none() {
            self.delivered_at = Some(now);
        }
        if self.sent.back().is_none_or(|&(last, ..)| last < now) {
            self.sent.push_back((now, self.delivered, self.delivered_at.unwrap()));
        }
        while self.sent.front().is_some_and(|&(at, ..)| now - at > Duration::from_secs(2)) {
            self.sent.pop_front();
        }
    }

    fn acknowledged(&mut self, acknowledged: Acknowledged) {
        let Acknowledged { now, sent, bytes, in_flight, rtt, sample, usage, .. } = acknowledged;
        self.delivered += bytes;
        self.delivered_at = Some(now);
        if let Some(sample) = sample {
            self.rtt = Some(self.rtt.map_or(sample, |rtt| rtt.min(sample)));
        }
        if let Ok(place) = self.sent.binary_search_by_key(&sent, |&(at, ..)| at)
            && usage == Usage::Full
        {
            let (_, before, since) = self.sent[place];
            let time = (now - since).max(self.rtt.unwrap_or_default());
            if !time.is_zero() {
                self.measure(now, (self.delivered - before) as f64 / time.as_secs_f64(), rtt);
            }
        }
        let (best, full) = (self.rates.front().map_or(0.0, |&(_, rate)| rate), self.full());
        match &mut self.phase {
            Phase::Startup(before, since) if best > *before * 1.25 => (*before, *since) = (best, Some(now)),
            Phase::Startup(_, Some(since)) if now - *since > rtt * 3 => self.phase = Phase::Drain,
            Phase::Drain if full.is_some_and(|full| in_flight as f64 <= full) => {
                self.phase = Phase::Cruise(now);
            }
            Phase::Startup(..) | Phase::Drain | Phase::Cruise(_) => {}
        }
    }

    fn lost(&mut self, _: Lost) {}

    fn collapsed(&mut self, _now: Instant) {
        *self = Self::new(self.datagram as usize);
    }
}

fn endpoint(network: &Network, number: u8, make: fn(usize) -> Box<dyn Controller>) -> Endpoint {
    let link = network.attach(([10, 0, 0, number], 1).into()).unwrap();
    let builder = Endpoint::builder(SecretKey::generate().unwrap()).handshakes(1, 128);
    builder.congestion(make).bind_link(link).unwrap()
}

/// What a stream gets of a road that loses one datagram of a hundred for no reason, and the share of all that is lost.
async fn share(make: fn(usize) -> Box<dyn Controller>) -> (f64, f64) {
    const TIME: Duration = Duration::from_secs(20);
    let road = Conditions {
        delay: Duration::from_millis(20),
        duplication: 0.0,
        loss: 0.0,
        mtu: None,
        bottleneck: Some(Bottleneck { rate: RATE, queue: 100_000 }),
        reordering: 0.0,
    };
    let network = Network::new(1, road);
    let (client, server) = (endpoint(&network, 1, make), endpoint(&network, 2, make));
    let (here, there) = connect(&client, &server).await;
    network.set_conditions(Conditions { loss: 0.01, ..road });
    let (start, before) = (tokio::time::Instant::now(), network.stats());
    tokio::spawn(async move {
        let (mut send, _receive) = here.open_stream().await.unwrap();
        while send.write_chunk(vec![0; 60_000]).await.is_ok() {}
        drop(client);
    });
    let (_send, mut receive) = there.accept_stream().await.unwrap();
    let mut bytes = 0;
    while start.elapsed() < TIME {
        bytes += receive.read_chunk().await.unwrap().unwrap().len();
    }
    let after = network.stats();
    let lost = (after.lost - before.lost) as f64 / (after.sent - before.sent) as f64;
    (bytes as f64 / start.elapsed().as_secs_f64() / RATE as f64, lost)
}

#[tokio::test(start_paused = true)]
async fn a_controller_may_measure_the_road_and_set_the_pace() {
    let (model, lost) = share(|datagram| Box::new(Model::new(datagram))).await;
    let (cubic, _) = share(|datagram| Box::new(Cubic::new(datagram))).await;
    println!("{:.1} % of the rate, {:.2} % lost; CUBIC {:.1} %", model * 100.0, lost * 100.0, cubic * 100.0);
    assert!(model > 0.8 && cubic < 0.5, "{model}, CUBIC {cubic}");
    assert!(lost < 0.03, "the pace is what keeps the queue short: {lost}");
}

/// So many bytes a second, whatever happens.
#[derive(Debug)]
struct Fixed(u64);

impl Controller for Fixed {
    fn window(&self) -> u64 {
        u64::MAX
    }
    fn rate(&self) -> Option<u64> {
        Some(self.0)
    }
    fn acknowledged(&mut self, _: Acknowledged) {}
    fn lost(&mut self, _: Lost) {}
    fn collapsed(&mut self, _now: Instant) {}
}

#[tokio::test(start_paused = true)]
async fn a_pace_is_kept_to() {
    let (half, _) = share(|_| Box::new(Fixed(RATE / 2))).await;
    // Headers and resends count, too.
    assert!((0.4..0.51).contains(&half), "{half}");
}

/// It would never end otherwise, and nobody could be told why.
#[tokio::test(start_paused = true)]
async fn a_pace_of_nothing_is_a_datagram_a_second() {
    let (least, _) = share(|_| Box::new(Fixed(0))).await;
    assert!(least > 0.0 && least < 0.01, "{least}");
}
