//! Several exchanges side by side on one link.

use std::time::Duration;

use seqex::{
    Ack, AckKind, Answer, Capacity, ChannelLimits, Channels, Config, Delivery, Event, Feedback, Message,
    OpenError, Order, Packet, Received, SeqNo, Timestamp, Unopened,
};

const NOW: Timestamp = Duration::from_secs(1);
const LIMITS: ChannelLimits = ChannelLimits { channels: 4, opened_by_peer: 2 };

fn channels(limits: ChannelLimits) -> Channels<u32> {
    let capacity = Capacity::new(4).expect("a power of two");
    Channels::new(Config { capacity, ..Config::default() }, limits)
}

fn message(seq: u32) -> Packet<u32> {
    let seq = SeqNo::new(seq);
    Packet::Message(Message { seq, reply_to: None, order: Order::Ordered, data: seq.to_u32() })
}

fn transmitted(channels: &mut Channels<u32>) -> Vec<(u16, Packet<u32>)> {
    std::iter::from_fn(|| {
        let (channel, packet) = channels.poll_transmit(NOW)?;
        Some((channel, packet.map(|&data| data)))
    })
    .collect()
}

fn delivered(channels: &mut Channels<u32>) -> Vec<(u16, u32)> {
    let payload = |(channel, delivery)| match delivery {
        Delivery::Payload { data, .. } => Some((channel, data)),
        Delivery::Acknowledged { .. } | Delivery::Reply { .. } => None,
    };
    std::iter::from_fn(|| channels.poll_deliver()).filter_map(payload).collect()
}

//= ZSSP-SEQ-01  a gap, a critical section and a full window of one channel are nothing to another
#[test]
fn what_holds_up_one_channel_holds_up_no_other() {
    let mut b = channels(LIMITS);
    for channel in [1, 2, 3] {
        b.open(channel).expect("a new channel");
    }
    b.receive(NOW, 1, message(1)).expect("an open channel"); // after a gap
    b.receive(NOW, 2, message(0)).expect("an open channel");
    b.receive(NOW, 2, message(1)).expect("an open channel"); // behind a critical section
    b.receive(NOW, 3, message(0)).expect("an open channel");
    assert_eq!(delivered(&mut b), [(2, 0), (3, 0)]);
    let full = b.get_mut(1).expect("an open channel");
    while full.send(NOW, Order::Ordered, 9).is_ok() {}
    assert_eq!(b.get_mut(3).map(|exchange| exchange.send(NOW, Order::Ordered, 8).is_ok()), Some(true));
    let sent: Vec<_> =
        transmitted(&mut b).into_iter().map(|(channel, _)| channel).filter(|&c| c != 2).collect();
    assert_eq!(sent[..2], [1, 3], "they take turns");
}

#[test]
fn the_peer_opens_as_many_channels_as_it_may() {
    let mut b = channels(LIMITS);
    let reason =
        |result: Result<Received<u32>, Unopened<u32>>| result.map(drop).map_err(|unopened| unopened.reason);
    let ack = Packet::Ack(Ack { kind: AckKind::Answered, first: SeqNo::new(0), count: 1 });
    assert_eq!(b.receive(NOW, 5, ack), Err(Unopened { reason: OpenError::NeverOpened, packet: ack }));
    assert_eq!(reason(b.receive(NOW, 5, message(0))), Ok(()));
    assert_eq!(reason(b.receive(NOW, 6, message(0))), Ok(()));
    assert_eq!(b.receive(NOW, 7, message(0)).unwrap_err().packet, message(0), "it is given back");
    assert_eq!(b.open(5).unwrap_err(), OpenError::Open);
    assert_eq!([b.poll_opened(), b.poll_opened(), b.poll_opened()], [Some(5), Some(6), None]);
    b.open(7).expect("a place for us");
    b.open(8).expect("a place for us");
    assert_eq!(b.open(9).unwrap_err(), OpenError::Full);
    assert_eq!(reason(b.receive(NOW, 7, message(0))), Ok(()));

    let remains = b.close(5).expect("an open channel");
    assert_eq!(remains.undelivered, [(0, None)]);
    assert!(b.close(5).is_none() && b.get(5).is_none());
    assert_eq!(b.open(5).unwrap_err(), OpenError::Retired);
    assert_eq!(reason(b.receive(NOW, 5, message(1))), Err(OpenError::Retired));
    assert_eq!(reason(b.receive(NOW, 5, ack)), Err(OpenError::Retired));
    assert_eq!(reason(b.receive(NOW, 9, message(0))), Ok(()), "the place is free");

    drop(b.get_mut(7).expect("an open channel").close());
    b.open(10).expect("a closed exchange gives up its place");
    assert_eq!(b.open(7).unwrap_err(), OpenError::Retired);

    let mut closed_to_peers = channels(ChannelLimits { channels: 4, opened_by_peer: 0 });
    assert_eq!(reason(closed_to_peers.receive(NOW, 1, message(0))), Err(OpenError::Full));
    assert_eq!(reason(closed_to_peers.receive(NOW, 1, ack)), Err(OpenError::NeverOpened));
}

