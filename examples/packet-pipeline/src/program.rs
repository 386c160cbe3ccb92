//! The command line.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use data_encoding::HEXLOWER_PERMISSIVE as HEX;
use zssp_ethernet::{EthernetAddress, InterfaceName};
use zssp_proto::crypto::AwsLc;
use zssp_proto::{Address, PublicKey, StaticKey};

use crate::content::{MAX_LEN, MIN_LEN};
use crate::counters::Counters;
use crate::demo::Wire;
use crate::egress::check_size;
use crate::ingress::Lose;
use crate::node::{Error, Node};
use crate::road::{Road, WayOut};
use crate::sources::{self, Load};
use crate::tally::Complete;

/// One session between two machines, driven by plain threads over raw Ethernet.
#[derive(Parser)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Both ends on this machine, in two network namespaces (as root)
    Demo {
        #[command(flatten)]
        options: Options,
        /// The MTU of the wire between them
        #[arg(long, default_value_t = 1500)]
        mtu: usize,
        /// UDP in place of raw frames, without offload, to compare with
        #[arg(long)]
        udp: bool,
        /// Lose one datagram in so many, at each end
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        lose: Option<u64>,
    },
    /// Receives one transfer from whoever comes
    Receive {
        /// The interface, such as eth0
        interface: InterfaceName,
        /// Threads of each stage
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
        threads: u16,
    },
    /// Sends to a receiver on the same segment
    Send {
        /// The receiver's address as it prints it, with this machine's interface: eth0/02:00:00:00:00:01
        to: EthernetAddress,
        /// The receiver's public key as it prints it
        key: String,
        #[command(flatten)]
        options: Options,
    },
}

#[derive(Args, Clone, Copy)]
struct Options {
    /// Threads of each stage, on each end
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
    /// Bytes of each message
    #[arg(long, default_value_t = 1400)]
    size: usize,
    /// Bytes in all
    #[arg(long, default_value_t = 100_000_000)]
    bytes: u64,
    /// The level of zstd for messages of 256 bytes and more; 0 does not compress
    #[arg(long, default_value_t = 1)]
    level: i32,
}

impl Options {
    fn load(self) -> Result<Load, Error> {
        if !(MIN_LEN..=MAX_LEN).contains(&self.size) {
            return Err(format!("messages have {MIN_LEN} to {MAX_LEN} bytes").into());
        }
        let level = Some(self.level).filter(|level| *level != 0);
        let messages = self.bytes.div_ceil(self.size as u64).max(1);
        Ok(Load { messages, len: self.size, level, threads: self.threads })
    }
}

/// How long nothing may come before a transfer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn main() -> ExitCode {
    let result = match Program::parse().command {
        Command::Demo { options, mtu, udp, lose } => {
            options.load().and_then(|load| demo(load, mtu, udp, lose)).map(drop)
        }
        Command::Receive { interface, threads } => receive(interface, threads),
        Command::Send { to, key, options } => send(to, &key, options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("packet-pipeline: {error}");
            ExitCode::FAILURE
        }
    }
}

