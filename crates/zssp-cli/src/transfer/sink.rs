//! Where received files go, and the sink that is a folder on the disk.
//!
//! A [`Folder`] writes each file under a temporary name next to its place and gives it its name when it is complete. A file
//! that is dropped earlier stays under the temporary name, which follows from its sender and its name: so the same
//! sender finds again what has arrived, and nobody else does. Every folder on the way is opened by itself, relative
//! to the one above and without following a symbolic link, so that neither a name nor a link planted in
//! the folder can lead out of it.

use std::{
    fs::{self, TryLockError},
    io::{self, Read, Seek, Write},
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use cap_fs_ext::{DirExt, FollowSymlinks, OpenOptionsFollowExt};
use cap_std::{
    ambient_authority,
    fs::{Dir, DirBuilder, OpenOptions},
};
use data_encoding::BASE32_NOPAD;
use zssp::PublicKey;

use super::{
    message::{Attributes, Mode, Modified},
    names::{Name, NamePath, PARTIAL_PREFIX},
    refusal::{Reason, Refusal},
};

/// Where a receiver puts what arrives.
pub(crate) trait Sink: Clone + Send + 'static {
    /// A file being written.
    type File: SinkFile;

    /// Makes a folder, or finds it there already. The folders above it exist.
    fn make_directory(&self, path: &NamePath, mode: Mode) -> Result<(), Refusal>;

    /// Whether a file of `size` bytes may take this place, and what is there already.
    fn place(&self, path: &NamePath, size: u64) -> Result<Place, Refusal>;

    /// Begins a file, or goes on with one that was begun by the same sender.
    fn part(&self, path: &NamePath, attributes: &Attributes) -> Result<Self::File, Refusal>;
}

/// The place of a new file.
pub(crate) enum Place {
    /// It is free, or may be taken.
    Free,
    /// There is a file of the same size, perhaps the very same. What it means if it is not that.
    Taken { file: Box<dyn Read + Send>, if_different: Result<(), Refusal> },
}

/// A file being written from its beginning to its end.
pub(crate) trait SinkFile: Send {
    /// Bytes that are there already.
    fn kept(&self) -> u64;

    /// Feeds those bytes to `read`; what is written then comes behind them.
    fn read_kept(&mut self, read: &mut dyn FnMut(&[u8])) -> Result<(), Refusal>;

    /// Forgets what is there already.
    fn restart(&mut self) -> Result<(), Refusal>;

    /// Appends.
    fn write(&mut self, contents: &[u8]) -> Result<(), Refusal>;

    /// The contents are complete and verified: the file gets its name.
    fn commit(self) -> Result<(), Refusal>;

    /// The contents are wrong: no trace is left.
    fn discard(self);
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

/// How long a file may be held by a connection of the same sender that is about to find out that it has ended.
const HELD: Duration = Duration::from_secs(3);

/// A folder on the disk, as a sink.
#[derive(Clone)]
pub(crate) struct Folder {
    root: Arc<Dir>,
    existing: Existing,
    durability: Durability,
    sender: [u8; 32],
}

impl Folder {
    /// Opens an existing folder. This is the only path that is trusted.
    pub(crate) fn open(path: &Path, existing: Existing, durability: Durability) -> io::Result<Self> {
        let root = Arc::new(Dir::open_ambient_dir(path, ambient_authority())?);
        Ok(Self { root, existing, durability, sender: [0; 32] })
    }

    /// The same folder for the files of one sender.
    pub(crate) fn of_sender(&self, key: &PublicKey) -> Self {
        Self { sender: blake3::hash(key.as_bytes()).into(), ..self.clone() }
    }

    /// Makes and removes a file, to find out early whether anything can be written here.
    pub(crate) fn probe(&self) -> io::Result<()> {
        let mut random = [0; 10];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let name = format!("{PARTIAL_PREFIX}probe-{}", BASE32_NOPAD.encode(&random).to_ascii_lowercase());
        self.root.open_with(&name, OpenOptions::new().write(true).create_new(true))?;
        self.root.remove_file(&name)
    }

    /// Walks down one name at a time, never through a link.
    fn parent(&self, names: &[Name]) -> Result<Arc<Dir>, Refusal> {
        let mut folder = Arc::clone(&self.root);
        for name in names {
            let below =
                folder.open_dir_nofollow(name.to_os()).map_err(|error| in_the_way(&folder, name, error))?;
            folder = Arc::new(below);
        }
        Ok(folder)
    }

