//! `zssp send`.

use tokio::task::spawn_blocking;
use zssp::Connection;

use crate::{
    args,
    connect::connect,
    console::Console,
    exit::{Exit, Failure},
    interrupt::Interrupt,
    key_file,
    place::Seen,
    progress::{Progress, Tally},
    purpose::Purpose,
    transfer::{
        run::{self, Broken},
        sender::{Event, Outcome, Sender},
        source::{BadPath, Disk, Plan, Skipped},
    },
};

pub(crate) async fn send(args: args::Send, console: &Console) -> Result<Exit, Failure> {
    let args::Send { key, to, timeout: patience, paths } = args;
    let key = key_file::load(&key)?;
    let mut interrupt = Interrupt::install()?;

    let scan = spawn_blocking(move || {
        let mut skipped = Vec::new();
        Disk::scan(&paths, &mut skipped).map(|(disk, plan)| (disk, plan, skipped))
    });
    let (disk, plan, skipped) = tokio::select! {
        scanned = scan => scanned.map_err(|panic| Failure::new(Exit::Local, panic.to_string()))??,
        exit = interrupt.wait() => return Ok(exit),
    };
    let mut incomplete = false;
    for Skipped { path, why } in skipped {
        incomplete |= why.is_failure();
        console.warn(format_args!("{} is left out: {why}", escaped(&path)));
    }

    let connection = tokio::select! {
        connected = connect(key, &to, patience, Purpose::Transfer) => connected?,
        exit = interrupt.wait() => return Ok(exit),
    };
    let peer = to.key.short();
    console.note(format_args!(
        "connected to {peer} at {} with {}",
        Seen(connection.remote_address()),
        connection.suite()
    ));
    let progress = Progress::new(console, format!("to {peer}"), plan.bytes);
    let (tally, result) = transfer(&connection, (disk, plan), progress, interrupt, console).await?;
    run::say_goodbye(&connection, result.as_ref().err()).await;
    console.detail(run::wire_summary(&connection.stats()));

    if matches!(result, Ok(Outcome::Complete)) {
        console.summary(format_args!("sent {} to {peer}, {}", tally.amount(), connection.suite()));
    }
    match result {
        Ok(Outcome::Refused(why)) => {
            Err(Failure::new(Exit::Failed, format!("the receiver did not begin: {why}")))
        }
        Ok(Outcome::Complete) if tally.failed > 0 => Err(Failure::new(
            Exit::Failed,
            format!("{} of the files and folders did not arrive", tally.failed),
        )),
        Ok(Outcome::Complete) if incomplete => Ok(Exit::Failed),
        Ok(Outcome::Complete) => Ok(Exit::Done),
        Err(broken) => Err(Failure::new(
            broken.exit(),
            format!("{broken}; {} of the files had arrived completely", tally.files),
        )),
    }
}

/// Runs the transfer on a thread that may block, and tells the user what happens.
async fn transfer(
    connection: &Connection,
    (disk, plan): (Disk, Plan),
    mut progress: Progress,
    interrupt: Interrupt,
    console: &Console,
) -> Result<(Tally, Result<Outcome, Broken>), Failure> {
    let (channel, console) = (run::channel(connection), console.clone());
    let work = spawn_blocking(move || {
        let sender = Sender::new(disk, plan, run::message_size(&channel));
        let result = run::send(&channel, sender, interrupt, |event| match event {
            Event::Streamed { bytes } => progress.advance(bytes),
            Event::Stored { path, size } => {
                progress.stored(size);
                console.detail(format_args!("{path}"));
            }
            Event::Failed { path, why } => {
                progress.failed(1);
                console.error(format_args!("{path}: {why}"));
            }
            Event::NotReached { count } => {
                progress.failed(count as u64);
                console.error(format_args!("{count} more were not sent for the same reason"));
            }
        });
        (progress.tally(), result)
    });
    work.await.map_err(|panic| Failure::new(Exit::Local, panic.to_string()))
}

fn escaped(path: &std::path::Path) -> String {
    use crate::transfer::names::Printable;
    Printable(path.as_os_str().as_encoded_bytes()).to_string()
}

impl From<BadPath> for Failure {
    fn from(bad: BadPath) -> Self {
        let exit = if matches!(bad, BadPath::SameName { .. }) { Exit::Usage } else { Exit::Local };
        Self::new(exit, bad.to_string())
    }
}
