//! Small files with secrets, which nobody but their owner may read.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use thiserror::Error;
use zeroize::Zeroizing;

/// Anything larger is something else.
const MAX: u64 = 4096;

/// Why such a file is not read. Shown after the file's name; says what to do.
#[derive(Debug, Error)]
pub(crate) enum PrivateFileError {
    #[error("others can read it (mode {mode:04o}). Make it private with: chmod 600 {file}")]
    Exposed { mode: u32, file: String },
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("there is no such file")]
    Missing,
    #[error("this is {0}, not a plain file")]
    NotAFile(&'static str),
    #[error("the file is too large: it is something else")]
    TooLarge,
}

/// Reads the whole file.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, PrivateFileError> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(PrivateFileError::Missing),
        result => result?,
    };
    if metadata.is_symlink() {
        return Err(PrivateFileError::NotAFile("a symbolic link"));
    }
    if metadata.is_dir() {
        return Err(PrivateFileError::NotAFile("a folder"));
    }
    if !metadata.is_file() {
        return Err(PrivateFileError::NotAFile("a device, pipe or socket"));
    }
    let file = fs::File::open(path)?;
    // Of the file that was opened, whatever the name stands for by now.
    let metadata = file.metadata()?;
    if let Some(mode) = exposed(&metadata) {
        return Err(PrivateFileError::Exposed { mode, file: path.display().to_string() });
    }
    if metadata.len() > MAX {
        return Err(PrivateFileError::TooLarge);
    }
    let mut text = Zeroizing::new(Vec::with_capacity(MAX as usize));
    file.take(MAX).read_to_end(&mut text)?;
    Ok(text)
}

/// The mode of a file that others than its owner can read or change.
#[cfg(unix)]
fn exposed(metadata: &fs::Metadata) -> Option<u32> {
    let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

/// Where there are no such modes, folders protect their files.
#[cfg(not(unix))]
fn exposed(_metadata: &fs::Metadata) -> Option<u32> {
    None
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_not_a_private_plain_file_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let failure = |path: &Path| read(path).unwrap_err().to_string();
        assert!(matches!(read(&path), Err(PrivateFileError::Missing)));
        fs::write(&path, "words").unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(failure(&path).contains("chmod 600"), "{mode:o}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(**read(&path).unwrap(), *b"words");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(failure(&link).contains("symbolic link"));
        assert!(failure(folder.path()).contains("folder"));
        assert!(failure(Path::new("/dev/null")).contains("device"));
        let large = folder.path().join("large");
        fs::write(&large, [b'#'; 5000]).unwrap();
        fs::set_permissions(&large, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(failure(&large).contains("too large"));
    }
}
