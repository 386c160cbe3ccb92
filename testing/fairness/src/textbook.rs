//! A flow that has nothing in common with ours: a window, and datagrams that are acknowledged one by one.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, timeout};
use zssp::link::memory::{MemoryLink, Network};
use zssp::link::{Link, Path, ReceiveBatch};

use crate::{destination, source};

/// Bytes of a datagram.
const LEN: usize = 1400;

/// A datagram that so many have overtaken is lost.
const OVERTAKEN: u64 = 3;

/// After so long without an acknowledgement all datagrams are lost.
const SILENCE: Duration = Duration::from_millis(250);

/// How the window grows and shrinks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rule {
    /// RFC 9438: the window before the last loss, and when that was.
    Cubic { max: f64, lost: Option<Instant> },
    /// RFC 5681.
    Reno,
}

impl Rule {
    pub(crate) fn cubic() -> Self {
        Self::Cubic { max: 0.0, lost: None }
    }
}

/// Begins. All datagrams that arrive are counted.
pub(crate) fn start(network: &Network, host: u8, rule: Rule) -> Arc<AtomicU64> {
    let received = Arc::new(AtomicU64::new(0));
    let [link, sink] = [source(host), destination(host)].map(|address| network.attach(address).unwrap());
    let to = sink.local_addr();
    tokio::spawn(acknowledge(sink, received.clone()));
    tokio::spawn(async move {
        let mut sender = Sender::new(link, to, rule);
        loop {
            sender.turn().await;
        }
    });
    received
}

/// Returns the number of every datagram, and counts their bytes.
async fn acknowledge(sink: MemoryLink, count: Arc<AtomicU64>) {
    let mut batch = ReceiveBatch::default();
    loop {
        for (from, bytes) in receive(&sink, &mut batch).await {
            count.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            sink.try_send(from, &bytes[..8], 8).unwrap();
        }
    }
}

async fn receive(link: &MemoryLink, batch: &mut ReceiveBatch) -> Vec<(Path, Vec<u8>)> {
    batch.clear();
    poll_fn(|cx| link.poll_receive(cx, batch)).await.unwrap();
    batch.datagrams().map(|(from, bytes)| (from, bytes.to_vec())).collect()
}

/// Paces nothing: what the window allows goes out at once.
struct Sender {
    link: MemoryLink,
    to: SocketAddr,
    batch: ReceiveBatch,
    window: Window,
    /// The number of the next datagram.
    number: u64,
    /// Losses of what was sent before the last reduction belong to it.
    recovered: u64,
    under_way: BTreeMap<u64, Instant>,
    rtt: Duration,
}

impl Sender {
    fn new(link: MemoryLink, to: SocketAddr, rule: Rule) -> Self {
        let (batch, window, under_way) = (ReceiveBatch::default(), Window::new(rule), BTreeMap::new());
        Self { link, to, batch, window, number: 0, recovered: 0, under_way, rtt: Duration::from_millis(50) }
    }

    /// Fills the window, and waits for what is acknowledged.
    async fn turn(&mut self) {
        let now = Instant::now();
        while (self.under_way.len() as f64) < self.window.size {
            let mut datagram = [0; LEN];
            datagram[..8].copy_from_slice(&self.number.to_be_bytes());
            self.link.try_send(self.to.into(), &datagram, LEN).unwrap();
            self.under_way.insert(self.number, now);
            self.number += 1;
        }
        let Ok(acks) = timeout(SILENCE, receive(&self.link, &mut self.batch)).await else {
            self.under_way.clear();
            self.window.timed_out();
            return;
        };
        for (_, ack) in acks {
            self.acknowledged(u64::from_be_bytes(ack[..8].try_into().unwrap()));
        }
    }

    fn acknowledged(&mut self, number: u64) {
        let Some(sent) = self.under_way.remove(&number) else { return };
        let now = Instant::now();
        self.rtt = (self.rtt * 7 + (now - sent)) / 8;
        if number >= self.recovered {
            self.window.acknowledged(now, self.rtt);
        }
        while let Some(oldest) = self.under_way.first_entry()
            && oldest.key() + OVERTAKEN <= number
        {
            if oldest.remove_entry().0 >= self.recovered {
                self.recovered = self.number;
                self.window.lost(now);
            }
        }
    }
}

/// A window in datagrams, as the textbook has it.
#[derive(Debug)]
struct Window {
    size: f64,
    threshold: f64,
    rule: Rule,
}

impl Window {
    fn new(rule: Rule) -> Self {
        Self { size: 10.0, threshold: f64::INFINITY, rule }
    }

    fn acknowledged(&mut self, now: Instant, rtt: Duration) {
        if self.size < self.threshold {
            self.size += 1.0;
            return;
        }
        match self.rule {
            Rule::Reno => self.size += 1.0 / self.size,
            Rule::Cubic { max, lost } => {
                let (since, rtt) = (lost.map_or(0.0, |lost| (now - lost).as_secs_f64()), rtt.as_secs_f64());
                let k = (max * 0.3 / 0.4).cbrt();
                let target = 0.4 * (since + rtt - k).powi(3) + max;
                let friendly = max * 0.7 + 3.0 * 0.3 / 1.7 * since / rtt;
                if target.max(friendly) > self.size {
                    self.size += (target.max(friendly) - self.size).min(self.size / 2.0) / self.size;
                }
            }
        }
    }

    fn lost(&mut self, now: Instant) {
        let keep = match &mut self.rule {
            Rule::Reno => 0.5,
            Rule::Cubic { max, lost } => {
                (*max, *lost) = (if self.size < *max { self.size * 0.85 } else { self.size }, Some(now));
                0.7
            }
        };
        self.size = (self.size * keep).max(2.0);
        self.threshold = self.size;
    }

    fn timed_out(&mut self) {
        self.threshold = (self.size / 2.0).max(2.0);
        self.size = 2.0;
    }
}
