//! The file a secret key lives in: its [text form](zssp_proto::StaticKey#text-form) on a line of its own. Empty lines and
//! lines that start with `#` are comments.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::str;

use zssp_proto::{SecretKeyError, StaticKey};
use zssp_store::private::{self, Refused};

use super::{SecretKey, default_provider};

const HEADER: &str = "\
# Secret key for ZSSP. Whoever can read this file can act in its owner's name:
# keep it private (mode 0600) and never send it.
";

/// Why there is no key from a file. The text names the file and says what to do.
///
/// ```
/// use std::path::Path;
/// use zssp::{KeyFileError, SecretKey};
///
/// /// The key of this machine, which is made when the program is started for the first time.
/// fn key(path: &Path) -> Result<SecretKey, KeyFileError> {
///     match SecretKey::read_file(path) {
///         Err(KeyFileError::Missing { .. }) => SecretKey::create_file(path),
///         read => read,
///     }
/// }
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("key");
/// # assert_eq!(key(&path)?.public_key(), key(&path)?.public_key());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// There is nothing in it.
    #[error("`{file}`: the file is empty; restore it from a copy, or give another name and make a new key")]
    Empty {
        /// The file.
        file: String,
    },
    /// A key is never overwritten.
    #[error(
        "`{file}`: there is a file already, and a key is never overwritten; choose another name, or move that file away"
    )]
    Exists {
        /// The file.
        file: String,
    },
    /// Others can read the key, or could have.
    #[error("`{file}`: others can read this key (mode {mode:04o}); make it private with: chmod 600 {file}")]
    Exposed {
        /// The file.
        file: String,
        /// Its permissions.
        mode: u32,
    },
    /// The operating system refused.
    #[error("`{file}`: {reason}")]
    Io {
        /// The file.
        file: String,
        /// What it said.
        reason: io::Error,
    },
    /// The key is damaged, another one than the secret one, or of a version to come.
    #[error("`{file}`: {reason}")]
    Key {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: SecretKeyError,
    },
    /// There is no such file.
    #[error("`{file}`: there is no such file; name the one that has the key, or make a key")]
    Missing {
        /// The file.
        file: String,
    },
    /// The new file's folder does not exist.
    #[error("`{file}`: its folder does not exist; make that first")]
    NoFolder {
        /// The file.
        file: String,
    },
    /// There is something else than a plain file under this name.
    #[error("`{file}`: this is {kind}, not a plain file; name the file itself")]
    NotAFile {
        /// The file.
        file: String,
        /// What it is, such as "a folder".
        kind: &'static str,
    },
    /// There is something else in it.
    #[error(
        "`{file}`: this is not a key file: no line starts with `zssp-secret-key-v1:`; name another, or make a key"
    )]
    NotAKey {
        /// The file.
        file: String,
    },
    /// The operating system's random generator failed.
    #[error("`{file}`: the operating system's random generator failed")]
    Random {
        /// The file.
        file: String,
    },
    /// No key is as large as this file.
    #[error("`{file}`: the file is too large for a key: it is something else")]
    TooLarge {
        /// The file.
        file: String,
    },
    /// There is more than one key in it.
    #[error("`{file}`: the file has more than one key; keep each in a file of its own")]
    TwoKeys {
        /// The file.
        file: String,
    },
    /// An editor or a shell on Windows has written it anew.
    #[error("`{file}`: this is text in UTF-16; save it as UTF-8")]
    Utf16 {
        /// The file.
        file: String,
    },
}

/// Key files, which are text; comments in lines that start with `#` may be added. The two functions block for the moment that
/// the disk takes: they are meant for the start of a program.
impl SecretKey {
    /// A fresh key, in a new file that only its owner can read: its mode is 0600. On systems without such modes, it is
    /// the folder that protects its files.
    ///
    /// The file is on the disk when this returns. One that exists is never overwritten, and none is left half written: until
    /// it is whole it has another name, that ends in `.new`, and a process that is killed may leave that.
    ///
    /// # Errors
    /// [`KeyFileError::Exists`] and others.
    pub fn create_file(path: impl AsRef<Path>) -> Result<Self, KeyFileError> {
        let path = path.as_ref();
        let key = Self::generate().map_err(|_| KeyFileError::Random { file: shown(path) })?;
        match private::create(path, |file| write(file, &key)) {
            Ok(true) => Ok(key),
            Ok(false) => Err(KeyFileError::Exists { file: shown(path) }),
            Err(reason) if reason.kind() == io::ErrorKind::NotFound => {
                Err(KeyFileError::NoFolder { file: shown(path) })
            }
            Err(reason) => Err(KeyFileError::Io { file: shown(path), reason }),
        }
    }

