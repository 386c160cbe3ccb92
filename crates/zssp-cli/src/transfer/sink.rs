//! Where received files go, and the sink that is a folder on the disk.
//!
//! A [`Folder`] writes each file under a temporary name next to its place and gives it its name when it is
//! complete; a file that is dropped earlier is removed. Every folder on the way is opened by itself, relative
//! to the one above and without following a symbolic link, so that neither a name nor a link planted in
//! the folder can lead out of it.

use std::{
    io::{self, Write},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use cap_fs_ext::DirExt;
use cap_std::{
    ambient_authority,
    fs::{Dir, DirBuilder, File, OpenOptions},
};
use data_encoding::BASE32_NOPAD;

use super::{
    message::{Attributes, Mode, Modified},
    names::{Name, NamePath, PARTIAL_PREFIX},
    refusal::{Reason, Refusal},
};

/// Where a receiver puts what arrives.
pub(crate) trait Sink {
    /// A file being written.
    type File: SinkFile;

    /// Makes a folder, or finds it there already. The folders above it exist.
    fn make_directory(&mut self, path: &NamePath, mode: Mode) -> Result<(), Refusal>;

    /// Begins a file. The folders above it exist.
    fn create(&mut self, path: &NamePath, attributes: &Attributes) -> Result<Self::File, Refusal>;
}

/// A file being written from its beginning to its end; dropped uncommitted, it leaves no trace.
pub(crate) trait SinkFile {
    /// Appends.
    fn write(&mut self, contents: &[u8]) -> Result<(), Refusal>;

    /// The contents are complete and verified: the file gets its name.
    fn commit(self) -> Result<(), Refusal>;
}

/// What to do about a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    /// Leave it; the new one is refused.
    Keep,
    /// The new one takes its place, in one step.
    Replace,
}

/// When a file counts as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// When the operating system has it.
    Cached,
    /// When the disk has it, too.
    Flushed,
}

/// A folder on the disk, as a sink.
#[derive(Clone)]
pub(crate) struct Folder {
    root: Arc<Dir>,
    existing: Existing,
    durability: Durability,
    /// The folder used last: most files have the same parent as the one before.
    recent: Option<(Vec<Name>, Arc<Dir>)>,
}

impl Folder {
    /// Opens an existing folder. This is the only path that is trusted.
    pub(crate) fn open(path: &Path, existing: Existing, durability: Durability) -> io::Result<Self> {
        let root = Arc::new(Dir::open_ambient_dir(path, ambient_authority())?);
        Ok(Self { root, existing, durability, recent: None })
    }

    /// Makes and removes a file, to find out early whether anything can be written here.
    pub(crate) fn probe(&self) -> io::Result<()> {
        let name = partial_name()?;
        self.root.open_with(&name, OpenOptions::new().write(true).create_new(true))?;
        self.root.remove_file(&name)
    }

    /// Walks down one name at a time, never through a link.
    fn parent(&mut self, names: &[Name]) -> Result<Arc<Dir>, Refusal> {
        if let Some((known, folder)) = &self.recent
            && known == names
        {
            return Ok(Arc::clone(folder));
        }
        let mut folder = Arc::clone(&self.root);
        for name in names {
            let below =
                folder.open_dir_nofollow(name.to_os()).map_err(|error| in_the_way(&folder, name, error))?;
            folder = Arc::new(below);
        }
        self.recent = Some((names.to_vec(), Arc::clone(&folder)));
        Ok(folder)
    }
}

impl Sink for Folder {
    type File = PartialFile;

