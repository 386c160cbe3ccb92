use std::sync::LazyLock;

use zssp_proto::crypto::{
    Encapsulation, InvalidKey, KEM_PUBLIC_LEN, KEM_SECRET_LEN, KemKeyPair, OpenKey, P384_PUBLIC_LEN,
    P384_SECRET_LEN, P384KeyPair, PROVIDERS, ProtectKey, Provider, ProviderError, SealKey, Secret,
    UnprotectKey,
};

/// A provider with a toy in the place of its P-384: powers of 3 modulo a Mersenne prime. Anybody can break it, and it takes
/// nanoseconds, where agreements are four fifths of what days of handshakes cost. For simulations of what states and
/// timers do and for measuring what many sessions take, never for what attackers could do.
#[derive(Debug, Clone, Copy)]
pub struct ToyCurve(pub &'static dyn Provider);

impl ToyCurve {
    /// Over the fastest provider of this build.
    ///
    /// # Panics
    /// When there is none.
    pub fn fastest() -> &'static Self {
        static FASTEST: LazyLock<ToyCurve> = LazyLock::new(|| {
            let Some(provider) = PROVIDERS.first() else {
                panic!("this build has no cryptographic provider")
            };
            ToyCurve(*provider)
        });
        &FASTEST
    }
}

const PRIME: u128 = (1 << 61) - 1;

/// A public key looks like a compressed point: this, zeros, and the power.
const SIGN: u8 = 2;

fn power(base: u64, exponent: u64) -> u64 {
    let (mut base, mut exponent, mut result) = (u128::from(base), exponent, 1);
    while exponent > 0 {
        if exponent % 2 == 1 {
            result = result * base % PRIME;
        }
        base = base * base % PRIME;
        exponent /= 2;
    }
    u64::try_from(result).unwrap_or_else(|_| unreachable!("a remainder of 61 bits"))
}

fn last_eight(bytes: &[u8]) -> u64 {
    bytes.last_chunk().copied().map_or(0, u64::from_be_bytes)
}

/// The power that a public key is.
fn element(public: &[u8; P384_PUBLIC_LEN]) -> Result<u64, InvalidKey> {
    let element = last_eight(public);
    let is_padded = public[0] == SIGN && public[1..P384_PUBLIC_LEN - 8].iter().all(|byte| *byte == 0);
    if is_padded && (2..PRIME).contains(&element.into()) { Ok(element) } else { Err(InvalidKey) }
}

struct ToyKeyPair {
    secret: [u8; P384_SECRET_LEN],
    public: [u8; P384_PUBLIC_LEN],
}

impl ToyKeyPair {
    fn new(secret: [u8; P384_SECRET_LEN]) -> Self {
        let mut public = [0; P384_PUBLIC_LEN];
        public[0] = SIGN;
        public[P384_PUBLIC_LEN - 8..].copy_from_slice(&power(3, last_eight(&secret)).to_be_bytes());
        Self { secret, public }
    }
}

impl P384KeyPair for ToyKeyPair {
    fn public(&self) -> &[u8; P384_PUBLIC_LEN] {
        &self.public
    }

    fn agree(&self, peer: &[u8; P384_PUBLIC_LEN]) -> Result<Secret<P384_SECRET_LEN>, InvalidKey> {
        let mut shared = [0; P384_SECRET_LEN];
        let power = power(element(peer)?, last_eight(&self.secret));
        shared[P384_SECRET_LEN - 8..].copy_from_slice(&power.to_be_bytes());
        Ok(Secret::new(shared))
    }

    fn secret(&self) -> Secret<P384_SECRET_LEN> {
        Secret::new(self.secret)
    }
}

impl Provider for ToyCurve {
    fn name(&self) -> &'static str {
        "toy"
    }

    fn random(&self, out: &mut [u8]) -> Result<(), ProviderError> {
        self.0.random(out)
    }

    fn sha512(&self, parts: &[&[u8]]) -> [u8; 64] {
        self.0.sha512(parts)
    }

    fn hmac_sha512(&self, key: &[u8], parts: &[&[u8]]) -> Secret<64> {
        self.0.hmac_sha512(key, parts)
    }

    fn p384_generate(&self) -> Result<Box<dyn P384KeyPair>, ProviderError> {
        let mut secret = [0; P384_SECRET_LEN];
        self.random(&mut secret)?;
        Ok(Box::new(ToyKeyPair::new(secret)))
    }

    fn p384_from_secret(&self, secret: &Secret<P384_SECRET_LEN>) -> Result<Box<dyn P384KeyPair>, InvalidKey> {
        Ok(Box::new(ToyKeyPair::new(*secret.expose())))
    }

    fn p384_is_valid(&self, public: &[u8; P384_PUBLIC_LEN]) -> bool {
        element(public).is_ok()
    }

    fn kem_generate(&self) -> Result<Box<dyn KemKeyPair>, ProviderError> {
        self.0.kem_generate()
    }

    fn kem_from_secret(&self, secret: &Secret<KEM_SECRET_LEN>) -> Result<Box<dyn KemKeyPair>, InvalidKey> {
        self.0.kem_from_secret(secret)
    }

    fn kem_encapsulate(&self, public: &[u8; KEM_PUBLIC_LEN]) -> Result<Encapsulation, InvalidKey> {
        self.0.kem_encapsulate(public)
    }

    fn seal_key(&self, key: &Secret<32>) -> Box<dyn SealKey> {
        self.0.seal_key(key)
    }

    fn open_key(&self, key: &Secret<32>) -> Box<dyn OpenKey> {
        self.0.open_key(key)
    }

    fn protect_key(&self, key: &Secret<32>) -> Box<dyn ProtectKey> {
        self.0.protect_key(key)
    }

    fn unprotect_key(&self, key: &Secret<32>) -> Box<dyn UnprotectKey> {
        self.0.unprotect_key(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_agree_and_a_third_does_not() {
        let [alice, bob, eve] = [1_u8, 2, 3].map(|byte| ToyKeyPair::new([byte; P384_SECRET_LEN]));
        let shared = alice.agree(&bob.public).unwrap();
        assert!(shared.ct_eq(&bob.agree(&alice.public).unwrap()));
        assert!(!shared.ct_eq(&eve.agree(&alice.public).unwrap()));
        assert!(element(&[0; P384_PUBLIC_LEN]).is_err());
    }
}
