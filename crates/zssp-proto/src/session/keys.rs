//! The keys a session reads and writes with: published whole, replaced, never edited.

use std::sync::Arc;
use std::time::Instant;

use crate::crypto::{OpenKey, Provider, SealKey};
use crate::sync::{AtomicU64, Ordering};
use crate::wire::KeyId;
use crate::zke::keys::{Directed, HandshakeKeys};

/// Seal operations under one key after which the session ends (PROTOCOL 5.3).
const MAX_KEY_USES: u64 = (1 << 32) - 1;
/// Seal operations under one key after which a new one is agreed on.
const REKEY_USES: u64 = 1 << 30;
/// AES blocks under one key after which a new one is agreed on: at this volume the advantage of whoever would tell
/// GCM from an ideal cipher is 2^-57 (RFC 9001 appendix B).
const REKEY_BLOCKS: u64 = 1 << 34;
/// How often it is said again that a key's bounds are reached, in uses and in blocks. Once is not enough: a session that
/// is just confirming its key cannot agree on another.
const REMIND_USES: u64 = 1 << 20;
const REMIND_BLOCKS: u64 = 1 << 24;

/// The keys that one handshake or rekeying agreed on. Immutable.
pub(crate) struct KeyEpoch {
    /// The key id under which the peer sends to us.
    pub(crate) local_kid: KeyId,
    /// The key id under which we send to the peer.
    pub(crate) remote_kid: KeyId,
    /// Seals payloads.
    pub(crate) seal: Box<dyn SealKey>,
    /// Opens payloads.
    pub(crate) open: Box<dyn OpenKey>,
    /// For control packets, which are too rare to keep prepared keys for.
    pub(crate) key_exchange: Directed,
    /// The session's send counter when this epoch began: how often the key was used is counted from here.
    first_counter: u64,
    /// AES blocks sealed under the key.
    blocks: AtomicU64,
    /// When the epoch began.
    pub(crate) since: Instant,
}

/// Whether a packet may be sealed under a key, and whether it was one too many of some bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyUse {
    /// Yes.
    Good,
    /// Yes, and with this very packet it became time for another key, or it has been for a while.
    RekeyDue,
    /// No, the key is used up.
    UsedUp,
}

impl KeyEpoch {
    pub(crate) fn new(
        provider: &dyn Provider,
        keys: HandshakeKeys,
        (local_kid, remote_kid): (KeyId, KeyId),
        (first_counter, since): (u64, Instant),
    ) -> Self {
        Self {
            local_kid,
            remote_kid,
            seal: provider.seal_key(&keys.transport.send),
            open: provider.open_key(&keys.transport.receive),
            key_exchange: keys.key_exchange,
            first_counter,
            blocks: AtomicU64::new(0),
            since,
        }
    }

    /// Accounts for a packet of `len` bytes with this counter. Of all threads, one is told that a bound was reached.
    //= ZSSP-ST-30  2^30 uses or 2^34 blocks start a rekey early
    //= ZSSP-ST-31  2^32 - 1 uses of a key end the session
    pub(crate) fn account(&self, counter: u64, len: usize) -> KeyUse {
        let before = self.uses(counter);
        if before >= MAX_KEY_USES {
            return KeyUse::UsedUp;
        }
        let more = len.div_ceil(16) as u64;
        let blocks = self.blocks.fetch_add(more, Ordering::Relaxed);
        let due = passes(before, 1, (REKEY_USES, REMIND_USES))
            || passes(blocks, more, (REKEY_BLOCKS, REMIND_BLOCKS));
        if due { KeyUse::RekeyDue } else { KeyUse::Good }
    }

    /// Whether the key's bounds call for another one, when the next packet will have this counter.
    pub(crate) fn is_rekey_due(&self, counter: u64) -> bool {
        self.uses(counter) >= REKEY_USES || self.blocks.load(Ordering::Relaxed) >= REKEY_BLOCKS
    }

    /// Uses of the key before the packet with this counter. The ring is loaded before the counter is taken, so the
    /// counter is not from before the epoch.
    fn uses(&self, counter: u64) -> u64 {
        counter.saturating_sub(self.first_counter)
    }

    /// Whether nothing can be sealed under the key any more.
    pub(crate) fn is_used_up(&self, counter: u64) -> bool {
        self.uses(counter) >= MAX_KEY_USES
    }
}

/// Whether the step from `value` to `value + more` reaches `bound`, or another multiple of `interval` beyond it.
/// `bound` is a multiple itself.
const fn passes(value: u64, more: u64, (bound, interval): (u64, u64)) -> bool {
    let after = value + more;
    after >= bound && value / interval != after / interval
}

/// The epochs in use: the one that seals, and one that only opens. That is the one before it, for late packets; or,
/// between K1 and C1, the next one, until the peer has confirmed that it has it.
pub(crate) struct KeyRing {
    pub(crate) current: Arc<KeyEpoch>,
    pub(crate) other: Option<Arc<KeyEpoch>>,
}

