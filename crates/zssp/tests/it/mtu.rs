//! Roads that carry larger datagrams than the endpoints were told, and roads that no longer do.

use std::time::Duration;

use zssp::link::memory::{Bottleneck, Conditions, Network};
use zssp::{Builder, Connection, Endpoint, SecretKey};

use crate::common::{connect, content};

const ROAD: Conditions = Conditions {
    delay: Duration::from_millis(20),
    duplication: 0.0,
    loss: 0.0,
    mtu: Some(1472),
    // Transfers are to take longer than what is found out during them.
    bottleneck: Some(Bottleneck { rate: 2_500_000, queue: 100_000 }),
    reordering: 0.0,
};

fn endpoint(network: &Network, number: u8, set: impl Fn(Builder) -> Builder) -> Endpoint {
    let link = network.attach(([10, 0, 0, number], 1).into()).unwrap();
    let builder = Endpoint::builder(SecretKey::generate().unwrap()).handshakes(1, 128);
    set(builder.connect_timeout(Duration::from_secs(120))).bind_link(link).unwrap()
}

/// A transfer of `len` bytes, in whose middle the road becomes another.
async fn transfer_over(
    network: &Network,
    (here, there): (&Connection, &Connection),
    len: usize,
    then: Conditions,
) {
    let sent = content(1, len);
    let (mut send, _receive) = here.open_stream().await.unwrap();
    let sending = async {
        send.write_chunk(sent.clone()).await.unwrap();
        send.finish().unwrap();
        send.stopped().await.unwrap();
    };
    let receiving = async {
        let (_send, mut receive) = there.accept_stream().await.unwrap();
        let mut received = Vec::new();
        while let Some(chunk) = receive.read_chunk().await.unwrap() {
            received.extend_from_slice(&chunk);
            if received.len() > len / 2 {
                network.set_conditions(then);
            }
        }
        received
    };
    let ((), received) = tokio::join!(sending, receiving);
    assert!(received == sent, "every byte once and in order");
}

//= ZSSP-LIV-06  up to what the road carries, or what the builder says
#[tokio::test(start_paused = true)]
async fn the_largest_datagram_is_found() {
    for (width, max, at_least) in
        [(1472, None, 1472), (1472, Some(8952), 1456), (8952, Some(8952), 8952), (1300, None, 1284)]
    {
        let road = Conditions { mtu: Some(width), ..ROAD };
        let network = Network::new(1, road);
        let set = |builder: Builder| match max {
            Some(max) => builder.max_mtu(max),
            None => builder,
        };
        let (client, server) = (endpoint(&network, 1, set), endpoint(&network, 2, set));
        let (here, there) = connect(&client, &server).await;
        assert_eq!(here.stats().mtu, 1232);
        transfer_over(&network, (&here, &there), 32 << 20, road).await;
        let stats = here.stats();
        println!("a road of {width}, looked for up to {max:?}: {stats:?}");
        assert!((at_least..=width).contains(&stats.mtu), "{stats:?}");
        assert_eq!((stats.mtu_fallbacks, stats.timeouts), (0, 0));
        assert_eq!(there.stats().mtu, 1232, "who sends nothing large does not ask");
    }
}

#[tokio::test(start_paused = true)]
async fn what_tunnels_leave_of_ethernet_is_enough() {
    // The IPv6 minimum; WireGuard and a mobile network over IPv4.
    for width in [1232, 1392, 1344] {
        let road = Conditions { mtu: Some(width), ..ROAD };
        let network = Network::new(1, road);
        let (client, server) = (endpoint(&network, 1, |b| b), endpoint(&network, 2, |b| b));
        let (here, there) = connect(&client, &server).await;
        let channel = there.channel(0).unwrap();
        let message = content(1, channel.max_message_size());
        here.channel(0).unwrap().send(message.clone()).await.unwrap();
        assert!(channel.receive().await.unwrap().data() == &message[..]);
        transfer_over(&network, (&here, &there), 1 << 20, road).await;
    }
}

#[tokio::test(start_paused = true)]
async fn without_more_to_find_nothing_is_sent() {
    let network = Network::new(1, ROAD);
    let set = |builder: Builder| builder.max_mtu(1232);
    let (client, server) = (endpoint(&network, 1, set), endpoint(&network, 2, set));
    let (here, there) = connect(&client, &server).await;
    transfer_over(&network, (&here, &there), 1 << 20, ROAD).await;
    assert_eq!(here.stats().mtu, 1232);
}

