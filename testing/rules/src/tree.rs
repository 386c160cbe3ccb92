use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

/// One text file: its path from the repository's root, with `/` between the parts, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// The path from the root, such as `crates/seqex/src/lib.rs`.
    pub path: String,
    /// The whole text.
    pub text: String,
}

/// A line of a file, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file's path from the root.
    pub path: String,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path, self.line)
    }
}

/// The files the rules are about: every Rust source and every Markdown document, ordered by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    files: Vec<SourceFile>,
}

impl Tree {
    /// A tree written down in a test: pairs of path and text.
    pub fn of<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut files: Vec<_> = files
            .into_iter()
            .map(|(path, text)| SourceFile { path: path.to_owned(), text: text.to_owned() })
            .collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Self { files }
    }

    /// Reads the repository below `root`, leaving out build output and hidden directories.
    ///
    /// # Errors
    ///
    /// When a directory or a file cannot be read, or a file is not UTF-8.
    pub fn read(root: &Path) -> io::Result<Self> {
        let mut files = Vec::new();
        let mut directories = vec![PathBuf::new()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(root.join(&directory))? {
                let entry = entry?;
                let name = entry.file_name();
                let Some(name) = name.to_str() else { continue };
                if name.starts_with('.') || name == "target" {
                    continue;
                }
                let path = directory.join(name);
                if entry.file_type()?.is_dir() {
                    directories.push(path);
                } else if has_extension(name, "rs") || has_extension(name, "md") {
                    let text = fs::read_to_string(root.join(&path)).map_err(|error| {
                        io::Error::new(error.kind(), format!("{}: {error}", path.display()))
                    })?;
                    files.push(SourceFile { path: slashed(&path), text });
                }
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { files })
    }

    /// The text of one file.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|file| file.path == path).map(|file| file.text.as_str())
    }

    /// The Rust sources, in the order of their paths.
    pub fn rust(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.iter().filter(|file| has_extension(&file.path, "rs"))
    }

    /// Every file, in the order of their paths.
    pub fn files(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.iter()
    }
}

fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == extension)
}

/// The path with `/` on every system, so that rules can be written once.
fn slashed(path: &Path) -> String {
    path.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
}
