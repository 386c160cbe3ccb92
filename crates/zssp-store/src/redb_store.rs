use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zssp_proto::{Fingerprint, PeerName, RatchetPair, RatchetState, RatchetStore, StoreError, Swap};

use crate::batch::Batches;
use crate::file::{self, OpenError};
use crate::record::RecordError;
use crate::tables::{Change, Failure, OnlyIf, Outcome, Tables};

type Opener = Box<dyn Fn() -> Result<Tables, OpenError> + Send + Sync>;

/// Ratchet pairs in one crash-safe file: the store for programs that restart (PROTOCOL 5.5).
///
/// Every change is on the disk when the call returns, as one transaction; a crash leaves the old pair or the new one.
/// Changes that many threads make at once share one wait for the disk. After an error of the disk the file is opened
/// anew by the next call, so a disk that was full for a while needs no restart.
///
/// The file is made with mode 0600, and refused if others can read it. It belongs to one process at a time.
///
/// ```
/// use zssp_proto::{PeerName, RatchetStore};
/// use zssp_store::Redb;
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("ratchets.redb");
/// let store = Redb::open(&path)?;
/// let peer = PeerName::new(b"a peer");
/// assert!(store.load(&peer)?.is_never_met());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Security
/// - Whoever reads the file and has the static key can impersonate this side to its peers, and theirs to it if they
///   lose a static key. Keep both from others, and out of backups that others read.
/// - Keys are wiped from the memory that this crate owns. The pages of the database underneath are not: up to 1 MiB of
///   them is cached, and the operating system caches the file. Lock the memory or do without swap if that matters.
/// - The file is written by copying: a replaced or forgotten key stays in a free part of the file until that is written
///   over, and after that in what the file system and the medium keep of old blocks. Such a key opens no recorded session
///   (each also took keys that were never stored). A replaced one fits no ratchet any more as soon as the peer has
///   confirmed its successor. One of a forgotten peer fits as long as that peer remembers this side: have it forget as
///   well, or meet it anew.
/// - An older copy of the file, put in its place, looks just like the file. The peer notices: unless the copy holds
///   the state that it is sure of, or the one before while it is not, the two have no state in common. Then both
///   start from zero and report [`Event::Downgraded`](zssp_proto::Event::Downgraded); or they do not meet at all where
///   their [`Policy`](zssp_proto::Policy) says so, and whoever is opened to reports
///   [`Fault::Unwelcome`](zssp_proto::Fault::Unwelcome) with each hello, or `Event::DowngradeRefused`.
pub struct Redb {
    /// `None` after the disk failed, until the next call opens the file anew.
    tables: Mutex<Option<Arc<Tables>>>,
    batches: Batches<Change, Result<Outcome, StoreError>>,
    opener: Opener,
    name: String,
}

/// What an operator may see of a peer. No keys, and no fingerprints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerEntry {
    /// The name the application gave it.
    pub name: PeerName,
    /// What is remembered of it, or why that cannot be read: then [`Redb::forget`] the peer, or
    /// [`Redb::preset`] a ratchet for it.
    pub ratchet: Result<RatchetSummary, RecordError>,
}

/// How far a ratchet has turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RatchetSummary {
    /// Handshakes and rekeyings since the two first met or were given a one-time password.
    pub chain_length: u64,
    /// 1, or 2 while it is not certain that the peer has stored the newest state.
    pub states: usize,
}

/// Whether [`Redb::preset`] may replace what is remembered of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// Only a peer without any history is given the pair.
    Refuse,
    /// Whatever is remembered is replaced.
    Replace,
}

