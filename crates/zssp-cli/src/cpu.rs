//! The processor time of this process.

use std::time::Duration;

/// Spent by all threads so far; `None` where the system does not tell.
#[cfg(unix)]
pub(crate) fn time() -> Option<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Some(Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?))
}

/// Spent by all threads so far; `None` where the system does not tell.
#[cfg(not(unix))]
pub(crate) fn time() -> Option<Duration> {
    None
}
