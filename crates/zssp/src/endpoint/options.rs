//! What is special about one attempt to connect.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use zssp_proto::{Address, Open, PeerName, Policy, PublicKey, Suite};

use crate::config::Config;

/// Settings of one attempt to connect, for [`Endpoint::connect_with`](super::Endpoint::connect_with): what is not set here
/// is as the endpoint's [`Builder`](crate::Builder) says.
///
/// ```
/// # async fn example(endpoint: zssp::Endpoint, address: std::net::SocketAddr, key: zssp::PublicKey)
/// #     -> Result<(), zssp::ConnectError> {
/// use zssp::{ConnectOptions, PeerName, Policy};
///
/// // A peer that was given a one-time password, whatever holds for others.
/// let options = ConnectOptions::new().policy(Policy::PERSISTENT).name(PeerName::new(b"backup"));
/// let connection = endpoint.connect_with(address, key, options).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
#[must_use = "it is for `Endpoint::connect_with`"]
pub struct ConnectOptions {
    name: Option<PeerName>,
    identity: Option<Vec<u8>>,
    suite: Option<Suite>,
    policy: Option<Policy>,
    timeout: Option<Duration>,
}

impl ConnectOptions {
    /// As the endpoint's settings say, in everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// The name under which the peer's ratchet is stored, by default its key. There is one connection per name: with
    /// several names, one key can be several peers; see [`Incoming::accept_as`](super::Incoming::accept_as).
    pub fn name(mut self, name: PeerName) -> Self {
        self.name = Some(name);
        self
    }

    /// What this side says about itself, see [`Builder::identity`](crate::Builder::identity).
    pub fn identity(mut self, identity: impl Into<Vec<u8>>) -> Self {
        self.identity = Some(identity.into());
        self
    }

    /// The cryptography to connect with; by default the first of [`Builder::suites`](crate::Builder::suites).
    pub fn suite(mut self, suite: Suite) -> Self {
        self.suite = Some(suite);
        self
    }

    /// How strictly the ratchet shared with this peer is held to, see [`Builder::policy`](crate::Builder::policy).
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// How long to try, see [`Builder::connect_timeout`](crate::Builder::connect_timeout).
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout = Some(time);
        self
    }

    pub(super) fn open(self, (address, peer): (SocketAddr, PublicKey), config: &Config) -> Open {
        let open = Open::to(peer, Address::from(address))
            .name(self.name.unwrap_or(PeerName::from(peer)))
            .identity(self.identity.unwrap_or_else(|| config.identity.clone()))
            .suite(self.suite.unwrap_or(config.suite))
            .give_up_after(self.timeout.unwrap_or(config.connect_timeout));
        match self.policy {
            Some(policy) => open.policy(policy),
            None => open,
        }
    }
}

impl fmt::Debug for ConnectOptions {
    /// Not with the identity, which is told to the peer alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("suite", &self.suite)
            .field("policy", &self.policy)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
