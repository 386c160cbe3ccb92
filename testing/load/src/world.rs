//! Where the endpoints are.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::sync::watch;
use zssp::link::memory::{Conditions, Network};
use zssp::{Builder, Endpoint, SecretKey};

use crate::store::CountingStore;
use crate::{Failure, Road};

pub(crate) struct World {
    /// `None`: the loopback interface.
    network: Option<Network>,
    /// How often clients have agreed on a key.
    keys: watch::Sender<u64>,
}

impl World {
    pub(crate) fn new(road: Road, keys: watch::Sender<u64>) -> Self {
        let network = (road == Road::Memory).then(|| Network::new(1, Conditions::default()));
        Self { network, keys }
    }

    pub(crate) async fn server(&self, number: usize) -> Result<Endpoint, Failure> {
        self.bind(number, Endpoint::builder(SecretKey::generate()?)).await
    }

    pub(crate) async fn client(&self, number: usize) -> Result<Endpoint, Failure> {
        let store = CountingStore::new(self.keys.clone());
        self.bind(number, Endpoint::builder(SecretKey::generate()?).store(store)).await
    }

    async fn bind(&self, number: usize, builder: Builder) -> Result<Endpoint, Failure> {
        Ok(match &self.network {
            None => builder.bind("127.0.0.1:0").await?,
            Some(network) => {
                let address = Ipv4Addr::from(0x0A00_0000 + u32::try_from(number)?);
                builder.bind_link(network.attach(SocketAddr::from((address, 9993)))?)?
            }
        })
    }
}
