//! A whole node: its key and its ratchets in files, peers known by their keys, requests that are answered, news that are
//! pushed in order, connecting again when the connection breaks, and an end by Ctrl-C that loses nothing.
//!
//! Each node has a folder with a file `peers`: the public keys of those who are welcome, one a line. A node prints its own
//! key and address; given those of another, it follows that one's news.
//!
//! ```sh
//! cargo run --example node -- alice 127.0.0.1:9993
//! cargo run --example node -- bob 127.0.0.1:0 ALICE_PUBLIC_KEY@127.0.0.1:9993
//! ```

use std::error::Error;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;
use zssp::{
    Channel, CloseReason, ConnectError, Endpoint, Incoming, KeyFileError, PublicKey, Redb, SecretKey,
};

type Failure = Box<dyn Error + Send + Sync>;

/// What each channel is for, the same on both sides.
const REQUESTS: u16 = 0;
const NEWS: u16 = 1;

/// The endpoint that the files in `folder` describe, and who is welcome there. The key is made when it is missing.
async fn open(folder: &Path, listen: &str) -> Result<(Endpoint, Vec<PublicKey>), Failure> {
    let peers = fs::read_to_string(folder.join("peers"))?;
    let peers = peers.lines().map(str::parse).collect::<Result<_, _>>()?;
    let store = Redb::open(folder.join("ratchets"))?;
    let endpoint = Endpoint::builder(key(&folder.join("key"))?).store(store).bind(listen).await?;
    Ok((endpoint, peers))
}

fn key(path: &Path) -> Result<SecretKey, KeyFileError> {
    match SecretKey::read_file(path) {
        Err(KeyFileError::Missing { .. }) => SecretKey::create_file(path),
        read => read,
    }
}

/// Lets peers in until the endpoint is closed.
async fn accept(endpoint: Endpoint, peers: Vec<PublicKey>) {
    while let Some(incoming) = endpoint.accept().await {
        let peer = incoming.peer_key();
        if !peers.contains(&peer) {
            eprintln!("{} is not among the peers, who comes with {peer}", incoming.remote_address());
            incoming.refuse();
            continue;
        }
        // What goes wrong with one peer is no concern of the others.
        tokio::spawn(async move {
            match serve(incoming).await {
                Ok(reason) => println!("{peer:?} has left: {reason}"),
                Err(error) => eprintln!("{peer:?}: {error}"),
            }
        });
    }
}

async fn serve(incoming: Incoming) -> Result<CloseReason, Failure> {
    let connection = incoming.accept().await?;
    let requests = connection.channel(REQUESTS)?;
    while let Some(request) = requests.receive().await {
        match &request.data()[..] {
            b"news" => {
                tokio::spawn(push(connection.channel(NEWS)?));
                request.reply("from now on")?;
            }
            // Whoever asks something else is told that there is no reply.
            _ => drop(request),
        }
    }
    Ok(connection.closed().await)
}

/// Tells the news, as fast as the peer takes them, beside the requests.
async fn push(news: Channel) {
    for number in 1..=100 {
        // Fails when the connection has ended, which `serve` says.
        if news.send_ordered(format!("news {number}")).await.is_err() {
            return;
        }
    }
}

/// Follows the news of a peer, and connects again when the connection breaks, until this side's endpoint is closed.
async fn follow(
    endpoint: Endpoint,
    (key, address): (PublicKey, SocketAddr),
    told: mpsc::Sender<String>,
) -> Result<(), Failure> {
    loop {
        let connection = match endpoint.connect(address, key).await {
            Ok(connection) => connection,
            // For half a minute, with a hello each second.
            Err(ConnectError::TimedOut) => continue,
            Err(ConnectError::EndpointClosed) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let subscribed = connection.channel(REQUESTS)?.request_within(Duration::from_secs(5), "news").await;
        if let Err(error) = subscribed {
            eprintln!("cannot subscribe: {error}");
        }
        let news = connection.channel(NEWS)?;
        while let Some(message) = news.receive().await {
            told.send(String::from_utf8_lossy(message.data()).into_owned()).await?;
        }
        match connection.closed().await {
            CloseReason::EndpointClosed | CloseReason::Local => return Ok(()),
            reason => eprintln!("{reason}; connecting again"),
        }
    }
}

/// What was promised still goes out, and peers are told; one that is gone is not waited for.
async fn shut_down(endpoint: Endpoint) {
    endpoint.close(0, b"shutting down");
    if tokio::time::timeout(Duration::from_secs(5), endpoint.wait_idle()).await.is_err() {
        eprintln!("a peer did not answer to the end");
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let (Some(folder), Some(listen)) = (args.next(), args.next()) else {
        return Err("usage: node FOLDER LISTEN [KEY@ADDRESS]".into());
    };
    let (endpoint, peers) = open(folder.as_ref(), &listen).await?;
    println!("{}@{}", endpoint.public_key(), endpoint.local_addr());
    tokio::spawn(accept(endpoint.clone(), peers));
    if let Some(peer) = args.next() {
        let (key, address) = peer.split_once('@').ok_or("not a KEY@ADDRESS")?;
        let (told, mut news) = mpsc::channel(16);
        tokio::spawn(follow(endpoint.clone(), (key.parse()?, address.parse()?), told));
        tokio::spawn(async move {
            while let Some(line) = news.recv().await {
                println!("{line}");
            }
        });
    }
    tokio::signal::ctrl_c().await?;
    shut_down(endpoint).await;
    Ok(())
}

/// A node is followed, started anew, and followed on.
#[tokio::test]
async fn it_runs() -> Result<(), Failure> {
    let (alice, bob) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let bob_key = key(&bob.path().join("key"))?.public_key();
    fs::write(alice.path().join("peers"), format!("{bob_key}\n"))?;
    fs::write(bob.path().join("peers"), "")?;

    let (server, peers) = open(alice.path(), "127.0.0.1:0").await?;
    let (name, address) = (server.public_key(), server.local_addr());
    let (client, _) = open(bob.path(), "127.0.0.1:0").await?;
    let (told, mut news) = mpsc::channel(16);
    let following = tokio::spawn(follow(client.clone(), (name, address), told));
    live(server, peers, &mut news).await?;

    // The port and the ratchets are free when the last task of the first life has let go of them.
    let again = async {
        loop {
            match open(alice.path(), &address.to_string()).await {
                Ok(opened) => break opened,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let (server, peers) = tokio::time::timeout(Duration::from_secs(30), again).await?;
    live(server, peers, &mut news).await?;
    shut_down(client).await;
    following.await?
}

/// One life of a node that is followed.
#[cfg(test)]
async fn live(
    server: Endpoint,
    peers: Vec<PublicKey>,
    news: &mut mpsc::Receiver<String>,
) -> Result<(), Failure> {
    let accepting = tokio::spawn(accept(server.clone(), peers));
    for number in 1..=100 {
        assert_eq!(news.recv().await, Some(format!("news {number}")));
    }
    shut_down(server).await;
    Ok(accepting.await?)
}
