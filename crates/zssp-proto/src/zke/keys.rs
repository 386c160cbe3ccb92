use crate::crypto::{Provider, Secret};
use crate::noise::{Ask, SymmetricState};
use crate::ratchet::{Fingerprint, RatchetState};

/// Which side of the XK handshake this is. In rekeying the answerer takes the responder's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Alice, who opened the session.
    Initiator,
    /// Bob, who accepted it.
    Responder,
}

/// A pair of keys, one for each direction, named from this side's point of view.
pub(crate) struct Directed {
    pub(crate) send: Secret<32>,
    pub(crate) receive: Secret<32>,
}

impl Directed {
    /// Of two derived keys the first is for the packets to the initiator (PROTOCOL 5.2).
    pub(crate) fn from_pair([to_initiator, to_responder]: &[Secret<64>; 2], role: Role) -> Self {
        let (to_initiator, to_responder) = (to_initiator.cut(), to_responder.cut());
        match role {
            Role::Initiator => Self { send: to_responder, receive: to_initiator },
            Role::Responder => Self { send: to_initiator, receive: to_responder },
        }
    }
}

/// What a handshake ends in.
pub(crate) struct HandshakeKeys {
    pub(crate) ratchet: RatchetState,
    pub(crate) key_exchange: Directed,
    pub(crate) transport: Directed,
}

/// What both sides derive when the last packet is read, after XK and after KK alike. `used` is the ratchet state that
/// went into it.
//= ZSSP-KK-04  with y in Bob's place
//= ZSSP-XK-09  the ratchet
//= ZSSP-XK-10  key-exchange and transport keys
pub(crate) fn derive(
    provider: &dyn Provider,
    noise: &SymmetricState,
    role: Role,
    used: &RatchetState,
) -> HandshakeKeys {
    let [key, fingerprint] = noise.ask(provider, Ask::Ratchet);
    HandshakeKeys {
        ratchet: RatchetState::new(
            key.cut(),
            Fingerprint::new(*fingerprint.cut().expose()),
            used.chain_length().saturating_add(1),
        ),
        key_exchange: Directed::from_pair(&noise.ask(provider, Ask::KeyExchange), role),
        transport: Directed::from_pair(&noise.split(provider), role),
    }
}
