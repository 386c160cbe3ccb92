//! `zssp send`.

use std::{
    fmt::Write,
    path::Path,
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    task::spawn_blocking,
    time::{sleep, timeout},
};
use zssp::Connection;

use crate::{
    args,
    connect::{Caller, connect, expect_another},
    console::Console,
    exit::{Exit, Failure},
    interrupt::Interrupt,
    key_file,
    place::Seen,
    progress::{Progress, Tally},
    purpose::Purpose,
    ratchets::Ratchets,
    transfer::{
        names::Printable,
        run::{self, Broken},
        sender::Job,
        source::{BadPath, Disk, Plan, Skipped},
    },
};

/// Between two attempts to connect that failed at once.
const PAUSE: Duration = Duration::from_millis(500);
/// A connection is not given up for less.
const SHORTEST_SILENCE: Duration = Duration::from_secs(1);

pub(crate) async fn send(args: args::Send, console: &Console) -> Result<Exit, Failure> {
    let key = key_file::load(&args.key)?;
    expect_another(&key, &args.to)?;
    let ratchets = Ratchets::open(&args.remember, console)?;
    let mut interrupt = Interrupt::install()?;

    let paths = args.paths.clone();
    let scan = spawn_blocking(move || {
        let mut skipped = Vec::new();
        Disk::scan(&paths, &mut skipped).map(|(disk, plan)| (disk, plan, skipped))
    });
    let (disk, plan, skipped) = tokio::select! {
        scanned = scan => scanned.map_err(|panic| Failure::new(Exit::Local, panic.to_string()))??,
        exit = interrupt.wait() => return Ok(exit),
    };
    let mut left_out = 0u64;
    for Skipped { path, why } in skipped {
        let line = format!("{} is left out: {why}", escaped(&path));
        if why.is_failure() {
            left_out += 1;
            console.error(line);
        } else {
            console.warn(line);
        }
    }

    let identity = Purpose::Transfer.identity_of(&key.to_bytes(), &words(&args));
    // Of the user's patience, a part is for finding out that the connection is gone, and the rest for making another.
    let silence = (args.timeout / 3).max(SHORTEST_SILENCE).min(args.timeout);
    let caller = Caller { key, purpose: Purpose::Transfer, identity, silence, ratchets };
    let shipment = Shipment { caller, interrupt, console: console.clone(), args };
    let peer = shipment.args.to.key.short();
    let (tally, result) = shipment.deliver(disk, plan).await?;
    match result {
        Ok(suite) => {
            console.summary(format_args!("sent {} to {peer}, {suite}", tally.amount()));
            shortcomings(&tally, left_out)
                .map_or(Ok(Exit::Done), |message| Err(Failure::new(Exit::Failed, message)))
        }
        Err((exit, why)) => Err(Failure::new(
            exit,
            format!(
                "{why}; {} of the files had arrived completely. To send the rest, run it again:\n  {}",
                tally.files,
                shipment.command()
            ),
        )),
    }
}

/// What the user asked for and did not get, if there is such a thing.
fn shortcomings(tally: &Tally, left_out: u64) -> Option<String> {
    let counts = [
        (tally.failed, "did not arrive"),
        (left_out, "could not be sent at all"),
        (tally.changed, "changed while they were sent"),
    ];
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let counts: Vec<_> = counts.map(|(count, what)| format!("{count} {what}")).collect();
    (!counts.is_empty()).then(|| {
        format!(
            "of the files and folders, {}. Once that is mended, the same command sends what is missing",
            counts.join(", ")
        )
    })
}

/// What is to be sent, to whom, and how.
struct Shipment {
    caller: Caller,
    interrupt: Interrupt,
    console: Console,
    args: args::Send,
}

/// How it came out: the suite of the last connection, or what is told to the user.
type Outcome = Result<zssp::Suite, (Exit, String)>;

impl Shipment {
    /// Sends everything, over as many connections as it takes.
    async fn deliver(&self, disk: Disk, plan: Plan) -> Result<(Tally, Outcome), Failure> {
        let (patience, peer) = (self.args.timeout, self.args.to.key.short());
        let mut interrupt = self.interrupt.clone();
        let mut connection = tokio::select! {
            connected = connect(&self.caller, &self.args.to, patience) => connected?,
            exit = interrupt.wait() => return Ok((Tally::default(), Err((exit, "interrupted".into())))),
        };
        let mut progress = Progress::new(&self.console, format!("to {peer}"), plan.bytes);
        let mut job = Job::new(disk, plan);
        let mut moved = 0;
        let mut deadline = Instant::now() + patience;
        loop {
            self.console.note(format_args!(
                "connected to {peer} at {} with {}",
                Seen(connection.remote_address()),
                connection.suite()
            ));
            let result;
            (job, progress, result) = self.transfer(&connection, job, progress).await?;
            progress.broken();
            run::say_goodbye(&connection, result.as_ref().err()).await;
            self.console.detail(run::wire_summary(&connection.stats()));
            let broken = match result {
                Ok(()) => return Ok((progress.tally(), Ok(connection.suite()))),
                Err(broken) if broken.is_the_road() => broken,
                Err(broken) => return Ok((progress.tally(), Err((broken.exit(), broken.to_string())))),
            };
            // A road that lets something through deserves another attempt; one that lets nothing through, only for so long.
            let tally = progress.tally();
            if tally.moved > moved {
                deadline = Instant::now() + patience - self.caller.silence.min(patience);
                moved = tally.moved;
            }
            self.console.note(format_args!("{broken}; connecting again"));
            connection = match self.connect_until(deadline, &broken).await {
                Ok(connection) => connection,
                Err(end) => return Ok((progress.tally(), Err(end))),
            };
        }
    }