    fn make_directory(&mut self, path: &NamePath, mode: Mode) -> Result<(), Refusal> {
        let (parents, name) = path.split();
        let parent = self.parent(parents)?;
        match parent.create_dir_with(name.to_os(), &directory_builder(mode)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                parent.open_dir_nofollow(name.to_os()).map_err(|error| in_the_way(&parent, name, error))?;
                Ok(())
            }
            result => Ok(result?),
        }
    }

    fn create(&mut self, path: &NamePath, attributes: &Attributes) -> Result<PartialFile, Refusal> {
        let (parents, name) = path.split();
        let parent = self.parent(parents)?;
        match parent.symlink_metadata(name.to_os()) {
            Ok(there) if there.is_dir() => {
                return Err(Refusal::new(Reason::InTheWay, "a folder of that name"));
            }
            Ok(_) if self.existing == Existing::Keep => return Err(Refusal::plain(Reason::Exists)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        let temporary = partial_name()?;
        let file = parent.open_with(&temporary, &new_file(attributes.mode))?;
        Ok(PartialFile {
            file,
            leftover: Leftover { parent, temporary, armed: true },
            name: name.clone(),
            modified: attributes.modified,
            existing: self.existing,
            durability: self.durability,
        })
    }
}

/// A file under its temporary name.
pub(crate) struct PartialFile {
    file: File,
    leftover: Leftover,
    name: Name,
    modified: Option<Modified>,
    existing: Existing,
    durability: Durability,
}

impl SinkFile for PartialFile {
    fn write(&mut self, contents: &[u8]) -> Result<(), Refusal> {
        Ok(self.file.write_all(contents)?)
    }

    fn commit(self) -> Result<(), Refusal> {
        let Self { file, mut leftover, name, modified, existing, durability } = self;
        let file = file.into_std();
        if let Some(time) = modified.and_then(system_time) {
            // Not every file system keeps times, and none keeps all; the contents are what counts.
            let _ = file.set_modified(time);
        }
        if durability == Durability::Flushed {
            file.sync_all()?;
        }
        drop(file);
        leftover.give_name(&name, existing)?;
        if durability == Durability::Flushed {
            // The name is as durable as the contents once the folder is on the disk.
            leftover.parent.open(".")?.sync_all()?;
        }
        Ok(())
    }
}

/// The temporary name on the disk, removed when this is dropped.
struct Leftover {
    parent: Arc<Dir>,
    temporary: String,
    armed: bool,
}

impl Leftover {
    fn give_name(&mut self, name: &Name, existing: Existing) -> Result<(), Refusal> {
        let name = name.to_os();
        if existing == Existing::Keep {
            // A second link is made only if the name is free, which no check before a rename can promise.
            match self.parent.hard_link(&self.temporary, &self.parent, &name) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error.into()),
                // A file system without links: look, then rename.
                Err(_) if self.parent.symlink_metadata(&name).is_ok() => {
                    return Err(Refusal::plain(Reason::Exists));
                }
                Err(_) => {}
            }
        }
        self.parent.rename(&self.temporary, &self.parent, &name)?;
        self.armed = false;
        Ok(())
    }
}

impl Drop for Leftover {
    fn drop(&mut self) {
        if self.armed {
            // Nobody is left to tell; the name says what it is.
            let _ = self.parent.remove_file(&self.temporary);
        }
    }
}

fn partial_name() -> io::Result<String> {
    let mut random = [0; 10];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(format!("{PARTIAL_PREFIX}{}", BASE32_NOPAD.encode(&random).to_ascii_lowercase()))
}

/// Says what is where a folder should be.
fn in_the_way(parent: &Dir, name: &Name, error: io::Error) -> Refusal {
    match parent.symlink_metadata(name.to_os()) {
        Ok(there) if there.is_symlink() => {
            Refusal::new(Reason::InTheWay, "a symbolic link where a folder should be, which is not followed")
        }
        Ok(there) if !there.is_dir() => Refusal::new(Reason::InTheWay, "a file where a folder should be"),
        _ => error.into(),
    }
}

fn system_time(modified: Modified) -> Option<SystemTime> {
    let whole = Duration::from_secs(modified.seconds.unsigned_abs());
    let start = if modified.seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(whole)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(whole)
    };
    start?.checked_add(Duration::from_nanos(modified.nanos.into()))
}

/// The receiver's umask applies to both.
#[cfg(unix)]
fn new_file(mode: Mode) -> OpenOptions {
    let mut options = OpenOptions::new();
    cap_std::fs::OpenOptionsExt::mode(options.write(true).create_new(true), mode.bits());
    options
}

/// A folder that its owner cannot write would refuse its own contents.
#[cfg(unix)]
fn directory_builder(mode: Mode) -> DirBuilder {
    let mut builder = DirBuilder::new();
    cap_std::fs::DirBuilderExt::mode(&mut builder, mode.bits() | 0o700);
    builder
}

#[cfg(not(unix))]
fn new_file(_mode: Mode) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    options
}

