//! A public key as an argument and in what is printed.

use std::{fmt, str::FromStr};

use thiserror::Error;
use zssp::{PublicKey, PublicKeyError};

/// A public key that is written and read as text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct PublicKeyText(pub(crate) PublicKey);

/// Why a text is not a public key.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum BadPublicKey {
    #[error("this is not a public key: one starts with `zssp1`, as `zssp pubkey FILE` prints it")]
    Kind,
    #[error("this is a secret key; never give it away: `zssp pubkey FILE` prints the public one")]
    Secret,
    #[error(transparent)]
    Text(PublicKeyError),
}

impl fmt::Display for PublicKeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
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
        match text.parse() {
            Ok(key) => Ok(Self(key)),
            Err(PublicKeyError::Kind) if text.trim().to_ascii_lowercase().starts_with("zssp-secret") => {
                Err(BadPublicKey::Secret)
            }
            Err(PublicKeyError::Kind) => Err(BadPublicKey::Kind),
            Err(error) => Err(BadPublicKey::Text(error)),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_being_written() {
        let key = PublicKeyText(zssp::SecretKey::generate().unwrap().public_key());
        assert_eq!(key.to_string().parse(), Ok(key));
        assert!(key.to_string().starts_with(key.short().trim_end_matches('…')));
    }

    #[test]
    fn what_is_no_public_key_says_where_there_is_one() {
        let read = |text: &str| text.parse::<PublicKeyText>().unwrap_err();
        assert_eq!(read("ssh-ed25519"), BadPublicKey::Kind);
        assert_eq!(read("ZSSP-secret-key-v1:aaaa"), BadPublicKey::Secret);
        assert_eq!(read("zssp2aaaa"), BadPublicKey::Text(PublicKeyError::Version('2')));
    }
}
