//! Names of files and folders as they travel: bytes, checked once, never able to leave a folder.
//!
//! A [`NamePath`] is a list of [`Name`]s. There is no way to make one that is absolute, climbs with
//! `..`, hides a separator in a component or is too long for the message that carries it; so whatever
//! a peer sends, what reaches the disk names something *below* the folder it is joined to. Symbolic
//! links that lie in wait on the disk are the sink's business, not this module's.

use std::{
    ffi::{OsStr, OsString},
    fmt::{self, Write as _},
};

use thiserror::Error;

/// How the names of unfinished files start; no transferred file may use it.
pub(crate) const PARTIAL_PREFIX: &str = ".zssp-partial-";

/// Bytes of one name at most; what nearly every file system allows.
const MAX_NAME: usize = 255;
/// Names in one path at most.
const MAX_DEPTH: usize = 2048;
/// Bytes of all names of a path together at most, so that a path always fits into one message.
const MAX_TOTAL: usize = 16 * 1024;

/// Why bytes are not a usable name.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum BadName {
    #[error("the name cannot be used on this system")]
    Alien,
    #[error("the name contains a control character")]
    Control,
    #[error("the name is `.` or `..`")]
    Dots,
    #[error("the name is empty")]
    Empty,
    #[error("the name contains a zero byte")]
    Nul,
    #[error("the name is reserved for unfinished files")]
    Reserved,
    #[error("the name contains a path separator")]
    Separator,
    #[error("the folders are nested too deeply")]
    TooDeep,
    #[error("the name is longer than {MAX_NAME} bytes")]
    TooLong,
}

/// One component of a path: not empty, not `.` or `..`, without separator, zero byte or control character.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name(Box<[u8]>);

impl Name {
    /// Checks bytes that came from a peer or from the local disk.
    pub(crate) fn new(bytes: &[u8]) -> Result<Self, BadName> {
        match bytes {
            [] => return Err(BadName::Empty),
            b"." | b".." => return Err(BadName::Dots),
            _ if bytes.len() > MAX_NAME => return Err(BadName::TooLong),
            _ if bytes.contains(&0) => return Err(BadName::Nul),
            _ if bytes.utf8_chunks().any(|chunk| chunk.valid().contains(char::is_control)) => {
                return Err(BadName::Control);
            }
            _ if bytes.contains(&b'/') => return Err(BadName::Separator),
            _ if bytes.starts_with(PARTIAL_PREFIX.as_bytes()) => return Err(BadName::Reserved),
            _ => {}
        }
        if usable_here(bytes) { Ok(Self(bytes.into())) } else { Err(BadName::Alien) }
    }

    /// Takes a name as this system writes it.
    pub(crate) fn from_os(name: &OsStr) -> Result<Self, BadName> {
        #[cfg(unix)]
        let bytes = std::os::unix::ffi::OsStrExt::as_bytes(name);
        #[cfg(not(unix))]
        let bytes = name.to_str().ok_or(BadName::Alien)?.as_bytes();
        Self::new(bytes)
    }

    /// The name as this system writes it.
    pub(crate) fn to_os(&self) -> OsString {
        #[cfg(unix)]
        return <OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&self.0).to_owned();
        #[cfg(not(unix))]
        return String::from_utf8_lossy(&self.0).into_owned().into();
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Systems with other rules than Unix refuse what they would read as something else than a plain name.
#[cfg(not(unix))]
fn usable_here(bytes: &[u8]) -> bool {
    usable_on_windows(bytes)
}

#[cfg(any(test, not(unix)))]
fn usable_on_windows(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    !text.contains(|c: char| c < ' ' || r#"\:*?"<>|"#.contains(c))
        && !text.ends_with(['.', ' '])
        && !is_a_device_of_windows(text)
}

/// Such a name is a device in every folder, whatever follows its first dot.
#[cfg(any(test, not(unix)))]
fn is_a_device_of_windows(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end().to_ascii_uppercase();
    let numbered = |port: &str| {
        let number = stem.strip_prefix(port);
        number.is_some_and(|number| {
            matches!(number, "¹" | "²" | "³") || matches!(number.as_bytes(), [b'0'..=b'9'])
        })
    };
    matches!(&*stem, "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$")
        || numbered("COM")
        || numbered("LPT")
}

#[cfg(unix)]
fn usable_here(_bytes: &[u8]) -> bool {
    true
}

/// Where a file or folder belongs below the receiver's folder; never empty.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NamePath(Vec<Name>);

impl NamePath {
    /// A path of one name.
    pub(crate) fn root(name: Name) -> Self {
        Self(vec![name])
    }

    /// Joins checked names; an empty list or one that is too long for a message is refused.
    pub(crate) fn new(names: Vec<Name>) -> Result<Self, BadName> {
        if names.is_empty() {
            return Err(BadName::Empty);
        }
        let total: usize = names.iter().map(|name| name.as_bytes().len()).sum();
        if names.len() > MAX_DEPTH || total > MAX_TOTAL { Err(BadName::TooDeep) } else { Ok(Self(names)) }
    }

    /// The path of something inside this folder.
    pub(crate) fn join(&self, name: Name) -> Result<Self, BadName> {
        let mut names = Vec::with_capacity(self.0.len() + 1);
        names.extend_from_slice(&self.0);
        names.push(name);
        Self::new(names)
    }

    /// All names, outermost first.
    pub(crate) fn names(&self) -> &[Name] {
        &self.0
    }

    /// How many names there are.
    pub(crate) fn depth(&self) -> usize {
        self.0.len()
    }

    /// The folders on the way, and the last name.
    pub(crate) fn split(&self) -> (&[Name], &Name) {
        // A path is never empty: every constructor refuses an empty list.
        let (last, parents) = self.0.split_last().expect("a path has at least one name");
        (parents, last)
    }
}

impl fmt::Display for NamePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_char('/')?;
            }
            Printable(name.as_bytes()).fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Debug for NamePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Printable(&self.0), f)
    }
}

