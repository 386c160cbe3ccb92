//! One-time passwords: how two peers start with a shared history before they ever met (PROTOCOL 5.5).

use zeroize::Zeroizing;

use super::{Fingerprint, RatchetPair, RatchetState};
use crate::base32::Checked;
use crate::crypto::{Provider, ProviderError, kbkdf};

/// What every text starts with, whatever its version; the hyphens do not count.
const KIND: &[u8] = b"ZSSPOTP";
const VERSION: u8 = b'1';
/// With the 32 bytes of a generated password, these are whole groups, too.
const DIGITS: Checked<3> = Checked(b"ZSSP one-time password text 1");
/// Digits between two hyphens.
const GROUP: usize = 4;

/// A secret that two people pass on before their machines meet, used once.
///
/// Both sides turn it into the ratchet they begin with, so that even the first handshake is authenticated by
/// something that a thief of a static key does not have. The first handshake replaces it: a password that leaks
/// later opens nothing, and one that leaks earlier is of no use without the static key.
///
/// # Text form
/// `zssp-otp1-`, then the bytes and three bytes of checksum in base32 (RFC 4648, lower case, no padding), in groups of
/// four: letters and the digits 2 to 7. Case, spaces and hyphens do not matter to the reader.
///
/// ```
/// use zssp_proto::OneTimePassword;
/// # #[cfg(feature = "aws-lc")] {
/// # use zssp_proto::crypto::AwsLc;
/// let password = OneTimePassword::generate(&AwsLc)?;
/// let text = password.to_text();                       // tell it to the other side, over a channel you trust
/// let typed = OneTimePassword::from_text(&text).map_err(|wrong| wrong.to_string())?;
/// let (ours, theirs) = (password.into_ratchet(&AwsLc), typed.into_ratchet(&AwsLc));
/// assert!(ours.same(&theirs));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Security
/// Use it for one peer, once, and forget it: [`into_ratchet`](Self::into_ratchet) consumes it. Presetting the same
/// password again, on either side, is a downgrade that hands its reader the start of the ratchet.
//= ZSSP-RAT-15  at least 256 bits; consumed by its one use, and not to be copied
pub struct OneTimePassword(Zeroizing<Vec<u8>>);

/// Why a text or some bytes are not a one-time password. Tells nothing of the password itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PasswordError {
    /// A character that base32 does not have. `0` and `1` are among them: they were `O`, `I` or `L`.
    #[error("`{0}` cannot be part of a one-time password; it consists of letters and the digits 2 to 7")]
    Character(char),
    /// Something was changed or left out on the way.
    #[error("the one-time password is damaged or incomplete: its checksum does not match")]
    Checksum,
    /// The text is something else.
    #[error("this is not a one-time password: one starts with `zssp-otp1-`")]
    Kind,
    /// Fewer than 256 bits.
    #[error("a one-time password needs at least 32 random bytes")]
    TooShort,
    /// Written by a version of this library to come.
    #[error("this one-time password has a format that this version does not know (`zssp-otp{0}-`)")]
    Version(char),
}

impl OneTimePassword {
    /// The fewest bytes there may be: 256 bits.
    pub const MIN_LEN: usize = 32;