    /// The name of a file of this sender while it is not complete.
    fn partial_name(&self, name: &Name) -> String {
        let hash = blake3::Hasher::new().update(&self.sender).update(name.as_bytes()).finalize();
        format!("{PARTIAL_PREFIX}{}", BASE32_NOPAD.encode(&hash.as_bytes()[..20]).to_ascii_lowercase())
    }
}

impl Sink for Folder {
    type File = Part;

    fn make_directory(&self, path: &NamePath, mode: Mode) -> Result<(), Refusal> {
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

    fn place(&self, path: &NamePath, size: u64) -> Result<Place, Refusal> {
        let (parents, name) = path.split();
        let parent = self.parent(parents)?;
        let there = match parent.symlink_metadata(name.to_os()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Place::Free),
            result => result?,
        };
        if there.is_dir() {
            return Err(Refusal::new(Reason::InTheWay, "a folder of that name"));
        }
        let if_different = match self.existing {
            Existing::Keep => Err(Refusal::plain(Reason::Exists)),
            Existing::Replace => Ok(()),
        };
        let same_size = there.is_file() && there.len() == size;
        match parent.open_with(name.to_os(), OpenOptions::new().read(true).follow(FollowSymlinks::No)) {
            Ok(file) if same_size => Ok(Place::Taken { file: Box::new(file), if_different }),
            // What cannot be read cannot be the same.
            _ => if_different.map(|()| Place::Free),
        }
    }

    fn part(&self, path: &NamePath, attributes: &Attributes) -> Result<Part, Refusal> {
        let (parents, name) = path.split();
        let parent = self.parent(parents)?;
        let temporary = self.partial_name(name);
        let file = open_part(&parent, &temporary, attributes.mode)?;
        let kept = file.metadata()?.len();
        let (name, attributes, existing, durability) =
            (name.clone(), *attributes, self.existing, self.durability);
        Ok(Part { file, kept, parent, temporary, name, attributes, existing, durability })
    }
}

/// Opens the file under its temporary name for nobody but us.
fn open_part(parent: &Dir, temporary: &str, mode: Mode) -> Result<fs::File, Refusal> {
    let start = Instant::now();
    loop {
        let file = parent.open_with(temporary, &part_options(mode))?.into_std();
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) if start.elapsed() < HELD => {
                thread::sleep(Duration::from_millis(20));
                continue;
            }
            Err(TryLockError::WouldBlock) => {
                return Err(Refusal::new(Reason::Storage, "another transfer of this file is under way"));
            }
            // A file system without locks; senders that follow each other do no harm.
            Err(TryLockError::Error(_)) => {}
        }
        if is_the_only_name(parent, temporary, &file)? {
            return Ok(file);
        }
        // It got its name while we waited, or has another name by which it is in use: that one must not change.
        match parent.remove_file(temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
}

/// A file under its temporary name.
pub(crate) struct Part {
    file: fs::File,
    kept: u64,
    parent: Arc<Dir>,
    temporary: String,
    name: Name,
    attributes: Attributes,
    existing: Existing,
    durability: Durability,
}

impl SinkFile for Part {
    fn kept(&self) -> u64 {
        self.kept
    }

    fn read_kept(&mut self, read: &mut dyn FnMut(&[u8])) -> Result<(), Refusal> {
        let mut buffer = vec![0; 1 << 17];
        self.file.rewind()?;
        loop {
            match self.file.read(&mut buffer)? {
                0 => return Ok(()),
                count => read(&buffer[..count]),
            }
        }
    }

    fn restart(&mut self) -> Result<(), Refusal> {
        self.file.set_len(0)?;
        Ok(self.file.rewind()?)
    }

    fn write(&mut self, contents: &[u8]) -> Result<(), Refusal> {
        Ok(self.file.write_all(contents)?)
    }

    fn commit(self) -> Result<(), Refusal> {
        restrict(&self.file, self.attributes.mode)?;
        if let Some(time) = self.attributes.modified.and_then(system_time) {
            // Not every file system keeps times, and none keeps all; the contents are what counts.
            let _ = self.file.set_modified(time);
        }
        if self.durability == Durability::Flushed {
            self.file.sync_all()?;
        }
        self.give_name()?;
        if self.durability == Durability::Flushed {
            // The name is as durable as the contents once the folder is on the disk.
            self.parent.open(".")?.sync_all()?;
        }
        Ok(())
    }

