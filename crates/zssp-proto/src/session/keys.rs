//! The keys a session reads and writes with: published whole, replaced, never edited.

use std::sync::Arc;
use std::time::Instant;

use super::usage::Used;
use crate::crypto::{OpenKey, Provider, SealKey};
use crate::wire::KeyId;
use crate::zke::keys::{Directed, HandshakeKeys};

/// Seal operations under one key after which the session ends (PROTOCOL 5.3).
const MAX_KEY_USES: u64 = (1 << 32) - 1;
/// Seal operations under one key after which a new one is agreed on.
const REKEY_USES: u64 = 1 << 30;
/// AES blocks under one key after which a new one is agreed on: at this volume the advantage of whoever would tell
/// GCM from an ideal cipher is 2^-57 (RFC 9001 appendix B).
const REKEY_BLOCKS: u64 = 1 << 34;
/// Replay windows need not go further ([`super::Window::LAST`]): a billion packets a second get here in 18 years.
const MAX_COUNTER: u64 = 1 << 59;
const _: () = assert!(MAX_COUNTER <= super::ReplayWindow::LAST);
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

/// An epoch that is sealed with, or will be: when another takes its place, what seals is dropped.
#[derive(Clone)]
pub(crate) struct Sealing {
    pub(crate) epoch: Arc<KeyEpoch>,
    /// Seals payloads.
    pub(crate) key: Arc<dyn SealKey>,
}

impl Sealing {
    pub(crate) fn new(
        provider: &dyn Provider,
        keys: HandshakeKeys,
        (local_kid, remote_kid): (KeyId, KeyId),
        (before, since): (Used, Instant),
    ) -> Self {
        let key = provider.seal_key(&keys.transport.send).into();
        let open = provider.open_key(&keys.transport.receive).into();
        let key_exchange = keys.key_exchange;
        Self { epoch: Arc::new(KeyEpoch { local_kid, remote_kid, open, key_exchange, before, since }), key }
    }
}

impl KeyEpoch {
    /// Whether another key was called for with this step of packets or of blocks, each given as the count before it
    /// and how many there are more.
    pub(crate) fn passes_a_bound(&self, packets: (u64, u64), blocks: (u64, u64)) -> bool {
        let Used { packets: uses, blocks: volume } =
            self.since_it_began(Used { packets: packets.0, blocks: blocks.0 });
        passes(uses, packets.1, (REKEY_USES, REMIND_USES))
            || passes(volume, blocks.1, (REKEY_BLOCKS, REMIND_BLOCKS))
    }

    /// Whether the key's bounds call for another one, at this moment of the session.
    pub(crate) fn is_rekey_due(&self, used: Used) -> bool {
        let Used { packets, blocks } = self.since_it_began(used);
        packets >= REKEY_USES || blocks >= REKEY_BLOCKS
    }

    /// Whether nothing can be sealed under the key with this counter or a later one.
    pub(crate) const fn is_used_up(&self, counter: u64) -> bool {
        counter.saturating_sub(self.before.packets) >= MAX_KEY_USES || counter > MAX_COUNTER
    }

    /// Uses of the key, and blocks under it. Some of the epoch before count here as well, which is the safe side.
    const fn since_it_began(&self, used: Used) -> Used {
        Used {
            packets: used.packets.saturating_sub(self.before.packets),
            blocks: used.blocks.saturating_sub(self.before.blocks),
        }
    }
}

/// Whether the step from `value` to `value + more` reaches `bound`, or another multiple of `interval` beyond it.
/// `bound` is a multiple itself.
const fn passes(value: u64, more: u64, (bound, interval): (u64, u64)) -> bool {
    let after = value + more;
    after >= bound && value / interval != after / interval
}

/// The epochs in use: the one that seals, and one that only opens.
pub(crate) struct KeyRing {
    current: Sealing,
    other: Option<Other>,
}

/// An epoch that only opens.
enum Other {
    /// The one before, for late packets.
    Before(Arc<KeyEpoch>),
    /// Between K1 and C1, the next one, until the peer has confirmed that it has it.
    Next(Sealing),
}

impl KeyRing {
    /// The ring with one epoch.
    pub(crate) fn new(epoch: Sealing) -> Self {
        Self { current: epoch, other: None }
    }

    /// The next epoch can be read from now on.
    //= ZSSP-ST-27  the two newest keys stay readable
    pub(crate) fn with_next(&self, next: Sealing) -> Self {
        Self { current: self.current.clone(), other: Some(Other::Next(next)) }
    }

    /// The next epoch is in use from now on.
    //= ZSSP-ST-28  sending switches when the key is confirmed
    pub(crate) fn switched_to(&self, next: Sealing) -> Self {
        Self { current: next, other: Some(Other::Before(self.current.epoch.clone())) }
    }

    /// The peer has confirmed the next epoch, so that is in use from now on; `None` when there is none.
    pub(crate) fn confirmed(&self) -> Option<Self> {
        match &self.other {
            Some(Other::Next(next)) => Some(self.switched_to(next.clone())),
            Some(Other::Before(_)) | None => None,
        }
    }

    /// The epoch in use.
    pub(crate) fn current(&self) -> &Arc<KeyEpoch> {
        &self.current.epoch
    }

    /// What seals payloads.
    pub(crate) fn seal_key(&self) -> &dyn SealKey {
        &*self.current.key
    }

