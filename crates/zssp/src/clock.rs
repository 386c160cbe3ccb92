//! The one clock.

use std::time::Instant;

/// The time on the clock of the runtime's timers, so that tests which pause that clock pause everything.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
