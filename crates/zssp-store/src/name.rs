//! Giving a finished file its name, which another process may give to a file of its own at the same moment.

use std::fs;
use std::io;
use std::path::Path;

/// How a file got its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Given {
    /// It has both names now.
    Linked,
    /// It has only the new one.
    Renamed,
}

/// Gives the file called `unfinished` the name `path` too, or instead.
///
/// # Errors
/// [`AlreadyExists`](io::ErrorKind::AlreadyExists) if something has that name, which is left as it is.
pub(crate) fn give(unfinished: &Path, path: &Path) -> io::Result<Given> {
    // Unlike a rename, a link never replaces what another process has made meanwhile.
    after_link(fs::hard_link(unfinished, path), unfinished, path)
}

fn after_link(linked: io::Result<()>, unfinished: &Path, path: &Path) -> io::Result<Given> {
    match linked {
        Err(error) if has_no_links(&error) => rename(unfinished, path).map(|()| Given::Renamed),
        linked => linked.map(|()| Given::Linked),
    }
}

/// Whether `error` is what a file system without links says to a link: EPERM on Linux (FAT, exFAT), EACCES on Android,
/// ENOSYS through FUSE, ENOTSUP on macOS, EOPNOTSUPP on the BSDs, `ERROR_INVALID_FUNCTION` or `ERROR_NOT_SUPPORTED` on
/// Windows. The first two have other reasons as well; a rename meets those again.
fn has_no_links(error: &io::Error) -> bool {
    // Those for which the standard library has no kind.
    let numbers: &[i32] = if cfg!(windows) {
        &[1, 50]
    } else if cfg!(target_vendor = "apple") {
        &[45]
    } else {
        &[]
    };
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported)
        || error.raw_os_error().is_some_and(|number| numbers.contains(&number))
}

/// Renames, unless something is called `to`.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;

    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // The system or this file system cannot.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => rename_if_free(from, to),
        renamed => Ok(renamed?),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    rename_if_free(from, to)
}

/// Renames, unless something is called `to`. What another process makes between the look and the rename is replaced:
/// without links and without a rename that refuses, there is nothing better.
fn rename_if_free(from: &Path, to: &Path) -> io::Result<()> {
    match fs::symlink_metadata(to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::rename(from, to),
        Err(error) => Err(error),
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;

    /// Every way to give a name, the file system's limits included.
    const WAYS: [fn(&Path, &Path) -> io::Result<()>; 5] = [
        |from, to| give(from, to).map(drop),
        rename,
        rename_if_free,
        |from, to| after_link(Err(io::ErrorKind::PermissionDenied.into()), from, to).map(drop),
        |from, to| after_link(Err(io::ErrorKind::Unsupported.into()), from, to).map(drop),
    ];

    fn place() -> (TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let [unfinished, path] = ["unfinished", "path"].map(|name| folder.path().join(name));
        fs::write(&unfinished, b"mine").unwrap();
        (folder, unfinished, path)
    }

    #[test]
    fn a_free_name_is_given() {
        for (number, way) in WAYS.into_iter().enumerate() {
            let (_folder, unfinished, path) = place();
            way(&unfinished, &path).unwrap();
            assert_eq!(fs::read(path).unwrap(), b"mine", "way {number}");
        }
    }

    #[test]
    fn whether_the_old_name_is_left_is_told() {
        for (linked, given) in
            [(Ok(()), Given::Linked), (Err(io::ErrorKind::Unsupported.into()), Given::Renamed)]
        {
            let (_folder, unfinished, path) = place();
            assert_eq!(after_link(linked, &unfinished, &path).unwrap(), given);
            assert_eq!(unfinished.exists(), given == Given::Linked);
        }
    }

    #[test]
    fn what_has_the_name_is_never_replaced() {
        for (number, way) in WAYS.into_iter().enumerate() {
            let (_folder, unfinished, path) = place();
            fs::write(&path, b"another's").unwrap();
            let error = way(&unfinished, &path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "way {number}");
            assert_eq!(fs::read(path).unwrap(), b"another's", "way {number}");
            assert_eq!(fs::read(unfinished).unwrap(), b"mine", "way {number}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_leads_nowhere_has_the_name_too() {
        for (number, way) in WAYS.into_iter().enumerate() {
            let (folder, unfinished, path) = place();
            std::os::unix::fs::symlink(folder.path().join("nowhere"), &path).unwrap();
            let error = way(&unfinished, &path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "way {number}");
            assert!(path.is_symlink(), "way {number}");
        }
    }

    #[test]
    fn any_other_error_is_passed_on() {
        use io::ErrorKind::{AlreadyExists, NotFound, Other, ReadOnlyFilesystem, StorageFull};
        for kind in [AlreadyExists, NotFound, Other, ReadOnlyFilesystem, StorageFull] {
            let (_folder, unfinished, path) = place();
            let error = after_link(Err(kind.into()), &unfinished, &path).unwrap_err();
            assert_eq!(error.kind(), kind);
            assert!(!path.exists() && unfinished.exists(), "{kind:?}: nothing was renamed");
        }
    }

    /// What file systems without links say, by number.
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    #[test]
    fn file_systems_without_links_are_known() {
        use rustix::io::Errno;
        for errno in [Errno::PERM, Errno::ACCESS, Errno::NOSYS, Errno::NOTSUP, Errno::OPNOTSUPP] {
            assert!(has_no_links(&errno.into()), "{errno}");
        }
        for errno in [Errno::DQUOT, Errno::EXIST, Errno::IO, Errno::MLINK, Errno::NOENT, Errno::ROFS] {
            assert!(!has_no_links(&errno.into()), "{errno}");
        }
    }
}
