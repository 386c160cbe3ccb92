//! Two peers in this process, on the loopback interface.

use std::{net::Ipv4Addr, time::Duration};

use tokio::time::timeout;
use zssp::{ConnectError, Connection, Endpoint, SecretKey};

use crate::exit::{Exit, Failure};

/// Nothing between two peers in one process takes nearly as long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The two peers.
pub(crate) struct Pair {
    pub(crate) alice: Endpoint,
    pub(crate) bob: Endpoint,
}

/// A pair with a connection between them.
pub(crate) struct Connected {
    pub(crate) alice: Connection,
    pub(crate) bob: Connection,
}

impl Pair {
    /// Two endpoints with keys made for this.
    pub(crate) async fn bind() -> Result<Self, Failure> {
        Ok(Self { alice: bind().await?, bob: bind().await? })
    }

    /// Alice connects to Bob.
    pub(crate) async fn connect(&self) -> Result<Connected, Failure> {
        let failure = |error: ConnectError| Failure::new(Exit::Failed, format!("no handshake: {error}"));
        let accept = async {
            match self.bob.accept().await {
                Some(incoming) => incoming.accept().await,
                None => Err(ConnectError::EndpointClosed),
            }
        };
        let both = async {
            tokio::try_join!(self.alice.connect(self.bob.local_addr(), self.bob.public_key()), accept)
        };
        let (alice, bob) = timeout(PATIENCE, both)
            .await
            .map_err(|_| Failure::new(Exit::Unreachable, "no handshake in time, on the loopback interface"))?
            .map_err(failure)?;
        Ok(Connected { alice, bob })
    }
}

async fn bind() -> Result<Endpoint, Failure> {
    let local = |error: String| Failure::new(Exit::Local, error);
    let key = SecretKey::generate().map_err(|error| local(error.to_string()))?;
    Endpoint::bind((Ipv4Addr::LOCALHOST, 0), key).await.map_err(|error| local(error.to_string()))
}