impl KeyRing {
    /// The ring with one epoch.
    pub(crate) fn new(epoch: KeyEpoch) -> Self {
        Self { current: Arc::new(epoch), other: None }
    }

    /// The next epoch can be read from now on.
    //= ZSSP-ST-27  the two newest keys stay readable
    pub(crate) fn with_next(&self, next: KeyEpoch) -> Self {
        Self { current: self.current.clone(), other: Some(Arc::new(next)) }
    }

    /// The next epoch is in use from now on.
    //= ZSSP-ST-28  sending switches when the key is confirmed
    pub(crate) fn switched_to(&self, next: Arc<KeyEpoch>) -> Self {
        Self { current: next, other: Some(self.current.clone()) }
    }

    /// The epoch whose packets carry `kid`.
    pub(crate) fn by_local_kid(&self, kid: KeyId) -> Option<&Arc<KeyEpoch>> {
        self.epochs().find(|epoch| epoch.local_kid == kid)
    }

    /// Both epochs, the current one first.
    pub(crate) fn epochs(&self) -> impl Iterator<Item = &Arc<KeyEpoch>> {
        core::iter::once(&self.current).chain(&self.other)
    }

    /// The key ids of both.
    pub(crate) fn local_kids(&self) -> impl Iterator<Item = KeyId> {
        self.epochs().map(|epoch| epoch.local_kid)
    }
}

#[cfg(all(test, not(loom), any(feature = "aws-lc", feature = "rust-crypto")))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "in a test it is the assertion")]

    use zssp_sim::Clock;

    use super::*;
    use crate::crypto::{PROVIDERS, Secret};
    use crate::ratchet::RatchetState;

    /// An epoch that begins at this counter.
    fn epoch(first_counter: u64) -> KeyEpoch {
        let directed = || Directed { send: Secret::zero(), receive: Secret::zero() };
        let keys =
            HandshakeKeys { ratchet: RatchetState::zero(), key_exchange: directed(), transport: directed() };
        let kids = [[1; 4], [2; 4]].map(|kid| KeyId::new(kid).expect("not zero"));
        KeyEpoch::new(PROVIDERS[0], keys, (kids[0], kids[1]), (first_counter, Clock::new().now()))
    }

    //= ZSSP-ST-30  2^30 uses
    //= ZSSP-ST-31  2^32 - 1 uses
    #[test]
    fn uses_of_a_key_are_counted_from_its_first_packet() {
        for first in [0, 1, 1 << 40] {
            let epoch = epoch(first);
            for (uses, expected) in [
                (0, KeyUse::Good),
                (REKEY_USES - 2, KeyUse::Good),
                (REKEY_USES - 1, KeyUse::RekeyDue),
                (REKEY_USES, KeyUse::Good),
                (REKEY_USES + REMIND_USES - 2, KeyUse::Good),
                (REKEY_USES + REMIND_USES - 1, KeyUse::RekeyDue),
                (MAX_KEY_USES - 1, KeyUse::Good),
                (MAX_KEY_USES, KeyUse::UsedUp),
                (MAX_KEY_USES + 1, KeyUse::UsedUp),
            ] {
                assert_eq!(epoch.account(first + uses, 0), expected, "{uses} uses before");
            }
            assert!(!epoch.is_rekey_due(first + REKEY_USES - 1));
            assert!(epoch.is_rekey_due(first + REKEY_USES));
            assert!(!epoch.is_used_up(first + MAX_KEY_USES - 1));
            assert!(epoch.is_used_up(first + MAX_KEY_USES));
        }
    }

    //= ZSSP-ST-30  2^34 blocks
    #[test]
    fn blocks_under_a_key_are_counted() {
        let epoch = epoch(0);
        epoch.blocks.store(REKEY_BLOCKS - 3, Ordering::Relaxed);
        assert_eq!(epoch.account(1, 17), KeyUse::Good, "two blocks");
        assert!(!epoch.is_rekey_due(2));
        assert_eq!(epoch.account(2, 1), KeyUse::RekeyDue, "one more");
        assert!(epoch.is_rekey_due(3));
        assert_eq!(epoch.account(3, 1000), KeyUse::Good, "said once");
        epoch.blocks.store(REKEY_BLOCKS + REMIND_BLOCKS - 1, Ordering::Relaxed);
        assert_eq!(epoch.account(4, 5000), KeyUse::RekeyDue, "and again later");
        assert_eq!(epoch.account(5, 0), KeyUse::Good, "nothing was sealed");
    }

    #[test]
    fn a_ring_keeps_the_two_newest() {
        let ring = KeyRing::new(epoch(0));
        let first = Arc::as_ptr(&ring.current);
        let ring = ring.with_next(epoch(5));
        assert_eq!(Arc::as_ptr(&ring.current), first, "the next one only opens");
        let next = ring.other.clone().unwrap();
        let ring = ring.switched_to(next.clone());
        let [current, other] = ring.epochs().map(Arc::as_ptr).collect::<Vec<_>>()[..] else {
            panic!("two epochs")
        };
        assert_eq!((current, other), (Arc::as_ptr(&next), first));
    }
}
