//! What a command wants from the peer it connects to, said in the handshake.

use std::fmt;

use zeroize::Zeroizing;
use zssp::Secret;

/// Why somebody connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Round trips, throughput.
    Measurement,
    /// Files.
    Transfer,
}

impl Purpose {
    /// What an endpoint says about itself: the purpose, and that it is another than all others of the same key. There is
    /// one connection per peer: with this the other side tells apart two commands that use one key.
    pub(crate) fn new_identity(self) -> Result<Vec<u8>, getrandom::Error> {
        let mut identity = vec![self.tag(); 17];
        getrandom::fill(&mut identity[1..])?;
        Ok(identity)
    }

    /// As [`new_identity`](Self::new_identity), but the same for the same secret and `words`: a command that is started
    /// again takes the place of the one before.
    pub(crate) fn identity_of(self, secret: &Secret<48>, words: &[u8]) -> Vec<u8> {
        let key = Zeroizing::new(blake3::derive_key("zssp-cli 2026 identity of a command", secret.expose()));
        let hash = blake3::Hasher::new_keyed(&key).update(words).finalize();
        let mut identity = vec![self.tag()];
        identity.extend_from_slice(&hash.as_bytes()[..16]);
        identity
    }

    /// The purpose that an identity says.
    pub(crate) fn of(identity: &[u8]) -> Option<Self> {
        [Self::Measurement, Self::Transfer]
            .into_iter()
            .find(|purpose| identity.first() == Some(&purpose.tag()))
    }

    /// The command that serves it.
    pub(crate) fn server(self) -> &'static str {
        match self {
            Self::Measurement => "zssp serve",
            Self::Transfer => "zssp receive",
        }
    }

    fn tag(self) -> u8 {
        match self {
            Self::Measurement => b'm',
            Self::Transfer => b't',
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Measurement => "measure",
            Self::Transfer => "send files",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_says_its_purpose_and_is_unlike_any_other() {
        for purpose in [Purpose::Measurement, Purpose::Transfer] {
            let identity = purpose.new_identity().unwrap();
            assert_eq!(Purpose::of(&identity), Some(purpose));
            assert_ne!(identity, purpose.new_identity().unwrap());
        }
        let (one, other) = (Secret::new([1; 48]), Secret::new([2; 48]));
        let command = Purpose::Transfer.identity_of(&one, b"a");
        assert_eq!(Purpose::of(&command), Some(Purpose::Transfer));
        assert_eq!(command, Purpose::Transfer.identity_of(&one, b"a"));
        assert_ne!(command, Purpose::Transfer.identity_of(&one, b"b"));
        assert_ne!(command, Purpose::Transfer.identity_of(&other, b"a"));
        assert_eq!(Purpose::of(b""), None);
        assert_eq!(Purpose::of(b"x"), None);
    }
}
