//! A public key as one line of text, to be copied, spoken and put into a command.
//!
//! `zssp1`, then the 49 bytes of the compressed P-384 point and 6 bytes of checksum in base32 (RFC 4648, lower
//! case, no padding): 93 letters and digits, in any case, nothing a shell or a mail program would touch, and
//! one double click selects all of it. The checksum is the beginning of the BLAKE3 key derivation of the 49
//! bytes under a context of its own. The `1` is the version.

use std::{fmt, str::FromStr};

use data_encoding::BASE32_NOPAD;
use thiserror::Error;
use zssp::PublicKey;

/// Bytes of a compressed P-384 point.
const KEY: usize = 49;
const CHECKSUM: usize = 6;
/// What every public key starts with, whatever its version.
const KIND: &str = "zssp";
const VERSION: char = '1';
const CONTEXT: &str = "zssp-cli 2026 public key text v1 checksum";

/// A public key that is written and read as text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct PublicKeyText(pub(crate) PublicKey);

/// Why a text is not a public key.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum BadPublicKey {
    #[error(
        "this public key is damaged: its checksum does not match (a character was changed; copy it again)"
    )]
    Checksum,
    #[error("this is not a public key: `{0}` cannot be part of one")]
    Character(char),
    #[error("this is not a public key: one starts with `zssp1`, as `zssp pubkey FILE` prints it")]
    Kind,
    #[error("this public key is incomplete: it has {found} characters of {expected} (copy the whole line)")]
    Length { found: usize, expected: usize },
    #[error("this is not a valid P-384 public key, though its checksum matches")]
    Point,
    #[error("this is a secret key; never give it away: `zssp pubkey FILE` prints the public one")]
    Secret,
    #[error("this public key has a format this version does not know (`zssp{0}`): a newer zssp is needed")]
    Version(char),
}

impl fmt::Display for PublicKeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.0.as_bytes();
        let bytes = [&key[..], &checksum(key)].concat();
        write!(f, "{KIND}{VERSION}{}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
    }
}

impl fmt::Debug for PublicKeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKeyText {
    type Err = BadPublicKey;

    fn from_str(text: &str) -> Result<Self, BadPublicKey> {
        let text = text.trim().to_ascii_lowercase();
        if text.starts_with("zssp-secret") {
            return Err(BadPublicKey::Secret);
        }
        let mut rest = text.strip_prefix(KIND).ok_or(BadPublicKey::Kind)?.chars();
        match rest.next() {
            Some(VERSION) => {}
            Some(other) if other.is_ascii_alphanumeric() => return Err(BadPublicKey::Version(other)),
            _ => return Err(BadPublicKey::Kind),
        }
        let encoded = rest.as_str();
        if let Some(strange) = encoded.chars().find(|c| !matches!(c, 'a'..='z' | '2'..='7')) {
            return Err(BadPublicKey::Character(strange));
        }
        let expected = BASE32_NOPAD.encode_len(KEY + CHECKSUM);
        if encoded.len() != expected {
            let prefix = KIND.len() + VERSION.len_utf8();
            return Err(BadPublicKey::Length { found: prefix + encoded.len(), expected: prefix + expected });
        }
        let bytes = BASE32_NOPAD
            .decode(encoded.to_ascii_uppercase().as_bytes())
            .map_err(|_| BadPublicKey::Checksum)?;
        let (key, sum) = bytes.split_first_chunk::<KEY>().ok_or(BadPublicKey::Checksum)?;
        if sum != checksum(key) {
            return Err(BadPublicKey::Checksum);
        }
        zssp::public_key(*key).map(Self).map_err(|_| BadPublicKey::Point)
    }
}

impl PublicKeyText {
    /// Enough of the key for people to tell peers apart in a log; not enough to trust.
    pub(crate) fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(18);
        text + "…"
    }
}

fn checksum(key: &[u8; KEY]) -> [u8; CHECKSUM] {
    let mut sum = [0; CHECKSUM];
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update(key).finalize_xof().fill(&mut sum);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn a_key() -> PublicKeyText {
        PublicKeyText(zssp::SecretKey::generate().unwrap().public_key())
    }

    #[test]
    fn a_key_survives_being_written() {
        let key = a_key();
        let text = key.to_string();
        assert_eq!(text.len(), 93);
        assert!(text.starts_with("zssp1") && text.chars().all(|c| c.is_ascii_alphanumeric()), "{text}");
        assert_eq!(text.parse(), Ok(key));
        assert_eq!(text.to_uppercase().parse(), Ok(key));
        assert_eq!(format!("  {text}\n").parse(), Ok(key));
    }

    #[test]
    fn the_format_does_not_change() {
        // The generator of P-384, compressed.
        let point = "03aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab7";
        let bytes = data_encoding::HEXLOWER.decode(point.as_bytes()).unwrap().try_into().unwrap();
        let key = PublicKeyText(zssp::public_key(bytes).unwrap());
        assert_eq!(
            key.to_string(),
            "zssp1aovipsrcx2fqkn4owhdr54zavv2g4hj3mkf2pg4ylh3udyeckqvdqvic6jo36vjjnq5fixryoj3avn2r6qoox4kx"
        );
    }

    #[test]
    fn each_kind_of_mistake_is_told_apart() {
        let text = a_key().to_string();
        let read = |text: &str| text.parse::<PublicKeyText>().unwrap_err();
        assert_eq!(read(""), BadPublicKey::Kind);
        assert_eq!(read("zssp"), BadPublicKey::Kind);
        assert_eq!(read("ssh-ed25519"), BadPublicKey::Kind);
        assert_eq!(read(&text.replacen('1', "2", 1)), BadPublicKey::Version('2'));
        assert_eq!(read(&text[..60]), BadPublicKey::Length { found: 60, expected: 93 });
        assert_eq!(read(&format!("{text}!")), BadPublicKey::Character('!'));
        assert_eq!(read("zssp-secret-key-v1:aaaa"), BadPublicKey::Secret);
        // A checksum that matches bytes which are no point.
        let nonsense = [5; KEY];
        let bytes = [&nonsense[..], &checksum(&nonsense)].concat();
        assert_eq!(read(&format!("zssp1{}", BASE32_NOPAD.encode(&bytes))), BadPublicKey::Point);
    }

    proptest! {
        #[test]
        fn one_wrong_character_is_noticed(position in 5usize..93, other in "[a-z2-7]") {
            let text = a_key().to_string();
            let mut changed = text.clone();
            changed.replace_range(position..=position, &other);
            prop_assume!(changed != text);
            prop_assert_eq!(changed.parse::<PublicKeyText>(), Err(BadPublicKey::Checksum));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(zssp1)?.{0,100}") {
            let _ = text.parse::<PublicKeyText>();
        }
    }
}
