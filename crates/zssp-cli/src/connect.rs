//! From a peer's name to a connection with it.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{task::JoinSet, time::sleep};
use zssp::{ConnectError, Connection, Endpoint, SecretKey};

use crate::{
    ethernet,
    exit::{Exit, Failure},
    place::Place,
    public_key_text::PublicKeyText,
    purpose::Purpose,
    values::Target,
};

/// A name with several addresses is tried at the next one when the last has not answered for so long.
const HEAD_START: Duration = Duration::from_millis(750);
/// Addresses of one name that are tried at most.
const MAX_ADDRESSES: usize = 6;

/// Connects to whichever of the target's addresses answers first.
pub(crate) async fn connect(
    key: SecretKey,
    to: &Target,
    patience: Duration,
    purpose: Purpose,
) -> Result<Connection, Failure> {
    let roads = roads(&to.place).await?;
    let ours = PublicKeyText(key.public_key());
    let mut attempts = JoinSet::new();
    for (position, road) in (0u32..).zip(roads.iter().copied()) {
        let (key, peer) = (key.clone(), to.key.0);
        attempts.spawn(async move {
            sleep(HEAD_START * position).await;
            let (endpoint, address) = endpoint(key, road, patience, purpose).await?;
            endpoint.connect(address, peer).await
        });
    }
    let mut last = Failure::new(Exit::Unreachable, no_answer(to, &roads, patience, purpose));
    while let Some(attempt) = attempts.join_next().await {
        match attempt {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(ConnectError::Refused)) => {
                return Err(Failure::new(Exit::Refused, refused(to, &ours, purpose)));
            }
            Ok(Err(ConnectError::TimedOut)) | Err(_) => {}
            Ok(Err(other)) => last = Failure::new(Exit::Local, format!("{}: {other}", to.place)),
        }
    }
    Err(last)
}

/// One way to reach a peer.
#[derive(Clone, Copy)]
enum Road {
    Ethernet(ethernet::Card),
    Udp(SocketAddr),
}

impl fmt::Display for Road {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ethernet(card) => write!(f, "{}{card}", ethernet::PREFIX),
            Self::Udp(address) => address.fmt(f),
        }
    }
}

/// An endpoint for a road, and the peer's address on it.
async fn endpoint(
    key: SecretKey,
    road: Road,
    patience: Duration,
    purpose: Purpose,
) -> Result<(Endpoint, SocketAddr), ConnectError> {
    let local = |error: String| ConnectError::Local(error.into());
    let identity = purpose.new_identity().map_err(|error| local(error.to_string()))?;
    let builder = Endpoint::builder(key).identity(identity).connect_timeout(patience).give_up_after(patience);
    match road {
        Road::Ethernet(card) => ethernet::reach(builder, card).map_err(local),
        Road::Udp(address) => {
            let any: IpAddr = match address {
                SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let bound = builder.bind(SocketAddr::new(any, 0)).await;
            Ok((bound.map_err(|error| local(error.to_string()))?, address))
        }
    }
}

async fn roads(to: &Place) -> Result<Vec<Road>, Failure> {
    let (host, port) = match to {
        Place::Ethernet(card) => return Ok(vec![Road::Ethernet(*card)]),
        Place::Udp { host, port } => (host, *port),
    };
    let unknown =
        |why: String| Failure::new(Exit::Unreachable, format!("the host `{host}` is not known: {why}"));
    let found =
        tokio::net::lookup_host((host.as_str(), port)).await.map_err(|error| unknown(error.to_string()))?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address) && addresses.len() < MAX_ADDRESSES {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(unknown("it has no address".into()));
    }
    Ok(addresses.into_iter().map(Road::Udp).collect())
}

fn refused(to: &Target, ours: &PublicKeyText, purpose: Purpose) -> String {
    let (place, server) = (&to.place, purpose.server());
    format!(
        "{place} refused us: it does not know our key, serves as many as it can, or is not `{server}`. Its operator can \
         let us in with\n  --allow {ours}"
    )
}

fn no_answer(to: &Target, roads: &[Road], patience: Duration, purpose: Purpose) -> String {
    let tried = roads.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let passes = match &to.place {
        Place::Ethernet(_) => "is it on the same segment, without a router between".into(),
        Place::Udp { port, .. } => format!("does UDP port {port} get through"),
    };
    format!(
        "no answer from {tried} within {} s. Is `{}` running there, and {passes}? \
         Is this its public key? (A peer with another key stays silent.)\n  {}",
        patience.as_secs(),
        purpose.server(),
        to.key
    )
}