/// Bytes somebody else chose, shown on a terminal without giving them power over it.
///
/// Control characters (and the marks that turn the writing direction) and bytes that are not UTF-8
/// appear as escapes; everything else as it is.
pub(crate) struct Printable<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_control()
                    || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
                {
                    write!(f, "{}", c.escape_default())?;
                } else {
                    f.write_char(c)?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_could_leave_the_folder_are_refused() {
        for (bytes, why) in [
            (&b""[..], BadName::Empty),
            (b".", BadName::Dots),
            (b"..", BadName::Dots),
            (b"/", BadName::Separator),
            (b"/etc", BadName::Separator),
            (b"a/../b", BadName::Separator),
            (b"a\0b", BadName::Nul),
            (b"new\nline", BadName::Control),
            (b"\x1b[2J", BadName::Control),
            ("\u{9b}2J".as_bytes(), BadName::Control),
            (b".zssp-partial-0", BadName::Reserved),
            (&[b'x'; 256], BadName::TooLong),
        ] {
            assert_eq!(Name::new(bytes).unwrap_err(), why, "{:?}", Printable(bytes).to_string());
        }
        assert_eq!(NamePath::new(vec![]).unwrap_err(), BadName::Empty);
    }

    #[test]
    #[cfg(unix)]
    fn odd_names_are_kept_byte_for_byte() {
        for bytes in [&b"-rf"[..], b" ", b"...", b"C:", b"\xff\xfe", "\u{1f980}".as_bytes(), &[b'x'; 255]] {
            let name = Name::new(bytes).unwrap();
            assert_eq!(Name::from_os(&name.to_os()).unwrap().as_bytes(), bytes);
        }
    }

    #[test]
    fn on_windows_devices_are_no_names() {
        for name in [
            "con",
            "NUL",
            "nul.txt",
            "Aux .tar.gz",
            "com1",
            "LPT9.log",
            "COM\u{b9}",
            "a:b",
            r"a\b",
            "dot.",
            "x ",
        ] {
            assert!(!usable_on_windows(name.as_bytes()), "{name}");
        }
        for name in ["console", "nulls", "com", "com10", "lpt", ".con", "a con", "Gr\u{fc}\u{df}e.txt"] {
            assert!(usable_on_windows(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_path_has_a_limit() {
        let name = Name::new(b"d").unwrap();
        assert!(NamePath::new(vec![name.clone(); MAX_DEPTH]).is_ok());
        assert_eq!(NamePath::new(vec![name; MAX_DEPTH + 1]).unwrap_err(), BadName::TooDeep);
        let long = Name::new(&[b'x'; 255]).unwrap();
        assert_eq!(NamePath::new(vec![long; MAX_TOTAL / 255 + 1]).unwrap_err(), BadName::TooDeep);
    }

    #[test]
    fn a_terminal_is_not_at_the_mercy_of_names() {
        assert_eq!(Printable(b"a\x1b[2Jb\n").to_string(), "a\\u{1b}[2Jb\\n");
        assert_eq!(Printable(b"\xffz").to_string(), "\\xffz");
        assert_eq!(Printable("photo\u{202e}gpj.exe".as_bytes()).to_string(), "photo\\u{202e}gpj.exe");
        assert_eq!(Printable("Grüße 🦀".as_bytes()).to_string(), "Grüße 🦀");
    }

    proptest! {
        #[test]
        fn a_joined_path_stays_below_its_folder(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..6), 1..6)) {
            let names: Result<Vec<_>, _> = parts.iter().map(|part| Name::new(part)).collect();
            let Ok(names) = names else { return Ok(()) };
            let mut joined = std::path::PathBuf::from("/base");
            joined.extend(names.iter().map(Name::to_os));
            prop_assert!(joined.starts_with("/base"));
            prop_assert_eq!(joined.components().count(), 2 + names.len());
            prop_assert!(joined.components().skip(1).all(|c| matches!(c, std::path::Component::Normal(_))));
        }

        #[test]
        fn nothing_printed_controls_a_terminal(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(!Printable(&bytes).to_string().contains(char::is_control));
        }
    }
}
