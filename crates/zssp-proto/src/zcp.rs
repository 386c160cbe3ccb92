//! The ZeroTier Challenge Protocol: proof of address and of work before a hello costs public-key operations
//! (PROTOCOL 4).
//!
//! All of the responder's side runs where the packet arrived and costs three hashes at most. It keeps nothing for the
//! stranger: what it needs comes back in the response.

mod counters;

use core::fmt;
use std::time::{Duration, Instant};

use subtle::ConstantTimeEq;

use crate::crypto::{Provider, ProviderError, Secret};
use crate::sync::{RankedGuard, RankedMutex, rank};
use crate::wire::Challenge;
use counters::Counters;

/// Zero bits that `SHA512(response)` begins with: 8192 hashes for the initiator on average, one for the responder.
const WORK_BITS: u32 = 13;
/// How long a salt is used for new challenges. Its challenges can be answered for as long again.
const SALT_LIFETIME: Duration = Duration::from_secs(60);
/// Hashes that an initiator tries at most, a thousand times the average.
const MAX_TRIES: u64 = 1 << (WORK_BITS + 10);

/// When a responder demands a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenging {
    /// Of every hello.
    Always,
    /// While hellos come faster than they can be answered, or there are more than can be waited for. The default.
    Automatic {
        /// Hellos that are answered without a challenge in any second.
        hellos_per_second: u32,
    },
    /// Never.
    Off,
}

impl Default for Challenging {
    /// Automatic above 200 hellos a second, which is about a seventh of what one core can answer.
    fn default() -> Self {
        Self::Automatic { hellos_per_second: 200 }
    }
}

/// The responder's side.
pub(crate) struct Challenger {
    salts: RankedMutex<{ rank::SALTS }, Salts>,
    /// Remembers two and a half seconds of challenges at 100,000 a second: an honest answer comes within one. Where
    /// 300,000 hellos a second get through, answers begin to be too late, and honest peers need several attempts.
    counters: Counters<2049>,
}

struct Salts {
    current: Secret<32>,
    /// The counter of the first challenge under it.
    first: u64,
    /// That of the challenges before; `None` until the first has been replaced.
    previous: Option<Secret<32>>,
    /// When `current` is replaced; `None` until it is first used.
    replace_at: Option<Instant>,
}

impl Challenger {
    pub(crate) fn new(provider: &dyn Provider) -> Result<Self, ProviderError> {
        let mut current = Secret::zero();
        provider.random(current.expose_mut())?;
        let salts = Salts { current, first: 0, previous: None, replace_at: None };
        Ok(Self { salts: RankedMutex::new(salts), counters: Counters::new() })
    }

    /// Whether a response proves address and work.
    //= ZSSP-ZCP-09  three hashes at most
    pub(crate) fn passes(
        &self,
        provider: &dyn Provider,
        now: Instant,
        address: &[u8],
        response: &Challenge,
    ) -> Result<bool, ProviderError> {
        //= ZSSP-ZCP-05  its counter is unused within a small window
        if !self.counters.may_be_answered(response.counter) {
            return Ok(false);
        }
        //= ZSSP-ZCP-10  salts rotate, the previous one stays valid for a while
        let Some(salt) = self.salts(provider, now)?.of(response.counter).map(Secret::duplicate) else {
            return Ok(false);
        };
        //= ZSSP-ZCP-06  the mac is this side's own
        if !bool::from(mac(provider, response.counter, address, &salt).ct_eq(&response.mac)) {
            return Ok(false);
        }
        //= ZSSP-ZCP-07  the work was done
        Ok(works(provider, response) && self.counters.answer(response.counter))
    }

    /// A challenge for whoever sent `pow` from `address`. It is echoed, so nobody can make this side's peers work who
    /// does not see their packets.
    //= ZSSP-ZCP-08  the next counter, its mac, and Alice's own pow
    pub(crate) fn challenge(
        &self,
        provider: &dyn Provider,
        now: Instant,
        address: &[u8],
        pow: [u8; 8],
    ) -> Result<Challenge, ProviderError> {
        let salts = self.salts(provider, now)?;
        let (counter, salt) = (self.counters.take(), salts.current.duplicate());
        drop(salts);
        Ok(Challenge { counter, mac: mac(provider, counter, address, &salt), pow })
    }

