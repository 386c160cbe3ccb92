//! Frames between hosts of a real segment: network namespaces on a bridge. Needs root and `ip`.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "in a test it is the assertion")]

use std::num::NonZeroU16;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use zssp_ethernet::{
    EtherType, InterfaceName, Link, MacAddress, OpenError, ReceiveError, Received, Receiver, SendError,
    Settings,
};
use zssp_segment::Segment;

/// Longer than anything here takes, however busy the machine is.
const LONG: Duration = Duration::from_secs(30);
/// Long enough for what is on its way to arrive.
const SHORT: Duration = Duration::from_millis(100);

fn eth0() -> InterfaceName {
    "eth0".parse().unwrap()
}

/// Opens `eth0` of a host.
fn open(segment: &Segment, host: usize, settings: &Settings) -> Link {
    segment.on(host, || Link::open(eth0(), settings)).unwrap()
}

fn receivers(count: u16) -> Settings {
    Settings { receivers: NonZeroU16::new(count).unwrap(), ..Settings::default() }
}

/// Receives until there are so many datagrams, each with its sender; panics if they do not come.
fn expect(receiver: &mut Receiver, count: usize) -> Vec<(MacAddress, Vec<u8>)> {
    let deadline = Instant::now() + LONG;
    let mut datagrams = Vec::new();
    while datagrams.len() < count {
        let left = deadline.saturating_duration_since(Instant::now());
        match receiver.receive(Some(left)).unwrap() {
            Received::Batch(batch) => {
                assert_eq!(batch.len(), batch.frames().count());
                datagrams.extend(batch.frames().map(|frame| (frame.source, frame.bytes.to_vec())));
            }
            Received::Nothing => panic!("{} of {count} datagrams", datagrams.len()),
            Received::Woken => panic!("nobody woke it"),
        }
    }
    datagrams
}

/// Counts what comes until nothing comes for a while.
fn drain(receiver: &mut Receiver) -> usize {
    let mut count = 0;
    while let Received::Batch(batch) = receiver.receive(Some(SHORT)).unwrap() {
        count += batch.len();
    }
    count
}

/// A datagram whose content tells its length.
fn datagram(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ len ^ (len >> 8)) as u8).collect()
}

#[test]
//= ZSSP-ETH-02  short datagrams arrive without their padding
fn datagrams_of_every_length_arrive_whole_at_any_mtu() {
    let Some(segment) = Segment::for_test(2) else { return };
    for mtu in [576, 1500, 9000] {
        segment.set_mtu(mtu).unwrap();
        let sender = open(&segment, 0, &Settings::default()).sender;
        let mut link = open(&segment, 1, &Settings::default());
        let (to, receiver) = (link.sender.address().mac, &mut link.receivers[0]);
        let largest = sender.max_datagram_len().unwrap();
        assert_eq!(largest, mtu - 4);

        let lengths: Vec<usize> = (0..100).chain((100..largest).step_by(37)).chain([largest]).collect();
        for lengths in lengths.chunks(50) {
            let datagrams: Vec<Vec<u8>> = lengths.iter().map(|len| datagram(*len)).collect();
            let mut batch = sender.batch();
            datagrams.iter().for_each(|datagram| batch.packet(to, [&datagram[..]]).unwrap());
            batch.flush().unwrap();
            let from = sender.address().mac;
            let expected: Vec<_> = datagrams.into_iter().map(|datagram| (from, datagram)).collect();
            assert!(expect(receiver, lengths.len()) == expected, "MTU {mtu}, lengths {lengths:?}");
        }
        let (statistics, sent) = (receiver.statistics().unwrap(), sender.statistics());
        assert_eq!((statistics.dropped, statistics.malformed), (0, 0));
        assert_eq!((statistics.frames, sent.frames), (lengths.len() as u64, lengths.len() as u64));

        let too_large = sender.send(to, [&datagram(largest + 20)[..]]);
        assert!(matches!(too_large, Err(SendError::TooLarge { .. })), "{too_large:?}");
    }
}

#[test]
fn a_lone_frame_waits_for_no_others() {
    const FRAMES: usize = 200;
    let Some(segment) = Segment::for_test(2) else { return };
    let sender = open(&segment, 0, &Settings::default()).sender;
    let mut link = open(&segment, 1, &Settings::default());
    let (to, receiver) = (link.sender.address().mac, &mut link.receivers[0]);
    let mut at_once = 0;
    for _ in 0..FRAMES {
        sender.send(to, [&b"lone"[..]]).unwrap();
        let there = matches!(receiver.receive(Some(Duration::ZERO)).unwrap(), Received::Batch(_));
        at_once += usize::from(there);
        if !there {
            expect(receiver, 1);
        }
    }
    // A call to send delivers them, but for those that a busy kernel puts off.
    assert!(at_once > FRAMES / 4, "{at_once} of {FRAMES}");
}

