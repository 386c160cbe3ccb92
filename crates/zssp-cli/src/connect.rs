//! From a peer's name to a connection with it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{task::JoinSet, time::sleep};
use zssp::{Builder, ConnectError, Connection, Endpoint, SecretKey};

use crate::{
    exit::{Exit, Failure},
    public_key_text::PublicKeyText,
    purpose::Purpose,
    values::Target,
};

/// A name with several addresses is tried at the next one when the last has not answered for so long.
const HEAD_START: Duration = Duration::from_millis(750);
/// A disk that takes longer, such as one that reads a large file again, is broken.
const DISK: Duration = Duration::from_secs(6 * 3600);
/// Addresses of one name that are tried at most.
const MAX_ADDRESSES: usize = 6;

/// Who connects, and for what.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) key: SecretKey,
    pub(crate) purpose: Purpose,
    /// What the endpoint says about itself, see [`Purpose::new_identity`].
    pub(crate) identity: Vec<u8>,
    /// After so long a silence the connection is over.
    pub(crate) silence: Duration,
}

impl Caller {
    /// Somebody who is another than all other commands with this key.
    pub(crate) fn new(key: SecretKey, purpose: Purpose, silence: Duration) -> Result<Self, Failure> {
        let identity =
            purpose.new_identity().map_err(|error| Failure::new(Exit::Local, error.to_string()))?;
        Ok(Self { key, purpose, identity, silence })
    }
}

/// Connects to whichever of the target's addresses answers first.
pub(crate) async fn connect(caller: &Caller, to: &Target, patience: Duration) -> Result<Connection, Failure> {
    let addresses = resolve(to).await?;
    let purpose = caller.purpose;
    let ours = PublicKeyText(caller.key.public_key());
    let mut attempts = JoinSet::new();
    for (position, address) in (0u32..).zip(addresses.iter().copied()) {
        let (caller, peer) = (caller.clone(), to.key.0);
        attempts.spawn(async move {
            sleep(HEAD_START * position).await;
            let endpoint = endpoint(caller, address, patience).await?;
            endpoint.connect(address, peer).await
        });
    }
    let mut last = Failure::new(Exit::Unreachable, no_answer(to, &addresses, patience, purpose));
    while let Some(attempt) = attempts.join_next().await {
        match attempt {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(ConnectError::Refused)) => {
                return Err(Failure::new(Exit::Refused, refused(to, &ours, purpose)));
            }
            Ok(Err(ConnectError::TimedOut)) | Err(_) => {}
            Ok(Err(other)) => last = Failure::new(Exit::Local, format!("{}: {other}", to.host)),
        }
    }
    Err(last)
}

/// A socket to reach `address` from.
async fn endpoint(caller: Caller, address: SocketAddr, patience: Duration) -> Result<Endpoint, ConnectError> {
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let Caller { key, purpose, identity, silence } = caller;
    let builder = Endpoint::builder(key).identity(identity).connect_timeout(patience);
    let builder = match purpose {
        Purpose::Measurement => builder.give_up_after(silence),
        Purpose::Transfer => patient(builder, silence),
    };
    let bound = builder.bind(SocketAddr::new(any, 0)).await;
    bound.map_err(|error| ConnectError::Local(error.to_string().into()))
}

/// For a peer whose disk may take its time, and whose machine may not: what counts is whether the peer is there.
pub(crate) fn patient(builder: Builder, silence: Duration) -> Builder {
    builder.give_up_after(DISK).keep_alive(silence / 4).idle_timeout(silence)
}

async fn resolve(to: &Target) -> Result<Vec<SocketAddr>, Failure> {
    let unknown =
        |why: String| Failure::new(Exit::Unreachable, format!("the host `{}` is not known: {why}", to.host));
    let found = tokio::net::lookup_host((to.host.as_str(), to.port))
        .await
        .map_err(|error| unknown(error.to_string()))?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address) && addresses.len() < MAX_ADDRESSES {
            addresses.push(address);
        }
    }
    if addresses.is_empty() { Err(unknown("it has no address".into())) } else { Ok(addresses) }
}

fn refused(to: &Target, ours: &PublicKeyText, purpose: Purpose) -> String {
    let (host, server) = (&to.host, purpose.server());
    format!(
        "{host} refused us: it does not know our key, serves as many as it can, or is not `{server}`. Its operator can \
         let us in with\n  --allow {ours}"
    )
}

fn no_answer(to: &Target, addresses: &[SocketAddr], patience: Duration, purpose: Purpose) -> String {
    let tried = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    format!(
        "no answer from {tried} within {} s. Is `{}` running there, and does UDP port {} get through? \
         Is this its public key? (A peer with another key stays silent.)\n  {}",
        patience.as_secs(),
        purpose.server(),
        to.port,
        to.key
    )
}
