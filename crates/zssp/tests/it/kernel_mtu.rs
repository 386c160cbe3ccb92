//! A road of the kernel's own, whose MTU changes.

use zssp::{Connection, Endpoint};

use crate::common::road::{LEFT, RIGHT, Road, address};
use crate::common::{builder, connect_to, run};

fn endpoint(road: &Road, host: &str) -> Endpoint {
    builder().mtu(1232).max_mtu(8952).bind_link(road.bind(host)).unwrap()
}

/// Sends messages of many fragments until datagrams are as `wanted`, and then one more.
async fn send_until(here: &Connection, wanted: impl Fn(usize) -> bool) {
    let channel = here.channel(0).unwrap();
    while !wanted(here.stats().mtu) {
        channel.request(vec![1; 50_000]).await.unwrap();
    }
    assert_eq!(channel.request(vec![2; 50_000]).await.unwrap(), "50000");
}

//= ZSSP-LIV-06  on the kernel's own road
#[test]
fn the_mtu_of_a_real_road_is_followed() {
    run(async {
        let Some(road) = Road::new() else { return };
        for host in [LEFT, RIGHT] {
            road.set_mtu(host, 9000);
        }
        let (client, server) = (endpoint(&road, LEFT), endpoint(&road, RIGHT));
        let (here, there) = connect_to(address(RIGHT), &client, &server).await;
        tokio::spawn(async move {
            let channel = there.channel(0).unwrap();
            while let Some(message) = channel.receive().await {
                let len = message.data().len().to_string();
                let _ = message.reply(len);
            }
        });
        send_until(&here, |mtu| mtu == 8952).await;
        // An IP header of 20 bytes, and one of UDP of 8.
        road.set_mtu(RIGHT, 1400);
        send_until(&here, |mtu| (1356..=1372).contains(&mtu)).await;
        println!("{:?}", here.stats());
        assert_eq!(here.stats().mtu_fallbacks, 1);
        // Now the sender's own interface, which the system says at once.
        road.set_mtu(LEFT, 1300);
        send_until(&here, |mtu| (1256..=1272).contains(&mtu)).await;
        println!("{:?}", here.stats());
        assert_eq!(here.stats().mtu_fallbacks, 2);
        here.close(0, b"").await;
    });
}
