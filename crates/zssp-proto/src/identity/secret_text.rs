//! A secret key as one line of text, to be kept in a file.

use zeroize::Zeroizing;

use super::StaticKey;
use crate::base32::{Checked, foreign};
use crate::crypto::{P384_SECRET_LEN, Provider, Secret};

/// What every text starts with, whatever its version.
const KIND: &str = "zssp-secret-key-v";
const VERSION: &str = "1";
const DIGITS: Checked<7> = Checked(b"ZSSP secret key text 1");
const PREFIX_LEN: usize = KIND.len() + VERSION.len() + 1;
const DIGITS_LEN: usize = DIGITS.encoded_len(P384_SECRET_LEN);

/// Why a text is not a secret key. Tells nothing of the key itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretKeyError {
    /// A character that base32 does not have.
    #[error(
        "this secret key is damaged: `{0}` cannot be part of one; restore it from a copy, or make a new key"
    )]
    Character(char),
    /// Something was changed since it was written.
    #[error(
        "this secret key is damaged: its checksum does not match; restore it from a copy, or make a new key"
    )]
    Checksum,
    /// The text is something else.
    #[error("this is not a secret key: one starts with `zssp-secret-key-v1:`")]
    Kind,
    /// The line is not whole, or more than that.
    #[error(
        "this secret key has {found} characters of {expected}: it was cut off, or something was added; restore it from a copy, or make a new key"
    )]
    Length {
        /// Characters that there are.
        found: usize,
        /// Characters that there should be.
        expected: usize,
    },
    /// The public half was given in place of the secret one.
    #[error("this is a public key; the secret one is needed")]
    PublicKey,
    /// The checksum is right, and the key is none.
    #[error(
        "this is not a valid P-384 secret key, though its checksum matches; restore it from a copy, or make a new key"
    )]
    Scalar,
    /// Written by a version of this library to come.
    #[error("this secret key has format version {0}, which this zssp does not know; use a newer zssp")]
    Version(u32),
}

/// The [text form](StaticKey#text-form).
impl StaticKey {
    /// The line to be stored. Whoever reads it can impersonate this side. Wiped when dropped.
    pub fn to_text(&self) -> Zeroizing<String> {
        let digits = DIGITS.encode(self.secret().expose());
        // Large enough at once: growing would leave a copy behind.
        let mut text = Zeroizing::new(String::with_capacity(PREFIX_LEN + DIGITS_LEN));
        for part in [KIND, VERSION, ":", &digits] {
            text.push_str(part);
        }
        text
    }

    /// Reads what [`to_text`](Self::to_text) wrote. Case does not matter, nor does white space around it. Wipe your copy.
    ///
    /// # Errors
    /// A [`SecretKeyError`] that says what to look for.
    pub fn from_text(text: &str, provider: &dyn Provider) -> Result<Self, SecretKeyError> {
        let text = Zeroizing::new(text.trim().to_ascii_lowercase());
        let Some(rest) = text.strip_prefix(KIND) else {
            return Err(match text.as_str() {
                other if other.starts_with("zssp1") => SecretKeyError::PublicKey,
                stump if !stump.is_empty() && KIND.starts_with(stump) => length(stump.len()),
                _ => SecretKeyError::Kind,
            });
        };
        let (version, digits) = rest.split_once(':').unwrap_or((rest, ""));
        let is_number = version.bytes().all(|digit| digit.is_ascii_digit()) && !version.starts_with('0');
        match version.parse() {
            _ if version == VERSION => {}
            // A number and nothing else: where the colon is missing, the secret is in here.
            Ok(other @ 2..) if is_number => return Err(SecretKeyError::Version(other)),
            _ if rest.is_empty() => return Err(length(text.len())),
            _ => return Err(SecretKeyError::Kind),
        }
        if let Some(foreign) = foreign(digits) {
            return Err(SecretKeyError::Character(foreign));
        }
        if digits.len() != DIGITS_LEN {
            return Err(length(text.len()));
        }
        let secret = DIGITS.decode(digits.as_bytes()).ok_or(SecretKeyError::Checksum)?;
        let secret = Secret::from_slice(&secret).ok_or(SecretKeyError::Checksum)?;
        Self::from_secret(&secret, provider).map_err(|_| SecretKeyError::Scalar)
    }
}

