//! The side that sends as much as goes through.

use std::time::{Duration, Instant};

use bytes::Bytes;
use thiserror::Error;
use tokio::{task::JoinSet, time::sleep};
use zssp::{CloseReason, Connection, RequestError, SendError, WriteError};

use super::wire::{Datagram, Use};

/// Requests that wait for their replies at the same time.
const REQUESTS: usize = 64;
/// Between two questions how many datagrams have arrived: as long as the number grows, some are under way.
const SETTLE: Duration = Duration::from_millis(100);

/// A way to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Streams,
    Messages,
    Requests,
    Datagrams,
}

impl Way {
    pub(crate) const ALL: [Self; 4] = [Self::Streams, Self::Messages, Self::Requests, Self::Datagrams];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Streams => "streams",
            Self::Messages => "messages",
            Self::Requests => "requests",
            Self::Datagrams => "datagrams",
        }
    }
}

/// How to load a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) duration: Duration,
    /// Bytes at a time, one at least.
    pub(crate) size: usize,
    pub(crate) streams: u16,
}

/// What arrived.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived {
    pub(crate) count: u64,
    /// Handed to the connection; more than arrived where the network may lose them.
    pub(crate) sent: u64,
    pub(crate) elapsed: Duration,
}

/// The connection ended before the measurement did.
#[derive(Debug, Error)]
pub(crate) enum Broken {
    #[error(transparent)]
    Closed(#[from] CloseReason),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error("the peer answers otherwise than `zssp serve` does")]
    Strange,
    #[error("a part of the measurement failed: {0}")]
    Task(#[from] tokio::task::JoinError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Load {
    /// Sends one way for the duration, and waits until the peer has taken it.
    pub(crate) async fn run(self, connection: &Connection, way: Way) -> Result<Arrived, Broken> {
        let start = Instant::now();
        let data = Bytes::from(vec![0; self.size]);
        let end = start + self.duration;
        let (count, sent) = match way {
            Way::Streams => reliable(self.streams(connection, data, end).await?),
            Way::Messages => reliable(messages(connection, data, end).await?),
            Way::Requests => reliable(requests(connection, data, end).await?),
            Way::Datagrams => return datagrams(connection, self.size, start, end).await,
        };
        Ok(Arrived { count, sent, elapsed: start.elapsed() })
    }

    async fn streams(self, connection: &Connection, data: Bytes, end: Instant) -> Result<u64, Broken> {
        let mut writers = JoinSet::new();
        for _ in 0..self.streams {
            let (mut stream, nothing) = connection.open_stream().await?;
            let data = data.clone();
            writers.spawn(async move {
                // The peer sends nothing, and is not asked to stop either.
                let _nothing = nothing;
                let mut count = 0;
                while Instant::now() < end {
                    stream.write_chunk(data.clone()).await?;
                    count += 1;
                }
                stream.finish()?;
                stream.stopped().await?;
                Ok(count)
            });
        }
        sum(writers).await
    }
}

/// What is reliable arrives as often as it is sent.
fn reliable(count: u64) -> (u64, u64) {
    (count, count)
}

async fn sum(mut tasks: JoinSet<Result<u64, Broken>>) -> Result<u64, Broken> {
    let mut total = 0;
    while let Some(count) = tasks.join_next().await {
        total += count??;
    }
    Ok(total)
}

async fn messages(connection: &Connection, data: Bytes, end: Instant) -> Result<u64, Broken> {
    let channel = Use::Messages.channel(connection);
    let mut count = 0;
    while Instant::now() < end {
        channel.send_ordered(data.clone()).await?;
        count += 1;
    }
    channel.flush().await?;
    Ok(count)
}

async fn requests(connection: &Connection, data: Bytes, end: Instant) -> Result<u64, Broken> {
    let mut askers = JoinSet::new();
    for _ in 0..REQUESTS {
        let (channel, data) = (Use::Requests.channel(connection), data.clone());
        askers.spawn(async move {
            let mut count = 0;
            while Instant::now() < end {
                let reply = channel.request(data.clone()).await?;
                if reply.len() != data.len() {
                    return Err(Broken::Strange);
                }
                count += 1;
            }
            Ok(count)
        });
    }
    sum(askers).await
}

async fn datagrams(
    connection: &Connection,
    size: usize,
    start: Instant,
    end: Instant,
) -> Result<Arrived, Broken> {
    let data = Datagram::Filling.encode(size);
    let before = arrived(connection).await?;
    let mut sent = 0;
    while Instant::now() < end {
        connection.send_datagram(data.clone()).await?;
        sent += 1;
    }
    // What waits after that for the socket or on the road is no part of the time, and next to nothing.
    let elapsed = start.elapsed();
    let mut count = arrived(connection).await?;
    loop {
        sleep(SETTLE).await;
        let now = arrived(connection).await?;
        if now == count {
            return Ok(Arrived { count: count.saturating_sub(before), sent, elapsed });
        }
        count = now;
    }
}

/// Datagrams the peer has received, ever.
async fn arrived(connection: &Connection) -> Result<u64, Broken> {
    let report = Use::Reports.channel(connection).request("").await?;
    let report: &[u8; 8] = report.as_ref().try_into().map_err(|_| Broken::Strange)?;
    Ok(u64::from_be_bytes(*report))
}
