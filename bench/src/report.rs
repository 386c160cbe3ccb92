//! The table, for people.

use std::fmt::Write as _;
use std::path::Path;

use crate::floor;
use crate::measure::{AT_ONCE, BULK, Failure, Sample};
use crate::memory::{CONNECTIONS, ENDPOINTS};

/// How often everything is measured; the medians count.
pub(crate) const ROUNDS: usize = 9;

const GIB: f64 = (1 << 30) as f64;
const MIB: f64 = (1 << 20) as f64;

/// One measurement of both.
pub(crate) struct Row {
    what: &'static str,
    first: Sample,
    second: Option<Sample>,
}

impl Row {
    pub(crate) fn new(what: &'static str, first: Sample, second: Option<Sample>) -> Self {
        Self { what, first, second }
    }
}

/// A line of a table: what was measured, and a figure made of it.
pub(crate) struct Figure {
    pub(crate) what: &'static str,
    unit: &'static str,
    of: fn(&Sample) -> f64,
}

pub(crate) const fn rate(what: &'static str) -> Figure {
    Figure { what, unit: "MiB/s", of: |s| s.bytes as f64 / MIB / s.time.as_secs_f64() }
}

pub(crate) const fn cost(what: &'static str) -> Figure {
    Figure { what, unit: "CPU-seconds per GiB", of: |s| s.cpu.as_secs_f64() / (s.bytes as f64 / GIB) }
}

pub(crate) const fn frequency(what: &'static str) -> Figure {
    Figure { what, unit: "per second", of: |s| s.count as f64 / s.time.as_secs_f64() }
}

pub(crate) const fn cost_each(what: &'static str) -> Figure {
    Figure { what, unit: "CPU-microseconds each", of: |s| s.cpu.as_secs_f64() * 1e6 / s.count as f64 }
}

pub(crate) const MEMORY: Figure = Figure {
    what: "idle connection",
    unit: "KiB, both ends",
    of: |s| s.bytes as f64 / 1024.0 / s.count as f64,
};

const FIGURES: [Figure; 11] = [
    rate("bulk"),
    cost("bulk"),
    rate("datagrams of 1200 B"),
    cost("datagrams of 1200 B"),
    rate("datagrams of 60 KiB"),
    cost("datagrams of 60 KiB"),
    frequency("requests"),
    cost_each("requests"),
    frequency("handshakes"),
    Figure {
        what: "handshakes",
        unit: "CPU-milliseconds each",
        of: |s| s.cpu.as_secs_f64() * 1e3 / s.count as f64,
    },
    MEMORY,
];

/// Prints the tables and puts them into the document.
pub(crate) fn publish(rows: &[Row]) -> Result<(), Failure> {
    let beside_quinn = table(["zssp", "quinn"], &FIGURES, rows)?;
    let beside_floor = table(floor::HEADS, &floor::FIGURES, rows)?;
    replace("endpoint", &method(), &format!("{beside_quinn}\n{beside_floor}"))
}

/// The table of the medians of `rows`.
pub(crate) fn table(heads: [&str; 2], figures: &[Figure], rows: &[Row]) -> Result<String, Failure> {
    let [first, second] = heads;
    let mut table = format!("| what | unit | {first} | {second} | ratio |\n|---|---|---:|---:|---:|\n");
    for Figure { what, unit, of } in figures {
        let rounds = rows.iter().filter(|row| row.what == *what);
        let pairs: Vec<_> = rounds.map(|row| (of(&row.first), row.second.as_ref().map(of))).collect();
        let first = median(pairs.iter().map(|(first, _)| *first).collect());
        let second = median(pairs.iter().filter_map(|(_, second)| *second).collect());
        let show =
            |figure: Option<f64>| figure.map_or("no such thing".into(), |figure| format!("{figure:.2}"));
        // The two of one round met the same machine.
        let ratios = pairs.iter().filter_map(|(first, second)| Some(first / (*second)?));
        let ratio = median(ratios.collect()).map_or(String::new(), |ratio| format!("{ratio:.2}"));
        writeln!(table, "| {what} | {unit} | {} | {} | {ratio} |", show(first), show(second))?;
    }
    Ok(table)
}

/// Prints a table, and puts it into its place in the document, below the method.
pub(crate) fn replace(section: &str, method: &str, table: &str) -> Result<(), Failure> {
    print!("{table}");
    let start = format!("<!-- {section}: written by the benchmark -->");
    let end = format!("<!-- end of {section} -->");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/performance.md");
    let document = std::fs::read_to_string(&path)?;
    let (before, rest) = document.split_once(&start).ok_or("the document has no place for the table")?;
    let (_, after) = rest.split_once(&end).ok_or("the place for the table does not end")?;
    std::fs::write(path, format!("{before}{start}\n\n{method}\n\n{table}\n{end}{after}"))?;
    Ok(())
}

fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}

fn method() -> String {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, model)| model);
    format!(
        "Measured on {cpus} cores of {model}, {}, by `cargo run --release -p bench`: both ends in one process, over\n\
         UDP on loopback, a tokio runtime of two threads, each library with its defaults and AWS-LC for cryptography; the\n\
         medians of {ROUNDS} rounds in which the two take turns, the ratio that of the ratios of each round. Bulk is one stream of\n\
         {} MiB. Requests are 64 bytes each way, {AT_ONCE} at a time: messages of a channel here, a stream for each there. Of\n\
         datagrams, those count that arrived; sending does not wait for the receiver. Quinn holds datagrams to its\n\
         congestion window; ours bypass it, and those of 60 KiB have an MTU of 1400. A handshake includes closing; ours has a\n\
         post-quantum key exchange besides P-384. CPU time is that of both ends together. An idle connection has had one\n\
         request and its reply, and two seconds of rest: what resident memory grows by when {CONNECTIONS} are made one after the\n\
         other, between {ENDPOINTS} endpoints and {ENDPOINTS} others that are in use already, in processes that do nothing else.\n\
         The floor of bulk takes turns with both: two threads, one of which seals payloads of {} KiB and sends each with one\n\
         call, as a run of datagrams, and one of which receives and opens them, with AWS-LC and the system and nothing\n\
         of a protocol: no headers, no copies, no acknowledgements. The sender stays {} payloads ahead, so nothing is lost.",
        std::env::consts::OS,
        BULK >> 20,
        floor::PAYLOAD >> 10,
        floor::AHEAD,
    )
}
