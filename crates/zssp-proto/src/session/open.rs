//! The way in, after the header was read and the packet is whole: open it under the key its key id names, then let
//! the replay window decide (PROTOCOL 3.4, 5.1). Every step is *parallel*.

use super::Shared;
use crate::crypto::{OpenKey, Provider};
use crate::error::Fault;
use crate::wire::{KeyId, PacketNonce};
use crate::zke::control;

impl Shared {
    /// Whether a packet with this nonce may still be delivered; asked before anything of it is stored.
    //= ZSSP-RPL-01  checked when the header is read
    pub(crate) fn check_counter(&self, nonce: PacketNonce) -> Result<(), Fault> {
        self.window.check(nonce.counter()).map_err(|_| Fault::Replayed)
    }

    /// Records the counter of an authentic packet; of several threads with the same one, one succeeds.
    //= ZSSP-RPL-03  recording is the decision
    fn commit_counter(&self, nonce: PacketNonce) -> Result<(), Fault> {
        self.window.commit(nonce.counter()).map_err(|_| Fault::Replayed)
    }

    /// Opens a payload in place, under the key of the epoch that it came under.
    //= ZSSP-RPL-02  the counter is recorded only after the packet proved authentic
    //= ZSSP-ST-26  received in A3, S1, S2, R1 and R2, which have keys
    pub(crate) fn open_payload<'p>(
        &self,
        key: &dyn OpenKey,
        nonce: PacketNonce,
        packet: &'p mut [u8],
    ) -> Result<&'p mut [u8], Fault> {
        //= ZSSP-HP-07  whatever the header said, the tag decides
        //= ZSSP-SEC-02  no forgery is accepted
        let payload = key.open_in_place(&nonce.aead(), &[], packet).map_err(|_| Fault::Forged)?;
        // Another thread may have been quicker with the same packet: then the caller has not received it.
        self.commit_counter(nonce).inspect_err(|_| payload.fill(0))?;
        Ok(payload)
    }

    /// Opens C1, C2, D, K1 or K2, whatever the session's state will say to it: its body.
    //= ZSSP-RPL-02  the counter is recorded only after the packet proved authentic
    //= ZSSP-ST-19  an authentication failure is as if the packet had never come
    pub(crate) fn open_control(
        &self,
        provider: &dyn Provider,
        kid: KeyId,
        nonce: PacketNonce,
        packet: &[u8],
    ) -> Result<Vec<u8>, Fault> {
        let ring = self.ring().ok_or(Fault::Stale)?;
        let epoch = ring.by_local_kid(kid).ok_or(Fault::Stale)?;
        let body =
            control::open(provider, &epoch.key_exchange.receive, nonce, packet).map_err(|_| Fault::Forged)?;
        self.commit_counter(nonce)?;
        Ok(body)
    }
}