const fn length(found: usize) -> SecretKeyError {
    SecretKeyError::Length { found, expected: PREFIX_LEN + DIGITS_LEN }
}

#[cfg(all(test, any(feature = "aws-lc", feature = "rust-crypto")))]
#[allow(clippy::unwrap_used, reason = "in a test it is the assertion")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::PROVIDERS;

    fn a_text() -> Zeroizing<String> {
        StaticKey::generate(PROVIDERS[0]).unwrap().to_text()
    }

    fn read(text: &str) -> Result<StaticKey, SecretKeyError> {
        StaticKey::from_text(text, PROVIDERS[0])
    }

    #[test]
    fn a_key_survives_being_written() {
        for provider in PROVIDERS {
            let key = StaticKey::generate(*provider).unwrap();
            let text = key.to_text();
            for copied in [text.to_string(), text.to_uppercase(), format!("  {}\r\n", *text)] {
                let again = StaticKey::from_text(&copied, *provider).unwrap();
                assert!(again.secret().ct_eq(&key.secret()), "{copied}");
                assert_eq!(again.public(), key.public());
            }
        }
    }

    /// By Python's hashlib and base64.
    #[test]
    fn the_text_form_does_not_change() {
        let scalar = core::array::from_fn(|i| i as u8);
        let key = StaticKey::from_secret(&Secret::new(scalar), PROVIDERS[0]).unwrap();
        assert_eq!(
            *key.to_text(),
            "zssp-secret-key-v1:aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypsaijcemsckjrhfausukzmfuxc7v2k6vsaoggz"
        );
    }

    #[test]
    fn each_kind_of_mistake_is_told_apart() {
        let text = a_text();
        let read = |text: &str| read(text).unwrap_err();
        let length = |found| SecretKeyError::Length { found, expected: 107 };
        assert_eq!(read(""), SecretKeyError::Kind);
        assert_eq!(read("-----BEGIN OPENSSH PRIVATE KEY-----"), SecretKeyError::Kind);
        assert_eq!(read("zssp1aovipsrcx2fqk"), SecretKeyError::PublicKey);
        assert_eq!(read(&text.replace("-v1:", "-v2:")), SecretKeyError::Version(2));
        assert_eq!(read(&text.replace("-v1:", "-v10:")), SecretKeyError::Version(10));
        for version in ["", "0", "01", "+1", "02", "+2", "1.", "4294967296"] {
            let text = text.replace("-v1:", &format!("-v{version}:"));
            assert_eq!(read(&text), SecretKeyError::Kind, "{version}");
        }
        for cut in [4, 9, 17, 18, 19, 20, 60, 106] {
            assert_eq!(read(&text[..cut]), length(cut));
        }
        assert_eq!(read(&format!("{}a", *text)), length(108));
        assert_eq!(read(&format!("{}!", *text)), SecretKeyError::Character('!'));
        assert_eq!(read(&text.replacen(":", ":ä", 1)), SecretKeyError::Character('ä'));
        // A checksum that matches bytes which are no scalar.
        for nonsense in [[0; P384_SECRET_LEN], [0xFF; P384_SECRET_LEN]] {
            let text = format!("zssp-secret-key-v1:{}", *DIGITS.encode(&nonsense));
            assert_eq!(read(&text), SecretKeyError::Scalar);
        }
    }

    #[test]
    fn an_error_tells_nothing_of_the_key() {
        let text = a_text();
        let without_colon = text.replace(':', "");
        assert_eq!(read(&without_colon).unwrap_err(), SecretKeyError::Kind);
    }

    proptest! {
        #[test]
        fn one_wrong_character_is_noticed(position in 19usize..107, other in "[a-z2-7]") {
            let text = a_text();
            let mut changed = text.to_string();
            changed.replace_range(position..=position, &other);
            prop_assume!(changed != *text);
            prop_assert_eq!(read(&changed).err(), Some(SecretKeyError::Checksum));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(zssp-secret-key-v)?1?:?.{0,100}") {
            let _ = read(&text);
        }
    }
}
