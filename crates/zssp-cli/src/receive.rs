//! `zssp receive`.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::{
    task::{JoinSet, spawn_blocking},
    time::timeout,
};
use zssp::{Connection, Endpoint, Incoming};

use crate::{
    args,
    console::Console,
    exit::{Exit, Failure},
    guests::Guests,
    interrupt::Interrupt,
    key_file,
    place::Listening,
    progress::{Progress, Tally},
    public_key_text::PublicKeyText,
    purpose::Purpose,
    transfer::{
        receiver::Event,
        run::{self, Broken, CloseCode, GOODBYE},
        sink::{Durability, Existing, Folder},
    },
    values::Allowed,
};

/// Transfers at the same time at most; more senders are refused.
const MAX_TRANSFERS: usize = 64;

/// What every transfer needs to know.
struct Service {
    folder: Folder,
    guests: Guests,
    once: bool,
    patience: Duration,
    interrupt: Interrupt,
    console: Console,
}

pub(crate) async fn receive(args: args::Receive, console: &Console) -> Result<Exit, Failure> {
    let key = key_file::load(&args.key)?;
    let folder = open_folder(&args)?;
    let interrupt = Interrupt::install()?;
    let public = PublicKeyText(key.public_key());
    let builder = Endpoint::builder(key).give_up_after(args.timeout);
    let Listening { endpoint, at, for_others } = Listening::start(builder, args.listen).await?;
    if args.allow.contains(&Allowed::Anybody) {
        console.warn("everybody who knows this public key and address may send files here (--allow any)");
    }
    console.summary(format_args!("listening on {at}"));
    console.note(format_args!("send here with: zssp send --key FILE --to {public}@{for_others} PATH…"));

    let args::Receive { allow, once, timeout: patience, .. } = args;
    let places = if once { 1 } else { MAX_TRANSFERS };
    let guests = Guests { allow, purpose: Purpose::Transfer, places, console: console.clone() };
    let service = Service { folder, guests, once, patience, interrupt, console: console.clone() };
    let exit = serve(&endpoint, Arc::new(service)).await;
    endpoint.close(CloseCode::Interrupted as u32, b"the receiver is shutting down");
    // Peers that are gone cannot be waited for.
    let _ = timeout(GOODBYE, endpoint.wait_idle()).await;
    Ok(exit)
}

/// Accepts senders until the user or `--once` ends it.
async fn serve(endpoint: &Endpoint, service: Arc<Service>) -> Exit {
    let mut interrupt = service.interrupt.clone();
    let mut transfers = JoinSet::new();
    loop {
        tokio::select! {
            // In this order: a transfer that the interruption has ended must not be mistaken for one that is over.
            biased;
            exit = interrupt.wait() => {
                // Idle, this is how the command is meant to end. Transfers notice by themselves, and clean up.
                let busy = !transfers.is_empty();
                let _ = timeout(GOODBYE * 2, transfers.join_all()).await;
                return if busy { exit } else { Exit::Done };
            }
            Some(ended) = transfers.join_next(), if !transfers.is_empty() => {
                // A task that panicked has said so itself; `None` is a sender that never got as far as connecting.
                let exit = ended.unwrap_or(Some(Exit::Failed));
                if let (true, Some(exit)) = (service.once, exit) {
                    return exit;
                }
            }
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else { return Exit::Local };
                if service.guests.welcomes(&incoming, transfers.len()) {
                    transfers.spawn(Arc::clone(&service).take(incoming));
                } else {
                    incoming.refuse();
                }
            }
        }
    }
}

impl Service {
    /// One sender, from its acceptance to its end; `None` if no connection came about.
    async fn take(self: Arc<Self>, incoming: Incoming) -> Option<Exit> {
        let peer = PublicKeyText(incoming.peer_key()).short();
        let connection = self.guests.admit(incoming).await?;
        let (tally, result) = self.transfer(&connection, &peer).await;
        match &result {
            // The sender has the last word, and closes when it has heard ours.
            Ok(()) => drop(timeout(GOODBYE, connection.closed()).await),
            Err(broken) => run::say_goodbye(&connection, Some(broken)).await,
        }
        self.console.detail(run::wire_summary(&connection.stats()));
        Some(self.conclude(&peer, tally, result, connection.suite()))
    }

    async fn transfer(&self, connection: &Connection, peer: &str) -> (Tally, Result<(), Broken>) {
        let (channel, console, patience) = (run::channel(connection), self.console.clone(), self.patience);
        let (folder, interrupt) = (self.folder.clone(), self.interrupt.clone());
        let label = format!("from {peer}");
        let work = spawn_blocking(move || {
            let mut progress = Progress::new(&console, label, 0);
            let result = run::receive(&channel, folder, patience, interrupt, |event| match event {
                Event::Started { bytes, .. } => progress.expect(bytes),
                Event::Written { bytes } => progress.advance(bytes),
                Event::Stored { path, size } => {
                    progress.stored(size);
                    console.detail(format_args!("{path}"));
                }
                Event::Refused { path, why } => {
                    progress.failed(1);
                    match path {
                        Some(path) => console.error(format_args!("{path}: {why}")),
                        None => console.error(format_args!("something from this sender: {why}")),
                    }
                }
                Event::Finished => {}
            });
            (progress.tally(), result)
        });
        work.await.unwrap_or_else(|panic| (Tally::default(), Err(Broken::Violation(panic.to_string()))))
    }

    fn conclude(&self, peer: &str, tally: Tally, result: Result<(), Broken>, suite: zssp::Suite) -> Exit {
        match result {
            Ok(()) => {
                self.console.summary(format_args!("received {} from {peer}, {suite}", tally.amount()));
                if tally.failed == 0 {
                    return Exit::Done;
                }
                self.console.error(format_args!("{} of the files and folders were not taken", tally.failed));
                Exit::Failed
            }
            Err(broken) => {
                self.console.error(format_args!(
                    "the transfer from {peer} ended early: {broken}; {} of its files are complete, what was unfinished is removed",
                    tally.files
                ));
                broken.exit()
            }
        }
    }
}

fn open_folder(args: &args::Receive) -> Result<Folder, Failure> {
    let existing = if args.overwrite { Existing::Replace } else { Existing::Keep };
    let durability = if args.flush { Durability::Flushed } else { Durability::Cached };
    let failure = |what: &str, dir: &Path, why: std::io::Error| {
        let dir = dir.display();
        let advice = match why.kind() {
            std::io::ErrorKind::NotFound => format!(". Make it with: mkdir {dir}"),
            _ => String::new(),
        };
        Failure::new(Exit::Local, format!("the folder `{dir}` cannot be {what}: {why}{advice}"))
    };
    let folder =
        Folder::open(&args.dir, existing, durability).map_err(|why| failure("opened", &args.dir, why))?;
    folder.probe().map_err(|why| failure("written to", &args.dir, why))?;
    Ok(folder)
}