#[test]
//= ZSSP-ETH-04  all datagrams of a packet come to one receiver, packets to both
fn two_receivers_share_packets_but_not_their_datagrams() {
    const PACKETS: u8 = 40;
    let Some(segment) = Segment::for_test(2) else { return };
    let sender = open(&segment, 0, &Settings::default()).sender;
    let mut link = open(&segment, 1, &receivers(2));
    let to = link.sender.address().mac;
    for packet in 0..PACKETS {
        let datagrams: Vec<[u8; 2]> = (0..3).map(|fragment| [packet, fragment]).collect();
        sender.send(to, datagrams.iter().map(|datagram| &datagram[..])).unwrap();
    }
    let got = link.receivers.iter_mut().map(|receiver| expect(receiver, usize::from(PACKETS) / 2 * 3));
    let mut packets = Vec::new();
    for datagrams in got.collect::<Vec<_>>() {
        for packet in datagrams.chunks(3) {
            let number = packet[0].1[0];
            let expected: Vec<Vec<u8>> = (0..3).map(|fragment| vec![number, fragment]).collect();
            assert!(packet.iter().map(|(_, datagram)| datagram).eq(&expected), "{packet:?}");
            packets.push(number);
        }
    }
    packets.sort_unstable();
    assert!(packets.into_iter().eq(0..PACKETS));
    link.receivers.iter_mut().for_each(|receiver| assert_eq!(drain(receiver), 0));
}

#[test]
fn a_burst_larger_than_the_ring_is_counted_and_the_ring_goes_on() {
    const BURST: u32 = 2000;
    let Some(segment) = Segment::for_test(2) else { return };
    // At the larger one the smallest ring is shorter than a batch.
    for mtu in [1500, 9000] {
        segment.set_mtu(mtu).unwrap();
        let sender = open(&segment, 0, &Settings::default()).sender;
        let mut link = open(&segment, 1, &Settings { ring_len: 1, ..Settings::default() });
        let (to, receiver) = (link.sender.address().mac, &mut link.receivers[0]);
        for round in 1..=3 {
            for number in 0..BURST {
                let mut datagram = [7; 1000];
                datagram[..4].copy_from_slice(&number.to_be_bytes());
                sender.send(to, [&datagram[..]]).unwrap();
            }
            let mut numbers = Vec::new();
            while let Received::Batch(batch) = receiver.receive(Some(SHORT)).unwrap() {
                numbers.extend(batch.frames().map(|frame| *frame.bytes.first_chunk::<4>().unwrap()));
            }
            assert!(numbers.is_sorted_by(|a, b| a < b), "each once, and in order");
            let statistics = receiver.statistics().unwrap();
            let (frames, dropped) = (statistics.frames, statistics.dropped);
            assert!(!numbers.is_empty() && dropped >= round * u64::from(BURST) / 2, "{statistics:?}");
            assert!(frames + dropped <= round * u64::from(BURST), "{statistics:?}");
        }
        sender.send(to, [&b"after"[..]]).unwrap();
        assert_eq!(expect(receiver, 1)[0].1, b"after");
    }
}

#[test]
//= ZSSP-ETH-01  another EtherType is another protocol
//= ZSSP-ETH-05  neither to all nor to others
fn foreign_frames_are_not_seen() {
    let Some(segment) = Segment::for_test(2) else { return };
    let sender = open(&segment, 0, &Settings::default()).sender;
    let foreign = Settings { ether_type: EtherType::new(0x88b6).unwrap(), ..Settings::default() };
    let foreign = open(&segment, 0, &foreign).sender;
    let mut link = open(&segment, 1, &Settings::default());
    let (to, receiver) = (link.sender.address().mac, &mut link.receivers[0]);

    foreign.send(to, [&b"foreign"[..]]).unwrap();
    sender.send(MacAddress([0xff; 6]), [&b"to all"[..]]).unwrap();
    sender.send(MacAddress([1, 0, 0x5e, 0, 0, 1]), [&b"to some"[..]]).unwrap();
    // The bridge does not know this one, so everybody gets it.
    sender.send(MacAddress([2, 0, 0, 0, 0, 0x77]), [&b"to another"[..]]).unwrap();
    sender.send(to, [&b"to it"[..]]).unwrap();
    let only = (sender.address().mac, b"to it".to_vec());
    assert_eq!(expect(receiver, 1), [only]);
    assert_eq!(drain(receiver), 0);
}

