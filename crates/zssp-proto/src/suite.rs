//! Cryptographic suites (PROTOCOL 2.2).

use core::fmt;

use crate::crypto::{KEM_CIPHERTEXT_LEN, Secret, round3_secret};

//= ZSSP-SUI-19  approved primitives, that can run on a validated module; no more than that is claimed anywhere
/// What a session's handshake is made of. There is no negotiation: the initiator opens with one suite, the
/// responder accepts a configured set, and the suite that opened the hello is the session's for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
//= ZSSP-SUI-10  one for the whole session
pub enum Suite {
    /// The suite as published in the whitepaper, with round-3 Kyber.
    Kyber1024,
    /// The default: ML-KEM-1024 as standardised in FIPS 203.
    MlKem1024,
    /// Talks to the 2024 implementation, whose rekeying deviates. Its hello looks like [`Suite::Kyber1024`]'s,
    /// so a context accepts one of the two, not both.
    Zssp04,
}

impl Suite {
    /// The Noise name of every rekeying, whatever the suite.
    pub(crate) const REKEY_NAME: &'static str = "Noise_KKpsk0_P384_AESGCM_SHA512";

    /// The Noise name of the first contact, the initial `h` and `ck`.
    //= ZSSP-SUI-12  Kyber1024 as published
    //= ZSSP-SUI-13  MlKem1024
    //= ZSSP-SUI-14  Zssp04 as the first
    pub const fn handshake_name(self) -> &'static str {
        match self {
            //= ZSSP-SUI-12  Kyber1024
            //= ZSSP-SUI-14  Zssp04 has the same name
            Self::Kyber1024 | Self::Zssp04 => "Noise_XKhfs+psk2_P384+Kyber1024_AESGCM_SHA512",
            //= ZSSP-SUI-13  MlKem1024
            Self::MlKem1024 => "Noise_XKhfs+psk2_P384+MLKEM1024_AESGCM_SHA512",
        }
    }

    /// The KEM secret that goes into the handshake. Round-3 Kyber is ML-KEM with one more hash on the secret.
    pub(crate) fn kem_secret(self, secret: Secret<32>, ciphertext: &[u8; KEM_CIPHERTEXT_LEN]) -> Secret<32> {
        match self {
            Self::Kyber1024 | Self::Zssp04 => round3_secret(&secret, ciphertext),
            Self::MlKem1024 => secret,
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kyber1024 => "P384+Kyber1024_AESGCM_SHA512",
            Self::MlKem1024 => "P384+MLKEM1024_AESGCM_SHA512",
            Self::Zssp04 => "P384+Kyber1024_AESGCM_SHA512 (zssp 0.4)",
        })
    }
}
