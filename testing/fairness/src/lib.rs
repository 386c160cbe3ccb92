//! Two flows that share a bottleneck, for a minute on a paused clock: two of ours, or one of ours beside a flow of
//! another make, as simple as the RFCs describe it.
//!
//! The tests here hold the figures to a bound, the benchmark prints them. Nothing waits: a minute takes a part of a second.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on says where")]

mod ours;
mod textbook;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::sleep;
use zssp::link::memory::{Bottleneck, Conditions, Network};

/// Bytes a second that the road carries.
pub const RATE: u64 = 1_250_000;

/// There and back.
pub const ROUND_TRIP: Duration = Duration::from_millis(40);

/// Ten megabits a second, and a queue of as much as is under way on it.
const ROAD: Conditions = Conditions {
    delay: Duration::from_millis(20),
    duplication: 0.0,
    loss: 0.0,
    mtu: None,
    bottleneck: Some(Bottleneck { rate: RATE, queue: 50_000 }),
    reordering: 0.0,
};

/// Flows find their places for so long, and then are measured for so long.
const SETTLING: Duration = Duration::from_secs(10);
const MEASURED: Duration = Duration::from_secs(60);

/// When the second flow comes, in milliseconds, when the first has taken everything. Who loses when the queue is full is a
/// matter of a millisecond, and the same one may lose each time: what counts is the mean.
pub const STARTS: [u64; 3] = [3000, 4031, 6011];

/// Who shares the road with whom.
pub const PAIRS: [[Flow; 2]; 4] = [
    [Flow::Cubic, Flow::Cubic],
    [Flow::NewReno, Flow::NewReno],
    [Flow::Cubic, Flow::TextbookReno],
    [Flow::Cubic, Flow::TextbookCubic],
];

/// A flow that always has something to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// A stream of ours, as it is by default.
    Cubic,
    /// A stream of ours with the other controller.
    NewReno,
    /// RFC 9438, and nothing else.
    TextbookCubic,
    /// RFC 5681, and nothing else.
    TextbookReno,
}

impl Flow {
    /// Begins, from a host of its own, and counts what arrives.
    async fn start(self, network: &Network, host: u8) -> Arc<AtomicU64> {
        match self {
            Self::Cubic | Self::NewReno => ours::start(network, host, self).await,
            Self::TextbookCubic => textbook::start(network, host, textbook::Rule::cubic()),
            Self::TextbookReno => textbook::start(network, host, textbook::Rule::Reno),
        }
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cubic => "CUBIC",
            Self::NewReno => "NewReno",
            Self::TextbookCubic => "a textbook CUBIC (RFC 9438)",
            Self::TextbookReno => "a textbook Reno (RFC 5681)",
        })
    }
}

/// The parts of the road that two flows get, each of 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shares(pub [f64; 2]);

impl Shares {
    /// Jain's index: 1 where both get the same, 0.5 where one gets everything.
    pub fn index(self) -> f64 {
        let [a, b] = self.0;
        (a + b).powi(2) / (2.0 * (a * a + b * b))
    }
}

/// What two flows get when the second comes `start` milliseconds after the first.
///
/// # Panics
/// When a flow cannot begin, or the caller runs within a runtime.
pub fn shares([first, second]: [Flow; 2], start: u64) -> Shares {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let network = Network::new(1, ROAD);
        let first = first.start(&network, 1).await;
        sleep(Duration::from_millis(start)).await;
        let second = second.start(&network, 2).await;
        let read = || [&first, &second].map(|flow| flow.load(Ordering::Relaxed) as f64);
        sleep(SETTLING).await;
        let before = read();
        sleep(MEASURED).await;
        let after = read();
        let road = RATE as f64 * MEASURED.as_secs_f64();
        Shares([0, 1].map(|flow| (after[flow] - before[flow]) / road))
    })
}

/// The mean of several beginnings.
pub fn mean(of: &[Shares]) -> Shares {
    Shares([0, 1].map(|flow| of.iter().map(|shares| shares.0[flow]).sum::<f64>() / of.len() as f64))
}

/// What is shared is the way to this host, so all flows go there.
const DESTINATION: u8 = 9;

/// Where the flow of a host comes from.
fn source(host: u8) -> SocketAddr {
    ([10, 0, 0, host], 1).into()
}

/// Where it goes.
fn destination(host: u8) -> SocketAddr {
    ([10, 0, 0, DESTINATION], u16::from(host)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flow that paces nothing fills the queue with its bursts, and one that is paced gets somewhat less beside it.
    fn least(pair: [Flow; 2]) -> f64 {
        match pair[1] {
            Flow::Cubic | Flow::NewReno => 0.95,
            // The aim is 0.9, and single runs differ by some hundredths, since tokens and keys are random.
            Flow::TextbookCubic => 0.88,
            Flow::TextbookReno => 0.95,
        }
    }

    #[test]
    fn two_flows_share_a_bottleneck() {
        for pair in PAIRS {
            let [first, second] = pair;
            let single = STARTS.map(|start| shares(pair, start));
            let mean = mean(&single);
            println!("{first}, {second}: {mean:?}, {:.3}; {single:?}", mean.index());
            assert!(mean.0.iter().sum::<f64>() > 0.8, "the road is not used: {mean:?}");
            assert!(mean.index() >= least(pair), "{first}, {second}: {mean:?}");
        }
    }

    #[test]
    fn the_index_tells_equal_from_unequal() {
        assert!((Shares([0.5, 0.5]).index() - 1.0).abs() < 1e-9);
        assert!((Shares([1.0, 0.0]).index() - 0.5).abs() < 1e-9);
        assert_eq!(mean(&[Shares([0.25, 0.5]), Shares([0.75, 0.5])]), Shares([0.5, 0.5]));
    }
}
