//! Endpoints on raw Ethernet: network namespaces on a bridge. Needs root and `ip`, and a binary of its own for its feature.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

#[allow(dead_code, reason = "of what tests share, these need a part")]
#[path = "it/common/mod.rs"]
mod common;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use common::{Random, builder, content, run};
use tokio::io::AsyncWriteExt as _;
use zssp::ethernet::{Link as Frames, MacAddress, Received, Settings};
use zssp::link::{Ethernet, Link};
use zssp::{ConnectError, Connection, Endpoint};
use zssp_segment::Segment;

fn open(segment: &Segment, host: usize) -> Frames {
    open_with(segment, host, 1)
}

fn open_with(segment: &Segment, host: usize, receivers: u16) -> Frames {
    let settings = Settings { receivers: receivers.try_into().unwrap(), ..Settings::default() };
    segment.on(host, || Frames::open("eth0".parse().unwrap(), &settings)).unwrap()
}

/// A client and a server, and their connection through the card `via`, or directly.
struct Pair {
    client: Ethernet,
    server: Ethernet,
    here: Connection,
    there: Connection,
    endpoints: [Endpoint; 2],
}

async fn pair(frames: [Frames; 2], via: Option<MacAddress>) -> Pair {
    let [client, server] = frames.map(|frames| Ethernet::new(frames).unwrap());
    let [here, there] = [&client, &server]
        .map(|link| builder().mtu(link.mtu()).receive_tasks(2).bind_link(link.clone()).unwrap());
    let to = client.address(via.unwrap_or(server.local().mac));
    let accept = async { there.accept().await.unwrap().accept().await.unwrap() };
    let connect = async { here.connect(to, there.public_key()).await.unwrap() };
    let (connection, accepted) = tokio::join!(connect, accept);
    Pair { client, server, here: connection, there: accepted, endpoints: [here, there] }
}

/// Sends bytes on a stream, messages and a request, which all arrive.
async fn exchange(pair: &Pair, len: usize) {
    let sent = content(9, len);
    let sending = async {
        let (mut send, _) = pair.here.open_stream().await.unwrap();
        send.write_all(&sent).await.unwrap();
        send.finish().unwrap();
        let channel = pair.here.channel(0).unwrap();
        for number in 0..100u32 {
            channel.send_ordered(number.to_be_bytes().to_vec()).await.unwrap();
        }
        channel.flush().await.unwrap();
        assert_eq!(channel.request("how much?").await.unwrap(), "that much");
    };
    let receiving = async {
        let (_, mut receive) = pair.there.accept_stream().await.unwrap();
        assert!(receive.read_to_end(len).await.unwrap() == sent);
    };
    let answering = async {
        let channel = pair.there.channel(0).unwrap();
        for number in 0..100u32 {
            assert_eq!(channel.receive().await.unwrap().data(), &number.to_be_bytes()[..]);
        }
        channel.receive().await.unwrap().reply("that much").unwrap();
    };
    tokio::join!(sending, receiving, answering);
}

#[test]
fn streams_and_messages_cross_at_any_mtu() {
    let Some(segment) = Segment::for_test(2) else { return };
    for mtu in [576, 1500, 9000] {
        segment.set_mtu(mtu).unwrap();
        run(async {
            let pair = pair([open(&segment, 0), open(&segment, 1)], None).await;
            assert_eq!(pair.client.mtu(), mtu - 4);
            assert_eq!(Ethernet::mac(pair.here.remote_address()), Some(pair.server.local().mac));
            assert_eq!(Ethernet::mac(pair.there.remote_address()), Some(pair.client.local().mac));
            exchange(&pair, 5_000_000).await;
            pair.here.close(0, b"done").await;
            for link in [&pair.client, &pair.server] {
                let (received, sent) = link.statistics().unwrap();
                assert!(received.frames > 0 && sent.frames > 0);
                assert_eq!((received.dropped, received.malformed, sent.dropped), (0, 0, 0));
            }
        });
    }
}

