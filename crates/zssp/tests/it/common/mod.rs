//! Endpoints on loopback, and a time limit that only a hanging test meets.

pub(crate) mod meeting;
pub(crate) mod provider;
#[cfg(target_os = "linux")]
pub(crate) mod road;
pub(crate) mod router;
pub(crate) mod simulation;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use zssp::{Builder, Connection, Endpoint, SecretKey};

/// Runs `test` on two threads, and fails when it has not ended in a minute.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), test).await.expect("the test hangs")
    })
}

pub(crate) fn builder() -> Builder {
    Endpoint::builder(SecretKey::generate().unwrap())
}

pub(crate) async fn endpoint() -> Endpoint {
    builder().bind("127.0.0.1:0").await.unwrap()
}

/// A connection between two endpoints: the client's end and the server's.
pub(crate) async fn connect(client: &Endpoint, server: &Endpoint) -> (Connection, Connection) {
    connect_to(server.local_addr(), client, server).await
}

/// The same, with the server at `address`.
pub(crate) async fn connect_to(
    address: SocketAddr,
    client: &Endpoint,
    server: &Endpoint,
) -> (Connection, Connection) {
    let accept = async { server.accept().await.unwrap().accept().await.unwrap() };
    let connect = async { client.connect(address, server.public_key()).await.unwrap() };
    tokio::join!(connect, accept)
}

/// Two endpoints and their connection.
pub(crate) struct Pair {
    pub(crate) client: Endpoint,
    pub(crate) server: Endpoint,
    pub(crate) here: Connection,
    pub(crate) there: Connection,
}

pub(crate) async fn pair() -> Pair {
    pair_of(endpoint().await, endpoint().await).await
}

pub(crate) async fn pair_of(client: Endpoint, server: Endpoint) -> Pair {
    let (here, there) = connect(&client, &server).await;
    Pair { client, server, here, there }
}

/// Bytes that differ from place to place and from seed to seed.
pub(crate) fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&random.next().to_be_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// A small generator (SplitMix64), so that a seed repeats a test.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// True once in `n`, on average.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }
}
