//! What stands in arguments: peers, addresses, times and sizes.

use std::{fmt, net::SocketAddr, str::FromStr, time::Duration};

use thiserror::Error;

use crate::public_key_text::{BadPublicKey, PublicKeyText};

/// The UDP port where none is given.
pub(crate) const DEFAULT_PORT: u16 = 9993;

/// Who may connect.
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
    #[error("write the peer as PUBKEY@HOST or PUBKEY@HOST:PORT")]
    Form,
    #[error("write an IPv6 address in brackets: PUBKEY@[{0}]:PORT")]
    Brackets(String),
    #[error(transparent)]
    Key(#[from] BadPublicKey),
    #[error("`{0}` is not a port (1 to 65535)")]
    Port(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, host, port } = self;
        if host.contains(':') { write!(f, "{key}@[{host}]:{port}") } else { write!(f, "{key}@{host}:{port}") }
    }
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

/// An IP address of this machine, with or without a port.
pub(crate) fn listen_address(text: &str) -> Result<SocketAddr, &'static str> {
    let with_port = |ip: std::net::IpAddr| SocketAddr::new(ip, DEFAULT_PORT);
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    text.parse().or_else(|_| bare.parse().map(with_port)).map_err(
        |_| "write an IP address of this machine and a port, such as 0.0.0.0:9993, [::]:9993 or 127.0.0.1:0",
    )
}

/// A whole number of seconds.
pub(crate) fn seconds(text: &str) -> Result<Duration, &'static str> {
    match text.parse() {
        Ok(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        _ => Err("write a number of seconds, from 1 to 86400"),
    }
}

/// Seconds with decimals, of a length that a clock can tell and a user wait for.
pub(crate) fn period(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.001..=86_400.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or("write a number of seconds, from 0.001 to 86400")
}

/// Bytes, with a decimal or binary unit or none.
pub(crate) fn size(text: &str) -> Result<u64, &'static str> {
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
        for address in ["192.0.2.7:4000", "example.org:9993", "[::1]:5"] {
            let whole = format!("{key}@{address}");
            assert_eq!(whole.parse::<Target>().unwrap().to_string(), whole);
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
    fn periods_have_decimals() {
        assert_eq!(period("0.25"), Ok(Duration::from_millis(250)));
        assert_eq!(period("3"), Ok(Duration::from_secs(3)));
        for text in ["", "0", "-1", "nan", "inf", "1e9", "1s"] {
            assert!(period(text).is_err(), "{text}");
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
            let _ = period(&text);
        }
    }
}
