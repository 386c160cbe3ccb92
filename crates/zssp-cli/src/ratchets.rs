//! The file that keeps what this side has in common with its peers, from one connection to the next.

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, watch};
use zssp::{
    Builder, Endpoint, EndpointEvent, PeerName, Policy, PublicKey, RatchetStore, Redb, StoreError,
    store::OpenError,
};

use crate::{
    args::Remember,
    console::Console,
    exit::{Exit, Failure},
    public_key_text::PublicKeyText,
    unwelcome::Unwelcome,
    values::Allowed,
};

/// Events that may wait to be told.
const EVENTS: usize = 64;
/// A file that cannot be used is tried every second, by each peer, and spoken of only so often.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of one peer's loss the user is told only so often: an attempt to connect that begins anew again and again takes as long.
const ATTEMPT: Duration = Duration::from_secs(60);

/// An open file of ratchets, which one process has at a time, and how strictly it is held to. Clones are the same file,
/// for endpoints that follow each other.
#[derive(Clone)]
pub(crate) struct Ratchets {
    store: Arc<Redb>,
    policy: Policy,
    file: Arc<PathBuf>,
    console: Console,
    events: mpsc::Sender<EndpointEvent>,
    /// Changes when any of the endpoints has refused a peer.
    refusals: watch::Receiver<()>,
}

impl Ratchets {
    /// Opens the file, or makes it where peers may begin without it; nothing where the user named none. From then on the
    /// user is told when it cannot be used, and of peers whose ratchet is not the one in it.
    pub(crate) fn open(remember: &Remember, console: &Console) -> Result<Option<Self>, Failure> {
        let Some(file) = remember.ratchets.clone() else { return Ok(None) };
        let policy = remember.policy.into();
        let store = Arc::new(match policy {
            Policy::PERSISTENT => Redb::open_existing(&file).map_err(must_exist)?,
            _ => Redb::open(&file)?,
        });
        let (events, told) = mpsc::channel(EVENTS);
        let (refuse, refusals) = watch::channel(());
        let (file, console) = (Arc::new(file), console.clone());
        tokio::spawn(listen(told, refuse, file.clone(), console.clone()));
        Ok(Some(Self { store, policy, file, console, events, refusals }))
    }

    /// Why a command ends that cannot go on without the file.
    pub(crate) fn failure(&self, error: &StoreError) -> Failure {
        Failure::new(Exit::Local, Unusable { file: &self.file, error, peer: None }.to_string())
    }

    /// An error if no connection with the peer is wanted, because nothing is remembered of it.
    pub(crate) fn expect(&self, peer: PublicKeyText) -> Result<(), Failure> {
        if self.policy != Policy::PERSISTENT || self.knows(peer)? {
            return Ok(());
        }
        let file = self.file.display();
        let message = format!(
            "nothing is remembered of the peer in {file}, and with `--policy persistent` connections do not begin \
             with nothing. Is it the right file? Otherwise {}",
            Self::begin_anew(peer)
        );
        Err(Failure::new(Exit::Local, message))
    }

    /// Warns of those who are let in by name and will never be answered; from then on, the user is told when somebody is
    /// not. Nothing where everybody is answered.
    pub(crate) fn guard(
        &self,
        endpoint: &Endpoint,
        allow: &[Allowed],
    ) -> Result<Option<Arc<Unwelcome>>, Failure> {
        if self.policy != Policy::PERSISTENT {
            return Ok(None);
        }
        for allowed in allow {
            let Allowed::Key(peer) = allowed else { continue };
            if !self.knows(*peer)? {
                self.console.warn(format_args!(
                    "{} will get no answer: nothing is remembered of it in {}. {}",
                    peer.short(),
                    self.file.display(),
                    Self::begin_anew(*peer)
                ));
            }
        }
        Ok(Some(Unwelcome::watch(endpoint.clone(), self.file.clone(), self.console.clone())))
    }

    fn knows(&self, peer: PublicKeyText) -> Result<bool, Failure> {
        let pair = self.store.load(&PeerName::from(peer.0)).map_err(|error| self.failure(&error))?;
        Ok(!pair.is_never_met())
    }

    /// Resolves when the peer that `endpoint` connects to has lost its ratchet, and the policy refuses it. Of endpoints that
    /// try several ways side by side, another may get through: on a slower way, the peer may not know any more what it
    /// has agreed on anew by a quicker one.
    pub(crate) async fn refused_by(&self, endpoint: &Endpoint) {
        let mut refusals = self.refusals.clone();
        while endpoint.stats().downgrades_refused == 0 {
            if refusals.changed().await.is_err() {
                // Nobody listens to events any more.
                std::future::pending().await
            }
        }
    }

