#!/bin/sh
# Proves that the crate seqex without its feature `std` uses no `std`, on a machine that has no target without one: a
# crate with a panic handler of its own compiles against it, which is an error as soon as `std` is anywhere below.
set -eu
cd "$(dirname "$0")/.."

for features in "" serde; do
    target="target/no-std/${features:-none}"
    cargo build -p seqex --no-default-features --features "$features" --target-dir "$target"
    rustc --edition 2024 --crate-type lib --emit metadata -o "$target/proof.rmeta" \
        --extern seqex="$target/debug/libseqex.rlib" -L dependency="$target/debug/deps" - <<'RUST'
#![no_std]
extern crate seqex;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
RUST
done