fn demo(load: Load, mtu: usize, udp: bool, lose: Option<u64>) -> Result<[Counters; 2], Error> {
    const PORT: u16 = 9993;
    let wire = Wire::new(mtu)?;
    let (sender, receiver) = (StaticKey::generate(&AwsLc)?, StaticKey::generate(&AwsLc)?);
    let (sender_key, receiver_key) = (sender.public(), receiver.public());
    let (threads, lose) = (load.threads, lose.map(Lose::one_in));
    let open = |end: u8| {
        wire.at(usize::from(end), || match udp {
            true => Road::udp((Wire::ip(end), PORT).into(), mtu, threads),
            false => Road::ethernet("eth0".parse()?, threads),
        })?
    };
    let (sending, receiving) = (open(0)?, open(1)?);
    let to = match &receiving.way_out {
        WayOut::Ethernet(sender) => sender.address().into(),
        WayOut::Udp { .. } => SocketAddr::from((Wire::ip(1), PORT)).into(),
    };
    let sender = End { key: sender, allowed: Some(receiver_key), threads, lose };
    let receiver = End { key: receiver, allowed: Some(sender_key), threads, lose };
    thread::scope(|scope| {
        let received = scope.spawn(|| receiver.receive(receiving, PATIENCE));
        let sent = sender.send(sending, receiver_key, to, load);
        match (received.join().map_err(|_| "the receiver panicked")?, sent) {
            (Ok(received), Ok(sent)) => Ok([sent, received]),
            (Err(receiver), Err(sender)) => {
                Err(format!("the receiver: {receiver}; the sender: {sender}").into())
            }
            (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
        }
    })
}

fn receive(interface: InterfaceName, threads: u16) -> Result<(), Error> {
    let road = Road::ethernet(interface, threads)?;
    let key = StaticKey::generate(&AwsLc)?;
    if let WayOut::Ethernet(sender) = &road.way_out {
        println!("waiting at {} with the public key", sender.address().mac);
    }
    println!("{}", HEX.encode(key.public().as_bytes()));
    End { key, allowed: None, threads, lose: None }.receive(road, Duration::MAX).map(drop)
}

fn send(to: EthernetAddress, key: &str, options: Options) -> Result<(), Error> {
    let bytes = HEX.decode(key.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    let bytes = bytes.ok_or("a public key has 49 bytes, in hexadecimal digits")?;
    let peer = PublicKey::from_bytes(bytes, &AwsLc)?;
    let road = Road::ethernet(to.interface, options.threads)?;
    let key = StaticKey::generate(&AwsLc)?;
    let end = End { key, allowed: Some(peer), threads: options.threads, lose: None };
    end.send(road, peer, to.into(), options.load()?).map(drop)
}

/// One end before it starts.
struct End {
    key: StaticKey,
    allowed: Option<PublicKey>,
    threads: u16,
    lose: Option<Lose>,
}

impl End {
    /// Waits so long for a peer.
    fn receive(self, road: Road, patience: Duration) -> Result<Counters, Error> {
        let node = Node::new(self.key, self.allowed, road.way_out)?;
        let result = thread::scope(|scope| {
            let _running = node.start(scope, road.ways_in, usize::from(self.threads), self.lose);
            node.session(patience).ok_or("nobody came")?;
            let start = Instant::now();
            let complete = node.tally.wait(PATIENCE)?;
            let time = start.elapsed();
            // Until the peer has all acknowledgements, which it may ask for again.
            thread::sleep(Duration::from_millis(300));
            Ok::<_, Error>((complete, time))
        });
        let (complete, time) = result.map_err(|error| {
            println!("{}", node.counters);
            node.cause(error)
        })?;
        let Complete { messages, bytes, controls } = complete;
        let seconds = time.as_secs_f64();
        println!(
            "received {messages} messages of {bytes} bytes once each, {controls} control messages in order: \
             {:.0} messages/s, {:.1} MB/s\n{}",
            messages as f64 / seconds,
            bytes as f64 / seconds / 1e6,
            node.counters
        );
        Ok(node.counters)
    }

    fn send(self, road: Road, peer: PublicKey, to: Address, load: Load) -> Result<Counters, Error> {
        check_size(load.len, road.way_out.mtu()?)?;
        let node = Node::new(self.key, self.allowed, road.way_out)?;
        let result = thread::scope(|scope| {
            let _running = node.start(scope, road.ways_in, usize::from(self.threads), self.lose);
            node.connect(peer, to)?;
            node.session(PATIENCE).ok_or("no session: is the receiver there?")?;
            sources::run(&node, load)
        });
        result.map_err(|error| node.cause(error))?;
        println!("sent {} messages of {} bytes\n{}", load.messages, load.len, node.counters);
        Ok(node.counters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_that_refuses_a_message_ends_the_sender_too() {
        if zssp_segment::Segment::for_test(0).is_none() {
            return;
        }
        let load = Load { messages: 1000, len: MAX_LEN + 1, level: None, threads: 2 };
        let error = demo(load, 9000, false, None).unwrap_err().to_string();
        let expected =
            "the receiver: a message has other content than was sent; the sender: nothing heard for 10s";
        assert!(error.starts_with(expected), "{error}");
    }

    /// Allocations of all stages of both ends, in a transfer of so many messages.
    fn allocations(messages: u64, size: usize) -> Result<u64, Error> {
        let load = Load { messages, len: size, level: Some(1), threads: 2 };
        let counters = demo(load, 1500, false, None)?;
        Ok(counters.iter().map(Counters::allocations).sum())
    }

    #[test]
    fn packets_allocate_nothing_once_buffers_are_there() -> Result<(), Error> {
        if zssp_segment::Segment::for_test(0).is_none() {
            return Ok(());
        }
        for (size, few, many) in [(64, 20_000, 80_000), (1400, 20_000, 80_000), (61_440, 2_000, 8_000)] {
            let (before, after) = (allocations(few, size)?, allocations(many, size)?);
            println!("of {size} bytes, {few} messages make {before} allocations and {many} make {after}");
            // Each buffer that is ever in use is made once, and a longer run may have more of them in use; and the control
            // messages, one for a hundred others, have buffers that are not pooled.
            let more = after.saturating_sub(before);
            assert!(more < (many - few) / 4, "{more} allocations more, of {size} bytes");
        }
        Ok(())
    }
}