#[test]
fn nothing_is_missing_where_frames_are_lost() {
    let Some(segment) = Segment::for_test(3) else { return };
    let ends = [open(&segment, 0), open(&segment, 1)];
    let macs = ends.each_ref().map(|end| end.sender.address().mac);
    let mut relay = open(&segment, 2);
    let via = relay.sender.address().mac;
    let (stop, lost) = (relay.receivers[0].waker(), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random::new(5);
            while let Received::Batch(batch) = relay.receivers[0].receive(None).unwrap() {
                for frame in batch.frames() {
                    let to = if frame.source == macs[0] { macs[1] } else { macs[0] };
                    if random.one_in(30) {
                        lost.fetch_add(1, Ordering::Relaxed);
                    } else {
                        relay.sender.send(to, [frame.bytes]).unwrap();
                    }
                }
            }
        });
        // It ends with the test, whichever way that ends.
        let _stop = OnDrop(|| stop.wake());
        run(async {
            let pair = pair(ends, Some(via)).await;
            exchange(&pair, 2_000_000).await;
            assert!(lost.load(Ordering::Relaxed) > 30);
            assert!(pair.here.stats().messages_resent > 0, "{:?}", pair.here.stats());
        });
    });
}

#[test]
fn a_connection_outlives_an_interface_that_goes_down_and_comes_up() {
    let Some(segment) = Segment::for_test(2) else { return };
    run(async {
        let pair = pair([open(&segment, 0), open(&segment, 1)], None).await;
        for host in [0, 1] {
            exchange(&pair, 100_000).await;
            segment.ip(host, "link set eth0 down").unwrap();
            let channel = pair.here.channel(1).unwrap();
            let asking = channel.request("still there?");
            let answering = async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                segment.ip(host, "link set eth0 up").unwrap();
                pair.there.channel(1).unwrap().receive().await.unwrap().reply("yes").unwrap();
            };
            let (answer, ()) = tokio::join!(asking, answering);
            assert_eq!(answer.unwrap(), "yes");
        }
    });
}

#[test]
fn a_stranger_that_floods_the_segment_does_not_keep_peers_apart() {
    among_a_flood(1);
}

/// Whichever ring it is that the stranger fills.
#[test]
fn nor_does_one_where_several_rings_are_read() {
    among_a_flood(2);
}

fn among_a_flood(receivers: u16) {
    let Some(segment) = Segment::for_test(3) else { return };
    let ends = [0, 1].map(|host| open_with(&segment, host, receivers));
    let macs = ends.each_ref().map(|end| end.sender.address().mac);
    let stranger = open(&segment, 2).sender;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random::new(6);
            while !over.load(Ordering::Relaxed) {
                let noise: [[u8; 1024]; 4] =
                    std::array::from_fn(|_| std::array::from_fn(|_| random.next() as u8));
                for to in macs {
                    stranger.send(to, noise.iter().map(|datagram| &datagram[..])).unwrap();
                }
            }
        });
        let _over = OnDrop(|| over.store(true, Ordering::Relaxed));
        run(async {
            // The handshake among it.
            let pair = pair(ends, None).await;
            // And all that is exchanged until the stranger has had its say.
            exchange(&pair, 500_000).await;
            while pair.endpoints[1].stats().faults < 1000 {
                exchange(&pair, 500_000).await;
            }
        });
    });
}

#[test]
fn a_new_link_sends_at_once_and_addresses_of_others_are_out_of_its_reach() {
    let Some(segment) = Segment::for_test(1) else { return };
    run(async {
        let link = Ethernet::new(open(&segment, 0)).unwrap();
        let mac = MacAddress([2, 0, 0x5e, 0x10, 0xff, 1]);
        let address = link.address(mac);
        assert_eq!(Ethernet::mac(address), Some(mac));
        let SocketAddr::V6(own) = link.local_addr() else { panic!("not that of a card") };
        let scope = own.scope_id();
        assert_ne!(scope, 0);
        assert_eq!(address, format!("[fe80::5eff:fe10:ff01%{scope}]:0").parse().unwrap());
        // The runtime has had no time to ask the system about it, either.
        assert_eq!(link.try_send(address.into(), b"hello", 5).unwrap(), 5);
        let endpoint = builder().bind_link(link.clone()).unwrap();
        let elsewhere = format!("[fe80::5eff:fe10:ff01%{}]:0", scope + 1);
        for other in ["192.0.2.1:9993", "[2001:db8::1]:9993", "[fe80::5eff:fe10:ff01]:9993", &elsewhere] {
            let refused = endpoint.connect(other.parse().unwrap(), endpoint.public_key()).await;
            assert!(matches!(refused, Err(ConnectError::AddressFamily(_))), "{other}: {refused:?}");
        }
    });
}

/// Does something when it is dropped, also by a test that fails.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
