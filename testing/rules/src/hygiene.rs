use crate::tree::{Place, SourceFile, Tree};

/// The longest a source file may be; a file is one idea.
const MAX_LINES: usize = 600;
/// Macros that mark code as unfinished or under investigation.
const UNFINISHED: [&str; 3] = ["dbg!", "todo!", "unimplemented!"];
/// Claims that nobody could check, in lower case.
const UNWANTED: [&str; 4] = ["fips compliant", "fips-compliant", "cnsa 2.0 compliant", "cnsa 2.0-compliant"];
/// The documents that say which claims are unwanted.
const MAY_QUOTE: [&str; 1] = ["docs/protocol.md"];

/// The Rust sources of more than 600 lines, each with its length as the line. Generated files, which say `@generated`
/// in one of their first five lines, may be longer.
#[must_use]
pub fn long_files(tree: &Tree) -> Vec<Place> {
    let too_long = |file: &SourceFile| {
        let lines = file.text.lines().count();
        let generated = file.text.lines().take(5).any(|line| line.contains("@generated"));
        (lines > MAX_LINES && !generated).then(|| Place { path: file.path.clone(), line: lines })
    };
    tree.rust().filter_map(too_long).collect()
}

/// The lines of the crates that call `todo!`, `unimplemented!` or `dbg!`.
#[must_use]
pub fn unfinished_code(tree: &Tree) -> Vec<Place> {
    let crates = tree.rust().filter(|file| file.path.starts_with("crates/"));
    crates.flat_map(|file| places(file, |line| UNFINISHED.iter().any(|call| calls(line, call)))).collect()
}

/// The lines of sources and documents that claim a compliance this project does not claim.
#[must_use]
pub fn unwanted_wording(tree: &Tree) -> Vec<Place> {
    let speaking = tree
        .files()
        .filter(|file| !file.path.starts_with("testing/rules/") && !MAY_QUOTE.contains(&file.path.as_str()));
    speaking.flat_map(claims).collect()
}

fn places(file: &SourceFile, wrong: impl Fn(&str) -> bool) -> Vec<Place> {
    let lines = (1..).zip(file.text.lines()).filter(|(_, line)| wrong(line));
    lines.map(|(line, _)| Place { path: file.path.clone(), line }).collect()
}

/// Whether the code on this line, comments left out, calls the macro.
fn calls(line: &str, call: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    code.match_indices(call)
        .any(|(start, _)| !code[..start].ends_with(|before: char| before.is_alphanumeric() || before == '_'))
}

/// Unwanted claims, also where a line break falls into them; the line is where the claim begins.
fn claims(file: &SourceFile) -> Vec<Place> {
    let mut flat = String::new();
    let mut starts = Vec::new();
    for line in file.text.lines() {
        starts.push(flat.len());
        let words = line.trim_start_matches(['/', '!', ' ', '>']).split_whitespace();
        words.for_each(|word| {
            flat.push_str(&word.to_ascii_lowercase());
            flat.push(' ');
        });
    }
    let line_of = |offset: usize| starts.partition_point(|start| *start <= offset);
    let found = UNWANTED.iter().flat_map(|claim| flat.match_indices(claim));
    found.map(|(offset, _)| Place { path: file.path.clone(), line: line_of(offset) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(places: &[Place]) -> Vec<String> {
        places.iter().map(Place::to_string).collect()
    }

    #[test]
    fn a_file_may_have_600_lines() {
        let (fits, long) = ("\n".repeat(600), "\n".repeat(601));
        let generated = format!("// @generated\n{long}");
        let tree =
            Tree::of([("a.rs", fits.as_str()), ("b.rs", &long), ("c.rs", &generated), ("d.md", &long)]);
        assert_eq!(shown(&long_files(&tree)), ["b.rs:601"]);
    }

    #[test]
    fn unfinished_code_is_found_in_code_only() {
        let text =
            "// todo!()\nmy_todo!();\nlet x = todo!();\n/// dbg!(x)\ndbg!(x); // why\nunimplemented![]\n";
        let tree = Tree::of([("crates/a/src/lib.rs", text), ("testing/a/src/lib.rs", text)]);
        let expected = ["crates/a/src/lib.rs:3", "crates/a/src/lib.rs:5", "crates/a/src/lib.rs:6"];
        assert_eq!(shown(&unfinished_code(&tree)), expected);
    }

    #[test]
    fn claims_are_found_across_line_breaks_and_in_doc_comments() {
        let tree = Tree::of([
            ("README.md", "It is\nFIPS\ncompliant, and uses FIPS 203.\n"),
            ("crates/a/src/lib.rs", "//! Now CNSA 2.0\n//! compliant.\n"),
            ("docs/protocol.md", "never \"FIPS compliant\"\n"),
            ("docs/guide.md", "can run on a validated module\n"),
        ]);
        assert_eq!(shown(&unwanted_wording(&tree)), ["README.md:2", "crates/a/src/lib.rs:1"]);
    }
}
