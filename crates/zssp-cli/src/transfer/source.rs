//! Where sent files come from, and the source that is the disk.
//!
//! Before anything is sent the given paths are walked once, so that the totals are known and every folder
//! can precede its contents. Symbolic links inside a folder are not followed and not sent, nor are sockets, pipes and
//! devices; a link given on the command line is what its target is.

use std::{
    collections::{BTreeMap, VecDeque},
    fs, io,
    io::Read,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use thiserror::Error;

use super::{
    message::{Attributes, Mode, Modified},
    names::{BadName, Name, NamePath, Printable},
};

/// Everything a transfer will try to send.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Folders, each after the one it lies in.
    pub(crate) directories: VecDeque<(NamePath, Mode)>,
    /// Files and the sizes they had.
    pub(crate) files: VecDeque<(NamePath, u64)>,
    /// The sum of those sizes.
    pub(crate) bytes: u64,
}

impl Plan {
    fn push_file(&mut self, path: NamePath, size: u64) {
        self.bytes = self.bytes.saturating_add(size);
        self.files.push_back((path, size));
    }
}

/// Where a sender finds the files of its plan.
pub(crate) trait Source: Send + Sync + 'static {
    /// An open file.
    type File: Read + Send;

    /// Opens a file of the plan.
    fn open(&self, path: &NamePath) -> io::Result<Opened<Self::File>>;

    /// Size and attributes of an open file as they are now.
    fn state(&self, file: &Self::File) -> io::Result<(u64, Attributes)>;
}

/// A file that will be sent, as it is now.
pub(crate) struct Opened<F> {
    pub(crate) file: F,
    pub(crate) size: u64,
    pub(crate) attributes: Attributes,
}

/// The disk: what arrives under a first name comes from the path given for it.
#[derive(Debug)]
pub(crate) struct Disk {
    roots: BTreeMap<Name, PathBuf>,
}

/// A path on the command line that cannot be sent at all.
#[derive(Debug, Error)]
pub(crate) enum BadPath {
    #[error("`{}` cannot be sent: {why}", shown(path))]
    Name { path: PathBuf, why: BadName },
    #[error("`{}` has no name of its own to arrive under", shown(path))]
    Nameless { path: PathBuf },
    #[error(
        "`{}` and `{}` would arrive under the same name; send them one after the other",
        shown(first),
        shown(second)
    )]
    SameName { first: PathBuf, second: PathBuf },
    #[error("`{}` is neither a file nor a folder", shown(path))]
    Special { path: PathBuf },
    #[error(
        "`-` is no file here, and standard input cannot be sent: what is read once cannot be gone on with. Put it into a \
         file first, and send that"
    )]
    StandardInput,
    #[error("`{}` is given twice; once is enough", shown(path))]
    Twice { path: PathBuf },
    #[error("`{}` cannot be read: {why}", shown(path))]
    Unreadable { path: PathBuf, why: io::Error },
}

/// Whatever bytes a name has, a message about it is one line that does nothing to a terminal.
fn shown(path: &Path) -> Printable<'_> {
    Printable(path.as_os_str().as_encoded_bytes())
}

/// Something found on the way that is not sent.
#[derive(Debug)]
pub(crate) struct Skipped {
    pub(crate) path: PathBuf,
    pub(crate) why: Skip,
}

