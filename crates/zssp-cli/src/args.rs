//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    place::Listen,
    public_key_text::PublicKeyText,
    values::{Allowed, Target, period, seconds, size},
};

const EXIT_CODES: &str = "\
Exit codes:
    0  everything asked for was done
    1  something was not transferred, the connection broke off, or no ping was answered
    2  the command line makes no sense
    3  the peer does not know our key, is busy, or serves something else;
       or it has lost the ratchet, and `--policy persistent` refuses that
    4  nobody answered in time, or the peer fell silent
    5  a file, folder, socket or the network of this side
  130  interrupted by Ctrl-C (143: by SIGTERM)";

const KEYGEN_EXAMPLES: &str = "\
Examples:
  zssp keygen alice.key
  PUBLIC=$(zssp keygen alice.key)      only the public key goes to standard output";

const PUBKEY_EXAMPLES: &str = "\
Examples:
  zssp pubkey alice.key";

const SEND_EXAMPLES: &str = "\
Examples:
  zssp send --key alice.key --to zssp1…@192.0.2.7 report.pdf
  zssp send --key alice.key --to zssp1…@backup.example.org:9993 photos/ notes/
  zssp send --key alice.key --to zssp1…@[2001:db8::7]:9993 -- -odd-name
  zssp send --key alice.key --to zssp1…@ethernet:eth0/02:00:00:00:00:07 report.pdf

A folder arrives as a folder of its name, with everything below it. Names, contents, permission
bits and modification times of files are kept; symbolic links, devices, pipes and sockets are
left out with a warning. The command succeeds when the receiver has verified every file.

When the connection breaks, the command connects again by itself, within the --timeout. However it
was cut off, the same command run again sends only what is missing: the receiver keeps what it has
of a file, and both compare its hash. A file that is there already is not sent, one that changed is
sent anew.";

const RECEIVE_EXAMPLES: &str = "\
Examples:
  zssp receive --key bob.key --allow zssp1… --dir incoming
  zssp receive --key bob.key --listen 0.0.0.0:9993 --allow zssp1… --allow zssp1… --dir incoming
  zssp receive --key bob.key --allow zssp1… --dir incoming --once
  zssp receive --key bob.key --listen ethernet:eth0 --allow zssp1… --dir incoming

Files appear under their names only when complete and verified; until then they are called
.zssp-partial-…, and kept when a transfer is cut off, for the sender to go on. Nothing is written
outside the folder, whatever a sender asks for. Without --once the receiver serves any number of
senders until it is interrupted.

With ethernet: there is no IP: raw frames on one segment, on Linux, with CAP_NET_RAW.";

const PING_EXAMPLES: &str = "\
Examples:
  zssp ping --key alice.key --to zssp1…@192.0.2.7
  zssp ping --key alice.key --to zssp1…@example.org:9993 --count 20 --interval 0.2
  zssp ping --key alice.key --to zssp1…@192.0.2.7 --count 3 --quiet && echo reachable

The peer runs `zssp serve`. Each ping is a datagram of one connection, sealed, and lost when the
network loses it. Ctrl-C ends it with the summary. The exit code is 0 when an answer came, and 1
when there was a connection but none came.";

const BENCH_EXAMPLES: &str = "\
Examples:
  zssp bench
  zssp bench --streams 4 --size 32KiB --duration 10
  zssp bench --key alice.key --to zssp1…@192.0.2.7

Streams carry bytes from here to the peer; messages are ordered ones of one channel; of requests,
64 wait for their replies at a time, which are as large; datagrams go out as fast as this machine
sends them, so expect loss where the network is slower. CPU is the time of this process: of both
ends without --to, of the sending one with it. Use it with --to only on networks you may load.";

const SERVE_EXAMPLES: &str = "\
Examples:
  zssp serve --key bob.key --allow zssp1…
  zssp serve --key bob.key --allow any --listen 127.0.0.1:9993

It answers `zssp ping` and `zssp bench`, and takes no files. It goes on until it is interrupted.";

const PEERS_EXAMPLES: &str = "\
Examples:
  zssp peers list --ratchets bob.ratchets
  zssp peers forget zssp1… --ratchets bob.ratchets
  zssp peers preset zssp1… --password-file otp --ratchets bob.ratchets

A ratchet is a secret that each connection hands to the next. `list` prints a line for each peer:
its public key, and how often its ratchet has turned.";

const PASSWORD_EXAMPLES: &str = "\
Examples:
  (umask 077; zssp password > otp)

Carry it to the other side by a way that nobody listens to. Then, on both sides, each naming the
other:
  zssp peers preset zssp1… --password-file otp --ratchets FILE
Use it for one pair of peers, once, and delete the file.";

const DEMO_EXAMPLES: &str = "\
Examples:
  zssp demo
  zssp demo --size 1GiB";

