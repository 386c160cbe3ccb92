//! One task for a connection against several: on one core several cannot help and must not cost anything either, on more
//! they may do both.

use std::io::ErrorKind;
use std::process::{Command, Stdio};

use crate::measure::Failure;
use crate::report::{self, Figure, Row};
use crate::zssp_side::Pair;

/// What the program is asked for when it has so many cores only: the measurement itself.
pub(crate) const HERE: &str = "tasks-here";

/// How many cores, which ones, and where in the document their table is.
const TABLES: [(usize, &str, &str); 2] = [(1, "0", "one core"), (2, "0,1", "two cores")];

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

/// Runs this program on one core and on two, prints the tables and puts them into the document.
pub(crate) fn publish() -> Result<(), Failure> {
    for (cores, list, section) in TABLES {
        publish_on(cores, list, section)?;
    }
    Ok(())
}

fn publish_on(cores: usize, list: &str, section: &str) -> Result<(), Failure> {
    let stays = |why| eprintln!("{section}: not measured, and its table stays as it is: {why}");
    if std::thread::available_parallelism()?.get() < cores {
        stays("there are fewer here");
        return Ok(());
    }
    eprintln!("{section}");
    let program = std::env::current_exe()?;
    let mut command = Command::new("taskset");
    command.args(["-c", list]).arg(program).args([HERE, &cores.to_string()]);
    let output = match command.stderr(Stdio::inherit()).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            stays("there is no `taskset` (util-linux) here");
            return Ok(());
        }
        output => output?,
    };
    if !output.status.success() {
        return Err(format!("the measurement on {section} has failed: {}", output.status).into());
    }
    report::replace(section, &method(list, section), &String::from_utf8(output.stdout)?)
}

/// The measurement, on however many cores there are: prints the table.
pub(crate) async fn measure() -> Result<(), Failure> {
    let mut rows = Vec::new();
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS}");
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

fn method(list: &str, section: &str) -> String {
    format!(
        "The measurements of the endpoint in a process of its own that has {section} (`taskset -c {list}`) and as many threads for\n\
         tokio, each of the two sides with one task that receives and one that sends, or with {SEVERAL} of each\n\
         (`Builder::receive_tasks`, `Builder::send_tasks`); the medians of {ROUNDS} rounds in which the two take turns, the\n\
         ratio that of the ratios of each round, one task to four.",
    )
}