    /// Connects again, until there is no time left.
    async fn connect_until(&self, deadline: Instant, broken: &Broken) -> Result<Connection, (Exit, String)> {
        let mut interrupt = self.interrupt.clone();
        let attempts = async {
            loop {
                let left = deadline.saturating_duration_since(Instant::now()).max(SHORTEST_SILENCE);
                match connect(&self.caller, &self.args.to, left).await {
                    Ok(connection) => return Ok(connection),
                    Err(failure) if failure.exit == Exit::Refused => {
                        return Err((failure.exit, failure.to_string()));
                    }
                    Err(_) => sleep(PAUSE).await,
                }
            }
        };
        let left = deadline.saturating_duration_since(Instant::now()).max(SHORTEST_SILENCE);
        tokio::select! {
            exit = interrupt.wait() => Err((exit, "interrupted".into())),
            connected = timeout(left, attempts) => connected.unwrap_or_else(|_| {
                let seconds = self.args.timeout.as_secs();
                Err((broken.exit(), format!("{broken}, and did not answer again within {seconds} seconds")))
            }),
        }
    }

    /// Sends what is left over one connection, on a thread that may block.
    async fn transfer(
        &self,
        connection: &Connection,
        mut job: Job<Disk>,
        mut progress: Progress,
    ) -> Result<(Job<Disk>, Progress, Result<(), Broken>), Failure> {
        let (connection, interrupt, runtime) =
            (connection.clone(), self.interrupt.clone(), Handle::current());
        let work = spawn_blocking(move || {
            let sending = job.send(&connection, interrupt, |event| progress.observe(event));
            let result = runtime.block_on(sending);
            (job, progress, result)
        });
        work.await.map_err(|panic| Failure::new(Exit::Local, panic.to_string()))
    }

    /// The command that goes on with what is not sent, for a shell.
    fn command(&self) -> String {
        let args::Send { key, to, timeout, remember, paths } = &self.args;
        let (key, to) = (word(key), quoted(&to.to_string()));
        let mut command = format!("zssp send --key {key} --to {to} --timeout {}", timeout.as_secs());
        if let Some(file) = &remember.ratchets {
            command.push_str(" --ratchets ");
            command.push_str(&word(file));
        }
        if remember.policy == args::Policy::Persistent {
            command.push_str(" --policy persistent");
        }
        command.push_str(" --");
        for path in paths {
            command.push(' ');
            command.push_str(&word(path));
        }
        command
    }
}

/// What tells this command from others with the same key.
fn words(args: &args::Send) -> Vec<u8> {
    let mut words = Vec::from(args.to.key.0.as_bytes().as_slice());
    for path in &args.paths {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        words.extend_from_slice(path.as_os_str().as_encoded_bytes());
        words.push(0);
    }
    words
}

/// A text as one word of a POSIX shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.into()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// A path as one word of a POSIX shell; what a terminal must not be shown, in the quotes that have escapes (since 2024).
fn word(path: &Path) -> String {
    let (bytes, shown) = (path.as_os_str().as_encoded_bytes(), escaped(path));
    if shown.as_bytes() == bytes {
        return quoted(&shown);
    }
    let mut word = String::from("$'");
    for byte in bytes {
        match byte {
            b'\'' | b'\\' | ..b' ' | b'\x7f'.. => write!(word, "\\{byte:03o}").expect("a string takes all"),
            plain => word.push(char::from(*plain)),
        }
    }
    word.push('\'');
    word
}

fn escaped(path: &Path) -> String {
    Printable(path.as_os_str().as_encoded_bytes()).to_string()
}

impl From<BadPath> for Failure {
    fn from(bad: BadPath) -> Self {
        let exit = if matches!(bad, BadPath::SameName { .. } | BadPath::Twice { .. }) {
            Exit::Usage
        } else {
            Exit::Local
        };
        Self::new(exit, bad.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_one_word_for_a_shell() {
        for (text, word) in [
            ("a/b.iso", "a/b.iso"),
            ("two words", "'two words'"),
            ("it's", r"'it'\''s'"),
            ("$HOME", "'$HOME'"),
        ] {
            assert_eq!(quoted(text), word);
        }
    }

    #[test]
    #[cfg(unix)]
    fn an_odd_path_is_what_a_shell_reads_in_its_word() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt, process::Command};
        let odd: [&[u8]; 4] =
            [b"new\nline 7", b"\xFF\\n it's", "\u{202e}gpj.exe".as_bytes(), "Gr\u{fc}\u{df}e".as_bytes()];
        for path in odd {
            let word = word(Path::new(OsStr::from_bytes(path)));
            assert!(!word.contains(char::is_control), "{word:?}");
            // Not every `sh` has these quotes yet.
            let Ok(read) = Command::new("bash").arg("-c").arg(format!("printf %s {word}")).output() else {
                return;
            };
            assert_eq!(read.stdout, path, "{word}");
        }
    }
}
