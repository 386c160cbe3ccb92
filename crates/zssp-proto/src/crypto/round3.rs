//! Round-3 Kyber1024 out of ML-KEM-1024: same keys, same ciphertexts, another secret (PROTOCOL 2.2).

use sha3::{Digest, Sha3_256};
use shake::{ExtendableOutput, Shake256, Update, XofReader};

use super::secret::wiped;
use super::{KEM_CIPHERTEXT_LEN, Secret};

/// What round-3 Kyber1024 would have agreed on where ML-KEM-1024 agreed on `secret` over `ciphertext`.
///
/// The suites `Kyber1024` and `Zssp04` use this on either side. Round 3 hashed the ciphertext into the secret
/// at the end, FIPS 203 leaves that step out; this adds it.
//= ZSSP-SUI-18  the first 32 bytes of SHAKE256(ML-KEM secret || SHA3-256(ciphertext))
pub(crate) fn round3_secret(secret: &Secret<32>, ciphertext: &[u8; KEM_CIPHERTEXT_LEN]) -> Secret<32> {
    let mut round3 = Secret::zero();
    Shake256::default()
        .chain(secret.expose())
        .chain(Sha3_256::digest(ciphertext))
        .finalize_xof()
        .read(round3.expose_mut());
    round3
}

const _: () = wiped::<Shake256>();

#[cfg(test)]
mod tests {
    use std::env;
    use std::fs;
    use std::path::{Path, PathBuf};

    use serde_json::Value;

    use super::*;
    use crate::crypto::{KEM_SECRET_LEN, PROVIDERS};

    //= ZSSP-SUI-18  against another implementation of SHA-3
    #[test]
    fn is_shake256_of_the_secret_and_the_hashed_ciphertext() {
        // By Python's hashlib.
        let expected: [u8; 32] = bytes("352dfbc9abf82442b1af127b91cd54cd6ee99cf6217191befba63fafd88e1081");
        let round3 = round3_secret(&Secret::new([1; 32]), &[2; KEM_CIPHERTEXT_LEN]);
        assert_eq!(round3.expose(), &expected);
    }

    /// The sessions were recorded with round-3 implementations that know nothing of FIPS 203.
    //= ZSSP-SUI-02  round-3 keys and ciphertexts are those of FIPS 203
    //= ZSSP-SUI-18  against recorded round-3 secrets
    #[test]
    fn recorded_encapsulations_yield_the_recorded_secret() {
        let directory = env::var_os("ZSSP_VECTORS").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testing/vectors"),
            PathBuf::from,
        );
        let mut checked = 0;
        for file in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if file.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let session: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
            let events = session["events"].as_array().unwrap();
            let of = |op: &str| events.iter().filter(|event| event["op"] == op).cloned().collect::<Vec<_>>();
            let field = |event: &Value, name: &str| event[name].as_str().unwrap().to_owned();

            let pairs = of("kem_keypair");
            for sent in of("kem_encapsulate") {
                let ciphertext = bytes(&field(&sent, "ciphertext"));
                let expected: [u8; 32] = bytes(&field(&sent, "shared_secret"));
                for provider in PROVIDERS {
                    // A session may have begun anew: one of its key pairs is the one, all others reject.
                    let matching = pairs.iter().filter(|pair| {
                        let secret: [u8; KEM_SECRET_LEN] = bytes(&field(pair, "secret"));
                        let pair = provider.kem_from_secret(&Secret::new(secret)).unwrap();
                        let secret = pair.decapsulate(&ciphertext).unwrap();
                        // Sessions of ours may be in the directory, too.
                        let is_fips = session["variant"] == "ml-kem-1024";
                        let secret = if is_fips { secret } else { round3_secret(&secret, &ciphertext) };
                        secret.expose() == &expected
                    });
                    assert_eq!(matching.count(), 1, "{} with {}", file.display(), provider.name());
                    checked += 1;
                }
            }
        }
        assert!(checked >= PROVIDERS.len(), "no recorded encapsulation was found");
    }

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        assert_eq!(hex.len(), 2 * N);
        core::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
    }
}
