//! The file: private, made whole or not at all.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use redb::backends::FileBackend;
use redb::{Builder, StorageBackend};

use crate::private;
use crate::tables::{Foreign, Tables};

/// Bytes of pages that are kept in memory. Small: a page holds the keys of a dozen peers, and is not wiped when it
/// leaves the cache; the operating system keeps the file in its own cache anyway.
const CACHE: usize = 1 << 20;

/// Why a store could not be opened. The text names the file and says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A ratchet store belongs to one process, and in it to one [`Redb`](crate::Redb), at a time.
    #[error("`{file}`: another process has this ratchet store open; stop it, or use its store")]
    AlreadyOpen {
        /// The file.
        file: String,
    },
    /// The file was changed by something else, or the disk lost something it had promised to keep.
    #[error(
        "`{file}`: the ratchet store is damaged: {reason}; restore a copy, or move the file away and begin anew"
    )]
    Damaged {
        /// The file.
        file: String,
        /// What was found.
        reason: String,
    },
    /// Others can read the keys, or could have.
    #[error(
        "`{file}`: others can read this ratchet store (mode {mode:04o}); make it private with: chmod 600 {file}"
    )]
    Exposed {
        /// The file.
        file: String,
        /// Its permissions.
        mode: u32,
    },
    /// A version to come wrote the file.
    #[error(
        "`{file}`: the ratchet store has format version {version}, which this version does not know; use a newer one"
    )]
    Format {
        /// The file.
        file: String,
        /// The version of its format.
        version: u32,
    },
    /// The operating system refused.
    #[error("`{file}`: {reason}")]
    Io {
        /// The file.
        file: String,
        /// What it said.
        reason: io::Error,
    },
    /// There is something else under this name.
    #[error("`{file}`: this is not a ratchet store; give the store another name")]
    NotAStore {
        /// The file.
        file: String,
    },
    /// The random generator failed while a new store was made.
    #[error("`{file}`: the operating system's random generator failed")]
    Random {
        /// The file.
        file: String,
    },
}

/// Opens a store that is there.
pub(crate) fn open(path: &Path) -> Result<Tables, OpenError> {
    let io = |reason| OpenError::Io { file: shown(path), reason };
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(io)?;
    // Of the file that was opened, whatever the name stands for by now.
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        return Err(OpenError::NotAStore { file: shown(path) });
    }
    if let Some(mode) = private::exposed(&metadata) {
        return Err(OpenError::Exposed { file: shown(path), mode });
    }
    let backend = FileBackend::new(file).map_err(|error| failed(path, error.into()))?;
    tables(backend).map_err(|foreign| failed(path, foreign))
}

/// Opens the store, and makes one first if there is nothing of that name.
pub(crate) fn open_or_create(path: &Path) -> Result<Tables, OpenError> {
    if !path.try_exists().map_err(|reason| OpenError::Io { file: shown(path), reason })? {
        create(path, fill)?;
    }
    open(path)
}

/// The store in `backend`, or a new one if that is empty.
pub(crate) fn tables(backend: impl StorageBackend) -> Result<Tables, Foreign> {
    // Every page is checked once, so that a damaged file is an error now and not a panic later.
    let database = Builder::new()
        .set_cache_size(CACHE)
        .set_check_integrity_on_open(true)
        .create_with_backend(backend)?;
    Tables::adopt(database)
}

/// Makes an empty store, whole or not at all. Does nothing if somebody else was faster.
pub(crate) fn create(path: &Path, fill: impl FnOnce(File) -> Result<(), Foreign>) -> Result<(), OpenError> {
    private::create(path, fill).map(drop).map_err(|foreign| failed(path, foreign))
}

/// Makes a store of an empty file.
fn fill(file: File) -> Result<(), Foreign> {
    drop(tables(FileBackend::new(file)?)?);
    Ok(())
}

fn failed(path: &Path, foreign: Foreign) -> OpenError {
    let file = shown(path);
    let error = match foreign {
        Foreign::Failure(error) => error,
        Foreign::Format(version) => return OpenError::Format { file, version },
        Foreign::NotAStore => return OpenError::NotAStore { file },
        Foreign::Random => return OpenError::Random { file },
    };
    match error {
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => {
            OpenError::AlreadyOpen { file }
        }
        // What redb says of a file that does not begin like one of its own.
        redb::Error::Io(reason) if reason.kind() == io::ErrorKind::InvalidData => {
            OpenError::NotAStore { file }
        }
        redb::Error::Io(reason) => OpenError::Io { file, reason },
        other => OpenError::Damaged { file, reason: other.to_string() },
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
