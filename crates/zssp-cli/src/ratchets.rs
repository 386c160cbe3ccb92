//! The file that keeps what this side has in common with its peers, from one connection to the next.

use std::{fmt, path::PathBuf, sync::Arc};

use zssp::{Builder, ConnectError, Connection, Endpoint, Redb, store::OpenError};

use crate::{
    args::Remember,
    console::Console,
    exit::{Exit, Failure},
    public_key_text::PublicKeyText,
};

/// An open file of ratchets, which one process has at a time. Clones are the same file, for endpoints that follow each
/// other.
#[derive(Clone)]
pub(crate) struct Ratchets {
    store: Arc<Redb>,
    file: PathBuf,
    console: Console,
}

impl Ratchets {
    /// Opens the file, or makes it; nothing where the user named none.
    pub(crate) fn open(remember: &Remember, console: &Console) -> Result<Option<Self>, Failure> {
        let Some(file) = remember.ratchets.clone() else { return Ok(None) };
        let store = Arc::new(Redb::open(&file)?);
        Ok(Some(Self { store, file, console: console.clone() }))
    }

    /// Makes a connection with `peer` by `connecting`, the only one that the endpoint makes meanwhile. Tells the user when
    /// it had to begin without the ratchet that one of the two remembers, and blames the file where that is why there is
    /// none.
    pub(crate) async fn watch(
        &self,
        endpoint: &Endpoint,
        peer: PublicKeyText,
        connecting: impl Future<Output = Result<Connection, ConnectError>>,
    ) -> Result<Connection, ConnectError> {
        let before = endpoint.stats();
        let result = connecting.await;
        let after = endpoint.stats();
        if result.is_ok() && after.downgrades > before.downgrades {
            self.console.alarm(Loss { ratchets: self, peer });
        }
        result.map_err(|error| {
            if after.store_failures == before.store_failures {
                return error;
            }
            let file = self.file.display();
            let why = format!("the file of ratchets `{file}` cannot be read or written: is its disk full?");
            ConnectError::Local(why.into())
        })
    }
}

/// Has the endpoint keep its ratchets in the file, if there is one.
pub(crate) fn kept(builder: Builder, ratchets: Option<&Ratchets>) -> Builder {
    match ratchets {
        Some(ratchets) => builder.store(ratchets.store.clone()),
        None => builder,
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Self::new(Exit::Local, format!("file of ratchets {error}"))
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