    fn discard(self) {
        // Nobody is left to tell; the name says what it is.
        let _ = self.parent.remove_file(&self.temporary);
    }
}

impl Part {
    fn give_name(&self) -> Result<(), Refusal> {
        let name = self.name.to_os();
        if self.existing == Existing::Keep {
            // A second link is made only if the name is free, which no check before a rename can promise.
            match self.parent.hard_link(&self.temporary, &self.parent, &name) {
                Ok(()) => return Ok(self.parent.remove_file(&self.temporary)?),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error.into()),
                // A file system without links: look, then rename.
                Err(_) if self.parent.symlink_metadata(&name).is_ok() => {
                    return Err(Refusal::plain(Reason::Exists));
                }
                Err(_) => {}
            }
        }
        Ok(self.parent.rename(&self.temporary, &self.parent, &name)?)
    }
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

/// The receiver's umask applies. What its owner cannot write cannot be gone on with: [`restrict`] follows at the end.
fn part_options(mode: Mode) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).follow(FollowSymlinks::No);
    #[cfg(unix)]
    cap_std::fs::OpenOptionsExt::mode(&mut options, mode.bits() | 0o600);
    #[cfg(not(unix))]
    let _ = mode;
    options
}

/// Takes away what the sender's file does not permit.
#[cfg(unix)]
fn restrict(file: &fs::File, mode: Mode) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mut permissions = file.metadata()?.permissions();
    let (has, may) = (permissions.mode() & 0o777, permissions.mode() & mode.bits());
    if has == may {
        return Ok(());
    }
    permissions.set_mode(may);
    file.set_permissions(permissions)
}

#[cfg(not(unix))]
fn restrict(_file: &fs::File, _mode: Mode) -> io::Result<()> {
    Ok(())
}

/// Whether this open file is the one of that name, and has no other.
#[cfg(unix)]
fn is_the_only_name(parent: &Dir, name: &str, file: &fs::File) -> io::Result<bool> {
    let ours = file.metadata()?;
    let (device, inode, links) = {
        use std::os::unix::fs::MetadataExt;
        (ours.dev(), ours.ino(), ours.nlink())
    };
    match parent.symlink_metadata(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
        Ok(there) => {
            use cap_std::fs::MetadataExt;
            Ok(ours.is_file() && links == 1 && there.dev() == device && there.ino() == inode)
        }
    }
}

#[cfg(not(unix))]
fn is_the_only_name(_parent: &Dir, _name: &str, file: &fs::File) -> io::Result<bool> {
    Ok(file.metadata()?.is_file())
}

