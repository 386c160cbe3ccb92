//! What a connection takes of memory once it has said a little and says no more: both ends, in one process.
//!
//! By resident memory, so what C libraries and the allocator itself keep counts as well. Each library has processes of its
//! own, in which nothing else was measured before.

use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::time::sleep;

use crate::measure::{Failure, Sample, rss};
use crate::report::{self, ROUNDS, Row};
use crate::{quic, zssp_side};

/// What the program is asked for in a process of its own, before the name of a library.
pub(crate) const HERE: &str = "memory-here";

/// Servers, and as many clients. Each two of them are connected, since ours have one connection per peer.
pub(crate) const ENDPOINTS: usize = 23;

/// One connection of each endpoint does not count: what endpoints take when they are first used is theirs.
pub(crate) const CONNECTIONS: usize = ENDPOINTS * (ENDPOINTS - 1);

/// Until late acknowledgements and the like are through, and before anybody asks for a sign of life.
const REST: Duration = Duration::from_secs(2);

/// Prints the row alone.
pub(crate) fn print() -> Result<(), Failure> {
    print!("{}", report::table(["zssp", "quinn"], &[report::MEMORY], &rows()?)?);
    Ok(())
}

/// Both measured by turns.
pub(crate) fn rows() -> Result<Vec<Row>, Failure> {
    let round = |number| {
        eprintln!("memory, round {number} of {ROUNDS}");
        Ok(Row::new(report::MEMORY.what, measured("zssp")?, Some(measured("quinn")?)))
    };
    (1..=ROUNDS).map(round).collect()
}

/// Asks a process of its own.
fn measured(library: &str) -> Result<Sample, Failure> {
    let program = std::env::current_exe()?;
    let output = Command::new(program).args([HERE, library]).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("the memory of {library} was not measured: {}", output.status).into());
    }
    let bytes = String::from_utf8(output.stdout)?.trim().parse()?;
    Ok(Sample { bytes, count: CONNECTIONS, time: Duration::ZERO, cpu: Duration::ZERO })
}

/// The measurement itself: prints the bytes of all connections.
pub(crate) async fn measure(library: Option<&str>) -> Result<(), Failure> {
    let bytes = match library {
        Some("quinn") => {
            let end = quic::Ends::new()?;
            growth(async || end.bind(), quic::ask_once).await?
        }
        Some("zssp") => growth(zssp_side::bind, zssp_side::ask_once).await?,
        _ => return Err("the memory of `zssp` or of `quinn`?".into()),
    };
    println!("{bytes}");
    Ok(())
}

/// By how much resident memory grows with the connections that `connect` makes from one endpoint to another.
async fn growth<E, C>(
    end: impl AsyncFn() -> Result<E, Failure>,
    connect: impl AsyncFn(&E, &E) -> Result<C, Failure>,
) -> Result<u64, Failure> {
    let (mut clients, mut servers, mut connections) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ENDPOINTS {
        let (client, server) = (end().await?, end().await?);
        connections.push(connect(&client, &server).await?);
        clients.push(client);
        servers.push(server);
    }
    let resident = || rss().ok_or("this system does not tell how much memory a process has");
    sleep(REST).await;
    let before = resident()?;
    for (number, client) in clients.iter().enumerate() {
        for server in servers.iter().cycle().skip(number + 1).take(ENDPOINTS - 1) {
            connections.push(connect(client, server).await?);
        }
    }
    sleep(REST).await;
    let after = resident()?;
    drop(connections);
    Ok(after.saturating_sub(before))
}
