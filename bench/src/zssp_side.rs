//! Ours.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zssp::{Builder, Bytes, Connection, Endpoint, SecretKey};

use crate::measure::{
    AT_ONCE, BULK, Clock, DATAGRAMS, Failure, HANDSHAKES, PIECE, REQUEST, REQUESTS, Sample,
};

pub(crate) struct Pair {
    here: Connection,
    there: Connection,
    _endpoints: [Endpoint; 2],
}

fn builder() -> Result<Builder, Failure> {
    Ok(Endpoint::builder(SecretKey::generate()?))
}

impl Pair {
    pub(crate) async fn connect() -> Result<Self, Failure> {
        Self::between(builder()?, builder()?).await
    }

    /// For datagrams of 60 KiB, which 48 of the default size do not carry.
    pub(crate) async fn connect_for_large() -> Result<Self, Failure> {
        Self::between(builder()?.mtu(1400), builder()?.mtu(1400)).await
    }

    /// With so many tasks that receive, and as many that send.
    pub(crate) async fn connect_with_tasks(count: usize) -> Result<Self, Failure> {
        let end = || Ok::<_, Failure>(builder()?.receive_tasks(count).send_tasks(count));
        Self::between(end()?, end()?).await
    }

    async fn between(client: Builder, server: Builder) -> Result<Self, Failure> {
        let (client, server) = (client.bind("127.0.0.1:0").await?, server.bind("127.0.0.1:0").await?);
        let (here, there) = connect(&client, &server).await?;
        Ok(Self { here, there, _endpoints: [client, server] })
    }

    /// One stream, one way.
    pub(crate) async fn bulk(&self) -> Result<Sample, Failure> {
        let clock = Clock::start();
        let there = self.there.clone();
        let receiving = tokio::spawn(async move {
            let (_, mut receive) = there.accept_stream().await?;
            let (mut buffer, mut bytes) = (vec![0; PIECE], 0);
            loop {
                match receive.read(&mut buffer).await? {
                    0 => return Ok::<_, Failure>(bytes),
                    read => bytes += read,
                }
            }
        });
        let (mut send, _) = self.here.open_stream().await?;
        let piece = vec![7; PIECE];
        for _ in 0..BULK / PIECE {
            send.write_all(&piece).await?;
        }
        send.finish()?;
        Ok(clock.stop(receiving.await??, 1))
    }

    /// Datagrams of `len` bytes, one way: those that arrived count, up to an empty one that is repeated until it does.
    pub(crate) async fn datagrams(&self, len: usize) -> Result<Sample, Failure> {
        let clock = Clock::start();
        let there = self.there.clone();
        let receiving = tokio::spawn(async move {
            let (mut bytes, mut count) = (0, 0);
            loop {
                match there.read_datagram().await?.len() {
                    0 => return Ok::<_, Failure>((bytes, count)),
                    len => (bytes, count) = (bytes + len, count + 1),
                }
            }
        });
        let data = Bytes::from(vec![7; len]);
        for _ in 0..DATAGRAMS / len {
            self.here.send_datagram(data.clone()).await?;
        }
        while !receiving.is_finished() {
            self.here.send_datagram(Bytes::new()).await?;
            tokio::task::yield_now().await;
        }
        let (bytes, count) = receiving.await??;
        let sample = clock.stop(bytes, count);
        // The empty ones that came too late.
        while tokio::time::timeout(std::time::Duration::from_millis(20), self.there.read_datagram())
            .await
            .is_ok()
        {}
        Ok(sample)
    }

    /// Requests and replies, many at a time.
    pub(crate) async fn requests(&self) -> Result<Sample, Failure> {
        let server = self.there.channel(0)?;
        let serving = tokio::spawn(async move {
            while let Some(message) = server.receive().await {
                let data = message.data().clone();
                if message.reply(data).is_err() {
                    break;
                }
            }
        });
        let (clock, channel) = (Clock::start(), self.here.channel(0)?);
        let tasks: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                let channel = channel.clone();
                tokio::spawn(async move {
                    for _ in 0..REQUESTS / AT_ONCE {
                        channel.request(&REQUEST[..]).await?;
                    }
                    Ok::<_, Failure>(())
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        let sample = clock.stop(REQUESTS * REQUEST.len(), REQUESTS);
        serving.abort();
        Ok(sample)
    }
}

async fn connect(client: &Endpoint, server: &Endpoint) -> Result<(Connection, Connection), Failure> {
    let accept = async { Ok(server.accept().await.ok_or("the endpoint is closed")?.accept().await?) };
    let connect = async { Ok(client.connect(server.local_addr(), server.public_key()).await?) };
    tokio::try_join!(connect, accept)
}

pub(crate) async fn bind() -> Result<Endpoint, Failure> {
    Ok(builder()?.bind("127.0.0.1:0").await?)
}

/// A connection that has had one request.
pub(crate) async fn ask_once(
    client: &Endpoint,
    server: &Endpoint,
) -> Result<(Connection, Connection), Failure> {
    let (here, there) = connect(client, server).await?;
    let (asking, answering) = (here.channel(0)?, there.channel(0)?);
    let ask = async { Ok::<_, Failure>(asking.request(&REQUEST[..]).await?) };
    let answer = async {
        let message = answering.receive().await.ok_or("the connection is closed")?;
        let data = message.data().clone();
        Ok(message.reply(data)?)
    };
    tokio::try_join!(ask, answer)?;
    Ok((here, there))
}

/// Connections, one after the other: each is closed before the next, for there is one per peer.
pub(crate) async fn handshakes() -> Result<Sample, Failure> {
    let (client, server) = (bind().await?, bind().await?);
    let clock = Clock::start();
    for _ in 0..HANDSHAKES {
        let (here, there) = connect(&client, &server).await?;
        here.close(0, b"").await;
        there.closed().await;
    }
    Ok(clock.stop(0, HANDSHAKES))
}
