//! Round-3 Kyber1024 out of ML-KEM-1024: same keys, same ciphertexts, another secret (PROTOCOL 2.2).

use sha3::{Digest, Sha3_256};
use shake::{ExtendableOutput, Shake256, Update, XofReader};

use super::{KEM_CIPHERTEXT_LEN, Secret};

/// What round-3 Kyber1024 would have agreed on where ML-KEM-1024 agreed on `secret` over `ciphertext`.
///
/// The suites `Kyber1024` and `Zssp04` use this on either side. Round 3 hashed the ciphertext into the secret
/// at the end, FIPS 203 leaves that step out; this adds it.
pub(crate) fn round3_secret(secret: &Secret<32>, ciphertext: &[u8; KEM_CIPHERTEXT_LEN]) -> Secret<32> {
    let mut round3 = Secret::zero();
    Shake256::default()
        .chain(secret.expose())
        .chain(Sha3_256::digest(ciphertext))
        .finalize_xof()
        .read(round3.expose_mut());
    round3
}
