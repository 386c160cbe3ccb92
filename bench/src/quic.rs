//! Theirs: quinn, with its own defaults and the same cryptographic library.

use std::net::SocketAddr;

use quinn::{ClientConfig, Connection, Endpoint, ServerConfig};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::measure::{
    AT_ONCE, BULK, Clock, DATAGRAMS, Failure, HANDSHAKES, PIECE, REQUEST, REQUESTS, Sample,
};

pub(crate) struct Pair {
    here: Connection,
    there: Connection,
    _endpoints: [Endpoint; 2],
}

/// Endpoints that trust each other.
pub(crate) struct Ends {
    server: ServerConfig,
    client: ClientConfig,
}

impl Ends {
    pub(crate) fn new() -> Result<Self, Failure> {
        let identity = rcgen::generate_simple_self_signed(vec!["localhost".into()])?;
        let certificate = CertificateDer::from(identity.cert);
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(identity.signing_key.serialize_der()));
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.clone())?;
        let server = ServerConfig::with_single_cert(vec![certificate], key)?;
        Ok(Self { server, client: ClientConfig::with_root_certificates(roots.into())? })
    }

    pub(crate) fn bind(&self) -> Result<Endpoint, Failure> {
        let mut endpoint = Endpoint::server(self.server.clone(), SocketAddr::from(([127, 0, 0, 1], 0)))?;
        endpoint.set_default_client_config(self.client.clone());
        Ok(endpoint)
    }
}

fn endpoints() -> Result<(Endpoint, Endpoint), Failure> {
    let ends = Ends::new()?;
    Ok((ends.bind()?, ends.bind()?))
}

async fn connect(client: &Endpoint, server: &Endpoint) -> Result<(Connection, Connection), Failure> {
    let address = server.local_addr()?;
    let accept = async { Ok::<_, Failure>(server.accept().await.ok_or("the endpoint is closed")?.await?) };
    let connect = async { Ok(client.connect(address, "localhost")?.await?) };
    tokio::try_join!(connect, accept)
}

/// A connection that has had one request.
pub(crate) async fn ask_once(
    client: &Endpoint,
    server: &Endpoint,
) -> Result<(Connection, Connection), Failure> {
    let (here, there) = connect(client, server).await?;
    let ask = async {
        let (mut send, mut receive) = here.open_bi().await?;
        send.write_all(&REQUEST).await?;
        send.finish()?;
        receive.read_to_end(REQUEST.len()).await?;
        Ok::<_, Failure>(())
    };
    let answer = async {
        let (mut send, mut receive) = there.accept_bi().await?;
        let data = receive.read_to_end(REQUEST.len()).await?;
        send.write_all(&data).await?;
        Ok(send.finish()?)
    };
    tokio::try_join!(ask, answer)?;
    Ok((here, there))
}

impl Pair {
    pub(crate) async fn connect() -> Result<Self, Failure> {
        let (client, server) = endpoints()?;
        let (here, there) = connect(&client, &server).await?;
        Ok(Self { here, there, _endpoints: [client, server] })
    }

    /// One stream, one way.
    pub(crate) async fn bulk(&self) -> Result<Sample, Failure> {
        let clock = Clock::start();
        let there = self.there.clone();
        let receiving = tokio::spawn(async move {
            let mut receive = there.accept_uni().await?;
            let (mut buffer, mut bytes) = (vec![0; PIECE], 0);
            while let Some(read) = receive.read(&mut buffer).await? {
                bytes += read;
            }
            Ok::<_, Failure>(bytes)
        });
        let mut send = self.here.open_uni().await?;
        let piece = vec![7; PIECE];
        for _ in 0..BULK / PIECE {
            send.write_all(&piece).await?;
        }
        send.finish()?;
        Ok(clock.stop(receiving.await??, 1))
    }

    /// Datagrams of `len` bytes, one way: those that arrived count, up to a short one that is repeated until it does.
    pub(crate) async fn datagrams(&self, len: usize) -> Result<Sample, Failure> {
        let clock = Clock::start();
        let there = self.there.clone();
        let receiving = tokio::spawn(async move {
            let (mut bytes, mut count) = (0, 0);
            loop {
                match there.read_datagram().await?.len() {
                    1 => return Ok::<_, Failure>((bytes, count)),
                    len => (bytes, count) = (bytes + len, count + 1),
                }
            }
        });
        let data = zssp::Bytes::from(vec![7; len]);
        for _ in 0..DATAGRAMS / len {
            self.here.send_datagram_wait(data.clone()).await?;
        }
        while !receiving.is_finished() {
            self.here.send_datagram_wait(data.slice(..1)).await?;
            tokio::task::yield_now().await;
        }
        let (bytes, count) = receiving.await??;
        Ok(clock.stop(bytes, count))
    }

    /// A stream for each request, many at a time.
    pub(crate) async fn requests(&self) -> Result<Sample, Failure> {
        let there = self.there.clone();
        let serving = tokio::spawn(async move {
            while let Ok((mut send, mut receive)) = there.accept_bi().await {
                tokio::spawn(async move {
                    let data = receive.read_to_end(REQUEST.len()).await?;
                    send.write_all(&data).await?;
                    send.finish()?;
                    Ok::<_, Failure>(())
                });
            }
        });
        let clock = Clock::start();
        let tasks: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                let here = self.here.clone();
                tokio::spawn(async move {
                    for _ in 0..REQUESTS / AT_ONCE {
                        let (mut send, mut receive) = here.open_bi().await?;
                        send.write_all(&REQUEST).await?;
                        send.finish()?;
                        receive.read_to_end(REQUEST.len()).await?;
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

/// Connections, one after the other.
pub(crate) async fn handshakes() -> Result<Sample, Failure> {
    let (client, server) = endpoints()?;
    let clock = Clock::start();
    for _ in 0..HANDSHAKES {
        let (here, there) = connect(&client, &server).await?;
        here.close(0u32.into(), b"");
        there.closed().await;
    }
    Ok(clock.stop(0, HANDSHAKES))
}
