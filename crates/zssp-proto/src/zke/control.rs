//! What C1, C2, D, K1 and K2 have in common: a body under a key-exchange key, with the session's send counter and no
//! associated data (PROTOCOL 5.1, 5.4). The body of the first three is empty.

use crate::crypto::{Forged, Provider, ProviderError, Secret, TAG_LEN};
use crate::wire::PacketNonce;

/// The packet of `body`.
//= ZSSP-KK-05  under the key-exchange key, with a fresh counter and empty associated data
pub(crate) fn seal(
    provider: &dyn Provider,
    key: &Secret<32>,
    nonce: PacketNonce,
    body: &[u8],
) -> Result<Vec<u8>, ProviderError> {
    let mut packet = vec![0; body.len() + TAG_LEN];
    provider.seal_key(key).seal(&nonce.aead(), &[], &[body], &mut packet)?;
    Ok(packet)
}

/// The body of a packet that [`seal`] made with this key and nonce.
pub(crate) fn open(
    provider: &dyn Provider,
    key: &Secret<32>,
    nonce: PacketNonce,
    packet: &[u8],
) -> Result<Vec<u8>, Forged> {
    let mut body = vec![0; packet.len().checked_sub(TAG_LEN).ok_or(Forged)?];
    provider.open_key(key).open(&nonce.aead(), &[], packet, &mut body)?;
    Ok(body)
}