/// Why it is not sent.
#[derive(Debug, Error)]
pub(crate) enum Skip {
    #[error(transparent)]
    Name(#[from] BadName),
    #[error("neither a file nor a folder")]
    Special,
    #[error("a symbolic link, which is not followed")]
    SymbolicLink,
    #[error(transparent)]
    Unreadable(#[from] io::Error),
}

impl Skip {
    /// Whether the user asked for something that did not happen; links, devices and what an interrupted receiver left
    /// are left out by design.
    pub(crate) fn is_failure(&self) -> bool {
        matches!(self, Self::Name(why) if *why != BadName::Reserved) || matches!(self, Self::Unreadable(_))
    }
}

impl Disk {
    /// Walks the given files and folders. Something unusable inside a folder is reported to `skipped`.
    pub(crate) fn scan(paths: &[PathBuf], skipped: &mut Vec<Skipped>) -> Result<(Self, Plan), BadPath> {
        let mut roots = BTreeMap::new();
        let mut plan = Plan::default();
        for path in paths {
            let unreadable = |why: io::Error| {
                if path.as_os_str() == "-" && why.kind() == io::ErrorKind::NotFound {
                    return BadPath::StandardInput;
                }
                BadPath::Unreadable { path: path.clone(), why }
            };
            let kind = fs::metadata(path).map_err(unreadable)?;
            let name = own_name(path)?;
            if let Some(first) = roots.insert(name.clone(), path.clone()) {
                if first == *path {
                    return Err(BadPath::Twice { path: first });
                }
                return Err(BadPath::SameName { first, second: path.clone() });
            }
            let root = NamePath::root(name);
            if kind.is_file() {
                // Found out now rather than after a handshake.
                fs::File::open(path).map_err(unreadable)?;
                plan.push_file(root, kind.len());
            } else if kind.is_dir() {
                fs::read_dir(path).map_err(unreadable)?;
                walk(path, root, mode_of(&kind), &mut plan, skipped);
            } else {
                return Err(BadPath::Special { path: path.clone() });
            }
        }
        plan.directories.make_contiguous().sort_by_key(|(path, _)| path.depth());
        Ok((Self { roots }, plan))
    }
}

impl Source for Disk {
    type File = fs::File;

    fn open(&self, path: &NamePath) -> io::Result<Opened<fs::File>> {
        let names = path.names();
        let mut location = names.first().and_then(|first| self.roots.get(first)).cloned().unwrap_or_default();
        location.extend(names.iter().skip(1).map(Name::to_os));
        if names.len() > 1 && !fs::symlink_metadata(&location)?.is_file() {
            return Err(io::Error::other("it is no longer a plain file"));
        }
        let file = fs::File::open(location)?;
        let (size, attributes) = self.state(&file)?;
        Ok(Opened { file, size, attributes })
    }

    fn state(&self, file: &fs::File) -> io::Result<(u64, Attributes)> {
        let metadata = file.metadata()?;
        let modified = metadata.modified().ok().and_then(moment);
        Ok((metadata.len(), Attributes { mode: mode_of(&metadata), modified }))
    }
}

/// The name under which a path of the command line arrives.
fn own_name(path: &Path) -> Result<Name, BadPath> {
    let named =
        |name: &std::ffi::OsStr| Name::from_os(name).map_err(|why| BadPath::Name { path: path.into(), why });
    match path.file_name() {
        Some(name) => named(name),
        // `.`, `..` and `/`: a folder has a name even where the path does not say it.
        None => {
            let whole = path.canonicalize().map_err(|why| BadPath::Unreadable { path: path.into(), why })?;
            named(whole.file_name().ok_or_else(|| BadPath::Nameless { path: path.into() })?)
        }
    }
}

/// Adds a folder and all below it; a loop, because folders nest deeper than stacks should.
fn walk(top: &Path, root: NamePath, mode: Mode, plan: &mut Plan, skipped: &mut Vec<Skipped>) {
    let mut unread = vec![(top.to_path_buf(), root, mode)];
    while let Some((folder, path, mode)) = unread.pop() {
        plan.directories.push_back((path.clone(), mode));
        let entries = match fs::read_dir(&folder).and_then(|entries| entries.collect::<io::Result<Vec<_>>>())
        {
            Ok(mut entries) => {
                entries.sort_by_key(fs::DirEntry::file_name);
                entries
            }
            Err(why) => {
                skipped.push(Skipped { path: folder, why: why.into() });
                continue;
            }
        };
        for entry in entries {
            let location = entry.path();
            match look(&entry, &path) {
                Ok((below, metadata)) if metadata.is_dir() => {
                    unread.push((location, below, mode_of(&metadata)))
                }
                Ok((below, metadata)) => plan.push_file(below, metadata.len()),
                Err(why) => skipped.push(Skipped { path: location, why }),
            }
        }
    }
}

fn look(entry: &fs::DirEntry, parent: &NamePath) -> Result<(NamePath, fs::Metadata), Skip> {
    let metadata = entry.metadata()?;
    if metadata.is_symlink() {
        return Err(Skip::SymbolicLink);
    }
    if !metadata.is_file() && !metadata.is_dir() {
        return Err(Skip::Special);
    }
    Ok((parent.join(Name::from_os(&entry.file_name())?)?, metadata))
}

fn moment(time: SystemTime) -> Option<Modified> {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => {
            Some(Modified { seconds: after.as_secs().try_into().ok()?, nanos: after.subsec_nanos() })
        }
        Err(error) => {
            // Counted from the whole second below, so that the nanoseconds always add.
            let before = error.duration();
            let up = before.checked_add(Duration::from_nanos(999_999_999))?.as_secs();
            let nanos = u32::try_from((Duration::from_secs(up) - before).as_nanos()).ok()?;
            Some(Modified { seconds: i64::try_from(up).ok()?.checked_neg()?, nanos })
        }
    }
}

#[cfg(unix)]
fn mode_of(metadata: &fs::Metadata) -> Mode {
    Mode::new(std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()))
}

