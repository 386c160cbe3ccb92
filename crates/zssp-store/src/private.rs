//! Files of secrets, which nobody but their owner may read. The crate `zssp` keeps keys in such files, and its command
//! reads one-time passwords from them: what protects them all is written once. Not part of the API.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use zeroize::Zeroizing;

use crate::name::{self, Given};

/// Anything larger is no key and no password.
const MAX: u64 = 4096;

/// Why a file is not read. Shown after its name; says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("others can read it (mode {mode:04o}); make it private with: chmod 600 {file}")]
    Exposed { mode: u32, file: String },
    #[error("{0}")]
    Io(io::Error),
    #[error("there is no such file")]
    Missing,
    #[error("this is {0}, not a plain file")]
    NotAFile(&'static str),
    #[error("the file is too large: it is something else")]
    TooLarge,
    #[error("this is text in UTF-16; save it as UTF-8")]
    Utf16,
}

/// Makes a file that its owner can read and write under another name, and gives it its own when `fill` has made it whole, so
/// that a crash cannot leave half of one. Yields whether it did: what has that name already is left as it is.
///
/// # Errors
/// What the system said, and what `fill` did.
pub fn create<E: From<io::Error>>(path: &Path, fill: impl FnOnce(File) -> Result<(), E>) -> Result<bool, E> {
    let (file, unfinished) = loop {
        let name = unfinished_name(path);
        match new(&name) {
            // What a process left that died here and had the same number, as all have that are alone in a container.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => break (made?, Unfinished { name, is_ours: true }),
        }
    };
    fill(file)?;
    match name::give(&unfinished.name, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        given => unfinished.finish(given?),
    }
    sync_folder(path)?;
    Ok(true)
}

/// A new file that its owner can read and write.
#[cfg(unix)]
fn new(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// A new file.
#[cfg(not(unix))]
fn new(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).open(path)
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
            // If it stays, it is a file that nobody asks for.
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

/// Reads the whole of a small file of text. A byte order mark, which editors and shells on Windows write, is no part of it.
///
/// # Errors
/// [`Refused`], with the reason.
pub fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Refused> {
    let named = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Refused::Missing),
        metadata => metadata.map_err(Refused::Io)?,
    };
    // Before it is opened, which a pipe would never be.
    plain(&named)?;
    let file = File::open(path).map_err(Refused::Io)?;
    let metadata = file.metadata().map_err(Refused::Io)?;
    plain(&metadata)?;
    if !are_same(&named, &metadata) {
        return Err(Refused::NotAFile("another file than a moment before"));
    }
    if let Some(mode) = exposed(&metadata) {
        return Err(Refused::Exposed { mode, file: path.display().to_string() });
    }
    if metadata.len() > MAX {
        return Err(Refused::TooLarge);
    }
    let mut text = Zeroizing::new(Vec::with_capacity(MAX as usize));
    file.take(MAX).read_to_end(&mut text).map_err(Refused::Io)?;
    if text.starts_with(b"\xFF\xFE") || text.starts_with(b"\xFE\xFF") {
        return Err(Refused::Utf16);
    }
    if text.starts_with(b"\xEF\xBB\xBF") {
        text.drain(..3);
    }
    Ok(text)
}

fn plain(metadata: &Metadata) -> Result<(), Refused> {
    match metadata.file_type() {
        kind if kind.is_file() => Ok(()),
        kind if kind.is_symlink() => Err(Refused::NotAFile("a symbolic link")),
        kind if kind.is_dir() => Err(Refused::NotAFile("a folder")),
        _ => Err(Refused::NotAFile("a device, pipe or socket")),
    }
}

/// Whether both are of one file: whoever may write to the folder could put a link in its place in between.
#[cfg(unix)]
fn are_same(one: &Metadata, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Where files have no such numbers, folders protect them.
#[cfg(not(unix))]
fn are_same(_one: &Metadata, _other: &Metadata) -> bool {
    true
}

/// The mode of a file that others than its owner can read or change.
#[cfg(unix)]
pub fn exposed(metadata: &Metadata) -> Option<u32> {
    let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

/// Where there are no such modes, folders protect their files.
#[cfg(not(unix))]
pub fn exposed(_metadata: &Metadata) -> Option<u32> {
    None
}

/// Makes the file's name as durable as its content.
#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Folders cannot be opened like files here; the file system orders the two by itself.
#[cfg(not(unix))]
fn sync_folder(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[cfg(unix)]
    fn set_mode(path: &Path, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Writes a file that may be read.
    fn write_private(path: &Path, text: &[u8]) {
        fs::write(path, text).unwrap();
        #[cfg(unix)]
        set_mode(path, 0o600);
    }

    fn failure(path: &Path) -> String {
        read(path).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_small_file_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        assert!(matches!(read(&path), Err(Refused::Missing)));
        assert!(failure(folder.path()).contains("folder"));
        write_private(&path, &[b'#'; 4096]);
        assert_eq!(read(&path).unwrap().len(), 4096);
        write_private(&path, &[b'#'; 4097]);
        assert!(failure(&path).contains("too large"));
    }

    #[test]
    #[cfg(unix)]
    fn what_is_not_private_or_not_plain_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, "words").unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601] {
            set_mode(&path, mode);
            assert!(failure(&path).contains("chmod 600"), "{mode:o}");
        }
        set_mode(&path, 0o400);
        assert_eq!(**read(&path).unwrap(), *b"words");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(failure(&link).contains("symbolic link"));
        assert!(failure(Path::new("/dev/null")).contains("device"));
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let read_back = |bytes: &[u8]| {
            write_private(&path, bytes);
            read(&path)
        };
        assert_eq!(**read_back(b"\xEF\xBB\xBFwords\r\n").unwrap(), *b"words\r\n");
        assert_eq!(**read_back(b"\xEF\xBB\xBF").unwrap(), *b"");
        for words in [&b"\xFF\xFEw\0"[..], b"\xFE\xFF\0w"] {
            assert!(matches!(read_back(words), Err(Refused::Utf16)), "{words:?}");
        }
    }

    #[test]
    fn a_new_file_is_private_and_takes_no_other_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let make = |path: &Path, text: &'static str| create(path, |mut file| file.write_all(text.as_bytes()));
        assert!(make(&path, "words").unwrap());
        assert_eq!(exposed(&fs::metadata(&path).unwrap()), None);
        assert!(!make(&path, "other words").unwrap());
        assert_eq!(**read(&path).unwrap(), *b"words");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    #[cfg(unix)]
    fn a_new_file_does_not_take_the_place_of_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &link).unwrap();
        assert!(!create(&link, |mut file| file.write_all(b"words")).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn half_a_file_does_not_stay() {
        let folder = tempfile::tempdir().unwrap();
        let failed = create(&folder.path().join("secret"), |mut file| {
            file.write_all(b"wor")?;
            Err::<(), _>(io::Error::from(io::ErrorKind::StorageFull))
        });
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

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