    /// Says that the peer was refused where other addresses of it are still tried.
    pub(crate) fn goes_on_after_refusal(&self, peer: PublicKeyText) {
        self.console.note(format_args!(
            "{} was refused at one of its addresses (--policy persistent); others are still tried",
            peer.short()
        ));
    }

    /// What ends a command whose peer was refused.
    pub(crate) fn refusal(&self, peer: PublicKeyText) -> Failure {
        let message = format!(
            "{} was refused (--policy persistent): it answers without the secret that the two had in common (the ratchet). \
             Its file of ratchets was lost, deleted or restored from an older copy, or that of this side was ({}), or its \
             command runs without --ratchets; or somebody else is using its secret key. Ask its operator, by another way. \
             Then {}",
            peer.short(),
            self.file.display(),
            Self::begin_anew(peer)
        );
        Failure::new(Exit::Refused, message)
    }

    /// How two sides that have nothing in common begin.
    pub(crate) fn begin_anew(peer: PublicKeyText) -> String {
        format!(
            "begin with a secret that nobody else can know: `zssp password`, and on both sides, with no command running\n  \
             zssp peers preset {peer} --replace --password-file OTP --ratchets FILE\n  \
             naming the other's key (see `zssp peers --help`)."
        )
    }
}

/// Hears what endpoints tell, until none uses the file: tells the user that it cannot be used, and who came without its
/// ratchet, and the command that a peer was refused.
async fn listen(
    mut told: mpsc::Receiver<EndpointEvent>,
    refuse: watch::Sender<()>,
    file: Arc<PathBuf>,
    console: Console,
) {
    let mut last: Option<Instant> = None;
    let mut losses: HashMap<PublicKey, Instant> = HashMap::new();
    while let Some(event) = told.recv().await {
        match event {
            // Whether or not a connection comes of it: the next one may not show it any more.
            EndpointEvent::Downgraded { peer } => {
                losses.retain(|_, at| at.elapsed() < ATTEMPT);
                losses.entry(peer).or_insert_with(|| {
                    console.alarm(Loss { file: &file, peer: PublicKeyText(peer) });
                    Instant::now()
                });
            }
            EndpointEvent::DowngradeRefused { .. } => {
                refuse.send_replace(());
            }
            EndpointEvent::StoreFailed { peer, error }
                if last.is_none_or(|last| last.elapsed() >= PATIENCE) =>
            {
                last = Some(Instant::now());
                console.alarm(Unusable { file: &file, error: &error, peer });
            }
            _ => {}
        }
    }
}

/// Whom `--allow any` lets in.
pub(crate) fn anybody(ratchets: Option<&Ratchets>) -> String {
    match ratchets {
        Some(Ratchets { policy: Policy::PERSISTENT, file, .. }) => {
            format!("every peer that is remembered in {}", file.display())
        }
        _ => "everybody who knows this public key and address".into(),
    }
}

/// Has the endpoint keep its ratchets in the file, if there is one.
pub(crate) fn kept(builder: Builder, ratchets: Option<&Ratchets>) -> Builder {
    match ratchets {
        Some(Ratchets { store, policy, events, .. }) => {
            builder.store(store.clone()).policy(*policy).events(events.clone())
        }
        None => builder,
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Self::new(Exit::Local, format!("file of ratchets {error}"))
    }
}

fn must_exist(error: OpenError) -> Failure {
    match &error {
        OpenError::Io { reason, file } if reason.kind() == std::io::ErrorKind::NotFound => {
            let message = format!(
                "file of ratchets `{file}`: there is no such file, and with `--policy persistent` connections do not \
                 begin with nothing. Begin with a one-time password on both sides: see `zssp peers --help`"
            );
            Failure::new(Exit::Local, message)
        }
        _ => error.into(),
    }
}

/// What an operator is told of a file that cannot be used, and of the peer whose handshake waits for it.
struct Unusable<'a> {
    file: &'a Path,
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
    file: &'a Path,
    peer: PublicKeyText,
}

impl fmt::Display for Loss<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (peer, file) = (self.peer, self.file.display());
        write!(
            f,
            "{} and this side begin anew, without the secret that the two had in common (the ratchet): one remembers \
             another than the other, or none.\n  \
             It is harmless if a file of ratchets (here {file}) was lost, deleted or restored from an older copy, or if the \
             peer's command runs without --ratchets. If nobody did that, somebody else may be using the secret key of the \
             peer: ask its operator, by another way, before you trust the connection.\n  \
             Better, {}\n  \
             `--policy persistent` refuses such connections.",
            peer.short(),
            Ratchets::begin_anew(peer)
        )
    }
}
