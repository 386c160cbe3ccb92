//! The timer task under tokio, with tokio's clock standing still.

use std::sync::Arc;
use std::time::Duration;

use seqex::{Clock, Config, Driver, Ended, Exchange, Link, Order, WhyUnanswered};

/// Lets both clocks run together.
async fn run_clock(clock: Clock) {
    loop {
        tokio::time::sleep(Duration::from_millis(1)).await;
        clock.advance(Duration::from_millis(1));
    }
}

fn end(config: Config) -> (Exchange<u32>, Arc<Driver<u32>>, tokio::task::JoinHandle<Ended>) {
    let clock = Clock::manual();
    let (exchange, driver) = Exchange::new(config, clock.clone());
    let driver = Arc::new(driver);
    tokio::spawn(run_clock(clock));
    let timers = tokio::spawn({
        let driver = Arc::clone(&driver);
        async move { seqex::tokio::keep_time(&*driver).await }
    });
    (exchange, driver, timers)
}

#[tokio::test(start_paused = true)]
async fn requests_end_at_their_deadline_and_packets_are_sent_again() {
    let (exchange, driver, timers) = end(Config::default());
    let resent = tokio::spawn(async move {
        let mut transmitted = 0;
        while driver.transmittable().await.is_ok() {
            while driver.transmit(|_| ()).is_some() {
                transmitted += 1;
            }
        }
        transmitted
    });
    let request = exchange.request(Order::Ordered, 1).within(Duration::from_secs(3));
    assert_eq!(request.await.unwrap_err().why, WhyUnanswered::TimedOut);
    drop(exchange.close());
    assert_eq!(timers.await.expect("no panic"), Ended::Closed);
    assert!(resent.await.expect("no panic") >= 3, "once and then again and again");
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_ends_the_timer_task() {
    let (exchange, driver, timers) =
        end(Config { give_up_after: Some(Duration::from_secs(5)), ..Config::default() });
    let seq = exchange.send(Order::Ordered, 1).await.expect("room");
    assert!(driver.transmit(|_| ()).is_some());
    let Ended::GaveUp(silence) = timers.await.expect("no panic") else { panic!("closed") };
    assert_eq!(silence.seq, seq);
}
