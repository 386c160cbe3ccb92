//! Many connections for a long time: does everything get its answer, and does memory stay what it is?
//!
//! ```sh
//! cargo run --release -p bench -- load --connections 10000 --rate 100000 --seconds 60
//! ```
//! What they do is in [`zssp_load`], whose test does the same with few of them. The road is a network in memory, or with
//! `--udp` the loopback interface; there are a hundred servers unless told otherwise.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use zssp_load::{Load, Road, Running};

use crate::measure::{Failure, cpu_time, rss};

const USAGE: &str = "load [--connections N] [--rate MESSAGES-PER-SECOND] [--seconds N] [--servers N] [--udp]";

/// Between two lines of the table.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// What must come through of the rate that was asked for.
const RATE: f64 = 0.95;
/// What memory may grow by, from the end of the first quarter to the end: a share of it and some pages.
const GROWTH: f64 = 0.02;
const SLACK: u64 = 4 << 20;
/// And what both ends of a connection keep when it has changed its key: the one before opens late packets.
const KEY_BEFORE: u64 = 3 << 10;

const MIB: f64 = (1 << 20) as f64;

/// What is asked for on the command line.
fn parse(mut args: impl Iterator<Item = String>) -> Result<Load, Failure> {
    let mut load = Load { connections: 10_000, rate: 100_000, seconds: 60, servers: 100, road: Road::Memory };
    while let Some(arg) = args.next() {
        let mut number = || -> Result<usize, Failure> {
            let value = args.next().ok_or(USAGE)?;
            Ok(value.parse::<usize>().ok().filter(|number| *number > 0).ok_or(USAGE)?)
        };
        match arg.as_str() {
            "--connections" => load.connections = number()?,
            "--rate" => load.rate = number()?,
            "--seconds" => load.seconds = number()?,
            "--servers" => load.servers = number()?,
            "--udp" => load.road = Road::Loopback,
            _ => return Err(USAGE.into()),
        }
    }
    Ok(load)
}

/// Runs the load, prints a table, and fails where memory grew or an answer is missing.
pub(crate) async fn run(args: impl Iterator<Item = String>) -> Result<(), Failure> {
    let load = parse(args)?;
    let before = rss().ok_or("this system does not tell how much memory a process has")?;
    let started = Instant::now();
    let connected = load.connect().await?;
    let (made, ramp) = (load.connections as f64, started.elapsed().as_secs_f64());
    println!(
        "{made} connections in {ramp:.1} s, {:.0} handshakes/s; {:.1} KiB for both ends of each, endpoints included\n",
        made / ramp,
        rss().unwrap_or(0).saturating_sub(before) as f64 / made / 1024.0
    );

    let begin = Instant::now();
    let mut running = connected.start();
    let flat = watch(&running, (begin, begin + Duration::from_secs(load.seconds as u64))).await;
    let finished = running.finish().await;
    let counts = running.counts();
    let rate = counts.answered as f64 / begin.elapsed().as_secs_f64().max(load.seconds as f64);
    println!(
        "\n{} messages sent, {} answered, {rate:.0}/s of {}/s asked for; {} bursts began late; {} new keys agreed on, {} \
         connections made anew",
        counts.sent, counts.answered, load.rate, counts.late, counts.new_keys, counts.reconnected
    );
    finished?;
    let (Seen { memory: first, new_keys: before }, Seen { memory: last, new_keys }) =
        flat.ok_or("too short to tell whether memory stays what it is: take more --seconds")?;
    let bound = (first as f64 * GROWTH) as u64 + SLACK + (new_keys - before) * KEY_BEFORE;
    println!(
        "memory from {:.1} to {:.1} MiB since a quarter of the time; {:.1} MiB more would be permitted",
        first as f64 / MIB,
        last as f64 / MIB,
        bound as f64 / MIB
    );
    if last > first + bound {
        return Err("memory grew".into());
    }
    if rate < RATE * load.rate as f64 {
        return Err("this machine is too slow for the rate: ask for less".into());
    }
    Ok(())
}

/// What there was at one moment.
#[derive(Clone, Copy)]
struct Seen {
    memory: u64,
    new_keys: u64,
}

/// Prints a line now and then until the end. Yields what there was after a quarter of the time and at the end.
async fn watch(running: &Running, (begin, end): (Instant, Instant)) -> Option<(Seen, Seen)> {
    println!(
        "| s | new keys | made anew | messages/s | MiB resident | CPU cores |\n|---:|---:|---:|---:|---:|---:|"
    );
    let quarter = begin + (end - begin) / 4;
    let (mut first, mut last) = (None, None);
    let (mut time, mut answered, mut cpu) = (begin, 0, cpu_time());
    while time < end {
        sleep(REPORT_EVERY.min(end - time)).await;
        let (now, counts, used, memory) = (Instant::now(), running.counts(), cpu_time(), rss()?);
        let seconds = (now - time).as_secs_f64();
        println!(
            "| {:.0} | {} | {} | {:.0} | {:.1} | {:.2} |",
            (now - begin).as_secs_f64(),
            counts.new_keys,
            counts.reconnected,
            (counts.answered - answered) as f64 / seconds,
            memory as f64 / MIB,
            (used - cpu).as_secs_f64() / seconds
        );
        if now >= quarter {
            let seen = Seen { memory, new_keys: counts.new_keys };
            first = first.or(Some(seen));
            last = Some(seen);
        }
        (time, answered, cpu) = (now, counts.answered, used);
    }
    first.zip(last)
}