/// Why a ratchet was not preset.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PresetError {
    /// There is a history with this peer, and it was to be kept.
    #[error("there is a shared history with this peer already; replacing it is a downgrade")]
    Known,
    /// The store failed; nothing has changed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Redb {
    /// Opens the store in the file at `path`, and makes an empty one if there is no such file.
    ///
    /// The whole file is read and checked once: a second for a million peers.
    ///
    /// # Errors
    /// An [`OpenError`] that names the file and says what to do.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        Self::with(path, file::open_or_create(path)?)
    }

    /// Opens the store in the file at `path`, which must exist: for tools, which a mistyped name should not make
    /// write a new store.
    ///
    /// # Errors
    /// As [`open`](Self::open), and when there is no such file.
    pub fn open_existing(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        Self::with(path, file::open(path)?)
    }

    /// Every peer there is a record of, in the order of their names.
    ///
    /// # Errors
    /// When the file could not be read.
    pub fn peers(&self) -> Result<Vec<PeerEntry>, StoreError> {
        self.read(|tables| {
            let mut peers = Vec::new();
            tables.for_each(|name, pair| {
                let ratchet = pair.map(|pair| RatchetSummary {
                    chain_length: pair.first.chain_length(),
                    states: pair.states().count(),
                });
                peers.push(PeerEntry { name, ratchet });
            })?;
            Ok(peers)
        })
    }

    /// Forgets what is remembered of `peer`; whether there was anything. Its keys may stay on the disk for a while: see
    /// [Security](Self#security).
    ///
    /// The next handshake starts from zero, which the peer sees as a downgrade, and refuses if its flags say so. A
    /// session that is open loses the ratchet and ends with its next rekeying.
    ///
    /// # Errors
    /// When the file could not be written; nothing has changed then.
    pub fn forget(&self, peer: &PeerName) -> Result<bool, StoreError> {
        let change = Change { peer: peer.clone(), only_if: OnlyIf::Anything, new: None };
        Ok(self.change(change)? == Outcome::Replaced)
    }

    /// Gives `peer` a ratchet to begin with, of a [`OneTimePassword`](zssp_proto::OneTimePassword).
    ///
    /// The other side must have the same before the two meet.
    ///
    /// # Errors
    /// [`PresetError::Known`] when there is a history and `overwrite` does not permit to replace it, otherwise when
    /// the file could not be written; nothing has changed then.
    pub fn preset(
        &self,
        peer: &PeerName,
        pair: RatchetPair,
        overwrite: Overwrite,
    ) -> Result<(), PresetError> {
        let only_if = match overwrite {
            Overwrite::Refuse => OnlyIf::NeverMet,
            Overwrite::Replace => OnlyIf::Anything,
        };
        match self.change(Change { peer: peer.clone(), only_if, new: Some(pair) })? {
            Outcome::Conflict => Err(PresetError::Known),
            Outcome::First | Outcome::Replaced => Ok(()),
        }
    }

    fn with(path: &Path, tables: Tables) -> Result<Self, OpenError> {
        // Under the same name after a change of directory, and never a new file in place of one that vanished.
        let absolute = std::path::absolute(path)
            .map_err(|reason| OpenError::Io { file: path.display().to_string(), reason })?;
        let name = path.display().to_string();
        Ok(Self::over(name, tables, Box::new(move || file::open(&absolute))))
    }

    pub(crate) fn over(name: String, tables: Tables, opener: Opener) -> Self {
        Self { tables: Mutex::new(Some(Arc::new(tables))), batches: Batches::new(), opener, name }
    }

    fn change(&self, change: Change) -> Result<Outcome, StoreError> {
        let answer = self.batches.submit(change, |changes| self.commit(&changes));
        answer.unwrap_or_else(|| Err(self.error("the thread that was to write panicked")))
    }

    /// Makes the changes of several threads, all in one transaction.
    pub(crate) fn commit(&self, changes: &[Change]) -> Vec<Result<Outcome, StoreError>> {
        let tables = match self.tables() {
            Ok(tables) => tables,
            Err(error) => return changes.iter().map(|_| Err(StoreError::new(&error))).collect(),
        };
        match tables.commit(changes) {
            Ok(outcomes) => {
                outcomes.into_iter().map(|outcome| outcome.map_err(|error| self.error(error))).collect()
            }
            Err(error) => {
                self.close(&tables);
                changes.iter().map(|_| Err(self.error(&error))).collect()
            }
        }
    }

    fn read<T>(&self, read: impl FnOnce(&Tables) -> Result<T, Failure>) -> Result<T, StoreError> {
        let tables = self.tables().map_err(StoreError::new)?;
        read(&tables).map_err(|failure| {
            if matches!(failure, Failure::Redb(_)) {
                self.close(&tables);
            }
            self.error(failure)
        })
    }

    /// The open file. After a failure, nothing more can be done with the old handle: opening repairs what was
    /// interrupted.
    fn tables(&self) -> Result<Arc<Tables>, OpenError> {
        let mut open = self.lock();
        if let Some(tables) = &*open {
            return Ok(tables.clone());
        }
        // Under the lock, so that two threads do not lock each other out of the file. Only this store's own code runs.
        let tables = Arc::new((self.opener)()?);
        *open = Some(tables.clone());
        Ok(tables)
    }

    /// Lets go of `failed`, unless another thread has opened the file anew already. The last thread that still uses it
    /// closes it.
    fn close(&self, failed: &Arc<Tables>) {
        let closed = self.lock().take_if(|open| Arc::ptr_eq(open, failed));
        drop(closed);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Tables>>> {
        // It is assigned whole: a poisoned one is as good as any.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, reason: impl fmt::Display) -> StoreError {
        StoreError::new(format_args!("`{}`: {reason}", self.name))
    }
}

impl RatchetStore for Redb {
    fn load(&self, peer: &PeerName) -> Result<RatchetPair, StoreError> {
        self.read(|tables| tables.load(peer))
    }

    fn find(&self, fingerprint: &Fingerprint) -> Result<Option<RatchetState>, StoreError> {
        self.read(|tables| tables.find(fingerprint))
    }

    fn compare_and_swap(
        &self,
        peer: &PeerName,
        old: &RatchetPair,
        new: &RatchetPair,
    ) -> Result<Swap, StoreError> {
        let only_if = OnlyIf::Same(old.duplicate());
        match self.change(Change { peer: peer.clone(), only_if, new: Some(new.duplicate()) })? {
            Outcome::Conflict => Ok(Swap::Conflict),
            Outcome::First | Outcome::Replaced => Ok(Swap::Stored),
        }
    }
}

impl fmt::Debug for Redb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redb({})", self.name)
    }
}