#[cfg(not(unix))]
fn mode_of(metadata: &fs::Metadata) -> Mode {
    Mode::new(match (metadata.is_dir(), metadata.permissions().readonly()) {
        (true, _) => 0o755,
        (false, false) => 0o644,
        (false, true) => 0o444,
    })
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    fn names(plan: &Plan) -> Vec<String> {
        let directories = plan.directories.iter().map(|(path, _)| format!("{path}/"));
        directories.chain(plan.files.iter().map(|(path, size)| format!("{path}:{size}"))).collect()
    }

    #[test]
    fn a_tree_is_planned_folders_first_and_links_left_out() {
        let place = tempfile::tempdir().unwrap();
        let top = place.path().join("top");
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::create_dir(top.join("empty")).unwrap();
        fs::write(top.join("a/b/deep"), "12345").unwrap();
        fs::write(top.join("flat"), "").unwrap();
        fs::write(top.join(".zssp-partial-old"), "").unwrap();
        std::os::unix::fs::symlink("/etc", top.join("link")).unwrap();
        std::os::unix::net::UnixListener::bind(top.join("socket")).unwrap();

        let mut skipped = vec![];
        let (disk, plan) = Disk::scan(&[top.join("a/.."), top.join("flat")], &mut skipped).unwrap();
        let mut planned = names(&plan);
        planned.sort();
        assert_eq!(
            planned,
            ["flat:0", "top/", "top/a/", "top/a/b/", "top/a/b/deep:5", "top/empty/", "top/flat:0"]
        );
        let depths: Vec<_> = plan.directories.iter().map(|(path, _)| path.depth()).collect();
        assert!(depths.is_sorted());
        assert_eq!(plan.bytes, 5);
        assert_eq!(skipped.len(), 3);
        assert_eq!(skipped.iter().filter(|skipped| skipped.why.is_failure()).count(), 0);

        let deep = plan.files.iter().find(|(_, size)| *size == 5).unwrap();
        let mut contents = String::new();
        disk.open(&deep.0).unwrap().file.read_to_string(&mut contents).unwrap();
        assert_eq!(contents, "12345");
    }

    #[test]
    fn two_paths_that_would_collide_are_refused_before_anything_is_sent() {
        let place = tempfile::tempdir().unwrap();
        for folder in ["x", "y"] {
            fs::create_dir(place.path().join(folder)).unwrap();
            fs::write(place.path().join(folder).join("same"), "").unwrap();
        }
        let paths = [place.path().join("x/same"), place.path().join("y/same")];
        assert!(matches!(Disk::scan(&paths, &mut vec![]), Err(BadPath::SameName { .. })));
        assert!(matches!(Disk::scan(&["/".into()], &mut vec![]), Err(BadPath::Nameless { .. })));
        assert!(matches!(
            Disk::scan(&[place.path().join("none")], &mut vec![]),
            Err(BadPath::Unreadable { .. })
        ));
        assert!(matches!(Disk::scan(&["-".into()], &mut vec![]), Err(BadPath::StandardInput)));
        assert!(matches!(Disk::scan(&["/dev/null".into()], &mut vec![]), Err(BadPath::Special { .. })));
    }

    #[test]
    fn a_moment_keeps_its_nanoseconds_on_either_side_of_1970() {
        let after = SystemTime::UNIX_EPOCH + Duration::new(3, 7);
        assert_eq!(moment(after), Some(Modified { seconds: 3, nanos: 7 }));
        let before = SystemTime::UNIX_EPOCH - Duration::from_millis(1750);
        assert_eq!(moment(before), Some(Modified { seconds: -2, nanos: 250_000_000 }));
    }
}
