//! One task for a connection against several, on one core: what cannot help there must not cost anything either.

use std::io::ErrorKind;
use std::process::{Command, Stdio};

use crate::measure::Failure;
use crate::report::{self, Figure, Row};
use crate::zssp_side::Pair;

/// What the program is asked for when it has one core only: the measurement itself.
pub(crate) const HERE: &str = "one-core-here";

/// Tasks that receive, and as many that send, where there are several.
const SEVERAL: usize = 4;

/// How often both are measured; the median counts.
const ROUNDS: usize = 9;

const FIGURES: [Figure; 6] = [
    report::rate("bulk"),
    report::cost("bulk"),
    report::rate("datagrams of 1200 B"),
    report::cost("datagrams of 1200 B"),
    report::frequency("requests"),
    report::cost_each("requests"),
];

/// Runs this program on one core, prints its table and puts it into the document.
pub(crate) fn publish() -> Result<(), Failure> {
    let program = std::env::current_exe()?;
    let child =
        Command::new("taskset").args(["-c", "0"]).arg(program).arg(HERE).stderr(Stdio::inherit()).output();
    let output = match child {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!(
                "one core is not measured, and its table stays as it is: there is no `taskset` (util-linux) here"
            );
            return Ok(());
        }
        output => output?,
    };
    if !output.status.success() {
        return Err(format!("the measurement on one core has failed: {}", output.status).into());
    }
    report::replace("one core", &method(), &String::from_utf8(output.stdout)?)
}

/// The measurement, on however many cores there are: prints the table.
pub(crate) async fn measure() -> Result<(), Failure> {
    let mut rows = Vec::new();
    for round in 1..=ROUNDS {
        eprintln!("one core, round {round} of {ROUNDS}");
        let (one, several) = (Pair::connect_with_tasks(1).await?, Pair::connect_with_tasks(SEVERAL).await?);
        let (first, second) = (one.bulk().await?, several.bulk().await?);
        rows.push(Row::new("bulk", first, Some(second)));
        let (first, second) = (one.datagrams(1200).await?, several.datagrams(1200).await?);
        rows.push(Row::new("datagrams of 1200 B", first, Some(second)));
        let (first, second) = (one.requests().await?, several.requests().await?);
        rows.push(Row::new("requests", first, Some(second)));
    }
    print!("{}", report::table(["one task", "four tasks"], &FIGURES, &rows)?);
    Ok(())
}

fn method() -> String {
    format!(
        "The same measurements in a process of its own that has one core (`taskset -c 0`) and one thread for tokio, each of\n\
         the two sides with one task that receives and one that sends, or with {SEVERAL} of each (`Builder::receive_tasks`,\n\
         `Builder::send_tasks`); the medians of {ROUNDS} rounds in which the two take turns, the ratio that of the ratios of\n\
         each round, one task to four. Several cannot help there; the aim is that they are not slower.",
    )
}