    /// A fresh one of [`MIN_LEN`](Self::MIN_LEN) bytes.
    ///
    /// # Errors
    /// When the random generator fails.
    pub fn generate(provider: &dyn Provider) -> Result<Self, ProviderError> {
        let mut bytes = Zeroizing::new(vec![0; Self::MIN_LEN]);
        provider.random(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// One that was agreed on elsewhere. Wipe your copy.
    ///
    /// The bytes must come from a random generator: the length proves nothing, and a sentence of 32 letters is
    /// guessed.
    ///
    /// # Errors
    /// [`PasswordError::TooShort`] below [`MIN_LEN`](Self::MIN_LEN) bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PasswordError> {
        if bytes.len() < Self::MIN_LEN {
            return Err(PasswordError::TooShort);
        }
        Ok(Self(Zeroizing::new(bytes.to_vec())))
    }

    /// The form that people pass on, 79 characters for a generated password. Secret; wiped when dropped.
    pub fn to_text(&self) -> Zeroizing<String> {
        let digits = DIGITS.encode(&self.0);
        // Large enough at once: growing would leave a copy behind.
        let mut text = Zeroizing::new(String::with_capacity(16 + digits.len() + digits.len() / GROUP));
        text.push_str("zssp-otp1");
        for (i, digit) in digits.chars().enumerate() {
            if i % GROUP == 0 {
                text.push('-');
            }
            text.push(digit);
        }
        text
    }

    /// Reads what [`to_text`](Self::to_text) wrote and people copied. Wipe your copy.
    ///
    /// # Errors
    /// A [`PasswordError`] that says what to look for; a wrong character passes once in 16 million times.
    pub fn from_text(text: &str) -> Result<Self, PasswordError> {
        let mut digits = Zeroizing::new(Vec::with_capacity(text.len()));
        for c in text.chars().filter(|c| !c.is_whitespace() && *c != '-') {
            if !c.is_ascii() {
                return Err(PasswordError::Character(c));
            }
            digits.push(c.to_ascii_uppercase() as u8);
        }
        let (version, digits) =
            digits.strip_prefix(KIND).and_then(<[u8]>::split_first).ok_or(PasswordError::Kind)?;
        if *version != VERSION {
            return Err(PasswordError::Version(char::from(*version)));
        }
        if let Some(strange) = digits.iter().find(|digit| !matches!(digit, b'A'..=b'Z' | b'2'..=b'7')) {
            return Err(PasswordError::Character(char::from(*strange)));
        }
        Self::from_bytes(&DIGITS.decode(digits).ok_or(PasswordError::Checksum)?)
    }

    /// The ratchet to begin with, on both sides: preset it in the store under the peer's name.
    //= ZSSP-RAT-16  KDF(p, "ZSSP_OTP_TO_RATCHET", "", 2), chain length 1
    pub fn into_ratchet(self, provider: &dyn Provider) -> RatchetPair {
        let [key, fingerprint] = kbkdf(provider, &self.0, b"ZSSP_OTP_TO_RATCHET", b"");
        let fingerprint = Fingerprint::new(*fingerprint.cut().expose());
        RatchetPair { first: RatchetState::new(key.cut(), fingerprint, 1), second: None }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::PROVIDERS;

    fn counting(len: u8) -> OneTimePassword {
        OneTimePassword::from_bytes(&(0..len).collect::<Vec<_>>()).unwrap()
    }

    fn read(text: &str) -> Result<Vec<u8>, PasswordError> {
        OneTimePassword::from_text(text).map(|password| password.0.to_vec())
    }

    fn hex(bytes: &[u8; 32]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    //= ZSSP-RAT-16  key and fingerprint are the two outputs, cut
    /// The expected values come from HMAC-SHA-512 in Python over inputs put together by hand.
    #[test]
    fn known_answers() {
        for provider in PROVIDERS {
            for (len, key, fingerprint) in [
                (
                    32,
                    "94ce9bb7449503ae9f770746615847fcfd4fc33a7418a2c17c10e6ae7cfac5b3",
                    "b355e6d4d933533870b79d62546b50b5be6322597be6cd6263179322ec5cadae",
                ),
                (
                    200,
                    "6c7fedb19244c51f7beac6643941d2d61259a7e6031909f431525cc7b7f41e89",
                    "e1faaed1556aa3ed15456f51e0978b81ff7f944dc892f7f0591dac108adb935d",
                ),
            ] {
                let pair = counting(len).into_ratchet(*provider);
                assert_eq!(hex(pair.first.key().expose()), key);
                assert_eq!(hex(pair.first.fingerprint().as_bytes()), fingerprint);
                assert_eq!(pair.first.chain_length(), 1);
                assert!(pair.second.is_none());
            }
        }
    }

    //= ZSSP-RAT-15  256 bits, never fewer, never the same twice
    #[test]
    fn a_password_has_256_bits_at_least() {
        assert!(matches!(OneTimePassword::from_bytes(&[7; 31]), Err(PasswordError::TooShort)));
        assert!(OneTimePassword::from_bytes(&[7; 32]).is_ok());
        let short = format!("zssp-otp1-{}", *DIGITS.encode(&[7; 31]));
        assert_eq!(read(&short), Err(PasswordError::TooShort));
        for provider in PROVIDERS {
            let (one, other) = (
                OneTimePassword::generate(*provider).unwrap(),
                OneTimePassword::generate(*provider).unwrap(),
            );
            assert_eq!(one.0.len(), 32);
            assert_ne!(one.0, other.0);
        }
    }

    /// By Python's hashlib and base64.
    #[test]
    fn the_text_form_does_not_change() {
        let text = "zssp-otp1-aaaq-eaye-auda-ocaj-bifq-ydio-b4ib-ceqt-cqkr-mfyy-denb-wha5-dyps-og3e";
        assert_eq!(*counting(32).to_text(), text);
        assert_eq!(text.len(), 79);
        for copied in [
            text.to_owned(),
            text.to_uppercase(),
            text.replace('-', " "),
            text.replace('-', ""),
            format!("\n  {text}\r\n"),
        ] {
            assert_eq!(read(&copied).unwrap(), *counting(32).0, "{copied}");
        }
    }

    #[test]
    fn each_kind_of_mistake_is_told_apart() {
        let text = counting(32).to_text();
        assert_eq!(read(""), Err(PasswordError::Kind));
        assert_eq!(read("correct horse battery staple"), Err(PasswordError::Kind));
        assert_eq!(read(&text.replacen('1', "2", 1)), Err(PasswordError::Version('2')));
        assert_eq!(read(&text.replacen("aaaq", "aa0q", 1)), Err(PasswordError::Character('0')));
        assert_eq!(read(&text.replacen("aaaq", "aaäq", 1)), Err(PasswordError::Character('ä')));
        assert_eq!(read(&text.replacen("aaaq", "aa✓q", 1)), Err(PasswordError::Character('✓')));
        assert_eq!(read(&text.replacen("aaaq", "aabq", 1)), Err(PasswordError::Checksum));
        assert_eq!(read(&text[..text.len() - 5]), Err(PasswordError::Checksum));
        assert_eq!(read("zssp-otp1-"), Err(PasswordError::Checksum));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(bytes in prop::collection::vec(any::<u8>(), 32..100)) {
            let text = OneTimePassword::from_bytes(&bytes).unwrap().to_text();
            prop_assert_eq!(read(&text), Ok(bytes));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(zssp-otp)?1?.{0,100}") {
            let _ = read(&text);
        }
    }
}
