use std::time::Duration;

use crate::address::Address;
use crate::identity::PublicKey;
use crate::policy::Policy;
use crate::ratchet::PeerName;
use crate::session::SessionId;
use crate::suite::Suite;
use crate::wire::SealedIdentity;

/// With whom to open a session, and how.
///
/// ```
/// # fn example(peer: zssp_proto::PublicKey) {
/// use zssp_proto::{Address, Open};
/// let address = Address::from(std::net::SocketAddr::from(([192, 0, 2, 1], 9993)));
/// let open = Open::to(peer, address).identity(b"alice@example".to_vec());
/// # }
/// ```
#[derive(Clone)]
pub struct Open {
    pub(crate) peer: PublicKey,
    pub(crate) address: Address,
    pub(crate) name: PeerName,
    pub(crate) identity: Vec<u8>,
    pub(crate) suite: Suite,
    pub(crate) policy: Option<Policy>,
    pub(crate) give_up_after: Option<Duration>,
}

impl Open {
    /// The largest identity, in bytes.
    pub const MAX_IDENTITY_LEN: usize = SealedIdentity::MAX_PLAINTEXT_LEN;

    /// A session with the owner of `peer`, whose datagrams go to `address`.
    pub fn to(peer: PublicKey, address: Address) -> Self {
        Self {
            peer,
            address,
            name: PeerName::from(peer),
            identity: Vec::new(),
            //= ZSSP-SUI-06  the default
            suite: Suite::MlKem1024,
            policy: None,
            give_up_after: Some(Duration::from_secs(60)),
        }
    }

    /// What to say about oneself to the peer's application, besides the static key: up to
    /// [`MAX_IDENTITY_LEN`](Self::MAX_IDENTITY_LEN) bytes, encrypted to the peer. Empty by default.
    #[must_use]
    pub fn identity(mut self, identity: Vec<u8>) -> Self {
        self.identity = identity;
        self
    }

    /// The name under which the peer's ratchet is stored; the static key by default.
    #[must_use]
    pub fn name(mut self, name: PeerName) -> Self {
        self.name = name;
        self
    }

    /// Opens with `suite` instead of [`Suite::MlKem1024`], where the peer accepts nothing else.
    #[must_use]
    //= ZSSP-SUI-05  exactly one
    //= ZSSP-SUI-11  chosen per peer
    pub fn suite(mut self, suite: Suite) -> Self {
        self.suite = suite;
        self
    }

    /// The security flags for this peer, of which flag 2 is the initiator's; the context's by default.
    #[must_use]
    //= ZSSP-FLG-06  per peer, for the initiator
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Ends the attempt when no session came about in this time; 60 s by default. `None` tries for ever, with a new
    /// hello every ten seconds.
    ///
    /// An attempt that follows one that was cut off in its middle may have to wait for the peer to forget that one, for
    /// ten seconds after the cut, or after the process began. A shorter time is no harm where somebody tries again, for
    /// the next attempt connects; a process that makes only one attempt should give it clearly more.
    #[must_use]
    pub fn give_up_after(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.give_up_after = time.into();
        self
    }
}

impl core::fmt::Debug for Open {
    /// Not with the identity, which is told to the peer alone.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Open")
            .field("peer", &self.peer)
            .field("address", &self.address)
            .field("suite", &self.suite)
            .finish_non_exhaustive()
    }
}

/// Why a session was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A session with a peer of this name is being opened already.
    #[error("a session with this peer is being opened already")]
    AlreadyOpening {
        /// Its id.
        id: SessionId,
    },
    /// The identity is larger than [`Open::MAX_IDENTITY_LEN`].
    #[error("the identity is above {} bytes", Open::MAX_IDENTITY_LEN)]
    IdentityTooLarge,
    /// The peer's key is this context's own.
    #[error("the peer's key is this side's own")]
    OwnKey,
    /// There are as many sessions as [`Limits::sessions`](super::Limits::sessions) allows.
    #[error("the context has as many sessions as its limits allow")]
    TooManySessions,
}