/// Files over a secure session whose keys a quantum computer cannot find out later.
///
/// Two machines know each other by their public keys; nothing else is configured.
#[derive(Debug, Parser)]
#[command(name = "zssp", version, after_help = EXIT_CODES, max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How much is said.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Output {
    /// Say more: every file by name, and what went over the wire
    #[arg(short, long, global = true, conflicts_with = "quiet", display_order = 100)]
    pub(crate) verbose: bool,
    /// Say nothing but errors, and that a peer came without its ratchet
    #[arg(short, long, global = true, display_order = 101)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a secret key in a new file and print its public key
    #[command(after_help = KEYGEN_EXAMPLES)]
    Keygen(KeyFile),
    /// Print the public key of a key file again
    #[command(after_help = PUBKEY_EXAMPLES)]
    Pubkey(KeyFile),
    /// Send files and folders to a peer that runs `zssp receive`
    #[command(after_help = SEND_EXAMPLES)]
    Send(Send),
    /// Receive files and folders from peers that run `zssp send`
    #[command(after_help = RECEIVE_EXAMPLES)]
    Receive(Receive),
    /// Measure round trips to a peer that runs `zssp serve`, and loss
    #[command(after_help = PING_EXAMPLES)]
    Ping(Ping),
    /// Measure throughput and message rates, to a peer that runs `zssp serve` or within this process
    #[command(after_help = BENCH_EXAMPLES)]
    Bench(Bench),
    /// Answer peers that run `zssp ping` or `zssp bench`
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Serve),
    /// See and change what is remembered of peers in a file of ratchets
    #[command(after_help = PEERS_EXAMPLES, arg_required_else_help = true)]
    Peers(Peers),
    /// Make a one-time password, for `zssp peers preset` on both sides
    #[command(after_help = PASSWORD_EXAMPLES)]
    Password,
    /// Show it at work: both peers in one process, a transfer over loopback UDP
    #[command(after_help = DEMO_EXAMPLES)]
    Demo(Demo),
}

#[derive(Args, Debug)]
pub(crate) struct KeyFile {
    /// The file with the secret key
    pub(crate) file: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct Send {
    /// The file with our secret key (see `zssp keygen`)
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// The receiver: its public key and where it listens (port 9993 if none is given), or ethernet:INTERFACE/MAC
    #[arg(long, value_name = "PUBKEY@HOST[:PORT]")]
    pub(crate) to: Target,
    /// Give up when the receiver has not answered, or has fallen silent, for so long. Where an earlier attempt was refused or
    /// cut off in its handshake, up to 10 seconds pass before there can be another: try for clearly longer than that
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) remember: Remember,
    /// Files and folders to send
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Receive {
    /// The file with our secret key (see `zssp keygen`)
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// Where to listen: address and port, or ethernet:INTERFACE; port 0 takes any free one, which is printed [default: port
    /// 9993 of every address]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<Listen>,
    /// Whose files are welcome: public keys, or `any` for everybody
    #[arg(long, value_name = "PUBKEY", required = true, num_args = 1..)]
    pub(crate) allow: Vec<Allowed>,
    /// The folder that files and folders go to; it exists
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// End after one transfer; the exit code tells how it went
    #[arg(long)]
    pub(crate) once: bool,
    /// Replace files that exist; without this they are kept and the new ones refused, unless they are the same
    #[arg(long, visible_alias = "force")]
    pub(crate) overwrite: bool,
    /// Wait until each file is on the disk before confirming it: slower, and safe from power cuts
    #[arg(long)]
    pub(crate) flush: bool,
    #[command(flatten)]
    pub(crate) remember: Remember,
    /// Drop a sender that has been silent for so long
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

#[derive(Args, Debug)]
pub(crate) struct Ping {
    /// The file with our secret key (see `zssp keygen`)
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// The peer: its public key and where it listens (port 9993 if none is given), or ethernet:INTERFACE/MAC
    #[arg(long, value_name = "PUBKEY@HOST[:PORT]")]
    pub(crate) to: Target,
    #[command(flatten)]
    pub(crate) remember: Remember,
    /// Pings to send [default: until interrupted]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Time from one ping to the next
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = period)]
    pub(crate) interval: Duration,
    /// Bytes in each ping, 9 at least
    #[arg(long, value_name = "SIZE", default_value = "64", value_parser = size)]
    pub(crate) size: u64,
    /// Give up when there is no connection after so long; and how long to wait when no answer comes at all. Where an earlier
    /// attempt was refused or cut off in its handshake, up to 10 seconds pass before there can be another: try for clearly
    /// longer than that
    #[arg(long, value_name = "SECONDS", default_value = "20", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

// Both ends in one process remember nothing.
#[derive(Args, Debug)]
#[command(mut_arg("ratchets", |ratchets| ratchets.requires("to")))]
pub(crate) struct Bench {
    /// The peer: its public key and where it listens (port 9993 if none is given), or ethernet:INTERFACE/MAC [default: a second
    /// peer within this process]
    #[arg(long, value_name = "PUBKEY@HOST[:PORT]", requires = "key")]
    pub(crate) to: Option<Target>,
    /// The file with our secret key (see `zssp keygen`)
    #[arg(long, value_name = "FILE", requires = "to")]
    pub(crate) key: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) remember: Remember,
    /// How long each of the four measurements takes
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = period)]
    pub(crate) duration: Duration,
    /// Streams at the same time
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) streams: u16,
    /// Bytes in each write, message, request and datagram [default: 64KiB, 1KiB, 64 and 1200]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) size: Option<u64>,
    /// Give up when the peer has not answered, or has fallen silent, for so long. Where an earlier attempt was refused or cut
    /// off in its handshake, up to 10 seconds pass before there can be another: try for clearly longer than that
    #[arg(long, value_name = "SECONDS", default_value = "20", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// The file with our secret key (see `zssp keygen`)
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// Where to listen: address and port, or ethernet:INTERFACE; port 0 takes any free one, which is printed [default: port
    /// 9993 of every address]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<Listen>,
    #[command(flatten)]
    pub(crate) remember: Remember,
    /// Who may measure: public keys, or `any` for everybody
    #[arg(long, value_name = "PUBKEY", required = true, num_args = 1..)]
    pub(crate) allow: Vec<Allowed>,
}

