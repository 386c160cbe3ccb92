//! The file: private, made whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use redb::backends::FileBackend;
use redb::{Builder, StorageBackend};

use crate::name::{self, Given};
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

/// Makes an empty store under another name and gives it its own when `fill` has made it whole, so that a crash cannot
/// leave half of one. Does nothing if somebody else was faster.
pub(crate) fn create(path: &Path, fill: impl FnOnce(File) -> Result<(), Foreign>) -> Result<(), OpenError> {
    let io = |reason| OpenError::Io { file: shown(path), reason };
    let (file, unfinished) = loop {
        let name = unfinished_name(path);
        match private::create(&name) {
            // What a process left that died here and had the same number, as all have that are alone in a container.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => break (made.map_err(io)?, Unfinished { name, is_ours: true }),
        }
    };
    fill(file).map_err(|foreign| failed(path, foreign))?;
    match name::give(&unfinished.name, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        given => unfinished.finish(given.map_err(io)?),
    }
    private::sync_folder(path).map_err(io)
}

/// Makes a store of an empty file.
fn fill(file: File) -> Result<(), Foreign> {
    drop(tables(FileBackend::new(file)?)?);
    Ok(())
}

/// A name that goes away with this value, and with it the file unless that has another.
struct Unfinished {
    name: PathBuf,
    is_ours: bool,
}

impl Unfinished {
    /// The file has its own name.
    fn finish(mut self, given: Given) {
        // What was renamed left a free name, and a process of the same number in another container may have taken it.
        self.is_ours = given == Given::Linked;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.is_ours {
            // If it stays, it is an empty store that nobody asks for.
            let _ = fs::remove_file(&self.name);
        }
    }
}

fn unfinished_name(path: &Path) -> PathBuf {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}-{}.new", process::id(), MADE.fetch_add(1, Relaxed)));
    name.into()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_process_made_after_a_rename_stays() {
        for (given, stays) in [(Given::Linked, false), (Given::Renamed, true)] {
            let folder = tempfile::tempdir().unwrap();
            let name = folder.path().join("unfinished");
            fs::write(&name, b"ours after a link, another's after a rename").unwrap();
            Unfinished { name: name.clone(), is_ours: true }.finish(given);
            assert_eq!(name.exists(), stays, "{given:?}");
        }
    }
}