#[test]
fn time_passes_on_all_channels() {
    let mut a = channels(LIMITS);
    assert_eq!(a.next_deadline(), None);
    for channel in [1, 2] {
        a.open(channel).expect("a new channel").send(NOW, Order::Ordered, 0).expect("room");
    }
    assert_eq!(transmitted(&mut a).len(), 2);
    let deadline = a.next_deadline().expect("packets are under way");
    a.handle_timeout(deadline);
    assert!(a.next_deadline().is_none_or(|next| next > deadline));
    assert_eq!(transmitted(&mut a).len(), 2, "both again");
}

#[test]
fn answers_and_events_of_all_channels_come_out() {
    let mut a = Channels::<u32>::new(Config { feedback: Feedback::Collect, ..Config::default() }, LIMITS);
    for channel in [1, 2] {
        let exchange = a.open(channel).expect("a new channel");
        let seq = exchange.send(NOW, Order::Unordered, channel.into()).expect("room");
        assert!(exchange.claim(seq));
    }
    assert_eq!((transmitted(&mut a).len(), a.poll_answer(), a.poll_event()), (2, None, None));
    for channel in [1, 2] {
        let ack = Ack { kind: AckKind::Answered, first: SeqNo::new(0), count: 1 };
        a.receive(NOW, channel, Packet::Ack(ack)).expect("an open channel");
    }
    for channel in [1, 2] {
        let answer = Answer::Acknowledged { sent_seq: SeqNo::new(0), sent: channel.into() };
        assert_eq!(a.poll_answer(), Some((channel, answer)));
    }
    let acked = std::iter::from_fn(|| a.poll_event()).map(|(channel, event)| {
        assert!(matches!(event, Event::Acked { .. }));
        channel
    });
    assert_eq!(Vec::from_iter(acked), [1, 2]);
    assert_eq!(a.poll_answer(), None);
}

#[test]
fn a_channel_closed_before_anybody_asked_was_never_opened() {
    let mut b = channels(LIMITS);
    for channel in [5, 6] {
        b.receive(NOW, channel, message(0)).expect("a place");
    }
    drop(b.get_mut(5).expect("an open channel").close());
    assert!(b.get(5).is_none(), "a closed channel is not open");
    assert_eq!([b.poll_opened(), b.poll_opened()], [Some(6), None]);
    b.receive(NOW, 7, message(0)).expect("the place is free");
    assert!(b.close(7).is_some());
    assert_eq!(b.poll_opened(), None);
    assert_eq!(b.receive(NOW, 5, message(0)).unwrap_err().reason, OpenError::Retired);
    assert!(b.get_mut(5).is_none() && b.close(5).is_none());
}

#[cfg(all(feature = "std", not(loom)))]
mod shared {
    use seqex::{Clock, Closed, Ended, Link, Multiplexer, MultiplexerDriver};

    use super::*;

    fn multiplexer(limits: ChannelLimits) -> (Multiplexer<u32>, MultiplexerDriver<u32>) {
        Multiplexer::new(Config::default(), limits, Clock::manual())
    }

    fn carry(from: &MultiplexerDriver<u32>, to: &MultiplexerDriver<u32>) {
        while let Some((channel, driver)) = from.next_channel() {
            let packet = driver.transmit(|packet| packet.map(|&data| data));
            to.receive(channel, packet.expect("this channel had something")).expect("an open channel");
        }
    }

