//! What happened, and what it cost.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use seqex::encoding::ChannelId;

use crate::content::CONTROL;

#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the threads of one stage cost.
#[derive(Debug, Default)]
pub(crate) struct Stage {
    nanoseconds: Count,
    #[cfg(test)]
    allocations: Count,
}

impl Stage {
    /// Runs the whole of a thread of this stage.
    pub(crate) fn run<T>(&self, thread: impl FnOnce() -> T) -> T {
        let before = cpu_time();
        let result = self.measured(thread);
        self.nanoseconds.add(u64::try_from((cpu_time() - before).as_nanos()).unwrap_or(u64::MAX));
        result
    }

    #[cfg(not(test))]
    fn measured<T>(&self, thread: impl FnOnce() -> T) -> T {
        thread()
    }

    #[cfg(test)]
    fn measured<T>(&self, thread: impl FnOnce() -> T) -> T {
        let mut result = None;
        let counted = allocation_counter::measure(|| result = Some(thread()));
        self.allocations.add(counted.count_total);
        result.expect("it ran")
    }

    pub(crate) fn time(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds.value())
    }
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) ingress: Stage,
    pub(crate) workers: Stage,
    pub(crate) sources: Stage,
    pub(crate) egress: Stage,
    pub(crate) handshakes: Stage,

    /// Frames that found a ring full.
    pub(crate) ring_dropped: Count,
    /// Datagrams taken from the link.
    pub(crate) frames_received: Count,
    /// Of these, lost on purpose.
    pub(crate) lost: Count,
    /// Payloads opened.
    pub(crate) opened: Count,
    /// Datagrams that led nowhere: forged, repeated, late.
    pub(crate) refused: Count,
    /// Handshake work that found its queue full.
    pub(crate) handshakes_dropped: Count,
    /// Messages that came twice, since their acknowledgement came late.
    pub(crate) repeated: Count,
    /// Messages that found the window of control messages full.
    control_dropped: Count,
    /// Messages that found the window of bulk full.
    bulk_dropped: Count,

    /// Payloads sealed: acknowledgements and messages, those sent again among them.
    pub(crate) sealed: Count,
    /// Times that the link or the card refused.
    pub(crate) unsent: Count,
}

impl Counters {
    /// Messages that found the window of that channel full, or do not belong to it.
    pub(crate) fn window_dropped(&self, channel: ChannelId) -> &Count {
        if channel == CONTROL { &self.control_dropped } else { &self.bulk_dropped }
    }
}

#[cfg(test)]
impl Counters {
    /// Allocations of all stages that packets pass.
    pub(crate) fn allocations(&self) -> u64 {
        let stages = [&self.sources, &self.egress, &self.ingress, &self.workers];
        stages.map(|stage| stage.allocations.value()).iter().sum()
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stages = [
            ("sources", &self.sources),
            ("egress", &self.egress),
            ("ingress", &self.ingress),
            ("workers", &self.workers),
            ("handshakes", &self.handshakes),
        ];
        write!(f, "  CPU ms:  ")?;
        for (name, stage) in stages {
            write!(f, " {name} {}", stage.time().as_millis())?;
        }
        writeln!(
            f,
            "\n  packets:  sealed {}, frames received {}, opened {}, refused {}",
            self.sealed.value(),
            self.frames_received.value(),
            self.opened.value(),
            self.refused.value()
        )?;
        write!(
            f,
            "  dropped:  on purpose {}, ring {}, control window {}, bulk window {}, repeated {}, handshakes {}, unsent {}",
            self.lost.value(),
            self.ring_dropped.value(),
            self.control_dropped.value(),
            self.bulk_dropped.value(),
            self.repeated.value(),
            self.handshakes_dropped.value(),
            self.unsent.value()
        )
    }
}
