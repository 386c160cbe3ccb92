//! Key files: what the library says of them, and which command helps.

use std::path::Path;

use zssp::{KeyFileError, SecretKey, SecretKeyError};

use crate::exit::{Exit, Failure};

/// Makes a key in a new file.
pub(crate) fn create(path: &Path) -> Result<SecretKey, Failure> {
    SecretKey::create_file(path).map_err(Failure::from)
}

/// Reads the key in a file.
pub(crate) fn load(path: &Path) -> Result<SecretKey, Failure> {
    SecretKey::read_file(path).map_err(Failure::from)
}

impl From<KeyFileError> for Failure {
    fn from(error: KeyFileError) -> Self {
        // What the library says of these ends in "make a key".
        let advice = match &error {
            KeyFileError::Missing { file } => &*format!(" with: zssp keygen {file}"),
            KeyFileError::Key { reason: SecretKeyError::PublicKey, .. } => {
                ", in the file that `zssp keygen` wrote"
            }
            KeyFileError::Key { reason: SecretKeyError::Version(_), .. } => "",
            KeyFileError::Empty { .. } | KeyFileError::Key { .. } | KeyFileError::NotAKey { .. } => {
                " with `zssp keygen`"
            }
            _ => "",
        };
        Self::new(Exit::Local, format!("key file {error}{advice}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_helps_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my.key");
        let file = path.display();
        assert_eq!(
            load(&path).unwrap_err().to_string(),
            format!(
                "key file `{file}`: there is no such file; name the one that has the key, or make a key with: zssp keygen {file}"
            )
        );
        let said = |error| Failure::from(error).to_string();
        let file = || "my.key".to_owned();
        let flawed = |reason| said(KeyFileError::Key { file: file(), reason });
        assert!(said(KeyFileError::Empty { file: file() }).ends_with("make a new key with `zssp keygen`"));
        assert!(said(KeyFileError::NotAKey { file: file() }).ends_with("make a key with `zssp keygen`"));
        assert!(flawed(SecretKeyError::PublicKey).ends_with("needed, in the file that `zssp keygen` wrote"));
        assert!(flawed(SecretKeyError::Version(3)).ends_with("use a newer zssp"));
        for damage in [
            SecretKeyError::Character('!'),
            SecretKeyError::Checksum,
            SecretKeyError::Length { found: 1, expected: 107 },
            SecretKeyError::Scalar,
        ] {
            assert!(flawed(damage).ends_with("make a new key with `zssp keygen`"), "{damage}");
        }
    }
}
