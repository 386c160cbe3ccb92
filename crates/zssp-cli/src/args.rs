//! The command line.

use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, Parser, Subcommand};
use thiserror::Error;

use crate::public_key_text::{BadPublicKey, PublicKeyText};

/// The UDP port where none is given.
pub(crate) const DEFAULT_PORT: u16 = 9993;

const EXIT_CODES: &str = "\
Exit codes:
    0  everything asked for was done
    1  something was not transferred, or the transfer broke off
    2  the command line makes no sense
    3  the receiver does not know our key
    4  nobody answered in time, or the peer fell silent
    5  a file, folder or socket on this side
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

A folder arrives as a folder of its name, with everything below it. Names, contents, permission
bits and modification times of files are kept; symbolic links, devices, pipes and sockets are
left out with a warning. The command succeeds when the receiver has verified every file.";

const RECEIVE_EXAMPLES: &str = "\
Examples:
  zssp receive --key bob.key --allow zssp1… --dir incoming
  zssp receive --key bob.key --listen 0.0.0.0:9993 --allow zssp1… --allow zssp1… --dir incoming
  zssp receive --key bob.key --allow zssp1… --dir incoming --once

Files appear under their names only when complete and verified; until then they are called
.zssp-partial-…. Nothing is written outside the folder, whatever a sender asks for. Without
--once the receiver serves any number of senders until it is interrupted.";

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
    /// Say nothing but errors
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
    /// The receiver: its public key and where it listens (port 9993 if none is given)
    #[arg(long, value_name = "PUBKEY@HOST[:PORT]")]
    pub(crate) to: Target,
    /// Give up when the receiver has not answered, or has fallen silent, for so long
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) timeout: Duration,
    /// Files and folders to send
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Receive {
    /// The file with our secret key (see `zssp keygen`)
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// Where to listen; port 0 takes any free one, which is printed [default: port 9993 of every address]
    #[arg(long, value_name = "ADDR", value_parser = listen_address)]
    pub(crate) listen: Option<SocketAddr>,
    /// Whose files are welcome: public keys, or `any` for everybody
    #[arg(long, value_name = "PUBKEY", required = true, num_args = 1..)]
    pub(crate) allow: Vec<Allowed>,
    /// The folder that files and folders go to; it exists
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// End after one transfer; the exit code tells how it went
    #[arg(long)]
    pub(crate) once: bool,
    /// Replace files that exist; without this they are kept and the new ones refused
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Wait until each file is on the disk before confirming it: slower, and safe from power cuts
    #[arg(long)]
    pub(crate) flush: bool,
    /// Drop a sender that has been silent for so long
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// How much to transfer: bytes, or with a unit such as kB, MB, GB, KiB, MiB, GiB
    #[arg(long, default_value = "256MiB", value_parser = size)]
    pub(crate) size: u64,
}

/// Who may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    Anybody,
    Key(PublicKeyText),
}

impl FromStr for Allowed {
    type Err = BadPublicKey;

    fn from_str(text: &str) -> Result<Self, BadPublicKey> {
        if text == "any" { Ok(Self::Anybody) } else { text.parse().map(Self::Key) }
    }
}