    /// The salts of this moment. Counters are taken while they are locked, and nothing is hashed.
    fn salts(
        &self,
        provider: &dyn Provider,
        now: Instant,
    ) -> Result<RankedGuard<'_, { rank::SALTS }, Salts>, ProviderError> {
        let mut salts = self.salts.lock();
        match salts.replace_at {
            Some(at) if at <= now => {
                let mut fresh = Secret::zero();
                provider.random(fresh.expose_mut())?;
                let replaced = core::mem::replace(&mut salts.current, fresh);
                // One that nobody has used for a whole lifetime more is not the previous one any more.
                salts.previous = (now < at + SALT_LIFETIME).then_some(replaced);
                salts.first = self.counters.next();
                salts.replace_at = Some(now + SALT_LIFETIME);
            }
            Some(_) => {}
            None => salts.replace_at = Some(now + SALT_LIFETIME),
        }
        Ok(salts)
    }
}

impl Salts {
    /// The salt under which the challenge with this counter was made, if it is still valid.
    fn of(&self, counter: u64) -> Option<&Secret<32>> {
        if counter < self.first { self.previous.as_ref() } else { Some(&self.current) }
    }
}

impl fmt::Debug for Challenger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenger").field("counters", &self.counters).finish_non_exhaustive()
    }
}

/// The response to a challenge: the same counter and mac, and a `pow` for which the work is done. The initiator's
/// side, some milliseconds of work.
///
/// # Errors
/// When the generator fails, or when no `pow` was found, which is as good as impossible.
pub(crate) fn respond(provider: &dyn Provider, challenge: &Challenge) -> Result<Challenge, ProviderError> {
    let mut pow = [0; 8];
    provider.random(&mut pow)?;
    let start = u64::from_be_bytes(pow);
    (0..MAX_TRIES)
        .map(|step| Challenge { pow: start.wrapping_add(step).to_be_bytes(), ..*challenge })
        .find(|response| works(provider, response))
        .ok_or(ProviderError)
}

/// `SHA512(counter || address || salt)[..16]`.
fn mac(provider: &dyn Provider, counter: u64, address: &[u8], salt: &Secret<32>) -> [u8; 16] {
    let hash = provider.sha512(&[&counter.to_be_bytes(), address, salt.expose()]);
    let mut mac = [0; 16];
    mac.copy_from_slice(&hash[..16]);
    mac
}

/// Whether `SHA512(response)` begins with [`WORK_BITS`] zero bits.
fn works(provider: &dyn Provider, response: &Challenge) -> bool {
    let [a, b, c, d, ..] = provider.sha512(&[&response.to_bytes()]);
    u32::from_be_bytes([a, b, c, d]).leading_zeros() >= WORK_BITS
}

#[cfg(all(test, any(feature = "aws-lc", feature = "rust-crypto")))]
mod tests {
    use super::*;
    use crate::crypto::PROVIDERS;

    const HERE: &[u8] = b"here";
    const POW: [u8; 8] = [7; 8];