    //= ZSSP-SEQ-01  for threads
    #[test]
    fn threads_use_channels_side_by_side() {
        let (a, a_driver) = multiplexer(ChannelLimits { channels: 8, opened_by_peer: 0 });
        let (b, b_driver) = multiplexer(ChannelLimits { channels: 8, opened_by_peer: 8 });
        std::thread::scope(|scope| {
            for (from, to) in [(&a_driver, &b_driver), (&b_driver, &a_driver)] {
                scope.spawn(move || {
                    while from.wait().is_ok() {
                        carry(from, to);
                    }
                });
            }
            let server = scope.spawn(|| {
                let mut served = vec![];
                while let Ok((channel, exchange)) = b.accept().wait() {
                    served.push(channel);
                    // Channel 0 is received from once and never answered, which must not disturb the others.
                    let first = exchange.receive().wait().expect("a packet");
                    if channel == 0 {
                        std::mem::forget(first);
                        continue;
                    }
                    let Delivery::Payload { token, data } = first else { panic!("no payload") };
                    token.reply(Order::Ordered, data + 1).expect("an open channel");
                }
                served
            });
            let silent = a.open(0).expect("a new channel");
            silent.send(Order::Ordered, 0).wait().expect("room");
            for channel in 1..8 {
                let exchange = a.open(channel).expect("a new channel");
                let answer = exchange.request(Order::Ordered, u32::from(channel)).wait().expect("an answer");
                assert!(
                    matches!(answer, seqex::Answer::Reply { data, .. } if data == u32::from(channel) + 1)
                );
            }
            a.close();
            b.close();
            let mut served = server.join().unwrap();
            served.sort_unstable();
            assert_eq!(served, Vec::from_iter(0..8));
        });
    }

    //= ZSSP-DEF-24  also for those who wait for a channel
    #[test]
    fn closing_ends_channels_and_those_who_wait_for_them() {
        let (a, a_driver) = multiplexer(LIMITS);
        let exchange = a.open(1).expect("a new channel");
        std::thread::scope(|scope| {
            let acceptor = scope.spawn(|| a.accept().wait().map(drop));
            let receiver = scope.spawn(|| exchange.receive().wait().map(drop));
            drop(a_driver);
            assert_eq!((acceptor.join().unwrap(), receiver.join().unwrap()), (Err(Closed), Err(Closed)));
        });
        assert!(matches!(a.open(2), Err(OpenError::Closed)));
    }

    #[test]
    fn a_closed_channel_gives_up_its_place_and_not_its_id() {
        let (a, a_driver) = multiplexer(ChannelLimits { channels: 1, opened_by_peer: 0 });
        let exchange = a.open(1).expect("a new channel");
        assert!(matches!(a.open(2), Err(OpenError::Full)));
        drop(exchange.close());
        a.open(2).expect("the place is free");
        assert!(matches!(a.open(1), Err(OpenError::Retired)));
        assert_eq!(a_driver.handle_timeout(), Ok(()));
        a.close();
        assert_eq!(a_driver.handle_timeout(), Err(Ended::Closed));
    }

    /// The exchange is locked while one of its packets is encoded, and nothing of the multiplexer waits for it.
    #[test]
    fn whoever_encodes_may_use_other_channels() {
        let (a, a_driver) = multiplexer(ChannelLimits { channels: 3, opened_by_peer: 2 });
        a.open(1).expect("a new channel").try_send(Order::Ordered, 0).expect("room");
        let closed = a.open(2).expect("a new channel");
        let (_, driver) = a_driver.next_channel().expect("something to transmit");
        let used = driver.transmit(|_| {
            drop(closed.close());
            drop(a.open(3).expect("the place of the closed one"));
            a_driver.receive(4, message(0)).expect("a place");
            a.try_accept().expect("open").map(|(channel, _)| channel)
        });
        assert_eq!(used, Some(Some(4)));
    }

    #[test]
    fn whoever_does_not_wait_for_a_channel_takes_what_is_there() {
        let (a, a_driver) = multiplexer(LIMITS);
        assert!(matches!(a.try_accept(), Ok(None)));
        assert!(matches!(a.accept().wait_timeout(Duration::ZERO), Ok(None)));
        for channel in [1, 2] {
            a_driver.receive(channel, message(0)).expect("a place");
        }
        let (channel, exchange) = a.try_accept().expect("open").expect("a channel");
        assert_eq!(channel, 1);
        drop(exchange.close());
        let accepted = a.accept().wait_timeout(Duration::from_secs(60)).expect("open");
        assert_eq!(accepted.map(|(channel, _)| channel), Some(2));

        // Closed before anybody accepted it, by whoever has what there is to transmit: that there is a gap.
        a_driver.receive(3, message(1)).expect("a place");
        let (channel, driver) = a_driver.next_channel().expect("what is held");
        assert_eq!(channel, 3);
        drop(driver.exchange().close());
        assert!(matches!(a.try_accept(), Ok(None)));

        a.close();
        assert!(matches!(a.try_accept(), Err(Closed)));
        assert!(matches!(a.accept().wait_timeout(Duration::ZERO), Err(Closed)));
    }
}