/// A peer: who, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) key: PublicKeyText,
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Why a text does not name a peer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum BadTarget {
    #[error("write the receiver as PUBKEY@HOST or PUBKEY@HOST:PORT")]
    Form,
    #[error("write an IPv6 address in brackets: PUBKEY@[{0}]:PORT")]
    Brackets(String),
    #[error(transparent)]
    Key(#[from] BadPublicKey),
    #[error("`{0}` is not a port (1 to 65535)")]
    Port(String),
}

impl FromStr for Target {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Self, BadTarget> {
        let (key, address) = text.split_once('@').ok_or(BadTarget::Form)?;
        let key = key.parse()?;
        let (host, port) = match address.strip_prefix('[') {
            Some(bracketed) => {
                let (host, rest) = bracketed.split_once(']').ok_or(BadTarget::Form)?;
                match rest.strip_prefix(':') {
                    Some(port) => (host, Some(port)),
                    None if rest.is_empty() => (host, None),
                    None => return Err(BadTarget::Form),
                }
            }
            None => match address.split_once(':') {
                Some((_, rest)) if rest.contains(':') => return Err(BadTarget::Brackets(address.into())),
                Some((host, port)) => (host, Some(port)),
                None => (address, None),
            },
        };
        if host.is_empty() {
            return Err(BadTarget::Form);
        }
        let port = match port {
            None => DEFAULT_PORT,
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(BadTarget::Port(port.into()))?,
        };
        Ok(Self { key, host: host.into(), port })
    }
}

fn listen_address(text: &str) -> Result<SocketAddr, &'static str> {
    let with_port = |ip: std::net::IpAddr| SocketAddr::new(ip, DEFAULT_PORT);
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    text.parse().or_else(|_| bare.parse().map(with_port)).map_err(
        |_| "write an IP address of this machine and a port, such as 0.0.0.0:9993, [::]:9993 or 127.0.0.1:0",
    )
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    match text.parse() {
        Ok(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        _ => Err("write a number of seconds, from 1 to 86400"),
    }
}

/// Bytes, with a decimal or binary unit or none.
fn size(text: &str) -> Result<u64, &'static str> {
    const UNITS: [(&str, u64); 9] = [
        ("", 1),
        ("b", 1),
        ("kb", 1000),
        ("mb", 1_000_000),
        ("gb", 1_000_000_000),
        ("kib", 1 << 10),
        ("mib", 1 << 20),
        ("gib", 1 << 30),
        ("tib", 1 << 40),
    ];
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start().to_ascii_lowercase();
    let unit = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, bytes)| bytes);
    let bytes = number.parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(*unit));
    bytes.ok_or("write a size such as 1000000, 100MB, 256MiB or 2GiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn a_key() -> PublicKeyText {
        PublicKeyText(zssp::SecretKey::generate().unwrap().public_key())
    }

    #[test]
    fn the_command_line_is_well_formed() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn a_target_is_a_key_and_an_address() {
        let key = a_key();
        let read = |address: &str| {
            format!("{key}@{address}").parse::<Target>().map(|target| (target.host, target.port))
        };
        assert_eq!(read("192.0.2.7:4000"), Ok(("192.0.2.7".into(), 4000)));
        assert_eq!(read("example.org"), Ok(("example.org".into(), DEFAULT_PORT)));
        assert_eq!(read("[::1]:5"), Ok(("::1".into(), 5)));
        assert_eq!(read("[::1]"), Ok(("::1".into(), DEFAULT_PORT)));
        assert_eq!(read("::1"), Err(BadTarget::Brackets("::1".into())));
        assert_eq!(read("host:0"), Err(BadTarget::Port("0".into())));
        assert_eq!(read("host:70000"), Err(BadTarget::Port("70000".into())));
        for wrong in ["", ":5", "[::1", "[::1]5", "[]:5"] {
            assert_eq!(read(wrong), Err(BadTarget::Form), "{wrong}");
        }
        assert_eq!("example.org".parse::<Target>(), Err(BadTarget::Form));
        assert_eq!(
            "zssp1abc@host".parse::<Target>(),
            Err(BadTarget::Key(BadPublicKey::Length { found: 8, expected: 93 }))
        );
    }

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("5b", 5),
            ("1kB", 1000),
            ("1KiB", 1024),
            ("256MiB", 256 << 20),
            ("2 GiB", 2 << 30),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5GiB", "1xb", "99999999999GiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_listening_address_may_leave_out_its_port() {
        assert_eq!(listen_address("127.0.0.1:0"), Ok("127.0.0.1:0".parse().unwrap()));
        assert_eq!(listen_address("0.0.0.0"), Ok("0.0.0.0:9993".parse().unwrap()));
        assert_eq!(listen_address("[::1]"), Ok("[::1]:9993".parse().unwrap()));
        assert_eq!(listen_address("::"), Ok("[::]:9993".parse().unwrap()));
        assert!(listen_address("localhost").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_a_target_or_not(text in ".{0,40}") {
            let _ = text.parse::<Target>();
            let _ = listen_address(&text);
            let _ = size(&text);
        }
    }
}
