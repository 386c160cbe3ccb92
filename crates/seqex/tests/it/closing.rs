//! What was not acknowledged, not received or not delivered comes back from closing, whatever stands for an exchange. The
//! core by itself: `any_link` closes it at every moment, `answers` by hand.

use seqex::{
    Answer, ChannelLimits, Channels, Clock, Config, Delivery, Multiplexer, MultiplexerDriver, Order, Refusal,
    WhyUnanswered,
};

use crate::support::link::{Letter, Task, ends};

//= ZSSP-SEQ-21  nothing is lost by it
#[test]
fn shared_handles_hand_back_what_nobody_has_taken() {
    let (_, a, b) = ends(16);
    let send = |letter| a.exchange.try_send(Order::Unordered, Letter(letter)).expect("room");
    let [acknowledged, replied, unanswered] = [0, 1, 2].map(send);
    let task = Task::default();
    let mut answered = a.exchange.request(Order::Unordered, Letter(3));
    let mut under_way = a.exchange.request(Order::Unordered, Letter(4));
    assert!(task.poll(&mut answered).is_pending() && task.poll(&mut under_way).is_pending());
    b.exchange.try_send(Order::Unordered, Letter(20)).expect("room");
    a.carry_to(&b);
    let mut kept = vec![];
    while let Some((guard, data)) = b.packet() {
        match data {
            0 => guard.acknowledge(),
            1 | 3 => drop(guard.reply(Order::Unordered, Letter(10 + data)).expect("an open packet")),
            _ => kept.push(guard),
        }
    }
    b.carry_to(&a);

    let remains = a.exchange.close();
    let sent_by_request = remains.unanswered[1].0;
    assert_eq!(remains.unanswered, [(unanswered, Letter(2)), (sent_by_request, Letter(4))]);
    assert_eq!(remains.acknowledged, [(acknowledged, Letter(0))]);
    assert_eq!(remains.undelivered, [(20, None), (11, Some((replied, Letter(1))))]);
    // What was answered before belongs to whoever asked.
    let Ok(Answer::Reply { data: 13, sent: Letter(3), .. }) = answered.wait() else { panic!("no reply") };
    let closed = under_way.wait().expect_err("closed");
    assert_eq!((closed.why, closed.unsent), (WhyUnanswered::Closed, None));
    let again = a.exchange.close();
    assert!(again.unanswered.is_empty() && again.acknowledged.is_empty() && again.undelivered.is_empty());

    // Guards that outlive their exchange answer nothing, and keep no data.
    assert_eq!(kept.len(), 2);
    drop(b.exchange.close());
    let refused = kept.pop().map(|guard| guard.reply(Order::Ordered, Letter(30)).expect_err("closed"));
    assert_eq!(refused.map(|refused| refused.data), Some(Letter(30)));
    let refused =
        kept.pop().map(|guard| guard.request(Order::Ordered, Letter(31)).wait().expect_err("closed"));
    assert_eq!(
        refused.map(|refused| (refused.why, refused.unsent)),
        Some((WhyUnanswered::Closed, Some(Letter(31))))
    );
    assert_eq!(b.transmit(), []);
}

const LIMITS: ChannelLimits = ChannelLimits { channels: 4, opened_by_peer: 4 };

#[test]
fn each_channel_hands_back_its_own() {
    let now = core::time::Duration::ZERO;
    let mut channels = Channels::<u32>::new(Config::default(), LIMITS);
    for channel in [1, 2] {
        channels.open(channel).expect("room").send(now, Order::Ordered, channel.into()).expect("room");
    }
    for channel in [2, 1] {
        let remains = channels.close(channel).expect("an open channel");
        assert_eq!(remains.unanswered, [(0.into(), channel.into())]);
        assert!(channels.close(channel).is_none());
    }
    assert!(channels.poll_transmit(now).is_none());
}

#[test]
fn each_shared_channel_hands_back_its_own() {
    let ends = || Multiplexer::<u32>::new(Config::default(), LIMITS, Clock::manual());
    let ((a, a_driver), (b, b_driver)) = (ends(), ends());
    let exchanges = [1, 2].map(|channel| (channel, a.open(channel).expect("room")));
    for (channel, exchange) in &exchanges {
        exchange.try_send(Order::Ordered, (*channel).into()).expect("room");
    }
    carry(&a_driver, &b_driver);
    let (channel, opened) = b.try_accept().expect("open").expect("a channel");
    let Ok(Some(Delivery::Payload { token, .. })) = opened.try_receive() else { panic!("no packet") };
    assert_eq!(token.reply(Order::Ordered, 10), Ok(0.into()));
    carry(&b_driver, &a_driver);

    for (id, exchange) in &exchanges {
        let remains = exchange.close();
        let own = (0.into(), u32::from(*id));
        if *id == channel {
            assert_eq!((remains.unanswered, remains.undelivered), (vec![], vec![(10, Some(own))]));
        } else {
            assert_eq!((remains.unanswered, remains.undelivered), (vec![own], vec![]));
        }
        assert_eq!(
            exchange.try_send(Order::Ordered, 0).map_err(|refused| refused.reason),
            Err(Refusal::Closed)
        );
    }
    assert!(a_driver.next_channel().is_none());
}

fn carry(from: &MultiplexerDriver<u32>, to: &MultiplexerDriver<u32>) {
    while let Some((channel, driver)) = from.next_channel() {
        while let Some(packet) = driver.transmit(|packet| packet.map(|data| *data)) {
            to.receive(channel, packet).expect("it may be opened");
        }
    }
}
