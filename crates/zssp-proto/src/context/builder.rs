use std::sync::Arc;

use super::{Context, Inner};
use crate::crypto::{Provider, ProviderError};
use crate::identity::StaticKey;
use crate::policy::Policy;
use crate::suite::Suite;
use crate::wire::MIN_MTU;
use crate::zcp::Challenging;

/// How much memory strangers and the network can make a context hold, and how many sessions it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Sessions, opening ones included; 1,048,576 by default. An idle one takes a few KiB.
    pub sessions: usize,
    /// Responder handshakes whose X3 has not come, or about which the application is still thinking; 1024 by default.
    /// When they are used up, a random one makes room for the next; one source has at most an eighth. A source is an IPv4
    /// address, the first half of an IPv6 address, or the whole address of another kind of link, where whoever can invent
    /// addresses is as many sources. Above three quarters of them, or when one has made room, automatic challenges begin:
    /// with fewer than a handful, that is nearly always. All are looked through for each that comes or goes, so thousands
    /// are fine and hundreds of thousands are not.
    pub pending_handshakes: usize,
    /// Bytes that those handshakes may hold; 8 MiB by default. Each is counted with 4 KiB, and with the identity that
    /// the application is being asked about. When they are used up, random ones make room; one source has at most an
    /// eighth. One handshake always has room. An incomplete X3 counts among `reassembly_bytes`. A handshake about which
    /// the application is thinking is over when it has made room, but holds its memory until the application drops the
    /// [`Authorize`](super::Authorize): bound how many of those wait for an answer.
    pub pending_bytes: usize,
    /// Bytes for incomplete hellos of strangers; 2 MiB by default, which is about a thousand hellos, and 1 GiB at most. All
    /// of them are reserved when the context is made.
    pub hello_bytes: usize,
    /// Bytes of incomplete packets that one session may hold; 512 KiB by default.
    pub reassembly_bytes_per_session: usize,
    /// Bytes of incomplete packets that all sessions together may hold; 64 MiB by default.
    pub reassembly_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 1 << 20,
            pending_handshakes: 1024,
            pending_bytes: 8 << 20,
            hello_bytes: 2 << 20,
            reassembly_bytes_per_session: 512 << 10,
            reassembly_bytes: 64 << 20,
        }
    }
}

/// Settings of a [`Context`]; see [`Context::builder`].
#[derive(Debug)]
pub struct ContextBuilder {
    pub(super) key: StaticKey,
    pub(super) provider: Arc<dyn Provider>,
    pub(super) suites: Vec<Suite>,
    pub(super) limits: Limits,
    pub(super) policy: Policy,
    pub(super) challenging: Challenging,
    pub(super) mtu: usize,
}

impl ContextBuilder {
    pub(super) fn new(key: StaticKey, provider: Arc<dyn Provider>) -> Self {
        //= ZSSP-SUI-07  the configured set
        let suites = vec![Suite::MlKem1024, Suite::Kyber1024];
        Self {
            key,
            provider,
            suites,
            limits: Limits::default(),
            policy: Policy::default(),
            challenging: Challenging::default(),
            mtu: 1280,
        }
    }

    /// The suites in which peers may open sessions, the likeliest first; [`Suite::MlKem1024`] and
    /// [`Suite::Kyber1024`] by default.
    #[must_use]
    //= ZSSP-SUI-07  only these
    pub fn accept(mut self, suites: impl Into<Vec<Suite>>) -> Self {
        self.suites = suites.into();
        self
    }

    /// Bounds of memory.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The security flags; [`Policy::OPPORTUNISTIC`] by default.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// When initiators must prove their address and some work; [`Challenging::Automatic`] by default. Never where the
    /// policy answers only those whose ratchet is known: strangers hear nothing there.
    #[must_use]
    pub fn challenging(mut self, challenging: Challenging) -> Self {
        self.challenging = challenging;
        self
    }

    /// The largest datagram for handshake and control packets, 1280 bytes by default: what every IPv6 link carries
    /// less nothing, so set it lower where tunnels are. Payloads name their own MTU.
    #[must_use]
    pub fn mtu(mut self, mtu: usize) -> Self {
        self.mtu = mtu;
        self
    }

    /// Makes the context.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn build(self) -> Result<Context, BuildError> {
        if self.mtu < MIN_MTU {
            return Err(BuildError::MtuTooSmall { mtu: self.mtu });
        }
        //= ZSSP-SUI-16  the two cannot be told apart by their hello
        if self.suites.contains(&Suite::Kyber1024) && self.suites.contains(&Suite::Zssp04) {
            return Err(BuildError::AmbiguousSuites);
        }
        Ok(Context(Arc::new(Inner::new(self)?)))
    }
}

/// Why a context was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// [`Suite::Kyber1024`] and [`Suite::Zssp04`] open with the same hello; accept one of them.
    #[error("Kyber1024 and Zssp04 cannot be told apart by their hello; accept one of them")]
    AmbiguousSuites,
    /// Packets cannot be split for datagrams this small.
    #[error("an MTU of {mtu} is below the smallest, {MIN_MTU}")]
    MtuTooSmall {
        /// What was asked for.
        mtu: usize,
    },
    /// The cryptographic library failed.
    #[error(transparent)]
    Provider(#[from] ProviderError),
}
