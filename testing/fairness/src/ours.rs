//! A stream between two endpoints of ours.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use zssp::congestion::NewReno;
use zssp::link::memory::Network;
use zssp::{Endpoint, SecretKey};

use crate::{Flow, destination, source};

/// Connects, and sends for as long as the runtime lives. Counts what the application reads.
pub(crate) async fn start(network: &Network, host: u8, flow: Flow) -> Arc<AtomicU64> {
    let [client, server] = [source(host), destination(host)].map(|address| endpoint(network, address, flow));
    let accept = async { server.accept().await.unwrap().accept().await.unwrap() };
    let connect = async { client.connect(server.local_addr(), server.public_key()).await.unwrap() };
    let (here, there) = tokio::join!(connect, accept);
    let received = Arc::new(AtomicU64::new(0));
    let count = received.clone();
    tokio::spawn(async move {
        let (mut send, _receive) = here.open_stream().await.unwrap();
        while send.write_chunk(vec![0; 60_000]).await.is_ok() {}
        drop(client);
    });
    tokio::spawn(async move {
        let (_send, mut receive) = there.accept_stream().await.unwrap();
        while let Ok(Some(chunk)) = receive.read_chunk().await {
            count.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
        drop(server);
    });
    received
}

fn endpoint(network: &Network, address: SocketAddr, flow: Flow) -> Endpoint {
    // Datagrams as large as the textbook's.
    let builder = Endpoint::builder(SecretKey::generate().unwrap()).handshakes(1, 128).max_mtu(1400);
    let builder = match flow {
        Flow::NewReno => builder.congestion(|datagram| Box::new(NewReno::new(datagram))),
        _ => builder,
    };
    builder.bind_link(network.attach(address).unwrap()).unwrap()
}
