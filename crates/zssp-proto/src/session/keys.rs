//! The keys a session reads and writes with: published whole, replaced, never edited.

use std::sync::Arc;
use std::time::Instant;

use crate::crypto::{OpenKey, Provider, SealKey};
use crate::sync::{AtomicU64, Ordering};
use crate::wire::KeyId;
use crate::zke::keys::{Directed, HandshakeKeys, Role};

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

/// What a session has sealed so far, under all its keys: the one thing that the threads that seal change. It has a cache
/// line of its own, so that the threads that open need not wait for it.
#[repr(align(64))]
pub(crate) struct Usage {
    //= ZSSP-ST-29  one counter for all threads, types and keys of a session, never reset
    packets: AtomicU64,
    blocks: AtomicU64,
}

/// How much was sealed up to some moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    /// Packets, which is the counter of the next one.
    pub(crate) packets: u64,
    /// AES blocks of payloads.
    blocks: u64,
}

impl Used {
    /// Before a session's first packet. Bob's 0 is that of the D that he could have sent in the place of C1.
    //= ZSSP-PKT-10  from 0, or from 1 for Bob
    pub(crate) const fn none(role: Role) -> Self {
        let packets = match role {
            Role::Initiator => 0,
            Role::Responder => 1,
        };
        Self { packets, blocks: 0 }
    }
}

impl Usage {
    pub(crate) fn new(role: Role) -> Self {
        let Used { packets, blocks } = Used::none(role);
        Self { packets: AtomicU64::new(packets), blocks: AtomicU64::new(blocks) }
    }

    /// The next send counter, which nobody else gets.
    pub(crate) fn next_counter(&self) -> u64 {
        self.packets.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn so_far(&self) -> Used {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Used { packets: load(&self.packets), blocks: load(&self.blocks) }
    }
}

/// The keys that one handshake or rekeying agreed on. Immutable.
pub(crate) struct KeyEpoch {
    /// The key id under which the peer sends to us.
    pub(crate) local_kid: KeyId,
    /// The key id under which we send to the peer.
    pub(crate) remote_kid: KeyId,
    /// Seals payloads.
    pub(crate) seal: Box<dyn SealKey>,
    /// Opens payloads. The route of the local key id has it too.
    pub(crate) open: Arc<dyn OpenKey>,
    /// For control packets, which are too rare to keep prepared keys for.
    pub(crate) key_exchange: Directed,
    /// What the session had sealed when this epoch began: how much the key was used is counted from here.
    before: Used,
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
        (before, since): (Used, Instant),
    ) -> Self {
        Self {
            local_kid,
            remote_kid,
            seal: provider.seal_key(&keys.transport.send),
            open: provider.open_key(&keys.transport.receive).into(),
            key_exchange: keys.key_exchange,
            before,
            since,
        }
    }

    /// Accounts for a packet of `len` bytes with this counter. Of all threads, one is told that a bound was reached.
    //= ZSSP-ST-30  2^30 uses or 2^34 blocks start a rekey early
    //= ZSSP-ST-31  2^32 - 1 uses of a key end the session
    pub(crate) fn account(&self, usage: &Usage, counter: u64, len: usize) -> KeyUse {
        let more = len.div_ceil(16) as u64;
        let used = Used { packets: counter, blocks: usage.blocks.fetch_add(more, Ordering::Relaxed) };
        if self.is_used_up(used) {
            return KeyUse::UsedUp;
        }
        let (uses, blocks) = self.since_it_began(used);
        let due =
            passes(uses, 1, (REKEY_USES, REMIND_USES)) || passes(blocks, more, (REKEY_BLOCKS, REMIND_BLOCKS));
        if due { KeyUse::RekeyDue } else { KeyUse::Good }
    }

    /// Whether the key's bounds call for another one, at this moment of the session.
    pub(crate) fn is_rekey_due(&self, used: Used) -> bool {
        let (uses, blocks) = self.since_it_began(used);
        uses >= REKEY_USES || blocks >= REKEY_BLOCKS
    }

    /// Whether nothing can be sealed under the key any more, at this moment of the session.
    pub(crate) fn is_used_up(&self, used: Used) -> bool {
        self.since_it_began(used).0 >= MAX_KEY_USES
    }

