//! The file that keeps what this side has in common with its peers, from one connection to the next.

use std::{
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use zssp::{Builder, Connection, EndpointEvent, PublicKey, Redb, StoreError, store::OpenError};

use crate::{
    args::Remember,
    console::Console,
    exit::{Exit, Failure},
    public_key_text::PublicKeyText,
};

/// Events that may wait to be told.
const EVENTS: usize = 64;
/// A file that cannot be used is tried every second, by each peer, and spoken of only so often.
const PATIENCE: Duration = Duration::from_secs(10);

/// An open file of ratchets, which one process has at a time. Clones are the same file, for endpoints that follow each
/// other.
#[derive(Clone)]
pub(crate) struct Ratchets {
    store: Arc<Redb>,
    file: Arc<PathBuf>,
    console: Console,
    events: mpsc::Sender<EndpointEvent>,
}

impl Ratchets {
    /// Opens the file, or makes it; nothing where the user named none. From then on the user is told when it cannot be
    /// used.
    pub(crate) fn open(remember: &Remember, console: &Console) -> Result<Option<Self>, Failure> {
        let Some(file) = remember.ratchets.clone() else { return Ok(None) };
        let store = Arc::new(Redb::open(&file)?);
        let (events, told) = mpsc::channel(EVENTS);
        let (file, console) = (Arc::new(file), console.clone());
        tokio::spawn(tell_failures(told, file.clone(), console.clone()));
        Ok(Some(Self { store, file, console, events }))
    }

    /// Tells the user when a connection had to begin without the ratchet that one of the two remembers.
    pub(crate) fn examine(&self, connection: &Connection) {
        if connection.is_downgraded() {
            self.console.alarm(Loss { ratchets: self, peer: PublicKeyText(connection.peer_key()) });
        }
    }

    /// Why a command ends that cannot go on without the file.
    pub(crate) fn failure(&self, error: &StoreError) -> Failure {
        Failure::new(Exit::Local, Unusable { file: &self.file, error, peer: None }.to_string())
    }
}

/// Tells the user that the file cannot be used, until no endpoint uses it.
async fn tell_failures(mut told: mpsc::Receiver<EndpointEvent>, file: Arc<PathBuf>, console: Console) {
    let mut last: Option<Instant> = None;
    while let Some(event) = told.recv().await {
        // Of a lost ratchet is told where the connection is that it concerns.
        let EndpointEvent::StoreFailed { peer, error } = event else { continue };
        if last.is_none_or(|last| last.elapsed() >= PATIENCE) {
            last = Some(Instant::now());
            console.alarm(Unusable { file: &file, error: &error, peer });
        }
    }
}

/// Has the endpoint keep its ratchets in the file, if there is one.
pub(crate) fn kept(builder: Builder, ratchets: Option<&Ratchets>) -> Builder {
    match ratchets {
        Some(ratchets) => builder.store(ratchets.store.clone()).events(ratchets.events.clone()),
        None => builder,
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Self::new(Exit::Local, format!("file of ratchets {error}"))
    }
}

/// What an operator is told of a file that cannot be used, and of the peer whose handshake waits for it.
struct Unusable<'a> {
    file: &'a PathBuf,
    error: &'a StoreError,
    peer: Option<PublicKey>,
}

impl fmt::Display for Unusable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, error, peer } = self;
        write!(f, "the file of ratchets `{}` cannot be read or written", file.display())?;
        if let Some(peer) = peer {
            write!(f, " for {}", PublicKeyText(*peer).short())?;
        }
        write!(f, ": is its disk full? ({error})")
    }
}

/// What an operator is told of a downgrade (PROTOCOL 5.5): what happened, what it can mean, and what to do.
struct Loss<'a> {
    ratchets: &'a Ratchets,
    peer: PublicKeyText,
}

impl fmt::Display for Loss<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (peer, file) = (self.peer, self.ratchets.file.display());
        write!(
            f,
            "{} is connected, but without the secret that the two had in common (the ratchet): one side remembers another \
             than the other, or none.\n  \
             It is harmless if a file of ratchets (here {file}) was lost, deleted or restored from an older copy, or if the \
             peer's command runs without --ratchets. If nobody did that, somebody else may be using the secret key of the \
             peer: ask its operator, by another way, before you trust this connection.\n  \
             The two begin anew with this connection. To begin with a secret that nobody else can know: `zssp password`, \
             and on both sides, with no command running\n  \
             zssp peers preset {peer} --replace --password-file OTP --ratchets FILE\n  \
             naming the other's key (see `zssp peers --help`).",
            peer.short()
        )
    }
}
