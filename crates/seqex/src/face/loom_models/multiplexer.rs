//! Several channels opened, used and closed at once.

use loom::thread;

use super::*;
use crate::{ChannelLimits, Multiplexer, MultiplexerDriver, OpenError};

type Ends = (Multiplexer<u8>, Arc<MultiplexerDriver<u8>>);

fn multiplexer(channels: usize) -> Ends {
    let capacity = Capacity::new(2).expect("a power of two");
    let limits = ChannelLimits { channels, opened_by_peer: 1 };
    let config = Config { capacity, ..Config::default() };
    let (multiplexer, driver) = Multiplexer::new(config, limits, Clock::manual());
    (multiplexer, Arc::new(driver))
}

#[test]
fn loom_an_acceptor_hears_of_a_channel() {
    loom::model(|| {
        let (multiplexer, driver) = multiplexer(1);
        let link = thread::spawn({
            let driver = Arc::clone(&driver);
            move || driver.receive(5, message(0, None)).map(drop)
        });
        let (channel, exchange) = multiplexer.accept().wait().expect("open");
        assert_eq!(channel, 5);
        assert!(matches!(exchange.receive().wait(), Ok(Delivery::Payload { data: 7, .. })));
        assert!(link.join().expect("no panic").is_ok());
    });
}

//= ZSSP-DEF-23  although the acceptor called first goes away
#[test]
fn loom_a_dropped_acceptor_leaves_its_turn() {
    bounded_model(|| {
        let (multiplexer, driver) = multiplexer(1);
        let mut fickle = multiplexer.accept();
        assert!(poll_once(&mut fickle).is_pending());
        let link = thread::spawn({
            let driver = Arc::clone(&driver);
            move || driver.receive(5, message(0, None)).map(drop)
        });
        let acceptor = thread::spawn({
            let multiplexer = multiplexer.clone();
            move || multiplexer.accept().wait().map(|(channel, _)| channel)
        });
        drop(fickle);
        assert_eq!(acceptor.join().expect("no panic"), Ok(5));
        assert!(link.join().expect("no panic").is_ok());
    });
}

/// Both ends may open the same channel: whoever comes first, there is one, and the packet is in it.
#[test]
fn loom_a_channel_is_opened_once() {
    loom::model(|| {
        let (multiplexer, driver) = multiplexer(2);
        let link = thread::spawn({
            let driver = Arc::clone(&driver);
            move || driver.receive(5, message(0, None)).map(drop)
        });
        let exchange = match multiplexer.open(5) {
            Ok(exchange) => exchange,
            Err(OpenError::Open) => multiplexer.accept().wait().expect("open").1,
            Err(error) => panic!("{error}"),
        };
        assert!(link.join().expect("no panic").is_ok());
        assert!(matches!(exchange.try_receive(), Ok(Some(Delivery::Payload { data: 7, .. }))));
        assert!(matches!(multiplexer.try_accept(), Ok(None)));
    });
}

/// A channel is closed while its place is asked for, and while what there is to transmit is looked for.
#[test]
fn loom_a_closed_channel_gives_up_its_place() {
    bounded_model(|| {
        let (multiplexer, driver) = multiplexer(1);
        let exchange = multiplexer.open(1).expect("a place");
        let closer = thread::spawn(move || drop(exchange.close()));
        let opener = thread::spawn({
            let multiplexer = multiplexer.clone();
            move || multiplexer.open(2).is_ok()
        });
        assert!(driver.next_channel().is_none());
        let opened = opener.join().expect("no panic");
        closer.join().expect("no panic");
        assert_eq!(multiplexer.open(3).is_ok(), !opened, "one place for two");
        assert!(matches!(multiplexer.open(1), Err(OpenError::Retired)));
    });
}

//= ZSSP-DEF-24  those who wait on a channel and those who wait for one
#[test]
fn loom_closing_everything_ends_every_wait() {
    bounded_model(|| {
        let (multiplexer, driver) = multiplexer(2);
        let exchange = multiplexer.open(1).expect("a place");
        let receiver = thread::spawn(move || exchange.receive().wait().map(drop));
        let closer = thread::spawn({
            let multiplexer = multiplexer.clone();
            move || multiplexer.close()
        });
        assert!(matches!(multiplexer.accept().wait(), Err(Closed)));
        assert_eq!(receiver.join().expect("no panic"), Err(Closed));
        closer.join().expect("no panic");
        assert_eq!(driver.wait(), Err(Ended::Closed));
    });
    loom::model(|| {
        let (multiplexer, driver) = multiplexer(2);
        let closer = thread::spawn(move || multiplexer.close());
        // The packet arrives before or after, and nothing is left of it.
        let _taken = driver.receive(5, message(0, None));
        closer.join().expect("no panic");
        assert_eq!(driver.wait(), Err(Ended::Closed));
        assert!(driver.receive(5, message(0, None)).is_err());
    });
}

#[test]
fn loom_whoever_transmits_hears_of_every_channel() {
    bounded_model(|| {
        let (multiplexer, driver) = multiplexer(2);
        let sender = thread::spawn(move || {
            let exchange = multiplexer.open(1).expect("a place");
            exchange.try_send(Order::Unordered, 1).is_ok()
        });
        driver.wait().expect("something to transmit");
        let (channel, of_one) = driver.next_channel().expect("what was announced");
        assert_eq!((channel, transmit(&of_one).len()), (1, 1));
        assert!(sender.join().expect("no panic"));
    });
}
