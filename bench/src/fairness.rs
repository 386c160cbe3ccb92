//! How two flows share a bottleneck, on a simulated network: the same figures on every machine.

use std::fmt::Write as _;

use zssp_fairness::{PAIRS, RATE, ROUND_TRIP, STARTS, Shares, mean, shares};

use crate::measure::Failure;
use crate::report;

/// Prints the table and puts it into the document.
pub(crate) fn publish() -> Result<(), Failure> {
    let mut table = String::from(
        "| first and second flow | share of the road | Jain's index | the least of single beginnings |\n|---|---|---:|---:|\n",
    );
    for pair in PAIRS {
        let single = STARTS.map(|start| shares(pair, start));
        let mean = mean(&single);
        let ([first, second], [a, b]) = (pair, mean.0.map(|share| share * 100.0));
        let least = single.map(Shares::index).into_iter().fold(1.0, f64::min);
        writeln!(table, "| {first}, {second} | {a:.1} %, {b:.1} % | {:.3} | {least:.3} |", mean.index())?;
    }
    report::replace("fairness", &method(), &table)
}

fn method() -> String {
    let starts = STARTS.map(|start| format!("{:.3} s", start as f64 / 1e3)).join(", ");
    format!(
        "Two flows that always have something to send share a bottleneck of {} Mbit/s with a round trip of {} ms and a\n\
         queue of as many bytes as fill the road, on a simulated network with a virtual clock. The second comes {starts}\n\
         after the first, and the minute that begins ten seconds later counts: the shares are the mean of the three\n\
         beginnings, and the index is that of the mean. CUBIC and NewReno are streams of ours, and their share is what the\n\
         application reads; a textbook's flow is one datagram at a time and paces nothing, and its share is that of all its\n\
         datagrams. The aim is an index of 0.9.",
        RATE * 8 / 1_000_000,
        ROUND_TRIP.as_millis(),
    )
}