    /// Uses of the key, and blocks under it. The ring is loaded before a counter is taken, so no counter is from before
    /// the epoch. A few blocks of the epoch before may count here as well, which is the safe side.
    fn since_it_began(&self, used: Used) -> (u64, u64) {
        (used.packets.saturating_sub(self.before.packets), used.blocks.saturating_sub(self.before.blocks))
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
    pub(crate) fn new(epoch: Arc<KeyEpoch>) -> Self {
        Self { current: epoch, other: None }
    }

    /// The next epoch can be read from now on.
    //= ZSSP-ST-27  the two newest keys stay readable
    pub(crate) fn with_next(&self, next: Arc<KeyEpoch>) -> Self {
        Self { current: self.current.clone(), other: Some(next) }
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

#[cfg(test)]
impl Usage {
    /// Has so many blocks be left to the bound of this epoch, as if all before them had been sealed.
    pub(crate) fn leave_blocks(&self, epoch: &KeyEpoch, blocks: u64) {
        self.blocks.store(epoch.before.blocks + REKEY_BLOCKS - blocks, Ordering::Relaxed);
    }

    /// Has the next packet have this counter.
    pub(crate) fn advance(&self, counter: u64) {
        self.packets.store(counter, Ordering::Relaxed);
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
    fn epoch(packets: u64) -> KeyEpoch {
        let directed = || Directed { send: Secret::zero(), receive: Secret::zero() };
        let keys =
            HandshakeKeys { ratchet: RatchetState::zero(), key_exchange: directed(), transport: directed() };
        let kids = [[1; 4], [2; 4]].map(|kid| KeyId::new(kid).expect("not zero"));
        KeyEpoch::new(
            PROVIDERS[0],
            keys,
            (kids[0], kids[1]),
            (Used { packets, blocks: 7 }, Clock::new().now()),
        )
    }

    //= ZSSP-ST-30  2^30 uses
    //= ZSSP-ST-31  2^32 - 1 uses
    #[test]
    fn uses_of_a_key_are_counted_from_its_first_packet() {
        for first in [0, 1, 1 << 40] {
            let (epoch, usage) = (epoch(first), Usage::new(Role::Initiator));
            let after = |uses| Used { packets: first + uses, blocks: 7 };
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
                assert_eq!(epoch.account(&usage, first + uses, 0), expected, "{uses} uses before");
            }
            assert!(!epoch.is_rekey_due(after(REKEY_USES - 1)));
            assert!(epoch.is_rekey_due(after(REKEY_USES)));
            assert!(!epoch.is_used_up(after(MAX_KEY_USES - 1)));
            assert!(epoch.is_used_up(after(MAX_KEY_USES)));
        }
    }

    //= ZSSP-ST-30  2^34 blocks
    #[test]
    fn blocks_under_a_key_are_counted() {
        let (epoch, usage) = (epoch(0), Usage::new(Role::Initiator));
        // Seven blocks were sealed before the epoch.
        usage.blocks.store(REKEY_BLOCKS + 7 - 3, Ordering::Relaxed);
        assert_eq!(epoch.account(&usage, 1, 17), KeyUse::Good, "two blocks");
        assert!(!epoch.is_rekey_due(usage.so_far()));
        assert_eq!(epoch.account(&usage, 2, 1), KeyUse::RekeyDue, "one more");
        assert!(epoch.is_rekey_due(usage.so_far()));
        assert_eq!(epoch.account(&usage, 3, 1000), KeyUse::Good, "said once");
        usage.blocks.store(REKEY_BLOCKS + REMIND_BLOCKS + 7 - 1, Ordering::Relaxed);
        assert_eq!(epoch.account(&usage, 4, 5000), KeyUse::RekeyDue, "and again later");
        assert_eq!(epoch.account(&usage, 5, 0), KeyUse::Good, "nothing was sealed");
    }

    #[test]
    fn a_ring_keeps_the_two_newest() {
        let ring = KeyRing::new(Arc::new(epoch(0)));
        let first = Arc::as_ptr(&ring.current);
        let ring = ring.with_next(Arc::new(epoch(5)));
        assert_eq!(Arc::as_ptr(&ring.current), first, "the next one only opens");
        let next = ring.other.clone().unwrap();
        let ring = ring.switched_to(next.clone());
        let [current, other] = ring.epochs().map(Arc::as_ptr).collect::<Vec<_>>()[..] else {
            panic!("two epochs")
        };
        assert_eq!((current, other), (Arc::as_ptr(&next), first));
    }
}
