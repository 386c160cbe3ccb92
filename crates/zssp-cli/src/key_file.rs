//! The file a secret key lives in.
//!
//! Text, one line that counts: `zssp-secret-key-v1:`, then the 48 bytes of the P-384 scalar and 7 bytes of
//! checksum in base32 (RFC 4648, lower case, no padding), 107 characters in all. Empty lines and lines that start with
//! `#` are comments. The checksum is the beginning of the BLAKE3 key derivation of the scalar under a context of its
//! own; it tells a damaged file from another format.
//!
//! A key file is written once and never overwritten, and is read only if nobody but its owner can read it.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use data_encoding::BASE32_NOPAD;
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};
use zssp::{Secret, SecretKey};

use crate::{
    exit::{Exit, Failure},
    private_file::{self, PrivateFileError},
};

/// Bytes of a P-384 scalar.
const SCALAR: usize = 48;
const CHECKSUM: usize = 7;
/// What starts the line, whatever its version.
const KIND: &str = "zssp-secret-key-v";
const VERSION: &str = "1";
const CONTEXT: &str = "zssp-cli 2026 secret key file v1 checksum";

const HEADER: &str = "\
# Secret key for ZSSP. Whoever can read this file can act in its owner's name:
# keep it private (mode 0600) and never send it. `zssp pubkey` prints the public key.
";

/// Why there is no key. Shown after the file's name; says what to do.
#[derive(Debug, Error)]
enum KeyFileError {
    #[error(
        "the key is damaged: its checksum does not match. Restore the file from a copy, or make a new key with `zssp keygen`"
    )]
    Damaged,
    #[error("the file is empty. Make a key with `zssp keygen`, in a file that does not exist yet")]
    Empty,
    #[error(
        "there is a file already, and a key is never overwritten. Choose another name, or move that file away"
    )]
    Exists,
    #[error(transparent)]
    File(#[from] PrivateFileError),
    #[error("this is a public key; the secret one is needed, in the file that `zssp keygen` wrote")]
    Public,
    #[error("there is no such file. Make a key with: zssp keygen {file}")]
    Missing { file: String },
    #[error("its folder does not exist. Make that first, with mkdir")]
    NoFolder,
    #[error("this is not a key file: no line starts with `zssp-secret-key-v1:`")]
    NotAKey,
    #[error("the operating system's random generator failed")]
    Random,
    #[error("the key is cut off: it has {found} characters of {expected}. Restore the file from a copy")]
    Truncated { found: usize, expected: usize },
    #[error("the file has more than one key")]
    TwoKeys,
    #[error("the key has format version {0}, which this zssp does not know. Use a newer zssp")]
    Version(String),
}

impl From<io::Error> for KeyFileError {
    fn from(error: io::Error) -> Self {
        Self::File(error.into())
    }
}

/// [`generate`] with the file's name in the error.
pub(crate) fn create(path: &Path) -> Result<SecretKey, Failure> {
    generate(path).map_err(|error| failure(path, &error))
}

/// [`read`] with the file's name in the error.
pub(crate) fn load(path: &Path) -> Result<SecretKey, Failure> {
    read(path).map_err(|error| failure(path, &error))
}

fn failure(path: &Path, error: &KeyFileError) -> Failure {
    Failure::new(Exit::Local, format!("key file `{}`: {error}", path.display()))
}

/// Makes a key and writes it to a new file that only its owner can read.
fn generate(path: &Path) -> Result<SecretKey, KeyFileError> {
    let key = SecretKey::generate().map_err(|_| KeyFileError::Random)?;
    let text = encode(&key.to_bytes());
    let mut file = match new_private_file(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(KeyFileError::Exists),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(KeyFileError::NoFolder),
        result => result?,
    };
    if let Err(error) = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()) {
        // Half a key helps nobody; the error that counts is the first.
        let _ = fs::remove_file(path);
        return Err(error.into());
    }
    Ok(key)
}

/// Reads a key that nobody else can read.
fn read(path: &Path) -> Result<SecretKey, KeyFileError> {
    match private_file::read(path) {
        Err(PrivateFileError::Missing) => Err(KeyFileError::Missing { file: path.display().to_string() }),
        text => decode(&text?),
    }
}

fn encode(secret: &Secret<SCALAR>) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; SCALAR + CHECKSUM]);
    bytes[..SCALAR].copy_from_slice(secret.expose());
    bytes[SCALAR..].copy_from_slice(&checksum(secret.expose()));
    let mut encoded = Zeroizing::new(BASE32_NOPAD.encode(&*bytes));
    encoded.make_ascii_lowercase();
    // Large enough at once: growing would leave a copy behind.
    let mut text = Zeroizing::new(String::with_capacity(512));
    for part in [HEADER, KIND, VERSION, ":", &encoded, "\n"] {
        text.push_str(part);
    }
    text
}

