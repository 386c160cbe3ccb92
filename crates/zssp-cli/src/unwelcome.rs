//! Hellos that get no answer, because they name no ratchet of ours.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{interval, sleep};
use zssp::Endpoint;

use crate::console::Console;

/// How often is looked for them.
const LOOK: Duration = Duration::from_secs(1);
/// They are spoken of only so often: who sends them goes on for a while.
const PAUSE: Duration = Duration::from_secs(60);

/// Tells the user of hellos that got no answer.
pub(crate) struct Unwelcome {
    endpoint: Endpoint,
    file: Arc<PathBuf>,
    console: Console,
    /// So many were spoken of.
    told: AtomicU64,
}

impl Unwelcome {
    /// From now on the user is told, now and then.
    pub(crate) fn watch(endpoint: Endpoint, file: Arc<PathBuf>, console: Console) -> Arc<Self> {
        let this = Arc::new(Self { endpoint, file, console, told: AtomicU64::new(0) });
        let watching = Arc::clone(&this);
        tokio::spawn(async move {
            let mut looks = interval(LOOK);
            loop {
                looks.tick().await;
                if watching.tell() {
                    sleep(PAUSE).await;
                }
            }
        });
        this
    }

    /// Tells of those that were not told of yet, as at the end; whether there are any.
    pub(crate) fn tell(&self) -> bool {
        let count = self.endpoint.stats().unwelcome;
        // There are two who tell: the one who watches, and the command when it ends.
        let hellos = match count.saturating_sub(self.told.fetch_max(count, Ordering::Relaxed)) {
            0 => return false,
            1 => "1 hello".into(),
            count => format!("{count} hellos"),
        };
        self.console.warn(format_args!(
            "somebody has knocked and got no answer ({hellos}), because of `--policy persistent`: no ratchet was named that \
             is in {}. If it was a peer, either file was lost or is an older copy, or its command runs without --ratchets: \
             begin anew with a one-time password on both sides (see `zssp peers --help`).",
            self.file.display()
        ));
        true
    }
}