#[test]
fn an_interface_may_go_down_and_come_up_again() {
    let Some(segment) = Segment::for_test(2) else { return };
    let sender = open(&segment, 0, &Settings::default()).sender;
    let mut link = open(&segment, 1, &receivers(2));
    let to = link.sender.address().mac;
    for _ in 0..2 {
        segment.ip(1, "link set eth0 down").unwrap();
        // Whatever was on its way, and then nothing.
        link.receivers.iter_mut().for_each(|receiver| _ = drain(receiver));
        link.receivers.iter_mut().for_each(|receiver| assert_eq!(drain(receiver), 0));
        let refused = link.sender.send(sender.address().mac, [&b"down"[..]]);
        assert!(matches!(refused, Err(SendError::Down(_))), "{refused:?}");

        segment.ip(1, "link set eth0 up").unwrap();
        // The bridge may take a while to notice.
        let deadline = Instant::now() + LONG;
        for receiver in &mut link.receivers {
            let mut got = 0;
            while got == 0 {
                assert!(Instant::now() < deadline, "nothing comes any more");
                (0..2).for_each(|_| sender.send(to, [&b"up"[..]]).unwrap());
                got = drain(receiver);
            }
        }
    }
    segment.ip(1, "link del eth0").unwrap();
    for receiver in &mut link.receivers {
        // What came before is still there; then it is gone, and stays so.
        while let Ok(Received::Batch(_)) = receiver.receive(Some(LONG)) {}
        let gone = receiver.receive(Some(LONG)).map(|_| ());
        assert!(matches!(gone, Err(ReceiveError::Gone(_))), "{gone:?}");
    }
    let gone = link.sender.send(to, [&b"gone"[..]]);
    assert!(matches!(gone, Err(SendError::Gone(_))), "{gone:?}");
}

#[test]
fn a_flood_by_a_stranger_does_not_stop_two_peers() {
    let Some(segment) = Segment::for_test(3) else { return };
    let small = Settings { ring_len: 1 << 20, ..Settings::default() };
    let mut peers = [open(&segment, 0, &small), open(&segment, 1, &small)];
    let addresses = peers.each_ref().map(|peer| peer.sender.address().mac);
    let stranger = open(&segment, 2, &small).sender;
    let [ping, pong] = &mut peers;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                addresses.iter().for_each(|to| stranger.send(*to, [&[0xa5; 1000][..]; 16]).unwrap());
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if let Received::Batch(batch) = pong.receivers[0].receive(Some(SHORT)).unwrap() {
                    for frame in batch.frames().filter(|frame| frame.source == addresses[0]) {
                        pong.sender.send(frame.source, [frame.bytes]).unwrap();
                    }
                }
            }
        });
        let deadline = Instant::now() + LONG;
        for number in 0..100u32 {
            let mut answered = false;
            while !answered {
                assert!(Instant::now() < deadline, "stuck at {number}");
                ping.sender.send(addresses[1], [&number.to_be_bytes()[..]]).unwrap();
                if let Received::Batch(batch) = ping.receivers[0].receive(Some(SHORT)).unwrap() {
                    let from = |mac| batch.frames().filter(move |frame| frame.source == mac);
                    answered = from(addresses[1]).any(|frame| frame.bytes == number.to_be_bytes());
                }
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_waker_ends_the_wait_and_comes_before_frames() {
    let Some(segment) = Segment::for_test(2) else { return };
    let sender = open(&segment, 0, &Settings::default()).sender;
    let mut link = open(&segment, 1, &Settings::default());
    let (to, receiver) = (link.sender.address().mac, &mut link.receivers[0]);
    let waker = receiver.waker();
    thread::scope(|scope| {
        scope.spawn(|| waker.wake());
        assert!(matches!(receiver.receive(None), Ok(Received::Woken)));
    });
    assert!(matches!(receiver.receive(Some(Duration::ZERO)), Ok(Received::Nothing)));
    sender.send(to, [&b"frame"[..]]).unwrap();
    thread::sleep(SHORT);
    (0..1000).for_each(|_| waker.wake());
    assert!(matches!(receiver.receive(None), Ok(Received::Woken)));
    assert_eq!(expect(receiver, 1)[0].1, b"frame");
}

#[test]
fn what_keeps_a_link_from_opening_is_said() {
    let Some(segment) = Segment::for_test(1) else { return };
    let open_as = |name: &str| Link::open(name.parse().unwrap(), &Settings::default()).map(|_| ());
    let missing = segment.on(0, || open_as("eth7")).unwrap_err();
    assert!(matches!(missing, OpenError::NoInterface(_)), "{missing:?}");
    assert_eq!(missing.to_string(), "there is no network interface eth7: `ip link` lists them");

    segment.ip(0, "tuntap add dev tun0 mode tun").unwrap();
    let tunnel = segment.on(0, || open_as("tun0")).unwrap_err();
    assert!(matches!(tunnel, OpenError::NotEthernet(_)), "{tunnel:?}");

    let unprivileged = segment.on(0, || {
        use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
        let mut sets = capabilities(None).unwrap();
        sets.effective.remove(CapabilitySet::NET_RAW);
        set_capabilities(None, sets).unwrap();
        Link::open(eth0(), &Settings::default()).map(|_| ()).unwrap_err()
    });
    assert!(matches!(unprivileged, OpenError::NotPermitted), "{unprivileged:?}");
    assert!(unprivileged.to_string().contains("setcap cap_net_raw+ep"), "{unprivileged}");
}
