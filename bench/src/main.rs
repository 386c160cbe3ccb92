//! This crate's endpoint beside quinn's, in one process and one run.
//!
//! ```sh
//! cargo run --release -p bench
//! ```
//! prints tables and writes them to `docs/performance.md`, with the machine and the method: both endpoints over loopback,
//! and bulk beside its floor; how ours share a bottleneck; and ours with one task for a connection and with several, on one
//! core and on two. `-- fairness` and `-- tasks` do the second and the third alone, `-- floor` and `-- memory` print what
//! their names say of the first; `-- load` does something else: see [`load`].

mod fairness;
mod floor;
mod load;
mod measure;
mod memory;
mod quic;
mod report;
mod tasks;
mod zssp_side;

use measure::Failure;

fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        None => {
            let mut rows = runtime(2)?.block_on(async { tokio::spawn(run()).await? })?;
            rows.extend(memory::rows()?);
            report::publish(&rows)?;
            fairness::publish()?;
            tasks::publish()
        }
        Some("fairness") => fairness::publish(),
        Some("floor") => runtime(2)?.block_on(async { tokio::spawn(floor::print()).await? }),
        Some("load") => runtime(2)?.block_on(load::run(args)),
        Some("memory") => memory::print(),
        Some(memory::HERE) => runtime(2)?.block_on(memory::measure(args.next().as_deref())),
        Some("tasks") => tasks::publish(),
        Some(tasks::HERE) => {
            let threads = args.next().ok_or("on how many cores?")?.parse()?;
            runtime(threads)?.block_on(async { tokio::spawn(tasks::measure()).await? })
        }
        Some(other) => Err(format!(
            "`{other}` is no measurement: give none, `fairness`, `floor`, `load`, `memory` or `tasks`"
        )
        .into()),
    }
}

fn runtime(threads: usize) -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()
}

/// Each measurement of the one right before that of the other, so that both meet the same machine.
async fn run() -> Result<Vec<report::Row>, Failure> {
    let mut rows = Vec::new();
    for round in 1..=report::ROUNDS {
        eprintln!("round {round} of {}", report::ROUNDS);
        let (ours, theirs) = (zssp_side::Pair::connect().await?, quic::Pair::connect().await?);
        let (bulk, floor) = (ours.bulk().await?, floor::bulk().await?);
        rows.push(report::Row::new("bulk", bulk, Some(theirs.bulk().await?)));
        rows.push(report::Row::new(floor::BESIDE_FLOOR, bulk, Some(floor)));
        let (ours_small, theirs_small) = (ours.datagrams(1200).await?, theirs.datagrams(1200).await?);
        rows.push(report::Row::new("datagrams of 1200 B", ours_small, Some(theirs_small)));
        let large = zssp_side::Pair::connect_for_large().await?;
        rows.push(report::Row::new("datagrams of 60 KiB", large.datagrams(60 * 1024).await?, None));
        drop(large);
        rows.push(report::Row::new("requests", ours.requests().await?, Some(theirs.requests().await?)));
        let (ours, theirs) = (zssp_side::handshakes().await?, quic::handshakes().await?);
        rows.push(report::Row::new("handshakes", ours, Some(theirs)));
    }
    Ok(rows)
}