/// Where what this side has in common with its peers is kept, and how strictly it is held to.
#[derive(Args, Clone, Debug)]
pub(crate) struct Remember {
    /// Keep the secret that this side has in common with each peer (the ratchet) in this file, made if it is missing: each
    /// connection builds on the one before. With such a file there is one connection for each key: another command with the
    /// same key ends the one before. One process has the file at a time
    #[arg(long, value_name = "FILE")]
    pub(crate) ratchets: Option<PathBuf>,
    /// What to do where the two sides do not have the same ratchet. Opportunistic: begin anew, with a warning. Persistent:
    /// refuse; connections then begin with a one-time password on both sides, the file has to exist, and a side that is
    /// connected to stays silent to those whose ratchet it does not know
    #[arg(long, value_enum, default_value_t, requires = "ratchets", value_name = "POLICY")]
    pub(crate) policy: Policy,
}

/// The presets of the security flags (PROTOCOL 5.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Policy {
    #[default]
    Opportunistic,
    Persistent,
}

impl From<Policy> for zssp::Policy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Opportunistic => Self::OPPORTUNISTIC,
            Policy::Persistent => Self::PERSISTENT,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct Peers {
    #[command(subcommand)]
    pub(crate) command: PeersCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PeersCommand {
    /// Print every peer, and how often its ratchet has turned
    List {
        #[command(flatten)]
        ratchets: RatchetFile,
    },
    /// Forget a peer: to both sides, the next connection is the first
    Forget {
        /// The peer's public key
        #[arg(value_name = "PUBKEY")]
        peer: PublicKeyText,
        #[command(flatten)]
        ratchets: RatchetFile,
    },
    /// Begin with a one-time password, which the other side is given too before the two meet
    Preset {
        /// The peer's public key
        #[arg(value_name = "PUBKEY")]
        peer: PublicKeyText,
        /// The file with what `zssp password` printed; only its owner can read it
        #[arg(long, value_name = "FILE")]
        password_file: PathBuf,
        /// Replace what is remembered of the peer; without this a peer that was met is left alone
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        ratchets: RatchetFile,
    },
}

#[derive(Args, Debug)]
pub(crate) struct RatchetFile {
    /// The file that commands were given as --ratchets; none of them may be running
    #[arg(id = "ratchets", long = "ratchets", value_name = "FILE")]
    pub(crate) file: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// How much to transfer: bytes, or with a unit such as kB, MB, GB, KiB, MiB, GiB
    #[arg(long, default_value = "256MiB", value_parser = size)]
    pub(crate) size: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn examples_fit_the_width_of_the_help() {
        for command in <Cli as clap::CommandFactory>::command().get_subcommands() {
            let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(!examples.is_empty() || command.get_name() == "help", "{}", command.get_name());
            for line in examples.lines() {
                assert!(line.chars().count() < 100, "it would be broken in the middle: {line}");
            }
        }
    }

    #[test]
    fn a_policy_is_one_of_the_library_and_about_ratchets() {
        let parse =
            |more: &str| Cli::try_parse_from(format!("zssp ping --key a --to {TO} {more}").split(' '));
        let policy = |more: &str| match parse(more).unwrap().command {
            Command::Ping(Ping { remember, .. }) => zssp::Policy::from(remember.policy),
            other => panic!("{other:?}"),
        };
        assert_eq!(policy("--count 1"), zssp::Policy::OPPORTUNISTIC);
        assert_eq!(policy("--ratchets r"), zssp::Policy::default());
        assert_eq!(policy("--ratchets r --policy opportunistic"), zssp::Policy::OPPORTUNISTIC);
        assert_eq!(policy("--ratchets r --policy persistent"), zssp::Policy::PERSISTENT);
        assert!(parse("--policy persistent").unwrap_err().to_string().contains("--ratchets <FILE>"));
        assert!(Cli::try_parse_from("zssp bench --ratchets r".split(' ')).is_err(), "there is no peer");
    }

    const TO: &str =
        "zssp1ajs62elefuw42yzsobx5a62rfgz5wwaenl7w436u5jmey4bto2yyeaxdv3t6nmkdznbocsnkd56kqtunvylrjtcw@host";
}