#[cfg(not(unix))]
fn directory_builder(_mode: Mode) -> DirBuilder {
    DirBuilder::new()
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn path(names: &[&str]) -> NamePath {
        NamePath::new(names.iter().map(|name| Name::new(name.as_bytes()).unwrap()).collect()).unwrap()
    }

    fn attributes(mode: u32) -> Attributes {
        Attributes { mode: Mode::new(mode), modified: Some(Modified { seconds: 1_000_000_000, nanos: 500 }) }
    }

    fn store(folder: &mut Folder, at: &NamePath, contents: &[u8]) -> Result<(), Refusal> {
        let mut file = folder.create(at, &attributes(0o640))?;
        file.write(contents)?;
        file.commit()
    }

    fn everything_in(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn open(path: &Path, existing: Existing) -> Folder {
        Folder::open(path, existing, Durability::Flushed).unwrap()
    }

    #[test]
    fn a_file_has_its_name_only_when_committed() {
        let place = tempfile::tempdir().unwrap();
        let mut folder = open(place.path(), Existing::Keep);
        let mut file = folder.create(&path(&["a"]), &attributes(0o750)).unwrap();
        file.write(b"hello").unwrap();
        let during = everything_in(place.path());
        assert!(during.len() == 1 && during[0].starts_with(PARTIAL_PREFIX), "{during:?}");
        file.commit().unwrap();
        assert_eq!(everything_in(place.path()), ["a"]);
        let metadata = fs::metadata(place.path().join("a")).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o700, 0o700);
        assert_eq!(metadata.modified().unwrap(), SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 500));

        drop(folder.create(&path(&["b"]), &attributes(0o600)).unwrap());
        assert_eq!(everything_in(place.path()), ["a"], "an abandoned file leaves nothing");
    }

    #[test]
    fn what_exists_is_kept_unless_told_otherwise() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("a"), "old").unwrap();
        fs::create_dir(place.path().join("d")).unwrap();
        let mut keep = open(place.path(), Existing::Keep);
        assert_eq!(store(&mut keep, &path(&["a"]), b"new").unwrap_err().reason, Reason::Exists);
        assert_eq!(store(&mut keep, &path(&["d"]), b"new").unwrap_err().reason, Reason::InTheWay);
        keep.make_directory(&path(&["d"]), Mode::new(0o755)).unwrap();

        let mut replace = open(place.path(), Existing::Replace);
        store(&mut replace, &path(&["a"]), b"new").unwrap();
        assert_eq!(store(&mut replace, &path(&["d"]), b"new").unwrap_err().reason, Reason::InTheWay);
        assert_eq!(
            replace.make_directory(&path(&["a"]), Mode::new(0o755)).unwrap_err().reason,
            Reason::InTheWay
        );
        assert_eq!(fs::read(place.path().join("a")).unwrap(), b"new");
        assert_eq!(everything_in(place.path()), ["a", "d"]);
    }

    #[test]
    fn of_two_files_under_way_with_one_name_the_first_stays() {
        let place = tempfile::tempdir().unwrap();
        let mut folder = open(place.path(), Existing::Keep);
        let late = folder.create(&path(&["a"]), &attributes(0o600)).unwrap();
        store(&mut folder, &path(&["a"]), b"first").unwrap();
        assert_eq!(late.commit().unwrap_err().reason, Reason::Exists);
        assert_eq!(fs::read(place.path().join("a")).unwrap(), b"first");
        assert_eq!(everything_in(place.path()), ["a"]);
    }

    #[test]
    fn a_planted_link_does_not_lead_out() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("victim"), "old").unwrap();
        let place = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), place.path().join("trap")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("victim"), place.path().join("file")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("new"), place.path().join("dangling")).unwrap();
        for existing in [Existing::Keep, Existing::Replace] {
            let mut folder = open(place.path(), existing);
            let refusal = store(&mut folder, &path(&["trap", "x"]), b"evil").unwrap_err();
            assert_eq!(refusal.reason, Reason::InTheWay);
            assert!(refusal.detail.contains("symbolic link"), "{refusal}");
            assert!(folder.make_directory(&path(&["trap", "d"]), Mode::new(0o755)).is_err());
            assert!(folder.make_directory(&path(&["trap"]), Mode::new(0o755)).is_err());
            // The link itself may be replaced, what it points to never is.
            assert_eq!(store(&mut folder, &path(&["file"]), b"x").is_ok(), existing == Existing::Replace);
            assert_eq!(store(&mut folder, &path(&["dangling"]), b"x").is_ok(), existing == Existing::Replace);
        }
        assert_eq!(everything_in(outside.path()), ["victim"]);
        assert_eq!(fs::read(outside.path().join("victim")).unwrap(), b"old");
    }

    #[test]
    fn a_folder_stays_usable_whatever_its_mode_was() {
        let place = tempfile::tempdir().unwrap();
        let mut folder = open(place.path(), Existing::Keep);
        folder.make_directory(&path(&["d"]), Mode::new(0o055)).unwrap();
        store(&mut folder, &path(&["d", "x"]), b"").unwrap();
        let mode = fs::metadata(place.path().join("d")).unwrap().permissions().mode();
        assert_eq!(mode & 0o700, 0o700);
    }

    #[test]
    fn times_before_1970_are_times_too() {
        let time = system_time(Modified { seconds: -2, nanos: 250_000_000 }).unwrap();
        assert_eq!(time, SystemTime::UNIX_EPOCH - Duration::from_millis(1750));
    }
}
