//! `zssp receive`.

use std::{collections::HashMap, path::Path, sync::Arc};

use tokio::{
    runtime::Handle,
    task::{JoinSet, spawn_blocking},
    time::timeout,
};
use zssp::{CloseReason, Connection, Endpoint, Incoming, PublicKey};

use crate::{
    args,
    connect::patient,
    console::Console,
    exit::{Exit, Failure},
    guests::{Door, Guests},
    interrupt::Interrupt,
    key_file,
    place::Listening,
    progress::{Progress, Tally},
    public_key_text::PublicKeyText,
    purpose::Purpose,
    ratchets::{Ratchets, anybody, kept},
    transfer::{
        receiver,
        run::{self, Broken, Code, GOODBYE},
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
    interrupt: Interrupt,
    console: Console,
}

pub(crate) async fn receive(args: args::Receive, console: &Console) -> Result<Exit, Failure> {
    let key = key_file::load(&args.key)?;
    let folder = open_folder(&args)?;
    let interrupt = Interrupt::install()?;
    let public = PublicKeyText(key.public_key());
    let ratchets = Ratchets::open(&args.remember, console)?;
    let builder = kept(patient(Endpoint::builder(key), args.timeout), ratchets.as_ref());
    let Listening { endpoint, at, for_others } = Listening::start(builder, args.listen).await?;
    if args.allow.contains(&Allowed::Anybody) {
        console.warn(format_args!("{} may send files here (--allow any)", anybody(ratchets.as_ref())));
    }
    let unwelcome = match &ratchets {
        Some(ratchets) => ratchets.guard(&endpoint, &args.allow)?,
        None => None,
    };
    console.summary(format_args!("listening on {at}"));
    console.note(format_args!("send here with: zssp send --key FILE --to {public}@{for_others} PATH…"));

    let args::Receive { allow, once, .. } = args;
    let places = if once { 1 } else { MAX_TRANSFERS };
    let door = Door::from(ratchets.as_ref());
    let guests = Guests { allow, purpose: Purpose::Transfer, places, door, console: console.clone() };
    let service = Service { folder, guests, once, interrupt, console: console.clone() };
    let exit = serve(&endpoint, Arc::new(service)).await;
    endpoint.close(Code::Interrupted as u32, b"the receiver is shutting down");
    // Peers that are gone cannot be waited for.
    let _ = timeout(GOODBYE, endpoint.wait_idle()).await;
    if let Some(unwelcome) = unwelcome {
        unwelcome.tell();
    }
    Ok(exit)
}

/// Accepts senders until the user or `--once` ends it.
async fn serve(endpoint: &Endpoint, service: Arc<Service>) -> Exit {
    let mut interrupt = service.interrupt.clone();
    let mut transfers = JoinSet::new();
    let mut names = HashMap::new();
    // A transfer that was interrupted may be over before this loop hears of the interruption.
    let mut interrupted = false;
    loop {
        tokio::select! {
            biased;
            exit = interrupt.wait() => {
                // Idle, this is how the command is meant to end. Transfers notice by themselves.
                let busy = interrupted || !transfers.is_empty();
                let _ = timeout(GOODBYE * 2, transfers.join_all()).await;
                return if busy { exit } else { Exit::Done };
            }
            Some(ended) = transfers.join_next_with_id(), if !transfers.is_empty() => {
                let (id, exit) = match ended {
                    Ok(ended) => ended,
                    // A task that panicked has said so itself.
                    Err(panic) => (panic.id(), Some(Exit::Failed)),
                };
                names.remove(&id);
                interrupted |= matches!(exit, Some(Exit::Interrupted | Exit::Terminated));
                if let (true, Some(exit)) = (service.once, exit) {
                    return exit;
                }
            }
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else { return Exit::Local };
                let name = service.guests.door.name_of(&incoming);
                // One that comes again, after its connection broke, takes the place that it has.
                let others = names.values().filter(|other| **other != name).count();
                if let Some(incoming) = service.guests.screen(incoming, others) {
                    names.insert(transfers.spawn(Arc::clone(&service).take(incoming)).id(), name);
                }
            }
        }
    }
}

impl Service {
    /// One sender, from its acceptance to its end; `None` if no connection came about, or another took its place.
    async fn take(self: Arc<Self>, incoming: Incoming) -> Option<Exit> {
        let key = incoming.peer_key();
        let peer = PublicKeyText(key).short();
        let connection = self.guests.admit(incoming).await?;
        let (tally, result) = self.transfer(&connection, (&peer, &key)).await;
        match &result {
            // The sender has the last word, and closes when it has heard ours.
            Ok(()) => drop(timeout(GOODBYE, connection.closed()).await),
            Err(broken) => run::say_goodbye(&connection, Some(broken)).await,
        }
        self.console.detail(run::wire_summary(&connection.stats()));
        self.conclude(&peer, tally, result, connection.suite())
    }

    async fn transfer(
        &self,
        connection: &Connection,
        (peer, key): (&str, &PublicKey),
    ) -> (Tally, Result<(), Broken>) {
        let (folder, interrupt) = (self.folder.of_sender(key), self.interrupt.clone());
        let mut progress = Progress::new(&self.console, format!("from {peer}"), 0);
        let (connection, runtime) = (connection.clone(), Handle::current());
        let work = spawn_blocking(move || {
            let receiving =
                receiver::receive(&connection, folder, interrupt, |event| progress.observe(event));
            let result = runtime.block_on(receiving);
            (progress.tally(), result)
        });
        work.await.unwrap_or_else(|panic| (Tally::default(), Err(Broken::Violation(panic.to_string()))))
    }

    fn conclude(
        &self,
        peer: &str,
        tally: Tally,
        result: Result<(), Broken>,
        suite: zssp::Suite,
    ) -> Option<Exit> {
        match result {
            Ok(()) => {
                self.console.summary(format_args!("received {} from {peer}, {suite}", tally.amount()));
                if tally.failed == 0 {
                    return Some(Exit::Done);
                }
                self.console.error(format_args!("files and folders that were not taken: {}", tally.failed));
                Some(Exit::Failed)
            }
            Err(Broken::Closed(CloseReason::Replaced)) => {
                self.console.note(format_args!("{peer} has connected anew"));
                None
            }
            Err(broken) => {
                self.console.error(format_args!(
                    "the transfer from {peer} ended early: {broken}; {} of its files are complete, what has arrived of \
                     others is kept: when {peer} sends them again, only the rest is transferred",
                    tally.files
                ));
                Some(broken.exit())
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
