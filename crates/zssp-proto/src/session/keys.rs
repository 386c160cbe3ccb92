//! The keys a session reads and writes with: published whole, replaced, never edited.

use std::sync::Arc;

use crate::crypto::{OpenKey, Provider, SealKey};
use crate::wire::KeyId;
use crate::zke::keys::{Directed, HandshakeKeys};

/// Seal operations under one key after which the session ends (PROTOCOL 5.3).
pub(crate) const MAX_KEY_USES: u64 = (1 << 32) - 1;

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
}

impl KeyEpoch {
    pub(crate) fn new(
        provider: &dyn Provider,
        keys: HandshakeKeys,
        (local_kid, remote_kid): (KeyId, KeyId),
        first_counter: u64,
    ) -> Self {
        Self {
            local_kid,
            remote_kid,
            seal: provider.seal_key(&keys.transport.send),
            open: provider.open_key(&keys.transport.receive),
            key_exchange: keys.key_exchange,
            first_counter,
        }
    }

    /// Whether a packet with this counter may still be sealed under the epoch's keys.
    //= ZSSP-ST-31  2^32 - 1 uses of a key end the session
    pub(crate) const fn may_seal(&self, counter: u64) -> bool {
        match counter.checked_sub(self.first_counter) {
            Some(uses) => uses < MAX_KEY_USES,
            None => false,
        }
    }
}

/// The epochs in use: the one that seals, and the one before it that late packets may still come under.
pub(crate) struct KeyRing {
    pub(crate) current: Arc<KeyEpoch>,
    pub(crate) other: Option<Arc<KeyEpoch>>,
}

impl KeyRing {
    /// The epoch whose packets carry `kid`.
    pub(crate) fn by_local_kid(&self, kid: KeyId) -> Option<&Arc<KeyEpoch>> {
        self.epochs().find(|epoch| epoch.local_kid == kid)
    }

    /// Both epochs, the current one first.
    pub(crate) fn epochs(&self) -> impl Iterator<Item = &Arc<KeyEpoch>> {
        core::iter::once(&self.current).chain(&self.other)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::crypto::{PROVIDERS, Secret};
    use crate::ratchet::RatchetState;

    //= ZSSP-ST-31  2^32 - 1 uses of one key end the session
    #[test]
    fn a_key_is_used_2_pow_32_minus_1_times() {
        let Some(provider) = PROVIDERS.first() else { return };
        let directed = || Directed { send: Secret::zero(), receive: Secret::zero() };
        let epoch = |first_counter| {
            let keys = HandshakeKeys {
                ratchet: RatchetState::zero(),
                key_exchange: directed(),
                transport: directed(),
            };
            let kid = KeyId::new([1; 4]).unwrap();
            KeyEpoch::new(*provider, keys, (kid, kid), first_counter)
        };
        for first in [0, 5, 1 << 40] {
            let epoch = epoch(first);
            assert!(epoch.may_seal(first) && epoch.may_seal(first + (1 << 32) - 2));
            assert!(!epoch.may_seal(first + (1 << 32) - 1) && !epoch.may_seal(u64::MAX));
            assert!(first == 0 || !epoch.may_seal(first - 1), "a counter of the epoch before");
        }
    }
}
