//! How much of a bad link is used, as it is written in the documentation.

use crate::support::goodput;

#[test]
fn the_table_in_the_documentation_is_what_a_run_gives() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/seqex-performance.md");
    let text = std::fs::read_to_string(file).expect("the file in the repository");
    let table = goodput::table();
    assert!(text.contains(&table), "put this into docs/seqex-performance.md, or undo the change:\n{table}");
}
