//! One task per connection that sends what is due, and sleeps until somebody changes something or a deadline comes.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use super::sending::Round;
use super::shared::Shared;
use super::state::Step;
use crate::clock;
use crate::endpoint::Hold;
use crate::error::CloseReason;
use crate::wait::to_the_back;

/// How long to sleep when there is no deadline at all.
const FOREVER: Duration = Duration::from_secs(24 * 3600);

/// For so many rounds after one of several payloads, the tasks that are ready go before the driver: they may have more to
/// send. So may those who had their answers at the same time ([`Shared::company`]): it is them that a lone round would keep
/// apart, and every one after it.
const COMPANY: u32 = 16;

/// Runs a connection to its end.
///
/// It leaves its endpoint also when the runtime is shut down and the task just dropped, even before its first poll: the
/// endpoint's table would keep it alive.
pub(crate) fn drive(shared: Arc<Shared>, hold: Hold) -> impl Future<Output = ()> + Send {
    run(Leave { shared, _hold: hold })
}

async fn run(leave: Leave) {
    let shared = &leave.shared;
    let mut company = 0_u32;
    let mut sleep = Box::pin(tokio::time::sleep(FOREVER));
    loop {
        let mut round = Round::choose(shared);
        company = if round.payloads() > 1 { COMPANY } else { company.saturating_sub(1) };
        round.send(shared).await;
        match round.end(shared) {
            Step::Over => break,
            // Lets others run now and then; in between, the next round may start at once.
            Step::Again => tokio::task::coop::consume_budget().await,
            Step::Wait(deadline) => {
                let deadline = deadline.unwrap_or_else(|| clock::now() + FOREVER);
                wait(shared, sleep.as_mut(), deadline).await;
                if shared.company.swap(false, Relaxed) {
                    company = COMPANY;
                }
                if company > 0 {
                    // Whoever has called, and those who are ready beside it, may have more to send: all that goes together.
                    // A lone sender would only wait.
                    to_the_back().await;
                }
            }
        }
    }
}

/// Takes the connection out of its endpoint when its driver ends, in whatever way.
struct Leave {
    shared: Arc<Shared>,
    /// The last to be let go of.
    _hold: Hold,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.shared.handle_session_end(CloseReason::EndpointClosed);
        self.shared.endpoint.remove(&self.shared);
    }
}

async fn wait(shared: &Shared, mut sleep: std::pin::Pin<&mut Sleep>, deadline: Instant) {
    let deadline = tokio::time::Instant::from_std(deadline);
    if sleep.deadline() != deadline {
        sleep.as_mut().reset(deadline);
    }
    tokio::select! {
        () = shared.driver.notified() => {}
        () = sleep => {}
    }
}
