//! Time under tokio.
//!
//! The futures of [`Exchange`](crate::Exchange) and [`Driver`](crate::Driver) run under any runtime; what they cannot
//! do by themselves is to sleep.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;

use ::tokio::time::sleep;

use crate::{Ended, Link};

/// Handles the time-outs of a link, as long as it lives. To be spawned as a task, or polled beside others.
///
/// ```
/// use std::sync::Arc;
/// use seqex::{Clock, Config, Exchange, Link};
/// # fn encode(_: &seqex::Packet<&String>) -> Vec<u8> { vec![] }
/// # async fn send(_: &[u8]) {}
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let (exchange, driver) = Exchange::<String>::new(Config::default(), Clock::default());
/// let driver = Arc::new(driver);
/// let timers = tokio::spawn({
///     let driver = driver.clone();
///     async move { seqex::tokio::keep_time(&*driver).await }
/// });
/// let transmitter = tokio::spawn(async move {
///     while driver.transmittable().await.is_ok() {
///         while let Some(datagram) = driver.transmit(|packet| encode(&packet)) {
///             send(&datagram).await;
///         }
///     }
/// });
/// # let _ = exchange.close();
/// # assert!(timers.await.is_ok() && transmitter.await.is_ok());
/// # }
/// ```
///
/// Returns why the link has ended: closed, or given up after [`Config::give_up_after`](crate::Config::give_up_after).
///
/// # Cancel safety
/// Dropping it is harmless. Time-outs are handled again when another one runs.
///
/// # Panics
/// When there is no tokio runtime with time enabled around.
pub async fn keep_time<L: Link>(link: &L) -> Ended {
    loop {
        if let Err(ended) = link.handle_timeout() {
            return ended;
        }
        let deadline = link.next_deadline();
        let mut moved = pin!(link.deadline_moved(deadline));
        let wait = deadline.map(|deadline| deadline.saturating_sub(link.clock().now()));
        let mut timer = pin!(async {
            match wait {
                Some(wait) => sleep(wait).await,
                None => std::future::pending().await,
            }
        });
        // Whichever comes first; the time-outs that are due are handled in either case.
        std::future::poll_fn(|context| match moved.as_mut().poll(context) {
            Poll::Pending => timer.as_mut().poll(context),
            Poll::Ready(_) => Poll::Ready(()),
        })
        .await;
    }
}
