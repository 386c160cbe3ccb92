//! The repository keeps its own rules.

use std::path::Path;

use zssp_rules::{Citations, Document, Place, Report, Tree, long_files, unfinished_code, unwanted_wording};

fn repository() -> Tree {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    Tree::read(&root).expect("the repository can be read")
}

fn listed(places: &[Place]) -> String {
    places.iter().map(|place| format!("{place}\n")).collect()
}

#[test]
fn every_requirement_has_code_and_a_test() {
    let tree = repository();
    let text = tree.text("docs/protocol.md").expect("docs/protocol.md is there");
    let report = Report::new(&Document::parse(text), &Citations::scan(&tree));
    assert!(report.stated > 100, "the document must be understood, not skipped:\n{report}");
    assert!(report.faults.is_empty(), "docs/protocol.md against the sources:\n\n{report}");
}

#[test]
fn source_files_are_one_idea_long() {
    let long = long_files(&repository());
    assert!(long.is_empty(), "files of more than 600 lines, to be split:\n{}", listed(&long));
}

#[test]
fn no_code_is_left_unfinished() {
    let unfinished = unfinished_code(&repository());
    assert!(unfinished.is_empty(), "todo!, unimplemented! or dbg! in:\n{}", listed(&unfinished));
}

//= ZSSP-SUI-19  no document and no doc comment claims more than can be checked
#[test]
fn nobody_claims_compliance() {
    let claims = unwanted_wording(&repository());
    assert!(claims.is_empty(), "claims that this project does not make:\n{}", listed(&claims));
}