    /// The key in a file that [`create_file`](Self::create_file) made, or `zssp keygen`.
    ///
    /// A key that others have access to is not used. Neither is what is no plain file, such as a symbolic link: whoever
    /// can make one could put another key there.
    ///
    /// # Errors
    /// [`KeyFileError::Missing`] and others, which say what is wrong with the file.
    pub fn read_file(path: impl AsRef<Path>) -> Result<Self, KeyFileError> {
        let path = path.as_ref();
        let text = private::read(path).map_err(|refused| {
            let file = shown(path);
            match refused {
                Refused::Exposed { mode, .. } => KeyFileError::Exposed { file, mode },
                Refused::Io(reason) => KeyFileError::Io { file, reason },
                Refused::Missing => KeyFileError::Missing { file },
                Refused::NotAFile(kind) => KeyFileError::NotAFile { file, kind },
                Refused::TooLarge => KeyFileError::TooLarge { file },
                Refused::Utf16 => KeyFileError::Utf16 { file },
            }
        })?;
        read(&text, path)
    }
}

fn write(mut file: File, key: &SecretKey) -> io::Result<()> {
    for part in [HEADER, &key.0.to_text(), "\n"] {
        file.write_all(part.as_bytes())?;
    }
    file.sync_all()
}

fn read(text: &[u8], path: &Path) -> Result<SecretKey, KeyFileError> {
    let file = || shown(path);
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    let mut keys = lines.clone().filter(|line| !line.starts_with(b"#"));
    if lines.next().is_none() {
        return Err(KeyFileError::Empty { file: file() });
    }
    let line = keys.next().ok_or_else(|| KeyFileError::NotAKey { file: file() })?;
    if keys.next().is_some() {
        return Err(KeyFileError::TwoKeys { file: file() });
    }
    let key = match str::from_utf8(line) {
        Ok(line) => StaticKey::from_text(line, &*default_provider()),
        Err(_) if line.starts_with(b"zssp-secret-key-v") => Err(SecretKeyError::Checksum),
        Err(_) => Err(SecretKeyError::Kind),
    };
    key.map(SecretKey).map_err(|reason| match reason {
        SecretKeyError::Kind => KeyFileError::NotAKey { file: file() },
        reason => KeyFileError::Key { file: file(), reason },
    })
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn read(text: impl AsRef<[u8]>) -> Result<SecretKey, KeyFileError> {
        super::read(text.as_ref(), Path::new("my.key"))
    }

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

    fn failure(path: &Path) -> KeyFileError {
        SecretKey::read_file(path).unwrap_err()
    }

    #[test]
    fn a_key_survives_in_a_file_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let key = SecretKey::create_file(&path).unwrap();
        assert_eq!(private::exposed(&fs::metadata(&path).unwrap()), None);
        let again = SecretKey::read_file(&path).unwrap();
        assert!(again.to_bytes().ct_eq(&key.to_bytes()));

        let before = fs::read(&path).unwrap();
        assert!(matches!(SecretKey::create_file(&path), Err(KeyFileError::Exists { .. })));
        assert_eq!(fs::read(&path).unwrap(), before);
        let nowhere = folder.path().join("no/such/folder");
        assert!(matches!(SecretKey::create_file(nowhere), Err(KeyFileError::NoFolder { .. })));
    }

    #[test]
    fn what_is_no_small_file_of_utf_8_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert!(matches!(failure(&path), KeyFileError::Missing { .. }));
        assert!(matches!(failure(folder.path()), KeyFileError::NotAFile { kind: "a folder", .. }));
        write_private(&path, &[b'#'; 5000]);
        assert!(matches!(failure(&path), KeyFileError::TooLarge { .. }));
        let text = SecretKey::generate().unwrap().0.to_text();
        let utf_16: Vec<u8> =
            "\u{feff}".chars().chain(text.chars()).flat_map(|c| (c as u16).to_le_bytes()).collect();
        write_private(&path, &utf_16);
        assert!(failure(&path).to_string().ends_with("save it as UTF-8"), "{}", failure(&path));
    }

    #[test]
    #[cfg(unix)]
    fn what_others_can_read_or_is_no_plain_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        SecretKey::create_file(&path).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(failure(&link), KeyFileError::NotAFile { kind: "a symbolic link", .. }));
        assert!(matches!(failure(Path::new("/dev/null")), KeyFileError::NotAFile { .. }));
        set_mode(&path, 0o640);
        let error = failure(&path);
        assert!(matches!(error, KeyFileError::Exposed { mode: 0o640, .. }));
        assert!(error.to_string().ends_with(&format!("chmod 600 {}", path.display())), "{error}");
    }

    /// As editors on Windows leave it.
    #[test]
    fn a_file_that_was_edited_elsewhere_has_the_same_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let key = SecretKey::create_file(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap().replace('\n', "\r\n");
        for edited in [format!("\u{feff}{text}"), format!("\u{feff}{}\r\n", *key.0.to_text())] {
            write_private(&path, edited.as_bytes());
            assert_eq!(SecretKey::read_file(&path).unwrap().public_key(), key.public_key(), "{edited:?}");
        }
    }

    #[test]
    fn comments_and_line_ends_do_not_matter() {
        let key = SecretKey::generate().unwrap();
        let line = key.0.to_text();
        for text in [
            line.to_string(),
            format!("\r\n# Alice\r\n\r\n  {}\r\n# until June\r\n", *line),
            format!("{HEADER}{}", *line),
        ] {
            assert_eq!(read(&text).unwrap().public_key(), key.public_key(), "{text}");
        }
        let latin = [b"# M\xFCller\n", line.as_bytes()].concat();
        assert_eq!(read(latin).unwrap().public_key(), key.public_key());
    }

    #[test]
    fn each_flaw_is_told_apart() {
        let line = SecretKey::generate().unwrap().0.to_text();
        let failure = |text: &[u8]| read(text).unwrap_err();
        for empty in ["", " \n\n"] {
            assert!(matches!(failure(empty.as_bytes()), KeyFileError::Empty { .. }));
        }
        for other in [&b"# only a comment\n"[..], b"-----BEGIN OPENSSH PRIVATE KEY-----", b"\x30\x82\xFF"] {
            assert!(matches!(failure(other), KeyFileError::NotAKey { .. }));
        }
        assert!(matches!(failure(format!("{}\n{}", *line, *line).as_bytes()), KeyFileError::TwoKeys { .. }));
        let mut flipped = line.as_bytes().to_vec();
        flipped[50] |= 0x80;
        let public_key = SecretKey::generate().unwrap().public_key().to_string();
        for (text, expected) in [
            (&flipped[..], SecretKeyError::Checksum),
            (&line.as_bytes()[..50], SecretKeyError::Length { found: 50, expected: 107 }),
            (public_key.as_bytes(), SecretKeyError::PublicKey),
            (b"zssp-secret-key-v2:aaaa", SecretKeyError::Version(2)),
        ] {
            let error = failure(text);
            assert!(matches!(error, KeyFileError::Key { reason, .. } if reason == expected), "{error}");
            assert_eq!(error.to_string(), format!("`my.key`: {expected}"));
        }
    }

    /// Whoever prints an error and then its sources reads nothing twice.
    #[test]
    #[cfg(unix)]
    fn what_the_system_said_is_said_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = SecretKey::create_file(file.join("key")).unwrap_err();
        let KeyFileError::Io { reason, .. } = &error else { panic!("{error}") };
        assert!(error.to_string().contains(&reason.to_string()));
        assert!(std::error::Error::source(&error).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), prefix: bool) {
            let start = if prefix { &b"zssp-secret-key-v1:"[..] } else { b"" };
            let _ = read([start, &bytes].concat());
        }
    }
}
