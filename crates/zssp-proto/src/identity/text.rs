//! A public key as one line of text, to be copied, spoken and put into a command.

use core::fmt;
#[cfg(any(feature = "aws-lc", feature = "rust-crypto"))]
use core::str::FromStr;

use super::PublicKey;
use crate::base32::{Checked, foreign};
#[cfg(any(feature = "aws-lc", feature = "rust-crypto"))]
use crate::crypto::PROVIDERS;
use crate::crypto::{P384_PUBLIC_LEN, Provider};

/// What every text starts with, whatever its version.
const KIND: &str = "zssp";
const VERSION: char = '1';
const DIGITS: Checked<6> = Checked(b"ZSSP public key text 1");

/// Why a text is not a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublicKeyError {
    /// A character that base32 does not have.
    #[error("this is not a public key: `{0}` cannot be part of one")]
    Character(char),
    /// Something was changed on the way.
    #[error("this public key is damaged: its checksum does not match; copy it again")]
    Checksum,
    /// The text is something else.
    #[error("this is not a public key: one starts with `zssp1`")]
    Kind,
    /// The line is not whole, or more than that.
    #[error("this public key has {found} characters of {expected}; copy the whole line")]
    Length {
        /// Characters that there are.
        found: usize,
        /// Characters that there should be.
        expected: usize,
    },
    /// The checksum is right, and the key is none.
    #[error("this is not a valid P-384 public key, though its checksum matches")]
    Point,
    /// Written by a version of this library to come.
    #[error("this public key has a format that this version does not know (`zssp{0}`)")]
    Version(char),
}

/// The text form; see [`PublicKey`].
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{KIND}{VERSION}{}", *DIGITS.encode(&self.0))
    }
}

/// Reads the text form with the first of [`PROVIDERS`]; see [`PublicKey::from_text`].
#[cfg(any(feature = "aws-lc", feature = "rust-crypto"))]
impl FromStr for PublicKey {
    type Err = PublicKeyError;

    fn from_str(text: &str) -> Result<Self, PublicKeyError> {
        Self::from_text(text, PROVIDERS[0])
    }
}

impl PublicKey {
    /// Reads what was [written](fmt::Display) and copied. Case does not matter, nor does white space around it.
    ///
    /// # Errors
    /// A [`PublicKeyError`] that says what to look for.
    pub fn from_text(text: &str, provider: &dyn Provider) -> Result<Self, PublicKeyError> {
        let text = text.trim().to_ascii_lowercase();
        let mut rest = text.strip_prefix(KIND).ok_or(PublicKeyError::Kind)?.chars();
        match rest.next() {
            Some(VERSION) => {}
            Some(other) if other.is_ascii_alphanumeric() => return Err(PublicKeyError::Version(other)),
            _ => return Err(PublicKeyError::Kind),
        }
        let digits = rest.as_str();
        if let Some(foreign) = foreign(digits) {
            return Err(PublicKeyError::Character(foreign));
        }
        let expected = DIGITS.encoded_len(P384_PUBLIC_LEN);
        if digits.len() != expected {
            let prefix = KIND.len() + VERSION.len_utf8();
            return Err(PublicKeyError::Length { found: prefix + digits.len(), expected: prefix + expected });
        }
        let bytes = DIGITS.decode(digits.as_bytes()).ok_or(PublicKeyError::Checksum)?;
        let key = bytes.as_slice().try_into().map_err(|_| PublicKeyError::Checksum)?;
        Self::from_bytes(key, provider).map_err(|_| PublicKeyError::Point)
    }
}

#[cfg(all(test, any(feature = "aws-lc", feature = "rust-crypto")))]
#[allow(clippy::unwrap_used, reason = "in a test it is the assertion")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::identity::StaticKey;

    fn a_key() -> PublicKey {
        StaticKey::generate(PROVIDERS[0]).unwrap().public()
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

    /// By Python's hashlib and base64.
    #[test]
    fn the_text_form_does_not_change() {
        // The generator of P-384, compressed.
        let point = "03aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab7";
        let bytes = data_encoding::HEXLOWER.decode(point.as_bytes()).unwrap().try_into().unwrap();
        let key = PublicKey::from_bytes(bytes, PROVIDERS[0]).unwrap();
        assert_eq!(format!("{key:?}"), "PublicKey(zssp1aovipsrcx2fqk..)");
        assert_eq!(
            key.to_string(),
            "zssp1aovipsrcx2fqkn4owhdr54zavv2g4hj3mkf2pg4ylh3udyeckqvdqvic6jo36vjjnq5fixryoj3avn2ookrclv2d"
        );
    }

    #[test]
    fn each_kind_of_mistake_is_told_apart() {
        let text = a_key().to_string();
        let read = |text: &str| text.parse::<PublicKey>().unwrap_err();
        assert_eq!(read(""), PublicKeyError::Kind);
        assert_eq!(read("zssp"), PublicKeyError::Kind);
        assert_eq!(read("zssp-secret-key-v1:aaaa"), PublicKeyError::Kind);
        assert_eq!(read("ssh-ed25519"), PublicKeyError::Kind);
        assert_eq!(read(&text.replacen('1', "2", 1)), PublicKeyError::Version('2'));
        assert_eq!(read(&text[..60]), PublicKeyError::Length { found: 60, expected: 93 });
        assert_eq!(read(&format!("{text}!")), PublicKeyError::Character('!'));
        // A checksum that matches bytes which are no point.
        let nonsense = DIGITS.encode(&[5; P384_PUBLIC_LEN]);
        assert_eq!(read(&format!("zssp1{}", *nonsense)), PublicKeyError::Point);
    }

    proptest! {
        #[test]
        fn one_wrong_character_is_noticed(position in 5usize..93, other in "[a-z2-7]") {
            let text = a_key().to_string();
            let mut changed = text.clone();
            changed.replace_range(position..=position, &other);
            prop_assume!(changed != text);
            prop_assert_eq!(changed.parse::<PublicKey>(), Err(PublicKeyError::Checksum));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(zssp1)?.{0,100}") {
            let _ = text.parse::<PublicKey>();
        }
    }
}