    /// The epoch whose packets carry `kid`.
    pub(crate) fn by_local_kid(&self, kid: KeyId) -> Option<&Arc<KeyEpoch>> {
        self.epochs().find(|epoch| epoch.local_kid == kid)
    }

    /// Both epochs, the current one first.
    pub(crate) fn epochs(&self) -> impl Iterator<Item = &Arc<KeyEpoch>> {
        let other = self.other.as_ref().map(|other| match other {
            Other::Before(epoch) | Other::Next(Sealing { epoch, .. }) => epoch,
        });
        core::iter::once(self.current()).chain(other)
    }

    /// The key ids of both.
    pub(crate) fn local_kids(&self) -> impl Iterator<Item = KeyId> {
        self.epochs().map(|epoch| epoch.local_kid)
    }
}

#[cfg(test)]
impl KeyEpoch {
    /// What the session has sealed when so many blocks are left to this key's bound.
    pub(crate) const fn used_until(&self, blocks: u64) -> u64 {
        self.before.blocks + REKEY_BLOCKS - blocks
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
    fn sealing(packets: u64) -> Sealing {
        let directed = || Directed { send: Secret::zero(), receive: Secret::zero() };
        let keys =
            HandshakeKeys { ratchet: RatchetState::zero(), key_exchange: directed(), transport: directed() };
        let kids = [[1; 4], [2; 4]].map(|kid| KeyId::new(kid).expect("not zero"));
        let begin = (Used { packets, blocks: 7 }, Clock::new().now());
        Sealing::new(PROVIDERS[0], keys, (kids[0], kids[1]), begin)
    }

    fn epoch(packets: u64) -> Arc<KeyEpoch> {
        sealing(packets).epoch
    }

    //= ZSSP-ST-30  2^30 uses
    //= ZSSP-ST-31  2^32 - 1 uses
    #[test]
    fn uses_of_a_key_are_counted_from_its_first_packet() {
        for first in [0, 1, 1 << 40] {
            let epoch = epoch(first);
            let none = (7, 0);
            for (uses, more, expected) in [
                (0, 16, false),
                (REKEY_USES - 17, 16, false),
                (REKEY_USES - 16, 16, true),
                (REKEY_USES - 1, 16, true),
                (REKEY_USES, 16, false),
                (REKEY_USES + REMIND_USES - 17, 16, false),
                (REKEY_USES + REMIND_USES - 16, 16, true),
            ] {
                assert_eq!(epoch.passes_a_bound((first + uses, more), none), expected, "{uses} uses before");
            }
            let after = |uses| Used { packets: first + uses, blocks: 7 };
            assert!(!epoch.is_rekey_due(after(REKEY_USES - 1)));
            assert!(epoch.is_rekey_due(after(REKEY_USES)));
            assert!(!epoch.is_used_up(first + MAX_KEY_USES - 1));
            assert!(epoch.is_used_up(first + MAX_KEY_USES));
            assert!(epoch.is_used_up(u64::MAX));
        }
        let late = epoch(MAX_COUNTER - 5);
        assert!(!late.is_used_up(MAX_COUNTER));
        assert!(late.is_used_up(MAX_COUNTER + 1), "no counter is so high");
    }

    //= ZSSP-ST-30  2^34 blocks
    #[test]
    fn blocks_under_a_key_are_counted() {
        assert_eq!(REKEY_BLOCKS, 17_179_869_184, "2^34");
        let epoch = epoch(0);
        // Seven blocks were sealed before the epoch.
        for (before, more, expected) in [
            (REKEY_BLOCKS + 7 - 3, 2, false),
            (REKEY_BLOCKS + 7 - 1, 1, true),
            (REKEY_BLOCKS + 7, 1000, false),
            (REKEY_BLOCKS + REMIND_BLOCKS + 7 - 1, 5000, true),
            (REKEY_BLOCKS + REMIND_BLOCKS + 7 + 4999, 0, false),
        ] {
            assert_eq!(epoch.passes_a_bound((1, 16), (before, more)), expected, "{before} blocks before");
        }
        let after = |blocks| Used { packets: 1, blocks };
        assert!(!epoch.is_rekey_due(after(REKEY_BLOCKS + 6)));
        assert!(epoch.is_rekey_due(after(REKEY_BLOCKS + 7)));
    }

    #[test]
    fn a_ring_keeps_the_two_newest_and_seals_with_one() {
        let mut ring = KeyRing::new(sealing(0));
        let (first, first_key) = (Arc::as_ptr(ring.current()), Arc::downgrade(&ring.current.key));
        assert!(ring.confirmed().is_none());
        let next = sealing(5);
        ring = ring.with_next(next.clone());
        assert_eq!(Arc::as_ptr(ring.current()), first, "the next one only opens");
        ring = ring.confirmed().unwrap();
        let [current, other] = ring.epochs().map(Arc::as_ptr).collect::<Vec<_>>()[..] else {
            panic!("two epochs")
        };
        assert_eq!((current, other), (Arc::as_ptr(&next.epoch), first));
        assert!(core::ptr::addr_eq(ring.seal_key(), &raw const *next.key));
        assert_eq!(first_key.strong_count(), 0, "nothing will be sealed with it");
        assert!(ring.confirmed().is_none());
    }
}
