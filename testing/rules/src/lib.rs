//! Holds the repository to its own rules.
//!
//! `docs/protocol.md` gives every requirement of the protocol an id. This crate reads the ids, collects the lines of
//! code and of tests that cite them, and reports what is claimed but not shown. It also looks at the sources for a
//! few rules that no compiler lint covers. `cargo test -p zssp-rules` runs it all over the repository.
//!
//! # How to cite a requirement
//!
//! A line comment right above the code or the test, one id per line, with a few words of what it means there:
//!
//! ```text
//! //= ZSSP-RPL-02  recorded only after the packet proved authentic
//! ```
//!
//! It counts as *code* in a file under `crates/*/src`, up to the first line there that begins with a `#[cfg(..)]` on
//! `test`. From that line on it counts as *test*, as it does in a `tests` directory, in a file `tests.rs`, and under
//! `testing`. In examples, benchmarks and fuzz targets a citation counts as neither, but its id must exist.
#![forbid(unsafe_code)]

mod citations;
mod document;
mod hygiene;
mod report;
mod tree;

pub use citations::{Citation, Citations, Role};
pub use document::{Document, Id, Proof, Requirement};
pub use hygiene::{long_files, unfinished_code, unwanted_wording};
pub use report::{Fault, Missing, Report};
pub use tree::{Place, SourceFile, Tree};