fn decode(text: &[u8]) -> Result<SecretKey, KeyFileError> {
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    let mut keys = lines.clone().filter(|line| !line.starts_with(b"#"));
    if lines.next().is_none() {
        return Err(KeyFileError::Empty);
    }
    let line = keys.next().ok_or(KeyFileError::NotAKey)?;
    if keys.next().is_some() {
        return Err(KeyFileError::TwoKeys);
    }
    let Some(rest) = line.strip_prefix(KIND.as_bytes()) else {
        // What is cut off within its first word was a key once.
        let stump = KIND.as_bytes().starts_with(line);
        return Err(match line {
            _ if line.starts_with(b"zssp1") => KeyFileError::Public,
            _ if stump => KeyFileError::Truncated { found: line.len(), expected: line_length() },
            _ => KeyFileError::NotAKey,
        });
    };
    let mut parts = rest.splitn(2, |byte| *byte == b':');
    let version = parts.next().unwrap_or_default();
    let encoded = parts.next().unwrap_or_default();
    if version != VERSION.as_bytes() && !version.is_empty() {
        return Err(KeyFileError::Version(version.escape_ascii().take(16).map(char::from).collect()));
    }
    let expected = BASE32_NOPAD.encode_len(SCALAR + CHECKSUM);
    if encoded.len() < expected {
        return Err(KeyFileError::Truncated { found: line.len(), expected: line_length() });
    }
    let mut upper = Zeroizing::new([0; (SCALAR + CHECKSUM) * 8 / 5]);
    if encoded.len() != upper.len() {
        return Err(KeyFileError::Damaged);
    }
    upper.copy_from_slice(encoded);
    upper.make_ascii_uppercase();
    let mut bytes = Zeroizing::new([0; SCALAR + CHECKSUM]);
    BASE32_NOPAD.decode_mut(&*upper, &mut *bytes).map_err(|_| KeyFileError::Damaged)?;
    let mut secret = Secret::zero();
    secret.expose_mut().copy_from_slice(&bytes[..SCALAR]);
    if bytes[SCALAR..] != checksum(secret.expose()) {
        return Err(KeyFileError::Damaged);
    }
    SecretKey::from_bytes(&secret).map_err(|_| KeyFileError::Damaged)
}

fn line_length() -> usize {
    KIND.len() + VERSION.len() + 1 + BASE32_NOPAD.encode_len(SCALAR + CHECKSUM)
}

fn checksum(secret: &[u8; SCALAR]) -> [u8; CHECKSUM] {
    let mut sum = [0; CHECKSUM];
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    let mut output = hasher.update(secret).finalize_xof();
    output.fill(&mut sum);
    output.zeroize();
    hasher.zeroize();
    sum
}

#[cfg(unix)]
fn new_private_file(path: &Path) -> io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(not(unix))]
fn new_private_file(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().write(true).create_new(true).open(path)
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use proptest::prelude::*;

    fn text() -> String {
        encode(&SecretKey::generate().unwrap().to_bytes()).to_string()
    }

    fn reason(text: &str) -> String {
        decode(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_key_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let key = generate(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read(&path).unwrap().public_key(), key.public_key());
        assert!(matches!(generate(&path), Err(KeyFileError::Exists)));
        assert_eq!(read(&path).unwrap().public_key(), key.public_key());
    }

    #[test]
    fn the_format_does_not_change() {
        let mut scalar = [0; SCALAR];
        scalar[SCALAR - 1] = 1;
        let text = encode(&Secret::new(scalar));
        let line = text.lines().find(|line| !line.starts_with('#')).unwrap();
        assert_eq!(
            line,
            "zssp-secret-key-v1:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaacj7x2ozd6whc"
        );
        assert_eq!(line.len(), line_length());
    }

    #[test]
    fn each_kind_of_damage_is_told_apart() {
        let text = text();
        let line = text.lines().last().unwrap();
        assert!(decode(line.as_bytes()).is_ok(), "comments are not needed");
        assert!(decode(format!("\r\n  {}\r\n", line.to_ascii_lowercase()).as_bytes()).is_ok());
        assert!(reason("").contains("empty"));
        assert!(reason(" \n\n").contains("empty"));
        assert!(reason("# only a comment\n").contains("not a key file"));
        assert!(reason("-----BEGIN OPENSSH PRIVATE KEY-----").contains("not a key file"));
        assert!(reason("zssp1abcdef").contains("public key"));
        assert!(reason(&line.replace("-v1:", "-v2:")).contains("version 2"));
        assert!(reason(&line[..line.len() - 1]).contains("cut off"));
        assert!(reason(&line[..9]).contains("cut off"));
        assert!(reason(&line[..KIND.len()]).contains("cut off"));
        assert!(reason(&format!("{line}a")).contains("damaged"));
        assert!(reason(&format!("{line}\n{line}")).contains("more than one"));
    }

    #[test]
    fn how_to_make_a_key_that_is_missing_is_said() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(&folder.path().join("key")).unwrap_err().to_string().contains("zssp keygen"));
        assert!(read(folder.path()).unwrap_err().to_string().contains("folder"));
    }

    proptest! {
        #[test]
        fn one_wrong_character_is_noticed(position in 19usize..107, other in "[a-z2-7]") {
            let text = text();
            let line = text.lines().last().unwrap();
            let mut changed = line.to_owned();
            changed.replace_range(position..=position, &other);
            prop_assume!(changed != line);
            prop_assert!(matches!(decode(changed.as_bytes()), Err(KeyFileError::Damaged)));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), prefix: bool) {
            let start = if prefix { &b"zssp-secret-key-v1:"[..] } else { b"" };
            let _ = decode(&[start, &bytes].concat());
        }
    }
}