#[tokio::test(start_paused = true)]
async fn a_road_that_narrows_in_the_middle_of_a_transfer_is_noticed() {
    for (seed, loss) in [(1, 0.0), (2, 0.02), (3, 0.1)] {
        println!("seed {seed}");
        let network = Network::new(seed, Conditions { loss, ..ROAD });
        let (client, server) = (endpoint(&network, 1, |b| b), endpoint(&network, 2, |b| b));
        let (here, there) = connect(&client, &server).await;
        let start = tokio::time::Instant::now();
        let narrow = Conditions { loss, mtu: Some(1300), ..ROAD };
        transfer_over(&network, (&here, &there), 4 << 20, narrow).await;
        // What began to be found out during the transfer is found out after it.
        tokio::time::sleep(Duration::from_secs(10)).await;
        let stats = here.stats();
        println!("{loss} lost, took {:?}: {stats:?}", start.elapsed());
        assert_eq!(stats.mtu_fallbacks, 1, "{stats:?}");
        assert!((1232..=1300).contains(&stats.mtu), "{stats:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_road_that_widens_is_noticed_in_ten_minutes() {
    let narrow = Conditions { mtu: Some(1300), ..ROAD };
    let network = Network::new(1, narrow);
    let (client, server) = (endpoint(&network, 1, |b| b), endpoint(&network, 2, |b| b));
    let (here, there) = connect(&client, &server).await;
    transfer_over(&network, (&here, &there), 4 << 20, narrow).await;
    assert!((1284..=1300).contains(&here.stats().mtu), "{:?}", here.stats());
    // What began to be found out during the transfer is found out a little after it.
    tokio::time::sleep(Duration::from_secs(610)).await;
    network.set_conditions(ROAD);
    transfer_over(&network, (&here, &there), 4 << 20, ROAD).await;
    assert_eq!((here.stats().mtu, here.stats().mtu_fallbacks), (1472, 0));
}

/// Three datagrams of ten lost, whatever their size.
#[tokio::test(start_paused = true)]
async fn random_loss_is_no_black_hole() {
    for seed in 0..5 {
        println!("seed {seed}");
        let road = Conditions { loss: 0.3, ..ROAD };
        let network = Network::new(seed, Conditions { loss: 0.05, ..ROAD });
        let set = |builder: Builder| builder.give_up_after(Duration::from_secs(300));
        let (client, server) = (endpoint(&network, 1, set), endpoint(&network, 2, set));
        let (here, there) = connect(&client, &server).await;
        network.set_conditions(road);
        transfer_over(&network, (&here, &there), 300_000, road).await;
        println!("{:?}", here.stats());
        assert_eq!(here.stats().mtu_fallbacks, 0);
    }
}

/// Of those that are overtaken, several in a row may be taken for lost. That is a suspicion, and soon cleared.
#[tokio::test(start_paused = true)]
async fn a_road_that_reorders_is_no_black_hole() {
    let road = Conditions { reordering: 0.3, ..ROAD };
    let network = Network::new(1, road);
    let (client, server) = (endpoint(&network, 1, |b| b), endpoint(&network, 2, |b| b));
    let (here, there) = connect(&client, &server).await;
    transfer_over(&network, (&here, &there), 8 << 20, road).await;
    let (channel, other) = (here.channel(0).unwrap(), there.channel(0).unwrap());
    let sending = async {
        for number in 0..2000 {
            channel.send(content(number, 1300)).await.unwrap();
        }
        channel.flush().await.unwrap();
    };
    let reading = async {
        for _ in 0..2000 {
            drop(other.receive().await.unwrap());
        }
    };
    tokio::join!(sending, reading);
    // While a suspicion is looked into, it is the base that is used.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let stats = here.stats();
    println!("{stats:?}");
    assert!(stats.messages_late > 50);
    assert_eq!((stats.mtu, stats.mtu_fallbacks), (1472, 0));
}

//= ZSSP-LIV-06  also when there is nothing but datagrams
#[tokio::test(start_paused = true)]
async fn datagrams_find_it_too_and_use_it() {
    let network = Network::new(1, Conditions { bottleneck: None, ..ROAD });
    let (client, server) =
        (endpoint(&network, 1, |b| b), endpoint(&network, 2, |b| b.datagram_buffer(64 << 20)));
    let (here, there) = connect(&client, &server).await;
    for _ in 0..100 {
        here.send_datagram(vec![7; 20_000]).await.unwrap();
        assert_eq!(there.read_datagram().await.unwrap().len(), 20_000);
    }
    assert_eq!(here.stats().mtu, 1472);
    // Many at once, so that several tasks send them.
    let before = network.stats().sent;
    for _ in 0..200 {
        here.send_datagram(vec![7; 20_000]).await.unwrap();
    }
    for _ in 0..200 {
        assert_eq!(there.read_datagram().await.unwrap().len(), 20_000);
    }
    let each = (network.stats().sent - before).div_ceil(200);
    assert_eq!(each, 14, "fragments of 1472 bytes");
}

//= ZSSP-LIV-06  also when nobody tells that datagrams get lost
#[tokio::test(start_paused = true)]
async fn a_road_that_narrows_under_datagrams_is_noticed() {
    let network = Network::new(1, Conditions { bottleneck: None, ..ROAD });
    let (client, server) = (endpoint(&network, 1, |b| b), endpoint(&network, 2, |b| b));
    let (here, there) = connect(&client, &server).await;
    let mut received = 0;
    for number in 0..300 {
        if number == 100 {
            assert_eq!(here.stats().mtu, 1472);
            network.set_conditions(Conditions { bottleneck: None, mtu: Some(1300), ..ROAD });
            received = 0;
        }
        here.send_datagram(vec![7; 20_000]).await.unwrap();
        let reading = tokio::time::timeout(Duration::from_millis(100), there.read_datagram()).await;
        received += u32::from(reading.is_ok());
    }
    // Small ones go while it is found out, which takes long: nothing has told how long a round trip is.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let stats = here.stats();
    println!("{received} of 200 on the narrow road: {stats:?}");
    assert_eq!(stats.mtu_fallbacks, 1);
    assert!((1232..=1300).contains(&stats.mtu) && received >= 150, "{received} received, {stats:?}");
}
