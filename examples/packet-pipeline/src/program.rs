//! The command line.

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use data_encoding::HEXLOWER_PERMISSIVE as HEX;
use zssp_ethernet::{EthernetAddress, InterfaceName, Link};
use zssp_proto::crypto::AwsLc;
use zssp_proto::{PublicKey, StaticKey};

use crate::content::{MAX_LEN, MIN_LEN};
use crate::demo::Wire;
use crate::egress::check_size;
use crate::node::{Error, Node, open_link};
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
        Ok(Load { messages, len: self.size, level, threads: usize::from(self.threads) })
    }
}

/// How long nothing may come before a transfer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn main() -> ExitCode {
    let result = match Program::parse().command {
        Command::Demo { options, mtu } => demo(options, mtu),
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

fn demo(options: Options, mtu: usize) -> Result<(), Error> {
    let load = options.load()?;
    let wire = Wire::new(mtu)?;
    let (sender, receiver) = (StaticKey::generate(&AwsLc)?, StaticKey::generate(&AwsLc)?);
    let (sender_key, receiver_key) = (sender.public(), receiver.public());
    let open = |end| wire.at(end, || open_link("eth0".parse()?, options.threads))?;
    let (sending, receiving) = (open(0)?, open(1)?);
    let to = EthernetAddress { interface: "eth0".parse()?, mac: receiving.sender.address().mac };
    let threads = options.threads;
    let sender = End { key: sender, allowed: Some(receiver_key), threads };
    let receiver = End { key: receiver, allowed: Some(sender_key), threads };
    thread::scope(|scope| {
        let received = scope.spawn(|| receiver.receive(receiving, PATIENCE));
        sender.send(sending, receiver_key, to, load)?;
        received.join().map_err(|_| "the receiver panicked")?
    })
}

fn receive(interface: InterfaceName, threads: u16) -> Result<(), Error> {
    let link = open_link(interface, threads)?;
    let key = StaticKey::generate(&AwsLc)?;
    println!(
        "waiting at {} with the public key\n{}",
        link.sender.address().mac,
        HEX.encode(key.public().as_bytes())
    );
    End { key, allowed: None, threads }.receive(link, Duration::MAX)
}

fn send(to: EthernetAddress, key: &str, options: Options) -> Result<(), Error> {
    let bytes = HEX.decode(key.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    let bytes = bytes.ok_or("a public key has 49 bytes, in hexadecimal digits")?;
    let peer = PublicKey::from_bytes(bytes, &AwsLc)?;
    let link = open_link(to.interface, options.threads)?;
    let key = StaticKey::generate(&AwsLc)?;
    End { key, allowed: Some(peer), threads: options.threads }.send(link, peer, to, options.load()?)
}

/// One end before it starts.
struct End {
    key: StaticKey,
    allowed: Option<PublicKey>,
    threads: u16,
}

impl End {
    /// Waits so long for a peer.
    fn receive(self, link: Link, patience: Duration) -> Result<(), Error> {
        let node = Node::new(self.key, self.allowed, link.sender)?;
        let result = thread::scope(|scope| {
            let _running = node.start(scope, link.receivers, usize::from(self.threads));
            node.session(patience).ok_or("nobody came")?;
            let start = Instant::now();
            let complete = node.tally.wait(PATIENCE)?;
            let time = start.elapsed();
            // Until the peer has all acknowledgements, which it may ask for again.
            thread::sleep(Duration::from_millis(300));
            Ok::<_, Error>((complete, time))
        });
        let (complete, time) = result.inspect_err(|_| println!("{}", node.counters))?;
        let Complete { messages, bytes, controls } = complete;
        let seconds = time.as_secs_f64();
        println!(
            "received {messages} messages of {bytes} bytes once each, {controls} control messages in order: \
             {:.0} messages/s, {:.1} MB/s\n{}",
            messages as f64 / seconds,
            bytes as f64 / seconds / 1e6,
            node.counters
        );
        Ok(())
    }

    fn send(self, link: Link, peer: PublicKey, to: EthernetAddress, load: Load) -> Result<(), Error> {
        check_size(load.len, link.sender.max_datagram_len()?)?;
        let node = Node::new(self.key, self.allowed, link.sender)?;
        thread::scope(|scope| {
            let _running = node.start(scope, link.receivers, usize::from(self.threads));
            node.connect(peer, to)?;
            node.session(PATIENCE).ok_or("no session: is the receiver there?")?;
            sources::run(&node, load)
        })?;
        println!("sent {} messages of {} bytes\n{}", load.messages, load.len, node.counters);
        Ok(())
    }
}
