use super::{Provider, Secret};

/// KBKDF of NIST SP 800-108r1 4.1 in counter mode with HMAC-SHA-512: `N` outputs of 64 bytes (PROTOCOL 2.1).
///
/// `x_i = HMAC(key, i:u8 || label || 00 || context || (512*N):u16)`
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
