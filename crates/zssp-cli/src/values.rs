//! What stands in arguments: peers, times and sizes.

use std::{fmt, str::FromStr, time::Duration};

use thiserror::Error;

use crate::{
    place::{BadPlace, Place},
    public_key_text::{BadPublicKey, PublicKeyText},
};

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
    pub(crate) place: Place,
}

/// Why a text does not name a peer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum BadTarget {
    #[error(transparent)]
    Key(#[from] BadPublicKey),
    #[error(transparent)]
    Place(#[from] BadPlace),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.key, self.place)
    }
}

impl FromStr for Target {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Self, BadTarget> {
        let (key, place) = text.split_once('@').ok_or(BadPlace::Form)?;
        Ok(Self { key: key.parse()?, place: place.parse()? })
    }
}

/// A whole number of seconds.
pub(crate) fn seconds(text: &str) -> Result<Duration, &'static str> {
    match text.parse() {
        Ok(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        _ => Err("write a whole number of seconds, from 1 to 86400"),
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
    use proptest::prelude::*;
    use zssp::PublicKeyError;

    use super::*;

    #[test]
    fn a_target_is_a_key_and_a_place() {
        let key = PublicKeyText(zssp::SecretKey::generate().unwrap().public_key());
        let place = Place::Udp { host: "example.org".into(), port: 7 };
        let text = format!("{key}@example.org:7");
        assert_eq!(text.parse(), Ok(Target { key, place }));
        assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        assert_eq!(format!("{key}@:7").parse::<Target>(), Err(BadTarget::Place(BadPlace::Form)));
        assert_eq!("example.org".parse::<Target>(), Err(BadTarget::Place(BadPlace::Form)));
        assert_eq!(
            "zssp1abc@host".parse::<Target>(),
            Err(BadTarget::Key(BadPublicKey::Text(PublicKeyError::Length { found: 8, expected: 93 })))
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

    proptest! {
        #[test]
        fn any_text_is_a_target_or_not(text in ".{0,40}") {
            let _ = text.parse::<Target>();
            let _ = size(&text);
            let _ = period(&text);
        }
    }
}
