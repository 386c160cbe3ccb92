//! From a peer's name to a connection with it.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{task::JoinSet, time::sleep};
use zssp::{Builder, ConnectError, Connection, Endpoint, PublicKey, SecretKey};

use crate::{
    ethernet,
    exit::{Exit, Failure},
    place::Place,
    public_key_text::PublicKeyText,
    purpose::Purpose,
    ratchets::{Ratchets, kept},
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
    pub(crate) ratchets: Option<Ratchets>,
}

impl Caller {
    /// Somebody who is another than all other commands with this key.
    pub(crate) fn new(
        key: SecretKey,
        purpose: Purpose,
        silence: Duration,
        ratchets: Option<Ratchets>,
    ) -> Result<Self, Failure> {
        let identity =
            purpose.new_identity().map_err(|error| Failure::new(Exit::Local, error.to_string()))?;
        Ok(Self { key, purpose, identity, silence, ratchets })
    }
}

/// An error if the target is this side itself; to be asked before a file is made for it.
pub(crate) fn expect_another(key: &SecretKey, to: &Target) -> Result<(), Failure> {
    if key.public_key() == to.key.0 {
        let message =
            "--to names the public key that belongs to --key, that is this side's own: put the peer's there";
        return Err(Failure::new(Exit::Usage, message));
    }
    Ok(())
}

/// Connects to whichever of the target's addresses answers first.
pub(crate) async fn connect(caller: &Caller, to: &Target, patience: Duration) -> Result<Connection, Failure> {
    if let Some(ratchets) = &caller.ratchets {
        ratchets.expect(to.key)?;
    }
    reach(caller, to, &roads(&to.place).await?, patience).await
}

async fn reach(
    caller: &Caller,
    to: &Target,
    roads: &[Road],
    patience: Duration,
) -> Result<Connection, Failure> {
    let purpose = caller.purpose;
    let ours = PublicKeyText(caller.key.public_key());
    let mut attempts = JoinSet::new();
    for (position, road) in (0u32..).zip(roads.iter().copied()) {
        let (caller, peer) = (caller.clone(), to.key.0);
        attempts.spawn(async move {
            sleep(HEAD_START * position).await;
            attempt(caller, road, peer, patience).await
        });
    }
    let silence = || Failure::new(Exit::Unreachable, no_answer(caller, to, roads, patience));
    let mut last: Option<Failure> = None;
    while let Some(attempt) = attempts.join_next().await {
        let failure = match attempt {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(ConnectError::Refused)) => {
                return Err(Failure::new(Exit::Refused, refused(to, &ours, purpose)));
            }
            Ok(Err(ConnectError::TimedOut)) | Err(_) => silence(),
            Ok(Err(other)) => {
                if matches!(other, ConnectError::DowngradeRefused)
                    && !attempts.is_empty()
                    && let Some(ratchets) = &caller.ratchets
                {
                    ratchets.goes_on_after_refusal(to.key);
                }
                hindrance(caller, to, &other)
            }
        };
        // In the order of their codes: what a peer says tells more than silence, and silence more than a road that is none.
        if last.as_ref().is_none_or(|last| (failure.exit as u8) < last.exit as u8) {
            last = Some(failure);
        }
    }
    Err(last.unwrap_or_else(silence))
}

/// Connects by one road, until that has failed.
async fn attempt(
    caller: Caller,
    road: Road,
    peer: PublicKey,
    patience: Duration,
) -> Result<Connection, ConnectError> {
    let ratchets = caller.ratchets.clone();
    let (endpoint, address) = endpoint(caller, road, patience).await?;
    let connecting = endpoint.connect(address, peer);
    let Some(ratchets) = ratchets else { return connecting.await };
    tokio::select! {
        connected = connecting => connected,
        // The peer answers again and again, and always the same.
        () = ratchets.refused_by(&endpoint) => Err(ConnectError::DowngradeRefused),
    }
}

/// What keeps this side from connecting.
fn hindrance(caller: &Caller, to: &Target, error: &ConnectError) -> Failure {
    match (error, &caller.ratchets) {
        (ConnectError::DowngradeRefused, Some(ratchets)) => ratchets.refusal(to.key),
        (ConnectError::Store(error), Some(ratchets)) => ratchets.failure(error),
        _ => Failure::new(Exit::Local, format!("{}: {error}", to.place)),
    }
}

