//! Prints the table in `docs/seqex-performance.md`: `cargo bench -p seqex --bench goodput`.

#[path = "../tests/it/support/goodput.rs"]
mod goodput;

fn main() {
    print!("{}", goodput::table());
}