/// A folder that its owner cannot write would refuse its own contents.
#[cfg(unix)]
fn directory_builder(mode: Mode) -> DirBuilder {
    let mut builder = DirBuilder::new();
    cap_std::fs::DirBuilderExt::mode(&mut builder, mode.bits() | 0o700);
    builder
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

    fn store(folder: &Folder, at: &NamePath, contents: &[u8]) -> Result<(), Refusal> {
        if let Place::Taken { if_different, .. } = folder.place(at, contents.len() as u64)? {
            if_different?;
        }
        let mut file = folder.part(at, &attributes(0o640))?;
        file.restart()?;
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
        let folder = open(place.path(), Existing::Keep);
        let mut file = folder.part(&path(&["a"]), &attributes(0o550)).unwrap();
        file.write(b"hello").unwrap();
        let during = everything_in(place.path());
        assert!(during.len() == 1 && during[0].starts_with(PARTIAL_PREFIX), "{during:?}");
        file.commit().unwrap();
        assert_eq!(everything_in(place.path()), ["a"]);
        let metadata = fs::metadata(place.path().join("a")).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o700, 0o500);
        assert_eq!(metadata.modified().unwrap(), SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 500));

        folder.part(&path(&["b"]), &attributes(0o600)).unwrap().discard();
        assert_eq!(everything_in(place.path()), ["a"], "a discarded file leaves nothing");
    }

    #[test]
    fn what_was_begun_is_gone_on_with_by_its_sender_alone() {
        let place = tempfile::tempdir().unwrap();
        let key = || zssp::SecretKey::generate().unwrap().public_key();
        let folder = open(place.path(), Existing::Keep);
        let (alice, bob) = (folder.of_sender(&key()), folder.of_sender(&key()));
        let at = path(&["a"]);
        // Even what its owner may not write in the end.
        let mut begun = alice.part(&at, &attributes(0o400)).unwrap();
        begun.write(b"hel").unwrap();
        drop(begun);
        assert_eq!(bob.part(&at, &attributes(0o600)).unwrap().kept(), 0);

        let mut again = alice.part(&at, &attributes(0o400)).unwrap();
        let mut kept = vec![];
        again.read_kept(&mut |bytes| kept.extend_from_slice(bytes)).unwrap();
        assert_eq!((again.kept(), &kept[..]), (3, &b"hel"[..]));
        again.write(b"lo").unwrap();
        again.commit().unwrap();
        assert_eq!(fs::read(place.path().join("a")).unwrap(), b"hello");
        assert!(matches!(alice.place(&at, 5), Ok(Place::Taken { if_different: Err(_), .. })));
        assert!(alice.place(&at, 4).is_err());
    }

    #[test]
    fn one_transfer_at_a_time_writes_a_part_and_a_planted_link_is_not_written_through() {
        let place = tempfile::tempdir().unwrap();
        let folder = open(place.path(), Existing::Replace);
        let at = path(&["a"]);
        let held = folder.part(&at, &attributes(0o600)).unwrap();
        assert_eq!(folder.part(&at, &attributes(0o600)).err().unwrap().reason, Reason::Storage);
        drop(held);

        // A crash between the two steps of giving a name leaves both.
        let part = place.path().join(folder.partial_name(&Name::new(b"a").unwrap()));
        fs::write(&part, "complete").unwrap();
        fs::hard_link(&part, place.path().join("a")).unwrap();
        let mut again = folder.part(&at, &attributes(0o600)).unwrap();
        assert_eq!(again.kept(), 0);
        again.write(b"new").unwrap();
        assert_eq!(fs::read(place.path().join("a")).unwrap(), b"complete");
        drop(again);

        fs::remove_file(&part).unwrap();
        std::os::unix::fs::symlink(place.path().join("a"), &part).unwrap();
        assert!(folder.part(&at, &attributes(0o600)).is_err());
        assert_eq!(fs::read(place.path().join("a")).unwrap(), b"complete");
    }

    #[test]
    fn what_exists_is_kept_unless_told_otherwise() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("a"), "old").unwrap();
        fs::create_dir(place.path().join("d")).unwrap();
        let keep = open(place.path(), Existing::Keep);
        assert_eq!(store(&keep, &path(&["a"]), b"new").unwrap_err().reason, Reason::Exists);
        assert_eq!(store(&keep, &path(&["d"]), b"new").unwrap_err().reason, Reason::InTheWay);
        keep.make_directory(&path(&["d"]), Mode::new(0o755)).unwrap();

        let replace = open(place.path(), Existing::Replace);
        store(&replace, &path(&["a"]), b"new").unwrap();
        assert_eq!(store(&replace, &path(&["d"]), b"new").unwrap_err().reason, Reason::InTheWay);
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
        let folder = open(place.path(), Existing::Keep);
        let other = folder.of_sender(&zssp::SecretKey::generate().unwrap().public_key());
        let late = other.part(&path(&["a"]), &attributes(0o600)).unwrap();
        store(&folder, &path(&["a"]), b"first").unwrap();
        assert_eq!(late.commit().unwrap_err().reason, Reason::Exists);
        assert_eq!(fs::read(place.path().join("a")).unwrap(), b"first");
        assert_eq!(everything_in(place.path()).len(), 2, "and the other's part");
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
            let folder = open(place.path(), existing);
            let refusal = store(&folder, &path(&["trap", "x"]), b"evil").unwrap_err();
            assert_eq!(refusal.reason, Reason::InTheWay);
            assert!(refusal.detail.contains("symbolic link"), "{refusal}");
            assert!(folder.make_directory(&path(&["trap", "d"]), Mode::new(0o755)).is_err());
            assert!(folder.make_directory(&path(&["trap"]), Mode::new(0o755)).is_err());
            // The link itself may be replaced, what it points to never is.
            assert_eq!(store(&folder, &path(&["file"]), b"x").is_ok(), existing == Existing::Replace);
            assert_eq!(store(&folder, &path(&["dangling"]), b"x").is_ok(), existing == Existing::Replace);
        }
        assert_eq!(everything_in(outside.path()), ["victim"]);
        assert_eq!(fs::read(outside.path().join("victim")).unwrap(), b"old");
    }

    #[test]
    fn a_folder_stays_usable_whatever_its_mode_was() {
        let place = tempfile::tempdir().unwrap();
        let folder = open(place.path(), Existing::Keep);
        folder.make_directory(&path(&["d"]), Mode::new(0o055)).unwrap();
        store(&folder, &path(&["d", "x"]), b"").unwrap();
        let mode = fs::metadata(place.path().join("d")).unwrap().permissions().mode();
        assert_eq!(mode & 0o700, 0o700);
    }

    #[test]
    fn times_before_1970_are_times_too() {
        let time = system_time(Modified { seconds: -2, nanos: 250_000_000 }).unwrap();
        assert_eq!(time, SystemTime::UNIX_EPOCH - Duration::from_millis(1750));
    }
}
