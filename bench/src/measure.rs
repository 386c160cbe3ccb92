//! What both sides are measured by.

use std::time::{Duration, Instant};

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Bytes of a bulk transfer.
pub(crate) const BULK: usize = 512 << 20;

/// Bytes written at a time.
pub(crate) const PIECE: usize = 64 * 1024;

/// Bytes of datagrams sent.
pub(crate) const DATAGRAMS: usize = 128 << 20;

/// Requests made, and how many of them at the same time.
pub(crate) const REQUESTS: usize = 40_000;
pub(crate) const AT_ONCE: usize = 64;

/// Bytes of a request and of its reply.
pub(crate) const REQUEST: [u8; 64] = [7; 64];

/// Connections made, one after the other.
pub(crate) const HANDSHAKES: usize = 100;

/// How much was done, how long it took, and what it cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) bytes: usize,
    pub(crate) count: usize,
    pub(crate) time: Duration,
    pub(crate) cpu: Duration,
}

/// A clock for both kinds of time.
pub(crate) struct Clock {
    start: Instant,
    cpu: Duration,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now(), cpu: cpu_time() }
    }

    pub(crate) fn stop(&self, bytes: usize, count: usize) -> Sample {
        Sample { bytes, count, time: self.start.elapsed(), cpu: cpu_time() - self.cpu }
    }
}

/// CPU time of this process, user and system; zero where the system does not tell.
pub(crate) fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or("").split_whitespace();
    // After the name come the state and ten numbers before utime and stime, in hundredths of a second.
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// Bytes of memory this process has resident, where the system tells.
pub(crate) fn rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}
