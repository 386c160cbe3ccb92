//! What was announced goes away before anybody has looked, while somebody sleeps: what comes after must wake them.

use loom::thread;

use super::*;

/// A packet is due to be transmitted again, and is answered at that moment.
fn resend_due() -> super::Ends {
    let (exchange, driver) = full();
    driver.exchange().shared.clock.advance(Duration::from_millis(300));
    (exchange, driver)
}

//= ZSSP-DEF-23  a resend that has gone hides no packet
#[test]
fn loom_a_resend_that_vanishes_hides_nothing_that_comes_after() {
    bounded_model(|| {
        let (exchange, driver) = resend_due();
        let timer = thread::spawn({
            let driver = Arc::clone(&driver);
            move || driver.handle_timeout()
        });
        let link = thread::spawn({
            let driver = Arc::clone(&driver);
            move || {
                driver.receive(acknowledgement());
                exchange.try_send(Order::Unordered, 1).expect("room");
                exchange
            }
        });
        // The resend may be seen, or not: in the end there is the packet.
        let mut transmitted = Vec::new();
        while !transmitted.iter().any(|packet| matches!(packet, Packet::Message(m) if m.data == 1)) {
            super::super::block::block_on(&mut driver.transmittable()).expect("an open exchange");
            transmitted.extend(transmit(&driver));
        }
        timer.join().expect("no panic").expect("an open exchange");
        drop(link.join().expect("no panic"));
    });
}

//= ZSSP-DEF-23  a deadline that has gone hides no later one
#[test]
fn loom_a_deadline_that_vanishes_hides_none_that_comes_after() {
    bounded_model(|| {
        let (exchange, driver) = end();
        let seen = driver.next_deadline();
        assert_eq!(seen, None);
        let link = thread::spawn({
            let driver = Arc::clone(&driver);
            move || {
                // A deadline comes and goes, and then a later one comes to stay.
                exchange.try_send(Order::Unordered, 0).expect("room");
                transmit(&driver);
                driver.receive(acknowledgement());
                driver.exchange().shared.clock.advance(Duration::from_secs(1));
                exchange.try_send(Order::Unordered, 1).expect("room");
                transmit(&driver);
                exchange
            }
        });
        let moved = super::super::block::block_on(&mut driver.deadline_moved(seen));
        assert_eq!(moved, Ok(()));
        let exchange = link.join().expect("no panic");
        assert!(driver.next_deadline() > Some(Duration::from_secs(1)));
        drop(exchange);
    });
}

/// The same for whoever waits for a deadline, and for nearer ones.
#[test]
fn loom_a_sleeper_hears_of_a_deadline_after_a_nearer_one_has_gone() {
    bounded_model(|| {
        let (exchange, driver) = full();
        let seen = driver.next_deadline();
        assert!(seen.is_some());
        // Requests that wait for room: there is nothing to transmit that would ring the bell.
        let requester = thread::spawn(move || {
            let request = |nanos| {
                let mut request = exchange.request(Order::Unordered, 1).within(Duration::from_nanos(nanos));
                assert!(poll_once(&mut request).is_pending());
                request
            };
            drop(request(1));
            request(2)
        });
        assert_eq!(super::super::block::block_on(&mut driver.deadline_moved(seen)), Ok(()));
        drop(requester.join().expect("no panic"));
    });
}