/// For a peer whose disk may take its time, and whose machine may not: what counts is whether the peer is there.
pub(crate) fn patient(builder: Builder, silence: Duration) -> Builder {
    builder.give_up_after(DISK).keep_alive(silence / 4).idle_timeout(silence)
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
    caller: Caller,
    road: Road,
    patience: Duration,
) -> Result<(Endpoint, SocketAddr), ConnectError> {
    let local = |error: String| ConnectError::Local(error.into());
    let Caller { key, purpose, identity, silence, ratchets } = caller;
    let builder = Endpoint::builder(key).identity(identity).connect_timeout(patience);
    let builder = kept(builder, ratchets.as_ref());
    let builder = match purpose {
        Purpose::Measurement => builder.give_up_after(silence),
        Purpose::Transfer => patient(builder, silence),
    };
    match road {
        Road::Ethernet(card) => ethernet::reach(builder, card).map_err(local),
        Road::Udp(address) => {
            let any: IpAddr = match address {
                SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let any = SocketAddr::new(any, 0);
            // Sends nothing; the endpoint would take for silence that nothing can be sent.
            let asked = std::net::UdpSocket::bind(any).and_then(|socket| socket.connect(address));
            asked.map_err(|error| local(format!("there is no way from here to {address}: {error}")))?;
            let bound = builder.bind(any).await;
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

fn no_answer(caller: &Caller, to: &Target, roads: &[Road], patience: Duration) -> String {
    let tried = roads.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let passes = match &to.place {
        Place::Ethernet(_) => "is it on the same segment, without a router between".into(),
        Place::Udp { port, .. } => format!("does UDP port {port} get through"),
    };
    let mut text = format!(
        "no answer from {tried} within {} s. Is `{}` running there, and {passes}? \
         Is this its public key? (A peer with another key stays silent.)\n  {}\n\
         Does it run with `--policy persistent`? Then it answers only those whose ratchet it knows.",
        patience.as_secs(),
        caller.purpose.server(),
        to.key
    );
    match &caller.ratchets {
        Some(_) => {
            text.push_str(
                " If an earlier attempt was refused or cut off, up to 10 seconds pass before there can be another: try again \
                 with a longer --timeout first. If either file of ratchets was lost or is an older copy, ",
            );
            text.push_str(&Ratchets::begin_anew(to.key));
        }
        None => text.push_str(" This command has none: it needs --ratchets."),
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use zssp::{MemoryStore, OneTimePassword, PeerName, Redb, default_provider, store::Overwrite};

    use super::*;
    use crate::{
        args::{Output, Policy, Remember},
        console::Console,
    };

    /// A machine that has the peer's key, and lets everybody in.
    async fn serve(key: &SecretKey, store: MemoryStore) -> (Endpoint, Road) {
        let builder = Endpoint::builder(key.clone()).store(Arc::new(store));
        let endpoint = builder.bind("127.0.0.1:0").await.unwrap();
        let (road, accepting) = (Road::Udp(endpoint.local_addr()), endpoint.clone());
        tokio::spawn(async move {
            let mut connections = Vec::new();
            while let Some(incoming) = accepting.accept().await {
                connections.extend(incoming.accept().await);
            }
        });
        (endpoint, road)
    }

    fn at(key: &SecretKey) -> Target {
        Target { key: PublicKeyText(key.public_key()), place: Place::Udp { host: "peer".into(), port: 1 } }
    }

    fn caller(key: SecretKey, ratchets: Option<Ratchets>) -> Caller {
        Caller::new(key, Purpose::Measurement, Duration::from_secs(30), ratchets).unwrap()
    }

    /// As on a machine without IPv6, of a peer that has an address of it.
    #[tokio::test(start_paused = true)]
    async fn a_road_that_is_none_does_not_explain_the_silence_of_another() {
        let (key, peer) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
        let (caller, to) = (caller(key, None), at(&peer));
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let silent = Road::Udp(silent.local_addr().unwrap());
        let none = Road::Udp("255.255.255.255:9".parse().unwrap());
        let patience = Duration::from_secs(30);
        for roads in [[none, silent], [silent, none]] {
            let failure = reach(&caller, &to, &roads, patience).await.unwrap_err();
            assert_eq!(failure.exit, Exit::Unreachable, "{failure}");
        }
        let start = tokio::time::Instant::now();
        let failure = reach(&caller, &to, &[none], patience).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Local, "{failure}");
        assert!(failure.to_string().contains("no way from here to 255.255.255.255:9"), "{failure}");
        assert!(start.elapsed() < patience, "nobody is waited for");
    }

    /// As when a service moves to another machine, which does not have its ratchets yet.
    #[tokio::test(start_paused = true)]
    async fn a_peer_that_is_refused_on_one_road_is_reached_on_another() {
        let (key, peer) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
        let common = || OneTimePassword::from_bytes(&[7; 32]).unwrap().into_ratchet(&*default_provider());
        let store = MemoryStore::new();
        store.preset(PeerName::from(key.public_key()), common());
        let (_old, knowing) = serve(&peer, store).await;
        let (_new, forgetful) = serve(&peer, MemoryStore::new()).await;

        let scene = tempfile::tempdir().unwrap();
        let file = scene.path().join("ratchets");
        let name = PeerName::from(peer.public_key());
        Redb::open(&file).unwrap().preset(&name, common(), Overwrite::Refuse).unwrap();
        let remember = Remember { ratchets: Some(file), policy: Policy::Persistent };
        let console = Console::new(Output { verbose: false, quiet: false });
        let ratchets = Ratchets::open(&remember, &console).unwrap();
        let (caller, to) = (caller(key, ratchets), at(&peer));
        let patience = Duration::from_secs(600);

        let refused = reach(&caller, &to, &[forgetful], patience).await.unwrap_err();
        assert!(refused.to_string().contains("was refused (--policy persistent)"), "{refused}");
        let said = console.said();
        assert!(!said.contains("others are still tried"), "there are none: {said}");
        let connection = reach(&caller, &to, &[forgetful, knowing], patience).await.unwrap();
        assert!(!connection.is_downgraded());
        let said = console.said();
        assert_eq!(said.matches("others are still tried").count(), 1, "{said}");
    }
}
