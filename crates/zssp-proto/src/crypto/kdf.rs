//! The one key derivation of the protocol.

use super::{Provider, Secret};

/// KBKDF of NIST SP 800-108r1 4.1 in counter mode with HMAC-SHA-512: `N` outputs of 64 bytes (PROTOCOL 2.1).
///
/// `x_i = HMAC(key, i:u8 || label || 00 || context || (512*N):u16)`
//= ZSSP-KDF-01  counter mode with HMAC-SHA-512
//= ZSSP-KDF-02  the counter is one byte, the length of all outputs two
pub(crate) fn kbkdf<const N: usize>(
    provider: &dyn Provider,
    key: &[u8],
    label: &[u8],
    context: &[u8],
) -> [Secret<64>; N] {
    const { assert!(N >= 1 && N <= 127, "the length field holds 512 * N in 16 bits") };
    let bits = (512 * N as u16).to_be_bytes();
    let mut i = 0u8;
    core::array::from_fn(|_| {
        i += 1;
        provider.hmac_sha512(key, &[&[i], label, &[0], context, &bits])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::PROVIDERS;

    //= ZSSP-KDF-01  counter mode with HMAC-SHA-512
    //= ZSSP-KDF-02  byte for byte
    /// The expected values come from HMAC-SHA-512 in Python over inputs put together by hand.
    #[test]
    fn known_answers() {
        let key: [u8; 32] = core::array::from_fn(|i| i as u8);
        for provider in PROVIDERS {
            let [first, second, third] = kbkdf(*provider, &key, b"ZSSP", &[0xC5; 64]);
            assert_eq!(
                hex(&first),
                "0d1ed05336dbecdfeccbeb670f0dceab70f43f8f1f8eea10e463a4e5d206dcaf\
                 dfd3a3774f9dfb5f124298556bb05c0dbb7b3846fe3705282ece28d0c78f01de"
            );
            assert_eq!(
                hex(&second),
                "69781d326ef293ec9ecbed4adf5a703f73c58521d7461cf774a542ecaedd3ab4\
                 2f9252a4f6df1f64661bc5c5a477ebf644f534536711603f40910aca311c5a0e"
            );
            assert_eq!(
                hex(&third),
                "c5edaccb90db07da2efece4b6435a8cf965bb9d343c52992140d8723e153153e\
                 e477ff7300eace160c50b2a37e2124f00fbce7d33d7717aada5318ee927c3771"
            );

            let [only] = kbkdf(*provider, &[], b"ASKH", &[]);
            assert_eq!(
                hex(&only),
                "4aa0d7a41cac6834c2c18112a9e9f77ae04abc266ae8c014a9c425018a37bdf0\
                 47cedc2e20743cfb2f8601f558229f96de2fc5ec61713573c7aabcc9f221b258"
            );
        }
    }

    //= ZSSP-KDF-02  512 * n is hashed
    #[test]
    fn the_number_of_outputs_is_part_of_the_input() {
        for provider in PROVIDERS {
            let [one] = kbkdf(*provider, b"key", b"ZSSP", b"context");
            let [first, _] = kbkdf(*provider, b"key", b"ZSSP", b"context");
            assert!(!one.ct_eq(&first));
        }
    }

    fn hex(secret: &Secret<64>) -> String {
        secret.expose().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
