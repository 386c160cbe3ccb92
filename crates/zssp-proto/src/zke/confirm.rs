//! C1, C2 and D: an empty message under a key-exchange key (PROTOCOL 5.1, 5.3).

use crate::crypto::{Forged, Provider, ProviderError, Secret, TAG_LEN};
use crate::wire::{Control, PacketNonce};

/// The body of a control packet.
pub(crate) fn seal(
    provider: &dyn Provider,
    key: &Secret<32>,
    nonce: PacketNonce,
) -> Result<[u8; TAG_LEN], ProviderError> {
    let mut tag = [0; TAG_LEN];
    provider.seal_key(key).seal(&nonce.aead(), &[], &[], &mut tag)?;
    Ok(tag)
}

/// Whether `packet` is the body that [`seal`] makes with this key and nonce.
pub(crate) fn open(
    provider: &dyn Provider,
    key: &Secret<32>,
    nonce: PacketNonce,
    packet: &[u8],
) -> Result<(), Forged> {
    let control = Control::parse(packet).map_err(|_| Forged)?;
    provider.open_key(key).open(&nonce.aead(), &[], control.tag, &mut [])
}
