//! Hosts with several addresses: whoever speaks to one of them is answered from that one.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use tokio::runtime::Handle;
use zssp::link::Udp;
use zssp::{Challenging, Connection, Endpoint};
use zssp_segment::Segment;

use crate::common::router::Router;
use crate::common::simulation::Disk;
use crate::common::{builder, connect_to, content, endpoint, run};

/// Answers every message with itself.
fn serve(connection: Connection) {
    tokio::spawn(async move {
        let channel = connection.channel(0).unwrap();
        while let Some(message) = channel.receive().await {
            let content = message.data().clone();
            let _ = message.reply(content);
        }
    });
}

async fn ask(connection: &Connection, question: Vec<u8>) {
    assert!(connection.channel(0).unwrap().request(question.clone()).await.unwrap() == question);
}

//= ZSSP-LIV-08  from the challenge to the last payload
/// All of 127.0.0.0/8 is this host. The router lets nothing back but what comes from the second address of it.
#[test]
fn everything_is_answered_from_the_address_that_was_spoken_to() {
    run(async {
        for bind in ["0.0.0.0:0", "[::]:0"] {
            for challenging in [Challenging::Off, Challenging::Always] {
                let store = Disk::default();
                let server =
                    builder().challenging(challenging).store(store.clone()).bind(bind).await.unwrap();
                let at = SocketAddr::from(([127, 0, 0, 2], server.local_addr().port()));
                let (client, router) = (endpoint().await, Router::to(at).await);
                let (here, there) = connect_to(router.address, &client, &server).await;
                serve(there.clone());
                ask(&here, content(1, 58_000)).await;
                for end in [&here, &there] {
                    let before = store.changes();
                    end.rekey().await;
                    while store.changes() == before {
                        ask(&here, vec![1]).await;
                    }
                }
                // A new port is asked from the same address.
                let before = there.remote_address();
                router.move_on();
                while there.remote_address() == before {
                    ask(&here, vec![1]).await;
                }
                ask(&here, content(2, 58_000)).await;
                assert_eq!(server.stats().challenges > 0, challenging == Challenging::Always);
                assert_eq!(server.stats().send_errors, 0);
            }
        }
    });
}

/// An endpoint of all addresses of a host.
fn on(segment: &Segment, host: usize, any: SocketAddr) -> Endpoint {
    let runtime = Handle::current();
    let bind = || {
        let _context = runtime.enter();
        Udp::bind(any, 1 << 20).unwrap()
    };
    builder().bind_link(segment.on(host, bind)).unwrap()
}

#[test]
fn a_host_that_loses_the_address_that_was_spoken_to_goes_on_from_another() {
    run(async {
        let Some(segment) = Segment::for_test(2) else { return };
        for (host, last) in [(0, 1), (1, 2), (1, 3)] {
            segment.ip(host, &format!("addr add 10.78.0.{last}/24 dev eth0")).unwrap();
        }
        let ip = |last| SocketAddr::from((Ipv4Addr::new(10, 78, 0, last), 7777));
        let [client, server] = [0, 1].map(|host| on(&segment, host, ([0; 4], 7777).into()));
        let (here, there) = connect_to(ip(3), &client, &server).await;
        serve(here.clone());
        ask(&there, content(1, 58_000)).await;
        assert_eq!((here.remote_address(), there.remote_address()), (ip(3), ip(1)));
        segment.ip(1, "addr del 10.78.0.3/24 dev eth0").unwrap();
        while here.remote_address() != ip(2) {
            ask(&there, vec![1]).await;
        }
        ask(&there, content(2, 58_000)).await;
        assert_eq!(there.remote_address(), ip(1));
    });
}

#[test]
fn neighbours_connect_by_their_link_local_addresses() {
    run(async {
        let Some(segment) = Segment::for_test(2) else { return };
        for host in [0, 1] {
            // Ready at once, without asking whether somebody else has it.
            segment.ip(host, &format!("addr add fe80::{}/64 dev eth0 nodad", host + 1)).unwrap();
        }
        let index = segment.command(0, "cat").arg("/sys/class/net/eth0/ifindex").output().unwrap();
        let scope = String::from_utf8(index.stdout).unwrap().trim().parse().unwrap();
        let to = SocketAddrV6::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2), 7777, 0, scope);
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 7777));
        let [client, server] = [0, 1].map(|host| on(&segment, host, any));
        let (here, there) = connect_to(to.into(), &client, &server).await;
        serve(there.clone());
        // The first hellos may find the new interface not ready.
        let errors = || [&client, &server].map(|endpoint| endpoint.stats().send_errors);
        let before = errors();
        ask(&here, content(1, 58_000)).await;
        assert_eq!(here.remote_address(), to.into());
        assert!(matches!(there.remote_address(), SocketAddr::V6(from) if from.scope_id() != 0));
        assert_eq!(errors(), before);
    });
}
