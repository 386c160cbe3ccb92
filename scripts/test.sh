#!/bin/sh
# Runs every test of the repository. Needs Rust and a C compiler; installs nothing. Tests of raw Ethernet and of the kernel's
# own roads need root, and `ip` and `tc` (iproute2) besides, and say so and pass where these are missing, unless CI is set.
set -eu
cd "$(dirname "$0")/.."

require() {
    command -v "$1" >/dev/null 2>&1 && return
    echo "scripts/test.sh: $1 not found; $2" >&2
    exit 1
}

run() {
    echo
    echo "== $*"
    "$@"
}

require cargo "install Rust from https://rustup.rs"
require cc "install a C compiler: apt-get install gcc libc6-dev"

# Every crate, with both cryptographic providers compiled in.
run cargo test --all-features

# The pure Rust provider alone, as a machine without a C compiler builds it.
run cargo test -p zssp-proto --no-default-features --features rust-crypto

# SEQEX with each of its features alone, and with none; the random scripts ran above, so here are few of them.
for features in "" std serde tokio; do
    run env PROPTEST_CASES=10 cargo test -p seqex --no-default-features --features "$features"
done
run sh scripts/no-std.sh

# The lock-free parts and what waits, in every order that the memory model allows, or with three threads in those of few
# preemptions. The flag changes every crate of the build, so it has a target directory of its own, and takes the provider that
# compiles faster.
run env RUSTFLAGS="--cfg loom" cargo test -p zssp-proto --no-default-features --features rust-crypto \
    --lib --profile loom --target-dir target/loom loom
run env RUSTFLAGS="--cfg loom" cargo test -p seqex --lib --profile loom --target-dir target/loom loom
run env RUSTFLAGS="--cfg loom" cargo test -p zssp-races --lib --profile loom --target-dir target/loom loom