    fn provider() -> &'static dyn Provider {
        PROVIDERS[0]
    }

    fn clock() -> Instant {
        zssp_sim::Clock::new().now()
    }

    //= ZSSP-ZCP-05  once
    //= ZSSP-ZCP-06  from the address that was challenged
    //= ZSSP-ZCP-07  with the work done
    //= ZSSP-ZCP-08  the pow is echoed
    #[test]
    fn a_response_passes_once_from_where_it_was_challenged() {
        let (challenger, now) = (Challenger::new(provider()).unwrap(), clock());
        let challenge = challenger.challenge(provider(), now, HERE, POW).unwrap();
        assert_eq!((challenge.counter, challenge.pow), (1, POW));
        let response = respond(provider(), &challenge).unwrap();
        assert_eq!((response.counter, response.mac), (challenge.counter, challenge.mac));

        let passes = |address: &[u8], response: Challenge| {
            challenger.passes(provider(), now, address, &response).unwrap()
        };
        assert!(!passes(b"elsewhere", response));
        assert!(!passes(HERE, Challenge { counter: 2, ..response }));
        let lazy = (0u64..).map(|pow| Challenge { pow: pow.to_be_bytes(), ..response });
        let lazy = lazy.into_iter().find(|response| !works(provider(), response)).unwrap();
        assert!(!passes(HERE, lazy));
        let mut forged = response.mac;
        forged[15] ^= 1;
        assert!(!passes(HERE, Challenge { mac: forged, ..response }));
        assert!(passes(HERE, response));
        assert!(!passes(HERE, response), "a second time");
    }

    /// Who does less is refused by other implementations, and who wants more refuses them.
    //= ZSSP-ZCP-07  13 zero bits, not fewer and not more
    //= ZSSP-ZCP-14  which the initiator finds
    #[test]
    fn the_work_is_thirteen_zero_bits() {
        let (challenger, now) = (Challenger::new(provider()).unwrap(), clock());
        // Of those that will do, half have just so many: of forty, one at least.
        let zero_bits = (0..40).map(|_| {
            let challenge = challenger.challenge(provider(), now, HERE, POW).unwrap();
            let response = respond(provider(), &challenge).unwrap();
            assert!(challenger.passes(provider(), now, HERE, &response).unwrap());
            let [first, second, ..] = provider().sha512(&[&response.to_bytes()]);
            u16::from_be_bytes([first, second]).leading_zeros()
        });
        assert_eq!(zero_bits.min(), Some(13));
    }

    /// Nobody can make a challenge of his own, and answer that.
    //= ZSSP-ZCP-06  of the counter, the address and a secret salt
    //= ZSSP-ZCP-10  a new one after each rotation
    #[test]
    fn a_mac_is_made_with_a_secret_that_rotates() {
        let (challenger, now) = (Challenger::new(provider()).unwrap(), clock());
        let mut salts = vec![[0; 32]];
        for rotation in 0..3 {
            let now = now + rotation * SALT_LIFETIME;
            let Challenge { counter, mac, .. } = challenger.challenge(provider(), now, HERE, POW).unwrap();
            let salt = *challenger.salts.lock().current.expose();
            let hash = provider().sha512(&[&counter.to_be_bytes(), HERE, &salt]);
            assert_eq!(mac, hash[..16]);
            assert!(!salts.contains(&salt), "{rotation}");
            salts.push(salt);
        }
    }

    //= ZSSP-ZCP-10  rotation
    #[test]
    fn salts_rotate_and_the_previous_one_stays_valid() {
        let (challenger, now) = (Challenger::new(provider()).unwrap(), clock());
        let answers: Vec<Challenge> = (0..3)
            .map(|_| respond(provider(), &challenger.challenge(provider(), now, HERE, POW).unwrap()).unwrap())
            .collect();
        let passes = |after, response| challenger.passes(provider(), now + after, HERE, response).unwrap();
        assert!(passes(Duration::from_secs(59), &answers[0]));
        assert!(passes(Duration::from_secs(61), &answers[1]), "under the previous salt");
        assert!(!passes(Duration::from_secs(122), &answers[2]), "two salts ago");
    }

    //= ZSSP-ZCP-05  a small window: unanswered challenges do not lock anybody out
    #[test]
    fn a_flood_that_never_answers_does_not_keep_others_from_answering() {
        let (challenger, now) = (Challenger::new(provider()).unwrap(), clock());
        let old = respond(provider(), &challenger.challenge(provider(), now, HERE, POW).unwrap()).unwrap();
        // What the counter is after three minutes of 100,000 hellos a second.
        challenger.counters.advance(20_000_000);
        let new = respond(provider(), &challenger.challenge(provider(), now, HERE, POW).unwrap()).unwrap();
        assert!(challenger.passes(provider(), now, HERE, &new).unwrap());
        assert!(!challenger.passes(provider(), now, HERE, &old).unwrap(), "too old");
    }

    #[test]
    fn after_a_long_silence_old_challenges_are_void() {
        let (challenger, now) = (Challenger::new(provider()).unwrap(), clock());
        let answer = respond(provider(), &challenger.challenge(provider(), now, HERE, POW).unwrap()).unwrap();
        assert!(!challenger.passes(provider(), now + Duration::from_secs(3600), HERE, &answer).unwrap());
    }

    //= ZSSP-ZCP-02  what a hello has that was never challenged
    #[test]
    fn an_unchallenged_response_does_not_pass() {
        let (challenger, now) = (Challenger::new(provider()).unwrap(), clock());
        let first = Challenge { counter: 0, mac: [0; 16], pow: POW };
        assert!(!challenger.passes(provider(), now, HERE, &first).unwrap());
    }
}
